"""Modulated deformable convolution (DCNv2) in fp32: torchvision's operator on a GPU, the same by grid_sample on a CPU.

torchvision's operator takes half of a training step on a CPU; written with grid_sample it is several times faster
there, with results and gradients equal to about 2e-6. Coordinates in bf16 err by up to 0.7 of a feature at a width of
320: whatever autocast says, offsets, masks and features are fp32 here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import deform_conv2d

__all__ = ["TAPS", "DeformableConvolution", "sample"]

_KERNEL = 3
TAPS = _KERNEL * _KERNEL
"""Places that one output is made from, per group: offsets and masks are given for each, rows first."""


class DeformableConvolution(nn.Module):
    """3x3 convolution whose taps lie anywhere and have weights that differ from place to place (D in Eq. 4).

    Beyond the border everything is 0.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels.
    groups : int
        Parts of the input channels with offsets and masks of their own.
    init : {"random", "identity"}
        First weights: as :class:`torch.nn.Conv2d` has them, or such that masks of a half and equal offsets give the
        first input channels back, shifted.
    """

    def __init__(
        self, in_channels: int, out_channels: int, groups: int, init: Literal["random", "identity"] = "random"
    ) -> None:
        super().__init__()
        self.groups = groups
        like = nn.Conv2d(in_channels, out_channels, _KERNEL)
        assert like.bias is not None
        self.weight, self.bias = like.weight, like.bias
        if init == "identity":
            with torch.no_grad():
                nn.init.dirac_(self.weight).mul_(2)
                self.bias.zero_()

    def forward(self, features: Tensor, offsets: Tensor, masks: Tensor) -> Tensor:
        """Apply the convolution.

        Parameters
        ----------
        features : Tensor, shape (B, C, H, W)
            What is sampled.
        offsets : Tensor, shape (B, 2 * groups * 9, H, W)
            (dy, dx) in features from where a tap of a plain convolution would lie, for each tap of each group.
        masks : Tensor, shape (B, groups * 9, H, W)
            Factors on samples.

        Returns
        -------
        Tensor, shape (B, out_channels, H, W), float32
            Result.
        """
        with torch.autocast(features.device.type, enabled=False):
            features, offsets, masks = features.float(), offsets.float(), masks.float()
            if features.is_cuda:
                result: Tensor = deform_conv2d(
                    features, offsets, self.weight, self.bias, padding=_KERNEL // 2, mask=masks
                )
                return result
            return self._by_sampling(features, offsets, masks)

    def _by_sampling(self, features: Tensor, offsets: Tensor, masks: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        each = batch * self.groups
        reach = torch.arange(_KERNEL, dtype=torch.float32, device=features.device) - _KERNEL // 2
        dy, dx = offsets.view(each, _KERNEL, _KERNEL, 2, height, width).unbind(3)
        displacement = torch.stack([dx + reach[:, None, None], dy + reach[:, None, None, None]], dim=-1)
        sampled = sample(
            features.reshape(each, channels // self.groups, height, width),
            displacement.reshape(each, TAPS * height, width, 2),
        )
        columns = sampled.view(each, -1, TAPS, height * width) * masks.reshape(each, 1, TAPS, height * width)
        product = self.weight.flatten(1) @ columns.view(batch, channels * TAPS, height * width)
        return product.view(batch, -1, height, width) + self.bias[:, None, None]


def sample(features: Tensor, displacement: Tensor) -> Tensor:
    """Take features from other places, bilinear between them and 0 beyond the border.

    Parameters
    ----------
    features : Tensor, shape (B, C, H, W)
        What is sampled.
    displacement : Tensor, shape (B, n * H, W, 2)
        (x, y) in features from the place of each result; rows repeat if there are more than H.

    Returns
    -------
    Tensor, shape (B, C, n * H, W)
        Samples.
    """
    height, width = features.shape[2:]
    rows = torch.arange(displacement.shape[1], device=features.device).remainder(height)
    cols = torch.arange(width, device=features.device)
    x, y = displacement[..., 0] + cols, displacement[..., 1] + rows[:, None]
    # Not align_corners, which divides by zero where a side is 1.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return functional.grid_sample(features, grid, align_corners=False)
