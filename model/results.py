"""Scores of sequences as files: ``metrics.json``, ``per_frame.csv``, ``per_sequence.csv`` and ``table.md``.

Numbers that are not finite (see :mod:`codecprior.model.scores`) are ``"inf"`` and null in JSON, ``inf`` and empty in
CSV, ``inf`` and ``-`` in the table. Metrics that could not run are listed with the reason.
"""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import codecprior
from codecprior.errors import ConfigError
from codecprior.media.files import written_whole

from .metric import Metric
from .metrics import METRICS, OpenedMetrics
from .paper import PAPER_DATASETS, comparison_table, paper_title
from .protocols import Protocol
from .scores import Mean, SequenceScores, total_mean

__all__ = ["BLURRY_INPUT", "Results", "markdown_table", "mean_values", "metric_cell", "write_results"]

BLURRY_INPUT: Final = "Blurry input"
"""What the baseline is called."""

_LINE: Final = 100
"""Characters of a line of text; tables are narrower."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """What an evaluation found.

    Parameters
    ----------
    protocol : Protocol
        How sequences were measured.
    opened : OpenedMetrics
        What they were measured with.
    sequences : sequence of SequenceScores
        Scores of each.
    method : str
        What made the outputs, for the table.
    run : mapping
        Facts of the evaluation as JSON values, such as checkpoint and manifest.
    dataset : {"gopro", "dvd"}, optional
        The dataset of the paper that the sequences are of: its rows stand in the table. If not given, those of both do,
        where there are sharp frames.
    blurry : sequence of SequenceScores
        Scores of the blurry input in the same order, for a row and columns of their own; none if empty.

    Raises
    ------
    ConfigError
        If the paper has no such dataset.
    """

    protocol: Protocol
    opened: OpenedMetrics
    sequences: Sequence[SequenceScores]
    method: str
    run: Mapping[str, Any]
    dataset: str | None = None
    blurry: Sequence[SequenceScores] = ()

    def __post_init__(self) -> None:
        if self.dataset is not None and self.dataset not in PAPER_DATASETS:
            raise ConfigError(f"dataset {self.dataset!r}: the paper's table has {', '.join(PAPER_DATASETS)}")

    @property
    def num_frames(self) -> int:
        """Frames that were looked at."""
        return sum(len(each.frames) for each in self.sequences)

    def totals(self) -> dict[str, Mean]:
        """Return the mean over everything by name of the metric, for those that ran."""
        return self._means(self.sequences)

    def blurry_totals(self) -> dict[str, Mean]:
        """Return the same of the blurry input; empty where it was not measured."""
        return self._means(self.blurry) if self.blurry else {}

    def _means(self, sequences: Sequence[SequenceScores]) -> dict[str, Mean]:
        return {metric.name: total_mean(sequences, metric.name, self.protocol) for metric in self.opened.metrics}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values: what ``metrics.json`` holds."""
        metrics: dict[str, Any] = {
            metric.name: {
                "available": True,
                "higher_is_better": metric.higher_is_better,
                "convention": metric.convention(self.protocol),
                **metric.facts(),
            }
            for metric in self.opened.metrics
        }
        metrics |= {name: {"available": False, "reason": why} for name, why in self.opened.unavailable.items()}
        return {
            "codecprior_version": codecprior.__version__,
            "method": self.method,
            "run": dict(self.run),
            "protocol": {**asdict(self.protocol), "description": self.protocol.describe()},
            "metrics": metrics,
            "num_sequences": len(self.sequences),
            "num_frames": self.num_frames,
            "total": {name: mean_values(mean) for name, mean in self.totals().items()},
            "sequences": [_sequence_values(each) for each in self.sequences],
            "blurry_total": {name: mean_values(mean) for name, mean in self.blurry_totals().items()},
            "blurry_sequences": [_sequence_values(each) for each in self.blurry],
        }


def write_results(folder: str | Path, results: Results) -> dict[str, Path]:
    """Write results; each file appears whole.

    Parameters
    ----------
    folder : path-like
        Where to; made if missing. Files of these names are replaced.
    results : Results
        What to write.

    Returns
    -------
    dict of str to pathlib.Path
        The files by their names.

    Raises
    ------
    MediaError
        If a file cannot be written.
    """
    contents = {
        "per_frame.csv": _csv(_frame_rows(results)),
        "per_sequence.csv": _csv(_sequence_rows(results)),
        "table.md": "\n".join(_report(results)) + "\n",
        "metrics.json": json.dumps(results.to_dict(), indent=2, allow_nan=False) + "\n",
    }
    paths = {name: Path(folder) / name for name in contents}
    for name, path in paths.items():
        with written_whole(path) as partial:
            partial.write_text(contents[name], encoding="utf-8")
    return paths


def mean_values(mean: Mean) -> dict[str, Any]:
    """Return a mean as JSON values.

    Parameters
    ----------
    mean : Mean
        The mean.

    Returns
    -------
    dict
        Its fields; what is not finite as the module says.
    """
    return {**asdict(mean), "value": _number(mean.value)}


def _sequence_values(scores: SequenceScores) -> dict[str, Any]:
    return {
        "sequence": scores.sequence,
        "size": list(scores.size),
        "num_frames": len(scores.frames),
        "mean": {name: mean_values(scores.mean(name)) for name in scores.scores},
        "frames": list(scores.frames),
        "scores": {name: [_number(score) for score in each.tolist()] for name, each in scores.scores.items()},
    }


def _number(value: float) -> float | str | None:
    """Return what JSON, which has no numbers that are not finite, can hold."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _frame_rows(results: Results) -> Iterator[list[str]]:
    names = [metric.name for metric in results.opened.metrics]
    yield ["sequence", "frame", *names, *(f"blurry_{name}" for name in names if results.blurry)]
    for each, *blurry in _side_by_side(results):
        for place, frame in enumerate(each.frames):
            scores = (float(side.scores[name][place]) for side in (each, *blurry) for name in names)
            yield [each.sequence, str(frame), *map(_field, scores)]


def _sequence_rows(results: Results) -> Iterator[list[str]]:
    names = [metric.name for metric in results.opened.metrics]
    yield ["sequence", "frames", "width", "height", *names, *(f"blurry_{name}" for name in names if results.blurry)]
    for each, *blurry in _side_by_side(results):
        means = (_field(side.mean(name).value) for side in (each, *blurry) for name in names)
        yield [each.sequence, str(len(each.frames)), *map(str, each.size), *means]


def _side_by_side(results: Results) -> Iterator[tuple[SequenceScores, ...]]:
    """Give the scores of each sequence, with those of its blurry input where there are any."""
    return zip(results.sequences, *([results.blurry] if results.blurry else []), strict=True)


def _csv(rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _field(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _report(results: Results) -> Iterator[str]:
    """Give the lines of ``table.md``."""
    ran = {metric.name for metric in results.opened.metrics}
    shown = {*ran, *results.opened.unavailable} if results.opened.sharp else ran
    columns = [metric for name, metric in METRICS.items() if name in shown]
    heads = [f"{metric.label} {'↑' if metric.higher_is_better else '↓'}" for metric in columns]
    totals = results.totals()

    def cells(values: Mapping[str, float]) -> list[str]:
        return [metric_cell(values.get(metric.name, math.nan), metric) for metric in columns]

    rows = [[f"**{results.method}**", *cells({name: mean.value for name, mean in totals.items()})]]
    if blurry := results.blurry_totals():
        rows.append([BLURRY_INPUT, *cells({name: mean.value for name, mean in blurry.items()})])
    # Clips without sharp frames are none of the paper's.
    beside = [results.dataset] if results.dataset else list(PAPER_DATASETS) if results.opened.sharp else []
    for dataset in beside:
        for method, numbers in comparison_table(dataset).items():
            rows.append([f"{PAPER_DATASETS[dataset]}: {method}*", *cells(numbers)])
    sequences = [
        [each.sequence, str(len(each.frames)), *cells({name: each.mean(name).value for name in ran})]
        for each in results.sequences
    ]
    yield f"# Evaluation of {results.method}"
    yield ""
    yield from markdown_table(["Method", *heads], rows)
    yield ""
    if beside:
        origin = f"\\* As printed in Table I of *{paper_title()}*, for its own test sequences; it states no protocol."
        yield from textwrap.wrap(origin, _LINE)
        yield ""
    for note in _notes(results, totals):
        yield from textwrap.wrap(f"- {note}", _LINE, subsequent_indent="  ", break_on_hyphens=False)
    yield ""
    yield "## Sequences"
    yield ""
    yield from markdown_table(["Sequence", "Frames", *heads], sequences)


def _notes(results: Results, totals: Mapping[str, Mean]) -> Iterator[str]:
    yield f"Sequences: {len(results.sequences)}, frames: {results.num_frames}."
    yield f"Protocol `{results.protocol.name}` ({results.protocol.source}): {results.protocol.describe()}."
    for metric in results.opened.metrics:
        mean = totals[metric.name]
        if mean.left_out:
            every = mean.num_frames + mean.left_out
            yield f"{metric.label}: {mean.left_out} of {every} frames are left out ({metric.undefined})."
    for name, reason in results.opened.unavailable.items():
        yield f"{METRICS[name].label} was not measured: {reason}."
    yield f"codecprior {codecprior.__version__}; `metrics.json` tells what exactly each metric is."


def metric_cell(value: float, metric: type[Metric]) -> str:
    """Return a score as tables have it, ``-`` for none.

    Parameters
    ----------
    value : float
        Score; NaN for none.
    metric : type of Metric
        What it is a score of.

    Returns
    -------
    str
        With the metric's digits.
    """
    return "-" if math.isnan(value) else f"{value:.{metric.decimals}f}"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Give the lines of a table in Markdown whose columns line up as text, too.

    Parameters
    ----------
    heads : sequence of str
        Headings of columns.
    rows : sequence of sequence of str
        Cells: names on the left, numbers on the right of the others.

    Yields
    ------
    str
        Lines.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])], *rows):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        yield f"| {' | '.join(cells)} |"
