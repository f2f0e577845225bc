"""The frames that maps are drawn on: decoded pictures from the store or the bitstream, else the source, else grey.

Colours are taken as limited-range BT.709 (Rec. ITU-R BT.709-6), which is what stores and bitstreams made here hold.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box
from codecprior.errors import ConfigError, MediaError
from codecprior.media.convert import frame_bit_depth
from codecprior.media.frame import Plane
from codecprior.media.pixels import parse_pixel_format, read_planes
from codecprior.media.rgb import yuv_to_rgb
from codecprior.media.source import FrameSource
from codecprior.visualization.colormap import MID_GREY, RGB
from codecprior.visualization.material import Material

__all__ = ["BasePicture", "Origin", "frames_for"]

_LOGGER = logging.getLogger(__name__)


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


def _shown(planes: Sequence[Plane], bit_depth: int) -> RGB:
    """Colours for the eye; bits beyond 8 are dropped."""
    return yuv_to_rgb([samples >> (bit_depth - 8) for samples in planes], 8)


def _stored(priors: FramePriors) -> BasePicture | None:
    planes = [getattr(priors, f"frame_{plane}") for plane in priors.stream.planes]
    if any(samples is None for samples in planes):
        return None
    return BasePicture(_shown(planes, priors.stream.bit_depth), Origin.DECODED)


def _grey(priors: FramePriors) -> BasePicture:
    return BasePicture(np.full((priors.box.height, priors.box.width, 3), MID_GREY, np.uint8), Origin.NONE)


@dataclass(frozen=True, eq=False)
class _Undeveloped:
    """A frame whose conversion to RGB waits until somebody looks at it."""

    planes: Sequence[Plane]
    bit_depth: int
    origin: Origin

    def rgb(self) -> RGB:
        return _shown(self.planes, self.bit_depth)


def _decode(path: Path) -> Iterator[_Undeveloped]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            pixels = parse_pixel_format(frame)
            yield _Undeveloped(read_planes(frame, pixels), frame_bit_depth(pixels.bit_depth), Origin.DECODED)


def _play(source: FrameSource) -> Iterator[_Undeveloped]:
    for frame in source:
        yield _Undeveloped(frame.planes, frame.bit_depth, Origin.SOURCE)


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
