"""``codecprior ablate``: the paper's Tables II to IV, or a user's own, trained and measured."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .metrics import metric_options, metrics_config
from .networks import data_option, set_option
from .output import count, table
from .progress import echo, progress_bar
from .train import noted_interrupts, print_report

if TYPE_CHECKING:
    from codecprior.model.ablation import AblationTable, PlannedRow
    from codecprior.model.ablation_results import TableResults

__all__ = ["ablate"]

_METRICS = "psnr,ssim,niqe,musiq"
_LINE = 80


@click.command(short_help="Train and measure the paper's ablations.")
@data_option
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for trainings and results.",
)
@click.option("--table", "names", metavar="NAME", multiple=True, help="II, III or IV; again for more.  [default: all]")
@click.option("--rows", metavar="FILE", help="Tables of your own, as YAML.  [default: those of the paper]")
@click.option("--config", metavar="PRESET|FILE", default="cpfp", show_default=True, help="Configuration of stage 1.")
@set_option
@click.option(
    "--stage2-config", metavar="PRESET|FILE", default="cpc", show_default=True, help="Configuration of stage 2."
)
@click.option("--stage2-set", "stage2_assignments", metavar="KEY=VALUE", multiple=True, help="The same for stage 2.")
@click.option("--additional", metavar="MANIFEST", help="The additional dataset, such as degraded HQ video.")
@click.option("--raft-weights", metavar="FILE", help="State of torchvision's raft_large, for rows with RAFT.")
@click.option("--max-steps", metavar="N", type=click.IntRange(1), help="End each training after N steps.")
@metric_options(_METRICS)
@click.option("--dry-run", is_flag=True, help="Print rows, trainings and what is missing, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print what ablation.json holds.")
def ablate(
    *,
    data: str,
    output: Path,
    names: tuple[str, ...],
    rows: str | None,
    config: str,
    assignments: tuple[str, ...],
    stage2_config: str,
    stage2_assignments: tuple[str, ...],
    additional: str | None,
    raft_weights: str | None,
    max_steps: int | None,
    split: str,
    protocol: str,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train and measure each row of the paper's Tables II to IV, beside what the paper prints.

    Trainings are in DIR/runs, scores in DIR/results, tables in DIR/table_II.md and so on, all numbers in
    DIR/ablation.json. Rows that need the same training share it. What was interrupted goes on with the same command;
    what is finished is not trained again. A row that lacks weights or data is listed with the reason.

    \b
    codecprior ablate --data dvd -o ablations --additional hq \\
      --stage2-set cpc.base_path=sd21 --stage2-set cpc.ircontrolnet_path=v2.pth
    codecprior ablate --data dvd -o ablations --table III --config cpfp-tiny
    codecprior ablate --data dvd -o ablations --dry-run

    A table of your own names, for each row, what it changes in stage 1 and, where there is one, in stage 2:

    \b
    holes:
      title: Vectors of intra blocks
      rows:
        zero: {stage1: [cpfp.alignment.hole_policy=zero]}
        with CPC: {stage1: [], stage2: [cpc.mv_unit=8.0]}
    """
    from codecprior.datasets.manifest import read_manifest
    from codecprior.model.ablation import AblationSettings, load_tables, plan_rows
    from codecprior.model.protocols import find_protocol
    from codecprior.model.training_data import split_of

    tables = load_tables(rows)
    chosen, manifest, metrics = find_protocol(protocol), read_manifest(data), metrics_config(options, _METRICS)
    test, second = split_of(manifest, split, "--split"), None if additional is None else read_manifest(additional)
    for name in names:
        if name not in tables:
            raise click.UsageError(f"--table {name}: use one of {', '.join(tables)}.")
    settings = AblationSettings(
        folder=output,
        data=manifest,
        additional=second,
        stage1=config,
        stage2=stage2_config,
        stage1_assignments=assignments,
        stage2_assignments=stage2_assignments,
        raft_weights=raft_weights,
    )
    planned = [row for row in plan_rows(tables.values(), settings) if not names or row.table in names]
    if dry_run:
        _print_plan(planned, tables, max_steps, as_json=as_json)
        return
    from codecprior.model.ablation_run import Ablation

    with noted_interrupts() as interrupted:
        ablation = Ablation(
            folder=output,
            manifest=manifest,
            test=test,
            additional=second,
            protocol=chosen,
            metrics=metrics,
            max_steps=max_steps,
            bar=progress_bar,
            report=None if as_json else print_report,
            should_stop=interrupted,
        )
        facts = {"command": sys.argv, "max_steps": max_steps, "split": split, "settings": settings.to_dict()}
        results = ablation.run(tables, planned, facts, (lambda _row: None) if as_json else _print_row)
    if as_json:
        click.echo(json.dumps(results.to_dict(), indent=2))
    else:
        for found in results.tables:
            _print_table(found)
        click.echo(f"wrote ablation.json and {', '.join(found.file_name for found in results.tables)} to {output}")
    if any(row.failed for found in results.tables for row in found.rows):
        click.get_current_context().exit(1)


def _print_row(row: PlannedRow) -> None:
    if row.missing is None:
        echo(f"table {row.table}, {row.name}: {', then '.join(run.name for run in row.runs)}")


def _print_table(found: TableResults) -> None:
    echo(f"\n{found.table.heading}\n")
    heads, rows = found.columns()
    for line in table([heads, *rows]):
        echo(line)
    echo("")
    for note in found.notes():
        for line in textwrap.wrap(note, _LINE, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False):
            echo(line)


def _print_plan(
    rows: Sequence[PlannedRow], tables: Mapping[str, AblationTable], steps: int | None, *, as_json: bool
) -> None:
    """Print rows and the trainings that they need."""
    runs = {run.name: run for row in rows if row.missing is None for run in row.runs}
    if as_json:
        plan = {"rows": [_row_values(row) for row in rows], "runs": {name: run.to_dict() for name, run in runs.items()}}
        click.echo(json.dumps(plan, indent=2))
        return
    for name in dict.fromkeys(row.table for row in rows):
        click.echo(tables[name].heading)
        for line in table(
            (f"  {row.name}", row.run.name if row.missing is None else row.missing) for row in rows if row.table == name
        ):
            click.echo(line)
    click.echo(f"\n{count(len(runs), 'training')}")
    for run in runs.values():
        click.echo(f"  {run.name}: {run.describe(steps)}")
        for change in run.changes:
            click.echo(f"    {change}")


def _row_values(row: PlannedRow) -> dict[str, Any]:
    return {"table": row.table, "row": row.name, "runs": [run.name for run in row.runs], "missing": row.missing}
