"""The temporary folder of a store that is being written: exclusive, resumable, and renamed into place at the end.

``.clip.zarr.partial/`` lies beside ``clip.zarr`` and holds ``store/`` (what becomes the store), ``scratch/`` (what its
maker wants to find again), ``lock`` and ``progress.jsonl``: one line per finished shard, appended once the shard is
whole. A line that was cut off, or whose files do not have the digests it lists, ends the part that a resumed run builds
on. A store at a URL is written in a folder of this machine and uploaded at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from codecprior.errors import CodecpriorError, StoreError
from codecprior.store.location import Location, is_complete, is_url, publish, sha256_of
from codecprior.store.schema import CHECKSUMS_FILE, METADATA_FILE

__all__ = ["Partial", "os_errors", "partial_path", "sweep"]

_PREFIX, _SUFFIX = ".", ".partial"
_SYNC_THREADS: Final = 16
_LOCK = "lock"


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
    target : str or path
        Final folder of the store, or an fsspec URL.
    header : dict
        JSON values that say what is being written. A folder with another header starts from nothing.
    overwrite : bool
        Whether a finished store at the target gives way.

    Attributes
    ----------
    name : str
        The target, for messages.
    records : list of dict
        What was noted as done, in that order: the start of each pass and its finished shards.

    Raises
    ------
    StoreError
        If the target is taken, another process is writing the same store, or the folder cannot be written.
    """

    def __init__(self, target: str | os.PathLike[str], header: dict[str, Any], *, overwrite: bool = False) -> None:
        self.name = os.fspath(target)
        self._url = self.name if is_url(target) else None
        if self._url is not None and not overwrite and is_complete(self._url):
            raise StoreError(f"{self._url}: a finished store exists; allow overwriting or choose another name")
        self.target = target = Location(target).path if self._url is None else _staging(self._url)
        self.root = partial_path(target)
        self.store = self.root / "store"
        self.scratch = self.root / "scratch"
        self._log_path = self.root / "progress.jsonl"
        self._replaced = self.root / "replaced"
        self._overwrite = overwrite
        self._header = json.loads(_line(header))
        with os_errors(target):
            self._require_free()
            self._lock: int | None = _lock(self.root)
            try:
                self._restore_replaced()
                self._require_free()
                self._resume()
            except BaseException:
                self._unlock()
                raise

    def record(self, record: dict[str, Any]) -> None:
        """Note something finished; it survives this process."""
        with os_errors(self.target), self._log_path.open("ab") as log:
            log.write(_line(record))
        self.records.append(record)

    def forget(self, count: int) -> None:
        """Drop all but the first ``count`` records and every file that they do not list."""
        with os_errors(self.target):
            os.truncate(self._log_path, sum(len(_line(record)) for record in (self._header, *self.records[:count])))
            del self.records[count:]
            self._remove_unlisted()

    def complete(self, metadata: bytes) -> None:
        """Write the metadata that says that the store is complete, and the list of its files.

        Parameters
        ----------
        metadata : bytes
            Content of the group's metadata file.
        """
        digests = {METADATA_FILE: hashlib.sha256(metadata).hexdigest()}
        known = {name: digest for record in self.records for name, digest in record.get("files", {}).items()}
        for path in self.store.rglob("*"):
            name = path.relative_to(self.store).as_posix()
            if path.is_file() and name not in (METADATA_FILE, CHECKSUMS_FILE):
                digests[name] = known.get(name) or hashlib.sha256(path.read_bytes()).hexdigest()
        (self.store / CHECKSUMS_FILE).write_text("".join(f"{digests[name]}  {name}\n" for name in sorted(digests)))
        (self.store / METADATA_FILE).write_bytes(metadata)

    def publish(self) -> None:
        """Give the finished store its final name, or upload it, and remove what is left.

        Raises
        ------
        StoreError
            If the name is taken, the file system refuses, or the upload fails.
        """
        if self._url is not None:
            publish(self.store, self._url, overwrite=self._overwrite)
            self.remove()
            return
        with os_errors(self.target):
            _sync_tree(self.store)
            self._require_free()
            if self.target.exists():
                self.target.rename(self._replaced)
            try:
                self.store.rename(self.target)
            except OSError:
                if os.path.lexists(self._replaced):
                    self._replaced.rename(self.target)
                raise
            _sync(self.target.parent)
        self.remove()

    @property
    def held(self) -> bool:
        """Whether the folder is still this object's."""
        return self._lock is not None

    def holds_work(self) -> bool:
        """Whether there is anything that a later run can build on."""
        return any("files" in record for record in self.records) or any(self.scratch.glob("*"))

    def release(self) -> None:
        """Let go of the folder; it stays for a later run, unless nothing in it was finished."""
        if self.held and not self.holds_work():
            self.remove()
        self._unlock()

    def remove(self) -> None:
        """Remove the folder and let go of it."""
        _discard(self.root)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _require_free(self) -> None:
        if not os.path.lexists(self.target):
            return
        if not is_complete(self.target):
            raise StoreError(f"{self.target}: exists and is not a priors store; move it away or choose another name")
        if not self._overwrite:
            raise StoreError(f"{self.target}: a finished store exists; allow overwriting or choose another name")

    def _restore_replaced(self) -> None:
        # A run was stopped between moving the old store aside and removing it.
        if not os.path.lexists(self._replaced):
            return
        if os.path.lexists(self.target):
            _remove(self._replaced)
        else:
            self._replaced.rename(self.target)

    def _resume(self) -> None:
        self.store.mkdir(exist_ok=True)
        found = list(self._read_log())
        if not found or found[0] != self._header:
            found = [self._header]
            if self.scratch.exists():  # gone before the log says that what it holds belongs to this header
                _remove(self.scratch)
        self.scratch.mkdir(exist_ok=True)
        temporary = self._log_path.with_suffix(".new")
        temporary.write_bytes(b"".join(_line(record) for record in found))
        temporary.replace(self._log_path)
        self.records: list[dict[str, Any]] = found[1:]
        self._remove_unlisted()

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
        for path in sorted(self.store.rglob("*"), reverse=True):  # what a folder holds before the folder
            if path.is_dir():
                with suppress(OSError):  # not empty
                    path.rmdir()
            elif path.relative_to(self.store).as_posix() not in listed:
                path.unlink()


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
        _discard(root)
        os.close(lock)
        removed.append(root)
    return removed


def _staging(url: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"codecprior-{os.getuid()}"
    with os_errors(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.getuid():
            raise StoreError(f"{folder}: belongs to another user; set TMPDIR to a folder of your own")
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.zarr"


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _lock(root: Path) -> int:
    path = root / _LOCK
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


def _discard(root: Path) -> None:
    """Remove a locked folder as far as possible; the lock goes last, so that its next owner loses nothing."""
    with suppress(OSError):
        for path in [path for path in root.iterdir() if path.name != _LOCK]:
            _remove(path)
        (root / _LOCK).unlink()
        root.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


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
    # Side by side, so that the file system can commit many at a time.
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        for _ in pool.map(_sync, [*root.rglob("*"), root]):
            pass
