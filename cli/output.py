"""How the command line words numbers and lines up tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Protocol, TypeVar

import click

from codecprior.cli.progress import echo

__all__ = ["count", "report", "size", "table"]


class _Result(Protocol):
    """What became of one of several sequences, a dataclass; an error is one line."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def error(self) -> str | None: ...


_R = TypeVar("_R", bound=_Result)


def size(num_bytes: float) -> str:
    """Return a size in decimal units, such as ``12.9 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def count(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Line up the columns of rows; the last one is left as it is."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lined_up = ([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] for row in rows)
    return ["  ".join([*cells, row[-1]]) for cells, row in zip(lined_up, rows, strict=True)]


def report(
    results: Iterable[_R],
    show: Callable[[_R], None],
    *,
    as_json: bool,
    plain: Callable[[_R], dict[str, Any]] | None = None,
    summary: Callable[[Sequence[_R]], Iterable[str]] = lambda _results: (),
) -> int:
    """Print what becomes of sequences: each as it is done, all as JSON or in sum, and what failed once more at the end.

    Parameters
    ----------
    results : iterable
        As they come.
    show : callable
        Prints one that did not fail.
    as_json : bool
        Whether to print JSON instead of that and of the summary.
    plain : callable, optional
        Turns a result into JSON values; all its fields if not given.
    summary : callable
        Gives lines about all results.

    Returns
    -------
    int
        Exit status: 1 if one failed.
    """
    finished = []
    for result in results:
        finished.append(result)
        if result.error is not None:
            echo(f"Error: {result.error}", err=True)
        elif not as_json:
            show(result)
    if as_json:
        click.echo(json.dumps([plain(each) if plain else asdict(each) for each in finished], indent=2))
    else:
        for line in summary(finished):
            click.echo(line)
    failed = [result for result in finished if result.error is not None]
    if failed and len(finished) > 1:
        click.echo(f"\n{len(failed)} of {count(len(finished), 'sequence')} failed:", err=True)
        for result in failed:
            click.echo(f"  {result.name}: {result.error}", err=True)
    return 1 if failed else 0
