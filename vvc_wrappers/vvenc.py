"""Encoding with VVenC: raw frames go in through a pipe, a VVC byte stream (Rec. ITU-T H.266, Annex B) comes out.

Two programs carry VVenC: its own ``vvencapp``, and an FFmpeg with libvvenc. Options become the arguments of either.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, get_args

from codecprior.errors import CodecpriorError, ConfigError, MediaError, ToolFailedError
from vvc_wrappers.process import Buffer, Feeder, Process, closing_generator
from vvc_wrappers.tools import Program, find_vvenc

__all__ = [
    "DEFAULT_QP",
    "EncodeResult",
    "Gop",
    "PixelFormat",
    "Preset",
    "VVenC",
    "VVencOptions",
    "VideoFormat",
    "default_threads",
    "encoder_error",
    "ffmpeg_argv",
    "parse_extra",
    "vvencapp_argv",
]

Preset = Literal["faster", "fast", "medium", "slow", "slower"]
Gop = Literal["low-delay", "random-access"]
PixelFormat = Literal["yuv420p", "yuv420p10le"]

DEFAULT_QP: Final = 27

_MIN_SIDE: Final = 32
_MAX_SAME_STREAM_THREADS: Final = 4
_OUTPUT_FD: Final = 3  # VVenC prints warnings to standard output, where they would end up in the stream

_GOP_SETTINGS: Final[Mapping[Gop, Mapping[str, str]]] = {
    "low-delay": {
        "decodingrefreshtype": "0",
        "picreordering": "0",
        "gopsize": "8",
        "intraperiod": "-1",
        # Presets slow and slower take two reference pictures, and every preset four where it sees screen content.
        "numrefpics": "1",
        "numrefpicsscc": "1",
    },
    "random-access": {},
}
_FFMPEG_SETTINGS: Final = {
    # With pictures coded in parallel, VVenC may have nothing to give at one call of the final flush. FFmpeg takes that
    # for the end and loses the rest, up to the whole clip, without an error. The stream is the same.
    "maxparallelframes": "0",
}
_SET_ELSEWHERE: Final = {
    **{name: f"the option {name}" for name in ("preset", "qp", "bitrate", "threads")},
    **dict.fromkeys(("targetbitrate",), "the option bitrate"),
    **dict.fromkeys(("internalbitdepth", "internal-bitdepth"), "the option bit_depth"),
    **dict.fromkeys(("size", "sourcewidth", "sourceheight", "format", "inputbitdepth"), "the frames"),
    **dict.fromkeys(("fps", "framerate", "framescale"), "the frame rate"),
}
_CONSEQUENCE: Final = re.compile(
    "Terminating thread|Task finished|Nothing was written|Error sending frames|Configuration warning"
)


def default_threads() -> int:
    """Return the number of threads used where none is given: the usable processors, at most 4.

    The stream is the same for every number up to 4. With more, VVenC also codes pictures in parallel in ways that
    change it, so that it would depend on the machine.

    Returns
    -------
    int
        1 to 4.
    """
    return min(len(os.sched_getaffinity(0)), _MAX_SAME_STREAM_THREADS)


@dataclass(frozen=True, kw_only=True)
class VideoFormat:
    """What the raw frames are.

    Parameters
    ----------
    width, height : int
        Size in luma samples, even, at least 32 (VVenC fails on some smaller pictures without a reason).
    frame_rate : fractions.Fraction
        Frames per second.
    pix_fmt : {"yuv420p", "yuv420p10le"}
        Planar 4:2:0 with 8 bit samples, or 10 bit samples in 16 bit little endian.

    Raises
    ------
    ConfigError
        If VVenC cannot take such frames.
    """

    width: int
    height: int
    frame_rate: Fraction
    pix_fmt: PixelFormat

    def __post_init__(self) -> None:
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < _MIN_SIDE:
            raise ConfigError(
                f"frame size {self.width}x{self.height}: VVenC takes even sizes from {_MIN_SIDE}x{_MIN_SIDE} up; "
                "pad the frames"
            )
        if self.frame_rate <= 0:
            raise ConfigError(f"frame rate {self.frame_rate}: give frames per second, above 0")
        _one_of("pixel format", self.pix_fmt, get_args(PixelFormat))

    @property
    def frame_size_bytes(self) -> int:
        """Bytes of one frame."""
        return self.width * self.height * 3 // 2 * (1 if self.pix_fmt == "yuv420p" else 2)


@dataclass(frozen=True, kw_only=True)
class VVencOptions:
    """How to encode.

    Parameters
    ----------
    preset : {"faster", "fast", "medium", "slow", "slower"}
        Speed against compression.
    qp : int, optional
        Base quantisation parameter, 0 to 63; 27 where no bitrate is given. VVenC adapts it to the content unless told
        otherwise (``qpa=0`` in ``extra``).
    bitrate : int, optional
        Target in bits per second, instead of ``qp``.
    gop : {"low-delay", "random-access"}
        ``"low-delay"``: one intra picture, then every picture refers to the one before it and to no other, in both
        lists. ``"random-access"``: VVenC's own structure, with reordering.
    bit_depth : {8, 10}
        Bit depth of the coded pictures, whatever that of the frames.
    threads : int
        Number of threads; see :func:`default_threads`.
    extra : mapping of str to str
        Any other VVenC option by its name in VVenC's configuration, over those that ``gop`` sets. Case does not matter.

    Raises
    ------
    ConfigError
        If a value is out of range, or an option is set twice or in the wrong place.
    """

    preset: Preset = "faster"
    qp: int | None = None
    bitrate: int | None = None
    gop: Gop = "low-delay"
    bit_depth: int = 10
    threads: int = field(default_factory=default_threads)
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("preset", self.preset, get_args(Preset))
        _one_of("GOP", self.gop, get_args(Gop))
        _one_of("coded bit depth", self.bit_depth, (8, 10))
        if self.qp is not None and self.bitrate is not None:
            raise ConfigError(f"QP {self.qp} and bitrate {self.bitrate}: give one of the two")
        if self.qp is None and self.bitrate is None:
            object.__setattr__(self, "qp", DEFAULT_QP)
        if self.qp is not None and not 0 <= self.qp <= 63:
            raise ConfigError(f"QP {self.qp}: give 0 to 63")
        if self.bitrate is not None and self.bitrate <= 0:
            raise ConfigError(f"bitrate {self.bitrate}: give bits per second, above 0")
        if self.threads < 1:
            raise ConfigError(f"{self.threads} encoder threads: give 1 or more")
        _check_extra(self.extra)

    @property
    def settings(self) -> dict[str, str]:
        """What goes to VVenC by name: the GOP structure, with ``extra`` over it."""
        return {**_GOP_SETTINGS[self.gop], **{key.lower(): value for key, value in self.extra.items()}}

    @property
    def identity(self) -> dict[str, object]:
        """What decides the stream, as JSON values: options that give the same stream have the same identity."""
        threads = None if self.threads <= _MAX_SAME_STREAM_THREADS else self.threads
        rate = {"qp": self.qp, "bitrate": self.bitrate}
        return {"preset": self.preset, **rate, "bit_depth": self.bit_depth, "threads": threads, "vvenc": self.settings}


@dataclass(frozen=True, kw_only=True)
class EncodeResult:
    """What came out of an encode.

    Parameters
    ----------
    num_frames : int
        Frames that went in.
    size_bytes : int
        Bytes of the stream.
    seconds : float
        Wall time.
    command : tuple of str
        The program and its arguments.
    version : str
        Version of the encoder.
    """

    num_frames: int
    size_bytes: int
    seconds: float
    command: tuple[str, ...]
    version: str


class VVenC:
    """An encoder for frames of one format.

    Parameters
    ----------
    video : VideoFormat
        What the frames are.
    options : VVencOptions, optional
        How to encode.
    program : Program, optional
        ``vvencapp`` or ``ffmpeg``; :func:`~vvc_wrappers.tools.find_vvenc` by default.
    stall_seconds : float, optional
        How long the encoder may do nothing; :func:`~vvc_wrappers.process.default_stall_seconds` by default.

    Raises
    ------
    ToolNotFoundError
        If there is no encoder.
    ToolVersionError
        If the encoder is unsuitable.
    """

    def __init__(
        self,
        video: VideoFormat,
        options: VVencOptions | None = None,
        *,
        program: Program | None = None,
        stall_seconds: float | None = None,
    ) -> None:
        self.video = video
        self.options = VVencOptions() if options is None else options
        self.program = find_vvenc() if program is None else program
        self._stall_seconds = stall_seconds

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments; frames are read from descriptor 0 and the stream is written to descriptor 3."""
        argv = vvencapp_argv if self.program.name == "vvencapp" else ffmpeg_argv
        return (str(self.program.path), *argv(self.options, self.video))

    def stream(self, frames: Iterable[Iterable[Buffer]]) -> Iterator[bytes]:
        """Encode, giving the stream out while frames go in from a thread.

        Parameters
        ----------
        frames : iterable of iterables of Buffer
            Each frame as the bytes of its planes, Y, U and V, or as one block. Advanced, and closed if it is a
            generator, in the thread.

        Returns
        -------
        iterator of bytes
            The stream in pieces, cut anywhere. The encoder starts with the first and is killed when the iterator is
            closed.

        Raises
        ------
        MediaError
            If a frame has the wrong size, or there is none. What ``frames`` raises comes through as it is.
        ConfigError
            If VVenC refuses an option.
        ToolFailedError
            If the encoder fails otherwise.
        ToolTimeoutError
            If the encoder is stalled.
        """
        return self._stream(_Frames(frames, self.video))

    def encode(self, frames: Iterable[Iterable[Buffer]], output: Path | Callable[[bytes], object]) -> EncodeResult:
        """Encode into a file, or into whatever takes bytes.

        Parameters
        ----------
        frames : iterable of iterables of Buffer
            As in :meth:`stream`.
        output : pathlib.Path or callable
            A file, which appears under its name only when it is whole, or a function called with each piece.

        Returns
        -------
        EncodeResult
            Counts, time and command.

        Raises
        ------
        CodecpriorError
            As :meth:`stream`.
        OSError
            If the file cannot be written.
        """
        if not isinstance(output, Path):
            return self._encode(_Frames(frames, self.video), output)
        partial = output.with_name(output.name + ".partial")
        with partial.open("wb") as file:
            try:
                result = self._encode(_Frames(frames, self.video), file.write)
            except BaseException:
                partial.unlink()
                raise
        partial.replace(output)
        return result

    def _stream(self, frames: _Frames) -> Iterator[bytes]:
        with (
            Process(self.command, stdin=True, output_fd=_OUTPUT_FD, stall_seconds=self._stall_seconds) as process,
            Feeder(process, frames.pieces()) as feeder,
        ):
            while chunk := process.read(excused=feeder.is_waiting):
                yield chunk
            try:
                feeder.finish()
            except ToolFailedError as error:
                raise encoder_error(error) from error

    def _encode(self, frames: _Frames, write: Callable[[bytes], object]) -> EncodeResult:
        started = time.perf_counter()
        size_bytes = 0
        for chunk in self._stream(frames):
            write(chunk)
            size_bytes += len(chunk)
        return EncodeResult(
            num_frames=frames.count,
            size_bytes=size_bytes,
            seconds=time.perf_counter() - started,
            command=self.command,
            version=self.program.version,
        )


def ffmpeg_argv(options: VVencOptions, video: VideoFormat) -> list[str]:
    """Arguments for an FFmpeg with libvvenc.

    Parameters
    ----------
    options : VVencOptions
        How to encode.
    video : VideoFormat
        What the frames are.

    Returns
    -------
    list of str
        Without the program. Reads standard input and writes to descriptor 3.
    """
    rate = ["-b:v", str(options.bitrate)] if options.qp is None else ["-qp", str(options.qp)]
    settings = {**_FFMPEG_SETTINGS, **options.settings, "internalbitdepth": str(options.bit_depth)}
    return [
        *("-nostdin", "-hide_banner", "-loglevel", "error"),
        *("-f", "rawvideo", "-pixel_format", video.pix_fmt, "-video_size", f"{video.width}x{video.height}"),
        *("-framerate", str(video.frame_rate), "-i", "pipe:0"),
        *("-fps_mode", "passthrough", "-pix_fmt", "yuv420p10le"),  # all that libvvenc takes; 8 bit become v * 4
        *("-c:v", "libvvenc", "-preset", options.preset, *rate, "-threads", str(options.threads)),
        *("-vvenc-params", ":".join(f"{key}={value}" for key, value in settings.items())),
        *("-f", "vvc", f"pipe:{_OUTPUT_FD}"),
    ]


def vvencapp_argv(options: VVencOptions, video: VideoFormat) -> list[str]:
    """Arguments for VVenC's own program, written after its source and tested as text only: no package carries it.

    Parameters
    ----------
    options : VVencOptions
        How to encode.
    video : VideoFormat
        What the frames are.

    Returns
    -------
    list of str
        Without the program. Reads standard input and writes to descriptor 3.
    """
    # Two passes, its default with a bitrate, would have to read the frames twice.
    rate = ["--bitrate", str(options.bitrate), "--passes", "1"] if options.qp is None else ["--qp", str(options.qp)]
    settings = " ".join(f"{key}={value}" for key, value in options.settings.items())
    return [
        *("--verbosity", "1", "--input", "-", "--size", f"{video.width}x{video.height}"),
        *("--format", "yuv420" if video.pix_fmt == "yuv420p" else "yuv420_10", "--fps", _ratio(video.frame_rate)),
        *("--preset", options.preset, *rate, "--threads", str(options.threads)),
        *("--internal-bitdepth", str(options.bit_depth)),
        *(("--additional", settings) if settings else ()),
        *("--output", f"/dev/fd/{_OUTPUT_FD}"),
    ]


def parse_extra(arguments: Iterable[str]) -> dict[str, str]:
    """Read options given as ``key=value``.

    Parameters
    ----------
    arguments : iterable of str
        Such as ``["alf=0", "qpa=0"]``.

    Returns
    -------
    dict of str to str
        For :class:`VVencOptions`.

    Raises
    ------
    ConfigError
        If one is no ``key=value``, or a key is set twice.
    """
    extra: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"VVenC option {argument!r}: write it as key=value")
        if key in extra:
            raise ConfigError(f"VVenC option {key!r} is set twice, to {extra[key]!r} and {value!r}: give it once")
        extra[key] = value
    _check_extra(extra)
    return extra


def encoder_error(error: ToolFailedError) -> CodecpriorError:
    """Find the reason in what an encoder printed.

    Parameters
    ----------
    error : ToolFailedError
        The failure.

    Returns
    -------
    CodecpriorError
        ConfigError where VVenC refused an option; otherwise ToolFailedError without the messages that only follow.
    """
    text = error.stderr_tail
    if found := re.search(r"Unknown vvenc option: (\S+)\.", text):
        return ConfigError(f"VVenC has no option {found[1]!r}: see the list of vvencapp --fullhelp")
    if found := re.search(r"Invalid vvenc value for (\S+): (.*)\.", text):
        return ConfigError(f"VVenC option {found[1]}={found[2]}: it does not accept this value")
    if found := re.search(r"2pass option '(\S+)' not available", text):
        return ConfigError(f"VVenC option {found[1]!r}: frames are read once, so that there is one pass; leave it out")
    if refused := re.findall(r"Parameter Check Error: (.*)", text):
        return ConfigError(f"VVenC refuses these options: {'; '.join(line.strip() for line in refused)}")
    lines = [line for line in text.splitlines() if line.strip() and not _CONSEQUENCE.search(line)]
    return ToolFailedError(error.command, error.returncode, "\n".join(lines))


def _check_extra(extra: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for key, value in extra.items():
        name = key.lower()
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or not re.fullmatch(r"[^\s:='\"\\]+", value):
            raise ConfigError(
                f"VVenC option {key!r}={value!r}: a key has letters, digits, - and _; a value has no space, colon, "
                "equals sign, quote or backslash"
            )
        if name in _SET_ELSEWHERE:
            raise ConfigError(f"VVenC option {key!r} cannot be set here: it follows from {_SET_ELSEWHERE[name]}")
        if name in seen:
            raise ConfigError(f"VVenC option {key!r} is set twice, to {seen[name]!r} and {value!r}: give it once")
        seen[name] = value


def _one_of(what: str, value: object, accepted: tuple[object, ...]) -> None:
    if value not in accepted:
        raise ConfigError(f"{what} {value!r}: use one of {', '.join(map(str, accepted))}")


def _ratio(rate: Fraction) -> str:
    return f"{rate.numerator}/{rate.denominator}"


class _Frames:
    """Checks and counts frames on their way to the encoder."""

    def __init__(self, frames: Iterable[Iterable[Buffer]], video: VideoFormat) -> None:
        self.count = 0
        self._frames = frames
        self._video = video

    def pieces(self) -> Iterator[Buffer]:
        with closing_generator(self._frames) as frames:
            for frame in frames:
                size = 0
                for plane in frame:
                    size += memoryview(plane).nbytes
                    yield plane
                self._check(size)
                self.count += 1
        if self.count == 0:
            raise MediaError("there is no frame to encode")

    def _check(self, size: int) -> None:
        video = self._video
        if size != video.frame_size_bytes:
            raise MediaError(
                f"frame {self.count} has {size} bytes; {video.width}x{video.height} {video.pix_fmt} takes "
                f"{video.frame_size_bytes}"
            )
