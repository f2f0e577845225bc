"""Clips of a prepared dataset as tensors, in batches that can be saved and resumed in the middle of an epoch.

>>> manifest = read_manifest("prepared")  # doctest: +SKIP
>>> reader = ClipReader(manifest, ReaderConfig(residual="absolute"))  # doctest: +SKIP
>>> clips = RandomClips(manifest.entries, num_frames=15, crop=256, seed=1)  # doctest: +SKIP
>>> loader = ClipLoader(ClipDataset(reader, clips), batch_size=8, num_workers=4)  # doctest: +SKIP
>>> next(iter(loader))["mv_forward"].shape  # doctest: +SKIP
torch.Size([8, 15, 2, 64, 64])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from codecprior.datasets.geometry import Clip, DirectionPriors
from codecprior.datasets.reader import ClipReader
from codecprior.datasets.sampling import ClipSampler, Sampling

__all__ = ["ClipDataset", "ClipLoader"]


class ClipDataset(Dataset[dict[str, Any]]):
    """Clips as dictionaries of tensors, channels first.

    ==================== ================= ======= =============================================================
    key                  shape             dtype   meaning
    ==================== ================= ======= =============================================================
    ``blurry``           (T, 3, H, W)      float32 R'G'B', 0 to 1; if the reader reads it
    ``sharp``            (T, 3, H, W)      float32 R'G'B', 0 to 1; if the reader reads it and the sequence has it
    ``mv_forward``       (T, 2, H/4, W/4)  float32 (x, y) in samples from frame t to t - 1 of the clip, or 0
    ``mv_valid_forward`` (T, 1, H/4, W/4)  bool    cells with a vector to that very frame; none in frame 0
    ``intra``            (T, 1, H/4, W/4)  bool    cells predicted from their own frame
    ``missing``          (T, 1, H/4, W/4)  bool    cells of frames that the decoder gave no priors for
    ``residual``         (T, C, H, W)      float32 normalised as the reader is told; C is 1 or 3
    ``frame_indices``    (T,)              int64   position of each frame in its sequence
    ``sequence``                           str     name of the sequence
    ==================== ================= ======= =============================================================

    Planes that the reader reads have their own names, (T, C, H/8, W/8) float32. With backward vectors, ``mv_backward``,
    ``mv_valid_backward``, ``intra_backward``, ``missing_backward`` and ``residual_backward`` say the same of frame t
    and t + 1, of the pass over the time-reversed sequence. Grid sizes are rounded up.

    Parameters
    ----------
    reader : ClipReader
        Where clips come from.
    sampling : Sampling
        Which ones: :class:`~codecprior.datasets.sampling.RandomClips` or
        :class:`~codecprior.datasets.sampling.Windows` over the entries of the reader's manifest.
    """

    def __init__(self, reader: ClipReader, sampling: Sampling) -> None:
        self.reader = reader
        self.sampling = sampling

    def __len__(self) -> int:
        return len(self.sampling)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = (0, key) if isinstance(key, int) else key
        request = self.sampling.request(index, epoch)
        sample = _tensors(self.reader.read(request))
        sample["sequence"] = self.reader.manifest.entries[request.sequence].sequence
        return sample


class ClipLoader:
    """Batches of clips, read ahead by workers.

    Iterating gives the batches of the present epoch that are left; the next time, those of the next epoch.
    :meth:`state_dict` tells how far the one who iterates has come, not how far workers have read ahead: the batch last
    given out counts as used.

    Parameters
    ----------
    dataset : ClipDataset
        The clips.
    batch_size : int
        Clips of a batch.
    num_workers : int
        Processes that read, started with spawn; 0 reads in this one.
    drop_last : bool
        Whether to leave out a last batch that is smaller.
    prefetch_batches : int
        Batches that each worker reads ahead.
    pin_memory : bool, optional
        Whether batches lie in memory that a GPU can fetch from; by default where there is a GPU.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        num_workers: int = 0,
        drop_last: bool = False,
        prefetch_batches: int = 2,
        pin_memory: bool | None = None,
    ) -> None:
        self.sampler = ClipSampler(dataset.sampling)
        self._batches: DataLoader[dict[str, Any]] = DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=self.sampler,
            num_workers=num_workers,
            drop_last=drop_last,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
            # tensorstore does not survive a fork.
            multiprocessing_context="spawn" if num_workers else None,
            persistent_workers=num_workers > 0,
            prefetch_factor=prefetch_batches if num_workers else None,
        )

    def __len__(self) -> int:
        """Batches that are left of the present epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch = self.sampler.epoch
        for batch in self._batches:
            self.sampler.advance(len(batch["sequence"]))
            yield batch
        if self.sampler.epoch == epoch:  # what did not fill a batch was left out
            self.sampler.next_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Return how far this loader has come, as JSON values."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another loader was, with the samples that were left there; raises ConfigError for others."""
        self.sampler.load_state_dict(state)


def _tensors(clip: Clip) -> dict[str, Any]:
    sides = {"blurry": clip.blurry, "sharp": clip.sharp}
    sample: dict[str, Any] = {name: _frames(frames) for name, frames in sides.items() if frames is not None}
    sample |= {name: _channels_first(plane).float() for name, plane in clip.planes.items()}
    sample |= _direction(clip.forward, "forward", "")
    if clip.backward is not None:
        sample |= _direction(clip.backward, "backward", "_backward")
    sample["frame_indices"] = torch.tensor(clip.frame_indices)
    return sample


def _direction(priors: DirectionPriors, name: str, suffix: str) -> dict[str, Tensor]:
    tensors = {
        f"mv_{name}": _channels_first(priors.mv),
        f"mv_valid_{name}": _channels_first(priors.valid[..., None]),
        f"intra{suffix}": _channels_first(priors.intra[..., None]),
        f"missing{suffix}": _channels_first(priors.missing[..., None]),
    }
    if priors.residual is not None:
        tensors[f"residual{suffix}"] = _channels_first(priors.residual)
    return tensors


def _frames(frames: NDArray[Any]) -> Tensor:
    # Moving bytes first and dividing in the order of memory takes half the time of torch's permute and conversion.
    planes = np.ascontiguousarray(np.moveaxis(frames, -1, 1))
    return torch.from_numpy(np.divide(planes, np.float32(np.iinfo(frames.dtype).max), dtype=np.float32))


def _channels_first(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1)))
