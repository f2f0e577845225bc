"""Files by name and content: what kind of input a name promises, natural order, digests; files written whole."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from codecprior.errors import CodecpriorError, MediaError
from codecprior.media.source import SourceKind

__all__ = ["EXTENSIONS", "kind_of", "natural_key", "sha256_file", "sha256_files", "writing", "written_whole"]

EXTENSIONS: Final[dict[SourceKind, tuple[str, ...]]] = {
    "images": (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
    "video": (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".m2v", ".vob"),
        *(".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".nut", ".ivf", ".obu", ".h264", ".264", ".avc", ".h265", ".265"),
        *(".hevc",),
    ),
    "raw": (".yuv", ".y4m"),
    "bitstream": (".266", ".h266", ".vvc", ".bit"),
}
"""File name extensions that are taken as input, in lower case, by what they promise."""

_HASH_BLOCK_BYTES: Final = 1 << 20


def kind_of(path: Path) -> SourceKind | None:
    """Return what the extension of a file promises.

    Parameters
    ----------
    path : pathlib.Path
        File; it need not exist.

    Returns
    -------
    SourceKind or None
        None for an extension that is no input. A ``"video"`` may still turn out to carry VVC.
    """
    extension = path.suffix.lower()
    return next((kind for kind, extensions in EXTENSIONS.items() if extension in extensions), None)


def natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key that puts ``frame_9`` before ``frame_10``.

    Parameters
    ----------
    name : str
        File or folder name.

    Returns
    -------
    tuple
        Comparable with the keys of other names; equal only for equal names.
    """
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(not number, int(number or 0), text) for number, text in parts], name


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, reading it block by block.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    MediaError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def sha256_files(paths: Iterable[Path]) -> str:
    """Return a SHA-256 over the names and contents of files.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        Files; their order counts.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    MediaError
        If a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{sha256_file(path)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the file system into one that names what is written.

    Parameters
    ----------
    path : pathlib.Path
        File or folder.

    Raises
    ------
    MediaError
        If something cannot be written.
    """
    try:
        yield
    except CodecpriorError:
        raise
    except OSError as error:
        raise MediaError(f"{path}: cannot be written ({error.strerror or error}); choose another output") from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name on the same file system and move the file to ``path`` when the block ends without error.

    Parameters
    ----------
    path : pathlib.Path
        Final name; missing folders are made.

    Yields
    ------
    pathlib.Path
        Where to write.

    Raises
    ------
    MediaError
        If something cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            partial = Path(folder) / path.name
            yield partial
            partial.replace(path)
