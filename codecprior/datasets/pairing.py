"""Two folders of pictures, or one raw file, as a pair of clips whose frames belong together; what does not is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from codecprior.errors import MediaError
from codecprior.media.files import natural_key
from codecprior.media.images import list_images, picture_size
from codecprior.media.raw import RawFormat

__all__ = ["FrameFiles", "Problem", "SequencePair", "entries_beside", "pair_folders", "some"]

_HEADER_THREADS: Final = 8
"""Headers read at a time: what takes time is the file system."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about a dataset that its user should know.

    Parameters
    ----------
    kind : str
        Name of what is wrong, such as ``"unpaired-frame"``.
    severity : {"error", "warning", "note"}
        An error keeps a sequence from being used.
    path : pathlib.Path
        File or folder.
    message : str
        What is wrong with it and what to do.
    """

    kind: str
    severity: Literal["error", "warning", "note"]
    path: Path
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class FrameFiles:
    """Where the frames of one side of a sequence are.

    Parameters
    ----------
    path : pathlib.Path
        Folder of pictures, or raw planar file.
    kind : {"images", "raw"}
        Which of both.
    num_frames : int
        Number of frames.
    size : tuple of int
        Width and height of every frame.
    files : tuple of pathlib.Path
        One picture for each frame in display order; empty for a raw file.
    raw : RawFormat, optional
        Layout of a raw file, as :func:`codecprior.media.open_source` takes it.
    """

    path: Path
    kind: Literal["images", "raw"]
    num_frames: int
    size: tuple[int, int]
    files: tuple[Path, ...] = ()
    raw: RawFormat | None = None


@dataclass(frozen=True, kw_only=True)
class SequencePair:
    """A sequence of a dataset: the same frames degraded and as they should be.

    Parameters
    ----------
    name : str
        Name, unique within the split.
    split : str
        Such as ``"train"`` or ``"test"``.
    blurry : FrameFiles or None
        Degraded side; None where it is still to be made from the sharp one.
    sharp : FrameFiles or None
        The other side, as long and as large; None where there is none.
    """

    name: str
    split: str
    blurry: FrameFiles | None
    sharp: FrameFiles | None

    @property
    def sides(self) -> tuple[FrameFiles, ...]:
        """The sides that are there, at least one."""
        return tuple(side for side in (self.blurry, self.sharp) if side)

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.sides[0].num_frames

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self.sides[0].size


def pair_folders(name: str, split: str, blurry: Path, sharp: Path) -> tuple[SequencePair | None, list[Problem]]:
    """Pair the pictures of two folders.

    Frames belong together if their names without extension are equal, or if both folders number theirs one by one and
    hold as many. All of them must have one size; it is read from their headers.

    Parameters
    ----------
    name, split : str
        What the sequence will be called.
    blurry, sharp : pathlib.Path
        Folders of its sides; they need not exist.

    Returns
    -------
    pair : SequencePair or None
        None after an error.
    problems : list of Problem
        What was found on the way.
    """
    problems: list[Problem] = []
    blurry_files, sharp_files = _pictures(blurry, sharp, problems), _pictures(sharp, blurry, problems)
    if not blurry_files or not sharp_files or not _matched(blurry_files, sharp_files, problems):
        return None, problems
    size = _common_size([*blurry_files, *sharp_files], problems)
    if size is None:
        return None, problems
    sides = [
        FrameFiles(path=folder, kind="images", num_frames=len(files), size=size, files=tuple(files))
        for folder, files in ((blurry, blurry_files), (sharp, sharp_files))
    ]
    return SequencePair(name=name, split=split, blurry=sides[0], sharp=sides[1]), problems


def entries_beside(folder: Path, used: Iterable[str]) -> list[Problem]:
    """Name what lies in a folder and is not used, and links that lead nowhere or back.

    Parameters
    ----------
    folder : pathlib.Path
        Folder that exists.
    used : iterable of str
        Names of its entries that are used.

    Returns
    -------
    list of Problem
        One for all entries that are not used, and one for each bad link. Hidden entries are passed over.
    """
    entries = sorted({entry.name for entry in folder.iterdir()} - set(used), key=natural_key)
    problems, beside = [], []
    above = {folder.resolve(), *folder.resolve().parents}
    for entry in (folder / name for name in entries if not name.startswith(".")):
        if entry.is_symlink() and not entry.exists():
            message = "is a link that leads nowhere or in a circle; repair or remove it"
            problems.append(Problem(kind="broken-link", severity="warning", path=entry, message=message))
        elif entry.is_symlink() and entry.resolve() in above:
            message = f"is a link back to {entry.resolve()} and is not followed; remove it"
            problems.append(Problem(kind="link-loop", severity="warning", path=entry, message=message))
        else:
            beside.append(entry.name)
    if beside:
        message = f"does not use {some(beside)}"
        problems.append(Problem(kind="unknown-entry", severity="note", path=folder, message=message))
    return problems


def some(names: Iterable[str], most: int = 4) -> str:
    """Word a list of names that may be long.

    Parameters
    ----------
    names : iterable of str
        Names.
    most : int
        How many to say; the others are counted.

    Returns
    -------
    str
        Such as ``"a, b and 60 more"``.
    """
    names = list(names)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _pictures(folder: Path, other: Path, problems: list[Problem]) -> list[Path]:
    """List the frames of a side; none after an error."""
    if not folder.is_dir():
        parent = next(above for above in folder.parents if above.is_dir())
        there = some(sorted((entry.name for entry in parent.iterdir()), key=natural_key))
        message = f"is missing, the other side of {other}; {parent} has {there or 'nothing'}"
        problems.append(Problem(kind="missing-side", severity="error", path=folder, message=message))
        return []
    files = list_images(folder)
    if not files:
        message = f"holds no pictures, the other side of {other}"
        problems.append(Problem(kind="missing-side", severity="error", path=folder, message=message))
        return []
    problems += entries_beside(folder, (file.name for file in files))
    stems = Counter(file.stem for file in files)
    twice = next((file for file in files if stems[file.stem] > 1), None)
    if twice:
        message = "has a frame of the same name with another extension beside it; keep one"
        problems.append(Problem(kind="duplicate-frame", severity="error", path=twice, message=message))
        return []
    return files


def _matched(blurry: list[Path], sharp: list[Path], problems: list[Problem]) -> bool:
    """Whether the frames belong together one by one."""
    if [file.stem for file in blurry] == [file.stem for file in sharp]:
        steps = _steps(blurry)
        gap = next((file for file, step in zip(blurry[1:], steps, strict=False) if step != min(steps)), None)
        if gap:
            message = "comes after a gap in the numbers; motion jumps there if frames are missing"
            problems.append(Problem(kind="numbering-gap", severity="warning", path=gap, message=message))
        return True
    if len(blurry) == len(sharp) and set(_steps(blurry)) == set(_steps(sharp)) == {1}:
        message = f"begins with {blurry[0].name} but {sharp[0].parent} with {sharp[0].name}: paired in their order"
        problems.append(Problem(kind="paired-by-order", severity="note", path=blurry[0].parent, message=message))
        return True
    for files, others in ((blurry, sharp), (sharp, blurry)):
        stems = {other.stem for other in others}
        alone = [file for file in files if file.stem not in stems]
        if alone:
            more = f", nor have {len(alone) - 1} more" if len(alone) > 1 else ""
            message = f"has no partner in {others[0].parent}{more} ({len(files)} frames here, {len(others)} there)"
            problems.append(Problem(kind="unpaired-frame", severity="error", path=alone[0], message=message))
            break
    return False


def _steps(files: list[Path]) -> list[int]:
    """Differences of the numbers that the names are; none where one is something else."""
    if not all(file.stem.isdecimal() for file in files):
        return []
    return [int(after.stem) - int(before.stem) for before, after in pairwise(files)]


def _common_size(files: list[Path], problems: list[Problem]) -> tuple[int, int] | None:
    sizes = []
    with ThreadPoolExecutor(_HEADER_THREADS) as pool:
        for file, size in [(file, pool.submit(picture_size, file)) for file in files]:
            try:
                sizes.append(size.result())
            except MediaError as error:
                message = str(error).removeprefix(f"{file}: ")
                problems.append(Problem(kind="unreadable-frame", severity="error", path=file, message=message))
                return None
    odd = next((at for at, size in enumerate(sizes) if size != sizes[0]), None)
    if odd is None:
        return sizes[0]
    here, first = ("x".join(map(str, sizes[at])) for at in (odd, 0))
    message = f"is {here} but {files[0]} is {first}; all frames of a pair need one size"
    problems.append(Problem(kind="mixed-size", severity="error", path=files[odd], message=message))
    return None
