from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from codecprior.model.deformable import TAPS, DeformableConvolution, sample


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(4)


def inputs(batch: int, channels: int, groups: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    features = torch.randn(batch, channels, *size)
    # Between samples: at them, gradients of the interpolation jump, and rounding decides.
    offsets = torch.randint(-6, 6, (batch, 2 * TAPS * groups, *size)) + 0.1 + 0.8 * torch.rand(1)
    return features, offsets, torch.rand(batch, TAPS * groups, *size)


@pytest.mark.parametrize(
    ("batch", "channels", "groups", "size"), [(2, 32, 8, (24, 40)), (1, 16, 16, (5, 7)), (3, 6, 1, (1, 9))]
)
def test_sampling_equals_the_operator_of_torchvision_with_its_gradients(
    batch: int, channels: int, groups: int, size: tuple[int, int]
) -> None:
    layer = DeformableConvolution(channels, 12, groups)
    leaves = *inputs(batch, channels, groups, size), layer.weight, layer.bias
    for leaf in leaves:
        leaf.requires_grad_()
    features, offsets, masks = leaves[:3]
    direction = torch.randn(batch, 12, *size)
    results = []
    for output in (
        layer(features, offsets, masks),
        deform_conv2d(features, offsets, layer.weight, layer.bias, padding=1, mask=masks),
    ):
        results.append([output.detach(), *torch.autograd.grad((output * direction).sum(), leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() < 5e-6 * theirs.abs().max().clamp(min=1)


@pytest.mark.parametrize("tap", range(TAPS))
def test_each_tap_of_each_group_has_its_own_offset_of_which_the_first_is_y(tap: int) -> None:
    features = torch.randn(1, 4, 20, 20)
    layer = DeformableConvolution(4, 4, 2)
    for group in range(2):
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[range(4), range(4), tap // 3, tap % 3] = 1
        offsets, masks = torch.zeros(1, 2 * 2 * TAPS, 20, 20), torch.ones(1, 2 * TAPS, 20, 20)
        offsets[:, 2 * (group * TAPS + tap)] = 2
        offsets[:, 2 * (group * TAPS + tap) + 1] = -3
        masks[:, group * TAPS + tap] = 0.25
        found = layer(features, offsets, masks)
        row, col = tap // 3 - 1, tap % 3 - 1
        for channel in range(4):
            dy, dx, scale = (2, -3, 0.25) if channel // 2 == group else (0, 0, 1)
            there = features[0, channel, 5 + row + dy : 15 + row + dy, 5 + col + dx : 15 + col + dx]
            assert torch.allclose(found[0, channel, 5:15, 5:15], scale * there, atol=1e-5)


def test_identity_with_masks_of_a_half_is_a_shift() -> None:
    features = torch.randn(1, 8, 16, 24)
    layer = DeformableConvolution(8, 8, 4, "identity")
    offsets = torch.tensor([1.0, -2.0]).repeat(4 * TAPS)[None, :, None, None].expand(1, -1, 16, 24)
    shifted = layer(features, offsets, torch.full((1, 4 * TAPS, 16, 24), 0.5))
    assert torch.allclose(shifted[..., :-1, 2:], features[..., 1:, :-2], atol=1e-6)
    assert shifted[..., -1, :].abs().max() < 1e-5
    assert shifted[..., :2].abs().max() < 1e-5


def test_two_frames_at_once_begin_as_the_first_alone() -> None:
    layer = DeformableConvolution(8, 4, 2, "identity")
    assert torch.equal(layer.weight[:, :4, 1, 1], 2 * torch.eye(4))
    assert layer.weight.count_nonzero() == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_it_in_single_precision(dtype: torch.dtype) -> None:
    layer, (features, offsets, masks) = DeformableConvolution(8, 8, 2), inputs(1, 8, 2, (4, 320))
    with torch.autocast("cpu", dtype=dtype):
        found = layer(features, offsets, masks)
        assert layer(features.to(dtype), offsets, masks).dtype == torch.float32
    assert found.dtype == torch.float32
    assert torch.equal(found, layer(features, offsets, masks))


def test_a_sample_lies_at_x_and_y_from_its_place() -> None:
    features = torch.arange(12.0).view(1, 1, 3, 4)
    displacement = torch.tensor([2.0, 1.0]).expand(1, 3, 4, 2)
    expected = torch.tensor([[6.0, 7, 0, 0], [10, 11, 0, 0], [0, 0, 0, 0]])
    assert torch.allclose(sample(features, displacement)[0, 0], expected, atol=1e-5)
