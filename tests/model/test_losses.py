from __future__ import annotations

import math

import pytest
import torch

from codecprior.model.losses import RestorationLoss, restoration_loss


@pytest.fixture
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    """Two clips that are off by 0.1 and by 0.3 everywhere."""
    sharp = torch.rand(2, 3, 3, 8, 8)
    return sharp + torch.tensor([0.1, -0.3]).view(2, 1, 1, 1, 1), sharp


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("l1", 0.2), ("charbonnier", 0.2), ("log_mse", (math.log(0.01) + math.log(0.09)) / 2)],
)
def test_losses_of_known_differences(
    frames: tuple[torch.Tensor, torch.Tensor], kind: RestorationLoss, expected: float
) -> None:
    assert float(restoration_loss(kind, *frames)) == pytest.approx(expected, abs=1e-5)
    assert restoration_loss(kind, frames[0].half(), frames[1].half()).dtype == torch.float32


@pytest.mark.parametrize("kind", ["l1", "charbonnier", "log_mse"])
def test_equal_frames_have_finite_gradients(kind: RestorationLoss) -> None:
    restored = torch.rand(1, 2, 3, 4, 4, requires_grad=True)
    restoration_loss(kind, restored, restored.detach().clone()).backward()
    assert restored.grad is not None
    assert restored.grad.abs().max() < 1e-3
