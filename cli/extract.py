"""``codecprior extract``: videos, frame folders, datasets and VVC streams to priors stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from codecprior.cli.encoding import (
    cluster_options,
    encoder_options,
    encoder_settings,
    raw_format,
    raw_options,
    require_one_cluster,
)
from codecprior.cli.output import count, report, size
from codecprior.cli.progress import counted, echo, progress_bar

if TYPE_CHECKING:
    from codecprior.extraction.run import Job
    from codecprior.extraction.sequence import ExtractionSettings, SequenceResult

__all__ = ["extract"]


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="The .zarr of one sequence, or the folder of a dataset's stores; path or URL.  [default: beside INPUT]",
)
@click.option("--codec", type=click.Choice(["vvc"]), default="vvc", show_default=True, help="Codec to extract from.")
@encoder_options
@click.option(
    "--directions",
    type=click.Choice(["forward", "both"]),
    default="forward",
    show_default=True,
    help="'both' adds a pass over the time-reversed clip, for backward propagation.",
)
@click.option("--with-frames", is_flag=True, help="Store the decoded pictures, too: about ten times the bytes.")
@click.option("--no-bitstream", is_flag=True, help="Do not keep the encoder's bitstream beside the store.")
@raw_options
@cluster_options
@click.option("--overwrite", is_flag=True, help="Replace stores that have another input or other settings.")
@click.option("--dry-run", is_flag=True, help="Print what would be extracted to where, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def extract(
    ctx: click.Context, /, source: str, output: str | None, *, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Extract coding priors from INPUT into Zarr stores.

    INPUT is a video, a folder of frames, a raw .yuv or .y4m file, a VVC stream (decoded as it is), or a dataset: a
    folder with any of these at any depth. Each sequence becomes one store. What is finished is skipped, what was
    interrupted is continued, and a sequence that fails does not stop the others.

    \b
    codecprior extract clip.mp4                      # clip.zarr and clip.266
    codecprior extract frames/ -o priors/clip.zarr --qp 22
    codecprior extract GOPRO_Large/train -o priors/ --workers 4 --threads 1
    codecprior extract stream.266                    # decoded, not encoded again
    codecprior extract clip.mp4 -o s3://bucket/clip.zarr
    """
    from codecprior.extraction.run import plan

    workers, scheduler = require_one_cluster(options)
    settings = _settings(options, workers)
    jobs = plan(source, output)
    if not as_json:
        for job in jobs:
            click.echo(f"{job.sequence.path} -> {job.store}")
    if dry_run:
        if as_json:
            click.echo(json.dumps([{"input": str(job.sequence.path), "store": job.store} for job in jobs], indent=2))
        return
    ctx.exit(report(_run(jobs, settings, workers, scheduler), _print, as_json=as_json))


def _settings(options: dict[str, Any], workers: int | None) -> ExtractionSettings:
    from codecprior.extraction.sequence import ExtractionSettings
    from codecprior.extraction.vvc import VvcBackend

    options.pop("codec")
    backend = VvcBackend(encoder=encoder_settings(options, workers), decoder_threads=options.pop("decoder_threads"))
    raw, frame_rate = raw_format(options)
    return ExtractionSettings(
        backend=backend, raw=raw, frame_rate=frame_rate, keep_bitstream=not options.pop("no_bitstream"), **options
    )


def _run(
    jobs: list[Job], settings: ExtractionSettings, workers: int | None, scheduler: str | None
) -> Iterator[SequenceResult]:
    from codecprior.extraction.run import extract_here, extract_on_cluster

    if workers or scheduler:
        with progress_bar("extract", "sequence") as progress:
            results = extract_on_cluster(jobs, settings, workers=workers or 0, scheduler=scheduler)
            yield from counted(results, len(jobs), progress)
        return
    for job in jobs:
        with progress_bar(job.sequence.name, "frame") as progress:
            result = extract_here(job, settings, progress)
        yield result


def _print(result: SequenceResult) -> None:
    frames = count(result.num_frames, "frame")
    if result.status == "skipped":
        echo(f"{result.store}: finished before, {frames}")
        return
    each = size(result.stored_bytes / max(result.num_frames, 1))
    rate = result.num_frames / max(result.seconds, 1e-9)
    echo(
        f"{result.store}: {frames}, {size(result.stored_bytes)} ({each} a frame), "
        f"{result.seconds:.1f} s ({rate:.1f} frames/s)"
    )
