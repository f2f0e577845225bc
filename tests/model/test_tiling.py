from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from codecprior.model.cpc_config import CpcConfig
from codecprior.model.stable_diffusion import StableDiffusion, load_stable_diffusion
from codecprior.model.tiling import fixed_group_norm, gaussian_weights, tiled, windows


@given(length=st.integers(1, 100), size=st.integers(1, 40), share=st.integers(1, 4))
def test_windows_have_one_size_and_cover_everything(length: int, size: int, share: int) -> None:
    stride = max(1, size // share)
    found = windows(length, size, stride)
    assert found[0].start == 0
    assert found[-1].stop == length
    assert all(window.stop - window.start == min(size, length) for window in found)
    assert all(0 < two.start - one.start <= stride for one, two in itertools.pairwise(found))


def test_windows_are_those_of_diffbir() -> None:
    assert [window.start for window in windows(160, 64, 32)] == [0, 32, 64, 96]
    assert [window.start for window in windows(90, 64, 32)] == [0, 26]
    assert [window.start for window in windows(64, 64, 32)] == [0]


def test_weights_are_gaussian_and_symmetric() -> None:
    weights = gaussian_weights(64, 32).double().numpy()
    rows, columns = np.mgrid[:64, :32]
    distance = ((rows - 31.5) / 64) ** 2 + ((columns - 15.5) / 32) ** 2
    np.testing.assert_allclose(weights, np.exp(-distance / 0.02), rtol=1e-5)
    assert np.array_equal(weights, weights[::-1, ::-1])
    assert weights.min() > 0


@pytest.mark.parametrize(("height", "width"), [(64, 96), (70, 65), (64, 64), (10, 200)])
def test_weights_sum_to_one_everywhere(height: int, width: int) -> None:
    plane = torch.randn(2, 3, height, width)
    torch.testing.assert_close(tiled(lambda part: part, plane, size=64, stride=32), plane)
    torch.testing.assert_close(tiled(torch.ones_like, plane, size=64, stride=48), torch.ones_like(plane))


def test_one_tile_is_the_function_itself() -> None:
    plane = torch.randn(1, 4, 40, 64)
    calls: list[Tensor] = []

    def function(*parts: Tensor) -> Tensor:
        calls.extend(parts)
        return parts[0] * parts[1].mean()

    found = tiled(function, plane, -plane, size=64, stride=32)
    assert torch.equal(found, plane * (-plane).mean())
    assert len(calls) == 2
    assert calls[0] is plane


def test_tiles_are_blended_as_in_an_independent_computation() -> None:
    plane, other = torch.randn(1, 1, 8, 20).double(), torch.randn(1, 2, 8, 20).double()
    found = tiled(lambda part, more: part * more.mean() + more[:, :1].max(), plane, other, size=8, stride=4)
    total, weight = np.zeros((8, 20)), np.zeros((8, 20))
    for start in (0, 4, 8, 12):
        here = np.s_[:, start : start + 8]
        part, more = plane[0, 0].numpy()[here], other[0].numpy()[:, :, start : start + 8]
        gaussian = np.exp(-(((np.mgrid[:8, :8] - 3.5) / 8) ** 2).sum(axis=0) / 0.02)
        total[here] += gaussian * (part * more.mean() + more[0].max())
        weight[here] += gaussian
    np.testing.assert_allclose(found[0, 0], total / weight, rtol=1e-5)


@pytest.mark.parametrize("scale", [(8, 1), (1, 8)])
def test_results_may_be_larger_or_smaller(scale: tuple[int, int]) -> None:
    plane = torch.arange(48 * 72.0).reshape(1, 1, 48, 72)

    def function(part: Tensor) -> Tensor:
        if scale[0] > 1:
            return part.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
        return part[..., ::8, ::8]

    torch.testing.assert_close(tiled(function, plane, size=32, stride=16, scale=scale), function(plane))


def test_fixed_statistics_make_a_network_of_points_the_same_in_tiles() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 4, 1), nn.GroupNorm(2, 4))
    nn.init.normal_(network[1].weight)
    nn.init.normal_(network[1].bias)
    # Every second row and column has the statistics of the whole.
    picture = torch.randn(2, 3, 16, 24).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    whole = network(picture)
    with fixed_group_norm(network, network, picture, 24):
        torch.testing.assert_close(tiled(network, picture, size=16, stride=8), whole)
    assert (tiled(network, picture, size=16, stride=8) - whole).abs().max() > 0.1
    assert torch.equal(network(picture), whole)


def test_statistics_are_free_again_after_an_error() -> None:
    network = nn.Sequential(nn.GroupNorm(1, 2))
    with pytest.raises(KeyError), fixed_group_norm(network, network, torch.randn(1, 2, 16, 16), 8):
        raise KeyError
    one, two = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(network(one + 5), network(one))
    assert not torch.equal(network(one), network(two))


@pytest.fixture(scope="module")
def learnt(clips: Path) -> StableDiffusion:
    """A small VAE that has seen parts of a clip for a moment: it encodes contrast, which random ones do not."""
    video = cv2.VideoCapture(str(clips / "bikes.mp4"))
    frames = torch.stack([torch.from_numpy(video.read()[1]).movedim(-1, 0) for _ in range(20)]) / 127.5 - 1
    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    for _ in range(60):
        places = torch.randint(0, 208, (4, 2))
        batch = torch.stack([frames[torch.randint(20, ()), :, y : y + 64, x : x + 64] for y, x in places])
        loss = (vae.decode(vae.encode(batch).latent_dist.mode()).sample - batch).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tiny = load_stable_diffusion(CpcConfig(base="tiny", init="unet"))
    return StableDiffusion(unet=tiny.unet, vae=vae.eval(), text_encoder=tiny.text_encoder, tokenizer=None)


def test_a_tiled_vae_is_nearer_to_the_whole_one_than_that_of_diffusers(learnt: StableDiffusion, clips: Path) -> None:
    frame = cv2.VideoCapture(str(clips / "bikes.mp4")).read()[1][:256, :512]
    picture = torch.from_numpy(frame.copy()).movedim(-1, 0)[None] / 255
    vae: Any = learnt.vae
    latents = learnt.encode(picture)
    decoded = learnt.decode(latents)
    ours = learnt.encode(picture, tile_size=128), learnt.decode(latents, tile_size=128)
    vae.tile_sample_min_size, vae.tile_latent_min_size = 128, 16
    vae.enable_tiling()
    theirs = learnt.encode(picture), learnt.decode(latents)
    vae.disable_tiling()
    for whole, one, other in zip((latents, decoded), ours, theirs, strict=True):
        assert one.shape == whole.shape
        error, diffusers = ((each - whole).norm() for each in (one, other))
        assert error < 0.5 * diffusers


def test_a_picture_of_one_tile_is_encoded_and_decoded_as_a_whole(learnt: StableDiffusion) -> None:
    picture = torch.rand(1, 3, 64, 128)
    latents = learnt.encode(picture)
    assert torch.equal(learnt.encode(picture, tile_size=128), latents)
    assert torch.equal(learnt.decode(latents, tile_size=128), learnt.decode(latents))
