"""Motion compensation of Rec. ITU-T H.266 (clause 8.5.6) in numpy, written from the standard's tables alone.

It knows nothing of the decoder that is tested: translational prediction from one or two lists, 8-tap luma and 4-tap
chroma interpolation at 1/16 luma sample, reference samples beyond the picture repeated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LUMA_HALF = [
    [0, 0, 0, 64, 0, 0, 0, 0],
    [0, 1, -3, 63, 4, -2, 1, 0],
    [-1, 2, -5, 62, 8, -3, 1, 0],
    [-1, 3, -8, 60, 13, -4, 1, 0],
    [-1, 4, -10, 58, 17, -5, 1, 0],
    [-1, 4, -11, 52, 26, -8, 3, -1],
    [-1, 3, -9, 47, 31, -10, 4, -1],
    [-1, 4, -11, 45, 34, -10, 4, -1],
    [-1, 4, -11, 40, 40, -11, 4, -1],
]
_CHROMA_HALF = [
    [0, 64, 0, 0],
    [-1, 63, 2, 0],
    [-2, 62, 4, 0],
    [-2, 60, 7, -1],
    [-2, 58, 10, -2],
    [-3, 57, 12, -2],
    [-4, 56, 14, -2],
    [-4, 55, 15, -2],
    [-4, 54, 16, -2],
    [-5, 53, 18, -2],
    [-6, 52, 20, -2],
    [-6, 49, 24, -3],
    [-6, 46, 28, -4],
    [-5, 44, 29, -4],
    [-4, 42, 30, -4],
    [-4, 39, 33, -4],
    [-4, 36, 36, -4],
]
LUMA_TAPS = np.array(_LUMA_HALF + [taps[::-1] for taps in _LUMA_HALF[-2:0:-1]], np.int32)
"""Table 27 (hpelIfIdx 0): 16 positions, 8 taps."""
CHROMA_TAPS = np.array(_CHROMA_HALF + [taps[::-1] for taps in _CHROMA_HALF[-2:0:-1]], np.int32)
"""Table 33: 32 positions, 4 taps."""
HALF_PEL_TAPS = np.array([0, 3, 9, 20, 20, 9, 3, 0], np.int32)
"""Table 27, position 8 with hpelIfIdx 1: the smoother filter of blocks coded with half-sample vector resolution."""


def interpolate(
    reference: NDArray[np.int32], mv: NDArray[np.int32], bit_depth: int, taps: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Predict every sample of a plane from one reference, at intermediate precision (14 bit).

    Parameters
    ----------
    reference : ndarray, shape (H, W)
        Reference plane.
    mv : ndarray, shape (H, W, 2)
        Vector (x, y) of each sample in units of 1 / len(taps) sample of this plane.
    bit_depth : int
        Bits per sample.
    taps : ndarray, shape (positions, taps)
        Filters.

    Returns
    -------
    ndarray, shape (H, W), int32
        Intermediate prediction.
    """
    height, width = reference.shape
    positions, length = taps.shape
    rows, cols = np.mgrid[0:height, 0:width]
    x, y = cols + mv[..., 0] // positions, rows + mv[..., 1] // positions
    taps_x, taps_y = taps[mv[..., 0] % positions], taps[mv[..., 1] % positions]
    first = -(length // 2 - 1)
    xs = [np.clip(x + first + k, 0, width - 1) for k in range(length)]
    result = np.zeros((height, width), np.int32)
    for k in range(length):
        line = np.clip(y + first + k, 0, height - 1)
        filtered = sum(taps_x[..., i] * reference[line, xs[i]] for i in range(length)) >> min(4, bit_depth - 8)
        result += taps_y[..., k] * filtered
    return result >> 6


def predict(parts: list[NDArray[np.int32]], bit_depth: int) -> NDArray[np.int32]:
    """Bring one intermediate prediction, or the mean of two, back to sample precision.

    Parameters
    ----------
    parts : list of ndarray, shape (H, W)
        One or two intermediate predictions.
    bit_depth : int
        Bits per sample.

    Returns
    -------
    ndarray, shape (H, W), int32
        Predicted samples, 0 to 2 ** bit_depth - 1.
    """
    shift = 14 - bit_depth + len(parts) - 1
    return np.clip((sum(parts) + (1 << (shift - 1))) >> shift, 0, (1 << bit_depth) - 1)
