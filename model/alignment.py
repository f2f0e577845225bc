"""From a batch of clips to what leads features from frame to frame: vectors of a chosen source, residual, intra mask.

Vectors are (x, y) and point from the present frame to its neighbour: neighbour = current + vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codecprior.core.arrays import CELL
from codecprior.datasets.holes import fill_holes
from codecprior.errors import ConfigError

from .config import AlignmentConfig, CpfpConfig
from .deformable import sample
from .raft import RAFT_STRIDE, Raft, load_raft, raft_multiply_adds

__all__ = ["Aligner", "AlignmentFlops", "Guidance", "alignment_flops", "on_grid", "warp"]

_LUMA: Final = (0.299, 0.587, 0.114)
_DIS: Final = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Guidance:
    """What leads from the neighbour of each frame of a clip, the one before it or the one behind, to the frame.

    Parameters
    ----------
    vectors : Tensor, shape (B, T, 2, H / n, W / n), float32
        (x, y) in samples from each frame to its neighbour; n may be 1, 2 or 4. Those of the frame that has no neighbour
        in the clip are only used if the state of the network at that neighbour is given.
    residual : Tensor, shape (B, T, C, H, W), optional
        R as the data have it.
    intra : Tensor, shape (B, T, 1, H / 4, W / 4), bool, optional
        Cells that were predicted from their own frame.
    """

    vectors: Tensor
    residual: Tensor | None = None
    intra: Tensor | None = None

    def select(self, frames: slice) -> Guidance:
        """Return some of the frames, such as a clip without the first one, which was read for its vectors only."""
        return Guidance(
            vectors=self.vectors[:, frames],
            residual=None if self.residual is None else self.residual[:, frames],
            intra=None if self.intra is None else self.intra[:, frames],
        )


class Aligner:
    """Gives each direction of a network its guidance.

    Holds no state that is trained or saved: RAFT, where it is the source, comes from its own file.

    Parameters
    ----------
    config : CpfpConfig
        Network that the guidance is for.
    device : torch.device or str
        Where RAFT computes.

    Raises
    ------
    ConfigError
        If RAFT is the source and its weights cannot be loaded.
    """

    def __init__(self, config: CpfpConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self._raft: Raft | None = None
        if config.alignment.source in ("raft", "raft_mv_init"):
            self._raft = load_raft(config.alignment.raft_weights).to(device)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Guidance]:
        """Return the guidance of a batch, as keyword arguments of :class:`~codecprior.model.cpfp.Cpfp`.

        Parameters
        ----------
        batch : mapping
            Tensors as :class:`~codecprior.model.dataset.ClipDataset` names them, with the batch as first axis.
            Only what the configuration uses is needed.

        Returns
        -------
        dict of str to Guidance
            For ``"forward"`` and ``"backward"``, where the network has such blocks.

        Raises
        ------
        ConfigError
            If the batch lacks something.
        """
        return {direction: self._guidance(batch, direction) for direction in sorted(set(self.config.branches))}

    def _guidance(self, batch: Mapping[str, Any], direction: str) -> Guidance:
        config, suffix = self.config, "" if direction == "forward" else "_backward"
        return Guidance(
            vectors=self._vectors(batch, direction),
            residual=_require(batch, f"residual{suffix}") if config.residual_mask else None,
            intra=_require(batch, f"intra{suffix}") if config.intra_mask else None,
        )

    def _vectors(self, batch: Mapping[str, Any], direction: str) -> Tensor:
        frames, source = _require(batch, "blurry"), self.config.alignment.source
        if source == "mv":
            return self._codec_vectors(batch, direction)[0]
        if source == "none":
            batch_size, length, _, height, width = frames.shape
            return frames.new_zeros((batch_size, length, 2, height // CELL, width // CELL), dtype=torch.float32)
        if source == "dis":
            return _between_frames(frames, direction, self._dis)
        if source == "raft":
            return _between_frames(frames, direction, self._flow)
        initial = _pooled(*self._codec_vectors(batch, direction), self.config.alignment.pooling)
        return _between_frames(frames, direction, self._flow, initial)

    def _codec_vectors(self, batch: Mapping[str, Any], direction: str) -> tuple[Tensor, Tensor]:
        """Return vectors, holes filled, and which of them are meaningful."""
        mv, valid = _require(batch, f"mv_{direction}"), _require(batch, f"mv_valid_{direction}")
        policy = self.config.alignment.hole_policy
        if policy == "zero" or bool(valid.all()):  # the data have zeros
            return mv, valid
        vectors, known = mv.movedim(2, -1).flatten(0, 1).cpu().numpy(), valid.flatten(0, 2).cpu().numpy()
        filled = torch.from_numpy(fill_holes(vectors, known, policy).reshape(*mv.shape[:2], *vectors.shape[1:]))
        found = valid.flatten(2).any(dim=2)[:, :, None, None, None].expand_as(valid)
        return filled.movedim(-1, 2).to(mv.device), found

    def _flow(self, current: Tensor, neighbour: Tensor, initial: Tensor | None) -> Tensor:
        assert self._raft is not None
        flow: Tensor = self._raft(current, neighbour, self.config.alignment.raft_updates, initial)
        return flow

    def _dis(self, current: Tensor, neighbour: Tensor, initial: Tensor | None) -> Tensor:
        search = cv2.DISOpticalFlow.create(_DIS[self.config.alignment.dis_preset])
        pairs = zip(_grey(current), _grey(neighbour), strict=True)
        flows = np.stack([search.calc(one, other, None) for one, other in pairs])  # type: ignore[call-overload]
        return torch.from_numpy(np.moveaxis(flows, -1, 1)).to(current.device)


def warp(features: Tensor, vectors: Tensor) -> Tensor:
    """Bring the features of a neighbouring frame to where they belong in the present one (Eq. 1).

    Parameters
    ----------
    features : Tensor, shape (B, C, H, W)
        Features of the neighbour.
    vectors : Tensor, shape (B, 2, H, W)
        (x, y) in features from the present frame to its neighbour.

    Returns
    -------
    Tensor, shape (B, C, H, W), float32
        Warped features, bilinear, 0 where a vector leaves the picture.
    """
    with torch.autocast(features.device.type, enabled=False):
        return sample(features.float(), vectors.float().movedim(1, -1))


def on_grid(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring values to a coarser grid by their mean, to a finer one by repeating them.

    Parameters
    ----------
    values : Tensor, shape (B, T, C, H, W)
        One value per cell of the picture.
    size : tuple of int
        Height and width of the grid.

    Returns
    -------
    Tensor, shape (B, T, C, height, width), float32
        Values.

    Raises
    ------
    ConfigError
        If one grid is no multiple of the other.
    """
    (height, width), (rows, cols) = values.shape[-2:], size
    flat = values.flatten(0, 1).float()
    if height >= rows and height % rows == 0 and (height // rows) * cols == width:
        flat = functional.avg_pool2d(flat, height // rows) if height > rows else flat
    elif rows % height == 0 and (rows // height) * width == cols:
        flat = flat.repeat_interleave(rows // height, dim=2).repeat_interleave(rows // height, dim=3)
    else:
        raise ConfigError(f"a grid of {width}x{height} values does not fit to {cols}x{rows} features")
    return flat.view(*values.shape[:2], *flat.shape[1:])


@dataclass(frozen=True, kw_only=True)
class AlignmentFlops:
    """What it costs to find the vectors from one frame to a neighbour.

    Parameters
    ----------
    multiply_adds : int, optional
        Number; None if it depends on the content.
    convention : str
        What is counted.
    """

    multiply_adds: int | None
    convention: str


def alignment_flops(config: AlignmentConfig, height: int, width: int) -> AlignmentFlops:
    """Count what it costs to find the vectors from one frame to a neighbour.

    Parameters
    ----------
    config : AlignmentConfig
        Source of vectors.
    height, width : int
        Size of the frames in samples.

    Returns
    -------
    AlignmentFlops
        The count and its convention.

    Raises
    ------
    ConfigError
        If the frames are too small for RAFT.
    """
    where = f"one pair of {width}x{height} frames"
    if config.source in ("mv", "none"):
        return AlignmentFlops(multiply_adds=0, convention=f"{where}: vectors come with the bitstream")
    if config.source == "dis":
        return AlignmentFlops(multiply_adds=None, convention=f"{where}: OpenCV's search depends on the content")
    return AlignmentFlops(
        multiply_adds=raft_multiply_adds(height, width, config.raft_updates),
        convention=(
            f"{where}: multiply-adds of convolutions, each counted once; "
            "correlation, interpolation, norms and activations are not counted"
        ),
    )


def _require(batch: Mapping[str, Any], key: str) -> Tensor:
    if key not in batch:
        how = "of stores made with --directions both, with backward=True" if key.endswith("backward") else "with priors"
        raise ConfigError(f"the network needs {key!r}, which the batch does not have; read clips {how}")
    value: Tensor = batch[key]
    return value


def _between_frames(
    frames: Tensor,
    direction: str,
    flow: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    initial: Tensor | None = None,
) -> Tensor:
    """Compute flow from each frame to its neighbour, pair by pair; 0 in the frame that has none."""
    length, step = frames.shape[1], -1 if direction == "forward" else 1
    flows = []
    for t in range(length):
        if 0 <= t + step < length:
            start = None if initial is None else initial[:, t]
            flows.append(flow(frames[:, t], frames[:, t + step], start))
        else:
            flows.append(frames.new_zeros((len(frames), 2, *frames.shape[3:]), dtype=torch.float32))
    return torch.stack(flows, dim=1)


def _pooled(vectors: Tensor, valid: Tensor, pooling: str) -> Tensor:
    """Mean vectors of the parts of the picture that RAFT has vectors for, two by two cells."""
    cells = RAFT_STRIDE // CELL
    flat, weight = vectors.flatten(0, 1), valid.flatten(0, 1).float()
    padding = (0, -flat.shape[3] % cells, 0, -flat.shape[2] % cells)
    flat, weight = (functional.pad(each, padding, mode="replicate") for each in (flat, weight))
    if pooling == "average":
        mean = functional.avg_pool2d(flat, cells)
    else:
        total = functional.avg_pool2d(weight, cells)
        mean = functional.avg_pool2d(flat * weight, cells) / total.clamp(min=cells**-2)
    return mean.view(*vectors.shape[:2], *mean.shape[1:])


def _grey(frames: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    luma = torch.einsum("bchw,c->bhw", frames.float(), torch.tensor(_LUMA, device=frames.device))
    return (luma.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
