"""Colours of one picture for the details of another: high frequencies of what was generated, low ones of stage 1.

References
----------
DiffBIR, ``wavelet_reconstruction``: five levels of a 3x3 binomial filter whose taps move apart by a factor of two (à
trous), borders repeated.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["wavelet_color_fix"]

_LEVELS: Final = 5


def wavelet_color_fix(details: Tensor, colors: Tensor) -> Tensor:
    """Replace low frequencies.

    Parameters
    ----------
    details : Tensor, shape (B, C, H, W)
        Gives the high frequencies.
    colors : Tensor, shape (B, C, H, W)
        Gives the low frequencies: about those of more than 32 samples.

    Returns
    -------
    Tensor, shape (B, C, H, W)
        May leave the range of both.
    """
    # Bands telescope: what five levels take out of a picture is the picture without its last mean.
    return details + _low(colors - details)


def _low(picture: Tensor) -> Tensor:
    taps = torch.tensor([0.25, 0.5, 0.25], dtype=picture.dtype, device=picture.device)
    channels = picture.shape[1]
    kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3)
    for level in range(_LEVELS):
        distance = 2**level
        padded = F.pad(picture, (distance,) * 4, mode="replicate")
        picture = F.conv2d(padded, kernel, dilation=distance, groups=channels)
    return picture
