"""Folders that appear under their names only when they are whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from codecprior.errors import MediaError
from codecprior.media.files import writing

__all__ = ["empty_folder", "folder_written_whole", "held_folder"]


@contextmanager
def folder_written_whole(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder and rename it to ``path`` when the block ends without error.

    ``.name.partial`` lies beside ``name`` meanwhile and is held by one process. An error removes it; what a killed
    process leaves, the next one that writes the same folder removes.

    Parameters
    ----------
    path : pathlib.Path
        Final name; missing parents are made.
    overwrite : bool
        Whether an existing folder gives way to the finished one.

    Yields
    ------
    pathlib.Path
        Where to write.

    Raises
    ------
    MediaError
        If the name is taken, another process is writing the same folder, or something cannot be written.
    """
    partial, replaced = (path.with_name(f".{path.name}.{state}") for state in ("partial", "replaced"))
    with writing(path):
        _require_free(path, overwrite)
        with held_folder(partial):
            try:
                shutil.rmtree(replaced, ignore_errors=True)
                empty_folder(partial)
                yield partial
                _require_free(path, overwrite)
                with suppress(FileNotFoundError):
                    path.rename(replaced)
                partial.rename(path)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            shutil.rmtree(replaced, ignore_errors=True)


def _require_free(path: Path, overwrite: bool) -> None:
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not path.is_dir():
        raise MediaError(f"{path}: exists and is no folder; choose another output")
    if not overwrite:
        raise MediaError(f"{path}: exists; allow overwriting or choose another output")


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Make a folder, or take one that is there, and hold it against other processes.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; missing parents are made.

    Yields
    ------
    None
        Until the block ends, whether the folder is still there or not.

    Raises
    ------
    MediaError
        If another process holds it.
    """
    descriptor = _lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        # Its owner may finish and rename it at any moment: then it is another folder that must be held.
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    return descriptor
                os.close(descriptor)
            except BlockingIOError as error:
                os.close(descriptor)
                raise MediaError(f"{folder}: another process is writing there; wait for it or stop it") from error
            except OSError:
                os.close(descriptor)
                raise


def empty_folder(folder: Path) -> None:
    """Remove what a folder holds; links are removed, not followed.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; it stays.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
