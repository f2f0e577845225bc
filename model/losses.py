"""How far restored frames are from sharp ones, as one number to train by."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["RestorationLoss", "restoration_loss"]

RestorationLoss = Literal["l1", "charbonnier", "log_mse"]
"""Distance of frames:

- ``"l1"``: mean absolute difference, as the paper has it;
- ``"charbonnier"``: the same, smooth around 0, as BasicVSR++ has it;
- ``"log_mse"``: natural logarithm of the mean squared difference of each clip, PSNR up to a factor: clips that are easy
  count as much as hard ones.
"""

_CHARBONNIER: Final = 1e-12
_LOG: Final = 1e-8
"""80 dB: what is closer than that has no gradient worth following."""


def restoration_loss(kind: RestorationLoss, restored: Tensor, sharp: Tensor) -> Tensor:
    """Compare frames.

    Parameters
    ----------
    kind : {"l1", "charbonnier", "log_mse"}
        See :data:`RestorationLoss`.
    restored, sharp : Tensor, shape (B, T, 3, H, W)
        R'G'B', 0 to 1.

    Returns
    -------
    Tensor, shape (), float32
        Mean over the batch.
    """
    restored, sharp = restored.float(), sharp.float()
    if kind == "l1":
        return functional.l1_loss(restored, sharp)
    square = (restored - sharp).square()
    if kind == "charbonnier":
        return (square + _CHARBONNIER).sqrt().mean()
    return torch.log(square.flatten(1).mean(dim=1) + _LOG).mean()
