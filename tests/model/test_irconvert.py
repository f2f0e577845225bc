from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from codecprior.errors import ConfigError
from codecprior.model.cpc import CodingPriorControlNet
from codecprior.model.cpc_config import CpcConfig
from codecprior.model.irconvert import load_ircontrolnet, load_unet, read_checkpoint
from codecprior.model.stable_diffusion import initial_controlnet, load_stable_diffusion

CHANNELS = (16, 32, 32, 32)
HEADS = (2, 4, 4, 4)
GROUPS = 8
CONTEXT = 16


# The networks of latent diffusion in their original layout, written from the formulas: names of modules as in its
# openaimodel.py and in DiffBIR's controlnet.py, sizes as of the tiny base.


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * CHANNELS[0], outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, outputs), nn.SiLU(), nn.Dropout(0), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor, time: Tensor, text: Tensor) -> Tensor:
        inner = self.in_layers(features) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(features) + self.out_layers(inner)


class Attention(nn.Module):
    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, features: Tensor, context: Tensor) -> Tensor:
        query, key, value = self.to_q(features), self.to_k(context), self.to_v(context)
        heads = []
        for q, k, v in zip(*(each.chunk(self.heads, dim=-1) for each in (query, key, value)), strict=True):
            heads.append(torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v)
        return self.to_out(torch.cat(heads, dim=-1))


class Gated(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, features: Tensor) -> Tensor:
        value, gate = self.proj(features).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Gated(channels), nn.Dropout(0), nn.Linear(4 * channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        return self.net(features)


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(channels, channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, CONTEXT, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        normal = self.norm1(features)
        features = features + self.attn1(normal, normal)
        features = features + self.attn2(self.norm2(features), text)
        return features + self.ff(self.norm3(features))


class Transformer(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, features: Tensor, time: Tensor, text: Tensor) -> Tensor:
        tokens = self.proj_in(self.norm(features).flatten(2).mT)
        for block in self.transformer_blocks:
            tokens = block(tokens, text)
        return features + self.proj_out(tokens).mT.reshape(features.shape)


class Convolution(nn.Conv2d):
    def forward(self, features: Tensor, *others: Tensor) -> Tensor:
        return super().forward(features)


class Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, features: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return self.op(features)


class Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return self.conv(features.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


class Steps(nn.Sequential):
    def forward(self, features: Tensor, time: Tensor, text: Tensor) -> Tensor:
        for step in self:
            features = step(features, time, text)
        return features


class Encoder(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        first = CHANNELS[0]
        self.time_embed = nn.Sequential(nn.Linear(first, 4 * first), nn.SiLU(), nn.Linear(4 * first, 4 * first))
        self.input_blocks = nn.ModuleList([Steps(Convolution(inputs, first, 3, padding=1))])
        self.widths = [first]
        for level, (channels, heads) in enumerate(zip(CHANNELS, HEADS, strict=True)):
            for _ in range(2):
                attention = [Transformer(channels, heads)] if level < 3 else []
                self.input_blocks.append(Steps(Residual(self.widths[-1], channels), *attention))
                self.widths.append(channels)
            if level < 3:
                self.input_blocks.append(Steps(Down(channels)))
                self.widths.append(channels)
        last = CHANNELS[-1]
        self.middle_block = Steps(Residual(last, last), Transformer(last, HEADS[-1]), Residual(last, last))

    def time(self, timestep: Tensor) -> Tensor:
        half = CHANNELS[0] // 2
        angles = timestep[:, None] * torch.exp(-torch.arange(half) / half * torch.log(torch.tensor(10000.0)))
        return self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))


class OriginalControlNet(Encoder):
    def __init__(self) -> None:
        super().__init__(8)
        self.zero_convs = nn.ModuleList(Steps(Convolution(width, width, 1)) for width in self.widths)
        self.middle_block_out = Steps(Convolution(CHANNELS[-1], CHANNELS[-1], 1))

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, condition: Tensor) -> list[Tensor]:
        time = self.time(timestep)
        features, found = torch.cat([sample, condition], dim=1), []
        for block, convolution in zip(self.input_blocks, self.zero_convs, strict=True):
            features = block(features, time, text)
            found.append(convolution(features, time, text))
        features = self.middle_block(features, time, text)
        return [*found, self.middle_block_out(features, time, text)]


class OriginalUNet(Encoder):
    def __init__(self) -> None:
        super().__init__(4)
        self.output_blocks = nn.ModuleList()
        skips, inputs = list(self.widths), CHANNELS[-1]
        for level in (3, 2, 1, 0):
            channels = CHANNELS[level]
            for number in range(3):
                steps: list[nn.Module] = [Residual(inputs + skips.pop(), channels)]
                if level < 3:
                    steps.append(Transformer(channels, HEADS[level]))
                if level and number == 2:
                    steps.append(Up(channels))
                self.output_blocks.append(Steps(*steps))
                inputs = channels
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, CHANNELS[0]), nn.SiLU(), nn.Conv2d(CHANNELS[0], 4, 3, padding=1))

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        time, features, skips = self.time(timestep), sample, []
        for block in self.input_blocks:
            features = block(features, time, text)
            skips.append(features)
        features = self.middle_block(features, time, text)
        for block in self.output_blocks:
            features = block(torch.cat([features, skips.pop()], dim=1), time, text)
        return self.out(features)


TINY = CpcConfig(base="tiny", init="unet")
INPUTS = {
    "sample": torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1)),
    "timestep": torch.tensor([7, 600]),
    "text": torch.randn(2, 7, CONTEXT, generator=torch.Generator().manual_seed(2)),
}
CONDITION = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(3))


def ours(**options: Any) -> CodingPriorControlNet:
    return CodingPriorControlNet(
        block_out_channels=CHANNELS,
        attention_head_dim=HEADS,
        cross_attention_dim=CONTEXT,
        norm_num_groups=GROUPS,
        **options,
    )


@pytest.fixture(scope="module")
def original() -> OriginalControlNet:
    torch.manual_seed(5)
    return OriginalControlNet().eval()


def as_it_is(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return dict(state)


def wrapped_by_distributed_training(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {f"module.{name}": value for name, value in state.items()}


def in_a_state_dict(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"state_dict": dict(state), "epoch": 3}


def full_model_of_version_1(state: Mapping[str, Tensor]) -> dict[str, Any]:
    others = {"model.diffusion_model.out.2.bias": torch.ones(4), "first_stage_model.quant_conv.bias": torch.ones(8)}
    return {"state_dict": {**others, **{f"control_model.{name}": value for name, value in state.items()}}}


@pytest.mark.parametrize("form", [as_it_is, wrapped_by_distributed_training, in_a_state_dict, full_model_of_version_1])
def test_a_checkpoint_of_ircontrolnet_gives_its_outputs(
    tmp_path: Path, original: OriginalControlNet, form: Callable[[Mapping[str, Tensor]], dict[str, Any]]
) -> None:
    torch.save(form(original.state_dict()), tmp_path / "v2.pth")
    network = ours()
    before = {name: value.clone() for name, value in network.state_dict().items() if ".processor." in name}
    load_ircontrolnet(network, tmp_path / "v2.pth")
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    with torch.no_grad():
        expected = original(**INPUTS, condition=CONDITION)
        skips, middle = network(
            INPUTS["sample"], INPUTS["timestep"], INPUTS["text"], CONDITION, coding_priors=torch.randn(2, 3, 16, 24)
        )
    for one, other in zip([*skips, middle], expected, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()


def test_safetensors_files_are_read(tmp_path: Path, original: OriginalControlNet) -> None:
    save_file(original.state_dict(), tmp_path / "v2.safetensors")
    network = ours(prior_channels=0)
    load_ircontrolnet(network, tmp_path / "v2.safetensors")
    assert torch.equal(network.controlnet_mid_block.weight, original.middle_block_out[0].weight)


def test_the_unet_of_an_original_checkpoint_gives_its_output() -> None:
    torch.manual_seed(6)
    original = OriginalUNet().eval()
    checkpoint = {f"model.diffusion_model.{name}": value for name, value in original.state_dict().items()}
    unet: UNet2DConditionModel = load_stable_diffusion(TINY).unet
    load_unet(unet, checkpoint, "v2-1_512-ema-pruned.ckpt")
    with torch.no_grad():
        expected = original(**INPUTS)
        found = unet(INPUTS["sample"], INPUTS["timestep"], INPUTS["text"]).sample
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_training_starts_from_the_checkpoint_that_the_configuration_names(
    tmp_path: Path, original: OriginalControlNet, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(original.state_dict(), tmp_path / "v2.pth")
    config = replace(TINY, init="ircontrolnet", ircontrolnet_path=str(tmp_path / "v2.pth"))
    unet = load_stable_diffusion(config).unet
    caplog.clear()
    network = initial_controlnet(config, unet)
    assert torch.equal(network.conv_in.weight, original.input_blocks[0][0].weight)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        initial_controlnet(replace(config, base="sd20"), unet)
    assert "IRControlNet was trained on Stable Diffusion 2.1-base" in caplog.text


def test_without_a_checkpoint_one_line_says_what_to_give() -> None:
    unet = load_stable_diffusion(TINY).unet
    with pytest.raises(ConfigError, match=r"set ircontrolnet_path to a checkpoint of DiffBIR, .* or init to unet"):
        initial_controlnet(replace(TINY, init="ircontrolnet"), unet)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path, original: OriginalControlNet) -> None:
    state = original.state_dict()
    path = tmp_path / "v2.pth"

    def refusal(changed: dict[str, Tensor], network: CodingPriorControlNet | None = None) -> str:
        torch.save(changed, path)
        with pytest.raises(ConfigError) as caught:
            load_ircontrolnet(network or ours(), path)
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{path}: ")

    missing = {name: value for name, value in state.items() if name != "middle_block_out.0.bias"}
    assert refusal(missing) == (
        "does not fit CodingPriorControlNet; 1 tensors are missing, such as controlnet_mid_block.bias"
    )
    larger = CodingPriorControlNet(
        block_out_channels=(32, 64, 64, 64), attention_head_dim=HEADS, cross_attention_dim=CONTEXT, norm_num_groups=8
    )
    assert "tensors are of another shape, such as" in refusal(dict(state), larger)
    assert refusal({"conv_in.weight": torch.zeros(1)}).startswith("is no checkpoint of IRControlNet")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_files_that_are_no_checkpoints_are_refused_and_run_no_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.pth").write_text("no checkpoint")
    (tmp_path / "text.safetensors").write_text("no checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 1}, tmp_path / "empty.pth")
    torch.save({"weight": torch.zeros(1), "callback": Harmful()}, tmp_path / "harmful.ckpt")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
    for name, message in {
        "absent.pth": r"cannot be read \(No such file or directory\)",
        "absent.safetensors": "cannot be read",
        "text.pth": "holds more than tensors, or is damaged",
        "text.safetensors": "is no checkpoint",
        "list.pth": "holds no tensors by name",
        "empty.pth": "holds no tensors by name",
        "harmful.ckpt": "holds more than tensors, or is damaged",
        "plain.pth": "holds more than tensors, or is damaged",
    }.items():
        with pytest.raises(ConfigError, match=f"{name}: {message}"):
            read_checkpoint(tmp_path / name)
    assert not capsys.readouterr().out
