"""Raw sequences of the MCML and common-test-condition sets: what their names do not tell comes from a list of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

from codecprior.datasets.pairing import FrameFiles, Problem, entries_beside
from codecprior.datasets.splits import load_yaml, packaged
from codecprior.errors import CodecpriorError, DatasetError
from codecprior.media.files import EXTENSIONS, natural_key
from codecprior.media.opening import open_source
from codecprior.media.raw import RawFormat
from codecprior.media.source import FrameSource

__all__ = ["HqList", "find_raw", "has_raw", "read_hq_list"]

_LIST_NAME: Final = "hq.yaml"
_NAME = re.compile(r"(.+?)_\d+x\d+(?:[pi]?)(?:_.*)?", re.IGNORECASE)
"""A file name without extension that says its size behind the name of the sequence."""


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """What the list says about a sequence, None where it says nothing."""

    name: str
    raw: RawFormat
    frames: int | None = None


@dataclass(frozen=True, kw_only=True)
class HqList:
    """Facts of raw sequences by their names.

    Parameters
    ----------
    entries : mapping
        Listed sequences by every spelling of their names, in lower case.
    """

    entries: Mapping[str, _Listed] = field(repr=False)

    def measure(self, path: Path) -> tuple[FrameFiles | None, list[Problem]]:
        """Open a raw file with what its name and the list tell; the name is believed where they differ.

        Parameters
        ----------
        path : pathlib.Path
            A ``.yuv`` or ``.y4m`` file.

        Returns
        -------
        frames : FrameFiles or None
            The whole file; None after an error.
        problems : list of Problem
            An error, or warnings about differences from the list.
        """
        listed = self._find(path.stem)
        try:
            raw = None
            if path.suffix.lower() == ".yuv":
                raw = RawFormat.from_name(path.name).or_else(listed.raw if listed else RawFormat())
            info = cast(FrameSource, open_source(path, raw=raw)).info  # no bitstream, as its extension is a raw file's
        except CodecpriorError as error:
            message = str(error).removeprefix(f"{path}: ")
            return None, [Problem(kind="unreadable-file", severity="error", path=path, message=message)]
        frames = FrameFiles(
            path=path, kind="raw", num_frames=info.num_frames or 0, size=(info.width, info.height), raw=raw
        )
        if listed is None:
            return frames, []
        facts = {
            "width": (info.width, listed.raw.width),
            "height": (info.height, listed.raw.height),
            "bit depth": (info.bit_depth, listed.raw.bit_depth),
            "frame rate": (info.frame_rate, listed.raw.frame_rate),
            "frames": (info.num_frames, listed.frames),
        }
        message = ", ".join(
            f"{fact} {here}, not {there}" for fact, (here, there) in facts.items() if there not in (None, here)
        )
        if not message:
            return frames, []
        message = f"differs from what the list says about {listed.name}: {message}"
        return frames, [Problem(kind="differs-from-list", severity="warning", path=path, message=message)]

    def _find(self, stem: str) -> _Listed | None:
        named = _NAME.fullmatch(stem)
        names = (stem, named[1]) if named else (stem,)
        return next((self.entries[name.lower()] for name in names if name.lower() in self.entries), None)


def read_hq_list(folder: Path) -> HqList:
    """Read the list of the package, and the one of a dataset, whose entries come first.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the dataset, which may hold an ``hq.yaml`` in the form of the package's.

    Returns
    -------
    HqList
        Entries of both.

    Raises
    ------
    DatasetError
        If the list of the dataset is damaged.
    """
    entries = _parse(load_yaml(packaged(_LIST_NAME)), _LIST_NAME)
    own = folder / _LIST_NAME
    if own.is_file():
        entries |= _parse(load_yaml(own), str(own))
    return HqList(entries=entries)


def has_raw(folder: Path) -> bool:
    """Whether raw planar files lie directly in a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Folder.

    Returns
    -------
    bool
        True if there is one.
    """
    return any(_is_raw(path) for path in folder.iterdir())


def find_raw(folder: Path) -> tuple[list[Path], list[Problem]]:
    """List the raw planar files at any depth.

    Parameters
    ----------
    folder : pathlib.Path
        Folder.

    Returns
    -------
    files : list of pathlib.Path
        In natural order.
    problems : list of Problem
        What else lies there.
    """
    return _walk(folder, {folder.resolve()})


def _walk(folder: Path, visited: set[Path]) -> tuple[list[Path], list[Problem]]:
    files, problems, used = [], [], [_LIST_NAME]
    # A real folder is entered before a link to it.
    for entry in sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), natural_key(path.name))):
        if entry.name.startswith("."):
            continue
        if _is_raw(entry):
            files.append(entry)
            used.append(entry.name)
        elif entry.is_dir() and (resolved := entry.resolve()) not in visited:
            visited.add(resolved)
            below, found = _walk(entry, visited)
            if below:
                files += below
                problems += found
                used.append(entry.name)
    return files, problems + entries_beside(folder, used)


def _is_raw(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS["raw"] and not path.name.startswith(".") and path.is_file()


def _parse(document: Any, path: str) -> dict[str, _Listed]:
    form = "write 'Name: {width: 3840, height: 2160, frame_rate: 30, bit_depth: 8, frames: 300}'"
    if not isinstance(document, dict):
        raise DatasetError(f"{path}: lists no sequences; {form}")
    entries: dict[str, _Listed] = {}
    for name, facts in document.items():
        try:
            values = dict(facts)
            also, frames = values.pop("also", []), values.pop("frames", None)
            rate, chroma = values.pop("frame_rate", None), values.pop("chroma_format", None)
            raw = RawFormat(
                **{key: int(value) for key, value in values.items()},
                frame_rate=None if rate is None else Fraction(rate),
                chroma_format=chroma,
            )
            listed = _Listed(name=name, raw=raw, frames=None if frames is None else int(frames))
        except (CodecpriorError, TypeError, ValueError, ZeroDivisionError) as error:
            raise DatasetError(f"{path}: {name}: {error}; {form}") from error
        entries |= {spelling.lower(): listed for spelling in (name, *also)}
    return entries
