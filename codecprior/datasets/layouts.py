"""A folder that people downloaded or repacked as a list of sequences: its layout is recognised by what lies where."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from codecprior.datasets.hq import find_raw, has_raw, read_hq_list
from codecprior.datasets.pairing import Problem, SequencePair, entries_beside, pair_folders, some
from codecprior.datasets.splits import SplitList, packaged_list, read_splits
from codecprior.errors import ConfigError, DatasetError
from codecprior.media.files import EXTENSIONS, natural_key

__all__ = ["LAYOUTS", "Dataset", "Layout", "recognise"]

_SPLITS: Final = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
"""Splits by the names of folders that stand for them."""
_DEFAULT_SPLIT: Final = "train"
_BLURS: Final = ("blur", "blur_gamma")
_SEVERITIES: Final = ("error", "warning", "note")
_SEARCH_DEPTH: Final = 2
"""How far below the given folder a dataset is looked for."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a dataset keeps the two sides of its sequences.

    Parameters
    ----------
    name : str
        Name for ``--layout``.
    tree : str
        What it looks like.
    sides : tuple of (str, str)
        Names of the folders of the blurry and the sharp side; empty for raw files. More than one pair of names stands
        for the splits that begin them.
    sequence_first : bool
        Whether the sides lie in the folders of the sequences and not the other way round.
    ignored : tuple of str
        Names of folders beside the sides that are part of the dataset.
    """

    name: str
    tree: str
    sides: tuple[tuple[str, str], ...] = ()
    sequence_first: bool = False
    ignored: tuple[str, ...] = ()


LAYOUTS: Final = {
    layout.name: layout
    for layout in (
        Layout(
            name="gopro",
            tree="{train,test}/<sequence>/{blur,blur_gamma,sharp}/",
            sides=(("blur", "sharp"),),
            sequence_first=True,
            ignored=_BLURS,
        ),
        Layout(name="dvd", tree="<sequence>/{input,GT}/", sides=(("input", "GT"),), sequence_first=True),
        Layout(name="hq", tree="*.yuv, *.y4m"),
        Layout(
            name="rvrt",
            tree="{train,test}_{GT_blurred,GT}/<sequence>/",
            sides=tuple((f"{split}_GT_blurred", f"{split}_GT") for split in ("train", "test", "val")),
        ),
        Layout(
            name="kair",
            tree="train_{GT_blurred,GT}_with_val/<sequence>/",
            sides=(("train_GT_blurred_with_val", "train_GT_with_val"),),
        ),
        Layout(name="bsstnet", tree="{train,test}/{blur,GT}/<sequence>/", sides=(("blur", "GT"),)),
        Layout(name="cdvd-tsp", tree="{train,test}/{blur,gt}/<sequence>/", sides=(("blur", "gt"),)),
        Layout(
            name="generic",
            tree="[{train,test,val}/]{blur,sharp}/<sequence>/",
            sides=(("blur", "sharp"),),
            ignored=("motion", "synthesis"),  # what `codecprior synthesize-blur` writes beside the sides
        ),
    )
}
"""Every layout by its name.

``rvrt`` is also what KAIR's ``prepare_GoPro_as_video.py`` makes; ``kair`` is what its ``prepare_DVD.py`` makes, which
leaves the test sequences among those for training.
"""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The sequences of a dataset and what is wrong with it.

    Parameters
    ----------
    root : pathlib.Path
        Folder in which the layout begins.
    layout : str
        Name of the layout.
    pairs : tuple of SequencePair
        Sequences that can be used, split by split in natural order.
    problems : tuple of Problem
        Errors, each of which kept a sequence out, then warnings and notes.

    Raises
    ------
    DatasetError
        If there is no sequence; it tells the first error.
    """

    root: Path
    layout: str
    pairs: tuple[SequencePair, ...]
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        if self.pairs:
            return
        errors = [str(problem) for problem in self.problems if problem.severity == "error"]
        reason = some(errors, most=1) if errors else f"{self.root}: no sequence is in a split"
        raise DatasetError(f"{reason}; no sequence can be used")


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A sequence by the names of its folders; what they hold is not known yet."""

    name: str
    split: str | None
    blurry: Path | None
    sharp: Path

    @property
    def path(self) -> Path:
        return self.blurry or self.sharp


def recognise(
    root: str | Path, layout: str | None = None, splits: str | Path | None = None, *, blur: str = "blur"
) -> Dataset:
    """Find the sequences of a dataset.

    Parameters
    ----------
    root : path-like
        Folder of the dataset, of one of its splits, or up to two levels above it.
    layout : str, optional
        One of :data:`LAYOUTS` where more than one fits.
    splits : path-like, optional
        YAML file that says which sequence is in which split; see :mod:`codecprior.datasets.splits`. Without it, folders
        that are named after splits say so, else the list of a known dataset; everything else is for training.
    blur : {"blur", "blur_gamma"}
        Which of GoPro's degraded sides to use: averaged sample values, or averaged light (gamma 2.2).

    Returns
    -------
    Dataset
        At least one sequence.

    Raises
    ------
    ConfigError
        If there is no such layout or side.
    DatasetError
        If nothing can be used, or more than one layout or dataset is there.
    """
    root = Path(root)
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r}: use one of {', '.join(LAYOUTS)}")
    if blur not in _BLURS:
        raise ConfigError(f"blur {blur!r}: use one of {', '.join(_BLURS)}")
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    listed = read_splits(splits) if splits else None
    problems: list[Problem] = []
    try:
        base, chosen = _choose(root, [LAYOUTS[layout]] if layout else list(LAYOUTS.values()))
        _name_beside(root, base, problems)
        if chosen.name == "gopro":
            chosen = replace(chosen, sides=((blur, "sharp"),))
        candidates = _candidates(base, chosen, problems)
        candidates = _assigned(base, candidates, listed, problems)
        pairs = _measured(base, _without_duplicates(base, candidates, problems), problems)
        pairs = _without_leaks(base, pairs, problems)
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be read ({error.strerror})") from error
    known = listed or packaged_list(frozenset(each.name for each in candidates))
    if known and chosen.sides:
        used = {(pair.split, pair.name) for pair in pairs}
        broken = {each.name for each in candidates if (each.split, each.name) not in used}
        problems += known.differences(base, pairs, broken)
    problems.sort(key=lambda problem: _SEVERITIES.index(problem.severity))
    return Dataset(root=base, layout=chosen.name, pairs=tuple(pairs), problems=tuple(problems))


def _choose(root: Path, layouts: list[Layout]) -> tuple[Path, Layout]:
    """Find where a layout begins and which one it is; one with both sides is preferred to one that lacks any."""
    for both in (True, False):
        level, visited = [root], {root.resolve()}
        for _ in range(_SEARCH_DEPTH + 1):
            fits = {base: fitting for base in level if (fitting := [x for x in layouts if _fits(base, x, both=both)])}
            names = {layout.name for fitting in fits.values() for layout in fitting}
            if len(fits) > 1 and names == {"hq"}:
                return root, LAYOUTS["hq"]
            if len(fits) > 1:
                several = [f"{base} ({', '.join(layout.name for layout in fitting)})" for base, fitting in fits.items()]
                raise DatasetError(f"{root}: holds several datasets, {some(several)}; give one of these folders")
            for base, fitting in fits.items():
                if len(fitting) > 1:
                    how = "fits" if both else "has but one side of"
                    found = " and ".join(f"{layout.name} ({layout.tree})" for layout in fitting)
                    raise DatasetError(f"{base}: {how} {found}; choose one with --layout")
                return base, fitting[0]
            below = [folder for base in level for folder in _folders(base) if os.access(folder, os.R_OK | os.X_OK)]
            level = [folder for folder in below if folder.resolve() not in visited]
            visited |= {folder.resolve() for folder in level}
    accepted = "; ".join(f"{layout.name}: {layout.tree}" for layout in layouts)
    raise DatasetError(f"{root}: holds no dataset; looked for {accepted}")


def _fits(base: Path, layout: Layout, *, both: bool) -> bool:
    if not layout.sides:
        return has_raw(base)
    sides = ((_has_pictures(each.sharp), _has_pictures(each.path)) for each in _candidates(base, layout, []))
    return any(all(each) if both else any(each) for each in sides)


def _candidates(base: Path, layout: Layout, problems: list[Problem]) -> list[_Candidate]:
    """List the sequences of a layout by the names of their folders, and name what lies beside them."""
    if not layout.sides:
        files, found = find_raw(base)
        problems += found
        return [_Candidate(name=file.stem, split=None, blurry=None, sharp=file) for file in files]
    find = _sequences_first if layout.sequence_first else _sides_first
    divided = [folder for folder in _folders(base) if folder.name in _SPLITS]
    candidates = find(base, _SPLITS.get(base.resolve().name), layout, [folder.name for folder in divided], problems)
    for folder in divided:
        candidates += find(folder, _SPLITS[folder.name], layout, [], problems)
    return candidates


def _sequences_first(
    folder: Path, split: str | None, layout: Layout, used: list[str], problems: list[Problem]
) -> list[_Candidate]:
    ((blurry, sharp),) = layout.sides
    inside = {blurry, sharp, *layout.ignored}
    children = [child for child in _folders(folder) if child.name not in _SPLITS]
    sequences = [child for child in children if any((child / side).is_dir() for side in inside)]
    problems += entries_beside(folder, [*used, *(sequence.name for sequence in sequences)])
    for sequence in sequences:
        problems += entries_beside(sequence, inside)
    return [_Candidate(name=x.name, split=split, blurry=x / blurry, sharp=x / sharp) for x in sequences]


def _sides_first(
    folder: Path, split: str | None, layout: Layout, used: list[str], problems: list[Problem]
) -> list[_Candidate]:
    candidates = []
    for blurry, sharp in layout.sides:
        sides = [folder / side for side in (blurry, sharp) if (folder / side).is_dir()]
        used = [*used, *(side.name for side in sides)]
        names = {child.name for side in sides for child in _folders(side)}
        for side in sides:
            problems += entries_beside(side, names)
        # Where there are several pairs of folders, their names begin with the split.
        its_split = blurry.partition("_")[0] if len(layout.sides) > 1 else split
        candidates += [
            _Candidate(name=name, split=its_split, blurry=folder / blurry / name, sharp=folder / sharp / name)
            for name in sorted(names, key=natural_key)
        ]
    problems += entries_beside(folder, [*used, *layout.ignored])
    return candidates


def _assigned(
    base: Path, candidates: list[_Candidate], listed: SplitList | None, problems: list[Problem]
) -> list[_Candidate]:
    """Give every sequence its split; a user's list is the only word, and what it leaves out is not used."""
    if listed is None:
        known = packaged_list(frozenset(each.name for each in candidates))
        return [
            replace(each, split=each.split or (known and known.split_of(each.name)) or _DEFAULT_SPLIT)
            for each in candidates
        ]
    left = [each.name for each in candidates if listed.split_of(each.name) is None]
    if left:
        message = f"does not use what {listed.title} gives no split: {some(left)}"
        problems.append(Problem(kind="sequence-without-split", severity="warning", path=base, message=message))
    return [replace(each, split=split) for each in candidates if (split := listed.split_of(each.name))]


def _without_duplicates(base: Path, candidates: list[_Candidate], problems: list[Problem]) -> list[_Candidate]:
    """Leave out what is the same folder as another sequence, or has the name of one in its split."""
    kept: list[_Candidate] = []
    places: dict[Path, _Candidate] = {}
    names: dict[tuple[str | None, str], _Candidate] = {}
    real_base = base.resolve()

    def is_link(each: _Candidate) -> bool:
        return _real(each.path) != real_base / each.path.relative_to(base)

    for each in sorted(candidates, key=is_link):  # a real folder before a link to it
        same = places.setdefault(_real(each.path), each)
        namesake = names.setdefault((each.split, each.name), each)
        if same is each and namesake is each:
            kept.append(each)
            continue
        what = f"is {same.path} once more" if same is not each else f"has the name and split of {namesake.path}"
        message = f"{what}; remove or rename one"
        problems.append(Problem(kind="duplicate-sequence", severity="error", path=each.path, message=message))
    return kept


def _measured(base: Path, candidates: list[_Candidate], problems: list[Problem]) -> list[SequencePair]:
    """Look into the folders; the pairs come split by split in natural order."""
    pairs = []
    listed = read_hq_list(base)
    for each in sorted(candidates, key=lambda each: (_rank(each.split), natural_key(each.name))):
        split = each.split or _DEFAULT_SPLIT
        if each.blurry is None:
            frames, found = listed.measure(each.sharp)
            pair = frames and SequencePair(name=each.name, split=split, blurry=None, sharp=frames)
        else:
            pair, found = pair_folders(each.name, split, each.blurry, each.sharp)
        problems += found
        if pair:
            pairs.append(pair)
    return pairs


def _without_leaks(base: Path, pairs: list[SequencePair], problems: list[Problem]) -> list[SequencePair]:
    """Leave out sequences of which another split has the same frames; name those that only share their name."""
    namesakes: list[str] = []
    left_out = set()
    by_name = defaultdict(list)
    for pair in pairs:
        by_name[pair.name].append(pair)
    for name, (first, *others) in by_name.items():
        for other in others:
            if not _same_frames(first, other):
                namesakes.append(name)
                continue
            left_out |= {id(first), id(other)}
            message = f"has the frames of {first.sides[0].path} in another split; keep {name} in one of both"
            problems.append(
                Problem(kind="duplicate-sequence", severity="error", path=other.sides[0].path, message=message)
            )
    if namesakes:
        message = f"has other frames in different splits under the names {some(namesakes)}"
        problems.append(Problem(kind="shared-name", severity="note", path=base, message=message))
    return [pair for pair in pairs if id(pair) not in left_out]


def _same_frames(first: SequencePair, other: SequencePair) -> bool:
    one, two = ([file for side in pair.sides for file in side.files or (side.path,)] for pair in (first, other))
    return len(one) == len(two) and all(map(partial(filecmp.cmp, shallow=False), one, two))


def _name_beside(root: Path, base: Path, problems: list[Problem]) -> None:
    """Name what lies beside the folder in which the layout begins, down from the folder that was given."""
    folder = root
    for part in base.relative_to(root).parts:
        problems += entries_beside(folder, [part])
        folder /= part


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # which lets links that run in circles pass, unlike Path.resolve


def _folders(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    return sorted(found, key=lambda path: natural_key(path.name))


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() in EXTENSIONS["images"] for path in folder.iterdir())


def _rank(split: str | None) -> tuple[int, str]:
    order = ("train", "val", "test")
    return (order.index(split) if split in order else len(order)), split or ""
