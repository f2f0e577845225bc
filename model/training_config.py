"""Configuration of a training: one section for each subject, next to those of the networks.

``RUN/config.yaml`` has all of them, resolved; presets have those that differ from the defaults here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from codecprior.core.arrays import CELL
from codecprior.datasets.motion import VectorLists
from codecprior.datasets.normalization import ResidualNormalization
from codecprior.datasets.reader import ReaderConfig
from codecprior.errors import ConfigError

from .checkpoint import kind_of, read_sections, weights_file
from .config import Config, CpfpConfig, load_preset, overridden
from .cpc_config import CpcConfig, DenoisingConfig, SamplingConfig
from .losses import RestorationLoss

__all__ = [
    "NO_STAGE1",
    "DataConfig",
    "GenerationConfig",
    "HybridDataConfig",
    "Phase1Config",
    "Phase2Config",
    "RestorationConfig",
    "RunConfig",
    "Stage1Config",
    "TrainingConfig",
    "ValidationConfig",
    "training_config",
]

NO_STAGE1: Final = "none"
"""In place of a checkpoint: stage 2 works on blurry frames."""

_LATENT_MULTIPLE: Final = 64
"""Of the sides of a crop: latents have an eighth of the samples, and the networks halve them three times."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """What is read of a prepared dataset.

    Parameters
    ----------
    split : str
        Split of the manifest to train on.
    num_frames : int
        Frames of a clip.
    crop : int
        Side of the square that is cut out, in samples; a multiple of 8.
    flips, transpose : bool
        Whether clips are mirrored, and whether rows and columns change places, in half of the cases.
    time_reversal : bool
        Whether half of the clips run backwards; needs ``prepare --directions both``.
    strides : tuple of int
        Steps from frame to frame to draw from.
    blurry : {"source", "decoded"}
        Degraded frames as they were encoded, or as they come out of the decoder.
    vectors : {"l0", "mean"}
        Vectors of list 0, or the mean of both lists.
    residual : {"absolute", "signed", "cpgd-net", "frame-max"}
        How R is normalised; see :data:`codecprior.datasets.normalization.ResidualNormalization`.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    split: str = "train"
    num_frames: int = 15
    crop: int = 256
    flips: bool = True
    transpose: bool = True
    time_reversal: bool = False
    strides: tuple[int, ...] = (1,)
    blurry: Literal["source", "decoded"] = "source"
    vectors: VectorLists = "l0"
    residual: ResidualNormalization = "absolute"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop < 2 * CELL or self.crop % (2 * CELL):
            raise ConfigError(f"crop {self.crop}: use a multiple of {2 * CELL}")
        self._require_at_least(1, "num_frames")

    def reader(self, residual_channels: int, *, backward: bool, sharp: bool = True) -> ReaderConfig:
        """Return what to read for a network.

        Parameters
        ----------
        residual_channels : {1, 3}
            Planes of R that it takes.
        backward : bool
            Whether it takes the pass over the time-reversed sequence, too.
        sharp : bool
            Whether sharp frames are read.

        Returns
        -------
        ReaderConfig
            For :class:`codecprior.datasets.reader.ClipReader`.
        """
        return ReaderConfig(
            blurry=self.blurry,
            sharp=sharp,
            vectors=self.vectors,
            backward=backward,
            residual=self.residual,
            residual_planes="luma" if residual_channels == 1 else "all",
        )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """What decides the weights that come out, besides network and data.

    Parameters
    ----------
    batch_size : int
        Clips of a step, over all processes and accumulated parts: the result does not depend on how they are divided.
    steps : int
        Steps of the whole training, which the schedule is made for.
    learning_rate : float
        Greatest learning rate of Adam with betas 0.9 and 0.999.
    weight_decay : float
        Decoupled from the gradient, as in AdamW; 0 is Adam.
    schedule : {"cosine", "constant"}
        How the learning rate goes on after the warm-up.
    warmup_steps : int
        Steps in which it rises from 0.
    final_learning_rate : float
        Where the cosine ends.
    gradient_accumulation : int
        Parts that a batch is computed in, one after the other.
    gradient_checkpointing : bool
        Whether activations are computed again for gradients instead of kept.
    gradient_clipping : float, optional
        Greatest norm of the gradient.
    mixed_precision : {"none", "bf16", "fp16"}
        Type of most operations; deformable convolutions stay in float32.
    ema_decay : float, optional
        Share of the mean of weights that each step keeps, smaller in the first steps; the mean is what is saved as the
        result. None saves the weights themselves.
    seed : int
        Start of all draws: first weights, clips, noise.

    Raises
    ------
    ConfigError
        If a value is out of range, or two do not fit together.
    """

    batch_size: int = 8
    steps: int = 300_000
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    final_learning_rate: float = 1e-7
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    gradient_clipping: float | None = None
    mixed_precision: Literal["none", "bf16", "fp16"] = "none"
    ema_decay: float | None = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_at_least(1, "batch_size", "steps", "gradient_accumulation")
        self._require_at_least(0, "weight_decay", "warmup_steps", "seed")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate {self.learning_rate}: use more than 0")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ConfigError(
                f"final_learning_rate {self.final_learning_rate}: use 0 to learning_rate {self.learning_rate}"
            )
        if self.gradient_clipping is not None and self.gradient_clipping <= 0:
            raise ConfigError(f"gradient_clipping {self.gradient_clipping}: use more than 0, or null for no limit")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay {self.ema_decay}: use 0 to below 1, or null for no mean")
        if self.batch_size % self.gradient_accumulation:
            raise ConfigError(
                f"gradient_accumulation {self.gradient_accumulation}: use a divisor of batch_size {self.batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(Config):
    """What is looked at during training.

    Parameters
    ----------
    split : str, optional
        Split of the manifest to take clips from; None validates nothing.
    every : int
        Steps from one validation to the next; there is one more at the end.
    num_clips : int
        Clips, from sequences all over the split: the middle of each in time and place, as large as those of the
        training.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    split: str | None = None
    every: int = 5000
    num_clips: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_at_least(1, "every", "num_clips")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """What may be different each time that a training is resumed.

    Parameters
    ----------
    num_workers : int
        Processes that read clips; 0 reads between the steps.
    log_every : int
        Steps from one line of the log to the next.
    save_every : int
        Steps from one saved state to the next; there is one more at the end.
    keep_states : int
        Newest states that are kept.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    num_workers: int = 4
    log_every: int = 100
    save_every: int = 1000
    keep_states: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_at_least(0, "num_workers")
        self._require_at_least(1, "log_every", "save_every", "keep_states")


@dataclass(frozen=True, kw_only=True)
class RestorationConfig(TrainingConfig):
    """Training of stage 1.

    Parameters
    ----------
    loss : {"l1", "charbonnier", "log_mse"}
        Distance of restored and sharp frames; see :data:`codecprior.model.losses.RestorationLoss`. L1 is the paper's.
    """

    loss: RestorationLoss = "l1"


@dataclass(frozen=True, kw_only=True)
class Phase1Config(Config):
    """A training of stage 1.

    Parameters
    ----------
    cpfp : CpfpConfig
        The network.
    data : DataConfig
        What is read.
    training : RestorationConfig
        How it is trained.
    validation : ValidationConfig
        What is looked at.
    run : RunConfig
        What may be different each time that it is resumed.
    """

    cpfp: CpfpConfig = field(default_factory=CpfpConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: RestorationConfig = field(default_factory=RestorationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def reader(self) -> ReaderConfig:
        """Return what to read for this network."""
        return self.data.reader(self.cpfp.residual_channels, backward="backward" in self.cpfp.branches)


@dataclass(frozen=True, kw_only=True)
class Stage1Config(Config):
    """What makes the condition of stage 2.

    Parameters
    ----------
    checkpoint : str, optional
        Folder of a training of stage 1, or its weights; must be given. ``"none"``: blurry frames themselves are the
        condition, which is "w/o CPFP" of Table II.
    """

    checkpoint: str | None = None

    def weights(self) -> Path | None:
        """Return the weights of stage 1; None if blurry frames are the condition.

        Raises
        ------
        ConfigError
            If nothing is given, or there are no weights.
        """
        if self.checkpoint is None:
            raise ConfigError(
                "stage1.checkpoint is not set: give the folder of a training of stage 1 (cpfp), or none for blurry "
                "frames as they are"
            )
        return None if self.checkpoint == NO_STAGE1 else weights_file(self.checkpoint)


@dataclass(frozen=True, kw_only=True)
class HybridDataConfig(DataConfig):
    """What is read for stage 2. A sample is the frame in the middle of a clip, which stage 1 restores as a whole.

    Parameters
    ----------
    mixing : float
        Share of samples that come from the additional dataset, where one is given; the paper does not say.
    additional_split : str
        Split of its manifest.
    latents : bool
        Whether to read latents, of whole pictures, instead of frames: needs ``codecprior precompute --latents``.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    num_frames: int = 5
    crop: int = 512
    mixing: float = 0.5
    additional_split: str = "train"
    latents: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mixing < 1:
            raise ConfigError(f"mixing {self.mixing}: use more than 0 and less than 1")
        if self.crop % _LATENT_MULTIPLE:
            raise ConfigError(
                f"crop {self.crop}: use a multiple of {_LATENT_MULTIPLE}, which the networks of stage 2 take"
            )
        if self.latents and (self.flips or self.transpose):
            raise ConfigError(
                "latents true: a turned picture has other latents than those that are read; set flips and transpose to "
                "false"
            )
        self._require_at_least(2, "num_frames")  # the vectors of a frame lead to the one before it


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(TrainingConfig):
    """Training of stage 2: learning rate and batch are the paper's, the rest is DiffBIR's."""

    steps: int = 80_000
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    schedule: Literal["cosine", "constant"] = "constant"
    final_learning_rate: float = 0.0
    ema_decay: float | None = None


@dataclass(frozen=True, kw_only=True)
class Phase2Config(Config):
    """A training of stage 2.

    Parameters
    ----------
    cpc : CpcConfig
        The networks.
    stage1 : Stage1Config
        What makes the condition.
    data : HybridDataConfig
        What is read.
    denoising : DenoisingConfig
        The loss.
    sampling : SamplingConfig
        How validations and, by default, ``deblur`` generate frames.
    training : GenerationConfig
        How it is trained.
    validation : ValidationConfig
        What is looked at.
    run : RunConfig
        What may be different each time that it is resumed.
    """

    cpc: CpcConfig = field(default_factory=CpcConfig)
    stage1: Stage1Config = field(default_factory=Stage1Config)
    data: HybridDataConfig = field(default_factory=HybridDataConfig)
    denoising: DenoisingConfig = field(default_factory=DenoisingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    training: GenerationConfig = field(default_factory=GenerationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def reader(self) -> ReaderConfig:
        """Return what to read for both stages.

        Returns
        -------
        ReaderConfig
            For :class:`codecprior.datasets.reader.ClipReader`.

        Raises
        ------
        ConfigError
            If there is no checkpoint of stage 1, it is one of stage 2, or was trained on other priors.
        """
        path, backward = self.stage1.weights(), False
        if path is not None:
            sections = read_sections(path)
            if kind_of(sections) != "cpfp":
                raise ConfigError(f"{path}: is a checkpoint of stage 2 (cpc); give one of stage 1 (cpfp)")
            first = Phase1Config.from_dict(sections)
            theirs = first.cpfp.residual_channels, first.data.vectors, first.data.residual
            if theirs != (self.cpc.residual_channels, self.data.vectors, self.data.residual):
                raise ConfigError(
                    f"{path}: was trained on other priors; use cpc.residual_channels {theirs[0]}, data.vectors "
                    f"{theirs[1]} and data.residual {theirs[2]}, as it has them"
                )
            backward = "backward" in first.cpfp.branches
        return self.data.reader(self.cpc.residual_channels, backward=backward)


def training_config(preset: str | Path, assignments: Iterable[str] = ()) -> Phase1Config | Phase2Config:
    """Read the configuration of a training.

    Parameters
    ----------
    preset : str or path
        Name of a preset, or a file; see :func:`codecprior.model.config.load_preset`.
    assignments : iterable of str
        Values in place of those that are there, such as ``"training.learning_rate=2e-4"``.

    Returns
    -------
    Phase1Config or Phase2Config
        All sections, complete.

    Raises
    ------
    ConfigError
        If something is unknown or not accepted.
    """
    sections = load_preset(preset)
    for assignment in assignments:
        sections = overridden(sections, assignment)
    return Phase1Config.from_dict(sections) if kind_of(sections) == "cpfp" else Phase2Config.from_dict(sections)
