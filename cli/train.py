"""``codecprior train``: a configuration and a prepared dataset to a trained network."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from .networks import data_option, set_option
from .output import count
from .progress import echo, progress_bar

if TYPE_CHECKING:
    from codecprior.datasets.manifest import Manifest
    from codecprior.model.training import StepReport, TrainingResult
    from codecprior.model.training_config import Phase1Config, Phase2Config

__all__ = ["noted_interrupts", "print_report", "train"]


@click.command(short_help="Train a network on a prepared dataset.")
@click.option(
    "--config", "preset", metavar="PRESET|FILE", required=True, help="cpfp, cpfp-tiny, cpc, cpc-tiny, or a YAML file."
)
@data_option
@click.option("--additional", metavar="MANIFEST", help="Another one for stage 2, such as degraded HQ video.")
@click.option(
    "-o", "--output", "run", metavar="RUN", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@set_option
@click.option(
    "--max-steps",
    metavar="N",
    type=click.IntRange(1),
    help="End after N steps, counted from the very start; --resume goes on.",
)
@click.option("--resume", is_flag=True, help="Go on from the last state in RUN.")
@click.option("--dry-run", is_flag=True, help="Print the configuration and the data, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(
    *,
    preset: str,
    data: str,
    additional: str | None,
    run: Path,
    assignments: tuple[str, ...],
    max_steps: int | None,
    resume: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train a network on a prepared dataset.

    RUN/model.safetensors is the result, at any time of the training; RUN/config.yaml all settings; RUN/samples what
    validations look like; RUN/logs is for TensorBoard. A training that was interrupted goes on with the same command
    and --resume, and comes to the same weights. On several GPUs: 'accelerate launch -m codecprior.cli train ...'.

    \b
    codecprior train --config cpfp --data gopro-priors -o runs/cpfp
    codecprior train --config cpfp --data gopro-priors -o runs/cpfp --resume
    codecprior train --config cpfp-tiny --data gopro-priors -o runs/tiny \\
      --set training.steps=500 --set validation.split=test
    codecprior train --config cpfp --data gopro-priors -o runs/cpfp --dry-run
    codecprior train --config cpc --data gopro-priors --additional hq-priors \\
      -o runs/cpc --set stage1.checkpoint=runs/cpfp \\
      --set cpc.base_path=sd21 --set cpc.ircontrolnet_path=v2.pth
    """
    from codecprior.datasets.manifest import read_manifest
    from codecprior.model.training_config import training_config

    config, manifest = training_config(preset, assignments), read_manifest(data)
    second = None if additional is None else read_manifest(additional)
    if dry_run:
        _print_plan(config, manifest, second, as_json=as_json)
        return
    from codecprior.model.training import train as run_training

    try:
        with noted_interrupts() as interrupted, progress_bar("train", "step") as progress:
            result = run_training(
                config,
                manifest,
                run,
                additional=second,
                max_steps=max_steps,
                resume=resume,
                report=None if as_json else print_report,
                progress=progress,
                should_stop=interrupted,
            )
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("run the same command with --resume to continue") from interrupt
    if result.is_main_process:
        click.echo(json.dumps(asdict(result), indent=2) if as_json else _summary(result))


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Let the step that is being done end after Ctrl-C or a polite kill; a second one ends at once.

    Yields
    ------
    callable
        Tells whether there was one.
    """
    noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            raise KeyboardInterrupt
        noted = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_report(report: StepReport) -> None:
    """Print how a training goes, in one line."""
    left = timedelta(seconds=round(report.remaining_seconds))
    echo(
        f"step {report.step}: loss {report.loss:.4g}, rate {report.learning_rate:.1e}, "
        f"{report.samples_per_second:.3g} samples/s, {left} left"
    )


def _summary(result: TrainingResult) -> str:
    steps = f"{result.step} of {count(result.steps, 'step')}"
    if result.step == result.first_step:
        return f"{result.run}: {steps} were done before"
    text = f"{result.run}: {steps}, {timedelta(seconds=round(result.seconds))}"
    if result.psnr_restored is not None:
        text += f"; validation {result.psnr_blurry:.2f} dB blurry, {result.psnr_restored:.2f} dB restored"
    return text


def _print_plan(
    config: Phase1Config | Phase2Config, manifest: Manifest, additional: Manifest | None, *, as_json: bool
) -> None:
    from codecprior.model.training_data import TrainingData

    data = TrainingData(manifest, config, additional)
    data.check()
    facts: dict[str, Any] = {
        "manifest": manifest.root,
        "sequences": len(data.manifest.entries),
        "frames": sum(entry.num_frames for entry in data.manifest.entries),
        "clips": len(data.clips),
        "steps_per_epoch": len(data.clips) // config.training.batch_size,
        "validation_clips": 0 if data.fixed is None else len(data.fixed[1]),
    }
    if as_json:
        click.echo(json.dumps({"config": config.to_dict(), "data": facts}, indent=2))
        return
    import yaml

    click.echo(yaml.safe_dump(config.to_dict(), sort_keys=False))
    click.echo(
        f"{facts['manifest']}: {count(facts['sequences'], 'sequence')} of split {config.data.split}, "
        f"{count(facts['frames'], 'frame')}, {count(facts['clips'], 'clip')}, "
        f"{count(facts['steps_per_epoch'], 'step')} an epoch"
    )
    if data.fixed is None:
        click.echo("no validation; --set validation.split=NAME takes clips of a split")
    else:
        click.echo(f"validation: {count(facts['validation_clips'], 'clip')} of split {config.validation.split}")
