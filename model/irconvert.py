"""Checkpoints in the original layout of latent diffusion into networks of diffusers: DiffBIR's IRControlNet, SD's base.

The names are translated by diffusers. What it leaves to its callers is done here: the wrappings that checkpoints are
found in are taken off, and networks are loaded strictly, so that no weight stays at random.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from codecprior.errors import ConfigError

from .cpc import CodingPriorControlNet

__all__ = ["load_ircontrolnet", "load_text_encoder", "load_unet", "load_vae", "read_checkpoint"]


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file, without ``state_dict`` around them or ``module.`` before their names.

    Parameters
    ----------
    path : str or path
        A ``.safetensors`` file, or one of torch: ``.ckpt``, ``.pt``, ``.pth`` or ``.bin``.

    Returns
    -------
    dict of str to Tensor
        Tensors by name, on the CPU.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds no tensors, or other objects beside them, which could run code.
    """
    path = Path(path)
    try:
        document = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path}: holds more than tensors, or is damaged; convert it to .safetensors where you trust it"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise ConfigError(f"{path}: is no checkpoint ({str(error).splitlines()[0]})") from error
    while isinstance(document, Mapping) and isinstance(document.get("state_dict"), Mapping):
        document = document["state_dict"]
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path}: holds no tensors by name")
    tensors = {name: value for name, value in document.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ConfigError(f"{path}: holds no tensors by name")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def load_ircontrolnet(network: CodingPriorControlNet, path: str | Path) -> None:
    """Load the weights of IRControlNet; those that V and R need stay as they are.

    Parameters
    ----------
    network : CodingPriorControlNet
        The network to fill.
    path : str or path
        ``v2.pth``, ``v1_general.pth`` and so on, or an older full checkpoint, where the names begin with
        ``control_model.``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or its tensors are not those of the network.
    """
    checkpoint = read_checkpoint(path)
    names = ("time_embed.0.weight", "control_model.time_embed.0.weight")
    if not any(name in checkpoint for name in names):
        raise ConfigError(f"{path}: is no checkpoint of IRControlNet; none of {', '.join(names)} is in it")
    weights = convert_controlnet_checkpoint(checkpoint, network.config)
    own = {name: value for name, value in network.state_dict().items() if ".processor." in name}
    _load(network, {**own, **weights}, path)


def load_unet(unet: UNet2DConditionModel, checkpoint: Mapping[str, Tensor], path: str | Path) -> None:
    """Load the UNet of an original checkpoint; raises ConfigError, which names the path, if it does not fit."""
    _load(unet, convert_ldm_unet_checkpoint(checkpoint, unet.config), path)


def load_vae(vae: AutoencoderKL, checkpoint: Mapping[str, Tensor], path: str | Path) -> None:
    """Load the VAE of an original checkpoint; raises ConfigError, which names the path, if it does not fit."""
    _load(vae, convert_ldm_vae_checkpoint(checkpoint, vae.config), path)


def load_text_encoder(text_encoder: CLIPTextModel, checkpoint: Mapping[str, Tensor], path: str | Path) -> None:
    """Load the text encoder of an original checkpoint; raises ConfigError, which names the path, if it does not fit.

    Of its layers, those that the network has are loaded: Stable Diffusion 2.x leaves out the last one.
    """
    converted = convert_open_clip_checkpoint(text_encoder, checkpoint)
    known = text_encoder.state_dict()
    if not any(name.startswith("text_model.") for name in known):  # transformers 5 has no such level
        converted = {name.removeprefix("text_model."): value for name, value in converted.items()}
    _load(text_encoder, {name: value for name, value in converted.items() if name in known}, path)


def _load(network: nn.Module, weights: Mapping[str, Tensor | None], path: str | Path) -> None:
    known = network.state_dict()
    missing = [name for name in known if weights.get(name) is None]
    unknown = [name for name in weights if name not in known]
    other = [
        f"{name} {tuple(value.shape)} for {tuple(known[name].shape)}"
        for name, value in weights.items()
        if value is not None and name in known and value.shape != known[name].shape
    ]
    for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", other)):
        if names:
            raise ConfigError(
                f"{path}: does not fit {type(network).__name__}; {len(names)} tensors are {what}, such as {names[0]}"
            )
    network.load_state_dict(weights, assign=True)  # a large network waits without memory of its own
