"""Large pictures in overlapping tiles: one function over all of them, what it returns blended with Gaussian weights.

A tile knows nothing of the picture around it, and group normalisation would give each tile a contrast of its own:
:func:`fixed_group_norm` lets all of them use the statistics of the whole picture, made smaller.

References
----------
Jimenez, Mixture of Diffusers for scene composition and high resolution image generation, 2023, for the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["fixed_group_norm", "gaussian_weights", "tiled", "windows"]

_VARIANCE: Final = 0.01
"""Of the weights, where the side of a tile is 1."""


def windows(length: int, size: int, stride: int) -> list[slice]:
    """Cover a length with windows.

    Parameters
    ----------
    length : int
        What to cover.
    size : int
        Length of each window, or less if there is no more.
    stride : int
        Distance from one window to the next; the last one is moved back to end with the length.

    Returns
    -------
    list of slice
        At least one.
    """
    size = min(size, length)
    starts = [*range(0, length - size, stride), length - size]
    return [slice(start, start + size) for start in starts]


def gaussian_weights(height: int, width: int) -> Tensor:
    """Return the weight of each place of a tile.

    Parameters
    ----------
    height, width : int
        Size of the tile.

    Returns
    -------
    Tensor, shape (height, width), float32
        Greatest in the middle, with a standard deviation of a tenth of each side.
    """
    sides = ((torch.arange(side) - (side - 1) / 2) / side for side in (height, width))
    rows, columns = (torch.exp(-(place**2) / (2 * _VARIANCE)) for place in sides)
    return torch.outer(rows, columns)


def tiled(
    function: Callable[..., Tensor], *planes: Tensor, size: int, stride: int, scale: tuple[int, int] = (1, 1)
) -> Tensor:
    """Apply a function to tiles and blend what it returns.

    Parameters
    ----------
    function : callable
        Takes the same part of each of the planes, and returns a tensor of that part's height and width times the scale.
    *planes : Tensor, each of shape (B, C, H, W)
        What to cut into tiles.
    size, stride : int
        Side of the tiles, and distance from one to the next.
    scale : tuple of int
        Numerator and denominator of the size of a result over that of its part. Sizes and stride are multiples of the
        denominator.

    Returns
    -------
    Tensor, shape (B, C', H scale, W scale)
        Exactly what the function returns, if one tile is enough.
    """
    height, width = planes[0].shape[2:]
    if max(height, width) <= size:
        return function(*planes)
    times, over = scale
    total = weight = torch.zeros(())
    for rows in windows(height, size, stride):
        for columns in windows(width, size, stride):
            part = function(*(plane[..., rows, columns] for plane in planes))
            if not total.ndim:
                total = part.new_zeros(*part.shape[:2], height * times // over, width * times // over)
                weight = total.new_zeros(total.shape[2:])
            gaussian = gaussian_weights(*part.shape[2:]).to(part)
            where = tuple(slice(side.start * times // over, side.stop * times // over) for side in (rows, columns))
            total[..., where[0], where[1]] += gaussian * part
            weight[where] += gaussian
    return total / weight


@contextmanager
def fixed_group_norm(
    network: nn.Module, function: Callable[[Tensor], object], picture: Tensor, size: int
) -> Iterator[None]:
    """Let every group normalisation use the statistics that it has for a small version of a picture.

    Parameters
    ----------
    network : nn.Module
        Where the normalisations are.
    function : callable
        Runs the network, or a part of it; shall be called with parts of the picture inside of the context.
    picture : Tensor, shape (B, C, H, W)
        The whole picture.
    size : int
        Longer side of the small version.

    Yields
    ------
    None
        While statistics are fixed.
    """
    factor = size / max(picture.shape[2:])
    shape = [max(8, round(side * factor) // 8 * 8) for side in picture.shape[2:]]
    small = F.interpolate(picture, shape, mode="nearest-exact")  # a mean would lose variance
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    hooks = [norm.register_forward_pre_hook(_fix) for norm in norms]
    try:
        function(small)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm in norms:
            norm.__dict__.pop("forward", None)


def _fix(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    """Before its first call: compute statistics, and let this call and those to come use them."""
    if "forward" in norm.__dict__:
        return
    assert isinstance(norm, nn.GroupNorm)
    (features,) = arguments
    groups = features.float().reshape(len(features), norm.num_groups, -1)
    variance, mean = torch.var_mean(groups, dim=-1, correction=0)
    per_group = norm.num_channels // norm.num_groups
    scale = (variance + norm.eps).rsqrt().repeat_interleave(per_group, dim=1) * norm.weight
    shift = norm.bias - mean.repeat_interleave(per_group, dim=1) * scale
    norm.forward = partial(_scaled, scale=scale, shift=shift)  # type: ignore[method-assign]


def _scaled(features: Tensor, *, scale: Tensor, shift: Tensor) -> Tensor:
    each = (..., *(None,) * (features.ndim - 2))
    return features * scale[each].to(features.dtype) + shift[each].to(features.dtype)
