"""Samples of any source into planar Y'CbCr 4:2:0 with 8 or 10 bit, the only thing that VVenC encodes.

Every step is exact and the same on every machine. Sources that are 4:2:0 with 8 or 10 bit pass untouched. Other depths
are shifted, rounded half up when bits go away. Chroma is the mean of the samples that it stands for, rounded half up.
R'G'B' is turned into limited range with the matrix of Rec. ITU-R BT.709-6, chroma from the sum of 2x2 pixels; the
coefficients have so few bits that float arithmetic is exact in any order and only the last step rounds, half to even.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.media.frame import Plane

__all__ = ["bgr_to_yuv420", "describe_conversion", "frame_bit_depth", "pad_to_even", "planar_to_yuv420"]

_KR: Final = 0.2126
"""BT.709 luma weight of red."""
_KB: Final = 0.0722
"""BT.709 luma weight of blue."""

_Planes = tuple[Plane, Plane, Plane]


def frame_bit_depth(bit_depth: int) -> int:
    """Return the bits per sample that frames get: 8 stays 8, everything else becomes 10.

    Parameters
    ----------
    bit_depth : int
        Bits per sample of the source.

    Returns
    -------
    int
        8 or 10.
    """
    return 8 if bit_depth == 8 else 10


def describe_conversion(chroma_format: str, bit_depth: int, *, alpha: bool = False, interlaced: bool = False) -> str:
    """Say what the functions of this module do to a source.

    Parameters
    ----------
    chroma_format : str
        ``"rgb"``, ``"4:0:0"``, ``"4:2:0"``, ``"4:2:2"`` or ``"4:4:4"``.
    bit_depth : int
        Bits per sample of the source.
    alpha : bool
        Whether there is an alpha channel.
    interlaced : bool
        Whether frames are pairs of fields.

    Returns
    -------
    str
        One line, ``""`` where samples pass untouched.
    """
    target = frame_bit_depth(bit_depth)
    chroma = {
        "rgb": "R'G'B' to Y'CbCr BT.709 limited range, chroma from 2x2 mean",
        "4:0:0": "neutral chroma added",
        "4:2:0": "",
        "4:2:2": "chroma rows averaged to 4:2:0",
        "4:4:4": "chroma 2x2 averaged to 4:2:0",
    }[chroma_format]
    depth = f"{bit_depth} bit to {target} bit" if target != bit_depth else ""
    notes = ("interlaced fields kept woven" if interlaced else "", "alpha dropped" if alpha else "", chroma, depth)
    return "; ".join(filter(None, notes))


def _matrices(bit_depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows [b, g, r, offset] for luma of one pixel and for chroma of the sum of four."""
    # The sum of four pixels times a coefficient needs 10 + 13 bits for 8 bit samples, exact in float32, and
    # 18 + 24 bits for 16 bit samples, exact in float64.
    step = 2.0**-13 if bit_depth == 8 else 2.0**-24
    target = frame_bit_depth(bit_depth)
    scale = 2 ** (target - 8) / (2**bit_depth - 1)
    luma = np.array([_KB, 1 - _KR - _KB, _KR]) * 219 * scale
    blue, red = 224 * scale / (2 * (1 - _KB)), 224 * scale / (2 * (1 - _KR))
    chroma = np.array([[(1 - _KB) * blue, 0, -_KR * blue], [-_KB * red, 0, (1 - _KR) * red]])
    luma, chroma = np.rint(luma / step) * step, np.rint(chroma / step) * step
    chroma[:, 1] = -chroma.sum(axis=1)  # so that grey has exactly neutral chroma
    offset = float(2 ** (target - 8))
    return np.array([[*luma, 16 * offset]]), np.column_stack([chroma / 4, [128 * offset] * 2])


_MATRICES: Final = {8: _matrices(8), 16: _matrices(16)}


def bgr_to_yuv420(bgr: Plane) -> _Planes:
    """Turn full range R'G'B' into limited range BT.709 Y'CbCr 4:2:0.

    Parameters
    ----------
    bgr : ndarray, shape (H, W, 3), uint8 or uint16
        Blue, green, red; 16 bit samples use the whole range.

    Returns
    -------
    y, u, v : ndarray, shape (H, W) and (ceil(H / 2), ceil(W / 2))
        uint8 for 8 bit, else uint16 holding 10 bit.
    """
    eight = bgr.dtype == np.uint8
    luma, chroma = _MATRICES[8 if eight else 16]
    # The 8 bit path of cv2.transform works with 10 bit coefficients; its 16 bit path computes in float32.
    wide: Plane = bgr.astype(np.uint16 if eight else np.float64)
    even = _pad_edge(wide)
    rows = even[0::2] + even[1::2]
    sums = rows[:, 0::2] + rows[:, 1::2]
    out = np.uint8 if eight else np.uint16
    y, uv = cv2.transform(wide, luma), cv2.transform(sums, chroma)
    if not eight:
        y, uv = np.rint(y), np.rint(uv)
    return y.astype(out), uv[..., 0].astype(out), uv[..., 1].astype(out)


def planar_to_yuv420(planes: tuple[Plane, ...], chroma_format: str, bit_depth: int) -> _Planes:
    """Turn planar Y'CbCr or grey of any kind into 4:2:0 with 8 or 10 bit, in the range and matrix that it has.

    Parameters
    ----------
    planes : tuple of ndarray
        Y or Y, U, V; uint8 or uint16.
    chroma_format : str
        ``"4:0:0"``, ``"4:2:0"``, ``"4:2:2"`` or ``"4:4:4"``.
    bit_depth : int
        Bits per sample, 8 to 16.

    Returns
    -------
    y, u, v : ndarray, shape (H, W) and (ceil(H / 2), ceil(W / 2))
        The given arrays where nothing has to change.
    """
    if chroma_format == "4:0:0":
        height, width = planes[0].shape
        neutral = np.full(((height + 1) // 2, (width + 1) // 2), 1 << (bit_depth - 1), planes[0].dtype)
        planes = (planes[0], neutral, neutral)
    elif chroma_format == "4:2:2":
        planes = (planes[0], *(_mean_rows(plane) for plane in planes[1:]))
    elif chroma_format == "4:4:4":
        planes = (planes[0], *(_mean_square(plane) for plane in planes[1:]))
    y, u, v = (_with_depth(plane, bit_depth) for plane in planes)
    return y, u, v


def pad_to_even(planes: _Planes) -> _Planes:
    """Repeat the last luma column and row of an odd-sized 4:2:0 frame; chroma covers them already.

    Parameters
    ----------
    planes : tuple of ndarray
        Y, U, V.

    Returns
    -------
    tuple of ndarray
        Y with even size, U, V.
    """
    return _pad_edge(planes[0]), planes[1], planes[2]


def _pad_edge(plane: Plane) -> Plane:
    height, width = plane.shape[:2]
    if height % 2 == width % 2 == 0:
        return plane
    return np.pad(plane, [(0, height % 2), (0, width % 2), *[(0, 0)] * (plane.ndim - 2)], mode="edge")


def _mean_rows(plane: Plane) -> Plane:
    if plane.shape[0] % 2:
        plane = np.pad(plane, [(0, 1), (0, 0)], mode="edge")
    wide = plane.astype(np.uint32)
    return ((wide[0::2] + wide[1::2] + 1) >> 1).astype(plane.dtype)


def _mean_square(plane: Plane) -> Plane:
    wide = _pad_edge(plane).astype(np.uint32)
    rows = wide[0::2] + wide[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(plane.dtype)


def _with_depth(plane: Plane, bit_depth: int) -> Plane:
    target = frame_bit_depth(bit_depth)
    if bit_depth == target:
        return plane
    if bit_depth < target:
        widened = plane.astype(np.uint16)
        widened <<= target - bit_depth
        return widened
    drop = bit_depth - target
    rounded = (plane.astype(np.uint32) + (1 << (drop - 1))) >> drop
    np.minimum(rounded, (1 << target) - 1, out=rounded)
    return rounded.astype(np.uint16)
