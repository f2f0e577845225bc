"""A recognised dataset as facts to print, and every one of its frames decoded for those who want to be sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from codecprior.datasets.layouts import Dataset
from codecprior.datasets.pairing import FrameFiles, Problem
from codecprior.errors import MediaError
from codecprior.media.images import read_picture
from codecprior.media.opening import open_source
from codecprior.media.source import FrameSource

__all__ = ["check_frames", "facts"]


def facts(dataset: Dataset) -> dict[str, Any]:
    """Summarise a dataset as JSON values.

    Parameters
    ----------
    dataset : Dataset
        What :func:`codecprior.datasets.layouts.recognise` found.

    Returns
    -------
    dict
        ``root``, ``layout``, ``splits`` (``sequences`` and ``pairs`` of frames by split; a frame still to be degraded
        counts as a pair), ``resolutions`` (number of sequences by size, the most frequent first) and ``problems``.
    """
    splits: dict[str, dict[str, int]] = {}
    for pair in dataset.pairs:
        split = splits.setdefault(pair.split, {"sequences": 0, "pairs": 0})
        split["sequences"] += 1
        split["pairs"] += pair.num_frames
    sizes = Counter("x".join(map(str, pair.size)) for pair in dataset.pairs)
    return {
        "root": str(dataset.root),
        "layout": dataset.layout,
        "splits": splits,
        "resolutions": dict(sizes.most_common()),
        "problems": [{**vars(problem), "path": str(problem.path)} for problem in dataset.problems],
    }


def check_frames(dataset: Dataset, progress: Callable[[int, int | None], object] | None = None) -> Dataset:
    """Decode every frame and leave out the sequences that have a damaged one.

    Parameters
    ----------
    dataset : Dataset
        What :func:`codecprior.datasets.layouts.recognise` found.
    progress : callable, optional
        Called with the number of frames decoded and their total.

    Returns
    -------
    Dataset
        What is left, with an error for each damaged file.

    Raises
    ------
    DatasetError
        If no sequence is left.
    """
    sides = [(pair, side) for pair in dataset.pairs for side in pair.sides]
    done, total = 0, sum(side.num_frames for _, side in sides)
    damaged: dict[tuple[str, str], list[Problem]] = {}
    with ThreadPoolExecutor() as pool:
        for pair, side in sides:
            found = damaged.setdefault((pair.split, pair.name), [])
            for problem in _raw_damage(side) if side.kind == "raw" else pool.map(_picture_damage, side.files):
                done += 1
                if progress:
                    progress(done, total)
                if problem:
                    found.append(problem)
    pairs = tuple(pair for pair in dataset.pairs if not damaged[pair.split, pair.name])
    problems = [problem for found in damaged.values() for problem in found]
    return replace(dataset, pairs=pairs, problems=(*problems, *dataset.problems))


def _picture_damage(file: Path) -> Problem | None:
    try:
        read_picture(file)
    except MediaError as error:
        return Problem(kind="damaged-frame", severity="error", path=file, message=str(error).removeprefix(f"{file}: "))
    return None


def _raw_damage(side: FrameFiles) -> Iterator[Problem | None]:
    """One item for each frame, the last one a problem if it cannot be read."""
    try:
        source = cast(FrameSource, open_source(side.path, raw=side.raw))  # it was one when it was measured
        yield from (None for _ in source.frames())
    except MediaError as error:
        message = str(error).removeprefix(f"{side.path}: ")
        yield Problem(kind="damaged-frame", severity="error", path=side.path, message=message)
