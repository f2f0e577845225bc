"""Scores of ablations beside the paper's numbers: ``table_III.md`` and the like, and ``ablation.json``."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import codecprior
from codecprior.errors import ConfigError
from codecprior.media.files import written_whole

from .ablation import AblationTable, PlannedRow, PlannedRun
from .alignment import AlignmentFlops, alignment_flops
from .metric import Metric
from .metrics import METRICS
from .paper import ablation_table, paper_title
from .results import BLURRY_INPUT, Results, markdown_table, mean_values, metric_cell

__all__ = ["FLOPS_SIZE", "AblationResults", "RowResult", "TableResults", "alignment_cost", "write_ablation"]

FLOPS_SIZE: Final = (1024, 752)
"""Width and height that multiply-adds are counted for: there, RAFT has the 307 and 908 G of the paper's Table III."""

_PAPER_TABLES: Final = ("II", "III", "IV")
_LINE: Final = 100
_COST: Final = "GMACs"


@dataclass(frozen=True, kw_only=True, eq=False)
class RowResult:
    """What became of a row.

    Parameters
    ----------
    row : PlannedRow
        The row.
    results : Results, optional
        Scores; None if it could not be trained or measured.
    reason : str, optional
        Why there are no scores.
    failed : bool
        Whether that was found only when it was tried.
    """

    row: PlannedRow
    results: Results | None = None
    reason: str | None = None
    failed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class TableResults:
    """What became of the rows of a table.

    Parameters
    ----------
    table : AblationTable
        The table.
    rows : sequence of RowResult
        Those that are done, in its order.
    blurry : Results
        Scores of the blurry input, with the same metrics.
    """

    table: AblationTable
    rows: Sequence[RowResult]
    blurry: Results

    @property
    def paper(self) -> Mapping[str, Mapping[str, float]]:
        """What the paper prints, by row."""
        return ablation_table(self.table.name) if self.table.name in _PAPER_TABLES else {}

    @property
    def file_name(self) -> str:
        """Name of its file in Markdown."""
        return f"table_{self.table.name.replace('/', '-')}.md"

    def columns(self) -> tuple[list[str], list[list[str]]]:
        """Return the table as text.

        Returns
        -------
        heads : list of str
            Headings of columns.
        rows : list of list of str
            Cells; ``-`` for what there is no number of.
        """
        paper, ran = self.paper, {metric.name for metric in self.blurry.opened.metrics}
        printed = {name for numbers in paper.values() for name in numbers}
        metrics = [metric for name, metric in METRICS.items() if name in ran | printed]
        flops = [_COST, *(["paper"] if "flops" in printed else [])] if self._costs() else []
        heads = ["Modification"]
        for metric in metrics:
            heads += [f"{metric.label}{'↑' if metric.higher_is_better else '↓'}"]
            heads += ["paper"] if metric.name in printed else []
        rows = [[BLURRY_INPUT, *self._scores(BLURRY_INPUT, self.blurry, metrics, printed), *("-" for _ in flops)]]
        for each in self.rows:
            name = each.row.name
            costs = _giga(each.row.run), str(paper.get(name, {}).get("flops", "-"))
            rows.append([name, *self._scores(name, each.results, metrics, printed), *costs[: len(flops)]])
        return [*heads, *flops], rows

    def _scores(
        self, name: str, results: Results | None, metrics: Sequence[type[Metric]], printed: Collection[str]
    ) -> Iterator[str]:
        totals = {} if results is None else results.totals()
        numbers = self.paper.get(name, {})
        for metric in metrics:
            yield metric_cell(totals[metric.name].value if metric.name in totals else math.nan, metric)
            if metric.name in printed:
                yield metric_cell(numbers.get(metric.name, math.nan), metric)

    def _costs(self) -> bool:
        """Whether one of the rows pays for its vectors."""
        return any(_giga(each.row.run) not in ("0", "-") for each in self.rows)

    def notes(self) -> Iterator[str]:
        """Give what has to be known about the numbers, one sentence or more each."""
        blurry = self.blurry
        without: dict[str, list[str]] = {}
        for each in self.rows:
            if each.reason is not None:
                without.setdefault(each.reason, []).append(each.row.name)
        for reason, names in without.items():
            yield f"Not measured: {', '.join(names)}: {reason}."
        for name, reason in blurry.opened.unavailable.items():
            yield f"{METRICS[name].label} was not measured: {reason}."
        if self._costs():
            yield from self._cost_notes()
        yield f"Sequences: {len(blurry.sequences)}, frames: {blurry.num_frames}; protocol {blurry.protocol.name}."

    def _cost_notes(self) -> Iterator[str]:
        costs = [alignment_cost(each.row.run, FLOPS_SIZE) for each in self.rows]
        dearest = max((cost for cost in costs if cost), key=lambda cost: cost.multiply_adds or 0)
        size = self.blurry.sequences[0].size
        here = ", ".join(_giga(each.row.run, size) for each in self.rows)
        yield f"{_COST}: {dearest.convention}."
        yield "The paper states neither size nor convention; at this size its 307 and 908 come out."
        yield f"Between {size[0]}x{size[1]} frames, as here, these rows need {here}."


@dataclass(frozen=True, kw_only=True, eq=False)
class AblationResults:
    """Everything that was found.

    Parameters
    ----------
    tables : sequence of TableResults
        The tables.
    facts : mapping
        What the rows have in common, as JSON values.
    """

    tables: Sequence[TableResults]
    facts: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values: what ``ablation.json`` holds."""
        blurry = self.tables[0].blurry
        return {
            "codecprior_version": codecprior.__version__,
            **self.facts,
            "protocol": blurry.protocol.to_dict(),
            "num_sequences": len(blurry.sequences),
            "num_frames": blurry.num_frames,
            "blurry_total": {name: mean_values(mean) for name, mean in blurry.totals().items()},
            "unavailable": dict(blurry.opened.unavailable),
            "tables": {each.table.name: _table_values(each) for each in self.tables},
        }


def write_ablation(folder: Path, results: AblationResults) -> None:
    """Write results; each file appears whole.

    Parameters
    ----------
    folder : pathlib.Path
        Where to; files of these names are replaced.
    results : AblationResults
        What to write.

    Raises
    ------
    MediaError
        If a file cannot be written.
    """
    contents = {each.file_name: "\n".join(_report(each)) + "\n" for each in results.tables}
    contents["ablation.json"] = json.dumps(results.to_dict(), indent=2, allow_nan=False) + "\n"
    for name, text in contents.items():
        with written_whole(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def alignment_cost(run: PlannedRun, size: tuple[int, int]) -> AlignmentFlops | None:
    """Count what it costs to find the vectors of a training's networks between two frames.

    Parameters
    ----------
    run : PlannedRun
        The training.
    size : tuple of int
        Width and height of the frames.

    Returns
    -------
    AlignmentFlops or None
        None if nothing is aligned, or frames are too small for RAFT.
    """
    if run.alignment is None:
        return None
    try:
        return alignment_flops(run.alignment, size[1], size[0])
    except ConfigError:
        return None


def _giga(run: PlannedRun, size: tuple[int, int] = FLOPS_SIZE) -> str:
    cost = alignment_cost(run, size)
    return "-" if cost is None or cost.multiply_adds is None else f"{cost.multiply_adds / 1e9:.0f}"


def _table_values(table: TableResults) -> dict[str, Any]:
    return {"title": table.table.title, "rows": [_row_values(each, table) for each in table.rows]}


def _row_values(result: RowResult, table: TableResults) -> dict[str, Any]:
    run, totals = result.row.run, {} if result.results is None else result.results.totals()
    sizes = {FLOPS_SIZE, *(each.size for each in table.blurry.sequences)}
    costs = {f"{width}x{height}": alignment_cost(run, (width, height)) for width, height in sorted(sizes)}
    return {
        "row": result.row.name,
        "runs": [str(each.folder) for each in result.row.runs],
        "additional": run.additional,
        "reason": result.reason,
        "total": {name: mean_values(mean) for name, mean in totals.items()},
        "paper": dict(table.paper.get(result.row.name, {})),
        "alignment": None if run.alignment is None else run.alignment.to_dict(),
        "alignment_multiply_adds": {size: cost and cost.multiply_adds for size, cost in costs.items()},
    }


def _report(table: TableResults) -> Iterator[str]:
    """Give the lines of a ``.md``."""
    heads, rows = table.columns()
    yield f"# {table.table.heading}"
    yield ""
    yield from markdown_table([head.replace("paper", "paper\\*") for head in heads], rows)
    yield ""
    if table.paper:
        note = f"\\* As printed in *{paper_title()}*, on its test sequences of DVD; it states no protocol."
        yield from textwrap.wrap(note, _LINE)
        yield ""
    notes = [*table.notes(), f"Protocol: {table.blurry.protocol.describe()}.", f"codecprior {codecprior.__version__}."]
    for note in notes:
        yield from textwrap.wrap(f"- {note}", _LINE, subsequent_indent="  ", break_on_hyphens=False)
