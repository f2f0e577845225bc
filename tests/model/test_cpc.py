from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import ControlNetModel
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file
from torch import Tensor, nn

from codecprior.errors import ConfigError
from codecprior.model.config import load_preset
from codecprior.model.cpc import (
    CodingPriorAttention,
    CodingPriorControlNet,
    ControlResiduals,
    coding_prior_planes,
    controlnet_from_unet,
)
from codecprior.model.cpc_config import CpcConfig, DenoisingConfig, SamplingConfig
from codecprior.model.stable_diffusion import load_stable_diffusion

TINY = CpcConfig.from_dict(load_preset("cpc-tiny")["cpc"])
SIZES: dict[str, Any] = {
    "block_out_channels": (16, 32, 32, 32),
    "attention_head_dim": (2, 4, 4, 4),
    "cross_attention_dim": 16,
    "norm_num_groups": 8,
}


def network(*, learnt: bool = False, **options: Any) -> CodingPriorControlNet:
    """Make what starts at zero random, so that the network adds something; L_qm too if it has learnt."""
    torch.manual_seed(1)
    found = CodingPriorControlNet(**SIZES, **options)
    for name, parameter in found.named_parameters():
        if "controlnet_" in name or (learnt and "to_qm" in name):
            nn.init.normal_(parameter, std=0.2)
    return found


def inputs(height: int = 16, width: int = 24, batch: int = 2, planes: int = 3) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(2)
    return {
        "sample": torch.randn(batch, 4, height, width, generator=random),
        "timestep": torch.tensor([3, 500][:batch]),
        "encoder_hidden_states": torch.randn(batch, 7, 16, generator=random),
        "condition": torch.randn(batch, 4, height, width, generator=random),
        "coding_priors": torch.randn(batch, planes, height, width, generator=random),
    }


def outputs(found: ControlResiduals) -> list[Tensor]:
    return [*found.skips, found.middle]


class _NoHint(nn.Module):
    def forward(self, condition: Tensor) -> float:
        return 0.0


def ircontrolnet(like: CodingPriorControlNet) -> ControlNetModel:
    plain = ControlNetModel(
        **SIZES,
        in_channels=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        use_linear_projection=True,
    )
    plain.controlnet_cond_embedding = _NoHint()
    plain.load_state_dict({name: value for name, value in like.state_dict().items() if ".processor." not in name})
    return plain


@torch.no_grad()
def run_ircontrolnet(plain: ControlNetModel, given: dict[str, Tensor], strength: float = 1.0) -> list[Tensor]:
    both = torch.cat([given["sample"], given["condition"]], dim=1)
    skips, middle = plain(
        both,
        given["timestep"],
        given["encoder_hidden_states"],
        controlnet_cond=given["condition"],
        conditioning_scale=strength,
        return_dict=False,
    )
    return [*skips, middle]


def test_at_first_the_output_is_that_of_ircontrolnet_to_the_bit_although_every_layer_sees_the_priors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, given = network(), inputs()
    calls: list[int] = []
    process = CodingPriorAttention.__call__

    def counted(self: CodingPriorAttention, *arguments: Any, **options: Any) -> Tensor:
        calls.append(options["coding_priors"][self.level].shape[1])
        return process(self, *arguments, **options)

    counted.__signature__ = inspect.signature(process)  # type: ignore[attr-defined]  # diffusers reads it
    monkeypatch.setattr(CodingPriorAttention, "__call__", counted)
    plain = ircontrolnet(ours)
    for strength in (1.0, 0.5):
        calls.clear()
        found = outputs(ours(**given, strength=strength))
        assert calls == [16 * 24] * 2 + [8 * 12] * 2 + [4 * 6] * 2 + [2 * 3]
        expected = run_ircontrolnet(plain, given, strength)
        assert len(found) == 13
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert all(each.abs().max() > 0 for each in found)


def test_once_learnt_the_output_depends_on_each_plane_of_the_priors() -> None:
    ours, given = network(learnt=True), inputs()
    with torch.no_grad():
        before = outputs(ours(**given))
        assert not torch.equal(before[-1], run_ircontrolnet(ircontrolnet(ours), given)[-1])
        for plane in range(3):
            changed = given["coding_priors"].clone()
            changed[:, plane] += 1
            after = outputs(ours(**{**given, "coding_priors": changed}))
            # What lies before the first attention cannot know.
            assert [torch.equal(one, other) for one, other in zip(before, after, strict=True)] == [True] + [False] * 12


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_attention_is_equations_6_and_7(activation: Any) -> None:
    torch.manual_seed(0)
    layer = Attention(query_dim=8, heads=2, dim_head=4).double()
    processor = CodingPriorAttention(8, 3, 1, activation).double()
    nn.init.normal_(processor.to_qm.weight)
    layer.set_processor(processor)
    features, priors = torch.randn(1, 5, 8).double(), torch.randn(1, 5, 3).double()
    found = layer(features, coding_priors=(torch.randn(1, 20, 3).double(), priors))

    f, weight = features[0], {name: value.t() for name, value in layer.state_dict().items()}
    mask = priors[0] @ weight["processor.to_mask.weight"] + weight["processor.to_mask.bias"]
    mask = 1 / (1 + torch.exp(-mask)) if activation == "sigmoid" else mask
    query = f @ weight["to_q.weight"] + (f * mask) @ weight["processor.to_qm.weight"]
    key, value = f @ weight["to_k.weight"], f @ weight["to_v.weight"]
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = torch.exp(query[:, head] @ key[:, head].T / 2)
        heads.append(scores / scores.sum(dim=1, keepdim=True) @ value[:, head])
    expected = torch.cat(heads, dim=1) @ weight["to_out.0.weight"] + weight["to_out.0.bias"]
    torch.testing.assert_close(found[0], expected)


def test_priors_reach_gradients_after_the_first_step() -> None:
    ours, given = network(), inputs()
    given["coding_priors"].requires_grad_()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    masks = [parameter for name, parameter in ours.named_parameters() if "to_mask" in name]
    queries = [parameter for name, parameter in ours.named_parameters() if "to_qm" in name]
    assert len(masks) == 14
    assert len(queries) == 7

    def backward() -> None:
        optimizer.zero_grad()
        sum(each.square().mean() for each in outputs(ours(**given))).backward()

    backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in queries)
    assert all(parameter.grad.abs().max() == 0 for parameter in masks)  # behind a layer that is zero
    optimizer.step()
    backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in masks)
    assert (given["coding_priors"].grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_saving_and_loading_keeps_every_weight(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours, given = network(learnt=True, prior_channels=5, prior_activation="sigmoid"), inputs(planes=5)
    ours.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert "mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_qm.weight" in stored
    assert stored["conv_in.weight"].shape == (16, 8, 3, 3)
    loaded, info = CodingPriorControlNet.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert not caplog.records
    assert (loaded.config.prior_channels, loaded.config.prior_activation) == (5, "sigmoid")
    assert loaded.state_dict().keys() == ours.state_dict().keys()
    with torch.no_grad():
        assert all(map(torch.equal, outputs(loaded(**given)), outputs(ours(**given))))


def test_a_network_without_priors_is_ircontrolnet() -> None:
    plain, given = network(prior_channels=0), inputs()
    del given["coding_priors"]
    assert not any(".processor." in name for name in plain.state_dict())
    expected = run_ircontrolnet(ircontrolnet(plain), given)
    with torch.no_grad():
        assert all(map(torch.equal, outputs(plain(**given)), expected))


def test_at_the_size_of_stable_diffusion_priors_take_six_million_weights() -> None:
    with torch.device("meta"):
        counts = [
            sum(parameter.numel() for parameter in CodingPriorControlNet(prior_channels=planes).parameters())
            for planes in (0, 3)
        ]
    assert counts[0] == 363_153_280
    assert counts[1] - counts[0] == 5_962_240


def test_the_encoder_of_the_base_is_copied_and_the_condition_ignored_at_first() -> None:
    unet = load_stable_diffusion(TINY).unet
    ours = controlnet_from_unet(unet, TINY)
    base = unet.state_dict()
    weight = ours.conv_in.weight
    assert torch.equal(weight[:, :4], base["conv_in.weight"])
    assert weight[:, 4:].abs().max() == 0
    copied = [name for name in ours.state_dict() if name in base and name != "conv_in.weight"]
    assert {name.split(".")[0] for name in copied} == {"conv_in", "time_embedding", "down_blocks", "mid_block"}
    assert all(torch.equal(ours.state_dict()[name], base[name]) for name in copied)
    rest = {name for name in ours.state_dict() if name not in base}
    assert all("controlnet_" in name or ".processor." in name for name in rest)
    assert all(each.abs().max() == 0 for each in outputs(ours(**inputs())))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 13), (15, 22)])
def test_sizes_that_halve_with_a_remainder_are_taken(height: int, width: int) -> None:
    found = outputs(network(learnt=True)(**inputs(height, width)))
    assert found[0].shape[2:] == (height, width)
    assert found[-1].shape[2:] == (-(-height // 8), -(-width // 8))


@pytest.mark.parametrize("given", [None, torch.zeros(2, 5, 16, 24)])
def test_priors_that_do_not_fit_are_refused(given: Tensor | None) -> None:
    planes = 0 if given is None else 5
    with pytest.raises(ConfigError, match=f"^{planes} planes of coding priors: the network takes 3$"):
        network()(**{**inputs(), "coding_priors": given})


def test_gradient_checkpointing_gives_the_same_gradients_for_several_batches_at_once() -> None:
    gradients = []
    for checkpointing in (False, True):
        ours = network(learnt=True)
        if checkpointing:
            ours.enable_gradient_checkpointing()
        given, other = inputs(), inputs()
        other["coding_priors"] = -other["coding_priors"]
        # The second batch comes before the first is computed again.
        loss = sum(each.square().mean() for batch in (given, other) for each in outputs(ours(**batch)))
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in ours.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@pytest.fixture
def settings_of_accelerate() -> Iterator[None]:
    """Let an Accelerator choose its settings anew: those of the first one of a process hold for all."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("settings_of_accelerate")
def test_accelerate_trains_it_with_mixed_precision() -> None:
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    ours = network()
    ours.enable_gradient_checkpointing()
    prepared, optimizer = accelerator.prepare(ours, torch.optim.Adam(ours.parameters(), 1e-3))
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = sum(each.float().square().mean() for each in outputs(prepared(**inputs())))
        accelerator.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    state = accelerator.unwrap_model(prepared).state_dict()
    assert all(value.dtype == torch.float32 for value in state.values())
    assert state["mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_qm.weight"].abs().max() > 0


def test_planes_are_means_over_the_samples_of_each_latent() -> None:
    mv, residual = torch.zeros(1, 2, 4, 8), torch.rand(1, 1, 16, 32)
    mv[0, 0, :2, 2:4] = torch.tensor([[4.0, 8.0], [12.0, 8.0]])
    mv[0, 1] = -16
    planes = coding_prior_planes(mv, residual, TINY)
    assert planes.shape == (1, 3, 2, 4)
    assert planes[0, 0].tolist() == [[0, 0.5, 0, 0], [0, 0, 0, 0]]
    assert planes[0, 1].unique().tolist() == [-1]
    torch.testing.assert_close(planes[0, 2, 1, 3], residual[0, 0, 8:16, 24:32].mean())
    torch.testing.assert_close(planes[:, 2:], F.avg_pool2d(residual, 8))


def test_a_residual_of_other_planes_is_refused() -> None:
    with pytest.raises(ConfigError, match="residual of 3 planes: the network takes residual_channels 1"):
        coding_prior_planes(torch.zeros(1, 2, 2, 2), torch.zeros(1, 3, 8, 8), TINY)


@pytest.mark.parametrize("preset", ["cpc", "cpc-tiny"])
def test_presets_are_understood_and_come_back(preset: str) -> None:
    document = load_preset(preset)
    for section, kind in (("cpc", CpcConfig), ("denoising", DenoisingConfig), ("sampling", SamplingConfig)):
        config = kind.from_dict(document.get(section, {}))
        assert kind.from_dict(config.to_dict()) == config
    if preset == "cpc":  # its defaults written out
        assert CpcConfig.from_dict(document["cpc"]) == CpcConfig()
        assert DenoisingConfig.from_dict(document["denoising"]) == DenoisingConfig()
        assert SamplingConfig.from_dict(document["sampling"]) == SamplingConfig()


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (CpcConfig, {"mv_unit": 0.0}, "mv_unit 0.0: use more than 0"),
        (CpcConfig, {"base": "tiny", "base_path": "x"}, "base_path 'x': the tiny base has no weights"),
        (CpcConfig, {"init": "unet", "ircontrolnet_path": "x"}, "ircontrolnet_path 'x': is not read with init unet"),
        (DenoisingConfig, {"prompt_dropout": 1.5}, "prompt_dropout 1.5: use 0 to 1"),
        (DenoisingConfig, {"noise_aug_timestep": 1001}, "noise_aug_timestep 1001: use 0 to 1000"),
        (SamplingConfig, {"num_steps": 1}, "num_steps 1: use 2 to 1000"),
        (SamplingConfig, {"seed": -1}, "seed -1: use 0 or more"),
        (SamplingConfig, {"guidance_scale": 0.5}, "guidance_scale 0.5: use 1 or more"),
        (SamplingConfig, {"tile_size": 100}, "tile_size 100: use a multiple of 64"),
        (SamplingConfig, {"tile_stride": 576}, "tile_stride 576: use a multiple of 64 up to tile_size 512"),
    ],
)
def test_values_out_of_range_are_refused(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**values)
