"""Frames of a video file through PyAV: untouched where they are 4:2:0, in both directions, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.frame import VideoFrame

from codecprior.errors import MediaError
from codecprior.media.container import check_whole, opened_track
from codecprior.media.convert import describe_conversion, pad_to_even
from codecprior.media.files import sha256_file
from codecprior.media.frame import Frame
from codecprior.media.pixels import parse_pixel_format, read_planes
from codecprior.media.source import DEFAULT_FRAME_RATE, FrameSource, Provenance, SourceInfo
from codecprior.media.timeline import Window, read_timeline

__all__ = ["VideoFile"]

_WINDOW_BYTES: Final = 128 << 20
"""Frames that a backward pass holds at most."""
_QUARTER_TURN: Final = 90
_MATRIX_NAMES: Final = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
"""MatrixCoefficients of Rec. ITU-T H.273."""
_RANGE_NAMES: Final = {1: "limited", 2: "full"}
"""FFmpeg's AVColorRange."""


class VideoFile(FrameSource):
    """Frames of a video file, none dropped and none repeated.

    Planar 4:2:0 with 8 or 10 bit is given as decoded, other formats are converted as ``info.conversion`` tells.
    Rotation in steps of 90 degrees that the file asks for is applied. Where the frame rate varies, frames come as they
    are, with their times.

    A backward pass decodes from key frame to key frame, last one first, and holds at most 128 MiB of frames, decoding a
    long group of pictures several times instead. Files without usable time stamps (raw H.264, for instance) are decoded
    from their beginning for every 128 MiB.

    Parameters
    ----------
    path : path-like
        File.

    Raises
    ------
    MediaError
        If the file is no video, has no frame, is truncated, or has a pixel format or rotation that is not read.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        check_whole(path)
        self._path = path
        first = next(self._decode(), None)
        if first is None:
            raise MediaError(f"{path}: holds no frame that can be decoded")
        try:
            pixels = parse_pixel_format(first)
        except MediaError as error:
            raise MediaError(f"{path}: {error}") from error
        if first.rotation % _QUARTER_TURN:
            raise MediaError(
                f"{path}: asks to be rotated by {first.rotation} degrees; only multiples of 90 are applied"
            )
        self._pixels = pixels
        self._decoded_size = first.width, first.height
        self._quarter_turns = first.rotation // _QUARTER_TURN % 4
        self._timeline = read_timeline(path)
        super().__init__(self._gather_info(first))

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        return sha256_file(self._path)

    def _gather_info(self, first: VideoFrame) -> SourceInfo:
        pixels, timeline = self._pixels, self._timeline
        size = self._decoded_size
        width, height = size[::-1] if self._quarter_turns % 2 else size
        mean_rate = timeline.mean_rate if timeline.is_variable else None
        rate_from: Provenance = "packets" if mean_rate else "header" if timeline.header_rate else "assumed"
        rgb = pixels.chroma_format == "rgb"
        notes = (
            describe_conversion(
                pixels.chroma_format, pixels.bit_depth, alpha=pixels.alpha, interlaced=first.interlaced_frame
            ),
            f"rotated by {first.rotation} degrees" if self._quarter_turns else "",
        )
        return SourceInfo(
            path=self._path,
            kind="video",
            width=width,
            height=height,
            bit_depth=pixels.bit_depth,
            chroma_format=pixels.chroma_format,
            frame_rate=mean_rate or timeline.header_rate or DEFAULT_FRAME_RATE,
            frame_rate_from=rate_from,
            num_frames=timeline.num_packets,
            num_frames_from="packets",
            variable_frame_rate=timeline.is_variable,
            color_range="limited" if rgb else _RANGE_NAMES.get(first.color_range),
            color_matrix="bt709" if rgb else _MATRIX_NAMES.get(first.colorspace),
            conversion="; ".join(filter(None, notes)),
        )

    def _frames(self, start: int, reverse: bool) -> Iterator[Frame]:
        if not reverse:
            # Decoding and dropping is exact in every container; seeking is not.
            return (self._convert(frame, index) for index, frame in islice(enumerate(self._decode()), start, None))
        return islice(self._backward() if self._timeline.pts else self._backward_by_index(), start, None)

    def _backward(self) -> Iterator[Frame]:
        for window in reversed(self._timeline.windows(self._window_limit)):
            yield from reversed(self._read_window(window))

    def _backward_by_index(self) -> Iterator[Frame]:
        num_frames, limit = sum(1 for _ in self._decode()), self._window_limit
        for end in range(num_frames, 0, -limit):
            window = islice(enumerate(self._decode()), max(0, end - limit), end)
            yield from reversed([self._convert(frame, index) for index, frame in window])

    @property
    def _window_limit(self) -> int:
        return max(1, _WINDOW_BYTES // self.info.frame_size_bytes)

    def _read_window(self, window: Window) -> list[Frame]:
        # A seek may land behind the frame asked for, in transport streams usually: then try the key frame before, then
        # the beginning of the file.
        for seek in (window.keyframe, self._timeline.keyframe_before(window.keyframe), None):
            frames = self._decode(seek)
            head = next(frames, None)
            if seek is None or (head is not None and self._pts(head) <= window.keyframe):
                break
        wanted = frames if head is None else chain([head], frames)
        if window.end is not None:
            end = window.end
            wanted = takewhile(lambda frame: self._pts(frame) < end, wanted)
        first = window.first
        return [self._convert(frame) for frame in wanted if first is None or self._pts(frame) >= first]

    def _decode(self, seek: int | None = None) -> Iterator[VideoFrame]:
        with opened_track(self._path) as (container, stream):
            if seek is not None:
                container.seek(seek, stream=stream, backward=True)
            num_decoded = 0
            try:
                for frame in container.decode(stream):
                    yield frame
                    num_decoded += 1
            except av.FFmpegError as error:
                where = f"{num_decoded} behind time stamp {seek}" if seek else f"{num_decoded}"
                raise MediaError(
                    f"{self._path}: frame {where} cannot be decoded ({error.strerror}); the file is damaged"
                ) from error

    def _pts(self, frame: VideoFrame) -> int:
        if frame.pts is None:
            raise MediaError(f"{self._path}: a frame has no time stamp, so the clip cannot be read backwards; remux it")
        return frame.pts

    def _convert(self, frame: VideoFrame, index: int | None = None) -> Frame:
        timed = bool(self._timeline.pts) and frame.pts is not None
        seconds = frame.time if timed else float((index or 0) / self.info.frame_rate)
        where = f"the frame at {seconds:.3f} s" if index is None else f"frame {index}"
        if frame.is_corrupt:
            raise MediaError(f"{self._path}: {where} is damaged and was concealed by the decoder; copy the file again")
        if (frame.width, frame.height) != self._decoded_size or frame.format.name != self._pixels.name:
            width, height = self._decoded_size
            raise MediaError(
                f"{self._path}: {where} is {frame.width}x{frame.height} {frame.format.name} but the first is "
                f"{width}x{height} {self._pixels.name}; split the file where it changes"
            )
        y, u, v = read_planes(frame, self._pixels)
        if self._quarter_turns:
            y, u, v = (np.rot90(plane, self._quarter_turns) for plane in (y, u, v))
        y, u, v = pad_to_even((y, u, v))
        return Frame(y=y, u=u, v=v, pts_seconds=seconds)
