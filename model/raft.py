"""RAFT between two frames, optionally started at a given flow (Teed and Deng, ECCV 2020): torchvision's network.

torchvision's ``forward`` has no initial flow; the original adds it to the coordinates before the first update, and so
does this one. Weights come from a file of the user alone: untrained, RAFT would give noise for flow.
"""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.optical_flow import RAFT, raft_large
from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

from codecprior.errors import ConfigError

__all__ = ["RAFT_STRIDE", "Raft", "load_raft", "raft_multiply_adds"]

RAFT_STRIDE: Final = 8
"""Samples from one vector that RAFT computes to the next."""

_LEAST: Final = 128
"""Least width and height: four levels of correlation need two vectors each."""


class Raft(nn.Module):
    """RAFT as a source of vectors; nothing in it is trained.

    Parameters
    ----------
    network : torchvision.models.optical_flow.RAFT
        Network with its weights.
    """

    def __init__(self, network: RAFT) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, current: Tensor, neighbour: Tensor, updates: int, initial: Tensor | None = None) -> Tensor:
        """Compute flow.

        Parameters
        ----------
        current, neighbour : Tensor, shape (B, 3, H, W)
            Frames, 0 to 1.
        updates : int
            Iterations; 0 gives the initial flow back, interpolated.
        initial : Tensor, shape (B, 2, ceil(H / 8), ceil(W / 8)), optional
            Flow to start at, (x, y) in samples; zeros if not given.

        Returns
        -------
        Tensor, shape (B, 2, H, W)
            (x, y) in samples from the current frame to its neighbour.

        Raises
        ------
        ConfigError
            If the frames are too small.
        """
        height, width = current.shape[2:]
        _require_size(height, width)
        padding = (0, -width % RAFT_STRIDE, 0, -height % RAFT_STRIDE)
        images = functional.pad(torch.cat([current, neighbour]), padding, mode="replicate") * 2 - 1
        return self._flow(images, updates, initial)[..., :height, :width]

    def _flow(self, images: Tensor, updates: int, initial: Tensor | None) -> Tensor:
        """Do what torchvision's forward does, from an initial flow, with the result at full size only at the end."""
        net = self.network
        net.corr_block.build_pyramid(*net.feature_encoder(images).chunk(2))
        context = net.context_encoder(images[: len(images) // 2])
        batch, channels, height, width = context.shape
        hidden_size = net.update_block.hidden_state_size
        hidden, context = context.split([hidden_size, channels - hidden_size], dim=1)
        hidden, context = hidden.tanh(), context.relu()
        start = make_coords_grid(batch, height, width).to(images)
        coords = start if initial is None else start + initial / RAFT_STRIDE
        for _ in range(updates):
            seen = net.corr_block.index_pyramid(centroids_coords=coords)
            hidden, change = net.update_block(hidden, context, seen, coords - start)
            coords = coords + change
        flow: Tensor = upsample_flow(coords - start, net.mask_predictor(hidden) if updates else None)
        return flow


def load_raft(weights: str | Path | None) -> Raft:
    """Load RAFT with weights from a file.

    Parameters
    ----------
    weights : str or path, optional
        State of torchvision's ``raft_large``, a ``.pth`` file.

    Returns
    -------
    Raft
        The network, on the CPU.

    Raises
    ------
    ConfigError
        If no file is given, or it does not hold these weights.
    """
    if weights is None:
        raise ConfigError(
            "RAFT has no weights; give alignment.raft_weights the file of torchvision's raft_large "
            "(raft_large_C_T_SKHT_V2-ff5fadd5.pth), or use alignment.source mv or dis"
        )
    path = Path(weights)
    network = raft_large(weights=None, progress=False)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (AttributeError, EOFError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path}: holds no weights of torchvision's raft_large ({reason})") from error
    return Raft(network)


@cache
def raft_multiply_adds(height: int, width: int, updates: int) -> int:
    """Count the multiply-adds of RAFT's convolutions between two frames, each counted once.

    RAFT is counted as published, with the flow brought to full size after each update; an initial flow changes nothing.
    At 1024x752 this gives 307.1 and 907.4 G for 4 and 20 updates: the 307 and 908 of the paper's Table III, which names
    neither size nor convention.

    Parameters
    ----------
    height, width : int
        Size of the frames in samples.
    updates : int
        Iterations.

    Returns
    -------
    int
        Number.

    Raises
    ------
    ConfigError
        If the frames are too small.
    """
    _require_size(height, width)
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        frame = torch.empty(1, 3, height + -height % RAFT_STRIDE, width + -width % RAFT_STRIDE)
        raft_large(weights=None, progress=False)(frame, frame, updates)
    return int(counter.get_flop_counts()["Global"][torch.ops.aten.convolution]) // 2


def _require_size(height: int, width: int) -> None:
    if min(height, width) < _LEAST:
        raise ConfigError(f"RAFT between frames of {width}x{height}: it needs {_LEAST} samples a side or more")
