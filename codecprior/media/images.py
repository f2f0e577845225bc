"""A folder of pictures as a sequence: natural order of names, one size, every file checked to be whole."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from codecprior.errors import ConfigError, MediaError
from codecprior.media.ahead import map_ahead
from codecprior.media.convert import bgr_to_yuv420, describe_conversion, pad_to_even
from codecprior.media.files import EXTENSIONS, natural_key, sha256_files
from codecprior.media.frame import Frame, Plane
from codecprior.media.source import DEFAULT_FRAME_RATE, FrameSource, SourceInfo, pass_order

__all__ = ["ImageFolder", "decode_picture", "list_images", "picture_size", "read_picture"]

_GREY, _BGR, _BGRA = 2, 3, 4
"""Axes of a grey picture; channels of coloured ones."""
_PNG_SIGNATURE, _JPEG_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7\x01])")
"""Next marker that is neither a stuffed byte nor a restart."""
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the header that has the size (Rec. ITU-T T.81, Table B.1)."""
_JPEG_EXIF = b"Exif\0"
_HEADER_BYTES = 1 << 16
"""How much of a file is searched for its size; what lies further back is metadata of unusual length."""


def list_images(folder: Path) -> list[Path]:
    """Return the pictures that lie directly in a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Folder.

    Returns
    -------
    list of pathlib.Path
        Files with the extension of a picture, hidden ones left out, in natural order of their names.
    """
    files = (path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS["images"])
    return sorted(
        (path for path in files if not path.name.startswith(".") and not path.is_dir()),
        key=lambda path: natural_key(path.name),
    )


class ImageFolder(FrameSource):
    """Frames from the pictures of a folder.

    Grey and coloured pictures with 8 or 16 bit are taken as full range R'G'B'; alpha is dropped, which
    ``info.conversion`` tells. The orientation that a JPEG's Exif data asks for is applied.

    Parameters
    ----------
    path : path-like
        Folder.
    frame_rate : fractions.Fraction, optional
        Frames per second; 30 is assumed where it is not given.

    Raises
    ------
    MediaError
        If there are no pictures, if two share a name but for the extension, or if the first is unreadable.
    """

    def __init__(self, path: str | Path, *, frame_rate: Fraction | None = None) -> None:
        path = Path(path)
        self._files = list_images(path)
        if not self._files:
            raise MediaError(f"{path}: holds no pictures; frames are files ending in {', '.join(EXTENSIONS['images'])}")
        stems: dict[str, Path] = {}
        for file in self._files:
            other = stems.setdefault(file.stem, file)
            if other != file:
                raise MediaError(f"{path}: holds both {other.name} and {file.name}; keep one picture per frame")
        first = read_picture(self._files[0])
        self._shape, self._dtype = first.shape[:2], first.dtype
        alpha = first.ndim > _GREY and first.shape[2] == _BGRA
        bit_depth = 8 * first.dtype.itemsize
        super().__init__(
            SourceInfo(
                path=path,
                kind="images",
                width=first.shape[1],
                height=first.shape[0],
                bit_depth=bit_depth,
                chroma_format="rgb",
                frame_rate=frame_rate or DEFAULT_FRAME_RATE,
                frame_rate_from="option" if frame_rate else "assumed",
                num_frames=len(self._files),
                num_frames_from="files",
                color_range="limited",
                color_matrix="bt709",
                conversion=describe_conversion("rgb", bit_depth, alpha=alpha),
            )
        )

    @property
    def names(self) -> tuple[str, ...]:
        """File names in display order."""
        return tuple(file.name for file in self._files)

    def pictures(self, *, start: int = 0, stop: int | None = None) -> Iterator[Plane]:
        """Read pictures as they are, in display order.

        Parameters
        ----------
        start : int
            First picture.
        stop : int, optional
            Picture behind the last one; the end if not given.

        Returns
        -------
        iterator of ndarray, shape (H, W, 3), uint8 or uint16
            Red, green, blue; without alpha.

        Raises
        ------
        ConfigError
            If ``start`` is negative.
        MediaError
            While iterating, if a picture cannot be read or differs from the first in size or bit depth.
        """
        if start < 0:
            raise ConfigError(f"start {start}: give the number of frames to leave out, 0 or more")
        wanted = range(len(self._files))[start : stop if stop is None else max(0, stop)]
        return map_ahead(lambda index: cv2.cvtColor(self._read(index), cv2.COLOR_BGR2RGB), wanted)

    def _frames(self, start: int, reverse: bool) -> Iterator[Frame]:
        return map_ahead(self._load, pass_order(len(self._files), start, reverse))

    def digest(self) -> str:
        """Return the SHA-256 over names and contents of the pictures."""
        return sha256_files(self._files)

    def _load(self, index: int) -> Frame:
        y, u, v = pad_to_even(bgr_to_yuv420(self._read(index)))
        return Frame(y=y, u=u, v=v, pts_seconds=float(index / self.info.frame_rate))

    def _read(self, index: int) -> Plane:
        """Decode a picture to blue, green, red and compare it with the first."""
        file, first = self._files[index], self._files[0]
        picture = read_picture(file)
        if picture.shape[:2] != self._shape or picture.dtype != self._dtype:
            raise MediaError(
                f"{file}: is {_describe(picture.shape[:2], picture.dtype)} but {first.name} is "
                f"{_describe(self._shape, self._dtype)}; all frames of a sequence need one size and bit depth"
            )
        return _to_bgr(picture)


def _describe(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> str:
    return f"{shape[1]}x{shape[0]} with {8 * dtype.itemsize} bit"


def picture_size(file: Path) -> tuple[int, int]:
    """Return the size of a picture, from its header where that tells.

    Parameters
    ----------
    file : pathlib.Path
        PNG, JPEG, BMP or TIFF. What follows the header of the first two is not read, unless a JPEG may be rotated.

    Returns
    -------
    width, height : int
        Size in samples as :func:`read_picture` gives it.

    Raises
    ------
    MediaError
        If the file cannot be read or is no picture.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise MediaError(f"{file}: cannot be read ({error.strerror})") from error
    size = None
    if head.startswith(_PNG_SIGNATURE) and head[12:16] == b"IHDR":
        size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif head.startswith(_JPEG_SIGNATURE):
        size = _jpeg_size(head)
    if size and all(size):
        return size
    height, width = read_picture(file).shape[:2]
    return width, height


def read_picture(file: Path) -> Plane:
    """Decode a picture and check that its file is whole.

    Parameters
    ----------
    file : pathlib.Path
        PNG, JPEG, BMP or TIFF; the orientation that a JPEG's Exif data asks for is applied.

    Returns
    -------
    ndarray, shape (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16
        Grey, BGR or BGRA.

    Raises
    ------
    MediaError
        If the file cannot be read or decoded, is truncated, or has samples of another type.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise MediaError(f"{file}: cannot be read ({error.strerror})") from error
    return decode_picture(data, str(file))


def decode_picture(data: bytes, file: str) -> Plane:
    """Decode the content of a file as :func:`read_picture` does.

    Parameters
    ----------
    data : bytes
        The whole file.
    file : str
        Its name, for messages.

    Returns
    -------
    ndarray, shape (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16
        Grey, BGR or BGRA.

    Raises
    ------
    MediaError
        If it cannot be decoded, is truncated, or has samples of another type.
    """
    if not data:
        raise MediaError(f"{file}: is empty; replace or remove it")
    if not _is_whole(data):
        raise MediaError(f"{file}: is truncated or damaged; replace or remove it")
    # Only the JPEG reader knows an orientation, and only this flag makes it apply it.
    flags = cv2.IMREAD_ANYCOLOR if data.startswith(_JPEG_SIGNATURE) else cv2.IMREAD_UNCHANGED
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise MediaError(f"{file}: cannot be decoded ({error.err})") from error
    if picture is None:
        raise MediaError(f"{file}: is no picture that can be decoded; expected PNG, JPEG, BMP or TIFF content")
    if picture.dtype not in (np.uint8, np.uint16) or (picture.ndim > _GREY and picture.shape[2] not in (_BGR, _BGRA)):
        raise MediaError(f"{file}: has samples of type {picture.dtype}{list(picture.shape[2:])}; 8 and 16 bit are read")
    return picture


def _to_bgr(picture: Plane) -> Plane:
    if picture.ndim == _GREY:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR) if picture.shape[2] == _BGRA else picture


def _is_whole(data: bytes) -> bool:
    """Whether PNG chunks carry their checksums and JPEG markers reach the end of the image; True for other formats.

    Decoders show what they got of a cut-off JPEG, in grey, and PNG readers print to stderr.
    """
    if data.startswith(_PNG_SIGNATURE):
        return _png_is_whole(data)
    if data.startswith(_JPEG_SIGNATURE):
        return _jpeg_is_whole(data)
    return True


def _png_is_whole(data: bytes) -> bool:
    position, view = len(_PNG_SIGNATURE), memoryview(data)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        stored = data[end : end + 4]
        if stored != zlib.crc32(view[position + 4 : end]).to_bytes(4, "big"):
            return False
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position = end + 4
    return False


def _jpeg_is_whole(data: bytes) -> bool:
    position = len(_JPEG_SIGNATURE)
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found.group(1)[0], found.end()
        if marker == _JPEG_END:
            return True
        position += int.from_bytes(data[position : position + 2], "big")
    return False


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Find the size in the beginning of a JPEG; None where it is not there, or Exif data may turn the picture."""
    position = len(_JPEG_SIGNATURE)
    while found := _JPEG_MARKER.search(head, position):
        marker, position = found.group(1)[0], found.end()
        segment = head[position : position + 7]
        if marker in _JPEG_FRAMES and len(segment) == 7:
            return int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[3:5], "big")
        if segment[2:] == _JPEG_EXIF or marker in (_JPEG_SCAN, _JPEG_END):
            break
        position += int.from_bytes(segment[:2], "big")
    return None
