"""Decoding with VVdeC's own program into raw samples, and what to do when VVdeC hangs or refuses a stream."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from codecprior.errors import BitstreamError, CodecpriorError, MediaError, ToolFailedError, ToolTimeoutError
from vvc_wrappers.process import CHUNK_BYTES, Process, closing_generator
from vvc_wrappers.tools import Program, find_vvdecapp
from vvc_wrappers.trace_format import ErrorEvent, stream_error

__all__ = ["VVdeC", "decoder_error", "require_readable", "retry_single_threaded", "vvdecapp_argv"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_FAILURE: Final = re.compile(r"decoding failed:\s*(?P<reason>.*)", re.DOTALL)


class VVdeC:
    """VVdeC's own program.

    Parameters
    ----------
    program : Program, optional
        ``vvdecapp``; :func:`~vvc_wrappers.tools.find_vvdecapp` by default.
    threads : int, optional
        Decoder threads; 0 decodes in the main thread, None takes one for each processor.
    stall_seconds : float, optional
        How long the decoder may do nothing; :func:`~vvc_wrappers.process.default_stall_seconds` by default.

    Raises
    ------
    ToolNotFoundError
        If there is no decoder.
    ToolVersionError
        If the decoder does not work.
    """

    def __init__(
        self, program: Program | None = None, *, threads: int | None = None, stall_seconds: float | None = None
    ) -> None:
        self.program = find_vvdecapp() if program is None else program
        self.threads = threads
        self._stall_seconds = stall_seconds

    def decode(self, stream: Path) -> Iterator[bytes]:
        """Decode a stream into raw planar samples.

        Parameters
        ----------
        stream : pathlib.Path
            VVC byte stream (Annex B). VVdeC's program seeks in it, so that a pipe will not do.

        Yields
        ------
        bytes
            The planes of all pictures in display order, cropped, 8 bit samples as bytes and deeper ones as 16 bit
            little endian; in blocks of 1 MiB, the last one shorter.

        Raises
        ------
        MediaError
            If the file cannot be read.
        UnsupportedStreamError
            If VVdeC cannot decode such a stream.
        BitstreamError
            If the stream is broken or holds no picture.
        ToolFailedError
            If the decoder crashes.
        ToolTimeoutError
            If it is stalled even without threads.
        """
        require_readable(stream)
        yield from retry_single_threaded(lambda threads: self._attempt(stream, threads), self.threads)

    def decode_to_md5(self, stream: Path) -> str:
        """Decode a stream and digest what comes out.

        Parameters
        ----------
        stream : pathlib.Path
            VVC byte stream (Annex B).

        Returns
        -------
        str
            MD5 in hexadecimal of what :meth:`decode` yields, as in conformance packages.

        Raises
        ------
        CodecpriorError
            As :meth:`decode`.
        """
        digest = hashlib.md5(usedforsecurity=False)
        for block in self.decode(stream):
            digest.update(block)
        return digest.hexdigest()

    def _attempt(self, stream: Path, threads: int | None) -> Iterator[bytes]:
        command = [str(self.program.path), *vvdecapp_argv(stream, threads)]
        empty = True
        with Process(command, stall_seconds=self._stall_seconds) as process:
            while block := _read_block(process):
                empty = False
                yield block
            try:
                process.check()
            except ToolFailedError as error:
                raise decoder_error(error, stream.name) from error
        if empty:
            raise BitstreamError(f"{stream.name}: no picture can be decoded; expected a VVC byte stream (Annex B)")


def vvdecapp_argv(stream: Path, threads: int | None) -> list[str]:
    """Arguments for VVdeC's own program.

    Parameters
    ----------
    stream : pathlib.Path
        VVC byte stream.
    threads : int or None
        As in :class:`VVdeC`.

    Returns
    -------
    list of str
        Without the program. Writes raw samples to standard output and messages to standard error.
    """
    argv = ["--bitstream", str(stream), "--output", "-", "--verbosity", "1"]
    return argv if threads is None else [*argv, "--threads", str(threads)]


def retry_single_threaded(decode: Callable[[int | None], Iterator[_T]], threads: int | None) -> Iterator[_T]:
    """Decode again without threads what hangs with them.

    With threads, VVdeC hangs on about one broken stream in eight; without, it says what is wrong. What an attempt gave
    out before it hung is not given out again.

    Parameters
    ----------
    decode : callable
        Takes the number of threads and gives out the same items in the same order every time; raises ToolTimeoutError
        when it has killed a stalled decoder.
    threads : int or None
        Threads of the first attempt.

    Yields
    ------
    object
        The items.

    Raises
    ------
    ToolTimeoutError
        If the attempt without threads is stalled as well.
    """
    given = 0
    try:
        with closing_generator(decode(threads)) as items:
            for item in items:
                given += 1
                yield item
    except ToolTimeoutError as error:
        if threads == 0:
            raise
        logger.warning("%s; trying again without threads", error)
    else:
        return
    yield from islice(decode(0), given, None)


def decoder_error(error: ToolFailedError, name: str) -> CodecpriorError:
    """Turn a failure of ``vvdecapp`` into what it means for the stream.

    Parameters
    ----------
    error : ToolFailedError
        The failure, with what the program printed.
    name : str
        The stream, for the message.

    Returns
    -------
    CodecpriorError
        UnsupportedStreamError or BitstreamError where VVdeC gave up on the stream; the failure itself where it crashed.
    """
    found = _FAILURE.search(error.stderr_tail)
    if found is None:
        return error
    return stream_error(ErrorEvent("bitstream", " ".join(found["reason"].split())), name)


def _read_block(process: Process) -> bytes:
    """Read a whole block, so that every attempt cuts the samples at the same places."""
    parts: list[bytes] = []
    missing = CHUNK_BYTES
    while missing and (part := process.read(missing)):
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def require_readable(stream: Path) -> None:
    """Insist that a stream can be opened.

    Parameters
    ----------
    stream : pathlib.Path
        File.

    Raises
    ------
    MediaError
        If it cannot be opened for reading.
    """
    try:
        with stream.open("rb"):
            pass
    except OSError as error:
        raise MediaError(f"{stream}: cannot be read ({error.strerror}); give a VVC byte stream") from error
