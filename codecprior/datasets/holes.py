"""Vectors for cells that the codec gave none: intra blocks, blocks that refer to another frame, lost pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from codecprior.core.arrays import CELL
from codecprior.errors import ConfigError

__all__ = ["HolePolicy", "fill_holes"]

HolePolicy = Literal["zero", "neighbour", "global"]
"""The vector of a cell that has none:

- ``"zero"``: (0, 0);
- ``"neighbour"``: that of the nearest cell of the frame that has one;
- ``"global"``: that of a shift, rotation and zoom of the whole picture, fitted to the vectors of the frame by RANSAC.
"""

_SAMPLES: Final = 4096
"""Vectors that a global motion is fitted to, at most about twice as many."""
_TOLERANCE: Final = 2.0
"""Distance in samples from a global motion up to which a vector follows it."""
_LEAST: Final = 3
"""Vectors that must follow a global motion; two always do."""

_Vectors = NDArray[np.float32]
_Mask = NDArray[np.bool_]


def fill_holes(mv: _Vectors, valid: _Mask, policy: HolePolicy) -> _Vectors:
    """Give every cell a vector.

    Parameters
    ----------
    mv : ndarray, shape (T, Hg, Wg, 2), float32
        (x, y) in samples, one per 4x4 cell.
    valid : ndarray, shape (T, Hg, Wg), bool
        Where there is one.
    policy : {"zero", "neighbour", "global"}
        See :data:`HolePolicy`.

    Returns
    -------
    ndarray, shape (T, Hg, Wg, 2), float32
        The same where valid. Frames without any vector are 0 under each policy, holes of frames in which fewer than
        three vectors agree are 0 under ``"global"``.

    Raises
    ------
    ConfigError
        If there is no such policy.
    """
    if policy not in _POLICIES:
        raise ConfigError(f"hole policy {policy!r}: use one of {', '.join(_POLICIES)}")
    filled = np.where(valid[..., None], mv, np.float32(0))
    for vectors, known in zip(filled, valid, strict=True):
        if known.any() and not known.all():
            _POLICIES[policy](vectors, known)
    return filled


def _leave(mv: _Vectors, valid: _Mask) -> None:
    pass


def _from_neighbours(mv: _Vectors, valid: _Mask) -> None:
    rows, cols = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    mv[:] = mv[rows, cols]


def _from_global_motion(mv: _Vectors, valid: _Mask) -> None:
    rows, cols = np.nonzero(valid)
    step = max(1, len(rows) // _SAMPLES)
    here = _centres(rows[::step], cols[::step])
    there = here + mv[rows[::step], cols[::step]]
    if len(here) < _LEAST:
        return
    motion, inliers = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=_TOLERANCE)
    if np.count_nonzero(inliers) < _LEAST:
        return
    rows, cols = np.nonzero(~valid)
    here = _centres(rows, cols)
    mv[rows, cols] = here @ motion[:, :2].T + motion[:, 2] - here


def _centres(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> _Vectors:
    return np.stack([cols, rows], axis=-1).astype(np.float32) * CELL + (CELL - 1) / 2


_POLICIES: Final[dict[HolePolicy, Callable[[_Vectors, _Mask], None]]] = {
    "zero": _leave,
    "neighbour": _from_neighbours,
    "global": _from_global_motion,
}
