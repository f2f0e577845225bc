"""One frame by several methods, networks or finished outputs, to a picture that compares them (Figs. 7, 8 and 10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.core.stream import Box
from codecprior.datasets.manifest import Manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.datasets.sampling import ClipRequest
from codecprior.errors import ConfigError
from codecprior.visualization.colormap import RGB
from codecprior.visualization.comparison import Pane, comparison_sheet

from .checkpoint import WEIGHTS_NAME, kind_of, read_sections
from .metric_fidelity import psnr

__all__ = ["Method", "compare_frame", "default_box"]

_INPUT: Final = "Blurry input"
_SHARP: Final = "Sharp"
_HEAT: Final = "attention received; 1: an even share"
_PER_LATENT: Final = 8
_BOX_SHARE: Final = 0.2
"""Of the width of a frame, of a box that is not given."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """Something that makes frames sharp.

    Parameters
    ----------
    name : str
        What it is called.
    path : str
        Folder that a training wrote, or its weights; or its outputs for the sequence, a folder of pictures or a video.
    """

    name: str
    path: str

    @property
    def is_network(self) -> bool:
        """Whether networks are to run."""
        path = Path(self.path)
        return path.suffix == ".safetensors" or (path / WEIGHTS_NAME).is_file()


def compare_frame(
    manifest: Manifest,
    sequence: int,
    frame: int,
    methods: Sequence[Method],
    *,
    boxes: Sequence[Box] = (),
    attention: bool = False,
    loading: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RGB:
    """Draw a frame of a sequence as each method has it, between the blurry one and, if there is one, the sharp one.

    Parameters
    ----------
    manifest : Manifest
        The dataset.
    sequence : int
        Position of the sequence.
    frame : int
        Position of the frame in it.
    methods : sequence of Method
        The methods, in order.
    boxes : sequence of Box
        What to enlarge; see :func:`default_box` if empty.
    attention : bool
        Whether to show where the ControlNets of stage 2 look. Frames are then generated as a whole, not in tiles.
    loading : dict, optional
        Keyword arguments for :func:`~codecprior.model.deblurrer.load_deblurrer`.
    progress : callable, optional
        Called after each method with the number done and the total.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        The sheet.

    Raises
    ------
    ConfigError
        If there is no such frame, a box lies outside of it, or attention is asked for and there is no stage 2.
    CodecpriorError
        If something cannot be read, or networks fail.
    """
    alone = replace(manifest, entries=manifest.entries[sequence : sequence + 1])
    (entry,) = alone.entries
    if not -entry.num_frames <= frame < entry.num_frames:
        raise ConfigError(f"frame {frame}: sequence {entry.sequence} has the frames 0 to {entry.num_frames - 1}")
    frame %= entry.num_frames
    for method in methods:
        if not Path(method.path).exists():
            raise ConfigError(f"method {method.name}: {method.path} is no checkpoint, folder of pictures or video")
    if attention and not any(method.is_network and kind_of(read_sections(method.path)) == "cpc" for method in methods):
        raise ConfigError("attention: no method has networks of stage 2; give checkpoints of stage 2, or leave it out")
    blurry = _read(alone, frame, "blurry")
    sharp = None if entry.sharp is None else _read(alone, frame, "sharp")
    height, width = blurry.shape[:2]
    for box in boxes:
        if min(box.width, box.height) < 1 or min(box.x, box.y) < 0:
            raise ConfigError(f"box {_spoken(box)}: use X,Y,WIDTH,HEIGHT with X and Y from 0")
        if box.x + box.width > width or box.y + box.height > height:
            raise ConfigError(f"box {_spoken(box)}: reaches beyond the frame of {width}x{height}")
    boxes = boxes or (default_box(blurry, sharp),)
    panes = [_pane(_INPUT, blurry, sharp, boxes)]
    for done, method in enumerate(methods, 1):
        picture, heat = _output(method, alone, frame, attention, loading or {})
        panes.append(_pane(method.name, picture, sharp, boxes, heat))
        if progress is not None:
            progress(done, len(methods))
    if sharp is not None:
        panes.append(_pane(_SHARP, sharp, None, boxes))
    return comparison_sheet(f"{entry.sequence}, frame {frame}", panes, boxes, heat_unit=_HEAT)


def default_box(blurry: RGB, sharp: RGB | None) -> Box:
    """Choose a part of a frame: where the blurry one differs most from the sharp one, or the middle without that.

    Parameters
    ----------
    blurry, sharp : ndarray, shape (H, W, 3), uint8
        The frame; None if there is no sharp one.

    Returns
    -------
    Box
        A fifth of the width, three quarters of that high.
    """
    height, width = blurry.shape[:2]
    across = max(1, round(_BOX_SHARE * width))
    down = min(height, max(1, across * 3 // 4))
    if sharp is None:
        return Box((width - across) // 2, (height - down) // 2, across, down)
    difference = np.abs(blurry.astype(np.float32) - sharp).sum(axis=2)
    sums = cv2.boxFilter(difference, -1, (across, down), anchor=(0, 0), normalize=False)
    inside = sums[: height - down + 1, : width - across + 1]
    y, x = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return Box(int(x), int(y), across, down)


def _read(alone: Manifest, frame: int, side: Literal["blurry", "sharp"]) -> RGB:
    """Read a frame of one side of the only sequence."""
    reader = ClipReader(alone, ReaderConfig(sharp=side == "sharp", residual=None))
    (picture,) = getattr(reader.read(ClipRequest(sequence=0, frames=range(frame, frame + 1))), side)
    return np.ascontiguousarray(picture if picture.dtype == np.uint8 else np.rint(picture / 257).astype(np.uint8))


def _output(
    method: Method, alone: Manifest, frame: int, attention: bool, loading: dict[str, Any]
) -> tuple[RGB, NDArray[np.float32] | None]:
    """Return the frame as a method has it and where that looked, one value for each latent."""
    if not method.is_network:
        entry = replace(alone.entries[0], blurry=str(Path(method.path).absolute()), sharp=None, frames=None, raw=None)
        return _read(replace(alone, entries=(entry,)), frame, "blurry"), None
    from .deblurrer import load_deblurrer

    deblurrer = load_deblurrer(method.path, **loading, sampling={"tile_size": 0} if attention else None)
    frames = deblurrer.frames(ClipReader(alone, deblurrer.reader_config()), 0, only=frame)
    if not attention or deblurrer.controlnet is None:
        return next(frames), None
    from .attention_maps import recorded_attention
    from .cpc import CodingPriorControlNet

    with recorded_attention(cast(CodingPriorControlNet, deblurrer.controlnet)) as record:
        picture = next(frames)
    height, width = picture.shape[:2]
    # Latents also cover what the frame was padded with.
    heat = record.mean()[: -(-height // _PER_LATENT), : -(-width // _PER_LATENT)]
    return picture, heat.cpu().numpy()


def _pane(
    title: str, picture: RGB, sharp: RGB | None, boxes: Sequence[Box], heat: NDArray[np.float32] | None = None
) -> Pane:
    if sharp is None:
        return Pane(title=title, picture=picture, heat=heat)
    parts = [np.s_[box.y : box.y + box.height, box.x : box.x + box.width] for box in boxes]
    return Pane(
        title=title,
        picture=picture,
        note=_decibels(picture, sharp),
        crop_notes=tuple(_decibels(picture[part], sharp[part]) for part in parts),
        heat=heat,
    )


def _decibels(picture: RGB, sharp: RGB) -> str:
    return f"{psnr(picture, sharp):.2f} dB"


def _spoken(box: Box) -> str:
    return f"{box.x},{box.y},{box.width},{box.height}"
