"""Motion vectors and residuals into the self-attention of a ControlNet for Stable Diffusion 2.x (Eqs. 5 to 7).

The network is IRControlNet's: the encoder and the middle of the base, with the latents of stage 1 as four more input
channels. Each of its seven self-attention layers (two at each of three levels, one in the middle) gets a second query,
of features multiplied by what a linear layer makes of V and R.

References
----------
Lin et al., DiffBIR: Toward Blind Image Restoration with Generative Diffusion Prior, ECCV 2024.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from codecprior.errors import ConfigError

from .cpc_config import CpcConfig

__all__ = [
    "CodingPriorAttention",
    "CodingPriorControlNet",
    "ControlResiduals",
    "coding_prior_planes",
    "controlnet_from_unet",
]

_PER_LATENT: Final = 8
"""Samples from one latent to the next."""

_CONFIG: Final = (
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
    "norm_num_groups",
    "latent_channels",
    "prior_channels",
    "prior_activation",
)


class CodingPriorAttention(nn.Module):
    """Self-attention whose query also sees V and R; a processor of diffusers' ``Attention``, which holds L_q, L_k, L_v.

    Eq. 6: A = L_m(V, R), Q' = L_q(F) + L_qm(F * A). Eq. 7: softmax(Q' K^T / sqrt(d)) V with K and V of F alone. L_qm
    starts at zero: at first, this is the layer without priors.

    Parameters
    ----------
    channels : int
        Channels of features.
    prior_channels : int
        Planes of V and R.
    level : int
        Times that features were halved.
    activation : {"none", "sigmoid"}
        What L_m goes through.
    """

    def __init__(self, channels: int, prior_channels: int, level: int, activation: Literal["none", "sigmoid"]) -> None:
        super().__init__()
        self.level = level
        self.activation = activation
        self.to_mask = nn.Linear(prior_channels, channels)
        self.to_qm = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.to_qm.weight)

    # Not forward: diffusers passes on what the signature of __call__ names, and nn.Module's names nothing.
    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        coding_priors: tuple[Tensor, ...],
    ) -> Tensor:
        """Return what each position attends to.

        Parameters
        ----------
        attn : Attention
            The layer.
        hidden_states : Tensor, shape (B, N, C)
            F, normalised.
        encoder_hidden_states, attention_mask : None
            Not for self-attention.
        coding_priors : tuple of Tensor, each of shape (B, N_l, P)
            V and R at each level.

        Returns
        -------
        Tensor, shape (B, N, C)
            F_o.
        """
        query = self.query(attn, hidden_states, coding_priors)
        key, value = attn.to_k(hidden_states), attn.to_v(hidden_states)
        query, key, value = (each.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for each in (query, key, value))
        attended = F.scaled_dot_product_attention(query, key, value)
        linear, dropout = attn.to_out
        return cast(Tensor, dropout(linear(attended.transpose(1, 2).flatten(2))))

    def query(self, attn: Attention, hidden_states: Tensor, coding_priors: tuple[Tensor, ...]) -> Tensor:
        """Return Q' of Eq. 6, shape (B, N, C); see :meth:`__call__`."""
        mask = self.to_mask(coding_priors[self.level])
        if self.activation == "sigmoid":
            mask = mask.sigmoid()
        return cast(Tensor, attn.to_q(hidden_states) + self.to_qm(hidden_states * mask))


class _TextAttention:
    """Cross-attention; it names the priors, which it is offered too, since diffusers warns of what no one names."""

    def __init__(self) -> None:
        self._process = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        coding_priors: tuple[Tensor, ...],
    ) -> Tensor:
        return cast(Tensor, self._process(attn, hidden_states, encoder_hidden_states, attention_mask))


class ControlResiduals(NamedTuple):
    """What is added to features of the base; accelerate can turn it to float32, unlike diffusers' output class.

    Parameters
    ----------
    skips : tuple of Tensor
        For each skip from the encoder to the decoder, first one first: twelve for Stable Diffusion 2.x.
    middle : Tensor
        For the middle block.
    """

    skips: tuple[Tensor, ...]
    middle: Tensor


class CodingPriorControlNet(ControlNetModel):  # type: ignore[misc]  # mypy does not look into diffusers
    """CPControlNet: what V, R and the latents of stage 1 add to the frozen base at each of its skips.

    Names of parameters are those of diffusers' ControlNetModel, and ``...attn1.processor.{to_mask,to_qm}`` of
    :class:`CodingPriorAttention`. Sizes are by default those of Stable Diffusion 2.x.

    Parameters
    ----------
    block_out_channels : tuple of int
        Channels of each level; all but the last have attention.
    layers_per_block : int
        Residual blocks of each level.
    cross_attention_dim : int
        Channels of the text's embeddings.
    attention_head_dim : tuple of int
        Heads of each level, which diffusers calls so.
    norm_num_groups : int
        Groups of channels that are normalised together.
    latent_channels : int
        Channels of latents.
    prior_channels : int
        Planes of V and R; 0 gives IRControlNet.
    prior_activation : {"none", "sigmoid"}
        What L_m goes through.
    """

    ignore_for_config: ClassVar[list[str]] = [
        name for name in inspect.signature(ControlNetModel.__init__).parameters if name not in _CONFIG
    ]

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        cross_attention_dim: int = 1024,
        attention_head_dim: tuple[int, ...] = (5, 10, 20, 20),
        norm_num_groups: int = 32,
        latent_channels: int = 4,
        prior_channels: int = 3,
        prior_activation: Literal["none", "sigmoid"] = "none",
    ) -> None:
        super().__init__(
            in_channels=2 * latent_channels,
            down_block_types=("CrossAttnDownBlock2D",) * (len(block_out_channels) - 1) + ("DownBlock2D",),
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
            norm_num_groups=norm_num_groups,
            use_linear_projection=True,
        )
        del self.controlnet_cond_embedding  # the condition is not an image: it comes with the noisy latents
        if prior_channels:
            for level, transformer in self.transformers():
                channels = block_out_channels[level]
                transformer.attn1.set_processor(CodingPriorAttention(channels, prior_channels, level, prior_activation))
                transformer.attn2.set_processor(_TextAttention())

    def transformers(self) -> Iterator[tuple[int, Any]]:
        """Give each transformer, first one first, with the times that its features were halved."""
        last = len(self.down_blocks) - 1
        for level, block in [*enumerate(self.down_blocks[:last]), (last, self.mid_block)]:
            for attention in block.attentions:
                for transformer in attention.transformer_blocks:
                    yield level, transformer

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        condition: Tensor,
        *,
        coding_priors: Tensor | None = None,
        strength: float = 1.0,
    ) -> ControlResiduals:
        """Return what the base adds to its skips and to its middle.

        Parameters
        ----------
        sample : Tensor, shape (B, 4, h, w)
            Noisy latents y^t.
        timestep : Tensor, shape () or (B,)
            Of each sample.
        encoder_hidden_states : Tensor, shape (B, 77, D)
            Embedded prompts.
        condition : Tensor, shape (B, 4, h, w)
            Latents of stage 1, X.
        coding_priors : Tensor, shape (B, P, h, w), optional
            V and R as :func:`coding_prior_planes` returns them; needed if the network has inputs for them.
        strength : float
            Factor on the result.

        Returns
        -------
        ControlResiduals
            Of the size of the features that they are added to.

        Raises
        ------
        ConfigError
            If priors are missing or too many for the network.
        """
        planes = 0 if coding_priors is None else coding_priors.shape[1]
        if planes != self.config.prior_channels:
            raise ConfigError(f"{planes} planes of coding priors: the network takes {self.config.prior_channels}")
        attention = {} if coding_priors is None else {"coding_priors": self._pyramid(coding_priors.to(sample.dtype))}

        embedding = self.time_embedding(self.time_proj(timestep.expand(len(sample))).to(sample.dtype))
        features = self.conv_in(torch.cat([sample, condition], dim=1))
        skips = [features]
        for block in self.down_blocks[:-1]:
            features, outputs = block(features, embedding, encoder_hidden_states, cross_attention_kwargs=attention)
            skips += outputs
        features, outputs = self.down_blocks[-1](features, embedding)
        skips += outputs
        features = self.mid_block(features, embedding, encoder_hidden_states, cross_attention_kwargs=attention)
        return ControlResiduals(
            skips=tuple(
                strength * convolution(skip)
                for convolution, skip in zip(self.controlnet_down_blocks, skips, strict=True)
            ),
            middle=strength * self.controlnet_mid_block(features),
        )

    def _pyramid(self, planes: Tensor) -> tuple[Tensor, ...]:
        """Pool planes to each level and lay them out as tokens; L_m after the mean is the mean of L_m."""
        levels = []
        for _ in self.config.block_out_channels:
            levels.append(planes.flatten(2).transpose(1, 2))
            planes = F.adaptive_avg_pool2d(planes, _size(planes, 2))
        return tuple(levels)


def controlnet_from_unet(unet: UNet2DConditionModel, config: CpcConfig) -> CodingPriorControlNet:
    """Build the ControlNet for a base, starting from its encoder.

    Parameters
    ----------
    unet : UNet2DConditionModel
        The base.
    config : CpcConfig
        How priors come in.

    Returns
    -------
    CodingPriorControlNet
        Whose first convolution ignores the condition, and whose result is zero, until it has learnt; in float32.
    """
    sizes = {
        name: unet.config[name]
        for name in (
            "block_out_channels",
            "layers_per_block",
            "cross_attention_dim",
            "attention_head_dim",
            "norm_num_groups",
        )
    }
    network: CodingPriorControlNet = CodingPriorControlNet(
        **sizes,
        latent_channels=unet.config.in_channels,
        prior_channels=config.prior_channels if config.coding_priors else 0,
        prior_activation=config.prior_activation,
    )
    weights = {name: value for name, value in unet.state_dict().items() if name in network.state_dict()}
    weight = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([weight, torch.zeros_like(weight)], dim=1)
    network.load_state_dict(weights, strict=False)  # the rest is what the base does not have
    return network


def coding_prior_planes(mv: Tensor, residual: Tensor, config: CpcConfig) -> Tensor:
    """Lay V and R on the grid of latents.

    Parameters
    ----------
    mv : Tensor, shape (B, 2, H/4, W/4)
        (x, y) in samples.
    residual : Tensor, shape (B, C, H, W)
        Normalised residual. H and W are multiples of 8.
    config : CpcConfig
        The unit of V.

    Returns
    -------
    Tensor, shape (B, 2 + C, H/8, W/8)
        Means over the samples of each latent.

    Raises
    ------
    ConfigError
        If the residual has other planes than the configuration says.
    """
    if residual.shape[1] != config.residual_channels:
        raise ConfigError(
            f"residual of {residual.shape[1]} planes: the network takes residual_channels {config.residual_channels}"
        )
    size = _size(residual, _PER_LATENT)
    return torch.cat([F.adaptive_avg_pool2d(mv / config.mv_unit, size), F.adaptive_avg_pool2d(residual, size)], dim=1)


def _size(planes: Tensor, factor: int) -> tuple[int, int]:
    height, width = (-(-side // factor) for side in planes.shape[2:])
    return height, width
