"""The tracing decoder: VVC in, :class:`~codecprior.core.priors.FramePriors` in display order out."""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from codecprior.core.arrays import FRAME_ARRAYS
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box
from codecprior.errors import ConfigError, TraceError
from vvc_wrappers.process import Feeder, Process, default_stall_seconds
from vvc_wrappers.tools import Program, find_probe
from vvc_wrappers.trace_format import (
    EndEvent,
    ErrorEvent,
    PictureEvent,
    StreamEvent,
    WarningEvent,
    parse_event,
    slot_arrays,
    stream_error,
)
from vvc_wrappers.vvdec import require_readable, retry_single_threaded

__all__ = ["BitstreamInput", "Probe", "ProbeOptions", "probe_argv"]

logger = logging.getLogger(__name__)

BitstreamInput = str | Path | Callable[[], Iterable[bytes]] | Iterable[bytes]
"""A file; or pieces of a byte stream, given once or by a function that can give them again."""


_SPIN_STALLS: Final = 15
"""How many stall times of CPU a picture may take: VVdeC without threads runs in circles on some broken streams."""

_FRAME_NAMES = frozenset(spec.name for spec in FRAME_ARRAYS)


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """How to trace.

    Parameters
    ----------
    threads : int, optional
        Decoder threads; 0 decodes in the calling thread, None takes one for each CPU.
    with_frames : bool
        Deliver decoded pictures, too.
    wide_mv : bool
        Deliver vectors as int32: for the rare stream whose vectors exceed 2,048 samples.
    """

    threads: int | None = None
    with_frames: bool = False
    wide_mv: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and not 0 <= self.threads <= 64:
            raise ConfigError(f"decoder threads {self.threads}: use 0 to 64")


def probe_argv(program: str, options: ProbeOptions, memory_fd: int, release_fd: int, source: str) -> list[str]:
    """Return the command line of the tracing decoder.

    Parameters
    ----------
    program : str
        Path of ``codecprior-probe``.
    options : ProbeOptions
        How to trace.
    memory_fd : int
        Descriptor of the shared memory, which the tracing decoder enlarges as it needs.
    release_fd : int
        Descriptor from which it reads the numbers of slots that may be reused.
    source : str
        File, or ``-`` for standard input.

    Returns
    -------
    list of str
        Program and arguments.
    """
    argv = [program, "--memory-fd", str(memory_fd), "--release-fd", str(release_fd)]
    if options.threads is not None:
        argv += ["--threads", str(options.threads)]
    if options.wide_mv:
        argv.append("--wide-mv")
    if options.with_frames:
        argv.append("--frames")
    return [*argv, source]


class Probe:
    """Decodes VVC streams and delivers each picture with its priors.

    Parameters
    ----------
    options : ProbeOptions, optional
        How to trace.
    program : Program, optional
        The tracing decoder; the one in the package by default.

    Raises
    ------
    ToolNotFoundError
        If the tracing decoder is not installed.
    """

    def __init__(self, options: ProbeOptions | None = None, program: Program | None = None) -> None:
        self.options = options or ProbeOptions()
        self.program = program or find_probe()

    def pictures(self, source: BitstreamInput, *, name: str = "") -> Iterator[FramePriors]:
        """Decode a stream.

        Presentation times and reference frame indices are not known here: ``pts_seconds`` is 0, ``reference_frames``
        empty. A decoder that hangs, as VVdeC does on some broken streams, is killed, and the stream decoded once more
        in a single thread, which ends in its real error; the pictures already delivered are not delivered again.

        Parameters
        ----------
        source : path, iterable of bytes, or callable that returns one
            Annex B byte stream. Only a file or a callable can be decoded a second time.
        name : str, optional
            What messages call the stream; the file name by default.

        Returns
        -------
        iterator of FramePriors
            Whole coded pictures, arrays read-only and valid only until the next one is asked for. A concealed picture
            has no arrays, except frames if asked for.

        Raises
        ------
        MediaError
            If the file cannot be read.
        BitstreamError
            If the stream is broken.
        UnsupportedStreamError
            If VVdeC cannot decode it, or its format changes in between.
        MvRangeError
            If a vector does not fit into 16 bits and ``wide_mv`` is off.
        ToolTimeoutError
            If the decoder hangs and cannot be started again.
        """
        name = name or (str(source) if isinstance(source, (str, Path)) else "the VVC stream")
        if isinstance(source, (str, Path)) or callable(source):
            return retry_single_threaded(lambda threads: self._decode(source, threads, name), self.options.threads)
        return self._decode(source, self.options.threads, name)

    def _decode(self, source: BitstreamInput, threads: int | None, name: str) -> Iterator[FramePriors]:
        options = replace(self.options, threads=threads)
        pieces: Iterable[bytes] | None = None
        if isinstance(source, (str, Path)):
            require_readable(Path(source))
            path = str(Path(source).absolute())  # which looks like no option and is not "-"
        else:
            path = "-"
            pieces = source() if callable(source) else source
        with ExitStack() as stack:
            slots = stack.enter_context(closing(_SharedSlots()))
            argv = probe_argv(str(self.program.path), options, slots.memory_fd, slots.child_fd, path)
            process = stack.enter_context(
                Process(
                    argv,
                    stdin=pieces is not None,
                    pass_fds=(slots.memory_fd, slots.child_fd),
                    cpu_seconds=_SPIN_STALLS * default_stall_seconds(),
                )
            )
            slots.close_child_end()
            feeder = stack.enter_context(Feeder(process, pieces)) if pieces is not None else None
            ended = yield from self._pictures(process, feeder, slots, name)
            if feeder:
                feeder.finish()
            else:
                process.check()
            if not ended:
                raise TraceError(f"{name}: the tracing decoder stopped without saying why")

    def _pictures(
        self, process: Process, feeder: Feeder | None, slots: _SharedSlots, name: str
    ) -> Generator[FramePriors, None, bool]:
        ended = False
        index = 0
        for line in _lines(process, feeder):
            event = parse_event(line)
            if isinstance(event, PictureEvent):
                with slots.held(event.slot) as held:
                    known = held.keys() if event.picture.has_priors else held.keys() & _FRAME_NAMES
                    arrays: dict[str, Any] = {name: held[name] for name in known}
                    stream = slots.layout.stream
                    box = Box(0, 0, *stream.coded_size)
                    yield FramePriors(stream=stream, picture=event.picture, frame_index=index, box=box, **arrays)
                index += 1
            elif isinstance(event, StreamEvent):
                slots.layout = event
            elif isinstance(event, WarningEvent):
                logger.warning("%s: %s", name, event.message)
            elif isinstance(event, ErrorEvent):
                raise stream_error(event, name)
            elif isinstance(event, EndEvent):
                ended = True
        return ended


def _lines(process: Process, feeder: Feeder | None) -> Iterator[bytes]:
    rest = b""
    while data := process.read(excused=feeder.is_waiting if feeder else lambda: False):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


class _SharedSlots:
    """The reading end of the slots: memory that the tracing decoder fills, and the pipe that gives slots back."""

    layout: StreamEvent

    def __init__(self) -> None:
        self.memory_fd = os.memfd_create("codecprior")
        self.child_fd, self._release_fd = os.pipe()
        self._child_end_open = True
        self._arrays: dict[int, dict[str, NDArray[Any]]] = {}

    def close_child_end(self) -> None:
        """Close our copy of the child's end, so that it notices when we are gone."""
        os.close(self.child_fd)
        self._child_end_open = False

    @contextmanager
    def held(self, slot: int | None) -> Iterator[dict[str, NDArray[Any]]]:
        """Give the arrays of a slot, which is released at the end."""
        if slot is None:
            yield {}
            return
        if slot not in self._arrays:
            size = self.layout.slot_bytes
            # Never closed by hand: it goes when the last array on it does.
            memory = mmap.mmap(self.memory_fd, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=slot * size)
            self._arrays[slot] = slot_arrays(memory, self.layout)
        yield self._arrays[slot]
        try:
            os.write(self._release_fd, bytes([slot]))
        except BrokenPipeError:
            logger.debug("the tracing decoder ended before slot %d was given back", slot)

    def close(self) -> None:
        """Close all descriptors; the memory goes with the last array on it."""
        for descriptor in (self.memory_fd, self._release_fd):
            os.close(descriptor)
        if self._child_end_open:
            self.close_child_end()
