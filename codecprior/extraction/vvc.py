"""VVC extraction: VVenC encodes, the tracing VVdeC decodes at the same time what comes out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from codecprior.core.priors import FramePriors
from codecprior.core.stream import StreamInfo
from codecprior.errors import ConfigError, ExtractionError, MediaError, ToolError
from codecprior.extraction.backend import Backend, Trace
from codecprior.media.bitstream import BitstreamSource
from codecprior.media.opening import open_source
from codecprior.media.raw import RawFormat
from codecprior.media.source import DEFAULT_FRAME_RATE, FrameSource, SourceInfo
from codecprior.store.partial import os_errors
from vvc_wrappers.probe import BitstreamInput, Probe, ProbeOptions
from vvc_wrappers.process import closing_generator
from vvc_wrappers.tools import find_probe, find_vvenc
from vvc_wrappers.vvenc import EncodeResult, PixelFormat, VideoFormat, VVenC, VVencOptions

__all__ = ["VvcBackend", "encode_file", "video_format"]


@dataclass(frozen=True, kw_only=True)
class VvcBackend(Backend):
    """Encodes with VVenC, traces with VVdeC.

    Parameters
    ----------
    encoder : VVencOptions
        How to encode.
    decoder_threads : int, optional
        Threads of the tracing decoder; None takes one for each CPU.
    """

    encoder: VVencOptions = field(default_factory=VVencOptions)
    decoder_threads: int | None = None

    def pictures(self, trace: Trace) -> Iterator[FramePriors]:
        """Trace one pass; see :class:`Backend`."""
        options = ProbeOptions(threads=self.decoder_threads, with_frames=trace.with_frames, wide_mv=trace.wide_mv)
        probe = Probe(options, _decoder_program())
        if isinstance(trace.source, BitstreamSource):
            return self._trace_coded(trace.source, probe)
        return self._trace_frames(trace.source, trace, probe)

    def facts(self, source: FrameSource | BitstreamSource) -> dict[str, Any]:
        """Describe VVenC and VVdeC; see :class:`Backend`."""
        decoder = {"name": "VVdeC (codecprior-probe)", "version": _decoder_program().version, "arguments": []}
        if isinstance(source, BitstreamSource):
            return {"encoder": None, "decoder": decoder}
        encoder = self._encoder_for(source)
        program = encoder.program
        arguments = list(encoder.command[1:])
        return {
            "encoder": {"name": f"VVenC ({program.name})", "version": program.version, "arguments": arguments},
            "decoder": decoder,
        }

    def identity(self, source: FrameSource | BitstreamSource) -> dict[str, Any]:
        """Return the settings that decide the priors; see :class:`Backend`."""
        encoder = None if isinstance(source, BitstreamSource) else self.encoder.identity
        return {"codec": "vvc", "encoder": encoder}

    def _trace_coded(self, source: BitstreamSource, probe: Probe) -> Iterator[FramePriors]:
        bare = source.container == "annexb"
        pictures = probe.pictures(source.path if bare else source.chunks, name=str(source.path))
        times = source.pts_seconds
        for index, frame in enumerate(pictures):
            rate = source.frame_rate or frame.stream.frame_rate
            stream = replace(frame.stream, frame_rate=rate)
            order = frame.picture.decode_order
            pts = times[order] if times and order < len(times) else float(index / (rate or DEFAULT_FRAME_RATE))
            yield replace(frame, stream=stream, picture=replace(frame.picture, pts_seconds=pts))

    def _trace_frames(self, source: FrameSource, trace: Trace, probe: Probe) -> Iterator[FramePriors]:
        times: list[float]
        pictures: BitstreamInput
        if trace.bitstream.exists():
            times, pictures = json.loads(_times_file(trace.bitstream).read_text()), trace.bitstream
        else:
            times = []
            pictures = self._encode(source, trace, times)
        count = 0
        for count, frame in enumerate(probe.pictures(pictures, name=str(source.info.path)), 1):
            stream = _as_source(frame.stream, source.info)
            # A frame's time is noted before the encoder sees the frame.
            picture = replace(frame.picture, pts_seconds=times[count - 1])
            yield replace(frame, stream=stream, picture=picture)
        if count != len(times):
            raise ExtractionError(f"{source.info.path}: {len(times)} frames were encoded, but {count} pictures decoded")

    def _encode(self, source: FrameSource, trace: Trace, times: list[float]) -> Iterator[bytes]:
        """Encode, keeping the stream and noting the time of each frame on its way to the encoder."""

        def planes() -> Iterator[Iterator[memoryview]]:
            for frame in source.frames(reverse=trace.reverse):
                times.append(frame.pts_seconds)
                yield frame.buffers()

        with (
            _appearing_whole(trace.bitstream) as keep,
            closing_generator(self._encoder_for(source).stream(planes())) as chunks,
        ):
            for chunk in chunks:
                keep(chunk)
                yield chunk
            with _appearing_whole(_times_file(trace.bitstream)) as note:
                note(json.dumps(times).encode())

    def _encoder_for(self, source: FrameSource) -> VVenC:
        return VVenC(video_format(source.info), self.encoder, program=_encoder_program())


def encode_file(
    path: Path,
    output: Path,
    options: VVencOptions,
    *,
    raw: RawFormat | None = None,
    frame_rate: Fraction | None = None,
    reverse: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> EncodeResult:
    """Encode the frames of one input into a VVC stream, without tracing.

    Parameters
    ----------
    path : Path
        Video, folder of frames or raw file.
    output : Path
        Stream to write; it appears under its name only when it is whole.
    options : VVencOptions
        How to encode.
    raw : RawFormat, optional
        Layout of a ``.yuv`` file whose name does not tell.
    frame_rate : fractions.Fraction, optional
        Frames per second of an input that states none.
    reverse : bool
        Whether to encode in reversed order.
    progress : callable, optional
        Called with the number of frames read and of all frames, None where it is unknown.

    Returns
    -------
    EncodeResult
        Counts, time and command.

    Raises
    ------
    MediaError
        If the input is coded VVC already, or cannot be read.
    ToolError
        If the encoder fails.
    """
    source = open_source(path, raw=raw, frame_rate=frame_rate)
    if isinstance(source, BitstreamSource):
        raise MediaError(f"{path}: is VVC already; give frames to encode, or extract from it as it is")
    info = source.info

    def planes() -> Iterator[Iterator[memoryview]]:
        for count, frame in enumerate(source.frames(reverse=reverse), 1):
            yield frame.buffers()
            if progress is not None:
                progress(count, info.num_frames)

    try:
        return VVenC(video_format(info), options).encode(planes(), output)
    except OSError as error:
        raise ToolError(f"{output}: cannot write ({error.strerror}); choose another -o") from error


def video_format(info: SourceInfo) -> VideoFormat:
    """Return what the encoder must know about the frames of a source.

    Parameters
    ----------
    info : SourceInfo
        Facts of the source.

    Returns
    -------
    VideoFormat
        Padded size, rate and sample format.

    Raises
    ------
    ConfigError
        If the encoder cannot take such frames.
    """
    width, height = info.frame_size
    pix_fmt: PixelFormat = "yuv420p" if info.frame_bit_depth == 8 else "yuv420p10le"
    try:
        return VideoFormat(width=width, height=height, frame_rate=info.frame_rate, pix_fmt=pix_fmt)
    except ConfigError as error:
        raise ConfigError(f"{info.path}: {error}") from error


# Looking for a program runs it, which takes as long as encoding a few small frames.
_encoder_program = cache(find_vvenc)
_decoder_program = cache(find_probe)


def _times_file(bitstream: Path) -> Path:
    """Where the presentation time of each frame of a kept bitstream is noted; it is there when the bitstream is."""
    return bitstream.with_suffix(".times.json")


@contextmanager
def _appearing_whole(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Write a file that gets its name when the block ends well; otherwise nothing is left of it."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with os_errors(path):
        file = unfinished.open("wb", buffering=0)  # a buffer would be written once more, and fail once more, on closing

    def write(data: bytes) -> None:
        rest = memoryview(data)
        with os_errors(path):
            while rest:
                rest = rest[file.write(rest) :]

    try:
        with file:
            yield write
            with os_errors(path):
                os.fsync(file.fileno())
                unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _as_source(stream: StreamInfo, info: SourceInfo) -> StreamInfo:
    """Crop what padded the source to an even size: a 4:2:0 stream cannot say so itself."""
    left, right, top, bottom = stream.conformance_window
    pad_right, pad_bottom = info.padding
    return replace(
        stream, conformance_window=(left, right + pad_right, top, bottom + pad_bottom), frame_rate=info.frame_rate
    )
