"""The bitstream that is kept beside a store: ``clip.266`` beside ``clip.zarr``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fsspec.core import url_to_fs

from codecprior.errors import StoreError
from codecprior.store.location import Location, is_url

__all__ = ["bitstream_beside", "exists", "is_kept", "keep", "require_free"]

_STORE_EXTENSION: Final = ".zarr"
_BITSTREAM_EXTENSION: Final = ".266"
_REVERSE: Final = ".reverse"


def bitstream_beside(store: str, *, reverse: bool = False) -> str:
    """Return where the bitstream of a store is kept.

    Parameters
    ----------
    store : str
        Path or URL of the store, ending in ``.zarr``.
    reverse : bool
        Whether the bitstream of the time-reversed pass is meant.

    Returns
    -------
    str
        ``clip.266`` or ``clip.reverse.266`` beside ``clip.zarr``.
    """
    return store.removesuffix(_STORE_EXTENSION) + (_REVERSE if reverse else "") + _BITSTREAM_EXTENSION


def is_kept(bitstream: Path) -> bool:
    """Tell whether a bitstream is what an extraction from frames kept, and not an input.

    Parameters
    ----------
    bitstream : Path
        File.

    Returns
    -------
    bool
        Whether a store lies beside it that was not made from a bitstream.
    """
    if bitstream.suffix != _BITSTREAM_EXTENSION:
        return False
    for stem in {bitstream.stem, bitstream.stem.removesuffix(_REVERSE)}:
        store = bitstream.with_name(stem + _STORE_EXTENSION)
        if store.exists():
            return _made_from(store) != "bitstream"
    return False


def _made_from(store: Path) -> str | None:
    """Kind of source of a store, None where it does not tell."""
    try:
        kind: str | None = Location(store).group_attributes()["source"]["kind"]
    except (StoreError, KeyError, TypeError):
        return None
    return kind


def exists(path: str) -> bool:
    """Tell whether there is a file.

    Parameters
    ----------
    path : str
        Path or URL.

    Returns
    -------
    bool
        Whether there is.
    """
    files, remote = url_to_fs(path)
    return bool(files.exists(remote))


def require_free(paths: Iterable[str]) -> None:
    """Refuse names that are taken.

    Parameters
    ----------
    paths : iterable of str
        Where bitstreams will be kept.

    Raises
    ------
    StoreError
        If one exists.
    """
    for path in paths:
        if exists(path):
            raise StoreError(
                f"{path}: exists, but not the store that it would belong to; move it away, or use --no-bitstream, "
                "--overwrite or another -o"
            )


def keep(finished: Path, path: str) -> None:
    """Put a bitstream beside the store, whole or not at all.

    Parameters
    ----------
    finished : Path
        The bitstream, in a folder on the same file system; it stays, for the case that the store is not finished now.
    path : str
        Where to keep it, path or URL; what is there is replaced.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    try:
        if is_url(path):
            files, remote = url_to_fs(path)
            files.put_file(str(finished), remote)
            return
        link = finished.with_suffix(".link")
        link.unlink(missing_ok=True)
        try:
            link.hardlink_to(finished)
        except OSError:  # not every file system has hard links
            shutil.copyfile(finished, link)
        link.replace(path)
    except Exception as error:  # each fsspec backend has its own exceptions
        raise StoreError(f"{path}: cannot write the bitstream ({error}); run the same command again") from error
