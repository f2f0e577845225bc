"""Phase II: the ControlNet of stage 2 learns to lead the frozen base from frames of stage 1 to sharp ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from codecprior.errors import ConfigError

from .alignment import Aligner
from .checkpoint import load_checkpoint
from .cpc import coding_prior_planes
from .cpfp import Cpfp
from .diffusion import DenoisingLoss, generate
from .latents import CONDITION_LATENTS, SHARP_MOMENTS
from .phase import Phase
from .stable_diffusion import initial_controlnet, load_stable_diffusion
from .training_config import Phase2Config

__all__ = ["Phase2"]


class Phase2(Phase):
    """Training of stage 2 on the frame in the middle of each clip.

    Parameters
    ----------
    config : Phase2Config
        Its configuration.
    device : torch.device
        Where it is trained.
    restored : bool
        Whether blurry frames of the data are outputs of stage 1 already.
    vae : str, optional
        Digest of the VAE that the data have latents of, if they are read instead of frames.

    Raises
    ------
    ConfigError
        If weights are missing or do not fit, or latents are those of another VAE.
    """

    def __init__(
        self, config: Phase2Config, device: torch.device, *, restored: bool = False, vae: str | None = None
    ) -> None:
        self._config = config
        self._base = load_stable_diffusion(config.cpc)
        if vae is not None and vae != self._base.vae_digest():
            raise ConfigError(
                "data.latents: they are of another VAE than that of the base, or in another type; use base_path and "
                "frozen_dtype of section cpc that 'codecprior precompute' had"
            )
        self._base.to(device)
        self.network = initial_controlnet(config.cpc, self._base.unet)
        if config.training.gradient_checkpointing:
            for network in (self.network, self._base.unet):
                network.enable_gradient_checkpointing()
        self._loss = DenoisingLoss(self._base, config.denoising)
        self._stage1, self._align = None, None
        if (weights := config.stage1.weights()) is not None and not restored:
            stage1 = cast(Cpfp, load_checkpoint(weights, "cpfp")[1])
            self._stage1 = stage1.to(device).requires_grad_(False)
            self._align = Aligner(stage1.config, device)

    def loss(self, network: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the error of the predicted noise; see :class:`Phase`."""
        middle, config, planes = _middle(batch), self._config.cpc, None
        if config.coding_priors:
            planes = coding_prior_planes(middle["mv_forward"], middle["residual"], config)
        if self._config.data.latents:
            target, condition = self._base.latents(middle[SHARP_MOMENTS], sample=True), middle[CONDITION_LATENTS]
        else:
            target = self._base.encode(middle["sharp"], sample=True)
            condition = self._base.encode(self._restored(batch))
        return self._loss(network, target, condition, planes)

    def restore(self, network: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Generate the frame in the middle of a clip; see :class:`Phase`."""
        middle, stage1 = _middle(batch), self._restored(batch)
        generated = generate(
            self._base,
            network,
            stage1=stage1,
            mv=middle["mv_forward"],
            residual=middle["residual"],
            cpc=self._config.cpc,
            sampling=self._config.sampling,
            frame_indices=middle["frame_indices"].tolist(),
        )
        return {"blurry": middle["blurry"], "stage 1": stage1, "restored": generated, "sharp": middle["sharp"]}

    @torch.no_grad()
    def _restored(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the frame in the middle of each clip as stage 1 restores it, (B, 3, H, W)."""
        if self._stage1 is None or self._align is None:
            return _middle(batch)["blurry"]
        frames = self._stage1(batch["blurry"], **self._align(batch)).frames
        return cast(Tensor, frames[:, frames.shape[1] // 2].clamp(0, 1))


def _middle(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take the frame in the middle of each clip: tensors (B, ...) instead of (B, T, ...)."""
    return {key: value[:, value.shape[1] // 2] for key, value in batch.items() if isinstance(value, Tensor)}
