"""Which sequence belongs to which split, and how many frames it should have: YAML lists that users can edit.

::

    train:
      GOPR0372_07_00: 100  # frames
    test: [walk, "street_*"]

A name may be a pattern; the first split that has it takes a sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from codecprior.datasets.documents import read_yaml
from codecprior.datasets.pairing import Problem, SequencePair, some
from codecprior.errors import DatasetError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["SplitList", "load_yaml", "packaged", "packaged_list", "read_splits"]

_KNOWN: Final = {"gopro": "GoPro", "dvd": "DVD"}
"""Datasets whose lists are part of the package, and what they are called."""


@dataclass(frozen=True, kw_only=True)
class SplitList:
    """Names of sequences by split.

    Parameters
    ----------
    title : str
        What the list is about, for messages.
    splits : mapping of str to mapping of str to int
        Number of frames by name by split, None where a number is not known.
    """

    title: str
    splits: Mapping[str, Mapping[str, int | None]]

    def split_of(self, name: str) -> str | None:
        """Return the split of a sequence.

        Parameters
        ----------
        name : str
            Name of the sequence.

        Returns
        -------
        str or None
            None for a name that is not listed.
        """
        for split, names in self.splits.items():
            if name in names:
                return split
        return next(
            (split for split, names in self.splits.items() if any(fnmatchcase(name, pattern) for pattern in names)),
            None,
        )

    def differences(self, root: Path, pairs: list[SequencePair], broken: set[str]) -> list[Problem]:
        """Compare what was found with the list.

        Parameters
        ----------
        root : pathlib.Path
            Folder of the dataset.
        pairs : list of SequencePair
            Usable sequences.
        broken : set of str
            Names of sequences that are there but cannot be used, which other problems tell.

        Returns
        -------
        list of Problem
            Sequences that are missing, in another split or not listed, other numbers of frames, other totals.
        """
        problems = [problem for pair in pairs for problem in self._pair_differs(pair)]
        unlisted = [pair.name for pair in pairs if self.split_of(pair.name) is None]
        if unlisted:
            message = f"has {_sequences(len(unlisted))} that {self.title} does not have: {some(unlisted)}"
            problems.append(Problem(kind="unlisted-sequence", severity="note", path=root, message=message))
        there = {pair.name for pair in pairs} | broken
        for split, listed in self.splits.items():
            here = [pair.num_frames for pair in pairs if pair.split == split]
            if not here:
                message = f"has no split {split}, which {self.title} has"
                problems.append(Problem(kind="missing-split", severity="note", path=root, message=message))
                continue
            missing = [name for name in listed if name not in there and not _is_pattern(name)]
            if missing:
                message = f"split {split} lacks {_sequences(len(missing))} of {self.title}: {some(missing)}"
                problems.append(Problem(kind="missing-sequence", severity="warning", path=root, message=message))
            total = sum(frames or 0 for frames in listed.values())
            if None not in listed.values() and (total, len(listed)) != (sum(here), len(here)):
                message = (
                    f"split {split} has {sum(here):,} pairs in {_sequences(len(here))}, "
                    f"but {self.title} has {total:,} in {len(listed)}"
                )
                problems.append(Problem(kind="total-differs", severity="warning", path=root, message=message))
        return problems

    def _pair_differs(self, pair: SequencePair) -> list[Problem]:
        split, path = self.split_of(pair.name), pair.sides[0].path
        if split is None:
            return []
        problems = []
        if split != pair.split:
            message = f"is in split {pair.split}, but {self.title} has {pair.name} in {split}"
            problems.append(Problem(kind="split-differs", severity="warning", path=path, message=message))
        frames = self.splits[split].get(pair.name)
        if frames not in (None, pair.num_frames):
            message = f"has {pair.num_frames} frames, but {self.title} has {frames} in {pair.name}"
            problems.append(Problem(kind="frames-differ", severity="warning", path=path, message=message))
        return problems


def read_splits(path: str | Path) -> SplitList:
    """Read a list of splits.

    Parameters
    ----------
    path : path-like
        YAML file: for each split a list of names, or a mapping from names to numbers of frames.

    Returns
    -------
    SplitList
        Names in the order of the file.

    Raises
    ------
    DatasetError
        If the file cannot be read, has another form or lists a name twice.
    """
    return _parse(load_yaml(Path(path)), str(path), Path(path).name)


@cache
def packaged_list(names: frozenset[str]) -> SplitList | None:
    """Return the list of the known dataset that shares names with one at hand.

    Parameters
    ----------
    names : frozenset of str
        Names of the sequences at hand.

    Returns
    -------
    SplitList or None
        List of GoPro or DVD; None where no name is known.
    """
    for name, title in _KNOWN.items():
        known = _parse(load_yaml(packaged(f"{name}.yaml")), f"{name}.yaml", title)
        if any(name in listed for listed in known.splits.values() for name in names):
            return known
    return None


def packaged(name: str) -> Traversable:
    """Return a data file of the package.

    Parameters
    ----------
    name : str
        File name.

    Returns
    -------
    Traversable
        The file, to be read.
    """
    return files("codecprior.datasets") / "data" / name


def load_yaml(path: Path | Traversable) -> Any:
    """Read a YAML file; every scalar is a text, so that a sequence may be called 007.

    Parameters
    ----------
    path : path-like
        File.

    Returns
    -------
    object
        Mappings, lists and texts.

    Raises
    ------
    DatasetError
        If it cannot be read or is no YAML.
    """
    return read_yaml(path, yaml.BaseLoader, DatasetError)


def _parse(document: Any, path: str, title: str) -> SplitList:
    form = "write each split as 'train: [name, ...]' or 'train: {name: frames, ...}'"
    if not isinstance(document, dict) or not document:
        raise DatasetError(f"{path}: names no splits; {form}")
    splits: dict[str, dict[str, int | None]] = {}
    for split, names in document.items():
        if not isinstance(names, dict | list) or not all(isinstance(name, str) for name in names):
            raise DatasetError(f"{path}: split {split} is no list of names; {form}")
        counts = names if isinstance(names, dict) else dict.fromkeys(names, "")
        bad = next((name for name, frames in counts.items() if frames and not str(frames).isdecimal()), None)
        if bad is not None:
            raise DatasetError(f"{path}: {bad} has {counts[bad]!r} frames; {form}")
        twice = next((name for name in counts if any(name in other for other in splits.values())), None)
        if twice is not None:
            raise DatasetError(f"{path}: lists {twice} in two splits; give it to one")
        splits[split] = {name: int(frames) if frames else None for name, frames in counts.items()}
    return SplitList(title=title, splits=splits)


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _sequences(number: int) -> str:
    return f"{number} sequence{'' if number == 1 else 's'}"
