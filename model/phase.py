"""What the trainings of both stages have in common: a network, a loss of a batch, and frames to look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Phase"]


class Phase(ABC):
    """One of the two trainings.

    Attributes
    ----------
    network : nn.Module
        What is trained, on the CPU.
    """

    network: nn.Module

    @abstractmethod
    def loss(self, network: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return what a step minimises.

        Parameters
        ----------
        network : nn.Module
            The network, perhaps wrapped.
        batch : mapping
            Clips as :class:`~codecprior.model.dataset.ClipDataset` names them, on the device.

        Returns
        -------
        Tensor, shape (), float32
            Mean over the batch; draws from torch's random state.
        """

    @abstractmethod
    def restore(self, network: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return frames of one clip to look at.

        Parameters
        ----------
        network : nn.Module
            The network, perhaps a mean of weights.
        batch : mapping
            A batch of one clip, on the device.

        Returns
        -------
        dict of str to Tensor, shape (T, 3, H, W)
            R'G'B', 0 to 1, by what they are, from ``"blurry"`` to ``"restored"`` and ``"sharp"``.
        """
