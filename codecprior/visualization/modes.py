"""How each block was predicted, as one category: the classes that people tell apart when they read a VVC picture."""

from __future__ import annotations

import enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CodingFlag, PredMode
from codecprior.core.priors import FramePriors

__all__ = ["MODE_COLORS", "MODE_LABELS", "BlockMode", "block_modes"]


class BlockMode(enum.IntEnum):
    """Categories of blocks, in the order of legends."""

    INTRA = 0
    SKIP = 1
    """Merged motion, no residual."""
    MERGE = 2
    AMVP = 3
    """Motion coded as predictor plus difference."""
    AFFINE = 4
    GEO = 5
    """Geometric partitioning."""
    CIIP = 6
    """Combined inter and intra prediction."""
    IBC = 7
    """Intra block copy, and palette, which takes its place in screen content."""
    NONE = 8
    """The decoder gave no priors."""


MODE_LABELS: Final = {
    BlockMode.INTRA: "intra",
    BlockMode.SKIP: "inter skip",
    BlockMode.MERGE: "merge",
    BlockMode.AMVP: "AMVP",
    BlockMode.AFFINE: "affine",
    BlockMode.GEO: "GEO",
    BlockMode.CIIP: "CIIP",
    BlockMode.IBC: "IBC",
    BlockMode.NONE: "no priors",
}
"""Short names for legends."""

MODE_COLORS: Final = np.array(
    [
        (213, 94, 0),
        (86, 180, 233),
        (0, 96, 170),
        (0, 158, 115),
        (240, 228, 66),
        (238, 160, 24),
        (204, 121, 167),
        (236, 232, 226),
        (52, 54, 60),
    ],
    np.uint8,
)
"""Colour of each :class:`BlockMode`, shape (9, 3), after Okabe and Ito's palette for all kinds of colour vision."""


def block_modes(priors: FramePriors) -> NDArray[np.uint8]:
    """Sort cells into :class:`BlockMode`.

    A block with several tools counts as the one that shapes its prediction most: CIIP, then GEO, affine, skip, merge.

    Parameters
    ----------
    priors : FramePriors
        With ``pred_mode`` and ``coding_flags``.

    Returns
    -------
    ndarray, shape (Hg, Wg), uint8
        Values of :class:`BlockMode`.
    """
    mode, flags = priors.require("pred_mode"), priors.require("coding_flags")
    inter = mode == PredMode.INTER
    conditions = [
        mode == PredMode.INTRA,
        (mode == PredMode.IBC) | (mode == PredMode.PALETTE),
        ~inter,
        (flags & CodingFlag.CIIP) != 0,
        (flags & CodingFlag.GEO) != 0,
        (flags & CodingFlag.AFFINE) != 0,
        (flags & CodingFlag.SKIP) != 0,
        (flags & CodingFlag.MERGE) != 0,
    ]
    values = [
        BlockMode.INTRA,
        BlockMode.IBC,
        BlockMode.NONE,
        BlockMode.CIIP,
        BlockMode.GEO,
        BlockMode.AFFINE,
        BlockMode.SKIP,
        BlockMode.MERGE,
    ]
    return np.select(conditions, [int(value) for value in values], int(BlockMode.AMVP)).astype(np.uint8)
