"""The frames that maps are drawn on: decoded pictures from the store or the bitstream, else the source, else grey.

Colours are taken as limited-range BT.709 (Rec. ITU-R BT.709-6), which is what stores and bitstreams made here hold.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box
from codecprior.errors import ConfigError, MediaError
from codecprior.media.source import FrameSource
from codecprior.visualization.colormap import MID_GREY, RGB
from codecprior.visualization.material import Material

__all__ = ["BasePicture", "Origin", "frames_for", "yuv_to_rgb"]

_LOGGER = logging.getLogger(__name__)

# FFmpeg takes grey formats for full range whatever it is told; with neutral chroma they are treated like the others.
_PIXEL_FORMATS: Final = {"4:0:0": "yuv444p", "4:2:0": "yuv420p", "4:2:2": "yuv422p", "4:4:4": "yuv444p"}


class Origin(enum.Enum):
    """Where a frame came from, in the words of a caption."""

    DECODED = "decoded frame"
    SOURCE = "drawn on the source, not the decoded frame"
    NONE = "no frame at hand, neutral canvas"


@dataclass(frozen=True, eq=False)
class BasePicture:
    """A frame to draw on.

    Parameters
    ----------
    rgb : ndarray, shape (H, W, 3), uint8
        The frame.
    origin : Origin
        Where it came from.
    """

    rgb: RGB
    origin: Origin


def frames_for(
    frames: Iterable[FramePriors], material: Material | None = None
) -> Iterator[tuple[FramePriors, BasePicture]]:
    """Find the frame that each frame's priors belong to.

    Tried in this order: pictures in the priors; the bitstream, decoded by FFmpeg; the source; a grey canvas. What fails
    or ends early is logged, and the next one is used.

    Parameters
    ----------
    frames : iterable of FramePriors
        In rising order of ``frame_index``; taken one at a time.
    material : Material, optional
        Where to find frames that are not in the priors.

    Yields
    ------
    priors : FramePriors
        The frame's priors.
    picture : BasePicture
        The frame, as large as ``priors.box``.

    Raises
    ------
    ConfigError
        If frames come in another order.
    """
    playbacks: list[_Playback] = []
    if material and material.bitstream:
        playbacks.append(_Playback(_decode(material.bitstream), material.bitstream))
    if material and material.source:
        playbacks.append(_Playback(_play(material.source), material.source.info.path))
    for priors in frames:
        candidates = (playback.picture(priors) for playback in playbacks)
        yield priors, _stored(priors) or next(filter(None, candidates), None) or _grey(priors)


def yuv_to_rgb(planes: dict[str, NDArray[Any]], chroma_format: str, bit_depth: int) -> RGB:
    """Convert planar samples to colours for the eye.

    Parameters
    ----------
    planes : dict of str to ndarray
        Planes "y", and "u" and "v" where there is chroma, uint8 or uint16.
    chroma_format : str
        ``"4:0:0"``, ``"4:2:0"``, ``"4:2:2"`` or ``"4:4:4"``.
    bit_depth : int
        Bits per sample; those beyond 8 are dropped.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        Full-range RGB.
    """
    height, width = planes["y"].shape
    neutral = np.full((height, width), 1 << (bit_depth - 1), np.uint16)
    planes = {"u": neutral, "v": neutral} | planes
    frame = av.VideoFrame(width, height, _PIXEL_FORMATS[chroma_format])
    for target, name in zip(frame.planes, "yuv", strict=True):
        samples = planes[name]
        # Rows in FFmpeg's memory are longer than the picture is wide.
        rows = np.frombuffer(target, np.uint8).reshape(-1, target.line_size).copy()  # type: ignore[call-overload]
        rows[: samples.shape[0], : samples.shape[1]] = samples >> (bit_depth - 8)
        target.update(rows.tobytes())
    return _rgb(frame)


def _rgb(frame: av.VideoFrame) -> RGB:
    if frame.format.name.startswith("gray"):
        return yuv_to_rgb({"y": frame.to_ndarray()}, "4:0:0", frame.format.components[0].bits)
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    return converted.to_ndarray().astype(np.uint8, copy=False)


def _stored(priors: FramePriors) -> BasePicture | None:
    planes = {plane: getattr(priors, f"frame_{plane}") for plane in priors.stream.planes}
    if any(samples is None for samples in planes.values()):
        return None
    return BasePicture(yuv_to_rgb(planes, priors.stream.chroma_format, priors.stream.bit_depth), Origin.DECODED)


def _grey(priors: FramePriors) -> BasePicture:
    return BasePicture(np.full((priors.box.height, priors.box.width, 3), MID_GREY, np.uint8), Origin.NONE)


@dataclass(frozen=True, eq=False)
class _Undeveloped:
    """A frame whose conversion to RGB waits until somebody looks at it."""

    planes: dict[str, NDArray[Any]] | av.VideoFrame
    bit_depth: int
    origin: Origin

    def rgb(self) -> RGB:
        if isinstance(self.planes, av.VideoFrame):
            return _rgb(self.planes)
        return yuv_to_rgb(self.planes, "4:2:0", self.bit_depth)


def _decode(path: Path) -> Iterator[_Undeveloped]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield _Undeveloped(frame, 0, Origin.DECODED)


def _play(source: FrameSource) -> Iterator[_Undeveloped]:
    for frame in source:
        yield _Undeveloped(dict(zip("yuv", frame.planes, strict=True)), frame.bit_depth, Origin.SOURCE)


class _Playback:
    """Frames that come in display order, asked for by index; gives up, with one log line, where something is wrong."""

    def __init__(self, frames: Iterator[_Undeveloped], path: Path) -> None:
        self._frames = frames
        self._path = path
        self._next_index = 0
        self._ended = False

    def picture(self, priors: FramePriors) -> BasePicture | None:
        """Return the frame of some priors, or None where there is none that fits."""
        if priors.frame_index < self._next_index and not self._ended:
            raise ConfigError(f"frame {priors.frame_index} asked for after {self._next_index - 1}: use a rising order")
        frame = None
        while not self._ended and self._next_index <= priors.frame_index:
            frame = self._next(priors.frame_index)
        if self._ended or frame is None:
            return None
        whole, box = priors.stream.output_box, priors.box
        rgb = frame.rgb()
        height, width = rgb.shape[:2]
        # Sources with an odd size are padded by one row or column for the encoder.
        if height - whole.height not in (0, 1) or width - whole.width not in (0, 1):
            self._give_up(f"frames are {width}x{height}, those of the store {whole.width}x{whole.height}")
            return None
        part = Box(box.x - whole.x, box.y - whole.y, box.width, box.height)
        return BasePicture(np.ascontiguousarray(rgb[part.plane_slices()]), frame.origin)

    def _next(self, wanted: int) -> _Undeveloped | None:
        try:
            frame = next(self._frames, None)
        except (av.FFmpegError, OSError, IndexError, MediaError) as error:
            self._give_up(str(error))
            return None
        if frame is None:
            self._give_up(f"it has {self._next_index} frames and none for {wanted}")
        self._next_index += 1
        return frame

    def _give_up(self, reason: str) -> None:
        self._ended = True
        _LOGGER.warning("%s: cannot be shown (%s)", self._path, reason)
