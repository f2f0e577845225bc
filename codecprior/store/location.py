"""Where a store lies: a local folder or any fsspec URL, as files with relative names; and how one gets to a URL."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs

from codecprior.errors import CorruptStoreError, SchemaError, StoreError, StoreNotFoundError
from codecprior.store.schema import ATTRIBUTES_KEY, CHECKSUMS_FILE, METADATA_FILE

__all__ = ["Location", "is_complete", "is_url", "publish", "sha256_of"]


def is_url(target: str | os.PathLike[str]) -> bool:
    """Whether a target is an fsspec URL such as ``s3://bucket/clip.zarr`` and not a local path."""
    text = os.fspath(target)
    return "://" in text and not text.startswith(("file://", "local://"))


class Location:
    """The folder of a store, local or remote.

    Parameters
    ----------
    target : str or path
        Local path or fsspec URL.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self.target = os.fspath(target).rstrip("/") or "/"
        self.is_local = not is_url(self.target)
        try:
            self._fs, self._root = url_to_fs(self.target)
        except (ImportError, ValueError) as error:
            raise StoreError(f"{self.target}: {error}") from error
        self._root = self._root.rstrip("/")

    def __str__(self) -> str:
        return self.target

    def __reduce__(self) -> tuple[type[Location], tuple[str]]:
        return Location, (self.target,)

    @property
    def path(self) -> Path:
        """The local folder; only for a local store."""
        return Path(self._root)

    def read_bytes(self, name: str) -> bytes:
        """Content of a file; raises FileNotFoundError where there is none and StoreError where it cannot be read."""
        try:
            data: bytes = self._fs.cat_file(f"{self._root}/{name}")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(f"{self}/{name}") from error
        except Exception as error:  # each fsspec backend has its own exceptions
            raise StoreError(f"{self}: cannot read {name}: {error}") from error
        return data

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        stream: IO[bytes] = self._fs.open(f"{self._root}/{name}", "rb")
        return stream

    def files(self, folder: str = "") -> dict[str, int]:
        """List all files below a folder.

        Parameters
        ----------
        folder : str
            Folder relative to the location.

        Returns
        -------
        dict of str to int
            Size in bytes by name relative to the location.
        """
        base = f"{self._root}/{folder}" if folder else self._root
        # Remote listings are cached by fsspec; a store may have been written since.
        self._fs.invalidate_cache()
        found: dict[str, dict[str, Any]] = self._fs.find(base, detail=True)
        skip = len(self._root) + 1
        return {name[skip:]: int(facts["size"]) for name, facts in found.items()}

    def checksums(self) -> dict[str, str]:
        """Read the list of all files of a finished store.

        Returns
        -------
        dict of str to str
            SHA-256 by file name.

        Raises
        ------
        CorruptStoreError
            If the list is missing or unreadable.
        """
        try:
            lines = self.read_bytes(CHECKSUMS_FILE).decode().splitlines()
            digests = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        except FileNotFoundError as error:
            raise CorruptStoreError(f"{self}: {CHECKSUMS_FILE} is missing; extract again") from error
        except ValueError as error:
            raise CorruptStoreError(f"{self}: {CHECKSUMS_FILE} is damaged; extract again") from error
        if METADATA_FILE not in digests:
            raise CorruptStoreError(f"{self}: {CHECKSUMS_FILE} is truncated; extract again")
        return digests

    def group_attributes(self, group: str = "") -> dict[str, Any]:
        """Read the attributes of a group.

        Parameters
        ----------
        group : str
            Sub-group, empty for the store itself.

        Returns
        -------
        dict
            What lies under the key ``codecprior``.

        Raises
        ------
        StoreNotFoundError
            If there is no Zarr group.
        CorruptStoreError
            If the metadata is no JSON.
        SchemaError
            If the group belongs to something else.
        """
        name = f"{group}/{METADATA_FILE}" if group else METADATA_FILE
        try:
            document = json.loads(self.read_bytes(name))
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"{self}: no priors store here ({name} is missing)") from error
        except ValueError as error:
            raise CorruptStoreError(f"{self}: {name} is damaged ({error}); extract again") from error
        attributes = document.get("attributes", {}) if isinstance(document, dict) else {}
        if not isinstance(attributes, dict) or not isinstance(attributes.get(ATTRIBUTES_KEY), dict):
            raise SchemaError(f"{self}: {name} has no {ATTRIBUTES_KEY!r} attributes; it was not written by codecprior")
        found: dict[str, Any] = attributes[ATTRIBUTES_KEY]
        return found


def is_complete(target: str | os.PathLike[str]) -> bool:
    """Whether a finished store lies at a path or URL.

    Parameters
    ----------
    target : str or path
        Local path or fsspec URL.

    Returns
    -------
    bool
        False as well where there is nothing, or something else.
    """
    try:
        return Location(target).group_attributes().get("complete") is True
    except (StoreNotFoundError, SchemaError, CorruptStoreError):
        return False


def publish(source: str | os.PathLike[str], url: str, *, overwrite: bool = False) -> None:
    """Upload a finished local store.

    The metadata that says "complete" goes last, and is removed first where a store is replaced, so that an interrupted
    upload never looks finished.

    Parameters
    ----------
    source : str or path
        Local folder of the store.
    url : str
        fsspec URL to put it at.
    overwrite : bool
        Replace what a finished store at the URL holds.

    Raises
    ------
    StoreError
        If a finished store is there already, or the upload fails.
    """
    local = Location(source)
    if not is_complete(source):
        raise StoreError(f"{local}: not a finished store, cannot be uploaded")
    if not overwrite and is_complete(url):
        raise StoreError(f"{url}: a finished store exists; allow overwriting or choose another name")
    names = [*local.checksums(), CHECKSUMS_FILE]
    names.remove(METADATA_FILE)
    try:
        fs, root = url_to_fs(url.rstrip("/"))
        root = root.rstrip("/")
        fs.invalidate_cache()
        if fs.exists(f"{root}/{METADATA_FILE}"):
            fs.rm_file(f"{root}/{METADATA_FILE}")
        stale = [name for name in Location(url).files() if name not in names] if fs.exists(root) else []
        if stale:
            fs.rm([f"{root}/{name}" for name in stale])
        fs.put([str(local.path / name) for name in names], [f"{root}/{name}" for name in names])
        fs.put_file(str(local.path / METADATA_FILE), f"{root}/{METADATA_FILE}")
        fs.invalidate_cache()
    except StoreError:
        raise
    except Exception as error:  # each fsspec backend has its own exceptions
        reason = str(error) or type(error).__name__
        raise StoreError(f"{url}: upload failed ({reason}); {local} is kept, run the same command again") from error


def sha256_of(stream: IO[bytes]) -> str:
    """SHA-256 of what is left of a stream, as hexadecimal digits."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
