"""One sequence from its source to a finished store and the bitstream beside it."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from codecprior import __version__
from codecprior.errors import ConfigError, StoreError
from codecprior.extraction.alignment import AlignmentCheck
from codecprior.extraction.backend import Backend, Trace
from codecprior.extraction.discover import SequenceInput
from codecprior.extraction.kept import bitstream_beside, exists, keep, require_free
from codecprior.media.bitstream import BitstreamSource
from codecprior.media.opening import open_source
from codecprior.media.raw import RawFormat
from codecprior.media.source import FrameSource
from codecprior.store.bulk import keep_freed_memory
from codecprior.store.location import is_complete, is_url
from codecprior.store.partial import sweep
from codecprior.store.reader import open_store
from codecprior.store.schema import REVERSE_GROUP
from codecprior.store.writer import PassWriter, StoreWriter
from vvc_wrappers.process import closing_generator
from vvc_wrappers.trace_format import MvRangeError

__all__ = ["Directions", "ExtractionSettings", "Progress", "SequenceResult", "extract_sequence"]

Directions = Literal["forward", "both"]
Progress = Callable[[int, "int | None"], None]
"""Called with the number of frames done, over all passes, and of all frames, None where it is unknown."""


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
    check_frames : bool
        Whether to compare some decoded pictures with their frames and to note the outcome in the store's attribute
        ``checks``; only for sources whose number of frames is known.
    overwrite : bool
        Whether to replace finished stores that were made from something else.
    raw : RawFormat, optional
        Layout of ``.yuv`` files whose names do not tell.
    frame_rate : fractions.Fraction, optional
        Frames per second of inputs that state none.
    command : tuple of str
        The command line that the store names, that of this process by default.
    """

    backend: Backend
    directions: Directions = "forward"
    with_frames: bool = False
    keep_bitstream: bool = True
    check_frames: bool = False
    overwrite: bool = False
    raw: RawFormat | None = None
    frame_rate: Fraction | None = None
    command: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))


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
    bitstreams : tuple of str
        What is kept beside the store, the time-reversed pass last.
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
    bitstreams: tuple[str, ...] = ()
    num_frames: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    error: str | None = None


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
    source = open_source(sequence.path, raw=settings.raw, frame_rate=settings.frame_rate)
    if settings.directions == "both" and isinstance(source, BitstreamSource):
        raise ConfigError(
            f"{sequence.path}: a coded stream cannot be reversed; use --directions forward, or give the frames"
        )
    source_facts = _source_facts(sequence, source)
    digest = _digest(source, source_facts["sha256"], settings)
    status: Literal["extracted", "skipped"] = "skipped"
    found = _finished(store, digest, settings)
    if found is None:
        facts = {"source": source_facts, "extraction_digest": digest}
        _extract(source, store, facts, settings, progress or (lambda done, total: None))
        status, found = "extracted", open_store(store).info()
    return SequenceResult(
        name=sequence.name,
        store=store,
        status=status,
        bitstreams=tuple(filter(exists, _kept_bitstreams(source, store, settings).values())),
        num_frames=found["num_frames"],
        stored_bytes=found["stored_bytes"],
        seconds=round(time.monotonic() - begin, 3),
    )


def _extract(
    source: FrameSource | BitstreamSource,
    store: str,
    facts: dict[str, Any],
    settings: ExtractionSettings,
    progress: Progress,
) -> None:
    passes = _passes(settings)
    kept = _kept_bitstreams(source, store, settings)
    num_frames = source.info.num_frames if isinstance(source, FrameSource) else None
    total = num_frames and num_frames * len(passes)
    tools = settings.backend.facts(source)
    extractor = {"name": "codecprior", "version": __version__, "command": list(settings.command)}
    with StoreWriter(
        store,
        # What other versions of the tools began is not continued: a store is made by the tools that it names.
        digest=_sha256_of({"extraction": facts["extraction_digest"], "tools": tools}),
        attributes={**facts, **tools, "extractor": extractor},
        with_frames=settings.with_frames,
        overwrite=settings.overwrite,
    ) as writer:
        if not (settings.overwrite or writer.resumed):
            require_free(kept.values())
        bitstreams = {reverse: writer.scratch / f"{'reverse' if reverse else 'forward'}.266" for reverse in passes}
        done = 0
        checks: dict[str, Any] = {}
        for reverse in passes:
            check = None
            if settings.check_frames and isinstance(source, FrameSource) and num_frames:
                check = AlignmentCheck(source, reverse=reverse)
            trace = Trace(
                source=source,
                bitstream=bitstreams[reverse],
                reverse=reverse,
                with_frames=settings.with_frames or check is not None,
            )
            before = done
            for pass_done in _run_pass(trace, writer, settings.backend, check):
                done = before + pass_done
                progress(done, total)
            if check is not None:
                checks[REVERSE_GROUP if reverse else "forward"] = check.finish()
        for reverse, path in kept.items():
            keep(bitstreams[reverse], path)
        writer.finish({"checks": checks} if checks else None)


def _run_pass(trace: Trace, writer: StoreWriter, backend: Backend, check: AlignmentCheck | None) -> Iterator[int]:
    try:
        yield from _write_pass(trace, writer, backend, check)
    except MvRangeError:
        # Nothing is ever clipped: the pass starts over with room for every vector.
        yield from _write_pass(replace(trace, wide_mv=True), writer, backend, check)


def _write_pass(trace: Trace, writer: StoreWriter, backend: Backend, check: AlignmentCheck | None) -> Iterator[int]:
    target: PassWriter | None = None
    with closing_generator(backend.pictures(trace)) as pictures:
        for done, frame in enumerate(pictures, 1):
            if target is None:
                begin = writer.begin_reverse if trace.reverse else writer.begin
                target = begin(frame.stream, mv_dtype="int32" if trace.wide_mv else "int16")
            if check is not None:
                check.take(frame)
            target.append(frame)
            yield done


def _digest(source: FrameSource | BitstreamSource, sha256: str, settings: ExtractionSettings) -> str:
    """Identify what the store will hold: the same input, read in the same way, with the same settings."""
    if isinstance(source, BitstreamSource):
        reading: list[Any] = [str(source.frame_rate)]
    else:
        info = source.info
        reading = [info.width, info.height, info.bit_depth, info.chroma_format, str(info.frame_rate)]
    return _sha256_of(
        {
            "source": sha256,
            "reading": reading,
            "backend": settings.backend.identity(source),
            "directions": settings.directions,
            "with_frames": settings.with_frames,
        }
    )


def _sha256_of(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _finished(store: str, digest: str, settings: ExtractionSettings) -> dict[str, Any] | None:
    """Return the facts of a finished store that need not be made again."""
    if not is_complete(store):
        return None
    try:
        found = open_store(store).info()
    except StoreError as error:
        if settings.overwrite:
            return None
        raise StoreError(f"{error}; use --overwrite to replace it") from error
    if found.get("extraction_digest") == digest:
        if not is_url(store):
            sweep(Path(store).parent)  # what is left of a run that was killed after its store was finished
        return found
    if settings.overwrite:
        return None
    raise StoreError(
        f"{store}: exists and was made from another input or with other settings; "
        "use --overwrite to replace it, or another -o"
    )


def _kept_bitstreams(
    source: FrameSource | BitstreamSource, store: str, settings: ExtractionSettings
) -> dict[bool, str]:
    """Where the bitstream of each pass will lie; a coded source is not copied."""
    if not settings.keep_bitstream or isinstance(source, BitstreamSource):
        return {}
    return {reverse: bitstream_beside(store, reverse=reverse) for reverse in _passes(settings)}


def _passes(settings: ExtractionSettings) -> tuple[bool, ...]:
    """Return for each pass over the clip whether it is time-reversed."""
    return (False, True) if settings.directions == "both" else (False,)


def _source_facts(sequence: SequenceInput, source: FrameSource | BitstreamSource) -> dict[str, Any]:
    folder = sequence.name.rpartition("/")[0]
    path = f"{folder}/{sequence.path.name}" if folder else sequence.path.resolve().name
    facts: dict[str, Any] = {"name": sequence.name, "path": path, "sha256": source.digest()}
    if isinstance(source, BitstreamSource):
        return {"kind": "bitstream", **facts, "container": source.container}
    info = source.info
    return {
        "kind": info.kind,
        **facts,
        "size": [info.width, info.height],
        "bit_depth": info.bit_depth,
        "chroma_format": info.chroma_format,
        "frame_rate_from": info.frame_rate_from,
        "variable_frame_rate": info.variable_frame_rate,
        "color_range": info.color_range,
        "color_matrix": info.color_matrix,
        "conversion": info.conversion,
        "frame_names": source.names,
    }
