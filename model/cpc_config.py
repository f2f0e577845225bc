"""Configuration of stage 2, coding-prior controlled generation (Eqs. 5 to 7): networks, training loss and sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codecprior.errors import ConfigError

from .config import Config

__all__ = ["CpcConfig", "DenoisingConfig", "SamplingConfig"]


@dataclass(frozen=True, kw_only=True)
class CpcConfig(Config):
    """The networks of stage 2. Defaults are the paper read literally, on the base that IRControlNet was trained on.

    Parameters
    ----------
    base : {"sd21", "sd20", "tiny"}
        Stable Diffusion 2.1-base or 2.0-base, frozen. The paper names 2.0; every IRControlNet was trained on 2.1. Tiny
        is random networks, always the same ones, that show no more than that everything runs.
    base_path : str, optional
        Where the base is: a folder in the layout of diffusers, an original ``.ckpt`` or ``.safetensors`` file, or a hub
        id. Needed unless the base is tiny.
    tokenizer_path : str, optional
        Folder or hub id of CLIP's tokenizer, for a base in one file, which has none; without, the only prompt is "".
    frozen_dtype : {"float32", "bfloat16", "float16"}
        Type of the frozen networks.
    init : {"ircontrolnet", "unet"}
        What the ControlNet starts from: IRControlNet, as the paper has it, or the encoder of the base.
    ircontrolnet_path : str, optional
        Checkpoint file of DiffBIR, for this start.
    coding_priors : bool
        Whether self-attention sees V and R (Eq. 6). Without, the network is IRControlNet's.
    prior_activation : {"none", "sigmoid"}
        What L_m(V, R) goes through before it multiplies features. Eq. 6 has nothing there, the text calls it a mask.
    mv_unit : float
        Motion, in samples, that counts as 1 in V.
    residual_channels : {1, 3}
        Planes of R as the data have it.

    Raises
    ------
    ConfigError
        If a value is not accepted, or two do not fit together.
    """

    base: Literal["sd21", "sd20", "tiny"] = "sd21"
    base_path: str | None = None
    tokenizer_path: str | None = None
    frozen_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    init: Literal["ircontrolnet", "unet"] = "ircontrolnet"
    ircontrolnet_path: str | None = None
    coding_priors: bool = True
    prior_activation: Literal["none", "sigmoid"] = "none"
    mv_unit: float = 16.0
    residual_channels: Literal[1, 3] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mv_unit <= 0:
            raise ConfigError(f"mv_unit {self.mv_unit}: use more than 0")
        if self.base == "tiny" and self.base_path is not None:
            raise ConfigError(f"base_path {self.base_path!r}: the tiny base has no weights; use base sd20 or sd21")
        if self.init == "unet" and self.ircontrolnet_path is not None:
            raise ConfigError(f"ircontrolnet_path {self.ircontrolnet_path!r}: is not read with init unet")

    @property
    def prior_channels(self) -> int:
        """Planes of V and R together."""
        return 2 + self.residual_channels


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(Config):
    """The loss that stage 2 is trained with. Defaults are DiffBIR's.

    Parameters
    ----------
    prompt : str
        What the text encoder reads.
    prompt_dropout : float
        Probability that it reads "" instead, which guidance needs.
    noise_aug_timestep : int
        The condition gets the noise of a random timestep below this; 0 adds none. DiffBIR v2.1 has 200.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    prompt: str = ""
    prompt_dropout: float = 0.5
    noise_aug_timestep: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.prompt_dropout <= 1:
            raise ConfigError(f"prompt_dropout {self.prompt_dropout}: use 0 to 1")
        if not 0 <= self.noise_aug_timestep <= 1000:
            raise ConfigError(f"noise_aug_timestep {self.noise_aug_timestep}: use 0 to 1000")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How frames are generated.

    Parameters
    ----------
    num_steps : int
        Steps of the spaced chain.
    start : {"noise", "condition"}
        What the chain begins with: noise, or the latents of stage 1 with the noise of the last timestep.
    noise : {"frame", "clip"}
        Whether each frame has noise of its own, or all of a clip have the same.
    seed : int
        Seed of the noise.
    guidance_scale : float
        Weight of the prompt against the negative prompt; at 1, only the prompt is evaluated, which takes half the time.
        DiffBIR has 4.
    prompt, negative_prompt : str
        What the text encoder reads.
    strength : float
        Factor on what the ControlNet adds to the base.
    tile_size, tile_stride : int
        Side of the tiles that a large picture is generated in, and distance from one to the next, in samples; multiples
        of 64. A picture that fits into one tile is generated as a whole, and so is any picture if the size is 0.
    color_fix : bool
        Whether low frequencies are those of stage 1.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    num_steps: int = 50
    start: Literal["noise", "condition"] = "noise"
    noise: Literal["frame", "clip"] = "frame"
    seed: int = 0
    guidance_scale: float = 1.0
    prompt: str = ""
    negative_prompt: str = "low quality, blurry, low-resolution, noisy, unsharp, weird textures"
    strength: float = 1.0
    tile_size: int = 512
    tile_stride: int = 256
    color_fix: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.num_steps <= 1000:
            raise ConfigError(f"num_steps {self.num_steps}: use 2 to 1000")
        self._require_at_least(0, "seed")
        self._require_at_least(1, "guidance_scale")
        if self.tile_size < 0 or self.tile_size % 64:
            raise ConfigError(f"tile_size {self.tile_size}: use a multiple of 64, or 0 for no tiles")
        if self.tile_size and (self.tile_stride % 64 or not 0 < self.tile_stride <= self.tile_size):
            raise ConfigError(f"tile_stride {self.tile_stride}: use a multiple of 64 up to tile_size {self.tile_size}")
