"""The coding priors of one frame and the questions asked of them: motion in pixels, references, coding units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import ARRAYS, CELL, FRAME_ARRAYS, GRID_ARRAYS, REF_NONE, RESIDUAL_ARRAYS, CodingFlag
from codecprior.core.stream import Box, PictureInfo, StreamInfo
from codecprior.errors import ConfigError

__all__ = ["CU_DTYPE", "Flow", "FramePriors"]

CU_DTYPE = np.dtype(
    [
        ("x", "i4"),
        ("y", "i4"),
        ("width", "i4"),
        ("height", "i4"),
        ("pred_mode", "u1"),
        ("coding_flags", "u1"),
        ("qp", "i1"),
        ("ref_poc_delta_l0", "i2"),
        ("ref_poc_delta_l1", "i2"),
        ("mv_l0", "i4", (2,)),
        ("mv_l1", "i4", (2,)),
    ]
)
"""One row per coding unit. ``x``, ``y`` in luma samples of the box, vectors in ``mv_scale`` units at its first cell."""


class Flow(NamedTuple):
    """Dense motion.

    Parameters
    ----------
    displacement : ndarray, shape (H, W, 2), float32
        (x, y) from each sample of this frame to its reference, in luma samples; 0 where not valid.
    valid : ndarray, shape (H, W), bool
        Where the block has a vector in the requested list.
    """

    displacement: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class FramePriors:
    """What the decoder knew about one frame, or about a crop of it.

    Grid arrays have one value per 4x4 luma cell and cover every cell that ``box`` touches; planes cover exactly
    ``box``. Arrays that were not asked for are None.

    Parameters
    ----------
    stream : StreamInfo
        Facts of the stream.
    picture : PictureInfo
        Facts of this picture.
    frame_index : int
        Position in display order.
    box : Box
        The part of the coded picture that the arrays cover.
    reference_frames : mapping of int to int
        Frame index of each picture order count that this frame can refer to.
    mv_l0, mv_l1 : ndarray, shape (Hg, Wg, 2), int16 or int32
        Motion vector (x, y) in 1/``mv_scale`` luma samples; reference = current + mv. 0 where the list is unused.
    ref_poc_delta_l0, ref_poc_delta_l1 : ndarray, shape (Hg, Wg), int16
        POC of the reference minus POC of this picture; -32768 where the list is unused.
    pred_mode, coding_flags, cu_size : ndarray, shape (Hg, Wg), uint8
        See :class:`~codecprior.core.arrays.PredMode` and :class:`~codecprior.core.arrays.CodingFlag`;
        ``cu_size`` is ``log2(width) << 4 | log2(height)``.
    qp : ndarray, shape (Hg, Wg), int8
        Luma quantisation parameter.
    residual_y, residual_u, residual_v : ndarray, shape (H, W), int16
        Decoded residual at the stream's bit depth, before prediction is added and before in-loop filters.
    frame_y, frame_u, frame_v : ndarray, shape (H, W), uint8 or uint16
        Decoded picture.
    """

    stream: StreamInfo
    picture: PictureInfo
    frame_index: int
    box: Box
    reference_frames: Mapping[int, int] = field(default_factory=dict)
    mv_l0: NDArray[Any] | None = None
    mv_l1: NDArray[Any] | None = None
    ref_poc_delta_l0: NDArray[np.int16] | None = None
    ref_poc_delta_l1: NDArray[np.int16] | None = None
    pred_mode: NDArray[np.uint8] | None = None
    coding_flags: NDArray[np.uint8] | None = None
    cu_size: NDArray[np.uint8] | None = None
    qp: NDArray[np.int8] | None = None
    residual_y: NDArray[np.int16] | None = None
    residual_u: NDArray[np.int16] | None = None
    residual_v: NDArray[np.int16] | None = None
    frame_y: NDArray[Any] | None = None
    frame_u: NDArray[Any] | None = None
    frame_v: NDArray[Any] | None = None

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in self.arrays().items())
        kind = self.picture.picture_type.name
        return f"FramePriors(frame {self.frame_index}, {kind}, poc {self.picture.poc}, {shapes or 'no arrays'})"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in luma samples."""
        return self.box.width, self.box.height

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that are present, by name."""
        names = (spec.name for spec in (*GRID_ARRAYS, *RESIDUAL_ARRAYS, *FRAME_ARRAYS))
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def require(self, name: str) -> NDArray[Any]:
        """Return an array, or say that it was not read.

        Parameters
        ----------
        name : str
            Name of the array.

        Returns
        -------
        ndarray
            The array.

        Raises
        ------
        ConfigError
            If the frame was read without it, or there is no such array.
        """
        arrays = self.arrays()
        if name not in arrays:
            have = ", ".join(arrays) or "no arrays"
            raise ConfigError(f"frame {self.frame_index} was read without {name!r}; it has {have}")
        return arrays[name]

    def crop(self, x: int, y: int, width: int, height: int) -> FramePriors:
        """Return the priors of a rectangle.

        Parameters
        ----------
        x, y : int
            Left and top in luma samples, relative to this frame or crop.
        width, height : int
            Size in luma samples.

        Returns
        -------
        FramePriors
            Views on the same memory.

        Raises
        ------
        ConfigError
            If the rectangle sticks out, or starts between two samples of a chroma plane that the frame has.
        """
        inner = Box(x, y, width, height)
        box = self.box.within(inner)
        cells = _relative(box.grid_slices, self.box.grid_slices)
        changes: dict[str, Any] = {"box": box}
        for name, array in self.arrays().items():
            plane = ARRAYS[name].plane
            changes[name] = array[inner.plane_slices(self.stream.subsampling(plane)) if plane else cells]
        return dataclasses.replace(self, **changes)

    def mv_pixels(self, ref_list: int = 0) -> NDArray[np.float32]:
        """Motion vectors in luma samples with their fraction.

        Parameters
        ----------
        ref_list : {0, 1}
            Reference list.

        Returns
        -------
        ndarray, shape (Hg, Wg, 2), float32
            (x, y); 0 where the list is unused.
        """
        return self.require(f"mv_l{ref_list}").astype(np.float32) / np.float32(self.stream.mv_scale)

    def mv_integer(self, ref_list: int = 0) -> NDArray[np.int32]:
        """Integer part of the motion vectors, rounded down: what addresses the reference sample.

        Parameters
        ----------
        ref_list : {0, 1}
            Reference list.

        Returns
        -------
        ndarray, shape (Hg, Wg, 2), int32
            (x, y) in luma samples.
        """
        return self.require(f"mv_l{ref_list}").astype(np.int32) // self.stream.mv_scale

    def mv_fraction(self, ref_list: int = 0) -> NDArray[np.uint8]:
        """Sub-sample part of the motion vectors: what selects the interpolation filter.

        Parameters
        ----------
        ref_list : {0, 1}
            Reference list.

        Returns
        -------
        ndarray, shape (Hg, Wg, 2), uint8
            (x, y) in 1/``mv_scale`` samples, 0 to ``mv_scale`` - 1; vector = integer * mv_scale + fraction.
        """
        return (self.require(f"mv_l{ref_list}") % self.stream.mv_scale).astype(np.uint8)

    def uses_list(self, ref_list: int = 0) -> NDArray[np.bool_]:
        """Where blocks have a vector in a list.

        Parameters
        ----------
        ref_list : {0, 1}
            Reference list.

        Returns
        -------
        ndarray, shape (Hg, Wg), bool
            True where the list is used.
        """
        used: NDArray[np.bool_] = self.require(f"ref_poc_delta_l{ref_list}") != REF_NONE
        return used

    def ref_frame_index(self, ref_list: int = 0) -> NDArray[np.int32]:
        """Frame index of each block's reference.

        Parameters
        ----------
        ref_list : {0, 1}
            Reference list.

        Returns
        -------
        ndarray, shape (Hg, Wg), int32
            Index in display order; -1 where the list is unused or the reference was never output.
        """
        delta = self.require(f"ref_poc_delta_l{ref_list}")
        index = np.full(delta.shape, -1, np.int32)
        for value in np.unique(delta):
            if value != REF_NONE:
                index[delta == value] = self.reference_frames.get(self.picture.poc + int(value), -1)
        return index

    def flow(self, ref_list: int | str = 0) -> Flow:
        """Dense motion in pixels.

        Parameters
        ----------
        ref_list : {0, 1, "mean"}
            Reference list. ``"mean"`` takes the mean of both vectors where a block uses both lists with the same
            reference, its list 0 where the references differ, and the one vector where it uses one list.

        Returns
        -------
        Flow
            Displacement (H, W, 2) float32 and validity mask (H, W).
        """
        grid = self.flow_grid(ref_list)
        return Flow(self.expand(grid.displacement), self.expand(grid.valid))

    def flow_grid(self, ref_list: int | str = 0) -> Flow:
        """Motion in pixels, one vector per 4x4 cell: a sixteenth of :meth:`flow`.

        Parameters
        ----------
        ref_list : {0, 1, "mean"}
            As for :meth:`flow`.

        Returns
        -------
        Flow
            Displacement (Hg, Wg, 2) float32 and validity mask (Hg, Wg).
        """
        if ref_list == "mean":
            first, second = self.uses_list(0), self.uses_list(1)
            same = self.require("ref_poc_delta_l0") == self.require("ref_poc_delta_l1")
            both = (first & second & same)[..., None]
            l0, l1 = self.mv_pixels(0), self.mv_pixels(1)
            grid = np.where(both, (l0 + l1) / 2, np.where(first[..., None], l0, l1))
            valid = first | second
        elif ref_list in (0, 1):
            grid, valid = self.mv_pixels(int(ref_list)), self.uses_list(int(ref_list))
        else:
            raise ConfigError(f"reference list {ref_list!r}: use 0, 1 or 'mean'")
        return Flow(np.where(valid[..., None], grid, np.float32(0)), valid)

    def expand(self, grid: NDArray[Any]) -> NDArray[Any]:
        """Repeat a grid array so that it has one value per luma sample of the box.

        Parameters
        ----------
        grid : ndarray, shape (Hg, Wg) or (Hg, Wg, C)
            Values per 4x4 cell.

        Returns
        -------
        ndarray, shape (H, W) or (H, W, C)
            Values per luma sample.
        """
        top, left = self.box.y % CELL, self.box.x % CELL
        dense = grid.repeat(CELL, axis=0).repeat(CELL, axis=1)
        return dense[top : top + self.box.height, left : left + self.box.width]

    def coding_units(self) -> NDArray[np.void]:
        """List the coding units whose first cell the box touches, in raster order of that cell.

        Returns
        -------
        ndarray, shape (N,), CU_DTYPE
            Position relative to the box (up to 3 samples outside), size, mode, flags (edge bits removed), QP,
            references and vectors.
        """
        edges = CodingFlag.LEFT_EDGE | CodingFlag.TOP_EDGE
        flags = self.require("coding_flags")
        rows, cols = np.nonzero((flags & edges) == edges)
        units = np.zeros(len(rows), CU_DTYPE)
        size = self.require("cu_size")[rows, cols]
        units["x"] = (cols + self.box.x // CELL) * CELL - self.box.x
        units["y"] = (rows + self.box.y // CELL) * CELL - self.box.y
        units["width"] = 1 << (size >> 4).astype(np.int32)
        units["height"] = 1 << (size & 15).astype(np.int32)
        units["coding_flags"] = flags[rows, cols] & ~np.uint8(edges)
        for name in ("pred_mode", "qp", "ref_poc_delta_l0", "ref_poc_delta_l1", "mv_l0", "mv_l1"):
            units[name] = self.require(name)[rows, cols]
        return units


def _relative(inner: tuple[slice, slice], outer: tuple[slice, slice]) -> tuple[slice, slice]:
    """Rows and columns of ``inner``, counted from the first of ``outer``."""
    rows, cols = (
        slice(part.start - whole.start, part.stop - whole.start) for part, whole in zip(inner, outer, strict=True)
    )
    return rows, cols
