"""The clips that a training draws and looks at, each sequence checked before the first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from codecprior.datasets.manifest import Manifest
from codecprior.datasets.reader import ClipReader
from codecprior.datasets.sampling import ClipRequest, RandomClips, Sampling
from codecprior.errors import ConfigError

from .training_config import Phase1Config
from .validation import FixedClips

__all__ = ["Share", "TrainingData", "split_of"]


class Share(Sampling):
    """The samples of one of several processes: every n-th one.

    Parameters
    ----------
    whole : Sampling
        The samples of all of them.
    process : int
        Number of this one, from 0.
    processes : int
        How many there are.
    """

    def __init__(self, whole: Sampling, process: int, processes: int) -> None:
        self._whole, self._process, self._processes = whole, process, processes

    def __len__(self) -> int:
        return len(self._whole) // self._processes

    def identity(self) -> dict[str, Any]:
        """Return what decides the samples; see :class:`~codecprior.datasets.sampling.Sampling`."""
        return {**self._whole.identity(), "processes": self._processes}

    def request(self, index: int, epoch: int = 0) -> ClipRequest:
        """Return a sample; see :class:`~codecprior.datasets.sampling.Sampling`."""
        return self._whole.request(index * self._processes + self._process, epoch)


class TrainingData:
    """Clips of a prepared dataset for a training.

    Parameters
    ----------
    manifest : Manifest
        The dataset.
    config : Phase1Config
        The training.

    Attributes
    ----------
    manifest : Manifest
        The sequences to train on.
    reader : ClipReader
        Reads them.
    clips : RandomClips
        Which clips of them.
    fixed : tuple of ClipReader and FixedClips, or None
        The clips of validations.

    Raises
    ------
    ConfigError
        If a split has no sequences, or one of them is too short or has no sharp frames.
    """

    def __init__(self, manifest: Manifest, config: Phase1Config) -> None:
        data, validation = config.data, config.validation
        self.manifest = split_of(manifest, data.split, "data.split")
        self.reader = ClipReader(self.manifest, config.reader())
        self._crop, self._time_reversal = (data.crop, data.crop), data.time_reversal
        self.clips = RandomClips(
            self.manifest.entries,
            num_frames=data.num_frames,
            crop=data.crop,
            flips=data.flips,
            transpose=data.transpose,
            time_reversal=data.time_reversal,
            strides=data.strides,
            seed=config.training.seed,
        )
        self.fixed = None
        if validation.split is not None:
            chosen = split_of(manifest, validation.split, "validation.split")
            fixed = FixedClips(
                chosen.entries, num_clips=validation.num_clips, num_frames=data.num_frames, crop=data.crop
            )
            self.fixed = ClipReader(chosen, config.reader()), fixed

    def check(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Read one frame of every sequence, in each direction that clips run.

        Parameters
        ----------
        progress : callable, optional
            Called after each sequence with the number done and the total.

        Raises
        ------
        ConfigError
            If a sequence lacks what the training needs, or the crop does not fit into it.
        StoreError, DatasetError, MediaError
            If something cannot be read.
        """
        reader = ClipReader(self.manifest, self.reader.config)
        for sequence in range(len(self.manifest.entries)):
            for frames in (range(1), range(0, -1, -1))[: 1 + self._time_reversal]:
                reader.read(ClipRequest(sequence=sequence, frames=frames, crop=self._crop))
            if progress is not None:
                progress(sequence + 1, len(self.manifest.entries))
        if self.fixed is not None:
            reader, fixed = self.fixed
            for index in range(len(fixed)):
                request = fixed.request(index)
                reader.read(replace(request, frames=request.frames[:1]))


def split_of(manifest: Manifest, split: str, name: str) -> Manifest:
    """Return the sequences of a split that have sharp frames to learn from.

    Parameters
    ----------
    manifest : Manifest
        All sequences.
    split : str
        The split.
    name : str
        What the split is set by, for messages.

    Returns
    -------
    Manifest
        Those of the split.

    Raises
    ------
    ConfigError
        If there is no such split, or a sequence of it has no sharp frames.
    """
    entries = tuple(entry for entry in manifest.entries if entry.split == split)
    if not entries:
        there = ", ".join(sorted({entry.split for entry in manifest.entries}))
        raise ConfigError(f"{name} {split!r}: the manifest in {manifest.root} has {there}")
    for entry in entries:
        if entry.sharp is None:
            raise ConfigError(f"sequence {entry.sequence} of split {split} has no sharp frames to learn from")
    return replace(manifest, entries=entries)
