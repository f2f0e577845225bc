"""The clips that a training draws and looks at, each sequence checked before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from codecprior.core.arrays import CELL, PLANE_CELL
from codecprior.datasets.manifest import Manifest, ManifestEntry, joined
from codecprior.datasets.reader import ClipReader
from codecprior.datasets.sampling import ClipRequest, MixedClips, RandomClips, Sampling
from codecprior.errors import ConfigError
from codecprior.media.files import sha256_file

from .latents import CONDITION_LATENTS, SHARP_MOMENTS, vae_of
from .training_config import HybridDataConfig, Phase1Config, Phase2Config
from .validation import FixedClips

__all__ = ["Share", "TrainingData", "split_of"]

_MIXED: Final = (
    "some frames are outputs of stage 1, others are not; give all datasets to 'codecprior precompute', or none"
)


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
    config : Phase1Config or Phase2Config
        The training.
    additional : Manifest, optional
        Another dataset for stage 2, such as degraded and original HQ video.

    Attributes
    ----------
    manifest : Manifest
        The sequences to train on, of both.
    reader : ClipReader
        Reads them.
    clips : Sampling
        Which clips of them.
    fixed : tuple of ClipReader and FixedClips, or None
        The clips of validations.
    restored : bool
        Whether blurry frames are outputs of stage 1 already.
    vae : str or None
        Digest of the VAE whose latents are read instead of frames; None if frames are.

    Raises
    ------
    ConfigError
        If a split has no sequences, one of them is too short or has no sharp frames, or its frames are outputs of
        another stage 1, or latents are to be read and there are none.
    """

    def __init__(
        self, manifest: Manifest, config: Phase1Config | Phase2Config, additional: Manifest | None = None
    ) -> None:
        data, validation = config.data, config.validation
        self.manifest = split_of(manifest, data.split, "data.split")
        self.clips: Sampling = self._drawn(config, self.manifest.entries)
        if additional is not None:
            if isinstance(config, Phase1Config):
                raise ConfigError("additional data are for stage 2; train stage 1 without --additional")
            second = split_of(additional, config.data.additional_split, "data.additional_split")
            self.clips = MixedClips(
                self.clips,
                self._drawn(config, second.entries),
                offset=len(self.manifest.entries),
                share=config.data.mixing,
            )
            self.manifest = joined(self.manifest, second)
        self.restored = _restored(self.manifest.entries, config)
        reading = config.reader()
        if self.restored:  # packed frames are what stage 1 made, of whatever it was given
            reading = replace(reading, blurry="source", backward=False)
        self.vae, learnt = None, reading
        if isinstance(config, Phase2Config) and config.data.latents:
            self.vae = vae_of(self.manifest)
            learnt = replace(reading, blurry=None, sharp=False, planes=(CONDITION_LATENTS, SHARP_MOMENTS))
        self.reader = ClipReader(self.manifest, learnt)
        self._crop, self._time_reversal = (data.crop, data.crop), data.time_reversal
        self.fixed = None
        if validation.split is not None:
            chosen = split_of(manifest, validation.split, "validation.split")
            if _restored(chosen.entries, config) != self.restored:
                raise ConfigError(f"split {validation.split}: {_MIXED}")
            fixed = FixedClips(
                chosen.entries, num_clips=validation.num_clips, num_frames=data.num_frames, crop=data.crop
            )
            self.fixed = ClipReader(chosen, reading), fixed

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

    def _drawn(self, config: Phase1Config | Phase2Config, entries: Sequence[ManifestEntry]) -> RandomClips:
        data = config.data
        return RandomClips(
            entries,
            num_frames=data.num_frames,
            crop=data.crop,
            flips=data.flips,
            transpose=data.transpose,
            time_reversal=data.time_reversal,
            strides=data.strides,
            multiple=PLANE_CELL if isinstance(data, HybridDataConfig) and data.latents else CELL,
            seed=config.training.seed,
        )


def _restored(entries: Sequence[ManifestEntry], config: Phase1Config | Phase2Config) -> bool:
    """Say whether frames are outputs of the stage 1 that a training names: all of them, or none."""
    found = {entry.restored_by for entry in entries}
    if found == {None}:
        return False
    if isinstance(config, Phase1Config):
        raise ConfigError("frames are outputs of stage 1 already; train stage 1 on the dataset that they came from")
    if None in found:
        raise ConfigError(_MIXED)
    weights = config.stage1.weights()
    if weights is None or found != {sha256_file(weights)}:
        raise ConfigError(
            f"stage1.checkpoint {config.stage1.checkpoint}: frames of the dataset are outputs of another stage 1; set "
            "it to the one that 'codecprior precompute' had"
        )
    return True


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
    chosen = manifest.of_split(split, name)
    for entry in chosen.entries:
        if entry.sharp is None:
            raise ConfigError(f"sequence {entry.sequence} of split {split} has no sharp frames to learn from")
    return chosen
