"""The arrays that describe a coded frame: names, dtypes, shapes and fill values (store format 1).

The tracing decoder, the store and :class:`~codecprior.core.priors.FramePriors` all take the table from here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = [
    "ARRAYS",
    "CELL",
    "FRAME_ARRAYS",
    "GRID_ARRAYS",
    "PICTURE_ARRAYS",
    "PLANE_CELL",
    "REF_NONE",
    "RESIDUAL_ARRAYS",
    "ArrayKind",
    "ArraySpec",
    "CodingFlag",
    "PictureType",
    "PredMode",
]

CELL: Final = 4
"""Side of a grid cell in luma samples: the smallest VVC coding block."""

PLANE_CELL: Final = 8
"""Side in samples of what one value of the planes that are packed with frames stands for: that of a latent."""

REF_NONE: Final = -32768
"""Value of ``ref_poc_delta`` where the block does not use the list."""


class PredMode(enum.IntEnum):
    """Values of ``pred_mode`` (VVdeC's and VTM's numbering)."""

    INTER = 0
    INTRA = 1
    IBC = 2
    PALETTE = 3
    NONE = 255
    """The decoder gave no priors for this frame (a concealed picture)."""


class CodingFlag(enum.IntFlag):
    """Bits of ``coding_flags``."""

    SKIP = 1
    MERGE = 2
    AFFINE = 4
    GEO = 8
    CIIP = 16
    RESIDUAL = 32
    """The luma transform block has coded coefficients (cbf)."""
    LEFT_EDGE = 64
    """The cell lies at the left edge of its coding unit."""
    TOP_EDGE = 128
    """The cell lies at the top edge of its coding unit."""


class PictureType(enum.IntEnum):
    """Values of ``picture_type``."""

    I = 0  # noqa: E741 - the field's name for it
    P = 1
    B = 2


class ArrayKind(enum.Enum):
    """What the axes of an array count."""

    GRID = "grid"
    """One value per 4x4 luma cell: (T, Hg, Wg) or (T, Hg, Wg, 2)."""
    PLANE = "plane"
    """One value per sample of a colour plane: (T, H, W)."""
    PICTURE = "picture"
    """One value per frame: (T,)."""


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """One array of the format.

    Parameters
    ----------
    name : str
        Name in the store and on :class:`~codecprior.core.priors.FramePriors`.
    kind : ArrayKind
        What the axes count.
    dtype : numpy.dtype
        Element type. Motion vectors become int32, decoded frames uint16, where a stream needs it.
    fill : int or float
        Value of cells that nothing was written to.
    components : int
        Length of the last axis, 1 for none.
    plane : {"y", "u", "v"}, optional
        Colour plane, for arrays of kind ``PLANE``.
    """

    name: str
    kind: ArrayKind
    dtype: np.dtype[np.generic]
    fill: float = 0
    components: int = 1
    plane: str = ""


def _grid(name: str, dtype: str, fill: int = 0, components: int = 1) -> ArraySpec:
    return ArraySpec(name=name, kind=ArrayKind.GRID, dtype=np.dtype(dtype), fill=fill, components=components)


def _plane(name: str, dtype: str) -> ArraySpec:
    return ArraySpec(name=name, kind=ArrayKind.PLANE, dtype=np.dtype(dtype), plane=name[-1])


def _picture(name: str, dtype: str) -> ArraySpec:
    return ArraySpec(name=name, kind=ArrayKind.PICTURE, dtype=np.dtype(dtype))


GRID_ARRAYS: Final = (
    _grid("mv_l0", "int16", components=2),
    _grid("mv_l1", "int16", components=2),
    _grid("ref_poc_delta_l0", "int16", fill=REF_NONE),
    _grid("ref_poc_delta_l1", "int16", fill=REF_NONE),
    _grid("pred_mode", "uint8", fill=PredMode.NONE),
    _grid("coding_flags", "uint8"),
    _grid("cu_size", "uint8"),
    _grid("qp", "int8"),
)
"""Arrays on the 4x4 grid, in the order of the store format."""

RESIDUAL_ARRAYS: Final = tuple(_plane(f"residual_{plane}", "int16") for plane in "yuv")
"""Residual planes."""

FRAME_ARRAYS: Final = tuple(_plane(f"frame_{plane}", "uint8") for plane in "yuv")
"""Decoded pictures, stored only on request; uint16 above 8 bit."""

PICTURE_ARRAYS: Final = (
    _picture("poc", "int32"),
    _picture("decode_order", "int32"),
    _picture("cvs", "int32"),
    _picture("picture_type", "uint8"),
    _picture("slice_qp", "int8"),
    _picture("coded_size_bytes", "uint32"),
    _picture("lmcs", "uint8"),
    _picture("pts_seconds", "float64"),
)
"""Arrays with one value per frame."""

ARRAYS: Final = {spec.name: spec for spec in (*GRID_ARRAYS, *RESIDUAL_ARRAYS, *FRAME_ARRAYS, *PICTURE_ARRAYS)}
"""All arrays by name."""
