"""From stored vectors, which point to whatever picture the encoder chose, to vectors between two given frames.

A vector is taken only where its reference is that very frame. Frames further apart are joined by a chain of vectors
between neighbours: each one is followed to the cell it lands in, whose vector goes on from there.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL
from codecprior.core.stream import Box
from codecprior.store.reader import ClipPriors

__all__ = ["VectorLists", "compose", "vectors_to_previous"]

VectorLists = Literal["l0", "mean"]
"""List 0, or both: their mean where both refer to the frame, else the one that does."""

_NO_DELTA = 1 << 20
"""Stands for a frame that no block can refer to; beyond every value of ``ref_poc_delta``."""


def vectors_to_previous(clip: ClipPriors, lists: VectorLists) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Take the vectors from each frame of a clip to the one before it in the clip.

    Parameters
    ----------
    clip : ClipPriors
        Frames in the order of the clip, with motion and references of the lists.
    lists : {"l0", "mean"}
        The reference lists to take vectors from.

    Returns
    -------
    mv : ndarray, shape (T - 1, Hg, Wg, 2), float32
        (x, y) in samples for all frames but the first; 0 where not valid.
    valid : ndarray, shape (T - 1, Hg, Wg), bool
        Where a list refers to the frame before.
    """
    deltas = np.array([_delta_to_previous(clip, i) for i in range(1, len(clip))], np.int32)[:, None, None]
    mv, valid = _list_vectors(clip, 0, deltas)
    if lists == "mean":
        other, other_valid = _list_vectors(clip, 1, deltas)
        both = valid & other_valid
        mv += other
        mv[both] /= 2
        valid = valid | other_valid
    return mv, valid


def _delta_to_previous(clip: ClipPriors, i: int) -> int:
    """``ref_poc_delta`` of blocks of frame ``i`` that refer to the frame before it in the clip."""
    poc = clip.pictures[i - 1].poc
    # Picture order counts repeat from one coded video sequence to the next.
    if clip.reference_frames[i].get(poc) != clip.frame_indices[i - 1]:
        return _NO_DELTA
    return poc - clip.pictures[i].poc


def _list_vectors(
    clip: ClipPriors, ref_list: int, deltas: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    valid = clip.arrays[f"ref_poc_delta_l{ref_list}"][1:] == deltas
    mv = clip.arrays[f"mv_l{ref_list}"][1:].astype(np.float32)
    mv *= np.float32(1 / clip.stream.mv_scale)
    mv[~valid] = 0
    return mv, valid


def compose(
    mv: NDArray[np.float32], valid: NDArray[np.bool_], stride: int, box: Box
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Join vectors between neighbours to vectors over several frames.

    Parameters
    ----------
    mv : ndarray, shape (N * stride, Hg, Wg, 2), float32
        Vectors from each frame to the one before it, over the whole coded picture, in the order of the clip.
    valid : ndarray, shape (N * stride, Hg, Wg), bool
        Where there is one.
    stride : int
        Frames from one end of a chain to the other.
    box : Box
        Part of the coded picture to return vectors for.

    Returns
    -------
    mv : ndarray, shape (N, hg, wg, 2), float32
        From every ``stride``-th frame to the one ``stride`` frames before it; 0 where not valid.
    valid : ndarray, shape (N, hg, wg), bool
        False where a link of the chain is missing or it leaves the picture.
    """
    rows, cols = box.grid_slices
    height, width = valid.shape[1:]
    # Links in the order in which they are followed, from the later frame to the earlier.
    links = mv.reshape(-1, stride, height, width, 2)[:, ::-1]
    present = valid.reshape(-1, stride, height, width)[:, ::-1]
    path, whole = links[:, 0, rows, cols].copy(), present[:, 0, rows, cols].copy()
    cells = np.stack(np.meshgrid(np.arange(cols.start, cols.stop), np.arange(rows.start, rows.stop)), axis=-1)
    centres = (CELL * cells + CELL // 2).astype(np.float32)
    pair = np.arange(len(links))[:, None, None]
    for link in range(1, stride):
        column, row = np.moveaxis(np.floor((centres + path) / CELL).astype(np.int64), -1, 0)
        whole &= (row >= 0) & (row < height) & (column >= 0) & (column < width)
        row, column = row.clip(0, height - 1), column.clip(0, width - 1)
        whole &= present[pair, link, row, column]
        path += links[pair, link, row, column]
    path[~whole] = 0
    return path, whole
