"""Clips with priors, turned, cropped and reversed as a whole: frames, vectors, masks and residual stay in step.

Everything is stored per clip as (T, rows, columns, ...), frames and residual at one value per sample, vectors and masks
at one per 4x4 cell, planes that were packed with frames at one per 8x8 samples. Where the picture turns, vectors turn
with it; where time is reversed, forward and backward change places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL, PLANE_CELL
from codecprior.core.stream import Box
from codecprior.errors import ConfigError

__all__ = ["Clip", "DirectionPriors", "Orientation", "plane_slices"]


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """One of the eight ways to lay a picture on its grid.

    Parameters
    ----------
    transpose : bool
        Whether rows and columns change places; comes first.
    hflip : bool
        Whether left and right change places.
    vflip : bool
        Whether top and bottom change places.
    """

    transpose: bool = False
    hflip: bool = False
    vflip: bool = False

    @classmethod
    def rotation(cls, quarter_turns: int) -> Orientation:
        """Turn clockwise by a number of quarter turns."""
        quarter = cls(transpose=True, hflip=True)
        turned = cls()
        for _ in range(quarter_turns % 4):
            turned = turned.then(quarter)
        return turned

    def then(self, other: Orientation) -> Orientation:
        """Return the orientation that does what this one does and then what the other one does."""
        # A flip before a transposition is the other flip after it.
        first = (self.vflip, self.hflip) if other.transpose else (self.hflip, self.vflip)
        return Orientation(
            transpose=self.transpose != other.transpose,
            hflip=first[0] != other.hflip,
            vflip=first[1] != other.vflip,
        )

    @property
    def inverse(self) -> Orientation:
        """The orientation that undoes this one."""
        return replace(self, hflip=self.vflip, vflip=self.hflip) if self.transpose else self

    def planes(self, array: NDArray[Any]) -> NDArray[Any]:
        """Turn values that know no direction.

        Parameters
        ----------
        array : ndarray, shape (T, rows, columns, ...)
            Frames, masks or residual.

        Returns
        -------
        ndarray
            View on the same memory.
        """
        if self.transpose:
            array = array.swapaxes(1, 2)
        return array[:, :: -1 if self.vflip else 1, :: -1 if self.hflip else 1]

    def vectors(self, mv: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn vectors: where they lie and where they point.

        Parameters
        ----------
        mv : ndarray, shape (T, rows, columns, 2), float32
            (x, y).

        Returns
        -------
        ndarray, float32
            Vectors of the turned picture, in memory of their own.
        """
        turned = self.planes(mv)
        signs = np.array([-1 if self.hflip else 1, -1 if self.vflip else 1], np.float32)
        return (turned[..., ::-1] if self.transpose else turned) * signs


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DirectionPriors:
    """What the codec knew when it predicted each frame of a clip from the one before it, or from the one after it.

    Parameters
    ----------
    mv : ndarray, shape (T, Hg, Wg, 2), float32
        (x, y) in samples from each 4x4 cell to the neighbouring frame of the clip: neighbour = current + mv. 0 where
        there is none.
    valid : ndarray, shape (T, Hg, Wg), bool
        Where there is a vector, and it refers to that very frame. False in the frame that has no such neighbour.
    intra : ndarray, shape (T, Hg, Wg), bool
        Cells that were predicted from their own frame.
    missing : ndarray, shape (T, Hg, Wg), bool
        Cells of frames that the decoder gave no priors for.
    residual : ndarray, shape (T, H, W, C), float32, optional
        What the prediction of each frame left over, normalised: luma, or luma and both chroma planes at the size of
        luma. It is that of the coded frame also where vectors were joined over several.
    """

    mv: NDArray[np.float32]
    valid: NDArray[np.bool_]
    intra: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    residual: NDArray[np.float32] | None = None

    def map(self, grid: Callable[[Any], Any], plane: Callable[[Any], Any]) -> DirectionPriors:
        """Return new priors with one function applied to what lies on the grid and one to the residual."""
        return DirectionPriors(
            mv=grid(self.mv),
            valid=grid(self.valid),
            intra=grid(self.intra),
            missing=grid(self.missing),
            residual=None if self.residual is None else plane(self.residual),
        )

    def backwards(self) -> DirectionPriors:
        """Return the frames in reverse order: views on the same memory."""
        return self.map(_backwards, _backwards)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Clip:
    """Consecutive frames, or every n-th one, with their priors.

    Parameters
    ----------
    blurry : ndarray, shape (T, H, W, 3), uint8 or uint16, optional
        R'G'B' of the degraded side, full range.
    sharp : ndarray, shape (T, H, W, 3), uint8 or uint16, optional
        R'G'B' of the other side.
    forward : DirectionPriors
        Vectors from frame t to frame t - 1 of the clip.
    backward : DirectionPriors, optional
        Vectors from frame t to frame t + 1, and the modes and residual of the pass that they come from.
    frame_indices : tuple of int
        Position of each frame in its sequence.
    planes : mapping of str to ndarray, shape (T, ceil(H/8), ceil(W/8), C)
        What else is packed with the frames, by name: values of 8x8 samples that know no direction.
    """

    blurry: NDArray[Any] | None
    sharp: NDArray[Any] | None
    forward: DirectionPriors
    backward: DirectionPriors | None
    frame_indices: tuple[int, ...]
    planes: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame_indices)

    def __repr__(self) -> str:
        width, height = self.size
        return f"Clip({len(self)} frames, {width}x{height})"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in samples; those of whole cells if neither frames nor residual were read."""
        for samples in (self.blurry, self.sharp, self.forward.residual):
            if samples is not None:
                return samples.shape[2], samples.shape[1]
        rows, columns = self.forward.mv.shape[1:3]
        return columns * CELL, rows * CELL

    def crop(self, x: int, y: int, width: int, height: int) -> Clip:
        """Return a part of the picture.

        Parameters
        ----------
        x, y : int
            Left and top in samples, multiples of 4, or of 8 with planes.
        width, height : int
            Size in samples.

        Returns
        -------
        Clip
            Views on the same memory. Vectors may point to samples outside of it.

        Raises
        ------
        ConfigError
            If the part sticks out or does not begin at a cell.
        """
        multiple = self._multiple
        if x % multiple or y % multiple:
            raise ConfigError(f"crop origin ({x}, {y}) lies inside a cell; use multiples of {multiple}")
        box = Box(0, 0, *self.size).within(Box(x, y, width, height))
        rows, cols = box.plane_slices()
        grid_rows, grid_cols = box.grid_slices
        plane_rows, plane_cols = plane_slices(box)
        return self._map(
            lambda array: array[:, rows, cols],
            lambda priors: priors.map(lambda array: array[:, grid_rows, grid_cols], lambda array: array[:, rows, cols]),
            lambda array: array[:, plane_rows, plane_cols],
        )

    def oriented(self, orientation: Orientation) -> Clip:
        """Turn the picture.

        Parameters
        ----------
        orientation : Orientation
            How.

        Returns
        -------
        Clip
            Views on the same memory, except vectors.

        Raises
        ------
        ConfigError
            If the size is no multiple of 4, or of 8 with planes: turned, the cells would begin between two of the grid.
        """
        if orientation == Orientation():
            return self
        width, height = self.size
        if width % self._multiple or height % self._multiple:
            raise ConfigError(f"a clip of {width}x{height} cannot be turned; crop it to multiples of {self._multiple}")
        return self._map(
            orientation.planes,
            lambda priors: replace(
                priors.map(orientation.planes, orientation.planes), mv=orientation.vectors(priors.mv)
            ),
            orientation.planes,
        )

    def time_reversed(self) -> Clip:
        """Let the clip run backwards: what pointed to the next frame now points to the previous one.

        Returns
        -------
        Clip
            Views on the same memory.

        Raises
        ------
        ConfigError
            If there are no backward vectors.
        """
        if self.backward is None:
            raise ConfigError("a clip without backward vectors cannot be reversed; read it with backward=True")
        flipped = self._map(_backwards, DirectionPriors.backwards, _backwards)
        assert flipped.backward is not None
        return replace(
            flipped,
            forward=flipped.backward,
            backward=flipped.forward,
            frame_indices=self.frame_indices[::-1],
        )

    @property
    def _multiple(self) -> int:
        return PLANE_CELL if self.planes else CELL

    def _map(
        self,
        frames: Callable[[NDArray[Any]], NDArray[Any]],
        priors: Callable[[DirectionPriors], DirectionPriors],
        planes: Callable[[NDArray[Any]], NDArray[Any]],
    ) -> Clip:
        return replace(
            self,
            blurry=None if self.blurry is None else frames(self.blurry),
            sharp=None if self.sharp is None else frames(self.sharp),
            forward=priors(self.forward),
            backward=None if self.backward is None else priors(self.backward),
            planes={name: planes(array) for name, array in self.planes.items()},
        )


def plane_slices(box: Box) -> tuple[slice, slice]:
    """Return the rows and columns of planes that a box covers, whose left and top are multiples of 8."""
    return (
        slice(box.y // PLANE_CELL, -(-(box.y + box.height) // PLANE_CELL)),
        slice(box.x // PLANE_CELL, -(-(box.x + box.width) // PLANE_CELL)),
    )


def _backwards(array: NDArray[Any]) -> NDArray[Any]:
    return array[::-1]
