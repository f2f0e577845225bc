"""Checkpoints to what makes blurry clips sharp: stage 1 alone, or both stages.

>>> deblurrer = load_deblurrer("runs/cpfp")  # doctest: +SKIP
>>> reader = ClipReader(read_manifest("prepared"), deblurrer.reader_config())  # doctest: +SKIP
>>> next(deblurrer.frames(reader, 0)).shape  # doctest: +SKIP
(720, 1280, 3)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.errors import ConfigError
from codecprior.media.files import sha256_file

from .checkpoint import STAGE1_NAME, kind_of, load_checkpoint, read_sections, weights_file
from .cpc_config import CpcConfig, SamplingConfig
from .cpfp import Cpfp
from .inference import Chunk, ChunkConfig, Stage1
from .training_config import NO_STAGE1, Phase1Config, Phase2Config, Stage1Config

if TYPE_CHECKING:
    from .stable_diffusion import StableDiffusion

__all__ = ["Deblurrer", "Stage2", "load_deblurrer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage2:
    """The networks of stage 2.

    Parameters
    ----------
    base : StableDiffusion
        The frozen networks, on their device.
    controlnet : CodingPriorControlNet
        The trained network, on the same device.
    config : CpcConfig
        How priors come in.
    sampling : SamplingConfig
        How frames are generated.
    """

    base: StableDiffusion
    controlnet: nn.Module
    config: CpcConfig
    sampling: SamplingConfig

    def generate(self, chunk: Chunk, index: int) -> Tensor:
        """Generate one frame of a chunk.

        Parameters
        ----------
        chunk : Chunk
            Frames of stage 1 and their priors.
        index : int
            Position in the chunk.

        Returns
        -------
        Tensor, shape (3, H, W), float32
            R'G'B', 0 to 1.
        """
        from .diffusion import generate  # diffusers takes seconds to import

        one = slice(index, index + 1)
        frames = generate(
            self.base,
            self.controlnet,
            stage1=chunk.frames[one],
            mv=chunk.sample["mv_forward"][one],
            residual=chunk.sample["residual"][one],
            cpc=self.config,
            sampling=self.sampling,
            frame_indices=chunk.sample["frame_indices"][one].tolist(),
        )
        return frames[0]


class Deblurrer:
    """Makes the sequences of a manifest sharp, one frame after the other.

    Parameters
    ----------
    stage1 : Stage1
        Restores clips.
    reader : ReaderConfig
        How frames and priors are read.
    stage2 : Stage2, optional
        Generates details.
    facts : mapping
        What the outputs depend on, as JSON values: digests of checkpoints, configurations.
    """

    def __init__(
        self, stage1: Stage1, reader: ReaderConfig, stage2: Stage2 | None = None, *, facts: Mapping[str, Any]
    ) -> None:
        self.facts = facts
        self._reader = reader
        self._stage1 = stage1
        self._stage2 = stage2

    @property
    def device(self) -> torch.device:
        """Where networks run."""
        return torch.device(self._stage1.device)

    @property
    def backward(self) -> bool:
        """Whether stores need the pass over the time-reversed sequence."""
        return self._reader.backward

    def reader_config(self, blurry: Literal["source", "decoded"] | None = None) -> ReaderConfig:
        """Return what to read of each clip.

        Parameters
        ----------
        blurry : {"source", "decoded"}, optional
            Where blurry frames come from; by default where they came from in training.

        Returns
        -------
        ReaderConfig
            For the reader that is given to :meth:`frames`.
        """
        return replace(self._reader, sharp=False, blurry=blurry or self._reader.blurry)

    @property
    def controlnet(self) -> nn.Module | None:
        """The trained network of stage 2, if that runs."""
        return None if self._stage2 is None else self._stage2.controlnet

    def frames(self, reader: ClipReader, sequence: int, *, only: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """Make one sequence sharp.

        Parameters
        ----------
        reader : ClipReader
            Reads what :meth:`reader_config` says.
        sequence : int
            Position of the sequence in the reader's manifest.
        only : int, optional
            The only frame that is wanted: stage 1 runs up to it, stage 2 on it alone.

        Yields
        ------
        ndarray, shape (H, W, 3), uint8
            R'G'B' of each frame.

        Raises
        ------
        CodecpriorError
            If frames or priors cannot be read or are not what the networks take, or the networks fail.
        """
        entry = reader.manifest.entries[sequence]
        name = entry.sequence
        if entry.restored_by is not None:
            raise ConfigError(
                f"sequence {name}: its frames are outputs of stage 1 already; give the dataset that 'codecprior "
                "precompute' had"
            )
        for chunk in self._stage1.restore(reader, sequence):
            for index, restored in enumerate(chunk.frames):
                number = int(chunk.sample["frame_indices"][index])
                if only not in (None, number):
                    continue
                frame = restored if self._stage2 is None else self._stage2.generate(chunk, index)
                if not bool(torch.isfinite(frame).all()):
                    raise ConfigError(
                        f"sequence {name}, frame {number}: the network returns values that are no finite numbers; "
                        "train it longer, or use another checkpoint"
                    )
                rounded = (frame.clamp(0, 1) * 255).round().to(torch.uint8)
                yield np.ascontiguousarray(rounded.movedim(0, -1).cpu().numpy())


def load_deblurrer(
    checkpoint: str | Path,
    *,
    stage: Literal[1, 2] | None = None,
    stage1: str | Path | None = None,
    base: str | None = None,
    chunks: ChunkConfig | None = None,
    sampling: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> Deblurrer:
    """Load trained networks.

    Parameters
    ----------
    checkpoint : path-like
        Folder that a training wrote, or a file of weights, of either stage.
    stage : {1, 2}, optional
        Last stage that runs; by default that of the checkpoint.
    stage1 : path-like, optional
        Checkpoint of stage 1, in place of the one that stage 2 was trained on.
    base : str, optional
        Where the frozen base of stage 2 is, if not where it was in training.
    chunks : ChunkConfig, optional
        How much is in memory at a time.
    sampling : mapping, optional
        Fields of the checkpoint's :class:`~codecprior.model.cpc_config.SamplingConfig` to replace.
    device : str, optional
        Where networks run; by default on the first GPU, if there is one.

    Returns
    -------
    Deblurrer
        Ready to use.

    Raises
    ------
    ConfigError
        If a checkpoint is none, of the wrong stage or missing, the base has no weights, or there is no such device.
    """
    where, chunks = _device(device), chunks or ChunkConfig()
    sections = read_sections(checkpoint)
    trained = 1 if kind_of(sections) == "cpfp" else 2
    last = stage or trained
    if last > trained:
        raise ConfigError(f"{checkpoint}: is a checkpoint of stage 1; give one of stage 2, or use stage 1 only")
    facts: dict[str, Any] = {"stage": last, "chunks": chunks.to_dict()}
    if trained == 1:
        first: str | Path | None = checkpoint
    else:
        config = Phase2Config.from_dict(sections)
        first = stage1 or _stage1_of(checkpoint, config)
        config = replace(config, stage1=Stage1Config(checkpoint=NO_STAGE1 if first is None else str(first)))
    network = None
    if first is not None:
        sections, loaded = load_checkpoint(first, "cpfp")
        network = cast(Cpfp, loaded.to(where))
        facts["stage1"] = sha256_file(weights_file(first))
    elif last == 1:
        raise ConfigError(f"{checkpoint}: was trained without stage 1; use both stages, or give --stage1")
    restoration = Stage1(network, chunks, where)
    if last == 1:
        return Deblurrer(restoration, Phase1Config.from_dict(sections).reader(), facts=facts)
    reader, second = config.reader(), _load_stage2(checkpoint, config, base, sampling or {}, where)
    facts |= {
        "stage2": sha256_file(weights_file(checkpoint)),
        "cpc": second.config.to_dict(),
        "sampling": second.sampling.to_dict(),
    }
    return Deblurrer(restoration, reader, second, facts=facts)


def _stage1_of(checkpoint: str | Path, config: Phase2Config) -> Path | None:
    """Find the weights of stage 1 that stage 2 was trained on, if it was on any."""
    if config.stage1.checkpoint == NO_STAGE1:
        return None
    kept = weights_file(checkpoint).with_name(STAGE1_NAME)
    if not kept.is_file():
        raise ConfigError(f"{checkpoint}: there is no {STAGE1_NAME} beside its weights; give stage 1 with --stage1")
    return kept


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {name!r}: cannot be used ({reason}); use cpu, or cuda where there is a GPU"
        ) from error


def _load_stage2(
    checkpoint: str | Path, config: Phase2Config, base: str | None, changes: Mapping[str, Any], device: torch.device
) -> Stage2:
    from .stable_diffusion import load_stable_diffusion

    cpc = config.cpc if base is None else replace(config.cpc, base_path=base)
    sampling = SamplingConfig.from_dict({**config.sampling.to_dict(), **changes})
    _, controlnet = load_checkpoint(checkpoint, "cpc")
    frozen = load_stable_diffusion(cpc).to(device)
    # Trained in float32; for what it adds to the base, the type of the base will do.
    nn.Module.to(controlnet, device, frozen.unet.dtype)  # diffusers' own warns of nothing
    return Stage2(base=frozen, controlnet=controlnet, config=cpc, sampling=sampling)
