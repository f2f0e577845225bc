"""From a path to what reads it: by content first, by extension where content does not tell."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from codecprior.errors import MediaError
from codecprior.media.bitstream import BitstreamSource, is_annex_b
from codecprior.media.container import video_codec
from codecprior.media.files import EXTENSIONS, kind_of
from codecprior.media.images import ImageFolder
from codecprior.media.raw import RawFormat, RawVideo
from codecprior.media.source import FrameSource
from codecprior.media.video import VideoFile
from codecprior.media.y4m import Y4MVideo, is_y4m

__all__ = ["open_frames", "open_source"]

_HEAD_BYTES = 4096


def open_source(
    path: str | Path, *, raw: RawFormat | None = None, frame_rate: Fraction | None = None
) -> FrameSource | BitstreamSource:
    """Open frames to be encoded or a VVC stream to be decoded.

    Parameters
    ----------
    path : path-like
        Folder of pictures, video file, raw planar file or VVC stream.
    raw : RawFormat, optional
        Layout of a ``.yuv`` file where its name does not tell or is wrong.
    frame_rate : fractions.Fraction, optional
        Frames per second of an input that does not state them, such as a folder of pictures.

    Returns
    -------
    FrameSource or BitstreamSource
        Frames, or the coded stream where the file is VVC already.

    Raises
    ------
    MediaError
        If there is nothing to read at the path, or it is no input of any kind or broken.
    BitstreamError
        If a file that should be VVC is not.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return ImageFolder(path, frame_rate=frame_rate)
        return _open_file(path, raw, frame_rate)
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file or folder") from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from error


def open_frames(path: str | Path, *, raw: RawFormat | None = None, frame_rate: Fraction | None = None) -> FrameSource:
    """Open frames, and nothing else.

    Parameters
    ----------
    path : path-like
        Folder of pictures, video file or raw planar file.
    raw : RawFormat, optional
        Layout of a ``.yuv`` file where its name does not tell or is wrong.
    frame_rate : fractions.Fraction, optional
        Frames per second of an input that does not state them.

    Returns
    -------
    FrameSource
        The frames.

    Raises
    ------
    MediaError
        If there is nothing to read at the path, or it is VVC or no input of any kind or broken.
    """
    source = open_source(path, raw=raw, frame_rate=frame_rate)
    if isinstance(source, BitstreamSource):
        raise MediaError(f"{path}: is a VVC stream; decode it and give its frames")
    return source


def _open_file(path: Path, raw: RawFormat | None, frame_rate: Fraction | None) -> FrameSource | BitstreamSource:
    kind = kind_of(path)
    if kind is None:
        accepted = ", ".join(extension for extensions in EXTENSIONS.values() for extension in extensions)
        raise MediaError(
            f"{path}: extension {path.suffix or '(none)'} is no input; use a folder of pictures or {accepted}"
        )
    if path.exists() and not path.is_file():
        raise MediaError(f"{path}: is no regular file; give a file or a folder of pictures")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise MediaError(f"{path}: is empty")
    if kind == "images":
        raise MediaError(f"{path}: is a single picture; give the folder that holds the frames")
    if is_y4m(head) or path.suffix.lower() == ".y4m":
        return Y4MVideo(path, frame_rate=frame_rate)
    if kind == "raw":
        return RawVideo(path, raw, frame_rate=frame_rate)
    if kind == "bitstream" or is_annex_b(head) or video_codec(path) == "vvc":
        return BitstreamSource(path, frame_rate=frame_rate)
    return VideoFile(path)
