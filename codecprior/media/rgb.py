"""Frames of any source as full-range R'G'B', which is what networks, degradations and screens take.

Pictures of a folder come as they are decoded, without the detour over 4:2:0. Everything else is Y'CbCr and is turned
into R'G'B' with the matrix and range that the source states, else as limited-range BT.709 (Rec. ITU-R BT.709-6, H.273).
Chroma is interpolated linearly and taken to lie in the middle of the luma samples that it stands for, as
:mod:`codecprior.media.convert` makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.errors import MediaError
from codecprior.media.frame import Plane
from codecprior.media.images import ImageFolder
from codecprior.media.source import FrameSource

__all__ = ["RGBFrame", "rgb_frames", "yuv_to_rgb"]

RGBFrame = NDArray[Any]
"""Colours, shape (H, W, 3), red first, uint8 or uint16, both using their whole range."""

_WEIGHTS: Final = {
    "bt709": (0.2126, 0.0722),
    "bt601": (0.299, 0.114),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}
"""Luma weights of red and blue by the names that ``SourceInfo.color_matrix`` has (H.273, MatrixCoefficients)."""


def rgb_frames(source: FrameSource, *, start: int = 0, stop: int | None = None) -> Iterator[RGBFrame]:
    """Read the frames of a source as colours, one at a time.

    Parameters
    ----------
    source : FrameSource
        Pictures, video or raw planar file.
    start : int
        First frame, in display order.
    stop : int, optional
        Frame behind the last one; the end of the clip if not given.

    Returns
    -------
    iterator of ndarray, shape (H, W, 3), uint8 or uint16
        Full-range R'G'B' in the size that the source has, without padding. uint8 for sources with 8 bit; deeper ones
        use all 16 bit of uint16.

    Raises
    ------
    ConfigError
        If ``start`` is negative.
    MediaError
        If the source has a colour matrix that is not read; while iterating, if a frame cannot be read.
    """
    info = source.info
    matrix, color_range = info.color_matrix or "bt709", info.color_range or "limited"
    if matrix not in _WEIGHTS:
        raise MediaError(f"{info.path}: has the colour matrix {matrix}; {', '.join(_WEIGHTS)} are read")
    if isinstance(source, ImageFolder):
        return source.pictures(start=start, stop=stop)
    frames = source.frames(start=start)
    wanted = frames if stop is None else islice(frames, max(0, stop - start))
    return (
        yuv_to_rgb(frame.planes, frame.bit_depth, matrix=matrix, color_range=color_range)[: info.height, : info.width]
        for frame in wanted
    )


def yuv_to_rgb(
    planes: Sequence[Plane], bit_depth: int, *, matrix: str = "bt709", color_range: str = "limited"
) -> RGBFrame:
    """Turn planar Y'CbCr or grey into full-range R'G'B'.

    Parameters
    ----------
    planes : sequence of ndarray
        Y, or Y, U and V with chroma as large as luma or halved in one or both directions; uint8 or uint16.
    bit_depth : int
        Bits per sample.
    matrix : str
        ``"bt709"``, ``"bt601"``, ``"fcc"``, ``"smpte240m"`` or ``"bt2020"``.
    color_range : {"limited", "full"}
        Range of the samples.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8 or uint16
        uint8 for 8 bit, else uint16 with its whole range in use. Rounded once, half to even; colours outside of the
        range are clipped.
    """
    eight = bit_depth == 8
    peak = 255 if eight else 65535
    unit = 1 << (bit_depth - 8)
    full = color_range == "full"
    black, neutral = (0 if full else 16 * unit), 128 * unit
    luma_scale = peak / (256 * unit - 1 if full else 219 * unit)
    chroma_scale = peak / (256 * unit - 1 if full else 224 * unit)
    if len(planes) == 1:
        grey = np.multiply(planes[0], luma_scale, dtype=np.float32) - np.float32(black * luma_scale)
        rgb = cv2.merge([grey] * 3)
    else:
        red, blue = _WEIGHTS[matrix]
        green = 1 - red - blue
        from_v, from_u = 2 * (1 - red) * chroma_scale, 2 * (1 - blue) * chroma_scale
        mix = np.array(
            [
                [luma_scale, 0, from_v],
                [luma_scale, -blue / green * from_u, -red / green * from_v],
                [luma_scale, from_u, 0],
            ]
        )
        offset = -mix @ [black, neutral, neutral]
        rgb = cv2.transform(_upsampled(planes), np.column_stack([mix, offset]))
    np.clip(np.rint(rgb, out=rgb), 0, peak, out=rgb)
    return rgb.astype(np.uint8 if eight else np.uint16)


def _upsampled(planes: Sequence[Plane]) -> Plane:
    """Planes with chroma brought to luma's size, shape (H, W, 3), float32."""
    height, width = planes[0].shape
    channels: list[Plane] = [planes[0].astype(np.float32)]
    for plane in planes[1:]:
        # The last chroma sample of an odd size stands for a luma sample that is not there.
        rows, columns = plane.shape
        size = columns * -(-width // columns), rows * -(-height // rows)
        wide = cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        channels.append(wide[:height, :width])
    return cv2.merge(channels)
