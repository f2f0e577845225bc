"""From dense maps back to blocks: the coding units of a frame, cut into rectangles of equal value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL, CodingFlag
from codecprior.core.priors import FramePriors

__all__ = ["BLOCK_DTYPE", "block_pixels", "coding_unit_labels", "uniform_blocks"]

BLOCK_DTYPE = np.dtype([("row", "i4"), ("col", "i4"), ("height", "i4"), ("width", "i4")])
"""A rectangle of grid cells."""


def coding_unit_labels(coding_flags: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Tell the coding units apart.

    Parameters
    ----------
    coding_flags : ndarray, shape (Hg, Wg), uint8
        Flags with the edge bits of :class:`~codecprior.core.arrays.CodingFlag`. A unit that the edge of the array
        cuts is numbered like a whole one.

    Returns
    -------
    ndarray, shape (Hg, Wg), int64
        Cell index (row * Wg + col) of the first cell of the unit that each cell belongs to.
    """
    height, width = coding_flags.shape
    rows, cols = np.arange(height)[:, None], np.arange(width)[None, :]
    left = (coding_flags & CodingFlag.LEFT_EDGE).astype(bool)
    top = (coding_flags & CodingFlag.TOP_EDGE).astype(bool)
    first_col = np.maximum.accumulate(np.where(left, cols, 0), axis=1)
    first_row = np.maximum.accumulate(np.where(top, rows, 0), axis=0)
    labels: NDArray[np.int64] = first_row.astype(np.int64) * width + first_col
    return labels


def uniform_blocks(maps: Sequence[NDArray[Any]]) -> NDArray[np.void]:
    """Cut a grid into rectangles inside which every map has one value.

    Runs of equal cells in a row are joined with an equal run of the same extent in the row above, so that a region
    that is a rectangle becomes one block.

    Parameters
    ----------
    maps : sequence of ndarray, shape (Hg, Wg) or (Hg, Wg, C)
        Maps that must all be constant inside a block.

    Returns
    -------
    ndarray, shape (N,), BLOCK_DTYPE
        The blocks in raster order of their first cell. They cover each cell once.
    """
    height, width = maps[0].shape[:2]
    same_left = np.ones((height, width), bool)
    same_above = np.ones((height, width), bool)
    same_left[:, 0] = False
    same_above[0] = False
    for values in maps:
        for plane in np.moveaxis(np.atleast_3d(values), -1, 0):
            same_left[:, 1:] &= plane[:, 1:] == plane[:, :-1]
            same_above[1:] &= plane[1:] == plane[:-1]

    starts = ~same_left
    next_start = np.minimum.accumulate(np.where(starts, np.arange(width), width)[:, ::-1], axis=1)[:, ::-1]
    stop = np.full((height, width), width)
    stop[:, :-1] = next_start[:, 1:]
    joined = np.zeros((height, width), bool)
    joined[1:] = starts[1:] & starts[:-1] & (stop[1:] == stop[:-1]) & same_above[1:]

    cols, rows = np.nonzero(starts.T)  # column by column, so that a block's runs follow each other
    first = ~joined[rows, cols]
    blocks = np.zeros(int(first.sum()), BLOCK_DTYPE)
    blocks["row"], blocks["col"] = rows[first], cols[first]
    blocks["height"] = np.bincount(np.cumsum(first) - 1)
    blocks["width"] = stop[rows[first], cols[first]] - cols[first]
    return blocks[np.lexsort((blocks["col"], blocks["row"]))]


def block_pixels(frame: FramePriors, blocks: NDArray[np.void]) -> NDArray[np.int32]:
    """Convert rectangles of cells to luma samples, cut at the edges of the frame.

    Parameters
    ----------
    frame : FramePriors
        The frame that the blocks belong to.
    blocks : ndarray, shape (N,), BLOCK_DTYPE
        Rectangles of cells.

    Returns
    -------
    ndarray, shape (N, 4), int32
        x, y, width, height relative to the frame.
    """
    box = frame.box
    left = (blocks["col"] + box.x // CELL) * CELL - box.x
    top = (blocks["row"] + box.y // CELL) * CELL - box.y
    right = np.minimum(left + blocks["width"] * CELL, box.width)
    bottom = np.minimum(top + blocks["height"] * CELL, box.height)
    left, top = np.maximum(left, 0), np.maximum(top, 0)
    return np.stack([left, top, right - left, bottom - top], axis=1).astype(np.int32)
