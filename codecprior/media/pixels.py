"""Planes of 4:2:0 samples from decoded pictures of any usual pixel format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from codecprior.errors import MediaError
from codecprior.media.convert import bgr_to_yuv420, planar_to_yuv420
from codecprior.media.frame import Plane

__all__ = ["PixelFormat", "parse_pixel_format", "read_planes"]

_PLANAR: Final = re.compile(r"yuv([aj]?)(4[024][024])p(?:(\d+)le)?")
_GREY: Final = re.compile(r"gray(?:(\d+)le)?")
_CHROMA_FORMATS: Final = {"420": "4:2:0", "422": "4:2:2", "444": "4:4:4"}
_REPACKED: Final = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "p010le": "yuv420p10le",
    "nv16": "yuv422p",
    "yuyv422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyvy422": "yuv422p",
    "nv24": "yuv444p",
}
"""Formats that hold the samples of a planar one in another order."""


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """What the samples of decoded pictures are.

    Parameters
    ----------
    name : str
        FFmpeg's name of the format.
    read_as : str
        Format with the same samples that is turned into arrays.
    chroma_format : str
        ``"4:0:0"``, ``"4:2:0"``, ``"4:2:2"``, ``"4:4:4"`` or ``"rgb"``.
    bit_depth : int
        Bits per sample.
    alpha : bool
        Whether there is an alpha channel.
    """

    name: str
    read_as: str
    chroma_format: str
    bit_depth: int
    alpha: bool = False


def parse_pixel_format(frame: VideoFrame) -> PixelFormat:
    """Return what the samples of a picture are.

    Parameters
    ----------
    frame : av.VideoFrame
        Decoded picture.

    Returns
    -------
    PixelFormat
        Its format.

    Raises
    ------
    MediaError
        If the format is not read.
    """
    name, components = frame.format.name, frame.format.components
    read_as = _REPACKED.get(name, name)
    if (found := _PLANAR.fullmatch(read_as)) and found[2] in _CHROMA_FORMATS:
        return PixelFormat(
            name=name,
            read_as=read_as,
            chroma_format=_CHROMA_FORMATS[found[2]],
            bit_depth=int(found[3] or 8),
            alpha=found[1] == "a",
        )
    if found := _GREY.fullmatch(name):
        return PixelFormat(name=name, read_as=name, chroma_format="4:0:0", bit_depth=int(found[1] or 8))
    if frame.format.is_rgb and frame.format.components[0].bits >= 8 and "f" not in name:
        deep = max(component.bits for component in components) > 8
        return PixelFormat(
            name=name,
            read_as="bgr48le" if deep else "bgr24",
            chroma_format="rgb",
            bit_depth=16 if deep else 8,
            alpha=any(component.is_alpha for component in components),
        )
    raise MediaError(f"pixel format {name} is not read; convert the video to yuv420p or yuv420p10le first")


def read_planes(frame: VideoFrame, pixel_format: PixelFormat) -> tuple[Plane, Plane, Plane]:
    """Return the samples of a picture as 4:2:0 with 8 or 10 bit, without a copy where they are that already.

    Parameters
    ----------
    frame : av.VideoFrame
        Decoded picture.
    pixel_format : PixelFormat
        What its samples are.

    Returns
    -------
    y, u, v : ndarray, shape (H, W) and (ceil(H / 2), ceil(W / 2)), uint8 or uint16
        The planes.
    """
    if pixel_format.chroma_format == "rgb":
        return bgr_to_yuv420(frame.to_ndarray(format=pixel_format.read_as))
    if pixel_format.read_as != pixel_format.name:
        frame = frame.reformat(format=pixel_format.read_as)
    read = frame.planes[: 1 if pixel_format.chroma_format == "4:0:0" else 3]
    planes = tuple(_plane_samples(plane, pixel_format.bit_depth) for plane in read)
    return planar_to_yuv420(planes, pixel_format.chroma_format, pixel_format.bit_depth)


def _plane_samples(plane: VideoPlane, bit_depth: int) -> Plane:
    dtype = np.dtype("u1") if bit_depth == 8 else np.dtype("<u2")
    samples: Plane = np.frombuffer(memoryview(plane), dtype)
    stride = plane.line_size // dtype.itemsize
    return samples[: stride * plane.height].reshape(plane.height, stride)[:, : plane.width]
