"""How the command line words numbers and lines up tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import click

__all__ = ["count", "report_failures", "size", "table"]


class _Result(Protocol):
    """What became of one of several sequences; an error is one line."""

    @property
    def name(self) -> str: ...

    @property
    def error(self) -> str | None: ...


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


def report_failures(results: Sequence[_Result]) -> int:
    """List what failed of several sequences once more at the end, and return the exit status."""
    failed = [result for result in results if result.error is not None]
    if failed and len(results) > 1:
        click.echo(f"\n{len(failed)} of {count(len(results), 'sequence')} failed:", err=True)
        for result in failed:
            click.echo(f"  {result.name}: {result.error}", err=True)
    return 1 if failed else 0
