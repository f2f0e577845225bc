"""Bulk array data: tensorstore on local folders, zarr-python on fsspec URLs.

tensorstore's threads do not survive a fork: a forked child that reads or writes gets an error, not a hang.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from codecprior.errors import CorruptStoreError, StoreError
from codecprior.store.location import Location

__all__ = ["ArrayReader", "keep_freed_memory", "open_array", "open_shards", "reading"]

_READ_CACHE_BYTES: Final = 64 << 20
"""Holds the chunks of one 720p frame, so that reading frames one after the other decompresses each chunk once."""

_REMOTE_REQUESTS: Final = 16
_NOT_THE_BYTES: Final = ("PERMISSION_DENIED", "UNAVAILABLE", "RESOURCE_EXHAUSTED")
_forked = threading.Event()


@cache
def _context(cache_bytes: int) -> Any:
    os.register_at_fork(after_in_child=_forked.set)
    # Files are synced once, before the store gets its name.
    return ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}, "file_io_sync": False})


def _require_not_forked() -> None:
    if _forked.is_set():
        raise StoreError("a forked process cannot use tensorstore; start workers with 'spawn' or 'forkserver'")


def _spec(folder: Path) -> dict[str, Any]:
    _require_not_forked()
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}}


def open_shards(folder: Path, metadata: Mapping[str, Any]) -> Any:
    """Open an array for writing shards; its metadata is neither read nor written.

    Parameters
    ----------
    folder : Path
        Folder of the array.
    metadata : mapping
        What its ``zarr.json`` says or will say.

    Returns
    -------
    tensorstore.TensorStore
        The array.
    """
    spec = {**_spec(folder), "metadata": metadata}
    return ts.open(spec, open=True, assume_metadata=True, context=_context(0)).result()


class ArrayReader(Protocol):
    """An array that is read piece by piece."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def start(self, selection: tuple[slice, ...]) -> Callable[[], NDArray[Any]]:
        """Start reading; the returned function waits for the samples."""


class _LocalArray:
    def __init__(self, folder: Path, cache_bytes: int) -> None:
        try:
            self._array = ts.open(_spec(folder), open=True, read=True, context=_context(cache_bytes)).result()
        except ValueError as error:
            raise CorruptStoreError(f"{folder}: metadata is damaged ({_reason(error)}); extract again") from error
        self.shape: tuple[int, ...] = tuple(self._array.shape)
        self.dtype: np.dtype[Any] = self._array.dtype.numpy_dtype

    def start(self, selection: tuple[slice, ...]) -> Callable[[], NDArray[Any]]:
        _require_not_forked()
        result: Callable[[], NDArray[Any]] = self._array[selection].read().result
        return result


class _RemoteArray:
    def __init__(self, location: Location, name: str) -> None:
        try:
            import zarr
            from zarr.storage import FsspecStore
        except ImportError as error:
            raise StoreError(f"{location}: reading a URL needs zarr 3 (Python 3.11): pip install 'zarr>=3'") from error
        try:
            group = FsspecStore.from_url(location.target, read_only=True)
            self._array = zarr.open_array(group, path=name, mode="r", zarr_format=3)
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise CorruptStoreError(f"{location}/{name}: metadata is damaged ({error}); extract again") from error
        self.shape: tuple[int, ...] = self._array.shape
        self.dtype: np.dtype[Any] = np.dtype(self._array.dtype)

    def start(self, selection: tuple[slice, ...]) -> Callable[[], NDArray[Any]]:
        return _requests().submit(lambda: np.asarray(self._array[selection])).result


@cache
def _requests() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_REMOTE_REQUESTS, "codecprior-read")


def open_array(location: Location, name: str, *, cached: bool) -> ArrayReader:
    """Open an array for reading.

    Parameters
    ----------
    location : Location
        The store.
    name : str
        Name of the array relative to the store.
    cached : bool
        Whether decompressed chunks are kept, 64 MiB for all arrays of a process: for reading frame by frame.

    Returns
    -------
    ArrayReader
        The array.

    Raises
    ------
    CorruptStoreError
        If its metadata is damaged.
    """
    if location.is_local:
        return _LocalArray(location.path / name, _READ_CACHE_BYTES if cached else 0)
    return _RemoteArray(location, name)


def reading(where: str, wait: Callable[[], NDArray[Any]]) -> Callable[[], NDArray[Any]]:
    """Let a read say what is wrong where it fails.

    Parameters
    ----------
    where : str
        Store and array.
    wait : callable
        What :meth:`ArrayReader.start` returned.

    Returns
    -------
    callable
        Waits for the samples and returns them; raises CorruptStoreError where the bytes are wrong, and StoreError where
        they cannot be read.
    """

    def finish() -> NDArray[Any]:
        try:
            return wait()
        except (ValueError, OSError, KeyError, RuntimeError) as error:
            reason = _reason(error)
            if isinstance(error, ValueError) and not reason.startswith(_NOT_THE_BYTES):
                raise CorruptStoreError(f"{where}: stored bytes are damaged ({reason}); extract again") from error
            raise StoreError(f"{where}: cannot be read ({reason})") from error

    return finish


def _reason(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].split(" [tensorstore_spec=")[0]


def keep_freed_memory() -> None:
    """Let this process keep large freed blocks for the next shard: 10 to 20 % less CPU time for a writer.

    glibc returns blocks over 128 KiB to the system on each free, and the next shard faults every page in again. Two
    arenas do for all threads: with one for each, what every arena keeps adds up over a long clip. Meant for processes
    that extract; does nothing without glibc.
    """
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option, value in ((mmap_threshold, 1 << 30), (trim_threshold, 1 << 30), (arena_max, 2)):
        mallopt(option, value)
