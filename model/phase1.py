"""Phase I: the network of stage 1 learns to bring blurry frames near to the sharp ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .alignment import Aligner
from .cpfp import Cpfp
from .losses import restoration_loss
from .phase import Phase
from .training_config import Phase1Config

__all__ = ["Phase1"]


class Phase1(Phase):
    """Training of stage 1.

    Parameters
    ----------
    config : Phase1Config
        Its configuration.
    device : torch.device
        Where it is trained.

    Raises
    ------
    ConfigError
        If the network needs weights of RAFT and there are none.
    """

    def __init__(self, config: Phase1Config, device: torch.device) -> None:
        self.network = Cpfp(config.cpfp)
        self.network.gradient_checkpointing = config.training.gradient_checkpointing
        self._align = Aligner(config.cpfp, device)
        self._loss = config.training.loss

    def loss(self, network: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the distance of restored and sharp frames; see :class:`Phase`."""
        frames = network(batch["blurry"], **self._align(batch)).frames
        return restoration_loss(self._loss, frames, batch["sharp"])

    def restore(self, network: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Restore a clip; see :class:`Phase`."""
        frames = network(batch["blurry"], **self._align(batch)).frames
        return {"blurry": batch["blurry"][0], "restored": frames[0], "sharp": batch["sharp"][0]}
