"""A configuration and a prepared dataset to a trained network, in a folder that a training can go on from.

``RUN`` holds ``model.safetensors`` and ``config.yaml`` (see :mod:`codecprior.model.checkpoint`), ``run.json`` (each
start: command, versions, device), ``states/`` (everything that a resumed training needs), ``samples/`` (pictures of
validations) and ``logs/`` (TensorBoard). Random states depend on the seed and the number of the step alone, and so do
clips: on the same machine, a training that was cut anywhere goes on to the same weights.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from codecprior import __version__
from codecprior.datasets.manifest import Manifest
from codecprior.errors import CodecpriorError, ConfigError, DatasetError
from codecprior.media.files import sha256_file, written_whole
from codecprior.visualization.output import write_png

from .checkpoint import STAGE1_NAME, WEIGHTS_NAME, read_sections, save_checkpoint
from .dataset import ClipDataset, ClipLoader
from .phase import Phase
from .phase1 import Phase1
from .training_config import Phase1Config, Phase2Config, TrainingConfig
from .training_data import Share, TrainingData
from .validation import Shown, sheet

__all__ = ["StepReport", "TrainingResult", "learning_rate", "train"]

_logger = logging.getLogger(__name__)

_STATES: Final = "states"
_RECORD: Final = "run.json"
_LIBRARIES: Final = ("torch", "torchvision", "accelerate", "diffusers", "transformers", "numpy")
_BETAS: Final = (0.9, 0.999)
_MAY_DIFFER: Final = ("run", "validation", "sampling")
"""Sections that do not decide what a training comes to."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """How a training goes.

    Parameters
    ----------
    step : int
        Steps done.
    loss : float
        Mean over the steps since the last report.
    learning_rate : float
        Of the last step.
    samples_per_second : float
        Clips per second of training, over all processes.
    waiting : float
        Share of that time in which the next batch was waited for.
    remaining_seconds : float
        Estimate for the steps to the end of this run.
    """

    step: int
    loss: float
    learning_rate: float
    samples_per_second: float
    waiting: float
    remaining_seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training came to.

    Parameters
    ----------
    run : str
        Its folder.
    step : int
        Steps done since its very start.
    steps : int
        Steps of the whole training.
    first_step : int
        Steps that had been done before.
    loss : float or None
        Mean over the steps of the last report; None if there were no steps.
    samples_per_second : float or None
        Mean over this run; None if there were no steps.
    seconds : float
        Time from start to end.
    psnr_blurry, psnr_restored : float or None
        Of the clips of the validation, in dB, where there is one.
    is_main_process : bool
        Whether this is the one of several processes that writes and reports.
    """

    run: str
    step: int
    steps: int
    first_step: int
    loss: float | None
    samples_per_second: float | None
    seconds: float
    psnr_blurry: float | None = None
    psnr_restored: float | None = None
    is_main_process: bool = True


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    config : TrainingConfig
        The schedule.
    step : int
        Steps done before.

    Returns
    -------
    float
        Rising linearly to the greatest one in the warm-up, then constant or falling like a cosine.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    share = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.final_learning_rate + share * (config.learning_rate - config.final_learning_rate)


def train(
    config: Phase1Config | Phase2Config,
    manifest: Manifest,
    run: Path,
    *,
    additional: Manifest | None = None,
    max_steps: int | None = None,
    resume: bool = False,
    report: Callable[[StepReport], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainingResult:
    """Train a network, or go on.

    Parameters
    ----------
    config : Phase1Config or Phase2Config
        The training.
    manifest : Manifest
        The prepared dataset.
    run : pathlib.Path
        Folder to write.
    additional : Manifest, optional
        Another prepared dataset, for stage 2.
    max_steps : int, optional
        Steps, counted from the very start, after which this run ends even if the training has more.
    resume : bool
        Whether to go on from the newest state in the folder.
    report : callable, optional
        Called every ``run.log_every`` steps.
    progress : callable, optional
        Called after each step with the steps done and those to do.
    should_stop : callable, optional
        Asked after each step; if it returns true, the state is saved and KeyboardInterrupt raised.

    Returns
    -------
    TrainingResult
        What it came to.

    Raises
    ------
    ConfigError
        If something does not fit, or the loss is no number.
    StoreError, DatasetError, MediaError
        If data cannot be read.
    """
    started = time.monotonic()
    accelerator = _accelerator(config.training)
    _require_folder(run, config, resume=resume)
    data = TrainingData(manifest, config, additional)
    data.check()
    _seed(config.training.seed)
    phase = _phase(config, data, accelerator.device)
    if isinstance(config, Phase2Config) and accelerator.is_main_process:
        _keep_stage1(config.stage1.weights(), run / STAGE1_NAME)
    trainer = _Trainer(config, data, run, accelerator, phase)
    if resume:
        trainer.load_newest()
    if accelerator.is_main_process:
        _record_start(run, accelerator, trainer.position.step)
    try:
        return trainer.train(
            min(config.training.steps, max_steps or config.training.steps),
            started,
            report=report or (lambda _: None),
            progress=progress or (lambda _done, _total: None),
            should_stop=should_stop or (lambda: False),
        )
    except RuntimeError as error:  # raised wherever the training is when a worker dies
        if not str(error).startswith("DataLoader worker"):
            raise
        reason = str(error).strip(" .")
        raise DatasetError(
            f"a process that reads clips was ended from outside ({reason}), perhaps for want of memory; use fewer "
            "run.num_workers, and --resume"
        ) from error


class _Position:
    """Where a training is, as something that accelerate saves with it."""

    def __init__(self, loader: ClipLoader) -> None:
        self.step = 0
        self._loader = loader

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "loader": self._loader.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self._loader.load_state_dict(state["loader"])


class _Trainer:
    """One run of a training."""

    def __init__(
        self,
        config: Phase1Config | Phase2Config,
        data: TrainingData,
        run: Path,
        accelerator: Accelerator,
        phase: Phase,
    ) -> None:
        self.config, self.run, self.accelerator, self.phase = config, run, accelerator, phase
        training = config.training
        parts = accelerator.num_processes * training.gradient_accumulation
        if training.batch_size % parts:
            raise ConfigError(
                f"batch_size {training.batch_size}: use a multiple of {accelerator.num_processes} processes times "
                f"gradient_accumulation {training.gradient_accumulation}"
            )
        size = training.batch_size // parts
        share = Share(data.clips, accelerator.process_index, accelerator.num_processes)
        if len(share) < size:
            raise ConfigError(
                f"batch_size {training.batch_size}: split {config.data.split} has {len(data.clips)} clips of "
                f"{config.data.num_frames} frames; use a smaller training.batch_size or data.num_frames"
            )
        self.loader = ClipLoader(
            ClipDataset(data.reader, share), batch_size=size, num_workers=config.run.num_workers, drop_last=True
        )
        self.validation = None if data.fixed is None else ClipDataset(*data.fixed)
        self.position = _Position(self.loader)
        self.mean = None
        if training.ema_decay is not None:
            self.mean = AveragedModel(phase.network, avg_fn=_averaging(training.ema_decay)).to(accelerator.device)
            accelerator.register_for_checkpointing(self.mean)
        optimizer = torch.optim.AdamW(
            phase.network.parameters(), training.learning_rate, _BETAS, weight_decay=training.weight_decay
        )
        self.network, self.optimizer = accelerator.prepare(phase.network, optimizer)
        accelerator.register_for_checkpointing(self.position)

    @property
    def result(self) -> nn.Module:
        """The network as it is saved and looked at."""
        found: nn.Module = self.accelerator.unwrap_model(self.network) if self.mean is None else self.mean.module
        return found

    def load_newest(self) -> None:
        """Go to the newest state, if there is any."""
        if found := _states(self.run):
            self.accelerator.load_state(str(found[-1]))

    def train(
        self,
        last: int,
        started: float,
        *,
        report: Callable[[StepReport], None],
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> TrainingResult:
        """Do the steps that are left; see :func:`train`."""
        config, first = self.config, self.position.step
        writer = None
        if self.accelerator.is_main_process:
            writer = SummaryWriter(str(self.run / "logs"), purge_step=first + 1)
        batches = _endless(self.loader)
        clock, total, mean_loss, scores = _Clock(), _Clock(), None, None
        losses: list[float] = []
        progress(first, last)
        try:
            while self.position.step < last:
                begun = time.monotonic()
                loss, waited = self._step(batches)
                losses.append(loss)
                step = self.position.step
                stop = self._mean(should_stop()) > 0
                for each in (clock, total):
                    each.add(time.monotonic() - begun, waited)
                progress(step, last)
                if step % config.run.log_every == 0 or step == last or stop:
                    mean_loss = self._mean(np.mean(losses))
                    found = clock.report(config.training, step, last, mean_loss)
                    if writer is not None:
                        _log(writer, found)
                        report(found)
                    clock, losses = _Clock(), []
                if self.validation is not None and (step % config.validation.every == 0 or step == last):
                    scores = self._validate(writer)
                if step % config.run.save_every == 0 or step == last or stop:
                    self._save()
                if stop and step < last:
                    raise KeyboardInterrupt
        finally:
            if writer is not None:
                writer.close()
            batches.close()
        rate = None if total.steps == 0 else total.steps * config.training.batch_size / total.seconds
        return TrainingResult(
            run=str(self.run),
            step=self.position.step,
            steps=config.training.steps,
            first_step=first,
            loss=mean_loss,
            samples_per_second=rate,
            seconds=time.monotonic() - started,
            psnr_blurry=None if scores is None else scores["blurry"],
            psnr_restored=None if scores is None else scores["restored"],
            is_main_process=self.accelerator.is_main_process,
        )

    def _mean(self, value: float | np.floating[Any]) -> float:
        """Return the mean over all processes, which must agree on what they do next."""
        if self.accelerator.num_processes == 1:
            return float(value)
        found = self.accelerator.reduce(torch.tensor(float(value), device=self.accelerator.device), "mean")
        return float(found)

    def _step(self, batches: Iterator[dict[str, Any]]) -> tuple[float, float]:
        """Do one step; return its loss and the seconds that batches were waited for."""
        training, step = self.config.training, self.position.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(training, step)
        self.network.train()
        total = waited = 0.0
        for part in range(1, training.gradient_accumulation + 1):
            begun = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - begun
            # Not before: where a loader begins an epoch, it draws from the same state.
            _seed(training.seed, 1 + step, self.accelerator.process_index, part)
            whole = part == training.gradient_accumulation
            with nullcontext() if whole else self.accelerator.no_sync(self.network):
                loss = self.phase.loss(self.network, _moved(batch, self.accelerator.device))
                value = float(loss.detach())
                if not math.isfinite(value):
                    names = ", ".join(sorted(set(batch["sequence"])))
                    raise ConfigError(
                        f"step {step + 1}: the loss is {value} (clips of {names}); use a smaller "
                        "training.learning_rate or training.gradient_clipping, and --resume from the last state"
                    )
                self.accelerator.backward(loss / training.gradient_accumulation)
            total += value / training.gradient_accumulation
        if training.gradient_clipping is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), training.gradient_clipping)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.mean is not None:
            self.mean.update_parameters(self.accelerator.unwrap_model(self.network))
        self.position.step += 1
        return total, waited

    @torch.no_grad()
    def _validate(self, writer: SummaryWriter | None) -> dict[str, float] | None:
        """Restore the fixed clips and draw them; the other processes wait."""
        scores = None
        if writer is not None:
            assert self.validation is not None
            network, step = self.result.eval(), self.position.step
            clips = []
            for batch in ClipLoader(self.validation, batch_size=1):
                with self.accelerator.autocast():
                    frames = self.phase.restore(network, _moved(batch, self.accelerator.device))
                clips.append(Shown.of(batch["sequence"][0], frames))
            scores = {
                title: float(np.mean([clip.psnr(title) for clip in clips]))
                for title in clips[0].frames
                if title != "sharp"
            }
            for title, value in scores.items():
                writer.add_scalar(f"psnr/{title}", value, step)
            picture = sheet(clips, f"step {step}, PSNR of whole clips")
            write_png(self.run / "samples" / f"{step:08d}.png", picture)
            writer.add_image("samples", picture, step, dataformats="HWC")
            _logger.info("step %d: %s", step, ", ".join(f"{title} {value:.2f} dB" for title, value in scores.items()))
        self.accelerator.wait_for_everyone()
        return scores

    def _save(self) -> None:
        """Write the state, whole or not at all, and the result."""
        partial = self.run / _STATES / ".writing"
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state = partial.with_name(f"{self.position.step:08d}")
            shutil.rmtree(state, ignore_errors=True)
            partial.replace(state)
            save_checkpoint(self.run, self.result, self.config.to_dict())
            for old in _states(self.run)[: -self.config.run.keep_states]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()


class _Clock:
    """Time that steps took."""

    def __init__(self) -> None:
        self.steps, self.seconds, self._waited = 0, 0.0, 0.0

    def add(self, seconds: float, waited: float) -> None:
        self.steps, self.seconds, self._waited = self.steps + 1, self.seconds + seconds, self._waited + waited

    def report(self, training: TrainingConfig, step: int, last: int, loss: float) -> StepReport:
        return StepReport(
            step=step,
            loss=loss,
            learning_rate=learning_rate(training, step - 1),
            samples_per_second=self.steps * training.batch_size / self.seconds,
            waiting=self._waited / self.seconds,
            remaining_seconds=(last - step) * self.seconds / self.steps,
        )


def _phase(config: Phase1Config | Phase2Config, data: TrainingData, device: torch.device) -> Phase:
    if isinstance(config, Phase1Config):
        return Phase1(config, device)
    from .phase2 import Phase2  # diffusers takes seconds to import

    return Phase2(config, device, restored=data.restored, vae=data.vae)


def _keep_stage1(weights: Path | None, kept: Path) -> None:
    """Copy the weights of stage 1, so that what is trained on them stays of use; refuse others than those of before."""
    if weights is None:
        return
    if not kept.exists():
        with written_whole(kept) as partial:
            shutil.copyfile(weights, partial)
    elif sha256_file(kept) != sha256_file(weights):
        raise ConfigError(f"{weights}: is not the stage 1 that this training began with; use {kept}")


def _accelerator(training: TrainingConfig) -> Accelerator:
    AcceleratorState._reset_state()  # or the precision of an earlier training would hold for the whole process
    precision = {"none": "no"}.get(training.mixed_precision, training.mixed_precision)
    try:
        accelerator = Accelerator(mixed_precision=precision)
    except ValueError as error:
        raise ConfigError(f"mixed_precision {training.mixed_precision}: {' '.join(str(error).split())}") from error
    if precision == "fp16" and accelerator.device.type == "cpu":
        # accelerate takes it, and scales no loss: small gradients become zero.
        raise ConfigError("mixed_precision fp16: is for GPUs; use bf16 or none on a CPU")
    return accelerator


def _seed(*numbers: int) -> None:
    (state,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    torch.manual_seed(int(state))


def _averaging(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    def average(mean: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
        # With a short memory at first, or the first weights would stay for thousands of steps.
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return mean.lerp(value, 1 - kept)

    return average


def _endless(loader: ClipLoader) -> Generator[dict[str, Any], None, None]:
    """Give out batches of one epoch after the other; errors of workers are one line again."""
    while True:
        try:
            yield from loader
        except CodecpriorError as error:
            lines = str(error).strip().splitlines()
            if len(lines) > 1:  # a traceback, whose last line names the class, too
                raise type(error)(lines[-1].partition(": ")[2]) from error
            raise


def _moved(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value for key, value in batch.items()
    }


def _log(writer: SummaryWriter, report: StepReport) -> None:
    for name, value in asdict(report).items():
        if name not in ("step", "remaining_seconds"):
            writer.add_scalar(f"train/{name}", value, report.step)
    writer.flush()


def _states(run: Path) -> list[Path]:
    """Return the saved states, newest last."""
    folder = run / _STATES
    return sorted(each for each in folder.iterdir() if each.name.isdecimal()) if folder.is_dir() else []


def _require_folder(run: Path, config: Phase1Config | Phase2Config, *, resume: bool) -> None:
    """Refuse a folder that a new training must not touch, or that this one cannot go on in."""
    there = run.exists() and (not run.is_dir() or any(run.iterdir()))
    if not resume:
        if there:
            raise ConfigError(f"{run}: exists; use --resume to go on, or another -o")
        return
    if not (run / _RECORD).is_file():
        raise ConfigError(f"{run}: holds no training to resume; leave out --resume, or give another -o")
    if not (run / WEIGHTS_NAME).is_file():
        return  # it was cut before its first state
    sections, ours = read_sections(run), _flat(config.to_dict())
    # Values that a later version has brought are what they are by default.
    theirs = _flat(
        type(config).from_dict(sections).to_dict() if sections.keys() <= config.to_dict().keys() else sections
    )
    differing = [
        f"{name} {theirs.get(name)} there, {ours.get(name)} here"
        for name in {**theirs, **ours}
        if theirs.get(name) != ours.get(name) and name.partition(".")[0] not in _MAY_DIFFER
    ]
    if differing:
        raise ConfigError(f"{run}: is a training of another configuration: {'; '.join(differing)}")


def _flat(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in sections.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _record_start(run: Path, accelerator: Accelerator, step: int) -> None:
    path = run / _RECORD
    starts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    cuda = accelerator.device.type == "cuda"
    starts.append(
        {
            "command": sys.argv,
            "step": step,
            "codecprior": __version__,
            "python": platform.python_version(),
            "libraries": {name: metadata.version(name) for name in _LIBRARIES},
            "device": torch.cuda.get_device_name() if cuda else platform.machine(),
            "processes": accelerator.num_processes,
            "threads": torch.get_num_threads(),
        }
    )
    with written_whole(path) as partial:
        partial.write_text(json.dumps(starts, indent=2) + "\n", encoding="utf-8")
