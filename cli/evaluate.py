"""``codecprior evaluate``: trained networks, and the blurry input, measured over a split of a prepared dataset."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .metrics import metric_options, metrics_config
from .networks import data_option, load_networks, network_options
from .output import count, table
from .progress import echo, progress_bar

if TYPE_CHECKING:
    from codecprior.model.deblurrer import Deblurrer
    from codecprior.model.evaluation import Evaluation
    from codecprior.model.results import Results
    from codecprior.model.scores import SequenceScores

__all__ = ["evaluate"]

_SCORES: Final = "scores"
"""Folder of the scores of single sequences, from which an interrupted run goes on."""
_NO_NETWORK: Final = "none"


@click.command(short_help="Measure trained networks on a prepared dataset.")
@data_option
@click.option(
    "-o", "--output", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Folder for the results."
)
@metric_options("psnr,ssim,lpips,niqe,musiq,warp_error")
@click.option("--dataset", type=click.Choice(["gopro", "dvd"]), help="Rows of the paper's table.  [default: both]")
@click.option("--method", metavar="NAME", help="Name in the table.  [default: that of the checkpoint]")
@network_options
@click.option("--dry-run", is_flag=True, help="Print what would be measured, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print what metrics.json holds.")
def evaluate(
    *,
    data: str,
    split: str,
    output: Path,
    protocol: str,
    dataset: str | None,
    method: str | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the networks of RUN, and the blurry input, against the sharp side of a split.

    DIR gets metrics.json, per_frame.csv, per_sequence.csv and table.md, which stands beside the paper's Table I. A
    metric whose weights are not given is listed with the reason, and so are those that compare with sharp frames where
    a split has none. What was measured before with the same networks and protocol is not measured again, so that an
    interrupted run goes on where it was.

    \b
    codecprior evaluate --checkpoint runs/cpfp --data prepared -o results/
    codecprior evaluate --checkpoint runs/cpfp --data prepared -o results/ \\
        --split val --protocol rvrt --metrics psnr,ssim
    codecprior evaluate --checkpoint none --data prepared -o blurry/
    """
    from codecprior.datasets.manifest import read_manifest
    from codecprior.model.evaluation import Evaluation
    from codecprior.model.protocols import find_protocol
    from codecprior.model.results import BLURRY_INPUT, Results, write_results

    chosen, config = find_protocol(protocol), metrics_config(options)
    manifest = read_manifest(data).of_split(split, "--split")
    if dry_run:
        frames = count(sum(entry.num_frames for entry in manifest.entries), "frame")
        click.echo(f"{count(len(manifest.entries), 'sequence')}, {frames}: {chosen.describe()} -> {output}")
        return
    checkpoint = options["checkpoint"]
    deblurrer = None if checkpoint == _NO_NETWORK else load_networks(options)
    device = "cpu" if deblurrer is None else str(deblurrer.device)
    evaluation = Evaluation(manifest, chosen, config, output / _SCORES, device)
    blurry = _measured(evaluation, None)
    results = Results(
        protocol=chosen,
        opened=evaluation.opened,
        sequences=blurry if deblurrer is None else _measured(evaluation, deblurrer),
        method=method or (BLURRY_INPUT if deblurrer is None else Path(checkpoint).resolve().name),
        run={
            "command": sys.argv,
            "checkpoint": None if deblurrer is None else checkpoint,
            "networks": None if deblurrer is None else deblurrer.facts,
            "data": data,
            "split": split,
        },
        dataset=dataset,
        blurry=() if deblurrer is None else blurry,
    )
    paths = write_results(output, results)
    if as_json:
        click.echo(json.dumps(results.to_dict(), indent=2))
    else:
        _print(results)
        click.echo(f"wrote {', '.join(path.name for path in paths.values())} to {output}")


def _measured(evaluation: Evaluation, deblurrer: Deblurrer | None) -> list[SequenceScores]:
    """Measure all sequences, with a line of progress over all frames."""
    title = "blurry input" if deblurrer is None else "restored"
    with progress_bar(title, "frame") as progress:
        return list(evaluation.scores(deblurrer, progress))


def _print(results: Results) -> None:
    """Print the totals, one metric a line."""
    from codecprior.model.metrics import METRICS
    from codecprior.model.results import BLURRY_INPUT

    blurry = results.blurry_totals()
    heads = ["", results.method, *([BLURRY_INPUT] if blurry else [])]
    rows = [heads]
    for name, mean in results.totals().items():
        values = [mean, *([blurry[name]] if blurry else [])]
        rows.append([METRICS[name].label, *(f"{value.value:.{METRICS[name].decimals}f}" for value in values)])
    for line in table(rows):
        echo(line)
    for name, reason in results.opened.unavailable.items():
        echo(f"{METRICS[name].label} was not measured: {reason}")
