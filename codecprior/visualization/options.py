"""What a rendering shows and how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from codecprior.errors import ConfigError
from codecprior.visualization.tiles import KINDS, LEAST_WIDTH

__all__ = ["RenderOptions"]

_PLANES: Final = ("y", "u", "v")
_REF_LISTS: Final = (0, 1, "mean")


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """How to show priors.

    Parameters
    ----------
    kind : str
        A key of :data:`~codecprior.visualization.tiles.KINDS`: ``"overview"``, ``"all"``, or one picture.
    scale : float, optional
        Pixels per luma sample. By default small pictures grow and large ones shrink until they suit a screen.
    ref_list : {0, 1, "mean"}
        Vectors to show, as for :meth:`~codecprior.core.priors.FramePriors.flow`.
    plane : {"y", "u", "v"}
        Residual plane to show.

    Raises
    ------
    ConfigError
        If a value is not one of these.
    """

    kind: str = "overview"
    scale: float | None = None
    ref_list: int | str = 0
    plane: str = "y"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind of picture {self.kind!r}: use one of {', '.join(KINDS)}")
        if self.scale is not None and not self.scale > 0:
            raise ConfigError(f"scale {self.scale}: give pixels per luma sample, above 0")
        if self.ref_list not in _REF_LISTS:
            raise ConfigError(f"reference list {self.ref_list!r}: use 0, 1 or 'mean'")
        if self.plane not in _PLANES:
            raise ConfigError(f"residual plane {self.plane!r}: use one of {', '.join(_PLANES)}")

    def picture_size(self, size: tuple[int, int], longest: int) -> tuple[int, int]:
        """Size of each picture of a panel.

        Parameters
        ----------
        size : tuple of int
            Width and height in luma samples.
        longest : int
            Longest side in pixels, where no scale was asked for.

        Returns
        -------
        tuple of int
            Width and height in pixels.
        """
        width, height = size
        scale = self.scale
        if scale is None:
            room = longest / max(size)
            # Whole factors keep every block as sharp as it is.
            scale = room if room < 1 else max(1, min(-(-LEAST_WIDTH // width), int(room)))
        return max(1, round(width * scale)), max(1, round(height * scale))
