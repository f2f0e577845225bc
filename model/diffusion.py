"""The diffusion of stage 2: its schedule, the loss that trains the ControlNet, and the chain that generates frames.

Each step is Eq. 5, G_t: (X, V, R, P_t, y^t) -> y^(t-1), with the latents of stage 1 for X. Like DiffBIR: noise is
predicted, timesteps are spaced evenly from 999 to 0, and noise with the variance of the posterior goes back in.

References
----------
Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, ICML 2021, for the spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from codecprior.core.arrays import CELL

from .colorfix import wavelet_color_fix
from .cpc import coding_prior_planes
from .cpc_config import CpcConfig, DenoisingConfig, SamplingConfig
from .stable_diffusion import StableDiffusion
from .tiling import tiled

__all__ = ["DenoisingLoss", "generate", "noise_schedule", "predict_noise", "sample_latents"]

_PER_LATENT: Final = 8
_MULTIPLE: Final = 64
"""Sizes in samples that the networks halve without a remainder."""


def noise_schedule() -> DDPMScheduler:
    """Return the schedule of Stable Diffusion with DiffBIR's way of spacing it."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        variance_type="fixed_small",
        clip_sample=False,
        timestep_spacing="linspace",
    )


def predict_noise(
    base: StableDiffusion,
    controlnet: nn.Module,
    *,
    sample: Tensor,
    timestep: Tensor,
    text: Tensor,
    condition: Tensor,
    coding_priors: Tensor | None,
    strength: float = 1.0,
) -> Tensor:
    """Run the ControlNet and the base.

    Parameters
    ----------
    base : StableDiffusion
        The frozen networks.
    controlnet : nn.Module
        A :class:`~codecprior.model.cpc.CodingPriorControlNet`, perhaps wrapped.
    sample : Tensor, shape (B, 4, h, w)
        Noisy latents.
    timestep : Tensor, shape () or (B,)
        Of each sample.
    text : Tensor, shape (B, 77, D)
        Embedded prompts.
    condition : Tensor, shape (B, 4, h, w)
        Latents of stage 1.
    coding_priors : Tensor, shape (B, P, h, w), optional
        V and R.
    strength : float
        Factor on what the ControlNet adds.

    Returns
    -------
    Tensor, shape (B, 4, h, w), float32
        The noise that is found in the sample.
    """
    trained, frozen = next(controlnet.parameters()).dtype, base.unet.dtype
    control = controlnet(
        sample.to(trained),
        timestep,
        text.to(trained),
        condition.to(trained),
        coding_priors=coding_priors,
        strength=strength,
    )
    noise = base.unet(
        sample.to(frozen),
        timestep,
        text.to(frozen),
        down_block_additional_residuals=tuple(each.to(frozen) for each in control.skips),
        mid_block_additional_residual=control.middle.to(frozen),
    ).sample
    return cast(Tensor, noise.float())


class DenoisingLoss:
    """Mean squared error of the predicted noise, at a timestep drawn uniformly for each sample.

    Parameters
    ----------
    base : StableDiffusion
        The frozen networks, on their device.
    config : DenoisingConfig
        Prompt and noise of the condition.
    """

    def __init__(self, base: StableDiffusion, config: DenoisingConfig) -> None:
        self.base = base
        self.config = config
        self.schedule = noise_schedule()
        self._text = base.embed([config.prompt, ""])

    def __call__(
        self, controlnet: nn.Module, target: Tensor, condition: Tensor, coding_priors: Tensor | None
    ) -> Tensor:
        """Return the loss of one step; draws from torch's random state.

        Parameters
        ----------
        controlnet : nn.Module
            The network that is trained.
        target : Tensor, shape (B, 4, h, w)
            Latents of sharp frames, a sample of their posterior.
        condition : Tensor, shape (B, 4, h, w)
            Latents of stage 1, the mode of their posterior.
        coding_priors : Tensor, shape (B, P, h, w), optional
            V and R.

        Returns
        -------
        Tensor, shape ()
            To be minimised.
        """
        device, count = target.device, len(target)
        timestep = torch.randint(len(self.schedule.betas), (count,), device=device)
        noise = torch.randn_like(target)
        noisy = self.schedule.add_noise(target, noise, timestep)
        if self.config.noise_aug_timestep:
            little = torch.randint(self.config.noise_aug_timestep, (count,), device=device)
            condition = self.schedule.add_noise(condition, torch.randn_like(condition), little)
        text = self._text[(torch.rand(count, device=device) < self.config.prompt_dropout).long()]
        found = predict_noise(
            self.base,
            controlnet,
            sample=noisy,
            timestep=timestep,
            text=text,
            condition=condition,
            coding_priors=coding_priors,
        )
        return F.mse_loss(found, noise)


@torch.no_grad()
def sample_latents(
    base: StableDiffusion,
    controlnet: nn.Module,
    condition: Tensor,
    coding_priors: Tensor | None,
    config: SamplingConfig,
    *,
    frame_indices: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Run the chain from noise to latents of sharp frames.

    Parameters
    ----------
    base : StableDiffusion
        The frozen networks.
    controlnet : nn.Module
        The trained network, on the same device.
    condition : Tensor, shape (B, 4, h, w), float32
        Latents of stage 1; h and w are multiples of 8.
    coding_priors : Tensor, shape (B, P, h, w), optional
        V and R.
    config : SamplingConfig
        Steps, guidance, noise and tiles.
    frame_indices : sequence of int, length B
        Positions in the video, which the noise of a frame depends on: not on how frames are grouped.
    progress : callable, optional
        Called after each step with the number done and the total.

    Returns
    -------
    Tensor, shape (B, 4, h, w), float32
        Latents.
    """
    guided = config.guidance_scale != 1
    prompts = [config.prompt, config.negative_prompt] if guided else [config.prompt]
    texts = base.embed(prompts)[:, None].expand(-1, len(condition), -1, -1)
    generators = [_generator(config, index) for index in frame_indices]
    schedule = noise_schedule()
    schedule.set_timesteps(config.num_steps)
    sample = randn_tensor(condition.shape, generator=generators, device=condition.device, dtype=condition.dtype)
    if config.start == "condition":
        sample = schedule.add_noise(condition, sample, schedule.timesteps[:1].expand(len(condition)))

    def predict(timestep: Tensor, sample: Tensor, condition: Tensor, coding_priors: Tensor | None = None) -> Tensor:
        noise, *others = (
            predict_noise(
                base,
                controlnet,
                sample=sample,
                timestep=timestep,
                text=text,
                condition=condition,
                coding_priors=coding_priors,
                strength=config.strength,
            )
            for text in texts
        )
        return others[0] + config.guidance_scale * (noise - others[0]) if guided else noise

    size = config.tile_size or _PER_LATENT * max(condition.shape[2:])
    for done, timestep in enumerate(schedule.timesteps, 1):
        planes = [sample, condition] if coding_priors is None else [sample, condition, coding_priors]
        noise = tiled(
            partial(predict, timestep.to(sample.device)),
            *planes,
            size=size // _PER_LATENT,
            stride=config.tile_stride // _PER_LATENT,
        )
        sample = schedule.step(noise, timestep, sample, generator=generators).prev_sample
        if progress is not None:
            progress(done, config.num_steps)
    return cast(Tensor, sample)


@torch.no_grad()
def generate(
    base: StableDiffusion,
    controlnet: nn.Module,
    *,
    stage1: Tensor,
    mv: Tensor,
    residual: Tensor,
    cpc: CpcConfig,
    sampling: SamplingConfig,
    frame_indices: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Generate sharp frames from those of stage 1.

    Parameters
    ----------
    base : StableDiffusion
        The frozen networks.
    controlnet : nn.Module
        The trained network, on the same device.
    stage1 : Tensor, shape (B, 3, H, W)
        Frames X, R'G'B', 0 to 1; of any size.
    mv : Tensor, shape (B, 2, ceil(H/4), ceil(W/4))
        V: (x, y) in samples.
    residual : Tensor, shape (B, C, H, W)
        R, normalised.
    cpc : CpcConfig
        How priors come in.
    sampling : SamplingConfig
        How frames are generated.
    frame_indices : sequence of int, length B
        Positions in the video.
    progress : callable, optional
        Called after each step with the number done and the total.

    Returns
    -------
    Tensor, shape (B, 3, H, W), float32
        R'G'B', 0 to 1.
    """
    height, width = stage1.shape[2:]
    size = [-(-side // _MULTIPLE) * _MULTIPLE for side in (height, width)]
    padded = _grown(stage1, size)
    condition = base.encode(padded, tile_size=sampling.tile_size)
    planes = None
    if cpc.coding_priors:
        planes = coding_prior_planes(_grown(mv, [side // CELL for side in size]), _grown(residual, size), cpc)
    latents = sample_latents(
        base, controlnet, condition, planes, sampling, frame_indices=frame_indices, progress=progress
    )
    frames = base.decode(latents, tile_size=sampling.tile_size)
    if sampling.color_fix:
        frames = wavelet_color_fix(frames, padded)
    return frames[..., :height, :width].clamp(0, 1)


def _grown(planes: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the last row and column up to a size."""
    height, width = planes.shape[2:]
    return F.pad(planes, (0, size[1] - width, 0, size[0] - height), mode="replicate")


def _generator(config: SamplingConfig, frame_index: int) -> torch.Generator:
    entropy = [config.seed] if config.noise == "clip" else [config.seed, frame_index]
    (state,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state))
