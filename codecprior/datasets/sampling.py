"""Which clip, which part of it, laid out how: drawn from a seed for training, in order for evaluation.

Sample ``i`` of epoch ``e`` depends on the seed, ``e`` and ``i`` alone: any process can draw it, and an interrupted
epoch continues with exactly the samples that are left. Only the lengths of sequences are needed, and the manifest has
them: no store is opened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL
from codecprior.datasets.geometry import Orientation
from codecprior.datasets.manifest import ManifestEntry
from codecprior.errors import ConfigError

__all__ = ["ClipRequest", "ClipSampler", "MixedClips", "RandomClips", "Sampling", "Windows"]


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """One sample: what to read and how to lay it out.

    Parameters
    ----------
    sequence : int
        Position of the sequence in the manifest.
    frames : range
        Its frames in the order of the clip; falling for a clip that runs backwards.
    crop : tuple of int, optional
        Width and height to read, in samples; whole pictures if not given.
    position : tuple of float
        Where the crop lies, (x, y) from 0 to below 1: from the first to the last place that begins at a multiple.
    multiple : int
        Samples from one such place to the next, in both directions; a multiple of 4, which is a cell.
    orientation : Orientation
        How to lay out what was read.
    """

    sequence: int
    frames: range
    crop: tuple[int, int] | None = None
    position: tuple[float, float] = (0.0, 0.0)
    multiple: int = CELL
    orientation: Orientation = field(default_factory=Orientation)


class Sampling(ABC):
    """The samples of each epoch, by number."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples of an epoch."""

    @abstractmethod
    def request(self, index: int, epoch: int = 0) -> ClipRequest:
        """Return a sample.

        Parameters
        ----------
        index : int
            Number of the sample within the epoch.
        epoch : int
            Number of the epoch.

        Returns
        -------
        ClipRequest
            What to read.
        """

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return what decides the samples, as JSON values."""


class RandomClips(Sampling):
    """Clips for training: an epoch begins once at every frame where a clip fits, in an order and layout of its own.

    Parameters
    ----------
    entries : sequence of ManifestEntry
        The sequences.
    num_frames : int
        Frames of a clip.
    crop : int or tuple of int, optional
        Size of the samples as they come out, (width, height) or the side of a square, multiples of 4; whole pictures
        if None.
    flips : bool
        Whether half of the clips are flipped left to right, and half top to bottom.
    transpose : bool
        Whether rows and columns change places in half of the clips: with flips, all eight orientations are drawn.
        Whole pictures come out in both shapes then, which do not fit into one batch unless they are square.
    time_reversal : bool
        Whether half of the clips run backwards; needs stores that were extracted with ``--directions both``.
    strides : sequence of int
        Steps from frame to frame to draw from; where one does not fit into a sequence, from the others.
    multiple : int
        What crops begin at multiples of, in samples; a multiple of 4.
    seed : int
        Start of all draws, 0 or more.

    Raises
    ------
    ConfigError
        If a value is out of range, or a sequence is too short for a clip.
    """

    def __init__(
        self,
        entries: Sequence[ManifestEntry],
        *,
        num_frames: int = 15,
        crop: int | tuple[int, int] | None = 256,
        flips: bool = True,
        transpose: bool = True,
        time_reversal: bool = False,
        strides: Sequence[int] = (1,),
        multiple: int = CELL,
        seed: int = 0,
    ) -> None:
        _require_entries(entries)
        if num_frames < 1:
            raise ConfigError(f"clips of {num_frames} frames: give 1 or more")
        if not strides or min(strides) < 1:
            raise ConfigError(f"strides {tuple(strides)}: give steps of 1 or more frames")
        if multiple < CELL or multiple % CELL:
            raise ConfigError(f"multiple {multiple}: give a multiple of {CELL}")
        if seed < 0:
            raise ConfigError(f"seed {seed}: give 0 or more")
        self._crop = (crop, crop) if isinstance(crop, int) else crop
        if self._crop is not None and any(side < CELL or side % CELL for side in self._crop):
            raise ConfigError(f"crop {self._crop[0]}x{self._crop[1]}: give multiples of {CELL}")
        self._num_frames, self._strides, self._multiple, self._seed = num_frames, sorted(set(strides)), multiple, seed
        self._flips, self._transpose, self._time_reversal = flips, transpose, time_reversal
        self._lengths = [entry.num_frames for entry in entries]
        shortest = self._span(self._strides[0])
        for entry in entries:
            if entry.num_frames < shortest:
                raise ConfigError(
                    f"sequence {entry.sequence} has {entry.num_frames} frames and a clip needs {shortest}; "
                    "use shorter clips or take it out of the manifest"
                )
        self._ends = np.cumsum([length - shortest + 1 for length in self._lengths])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def identity(self) -> dict[str, Any]:
        """Return what decides the samples; see :class:`Sampling`."""
        # Left out where it is the default, so that what was saved before there was a choice can be resumed.
        multiple = {} if self._multiple == CELL else {"multiple": self._multiple}
        return {
            "seed": self._seed,
            "lengths": self._lengths,
            "num_frames": self._num_frames,
            "crop": self._crop and list(self._crop),
            "flips": self._flips,
            "transpose": self._transpose,
            "time_reversal": self._time_reversal,
            "strides": self._strides,
            **multiple,
        }

    def request(self, index: int, epoch: int = 0) -> ClipRequest:
        """Draw a sample; see :class:`Sampling`."""
        place = int(_order(self._seed, epoch, len(self))[index])
        sequence = int(np.searchsorted(self._ends, place, side="right"))
        length = self._lengths[sequence]
        start = place - (int(self._ends[sequence - 1]) if sequence else 0)
        random = np.random.default_rng([self._seed, epoch, index])
        stride = int(random.choice([stride for stride in self._strides if self._span(stride) <= length]))
        if start + self._span(stride) > length:
            start = int(random.integers(length - self._span(stride) + 1))
        frames = range(start, start + self._span(stride), stride)
        position = float(random.random()), float(random.random())
        transposed, hflip, vflip, reversed_ = (bool(bit) for bit in random.integers(0, 2, 4))
        orientation = Orientation(
            transpose=self._transpose and transposed, hflip=self._flips and hflip, vflip=self._flips and vflip
        )
        crop = self._crop
        return ClipRequest(
            sequence=sequence,
            frames=frames[::-1] if self._time_reversal and reversed_ else frames,
            crop=(crop[1], crop[0]) if crop is not None and orientation.transpose else crop,
            position=position,
            multiple=self._multiple,
            orientation=orientation,
        )

    def _span(self, stride: int) -> int:
        """Frames from the first to the last of a clip."""
        return (self._num_frames - 1) * stride + 1


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


class MixedClips(Sampling):
    """Clips of two datasets in a fixed ratio, spread evenly: an epoch has each sample of the first one once.

    Parameters
    ----------
    first, second : Sampling
        Their samples.
    offset : int
        Position in the manifest of both where the sequences of the second one begin.
    share : float
        Of the samples, those of the second one; between 0 and 1.
    """

    def __init__(self, first: Sampling, second: Sampling, *, offset: int, share: float) -> None:
        self._first, self._second, self._offset, self._share = first, second, offset, share

    def __len__(self) -> int:
        return int(len(self._first) / (1 - self._share))

    def identity(self) -> dict[str, Any]:
        """Return what decides the samples; see :class:`Sampling`."""
        return {
            "first": dict(self._first.identity()),
            "second": dict(self._second.identity()),
            "offset": self._offset,
            "share": self._share,
        }

    def request(self, index: int, epoch: int = 0) -> ClipRequest:
        """Return a sample of one of them; see :class:`Sampling`."""
        before = int(index * self._share)
        if int((index + 1) * self._share) == before:
            return self._first.request(index - before, epoch)
        # The second one has epochs of its own.
        own, place = divmod(epoch * int(len(self) * self._share) + before, len(self._second))
        request = self._second.request(place, own)
        return replace(request, sequence=self._offset + request.sequence)


class Windows(Sampling):
    """Whole sequences, or windows over them, in order: every frame is in one, whole pictures as they are.

    Parameters
    ----------
    entries : sequence of ManifestEntry
        The sequences.
    num_frames : int, optional
        Frames of a window; whole sequences if not given. Shorter sequences are one window.
    step : int, optional
        Frames from the start of one window to the next; ``num_frames`` if not given. The last window of a sequence
        begins earlier where it would reach beyond the end.

    Raises
    ------
    ConfigError
        If a value is out of range, or windows would leave frames out.
    """

    def __init__(
        self, entries: Sequence[ManifestEntry], *, num_frames: int | None = None, step: int | None = None
    ) -> None:
        _require_entries(entries)
        if num_frames is not None and num_frames < 1:
            raise ConfigError(f"windows of {num_frames} frames: give 1 or more")
        if step is not None and not (num_frames is not None and 1 <= step <= num_frames):
            raise ConfigError(
                f"windows of {num_frames} frames every {step}: give a step from 1 to the frames of a window"
            )
        self._windows = [
            (sequence, window)
            for sequence, entry in enumerate(entries)
            for window in _windows(entry.num_frames, num_frames or entry.num_frames, step)
        ]

    def __len__(self) -> int:
        return len(self._windows)

    def identity(self) -> dict[str, Any]:
        """Return what decides the samples; see :class:`Sampling`."""
        return {"windows": [[sequence, window.start, window.stop] for sequence, window in self._windows]}

    def request(self, index: int, epoch: int = 0) -> ClipRequest:
        """Return a window, the same one in each epoch; see :class:`Sampling`."""
        sequence, frames = self._windows[index]
        return ClipRequest(sequence=sequence, frames=frames)


def _windows(length: int, num_frames: int, step: int | None) -> Iterator[range]:
    last = max(0, length - num_frames)
    for start in (*range(0, last, step or num_frames), last):
        yield range(start, min(start + num_frames, length))


def _require_entries(entries: Sequence[ManifestEntry]) -> None:
    if not entries:
        raise ConfigError("there are no sequences to sample from; choose a split that the manifest has")


class ClipSampler:
    """The samples of one epoch after the other as keys (epoch, index) of a data set; can be saved and resumed.

    Iterating gives what is left of the present epoch. What was asked for is not yet used: with workers, samples are
    read ahead. So the position only moves when it is told what arrived.

    Parameters
    ----------
    sampling : Sampling
        The samples.

    Attributes
    ----------
    epoch : int
        The present epoch.
    position : int
        Samples of it that were used.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        return len(self._sampling) - self.position

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        return ((epoch, index) for index in range(self.position, len(self._sampling)))

    def advance(self, count: int) -> None:
        """Note that samples were used; after the last one the next epoch begins.

        Parameters
        ----------
        count : int
            How many more.
        """
        self.position += count
        if self.position >= len(self._sampling):
            self.next_epoch()

    def next_epoch(self) -> None:
        """Leave out what is left of the present epoch."""
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where this sampler is, as JSON values."""
        return {"epoch": self.epoch, "position": self.position, "sampling": dict(self._sampling.identity())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where another sampler was.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned.

        Raises
        ------
        ConfigError
            If it is the state of other samples.
        """
        mine, theirs = self._sampling.identity(), state["sampling"]
        differing = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
        if differing:
            raise ConfigError(
                f"saved sampler has other {', '.join(differing)}; use the same data and settings, or start anew"
            )
        self.epoch, self.position = state["epoch"], state["position"]
