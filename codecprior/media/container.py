"""Opening video files with PyAV: one message per failure, and a check that the file is as long as it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from codecprior.errors import MediaError

__all__ = ["VideoTrack", "check_whole", "opened_track", "video_codec"]

_EBML_SIGNATURE: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID: Final = b"\x18\x53\x80\x67"
_RIFF_SIGNATURE: Final = b"RIFF"
_HEAD_BYTES: Final = 4096


class VideoTrack(NamedTuple):
    """An open file and its main video track."""

    container: InputContainer
    stream: VideoStream


@contextmanager
def opened_track(path: Path) -> Iterator[VideoTrack]:
    """Open a video file and find its main video track.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Yields
    ------
    VideoTrack
        The container and the track, closed at the end of the block.

    Raises
    ------
    MediaError
        If the file is no video, or an FFmpeg error happens inside the block.
    """
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise MediaError(f"{path}: has no video track")
            if (
                getattr(stream.codec_context, "codec", None) is None
            ):  # PyAV's annotation knows no track without a decoder
                raise MediaError(f"{path}: is coded with something that FFmpeg cannot decode; convert it first")
            yield VideoTrack(container, stream)
    except av.FFmpegError as error:
        raise MediaError(f"{path}: cannot be read as video ({error.strerror}); it is damaged or no video") from error


def video_codec(path: Path) -> str:
    """Return FFmpeg's name of the codec of the main video track.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    str
        Such as ``"h264"`` or ``"vvc"``.

    Raises
    ------
    MediaError
        If the file is no video.
    """
    with opened_track(path) as (_, stream):
        return stream.codec_context.name


def check_whole(path: Path) -> None:
    """Refuse a Matroska, WebM or AVI file that is shorter than its header says.

    FFmpeg plays what is left of such files without a word; for other formats it marks the last packet as corrupt.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Raises
    ------
    MediaError
        If bytes are missing at the end.
    """
    with path.open("rb") as file:
        declared = _declared_size(file.read(_HEAD_BYTES))
    size_bytes = path.stat().st_size
    if declared > size_bytes:
        raise MediaError(f"{path}: is truncated: {size_bytes} of {declared} bytes are there; copy it again")


def _declared_size(head: bytes) -> int:
    """Bytes that the file must have at least; 0 where the header does not say."""
    if head.startswith(_RIFF_SIGNATURE):
        return 8 + int.from_bytes(head[4:8], "little")
    at = head.find(_SEGMENT_ID)
    if not head.startswith(_EBML_SIGNATURE) or at < 0:
        return 0
    at += len(_SEGMENT_ID)
    # An EBML size has as many leading zero bits as it has further bytes; all value bits set means "unknown".
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & ((1 << (7 * length)) - 1)
    return 0 if value == (1 << (7 * length)) - 1 else at + length + value
