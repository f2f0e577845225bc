"""A prepared dataset as JSON lines: for each sequence, its frames on both sides and the priors of the blurry one.

Every path is relative to the folder of the manifest, with ``/``, so that a dataset can be moved or uploaded as a whole;
what lies elsewhere is an absolute path or a URL.
"""

from __future__ import annotations

import json
import os
import posixpath
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fsspec.core import url_to_fs

from codecprior.errors import ConfigError, DatasetError
from codecprior.media.files import natural_key, written_whole
from codecprior.store.location import is_url

__all__ = [
    "MANIFEST_NAME",
    "GrowingManifest",
    "Manifest",
    "ManifestEntry",
    "is_prepared",
    "joined",
    "read_manifest",
    "relative_path",
    "write_manifest",
]

MANIFEST_NAME: Final = "manifest.jsonl"
"""Name of the manifest in the folder of a prepared dataset."""

_WRITE_SECONDS: Final = 5.0
"""How much finished work a killed run checks again at most."""

_Frames = tuple[str, ...] | str


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """One sequence of a prepared dataset.

    Parameters
    ----------
    sequence : str
        Name, unique within its split.
    split : str
        Such as ``"train"`` or ``"test"``.
    num_frames : int
        Number of frames, the same on both sides and in the store.
    blurry : tuple of str, or str
        The degraded side: one picture for each frame in display order, or one file that holds them all: raw planar, or
        a video, which is read quickly only from its beginning to its end.
    sharp : tuple of str, str or None
        The other side in the same form; None where there is none.
    store : str
        Store of the priors of the blurry side.
    checks : mapping
        What was verified when the entry was made, as JSON values.
    frames : str, optional
        Zarr v3 group with the arrays ``blurry`` and ``sharp``, (T, H, W, 3) uint8 RGB, if the frames were packed.
    raw : mapping, optional
        Layout of raw planar files, as keyword arguments of :class:`codecprior.media.RawFormat` in JSON values.
    restored_by : str, optional
        SHA-256 of the weights of stage 1 whose outputs are the blurry side of ``frames``: ``codecprior precompute``.

    Raises
    ------
    DatasetError
        If a value has the wrong type, or the number of files is not the number of frames.
    """

    sequence: str
    split: str
    num_frames: int
    blurry: _Frames
    sharp: _Frames | None
    store: str
    checks: Mapping[str, Any] = field(default_factory=dict)
    frames: str | None = None
    raw: Mapping[str, Any] | None = None
    restored_by: str | None = None

    def __post_init__(self) -> None:
        values: dict[str, Any] = vars(self)
        for name in ("sequence", "split", "store"):
            if not isinstance(values[name], str) or not values[name]:
                raise DatasetError(f"{name} {values[name]!r}: must be a text")
        if not isinstance(values["num_frames"], int) or self.num_frames < 1:
            raise DatasetError(f"num_frames {self.num_frames!r}: must be a number, 1 or more")
        for name in ("blurry", "sharp"):
            files = values[name]
            if isinstance(files, tuple) and all(isinstance(file, str) for file in files):
                if len(files) != self.num_frames:
                    raise DatasetError(f"{name} names {len(files)} files for {self.num_frames} frames")
            elif not isinstance(files, str) and (files is not None or name == "blurry"):
                raise DatasetError(f"{name} {files!r}: must be a list of files or the name of one raw file or video")
        for name in ("frames", "restored_by"):
            if not isinstance(values[name], str | None):
                raise DatasetError(f"{name} {values[name]!r}: must be a text or null")
        if not isinstance(values["checks"], Mapping) or not isinstance(values["raw"], Mapping | None):
            raise DatasetError("checks and raw: must be JSON objects")

    def with_paths(self, change: Callable[[str], str]) -> ManifestEntry:
        """Return the entry with its paths changed.

        Parameters
        ----------
        change : callable
            Takes a path and returns another one.

        Returns
        -------
        ManifestEntry
            Where files and stores lie as ``change`` says.
        """
        sides: dict[str, Any] = {
            name: files if files is None else change(files) if isinstance(files, str) else tuple(map(change, files))
            for name, files in (("blurry", self.blurry), ("sharp", self.sharp), ("frames", self.frames))
        }
        return replace(self, store=change(self.store), **sides)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The sequences of a prepared dataset and where their relative paths begin.

    Parameters
    ----------
    root : str
        Folder of the manifest: absolute local path or URL.
    entries : tuple of ManifestEntry
        In the order of the file.
    """

    root: str
    entries: tuple[ManifestEntry, ...]

    def resolve(self, relative: str) -> str:
        """Return where a path of an entry leads.

        Parameters
        ----------
        relative : str
            Path of a file or store as an entry has it.

        Returns
        -------
        str
            Local path or URL, without ``..``.
        """
        if is_url(relative) or posixpath.isabs(relative):
            return relative
        protocol, separator, root = self.root.rpartition("://")
        return protocol + separator + posixpath.normpath(posixpath.join(root, relative))

    def of_split(self, split: str, name: str) -> Manifest:
        """Return the sequences of a split.

        Parameters
        ----------
        split : str
            The split.
        name : str
            What it is chosen by, for messages.

        Returns
        -------
        Manifest
            Those alone, with the same root.

        Raises
        ------
        ConfigError
            If there is no such split.
        """
        entries = tuple(entry for entry in self.entries if entry.split == split)
        if not entries:
            there = ", ".join(sorted({entry.split for entry in self.entries}))
            raise ConfigError(f"{name} {split!r}: the manifest in {self.root} has {there}")
        return replace(self, entries=entries)


def is_prepared(target: str | os.PathLike[str]) -> bool:
    """Tell whether a target is a prepared dataset.

    Parameters
    ----------
    target : path-like or str
        Local path or fsspec URL.

    Returns
    -------
    bool
        Whether it is a ``.jsonl`` file or a folder that holds ``manifest.jsonl``.
    """
    url = _file(target)
    if url == os.fspath(target):
        return True
    try:
        fs, path = url_to_fs(url)
        return bool(fs.exists(path))
    except Exception as error:  # each fsspec backend has its own exceptions
        raise DatasetError(f"{url}: cannot be read ({error})") from error


def read_manifest(target: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Keys that this version does not know are ignored.

    Parameters
    ----------
    target : path-like or str
        The ``.jsonl`` file or the folder that holds ``manifest.jsonl``; local path or fsspec URL.

    Returns
    -------
    Manifest
        All sequences.

    Raises
    ------
    DatasetError
        If there is no manifest, or a line is damaged, lacks a key or names a sequence a second time.
    """
    url = _file(target)
    try:
        fs, path = url_to_fs(url)
        lines: list[bytes] = fs.cat_file(path).splitlines()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{url}: no such manifest; make one with 'codecprior prepare'") from error
    except Exception as error:  # each fsspec backend has its own exceptions
        raise DatasetError(f"{url}: cannot be read ({error})") from error
    entries: dict[tuple[str, str], ManifestEntry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = _from_json(line)
        except DatasetError as error:
            raise DatasetError(f"{url}: line {number}: {error}; prepare the dataset again") from error
        if entries.setdefault((entry.split, entry.sequence), entry) is not entry:
            raise DatasetError(
                f"{url}: line {number}: split {entry.split} has sequence {entry.sequence} already; remove one line"
            )
    if not entries:
        raise DatasetError(f"{url}: names no sequence; prepare the dataset again")
    return Manifest(root=_root(url), entries=tuple(entries.values()))


def write_manifest(target: str | os.PathLike[str], entries: Iterable[ManifestEntry]) -> None:
    """Write a manifest in place of the one that is there, whole or not at all.

    Parameters
    ----------
    target : path-like or str
        The ``.jsonl`` file, or the folder to put ``manifest.jsonl`` in; local path or fsspec URL.
    entries : iterable of ManifestEntry
        Sequences with paths relative to the folder of the manifest; see :func:`relative_path`.

    Raises
    ------
    DatasetError
        If an object store refuses it.
    MediaError
        If a local file cannot be written.
    """
    url = _file(target)
    lines = "".join(f"{json.dumps(_to_json(entry), default=dict)}\n" for entry in entries).encode()
    if not is_url(url):
        with written_whole(Path(url_to_fs(url)[1])) as partial:
            partial.write_bytes(lines)
        return
    try:
        fs, path = url_to_fs(url)
        fs.makedirs(posixpath.dirname(path), exist_ok=True)
        fs.pipe_file(path, lines)
        fs.invalidate_cache()
    except Exception as error:  # each fsspec backend has its own exceptions
        raise DatasetError(f"{url}: cannot be written ({error}); choose another output") from error


def joined(first: Manifest, second: Manifest) -> Manifest:
    """Put the sequences of one manifest behind those of another.

    Parameters
    ----------
    first, second : Manifest
        Sequences of both may have the same name.

    Returns
    -------
    Manifest
        With the root of the first one.
    """
    moved = (entry.with_paths(second.resolve) for entry in second.entries)
    return replace(first, entries=(*first.entries, *moved))


class GrowingManifest:
    """A manifest that is written now and then while its sequences are made, and once more at the end of the context.

    Sequences that it names already stay in it.

    Parameters
    ----------
    target : path-like or str
        As :func:`write_manifest` takes it.

    Attributes
    ----------
    entries : dict of (str, str) to ManifestEntry
        By split and name.

    Raises
    ------
    DatasetError
        If the manifest that is there is damaged.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self._target = target
        found = read_manifest(target).entries if is_prepared(target) else ()
        self.entries = {(entry.split, entry.sequence): entry for entry in found}
        self._written = time.monotonic()

    def __enter__(self) -> GrowingManifest:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def put(self, split: str, sequence: str, entry: ManifestEntry | None) -> None:
        """Note what became of a sequence.

        Parameters
        ----------
        split, sequence : str
            The sequence.
        entry : ManifestEntry, optional
            Its line; None if it has none any more.
        """
        self.entries.pop((split, sequence), None)
        if entry is not None:
            self.entries[split, sequence] = entry
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        if self.entries:
            order = sorted(self.entries, key=lambda key: (key[0], natural_key(key[1])))
            write_manifest(self._target, [self.entries[key] for key in order])
        self._written = time.monotonic()


def relative_path(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> str:
    """Express a path as an entry of a manifest does.

    Parameters
    ----------
    path : path-like or str
        Local path or URL of a file or store.
    target : path-like or str
        Where the manifest will lie, as :func:`write_manifest` takes it.

    Returns
    -------
    str
        Path relative to the folder of the manifest; the absolute path or URL where one of both is remote and the other
        is not below the same URL.
    """
    text, root = os.fspath(path), _root(_file(target))
    if is_url(text):
        return text.removeprefix(f"{root}/")
    local = str(url_to_fs(text)[1])
    return local if is_url(root) else Path(os.path.relpath(local, root)).as_posix()


def _file(target: str | os.PathLike[str]) -> str:
    text = os.fspath(target).rstrip("/")
    return text if text.endswith(".jsonl") else f"{text}/{MANIFEST_NAME}"


def _root(url: str) -> str:
    return posixpath.dirname(url if is_url(url) else url_to_fs(url)[1])


def _from_json(line: bytes) -> ManifestEntry:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"is no JSON ({error})") from error
    if not isinstance(values, dict):
        raise DatasetError("is no JSON object")
    known = ManifestEntry.__dataclass_fields__
    required = ("sequence", "split", "num_frames", "blurry", "sharp", "store")
    missing = [name for name in required if name not in values]
    if missing:
        raise DatasetError(f"has no {', '.join(missing)}")
    entry: dict[str, Any] = {name: value for name, value in values.items() if name in known}
    for side in ("blurry", "sharp"):
        if isinstance(entry[side], list):
            entry[side] = tuple(entry[side])
    return ManifestEntry(**entry)


def _to_json(entry: ManifestEntry) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in ManifestEntry.__dataclass_fields__}
    return {name: value for name, value in values.items() if value is not None or name == "sharp"}
