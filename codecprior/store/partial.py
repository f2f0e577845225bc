"""The temporary folder of a store that is being written: exclusive, resumable, and renamed into place at the end.

``.clip.zarr.partial/`` lies beside ``clip.zarr`` and holds ``store/`` (what becomes the store), ``scratch/`` (what its
maker wants to find again), ``lock`` and ``progress.jsonl``: one line per finished shard, appended once the shard is whole.
A line that was cut off, or whose files do not have the digests it lists, ends the part that a resumed run builds on.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from codecprior.errors import CodecpriorError, StoreError
from codecprior.store.location import is_complete, sha256_of

__all__ = ["Partial", "os_errors", "partial_path", "require_free", "sweep"]

_PREFIX, _SUFFIX = ".", ".partial"


def partial_path(target: Path) -> Path:
    """Temporary folder of a store."""
    return target.with_name(f"{_PREFIX}{target.name}{_SUFFIX}")


@contextmanager
def os_errors(where: Path) -> Iterator[None]:
    """Turn errors of the file system into a StoreError that names the path."""
    try:
        yield
    except CodecpriorError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{where}: cannot write: {reason}; free space or choose another folder") from error


class Partial:
    """The temporary folder of one store, held by this process alone.

    Opening it creates the folder or, where an earlier run with the same header left one, keeps what that run finished.

    Parameters
    ----------
    target : Path
        Final folder of the store.
    header : dict
        JSON values that say what is being written. A folder with another header starts from nothing.

    Attributes
    ----------
    records : list of dict
        The finished shards, in the order of their writing.

    Raises
    ------
    StoreError
        If another process is writing the same store, or the folder cannot be written.
    """

    def __init__(self, target: Path, header: dict[str, Any]) -> None:
        self.target = target
        self.root = partial_path(target)
        self.store = self.root / "store"
        self.scratch = self.root / "scratch"
        self._log_path = self.root / "progress.jsonl"
        with os_errors(target):
            self._lock = _lock(self.root)
            try:
                self._restore_replaced()
                self.records = self._resume(header)
                self._log = self._log_path.open("ab")
            except BaseException:
                os.close(self._lock)
                raise

    def record(self, record: dict[str, Any]) -> None:
        """Note something finished; it survives this process."""
        with os_errors(self.target):
            self._log.write(_line(record))
            self._log.flush()
        self.records.append(record)

    def forget(self, count: int) -> None:
        """Drop all but the first ``count`` records and every file that they do not list."""
        with os_errors(self.target):
            self._log.truncate(sum(len(_line(record)) for record in (self._header, *self.records[:count])))
            del self.records[count:]
            self._remove_unlisted()

    def publish(self, *, overwrite: bool) -> None:
        """Rename the finished store to its final name and remove what is left.

        Parameters
        ----------
        overwrite : bool
            Whether an existing store gives way.

        Raises
        ------
        StoreError
            If the name is taken, or the file system refuses.
        """
        replaced = self.root / "replaced"
        with os_errors(self.target):
            _sync_tree(self.store)
            if self.target.exists():
                require_free(self.target, overwrite=overwrite)
                self.target.rename(replaced)
            try:
                self.store.rename(self.target)
            except OSError:
                if replaced.exists():
                    replaced.rename(self.target)
                raise
            _sync(self.target.parent)
        self.remove()

    def holds_work(self) -> bool:
        """Whether there is anything that a later run can build on."""
        return any("files" in record for record in self.records) or any(self.scratch.iterdir())

    def release(self) -> None:
        """Let go of the folder; it stays for a later run, unless nothing in it was finished."""
        if self._log.closed:
            return
        if not self.holds_work():
            self.remove()
        else:
            self._log.close()
            os.close(self._lock)

    def remove(self) -> None:
        """Remove the folder."""
        if not self._log.closed:
            shutil.rmtree(self.root, ignore_errors=True)
            self._log.close()
            os.close(self._lock)

    def _restore_replaced(self) -> None:
        # A run was killed between moving the old store aside and moving the new one in.
        replaced = self.root / "replaced"
        if replaced.exists() and not self.target.exists():
            replaced.rename(self.target)

    def _resume(self, header: dict[str, Any]) -> list[dict[str, Any]]:
        header = self._header = json.loads(_line(header))
        self.store.mkdir(exist_ok=True)
        found = list(self._read_log())
        if not found or found[0] != header:
            found = [header]
            shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(exist_ok=True)
        self.records = found[1:]
        temporary = self._log_path.with_suffix(".new")
        temporary.write_bytes(b"".join(_line(record) for record in found))
        temporary.replace(self._log_path)
        self._remove_unlisted()
        return self.records

    def _read_log(self) -> Iterator[dict[str, Any]]:
        with suppress(FileNotFoundError, ValueError, AttributeError), self._log_path.open("rb") as log:
            for line in log:
                record = json.loads(line)
                if not line.endswith(b"\n") or not self._is_intact(record.get("files", {})):
                    return
                yield record

    def _is_intact(self, files: dict[str, str]) -> bool:
        for name, digest in files.items():
            try:
                with (self.store / name).open("rb") as stream:
                    if sha256_of(stream) != digest:
                        return False
            except FileNotFoundError:
                return False
        return True

    def _remove_unlisted(self) -> None:
        listed = {name for record in self.records for name in record.get("files", {})}
        for path in self.store.rglob("*"):
            if path.is_file() and path.relative_to(self.store).as_posix() not in listed:
                path.unlink()


def require_free(target: Path, *, overwrite: bool) -> None:
    """Refuse a final name that is taken by something that must not be replaced.

    Parameters
    ----------
    target : Path
        Final folder of the store.
    overwrite : bool
        Whether a finished store there gives way.

    Raises
    ------
    StoreError
        If the name is taken.
    """
    if not os.path.lexists(target):
        return
    if not is_complete(target):
        raise StoreError(f"{target}: exists and is not a priors store; move it away or choose another name")
    if not overwrite:
        raise StoreError(f"{target}: a finished store exists; allow overwriting or choose another name")


def sweep(folder: str | os.PathLike[str], *, keep_resumable: bool = True) -> list[Path]:
    """Remove temporary folders that no process is writing.

    Parameters
    ----------
    folder : str or path
        Folder whose stores to look at; not searched recursively.
    keep_resumable : bool
        Keep the temporaries of stores that are not finished yet.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    for root in sorted(Path(folder).glob(f"{_PREFIX}*.zarr{_SUFFIX}")):
        target = root.with_name(root.name[len(_PREFIX) : -len(_SUFFIX)])
        # Holds the only copy of a store that was about to be replaced: opening it for writing moves it back.
        holds_old_store = (root / "replaced").exists() and not target.exists()
        if holds_old_store or (keep_resumable and not is_complete(target)):
            continue
        try:
            lock = _lock(root)
        except (OSError, StoreError):
            continue
        shutil.rmtree(root, ignore_errors=True)
        os.close(lock)
        removed.append(root)
    return removed


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _lock(root: Path) -> int:
    path = root / "lock"
    while True:
        root.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its owner finished and removed the folder in between
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(descriptor, path):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreError(f"{root}: another process is writing this store; wait for it or stop it") from error
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        _sync(path)
    _sync(root)
