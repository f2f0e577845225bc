"""Where the self-attention of a ControlNet looks: what each place of a frame receives (Fig. 10 of the paper).

Attention weights are softmax(Q' K^T / sqrt(d)) of Eq. 7, with Q = Q' for a network without coding priors. A query
gives away weights that sum to 1; what a place receives is their mean over queries and heads, times the number of
places: 1 is an even share. Maps of layers are brought to one grid, and averaged over all that runs meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecprior.errors import ConfigError

from .cpc import CodingPriorAttention, CodingPriorControlNet

__all__ = ["AttentionRecord", "received_attention", "recorded_attention"]

_QUERIES: Final = 256
"""Queries whose weights are in memory at a time."""


class AttentionRecord:
    """Mean of the maps of all layers, of everything that the network has run on so far."""

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._total: Tensor | None = None
        self._count = 0

    def mean(self) -> Tensor:
        """Return the mean map.

        Returns
        -------
        Tensor, shape (h, w), float32
            One value for each latent; 1 is an even share.

        Raises
        ------
        ConfigError
            If nothing was recorded.
        """
        if self._total is None:
            raise ConfigError("no attention was recorded; run the network first")
        return self._total / self._count

    def _begin(self, network: nn.Module, arguments: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        """Before each run of the network: note the size of its latents."""
        height, width = (arguments[0] if arguments else options["sample"]).shape[2:]
        if self._size not in (None, (height, width)):
            raise ConfigError(f"attention of latents of {width}x{height} and of others: record one size only")
        self._size = height, width

    def _add(self, level: int, attention: Any, arguments: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        """Before each run of a layer: compute what it will weigh, and add it up."""
        assert self._size is not None
        received = received_attention(attention, arguments[0], options.get("coding_priors")).mean(dim=0)
        grid = [-(-side // 2**level) for side in self._size]
        share = functional.interpolate(received.view(1, 1, *grid), self._size, mode="bilinear")[0, 0]
        self._total = share if self._total is None else self._total + share
        self._count += 1


@contextmanager
def recorded_attention(network: CodingPriorControlNet) -> Iterator[AttentionRecord]:
    """Record the self-attention of a network while it runs; costs nothing outside of the context.

    Parameters
    ----------
    network : CodingPriorControlNet
        With coding priors or without.

    Yields
    ------
    AttentionRecord
        What is recorded. Latents must be of one size, whole frames, not tiles.
    """
    record = AttentionRecord()
    hooks = [network.register_forward_pre_hook(record._begin, with_kwargs=True)]
    hooks += [
        transformer.attn1.register_forward_pre_hook(partial(record._add, level), with_kwargs=True)
        for level, transformer in network.transformers()
    ]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def received_attention(attention: Any, features: Tensor, coding_priors: tuple[Tensor, ...] | None = None) -> Tensor:
    """Compute what each place receives in one layer.

    Parameters
    ----------
    attention : Attention
        A self-attention layer of diffusers.
    features : Tensor, shape (B, N, C)
        What it gets.
    coding_priors : tuple of Tensor, optional
        V and R at each level, where its query takes them.

    Returns
    -------
    Tensor, shape (B, N), float32
        Mean over queries and heads, times N.
    """
    processor = attention.processor
    if isinstance(processor, CodingPriorAttention):
        assert coding_priors is not None
        query = processor.query(attention, features, coding_priors)
    else:
        query = attention.to_q(features)
    query, key = (
        each.float().unflatten(-1, (attention.heads, -1)).transpose(1, 2) for each in (query, attention.to_k(features))
    )
    received = torch.zeros(key.shape[:-1], device=key.device)
    for part in query.split(_QUERIES, dim=2):
        received += (part @ key.transpose(2, 3) / key.shape[-1] ** 0.5).softmax(dim=-1).sum(dim=2)
    return received.mean(dim=1)  # sums over N queries: the mean over them, times N
