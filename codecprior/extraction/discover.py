"""Find the sequences of a dataset: folders of pictures, videos, raw files and VVC streams at any depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from codecprior.errors import DatasetError
from codecprior.extraction.kept import is_kept
from codecprior.media.files import EXTENSIONS, kind_of, natural_key
from codecprior.media.images import list_images
from codecprior.media.source import SourceKind

__all__ = ["SequenceInput", "discover"]

_STORE_EXTENSION: Final = ".zarr"


@dataclass(frozen=True, kw_only=True)
class SequenceInput:
    """One sequence to extract.

    Parameters
    ----------
    name : str
        Unique name relative to the dataset, parts joined by ``/``. A file's extension is left out unless a neighbour
        would get the same name.
    path : pathlib.Path
        Folder of pictures or file.
    kind : SourceKind
        What the path promises to be; a ``"video"`` may carry VVC.
    """

    name: str
    path: Path
    kind: SourceKind


def discover(path: str | Path) -> list[SequenceInput]:
    """List the sequences at a path.

    A folder that holds pictures is a sequence, and so is each one below it. Hidden entries, stores, and bitstreams kept
    beside the store that was made from them are no input. A folder that symbolic links reach twice counts once.

    Parameters
    ----------
    path : path-like
        One file, one folder of pictures, or a dataset.

    Returns
    -------
    list of SequenceInput
        In natural order of their names.

    Raises
    ------
    DatasetError
        If there is nothing at the path or no sequence in it, or if a folder cannot be listed.
    """
    root = Path(path)
    if not root.exists():
        raise DatasetError(f"{root}: no such file or folder")
    if not root.is_dir():
        kind = kind_of(root)
        if kind is None or kind == "images":
            raise DatasetError(f"{root}: is no sequence; use {_accepted()}")
        return [SequenceInput(name=root.stem, path=root, kind=kind)]
    found = sorted(
        _walk(root, "", set()), key=lambda sequence: [natural_key(part) for part in sequence.name.split("/")]
    )
    if not found:
        raise DatasetError(f"{root}: holds no sequence at any depth; use {_accepted()}")
    for sequence, following in pairwise(found):
        if sequence.name == following.name:
            raise DatasetError(f"{sequence.path} and {following.path} would both be called {sequence.name}; rename one")
    return found


def _walk(folder: Path, prefix: str, visited: set[Path]) -> Iterator[SequenceInput]:
    resolved = folder.resolve()
    if resolved in visited:
        return
    visited.add(resolved)
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
        images = list_images(folder)
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot be listed ({error.strerror}); allow reading it or move it away"
        ) from error
    if images:
        yield SequenceInput(name=prefix.rstrip("/") or resolved.name or "frames", path=folder, kind="images")
    inputs = [entry for entry in entries if _is_input(entry)]
    names = {entry.name for entry in inputs}
    stems = Counter(entry.stem for entry in inputs if not entry.is_dir())
    # A real folder is entered before a link to it, so that it gives the name.
    for entry in sorted(inputs, key=Path.is_symlink):
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/", visited)
        elif kind := kind_of(entry):
            name = entry.stem if stems[entry.stem] == 1 and entry.stem not in names else entry.name
            yield SequenceInput(name=f"{prefix}{name}", path=entry, kind=kind)


def _is_input(entry: Path) -> bool:
    if entry.name.startswith(".") or entry.suffix == _STORE_EXTENSION:
        return False
    if entry.is_dir():
        return True
    kind = kind_of(entry)
    if kind == "bitstream" and is_kept(entry):
        return False
    return kind is not None and kind != "images"


def _accepted() -> str:
    pictures, videos, raw, streams = (", ".join(extensions[:6]) for extensions in EXTENSIONS.values())
    return f"a folder of pictures ({pictures}), a video ({videos}, ...), {raw}, or a VVC stream ({streams})"
