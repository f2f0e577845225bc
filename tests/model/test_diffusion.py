from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from codecprior.errors import ConfigError
from codecprior.model.colorfix import wavelet_color_fix
from codecprior.model.cpc import CodingPriorControlNet, coding_prior_planes
from codecprior.model.cpc_config import CpcConfig, DenoisingConfig, SamplingConfig
from codecprior.model.diffusion import DenoisingLoss, generate, noise_schedule, predict_noise, sample_latents
from codecprior.model.stable_diffusion import StableDiffusion, initial_controlnet, load_stable_diffusion

TINY = CpcConfig(base="tiny", init="unet")
FEW = SamplingConfig(num_steps=3, tile_size=0)


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return load_stable_diffusion(TINY)


@pytest.fixture(scope="module")
def learnt(base: StableDiffusion) -> CodingPriorControlNet:
    """A network that adds something and in which the priors matter."""
    torch.manual_seed(4)
    network = initial_controlnet(TINY, base.unet)
    for name, parameter in network.named_parameters():
        if "controlnet_" in name or "to_qm" in name or name == "conv_in.weight":
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def batch(count: int = 2, height: int = 64, width: int = 96) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(3)
    return {
        "stage1": torch.rand(count, 3, height, width, generator=random),
        "mv": 10 * torch.randn(count, 2, -(-height // 4), -(-width // 4), generator=random),
        "residual": torch.rand(count, 1, height, width, generator=random),
    }


def alphas() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Products of 1 - beta, where the roots of beta go evenly from that of 0.00085 to that of 0.012."""
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


class Linear(nn.Module):
    """A base whose noise is a linear function of the sample and the timestep: its chain can be computed by hand."""

    dtype = torch.float32

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **control: Any) -> SimpleNamespace:
        return SimpleNamespace(sample=0.9 * sample + timestep / 1000 - 0.3 + text.mean())


class Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, *inputs: Tensor, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(skips=(), middle=self.weight)


@pytest.mark.parametrize("steps", [2, 4, 10, 50, 100])
@pytest.mark.parametrize("start", ["noise", "condition"])
def test_the_chain_is_that_of_the_respaced_posterior(monkeypatch: pytest.MonkeyPatch, steps: int, start: Any) -> None:
    random = np.random.default_rng(steps)
    shape, condition = (1, 4, 8, 8), torch.from_numpy(random.standard_normal((1, 4, 8, 8))).float()
    drawn: list[np.ndarray[Any, Any]] = []

    def draw(shape: tuple[int, ...], **options: Any) -> Tensor:
        drawn.append(random.standard_normal(shape))
        return torch.from_numpy(drawn[-1]).float()

    monkeypatch.setattr("codecprior.model.diffusion.randn_tensor", draw)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", draw)
    base = SimpleNamespace(unet=Linear(), embed=lambda prompts: torch.zeros(len(prompts), 7, 4))
    config = SamplingConfig(num_steps=steps, start=start, tile_size=0)
    found = sample_latents(base, Nothing(), condition, None, config, frame_indices=[0])  # type: ignore[arg-type]

    # Nichol and Dhariwal: a chain of the chosen timesteps, whose betas follow from their alphas.
    times = [round(number * 999 / (steps - 1)) for number in range(steps)]
    alpha = alphas()[times]
    previous = np.concatenate([[1.0], alpha[:-1]])
    beta = 1 - alpha / previous
    noises = iter(drawn)
    sample = next(noises)
    if start == "condition":
        sample = alpha[-1] ** 0.5 * condition.numpy() + (1 - alpha[-1]) ** 0.5 * sample
    for at in reversed(range(steps)):
        noise = 0.9 * sample + times[at] / 1000 - 0.3
        clean = (sample - (1 - alpha[at]) ** 0.5 * noise) / alpha[at] ** 0.5
        mean = (beta[at] * previous[at] ** 0.5 * clean + (1 - previous[at]) * (1 - beta[at]) ** 0.5 * sample) / (
            1 - alpha[at]
        )
        deviation = (beta[at] * (1 - previous[at]) / (1 - alpha[at])) ** 0.5
        sample = mean + deviation * next(noises) if at else mean
    assert next(noises, None) is None  # no noise in the last step
    assert np.linalg.norm(found.numpy() - sample) < 1e-5 * np.linalg.norm(sample)
    assert found.shape == shape


def test_timesteps_are_those_of_guided_diffusion() -> None:
    schedule = noise_schedule()
    schedule.set_timesteps(50)
    assert schedule.timesteps.tolist() == [round(number * 999 / 49) for number in range(50)][::-1]
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), alphas(), rtol=1e-5)


def test_noise_depends_on_the_frame_and_not_on_how_frames_are_grouped(
    base: StableDiffusion, learnt: CodingPriorControlNet
) -> None:
    condition = torch.randn(1, 4, 8, 8).expand(3, -1, -1, -1)
    planes = torch.randn(1, 3, 8, 8).expand(3, -1, -1, -1)

    def frames(indices: list[int], config: SamplingConfig = FEW) -> Tensor:
        count = len(indices)
        return sample_latents(base, learnt, condition[:count], planes[:count], config, frame_indices=indices)

    together = frames([5, 6, 7])
    torch.testing.assert_close(frames([6])[0], together[1])
    assert (together[0] - together[1]).abs().max() > 0.1
    assert torch.equal(frames([5, 6, 7]), together)
    assert not torch.equal(frames([5, 6, 7], replace(FEW, seed=1)), together)
    same = frames([5, 6, 7], replace(FEW, noise="clip"))
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(frames([9], replace(FEW, noise="clip"))[0], same[2])


def test_guidance_leads_away_from_the_negative_prompt(base: StableDiffusion, learnt: CodingPriorControlNet) -> None:
    condition, planes = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 8, 8)

    def latents(**options: Any) -> Tensor:
        config = replace(FEW, prompt="sharp", **options)
        return sample_latents(base, learnt, condition, planes, config, frame_indices=[0])

    alone = latents()
    assert torch.equal(latents(negative_prompt="anything"), alone)
    guided = latents(guidance_scale=4.0)
    assert not torch.allclose(guided, alone)
    assert not torch.allclose(latents(guidance_scale=4.0, negative_prompt="anything"), guided)
    torch.testing.assert_close(latents(guidance_scale=4.0, negative_prompt="sharp"), alone)


def test_without_guidance_the_negative_prompt_needs_no_tokenizer(
    base: StableDiffusion, learnt: CodingPriorControlNet
) -> None:
    config = load_stable_diffusion(TINY).text_encoder.config
    ids = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407}
    text_encoder = CLIPTextModel(CLIPTextConfig(**config.to_dict() | ids)).eval()
    single = StableDiffusion(unet=base.unet, vae=base.vae, text_encoder=text_encoder, tokenizer=None)
    latents, planes = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 8, 8)
    assert sample_latents(single, learnt, latents, planes, FEW, frame_indices=[0]).isfinite().all()
    with pytest.raises(ConfigError, match=r"prompt 'low quality.* give tokenizer_path"):
        sample_latents(single, learnt, latents, planes, replace(FEW, guidance_scale=4.0), frame_indices=[0])


def test_strength_scales_what_the_controlnet_adds(base: StableDiffusion, learnt: CodingPriorControlNet) -> None:
    sample, planes = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 8, 8)
    text = base.embed([""])

    @torch.no_grad()
    def noise(strength: float) -> Tensor:
        return predict_noise(
            base,
            learnt,
            sample=sample,
            timestep=torch.tensor(500),
            text=text,
            condition=sample,
            coding_priors=planes,
            strength=strength,
        )

    plain = base.unet(sample, torch.tensor(500), text).sample
    torch.testing.assert_close(noise(0.0), plain)
    assert not torch.allclose(noise(0.5), plain)
    assert not torch.allclose(noise(0.5), noise(1.0))


def test_the_loss_is_the_error_of_the_noise_and_trains_only_the_controlnet(base: StableDiffusion) -> None:
    network = initial_controlnet(TINY, base.unet)
    target, condition, planes = (torch.randn(2, planes, 16, 16) for planes in (4, 4, 3))
    torch.manual_seed(11)
    loss = DenoisingLoss(base, DenoisingConfig(prompt="sharp", prompt_dropout=0))(network, target, condition, planes)

    torch.manual_seed(11)
    times = torch.randint(1000, (2,))
    noise = torch.randn_like(target)
    alpha = torch.from_numpy(alphas()).float()[times][:, None, None, None]
    noisy = alpha.sqrt() * target + (1 - alpha).sqrt() * noise
    with torch.no_grad():  # the network adds nothing yet
        found = base.unet(noisy, times, base.embed(["sharp"] * 2)).sample
    torch.testing.assert_close(loss.detach(), (found - noise).square().mean())

    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    criterion = DenoisingLoss(base, DenoisingConfig())
    names: set[str] = set()
    for _ in range(3):
        optimizer.zero_grad()
        criterion(network, target, condition, planes).backward()
        optimizer.step()
        names |= {name for name, parameter in network.named_parameters() if parameter.grad.abs().max() > 0}
    assert names == {name for name, _ in network.named_parameters()}
    frozen = [*base.unet.parameters(), *base.vae.parameters(), *base.text_encoder.parameters()]
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen)
    assert not any(each.training for each in (base.unet, base.vae, base.text_encoder))


def test_prompts_are_dropped_and_conditions_get_noise_as_configured(
    monkeypatch: pytest.MonkeyPatch, base: StableDiffusion
) -> None:
    seen: list[dict[str, Tensor]] = []

    def record(*networks: Any, **inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return torch.zeros_like(inputs["sample"])

    monkeypatch.setattr("codecprior.model.diffusion.predict_noise", record)
    torch.manual_seed(0)
    latents = torch.randn(400, 4, 1, 1)

    def inputs(**options: Any) -> dict[str, Tensor]:
        config = DenoisingConfig(prompt="sharp", **options)
        DenoisingLoss(base, config)(nn.Identity(), latents, latents, None)
        return seen[-1]

    texts = base.embed(["sharp", ""])
    for share, low, high in ((0.0, 0, 0), (0.5, 0.4, 0.6), (1.0, 1, 1)):
        text = inputs(prompt_dropout=share)["text"]
        dropped = (text == texts[1]).all(dim=2).all(dim=1)
        assert torch.equal(text[~dropped], texts[0].expand(int((~dropped).sum()), -1, -1))
        assert low <= dropped.float().mean() <= high
    assert torch.equal(inputs()["condition"], latents)
    changed = (inputs(noise_aug_timestep=200)["condition"] - latents).std()
    assert 0.1 < changed < (1 - alphas()[199]) ** 0.5 * 1.2
    assert 0 <= inputs()["timestep"].min() < 30
    assert 970 < inputs()["timestep"].max() <= 999


@pytest.mark.parametrize(("height", "width"), [(64, 96), (50, 91)])
def test_frames_of_any_size_are_generated_between_0_and_1(
    base: StableDiffusion, learnt: CodingPriorControlNet, height: int, width: int
) -> None:
    given = batch(height=height, width=width)
    done: list[tuple[int, int]] = []

    def frames(config: SamplingConfig, **changed: Tensor) -> Tensor:
        return generate(
            base,
            learnt,
            **{**given, **changed},
            cpc=TINY,
            sampling=config,
            frame_indices=[0, 1],
            progress=lambda *step: done.append(step),
        )

    found = frames(FEW)
    assert found.shape == (2, 3, height, width)
    assert 0 <= found.min() < found.max() <= 1
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert not torch.equal(frames(FEW, mv=-given["mv"]), found)
    assert not torch.equal(frames(FEW, residual=1 - given["residual"]), found)
    assert not torch.equal(frames(replace(FEW, color_fix=False)), found)


def test_generation_is_encoding_sampling_decoding_and_fixing_colours(
    base: StableDiffusion, learnt: CodingPriorControlNet
) -> None:
    given = batch(width=128)
    found = generate(base, learnt, **given, cpc=TINY, sampling=FEW, frame_indices=[0, 1])
    planes = coding_prior_planes(given["mv"], given["residual"], TINY)
    latents = sample_latents(base, learnt, base.encode(given["stage1"]), planes, FEW, frame_indices=[0, 1])
    torch.testing.assert_close(found, wavelet_color_fix(base.decode(latents), given["stage1"]).clamp(0, 1))


def test_large_frames_are_generated_in_tiles(base: StableDiffusion, learnt: CodingPriorControlNet) -> None:
    given = batch(1, 64, 192)
    tiles = replace(FEW, tile_size=128, tile_stride=64)
    found = generate(base, learnt, **given, cpc=TINY, sampling=tiles, frame_indices=[0])
    assert found.shape == (1, 3, 64, 192)
    whole = generate(base, learnt, **given, cpc=TINY, sampling=FEW, frame_indices=[0])
    assert 0 < (found - whole).abs().mean() < 0.1
    small = {name: value[..., : 32 if name == "mv" else 128] for name, value in given.items()}
    one, other = (
        generate(base, learnt, **small, cpc=TINY, sampling=config, frame_indices=[0]) for config in (tiles, FEW)
    )
    assert torch.equal(one, other)


def test_without_coding_priors_vectors_and_residual_do_not_matter(base: StableDiffusion) -> None:
    config = replace(TINY, coding_priors=False)
    network = initial_controlnet(config, base.unet)
    given = batch()
    one, other = (
        generate(
            base,
            network,
            stage1=given["stage1"],
            mv=sign * given["mv"],
            residual=given["residual"],
            cpc=config,
            sampling=FEW,
            frame_indices=[0, 1],
        )
        for sign in (1, -1)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_frozen_networks_and_the_trained_one_may_have_different_types(
    learnt: CodingPriorControlNet, dtype: Any
) -> None:
    half = load_stable_diffusion(replace(TINY, frozen_dtype=dtype))
    assert half.unet.dtype == getattr(torch, dtype)
    given = batch()
    found = generate(half, learnt, **given, cpc=TINY, sampling=FEW, frame_indices=[0, 1])
    assert found.dtype == torch.float32
    full = load_stable_diffusion(TINY)
    whole = generate(full, learnt, **given, cpc=TINY, sampling=FEW, frame_indices=[0, 1])
    assert (found - whole).abs().mean() < 0.05
    criterion = DenoisingLoss(half, DenoisingConfig())
    network = initial_controlnet(TINY, half.unet)
    loss = criterion(network, torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8, 8))
    loss.backward()
    assert network.controlnet_mid_block.weight.grad.dtype == torch.float32
