"""Each kind of picture with its title and legend, and the kinds of panels that are made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from codecprior.core.arrays import GRID_ARRAYS
from codecprior.core.priors import FramePriors
from codecprior.visualization.colormap import RGB
from codecprior.visualization.frames import BasePicture, Origin
from codecprior.visualization.legends import (
    arrow_legend,
    mode_legend,
    motion_legend,
    qp_legend,
    residual_legend,
    text_legend,
)
from codecprior.visualization.maps import (
    arrow_overlay,
    mode_overlay,
    motion_map,
    partition_overlay,
    qp_map,
    residual_map,
    resize,
)
from codecprior.visualization.panel import Tile
from codecprior.visualization.ranges import Ranges
from codecprior.visualization.theme import Theme

__all__ = ["KINDS", "LEAST_WIDTH", "Scene", "arrays_for", "make_tile", "needs_frame"]

KINDS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "overview": (("frame", "motion"), ("residual", "modes")),
    "all": (("frame", "motion", "arrows"), ("residual", "modes", "qp")),
    "frame": (("frame",),),
    "motion": (("motion",),),
    "arrows": (("arrows",),),
    "residual": (("residual",),),
    "partition": (("partition",),),
    "modes": (("modes",),),
    "qp": (("qp",),),
}
"""Rows of tiles of each kind of panel."""

LEAST_WIDTH: Final = 340
"""Pixels that a legend needs to be read; smaller pictures grow by a whole factor or get a margin."""

_ON_FRAME: Final = frozenset({"frame", "arrows", "partition", "modes"})
_ARROW_SPACING: Final = 20
_ARROW_LENGTH: Final = 36
_PLANE_NAMES: Final = {"y": "luma", "u": "Cb", "v": "Cr"}
_FRAME_TITLES: Final = {
    Origin.DECODED: "Decoded frame",
    Origin.SOURCE: "Source frame",
    Origin.NONE: "No frame at hand",
}
_LIST_NAMES: Final = {0: "L0", 1: "L1", "mean": "mean of L0 and L1"}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One frame and how to show it.

    Parameters
    ----------
    priors : FramePriors
        The priors.
    base : BasePicture
        The frame that they belong to.
    size : tuple of int
        Width and height of each picture in pixels.
    ranges : Ranges
        Ends of the colour scales.
    ref_list : {0, 1, "mean"}
        Vectors to show.
    plane : {"y", "u", "v"}
        Residual plane to show.
    theme : Theme
        The look.
    """

    priors: FramePriors
    base: BasePicture
    size: tuple[int, int]
    ranges: Ranges
    ref_list: int | str
    plane: str
    theme: Theme

    @property
    def frame(self) -> RGB:
        """The frame at the size to show."""
        return resize(self.base.rgb, self.size)

    @property
    def legend_width(self) -> int:
        """Width of the strip below each picture: small pictures get room for a legend that can be read."""
        return max(self.size[0], self.theme.px(LEAST_WIDTH))


def make_tile(name: str, scene: Scene) -> Tile:
    """Make one tile.

    Parameters
    ----------
    name : str
        A name that occurs in :data:`KINDS`.
    scene : Scene
        The frame.

    Returns
    -------
    Tile
        Title, picture and legend.
    """
    return _MAKERS[name](scene)


def arrays_for(kind: str, ref_list: int | str, plane: str) -> tuple[str, ...]:
    """Name the arrays that a kind of panel is drawn from, apart from the frame.

    Parameters
    ----------
    kind : str
        A key of :data:`KINDS`.
    ref_list : {0, 1, "mean"}
        Vectors to show.
    plane : {"y", "u", "v"}
        Residual plane to show.

    Returns
    -------
    tuple of str
        Names without repetition.
    """
    lists = (0, 1) if ref_list == "mean" else (ref_list,)
    motion = [f"{name}_l{number}" for number in lists for name in ("mv", "ref_poc_delta")]
    needs = {
        "frame": [],
        "motion": motion,
        "arrows": [spec.name for spec in GRID_ARRAYS],
        "residual": [f"residual_{plane}"],
        "partition": [spec.name for spec in GRID_ARRAYS],
        "modes": ["pred_mode", "coding_flags"],
        "qp": ["qp", "pred_mode", "coding_flags"],
    }
    return tuple(dict.fromkeys(array for row in KINDS[kind] for name in row for array in needs[name]))


def needs_frame(kind: str) -> bool:
    """Whether a kind of panel shows the frame or draws on it."""
    return any(name in _ON_FRAME for row in KINDS[kind] for name in row)


def _frame_tile(scene: Scene) -> Tile:
    stream, (width, height) = scene.priors.stream, scene.priors.size
    text = f"{width} x {height}, {stream.bit_depth} bit, {stream.chroma_format}"
    return Tile(_FRAME_TITLES[scene.base.origin], scene.frame, text_legend(scene.legend_width, text, scene.theme))


def _motion_tile(scene: Scene) -> Tile:
    full_scale = scene.ranges.motion_px
    return Tile(
        f"Motion vectors, {_LIST_NAMES[scene.ref_list]}",
        motion_map(scene.priors, full_scale, ref_list=scene.ref_list, size=scene.size),
        motion_legend(scene.legend_width, full_scale, scene.ref_list, scene.theme),
    )


def _arrow_tile(scene: Scene) -> Tile:
    spacing, length = scene.theme.px(_ARROW_SPACING), scene.theme.px(_ARROW_LENGTH)
    gain = length / scene.ranges.motion_px
    return Tile(
        f"Motion vectors, {_LIST_NAMES[scene.ref_list]}",
        arrow_overlay(scene.frame, scene.priors, gain, ref_list=scene.ref_list, spacing=spacing),
        arrow_legend(scene.legend_width, scene.ranges.motion_px, gain, scene.theme),
    )


def _residual_tile(scene: Scene) -> Tile:
    full_scale = scene.ranges.residual
    return Tile(
        f"Residual, {_PLANE_NAMES[scene.plane]}",
        residual_map(scene.priors, full_scale, plane=scene.plane, size=scene.size),
        residual_legend(scene.legend_width, full_scale, scene.priors.stream.bit_depth, scene.theme),
    )


def _partition_tile(scene: Scene) -> Tile:
    text = f"{len(scene.priors.coding_units()):,} coding units"
    picture = partition_overlay(scene.frame, scene.priors)
    return Tile("Coding units", picture, text_legend(scene.legend_width, text, scene.theme))


def _mode_tile(scene: Scene) -> Tile:
    picture = mode_overlay(scene.frame, scene.priors)
    return Tile("Coding units and modes", picture, mode_legend(scene.legend_width, scene.theme))


def _qp_tile(scene: Scene) -> Tile:
    low, high = scene.ranges.qp
    picture = qp_map(scene.priors, low, high, size=scene.size)
    return Tile("Quantisation parameter, luma", picture, qp_legend(scene.legend_width, low, high, scene.theme))


_MAKERS: Final[dict[str, Callable[[Scene], Tile]]] = {
    "frame": _frame_tile,
    "motion": _motion_tile,
    "arrows": _arrow_tile,
    "residual": _residual_tile,
    "partition": _partition_tile,
    "modes": _mode_tile,
    "qp": _qp_tile,
}
