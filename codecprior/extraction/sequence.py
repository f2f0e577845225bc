"""One sequence from its source to a finished store and the bitstream beside it."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

from fsspec.core import url_to_fs

from codecprior import __version__
from codecprior.errors import ConfigError, CorruptStoreError, StoreError
from codecprior.extraction.backend import Backend, Trace
from codecprior.extraction.discover import SequenceInput
from codecprior.media.bitstream import BitstreamSource
from codecprior.media.opening import open_source
from codecprior.media.raw import RawFormat
from codecprior.media.source import FrameSource
from codecprior.store.bulk import keep_freed_memory
from codecprior.store.location import is_complete, is_url
from codecprior.store.reader import open_store
from codecprior.store.writer import PassWriter, StoreWriter
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
    source = open_source(sequence.path, raw=settings.raw, frame_rate=settings.frame_rate)
    if settings.directions == "both" and isinstance(source, BitstreamSource):
        raise ConfigError(
            f"{sequence.path}: a coded stream cannot be reversed; use --directions forward, or give the frames"
        )
    sha256 = source.digest()
    digest = _digest(sha256, settings)
    kept = _kept_bitstreams(source, store, settings)
    status: Literal["extracted", "skipped"] = "skipped"
    if not _is_finished(store, digest, settings):
        source_facts = _source_facts(sequence, source, sha256)
        _extract(source, source_facts, store, kept, digest, settings, progress or (lambda done, total: None))
        status = "extracted"
    facts = open_store(store).info()
    return SequenceResult(
        name=sequence.name,
        store=store,
        status=status,
        bitstreams=tuple(path for path in kept.values() if _exists(path)),
        num_frames=facts["num_frames"],
        stored_bytes=facts["stored_bytes"],
        seconds=round(time.monotonic() - begin, 3),
    )


def _extract(
    source: FrameSource | BitstreamSource,
    source_facts: dict[str, Any],
    store: str,
    kept: dict[bool, str],
    digest: str,
    settings: ExtractionSettings,
    progress: Progress,
) -> None:
    passes = (False, True) if settings.directions == "both" else (False,)
    num_frames = source.info.num_frames if isinstance(source, FrameSource) else None
    total = num_frames and num_frames * len(passes)
    facts = {
        "source": source_facts,
        **settings.backend.facts(source),
        "extractor": {"name": "codecprior", "version": __version__, "command": sys.argv},
        "extraction_digest": digest,
    }
    with StoreWriter(
        store, digest=digest, attributes=facts, with_frames=settings.with_frames, overwrite=settings.overwrite
    ) as writer:
        if not (settings.overwrite or writer.resumed):
            _require_free(kept.values())
        done = 0
        for reverse in passes:
            trace = Trace(
                source=source,
                bitstream=writer.scratch / Path(bitstream_beside("clip", reverse=reverse)).name,
                reverse=reverse,
                with_frames=settings.with_frames,
            )
            for pass_done in _run_pass(trace, writer, settings.backend):
                progress(done + pass_done, total)
            done += pass_done
        for reverse, path in kept.items():
            _keep(writer.scratch / Path(bitstream_beside("clip", reverse=reverse)).name, path)
        writer.finish()


def _run_pass(trace: Trace, writer: StoreWriter, backend: Backend) -> Iterator[int]:
    try:
        yield from _write_pass(trace, writer, backend)
    except MvRangeError:
        # Nothing is ever clipped: the pass starts over with room for every vector.
        yield from _write_pass(replace(trace, wide_mv=True), writer, backend)


def _write_pass(trace: Trace, writer: StoreWriter, backend: Backend) -> Iterator[int]:
    target: PassWriter | None = None
    with closing(backend.pictures(trace)) as pictures:
        for done, frame in enumerate(pictures, 1):
            if target is None:
                begin = writer.begin_reverse if trace.reverse else writer.begin
                target = begin(frame.stream, mv_dtype="int32" if trace.wide_mv else "int16")
            target.append(frame)
            yield done


def _digest(sha256: str, settings: ExtractionSettings) -> str:
    """Identify what the store will hold: the same input with the same settings gives the same digest."""
    facts = {
        "source": sha256,
        "raw": repr(settings.raw),
        "frame_rate": str(settings.frame_rate),
        "backend": settings.backend.digest_facts(),
        "directions": settings.directions,
        "with_frames": settings.with_frames,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_finished(store: str, digest: str, settings: ExtractionSettings) -> bool:
    if not is_complete(store):
        return False
    try:
        found = open_store(store).attributes.get("extraction_digest")
    except CorruptStoreError:
        if settings.overwrite:
            return False
        raise
    if found != digest and not settings.overwrite:
        raise StoreError(
            f"{store}: exists and was made from another input or with other settings; "
            "use --overwrite to replace it, or another -o"
        )
    return bool(found == digest)


def _kept_bitstreams(
    source: FrameSource | BitstreamSource, store: str, settings: ExtractionSettings
) -> dict[bool, str]:
    """Where the bitstream of each pass will lie; a coded source is not copied."""
    if not settings.keep_bitstream or isinstance(source, BitstreamSource):
        return {}
    passes = (False, True) if settings.directions == "both" else (False,)
    return {reverse: bitstream_beside(store, reverse=reverse) for reverse in passes}


def _require_free(paths: Iterable[str]) -> None:
    for path in paths:
        if _exists(path):
            raise StoreError(
                f"{path}: exists, but not the store that it would belong to; move it away, or use --no-bitstream, "
                "--overwrite or another -o"
            )


def _exists(path: str) -> bool:
    files, remote = url_to_fs(path)
    return bool(files.exists(remote))


def _keep(scratch: Path, path: str) -> None:
    """Move a finished bitstream to its place beside the store."""
    try:
        if is_url(path):
            files, remote = url_to_fs(path)
            files.put_file(str(scratch), remote)
        else:
            scratch.replace(path)
    except Exception as error:  # each fsspec backend has its own exceptions
        raise StoreError(f"{path}: cannot write the bitstream ({error}); run the same command again") from error


def _source_facts(
    sequence: SequenceInput, source: FrameSource | BitstreamSource, sha256: str
) -> dict[str, Any]:
    folder = sequence.name.rpartition("/")[0]
    path = f"{folder}/{sequence.path.name}" if folder else sequence.path.resolve().name
    facts: dict[str, Any] = {"name": sequence.name, "path": path, "sha256": sha256}
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
