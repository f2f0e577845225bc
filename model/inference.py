"""Blurry clips of any length and size through the networks, in memory that does not grow with the length.

A clip is read in chunks that overlap. Forward blocks go on with the state at the last frame of the chunk before, so
they never notice the cut; backward blocks begin anew at the end of each chunk, some frames behind those that are kept.
Large frames are restored in tiles that fade into each other, each with a state of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from codecprior.core.arrays import CELL
from codecprior.datasets.reader import ClipReader
from codecprior.datasets.sampling import ClipRequest, Sampling
from codecprior.errors import ConfigError
from codecprior.media.ahead import map_ahead

from .alignment import Aligner, Guidance
from .config import Config
from .cpfp import Cpfp, Past
from .dataset import ClipDataset
from .tiling import windows

__all__ = ["Chunk", "ChunkConfig", "Stage1"]

_TILE_MULTIPLE: Final = 8
"""Of sides and overlap of tiles, in samples: two cells."""

_States = dict[tuple[int, int], Sequence[Past | None]]
"""State of the network by row and column where a tile begins."""


@dataclass(frozen=True, kw_only=True)
class ChunkConfig(Config):
    """How much of a clip is in memory.

    Parameters
    ----------
    chunk_frames : int
        Frames that are restored at a time.
    overlap_frames : int
        Frames behind them that backward blocks begin at; not read for networks without such blocks.
    tile_size : int
        Longest side of the tiles that larger frames are restored in, in samples; 0 restores any frame as a whole.
    tile_overlap : int
        Least number of samples that neighbouring tiles share.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    chunk_frames: int = 16
    overlap_frames: int = 8
    tile_size: int = 1280
    tile_overlap: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_at_least(1, "chunk_frames")
        self._require_at_least(0, "overlap_frames")
        for name in ("tile_size", "tile_overlap"):
            if getattr(self, name) < 0 or getattr(self, name) % _TILE_MULTIPLE:
                raise ConfigError(f"{name} {getattr(self, name)}: use a multiple of {_TILE_MULTIPLE}, or 0")
        if self.tile_size and self.tile_size < 2 * self.tile_overlap + _TILE_MULTIPLE:
            raise ConfigError(f"tile_size {self.tile_size}: use more than twice the tile_overlap {self.tile_overlap}")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Chunk:
    """Consecutive frames of a clip, restored by stage 1.

    Parameters
    ----------
    frames : Tensor, shape (T, 3, H, W), float32
        R'G'B', 0 to 1.
    sample : mapping of str to Tensor
        The same frames and their priors as :class:`~codecprior.model.dataset.ClipDataset` names them.
    """

    frames: Tensor
    sample: Mapping[str, Tensor]


class Stage1:
    """The network of stage 1 for clips of any length and frames of any size.

    Parameters
    ----------
    network : Cpfp, optional
        The network, on the device. Without, frames stay as they are.
    config : ChunkConfig
        How much at a time.
    device : torch.device or str
        Where the network is.

    Raises
    ------
    ConfigError
        If weights that its alignment needs cannot be loaded.
    """

    def __init__(self, network: Cpfp | None, config: ChunkConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.device = device
        self._network = network
        self._aligner = None if network is None else Aligner(network.config, device)

    def restore(self, reader: ClipReader, sequence: int) -> Iterator[Chunk]:
        """Restore one sequence; the next chunk is read meanwhile.

        Parameters
        ----------
        reader : ClipReader
            Reads frames and priors as the network takes them.
        sequence : int
            Position of the sequence in the reader's manifest.

        Yields
        ------
        Chunk
            All frames in order.

        Raises
        ------
        CodecpriorError
            If frames or priors cannot be read, or are not what the network takes.
        """
        backward = self._network is not None and "backward" in self._network.config.branches
        overlap = self.config.overlap_frames if backward else 0
        num_frames = reader.manifest.entries[sequence].num_frames
        chunks = _Chunks(sequence, num_frames, self.config.chunk_frames, overlap)
        dataset = ClipDataset(reader, chunks)
        states: _States = {}
        for index, sample in enumerate(map_ahead(dataset.__getitem__, range(len(chunks)), ahead=1)):
            batch = {key: value.to(self.device)[None] for key, value in sample.items() if isinstance(value, Tensor)}
            kept = chunks.kept(index)
            frames = self._restored(batch, kept, states)
            yield Chunk(frames=frames, sample={key: value[0, kept] for key, value in batch.items()})

    @torch.no_grad()
    def _restored(self, batch: Mapping[str, Tensor], kept: slice, states: _States) -> Tensor:
        """Restore the frames of a batch of one clip that are kept, and bring the state of each tile forward."""
        if self._network is None or self._aligner is None:
            return batch["blurry"][0, kept]
        height, width = batch["blurry"].shape[3:]
        batch = {key: _padded(value) if value.shape[3:] == (height, width) else value for key, value in batch.items()}
        read = slice(kept.start, None)
        guides = {direction: guidance.select(read) for direction, guidance in self._aligner(batch).items()}
        blurry = batch["blurry"][:, read]
        total = torch.zeros_like(blurry[0, : kept.stop - kept.start])
        weight = torch.zeros_like(total[0, 0])
        for rows, columns in product(*(_tiles(side, self.config) for side in weight.shape)):
            place = rows.start, columns.start
            output = self._network(
                blurry[..., rows, columns],
                **{direction: _cut(guide, rows, columns, weight.shape[1]) for direction, guide in guides.items()},
                state=states.get(place),
                keep=len(total),
            )
            states[place] = output.state
            fades = (_fade(*side, self.config) for side in zip((rows, columns), weight.shape, strict=True))
            fade = torch.outer(*fades).to(total)
            total[..., rows, columns] += fade * output.frames[0]
            weight[rows, columns] += fade
        return (total / weight)[..., :height, :width].clamp(0, 1)


class _Chunks(Sampling):
    """Chunks of one sequence, each with the frame before it, whose vectors lead into it, and those behind it."""

    def __init__(self, sequence: int, num_frames: int, chunk_frames: int, overlap: int) -> None:
        self._sequence, self._num_frames, self._overlap = sequence, num_frames, overlap
        self._starts = range(0, num_frames, chunk_frames)

    def __len__(self) -> int:
        return len(self._starts)

    def identity(self) -> Mapping[str, Any]:
        return {"sequence": self._sequence, "starts": list(self._starts), "overlap": self._overlap}

    def request(self, index: int, epoch: int = 0) -> ClipRequest:
        start = self._starts[index]
        stop = min(start + self._starts.step + self._overlap, self._num_frames)
        return ClipRequest(sequence=self._sequence, frames=range(max(0, start - 1), stop))

    def kept(self, index: int) -> slice:
        """Say which of the frames that are read belong to the chunk."""
        start, before = self._starts[index], index > 0
        return slice(int(before), min(self._starts.step, self._num_frames - start) + before)


def _padded(planes: Tensor) -> Tensor:
    """Repeat the last row and column up to whole cells, which vectors and masks lie on."""
    height, width = planes.shape[-2:]
    right, bottom = -width % CELL, -height % CELL
    if not right and not bottom:
        return planes
    padded = F.pad(planes.flatten(0, 1), (0, right, 0, bottom), mode="replicate")
    return padded.view(*planes.shape[:2], *padded.shape[1:])


def _tiles(length: int, config: ChunkConfig) -> list[slice]:
    """Cover a side with as few tiles as possible, all as small as that allows."""
    size, overlap = config.tile_size, config.tile_overlap
    if not size or length <= size:
        return [slice(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    side = -(-(length + (count - 1) * overlap) // (count * _TILE_MULTIPLE)) * _TILE_MULTIPLE
    return windows(length, side, side - overlap)


def _fade(window: slice, length: int, config: ChunkConfig) -> Tensor:
    """Weights of a tile along one side: they rise and fall over the overlap, except at the edges of the picture."""
    place = (torch.arange(window.stop - window.start) + 0.5) / max(config.tile_overlap, 1)
    whole = torch.ones_like(place)
    rising = place if window.start else whole
    falling = place.flip(0) if window.stop < length else whole
    return torch.minimum(rising, falling).clamp(max=1)


def _cut(guidance: Guidance, rows: slice, columns: slice, width: int) -> Guidance:
    """Return the part of guidance for frames of some width that belongs to a tile."""

    def part(planes: Tensor) -> Tensor:
        cell = width // planes.shape[-1]
        return planes[..., rows.start // cell : rows.stop // cell, columns.start // cell : columns.stop // cell]

    return Guidance(
        vectors=part(guidance.vectors),
        residual=None if guidance.residual is None else part(guidance.residual),
        intra=None if guidance.intra is None else part(guidance.intra),
    )
