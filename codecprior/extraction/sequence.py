"""One sequence from its source to a finished store and the bitstream beside it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

from codecprior import __version__
from codecprior.core.priors import FramePriors
from codecprior.errors import ConfigError, ExtractionError, StoreError
from codecprior.extraction.backend import Backend, Trace
from codecprior.extraction.discover import SequenceInput
from codecprior.media.bitstream import BitstreamSource
from codecprior.media.opening import open_source
from codecprior.media.raw import RawFormat
from codecprior.media.source import FrameSource
from codecprior.store.bulk import keep_freed_memory
from codecprior.store.location import Location, is_complete, is_url
from codecprior.store.writer import StoreWriter
from vvc_wrappers.trace_format import MvRangeError

__all__ = ["Directions", "ExtractionSettings", "Progress", "SequenceResult", "bitstream_beside", "extract_sequence"]

Directions = Literal["forward", "both"]
Progress = Callable[[int, "int | None"], None]
"""Called with the number of frames done, over all passes, and of all frames, None where it is unknown."""

_BITSTREAM_EXTENSION: Final = ".266"


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings:
    """What to extract and what to keep.

    Parameters
    ----------
    backend : Backend
        Codec with its options.
    directions : {"forward", "both"}
        ``"both"`` adds a pass over the time-reversed clip for backward propagation.
    with_frames : bool
        Whether to store decoded pictures, too.
    keep_bitstream : bool
        Whether to keep what the encoder wrote beside the store.
    overwrite : bool
        Whether to replace finished stores that were made from something else.
    raw : RawFormat, optional
        Layout of ``.yuv`` files whose names do not tell.
    frame_rate : fractions.Fraction, optional
        Frames per second of inputs that state none.
    """

    backend: Backend
    directions: Directions = "forward"
    with_frames: bool = False
    keep_bitstream: bool = True
    overwrite: bool = False
    raw: RawFormat | None = None
    frame_rate: Fraction | None = None


@dataclass(frozen=True, kw_only=True)
class SequenceResult:
    """What became of one sequence.

    Parameters
    ----------
    name : str
        Name of the sequence.
    store : str
        Path or URL of the store.
    status : {"extracted", "skipped", "failed"}
        ``"skipped"``: a finished store was there already.
    bitstream : str, optional
        The bitstream kept beside the store.
    num_frames : int
        Frames in the store.
    stored_bytes : int
        Size of the store.
    seconds : float
        Time it took.
    error : str, optional
        Why it failed, one line.
    """

    name: str
    store: str
    status: Literal["extracted", "skipped", "failed"]
    bitstream: str | None = None
    num_frames: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    error: str | None = None


def bitstream_beside(store: str, *, reverse: bool = False) -> str:
    """Return where the bitstream of a store is kept.

    Parameters
    ----------
    store : str
        Path or URL of the store, ending in ``.zarr``.
    reverse : bool
        Whether the bitstream of the time-reversed pass is meant.

    Returns
    -------
    str
        ``clip.266`` or ``clip.reverse.266`` beside ``clip.zarr``.
    """
    return store.removesuffix(".zarr") + (".reverse" if reverse else "") + _BITSTREAM_EXTENSION


def extract_sequence(
    sequence: SequenceInput, store: str, settings: ExtractionSettings, progress: Progress | None = None
) -> SequenceResult:
    """Extract the priors of one sequence.

    A finished store that was made from the same input with the same settings is left as it is. What an interrupted run
    finished, the bitstream above all, is used again.

    Parameters
    ----------
    sequence : SequenceInput
        What to extract from.
    store : str
        Path or URL of the store.
    settings : ExtractionSettings
        What to extract.
    progress : callable, optional
        Told about each frame.

    Returns
    -------
    SequenceResult
        ``"extracted"`` or ``"skipped"``; failures raise.

    Raises
    ------
    CodecpriorError
        If the sequence cannot be extracted. Nothing that looks like a finished store is left.
    """
    begin = time.monotonic()
    keep_freed_memory()
    with open_source(sequence.path, raw=settings.raw, frame_rate=settings.frame_rate) as source:
        if settings.directions == "both" and isinstance(source, BitstreamSource):
            raise ConfigError(
                f"{sequence.path}: a coded stream cannot be reversed; use --directions forward, or give the frames"
            )
        digest = _digest(source, settings)
        if _is_finished(store, digest, settings):
            return _result(sequence, store, "skipped", source, settings, begin)
        _extract(sequence, source, store, digest, settings, progress or (lambda done, total: None))
        return _result(sequence, store, "extracted", source, settings, begin)


def _extract(
    sequence: SequenceInput,
    source: FrameSource | BitstreamSource,
    store: str,
    digest: str,
    settings: ExtractionSettings,
    progress: Progress,
) -> None:
    keeps = settings.keep_bitstream and isinstance(source, FrameSource)
    num_frames = source.info.num_frames if isinstance(source, FrameSource) else None
    passes = (False, True) if settings.directions == "both" else (False,)
    total = num_frames and num_frames * len(passes)
    facts = {"source": _source_facts(sequence, source), "extraction_digest": digest, **_run_facts()}
    with StoreWriter(
        store, digest=digest, attributes=facts, with_frames=settings.with_frames, overwrite=settings.overwrite
    ) as writer:
        kept = {reverse: bitstream_beside(store, reverse=reverse) for reverse in passes} if keeps else {}
        if not (settings.overwrite or writer.resumed):
            for path in kept.values():
                _require_free(path)
        done = 0
        for reverse in passes:
            trace = Trace(
                source=source,
                bitstream=writer.scratch / Path(bitstream_beside("clip.zarr", reverse=reverse)),
                reverse=reverse,
                with_frames=settings.with_frames,
            )
            for done in _run_pass(trace, writer, settings.backend, start=done):
                progress(done, total)
        writer.finish(settings.backend.facts(source), beside={writer.scratch / Path(path).name: path for path in kept})


def _run_pass(trace: Trace, writer: StoreWriter, backend: Backend, start: int) -> Iterator[int]:
    try:
        yield from _write_pass(trace, writer, backend, start)
    except MvRangeError:
        # Nothing is ever clipped: the pass starts over with room for every vector.
        yield from _write_pass(replace(trace, wide_mv=True), writer, backend, start)


def _write_pass(trace: Trace, writer: StoreWriter, backend: Backend, start: int) -> Iterator[int]:
    target = None
    for done, frame in enumerate(backend.pictures(trace), start + 1):
        if target is None:
            mv_dtype = "int32" if trace.wide_mv else "int16"
            begin = writer.begin_reverse if trace.reverse else writer.begin
            target = begin(frame.stream, mv_dtype=mv_dtype)
        target.append(frame)
        yield done
