"""``codecprior prepare``: a dataset in any layout to priors stores and a manifest that a training reads."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from codecprior.cli.dataset import layout_options
from codecprior.cli.encoding import cluster_options, encoder_options, encoder_settings, require_one_cluster
from codecprior.cli.output import count, report, size, table
from codecprior.cli.progress import counted, echo, next_bar, progress_bar

if TYPE_CHECKING:
    from codecprior.datasets.layouts import Dataset
    from codecprior.extraction.prepare import PrepareJob, PrepareResult, PrepareSettings

__all__ = ["prepare"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("-o", "--output", metavar="OUT", required=True, help="Folder or URL of the prepared dataset.")
@layout_options
@encoder_options
@click.option(
    "--directions",
    type=click.Choice(["forward", "both"]),
    default="forward",
    show_default=True,
    help="'both' adds priors of the time-reversed clips, for backward propagation.",
)
@click.option("--with-frames", is_flag=True, help="Store the decoded pictures, too, as degraded side of a training.")
@click.option(
    "--frames",
    type=click.Choice(["reference", "copy", "pack"]),
    default="reference",
    show_default=True,
    help="Leave frames where they are, copy the files, or pack them as arrays that crops are read from fast.",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE.yaml",
    default="codeformer",
    show_default=True,
    help="Degradation of HQ sequences, as in 'codecprior degrade'.",
)
@click.option("--seed", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Another degradation.")
@cluster_options
@click.option("--overwrite", is_flag=True, help="Replace what was made from other frames or with other settings.")
@click.option("--dry-run", is_flag=True, help="Print what would be made, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def prepare(
    ctx: click.Context,
    /,
    folder: str,
    output: str,
    *,
    layout: str | None,
    splits: str | None,
    blur: str,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn dataset DIR into a training set with coding priors.

    Extracts priors of the degraded side of every sequence, verifies that they belong to the frames, and writes
    OUT/manifest.jsonl, one line a sequence. HQ sequences, which have no degraded side, are degraded first. DIR is
    never changed, and its frames stay where they are unless --frames says otherwise. What is finished is skipped, what
    was interrupted is continued, and a sequence that fails does not stop the others. See 'codecprior dataset inspect'
    for the layouts.

    \b
    codecprior prepare GOPRO_Large -o gopro-priors --directions both --workers 2
    codecprior prepare DeepVideoDeblurring_Dataset -o dvd-priors --frames pack
    codecprior prepare HQ/ -o hq-priors --recipe codeformer --seed 1
    codecprior prepare my_clips/ -o s3://bucket/my-priors --frames copy
    """
    from codecprior.datasets.layouts import recognise
    from codecprior.extraction.prepare import plan_preparation
    from codecprior.extraction.prepare import prepare as run

    workers, scheduler = require_one_cluster(options)
    settings = _settings(options, workers)
    found = recognise(folder, layout, splits, blur=blur)
    jobs = plan_preparation(found, output, settings)
    if not as_json:
        _announce(found, output)
    if dry_run:
        _print_plan(jobs, as_json=as_json)
        return
    with ExitStack() as bars:
        if workers or scheduler:
            total = bars.enter_context(progress_bar("prepare", "sequence"))
            done = counted(run(jobs, settings, workers=workers or 0, scheduler=scheduler), len(jobs), total)
        else:
            done = run(jobs, settings, progress=lambda job: next_bar(bars, job.pair.name))
        results = chain(_refused(found), done)
        ctx.exit(report(results, _print, as_json=as_json, plain=_plain, summary=_summary))


def _settings(options: dict[str, Any], workers: int | None) -> PrepareSettings:
    from codecprior.datasets.degradation.recipe import load_recipe
    from codecprior.extraction.prepare import PrepareSettings
    from codecprior.extraction.sequence import ExtractionSettings
    from codecprior.extraction.vvc import VvcBackend

    backend = VvcBackend(encoder=encoder_settings(options, workers), decoder_threads=options.pop("decoder_threads"))
    frames, seed, recipe = options.pop("frames"), options.pop("seed"), load_recipe(options.pop("recipe"))
    return PrepareSettings(
        extraction=ExtractionSettings(backend=backend, **options), frames=frames, recipe=recipe, seed=seed
    )


def _announce(found: Dataset, output: str) -> None:
    frames = sum(pair.num_frames for pair in found.pairs)
    click.echo(f"{found.root} ({found.layout}, {count(len(found.pairs), 'sequence')}, {frames} frames) -> {output}")
    for problem in found.problems:
        if problem.severity == "warning":
            click.echo(f"Warning: {problem}", err=True)


def _print_plan(jobs: Iterable[PrepareJob], *, as_json: bool) -> None:
    planned = [
        {"sequence": job.pair.name, "split": job.pair.split, "store": job.place("priors", ".zarr")} for job in jobs
    ]
    if as_json:
        click.echo(json.dumps(planned, indent=2))
        return
    for each in planned:
        click.echo(f"{each['split']}/{each['sequence']} -> {each['store']}")


def _refused(found: Dataset) -> list[PrepareResult]:
    """Return the sequences that are no pairs, which count as failed."""
    from codecprior.extraction.prepare import PrepareResult

    return [
        PrepareResult(
            name=(problem.path if problem.path.is_dir() else problem.path.parent).name,
            split="",
            status="failed",
            error=str(problem),
            cause=problem.kind,
        )
        for problem in found.problems
        if problem.severity == "error"
    ]


def _print(result: PrepareResult) -> None:
    frames = count(result.num_frames, "frame")
    if result.status == "skipped":
        echo(f"{result.split}/{result.name}: finished before, {frames}")
        return
    rate = result.num_frames / max(result.seconds, 1e-9)
    echo(f"{result.split}/{result.name}: {frames}, {size(result.stored_bytes)}, {rate:.1f} frames/s")


def _plain(result: PrepareResult) -> dict[str, Any]:
    values = asdict(result)
    entry = values.pop("entry")
    return {**values, "store": entry and entry["store"], "checks": entry and entry["checks"]}


def _summary(results: Sequence[PrepareResult]) -> Iterator[str]:
    """Sequences, frames, speed and size by split, then failures by cause."""
    by_split: dict[str, list[PrepareResult]] = defaultdict(list)
    for result in results:
        if result.status != "failed":
            by_split[result.split].append(result)
    yield ""
    rows = [("split", "sequences", "frames", "bytes/frame", "frames/s", "skipped")]
    for split, those in sorted(by_split.items()):
        made = [result for result in those if result.status == "prepared"]
        frames, seconds = sum(result.num_frames for result in made), sum(result.seconds for result in made)
        rows.append(
            (
                split,
                str(len(those)),
                str(sum(result.num_frames for result in those)),
                size(sum(result.stored_bytes for result in those) / max(1, sum(result.num_frames for result in those))),
                f"{frames / seconds:.1f}" if seconds else "-",
                str(len(those) - len(made)),
            )
        )
    yield from table(rows)
    for cause, number in Counter(result.cause for result in results if result.status == "failed").most_common():
        yield f"failed: {number} by {cause}"
