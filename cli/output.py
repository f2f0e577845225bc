"""How the command line words numbers and lines up tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["count", "size", "table"]


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
