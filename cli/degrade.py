"""``codecprior degrade``: clean frames to degraded ones, by recipe."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from codecprior.cli.encoding import raw_format, raw_options
from codecprior.cli.output import count, report
from codecprior.cli.progress import counted, echo, progress_bar
from codecprior.errors import ExtractionError

if TYPE_CHECKING:
    from codecprior.datasets.degradation.run import DegradationJob, DegradationResult, DegradationSettings

__all__ = ["degrade"]

_MAX_THREADS: Final = 8
"""Frames of a sequence that are worked on at once by default; each takes about half a gigabyte at 4K."""


@click.command(short_help="Degrade clean frames for training, by recipe.")
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the frames of one sequence, or for one such folder for each sequence of a dataset.",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE.yaml",
    default="codeformer",
    show_default=True,
    help="codeformer, codeformer-stage2, codeformer-stage3, real-esrgan, or a file.",
)
@click.option("--seed", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Another degradation.")
@click.option(
    "--extension", type=click.Choice(["png", "jpg"]), default="png", show_default=True, help="Format of the frames."
)
@raw_options
@click.option("--workers", metavar="N", type=click.IntRange(1), help="Degrade N sequences at a time, in processes.")
@click.option("--overwrite", is_flag=True, help="Replace what is in OUT already, even if it is the same.")
@click.option("--dry-run", is_flag=True, help="Print what would be done to what, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def degrade(
    ctx: click.Context,
    /,
    source: Path,
    output: Path,
    *,
    recipe: str,
    workers: int | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Degrade clean frames of INPUT for training: blur, downscaling, noise, JPEG.

    INPUT is a video, a folder of frames, a raw .yuv or .y4m file, or a dataset: a folder with any of these at any
    depth. The frames in OUT have the size and, where there are any, the names of those of INPUT. Parameters are drawn
    once per sequence, noise anew for each frame; the same seed gives the same bytes. OUT gets a degradation.json that
    says what was done. What is finished is skipped, and a sequence that fails does not stop the others.

    \b
    codecprior degrade clip.mp4 -o clip-lq/
    codecprior degrade S01.yuv --size 3840x2160 -o S01/ --recipe real-esrgan
    codecprior degrade HQ/ -o HQ-lq/ --seed 7 --workers 4
    codecprior degrade HQ/ -o HQ-lq/ --recipe mine.yaml --dry-run
    """
    from codecprior.datasets.degradation.recipe import load_recipe
    from codecprior.datasets.degradation.run import DegradationSettings, check_outputs, clip_parameters

    threads = max(1, min(_MAX_THREADS, len(os.sched_getaffinity(0)) // (workers or 1)))
    raw, frame_rate = raw_format(options)
    settings = DegradationSettings(
        recipe=load_recipe(recipe), raw=raw, frame_rate=frame_rate, threads=threads, **options
    )
    jobs = _plan(source, output)
    check_outputs(jobs, source)
    if dry_run:
        planned = [(job, clip_parameters(job, settings)) for job in jobs]
        if as_json:
            click.echo(json.dumps([_facts(job) | parameters.to_dict() for job, parameters in planned], indent=2))
        for job, parameters in [] if as_json else planned:
            click.echo(f"{job.path} -> {job.output}")
            click.echo(f"  {', '.join(map(str, parameters.operations))}")
        return
    ctx.exit(report(_run(jobs, settings, workers), _print, as_json=as_json))


def _plan(source: Path, output: Path) -> list[DegradationJob]:
    from codecprior.datasets.degradation.run import DegradationJob
    from codecprior.extraction.discover import discover

    sequences = discover(source)
    single = len(sequences) == 1 and sequences[0].path == source
    return [
        DegradationJob(name=each.name, path=each.path, output=output if single else output / each.name)
        for each in sequences
    ]


def _facts(job: DegradationJob) -> dict[str, str]:
    return {"input": str(job.path), "output": str(job.output)}


def _run(jobs: list[DegradationJob], settings: DegradationSettings, workers: int | None) -> Iterator[DegradationResult]:
    from codecprior.datasets.degradation.run import DegradationResult, degrade_here
    from codecprior.extraction.cluster import each_on_cluster

    if not workers:
        for job in jobs:
            with progress_bar(job.name, "frame") as progress:
                result = degrade_here(job, settings, progress)
            yield result
        return
    with progress_bar("degrade", "sequence") as progress:
        outcomes = each_on_cluster(partial(degrade_here, settings=settings), jobs, workers=workers)
        for job, outcome in counted(outcomes, len(jobs), progress):
            if isinstance(outcome, ExtractionError):
                reason = f"{job.path}: {outcome}"
                yield DegradationResult(name=job.name, output=str(job.output), status="failed", error=reason)
            else:
                yield outcome


def _print(result: DegradationResult) -> None:
    frames = count(result.num_frames, "frame")
    if result.status == "skipped":
        echo(f"{result.output}: finished before, {frames}")
        return
    rate = result.num_frames / max(result.seconds, 1e-9)
    echo(f"{result.output}: {frames}, {result.seconds:.1f} s ({rate:.1f} frames/s)")
