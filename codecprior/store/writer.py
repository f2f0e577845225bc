"""Frames in display order to a store: whole shards, resumable, and named only when finished.

Compression of a shard runs in tensorstore's threads while the frames of the next one arrive; one shard is in flight at
most, so that memory does not grow with the length of the clip.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import FRAME_ARRAYS, PICTURE_ARRAYS
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.errors import SchemaError, StoreError
from codecprior.store.bulk import open_shards
from codecprior.store.location import sha256_of
from codecprior.store.partial import Partial, os_errors
from codecprior.store.schema import (
    FORMAT_VERSION,
    METADATA_FILE,
    REVERSE_GROUP,
    SHARD_FRAMES,
    ArrayLayout,
    StoreAttributes,
    frame_layouts,
    group_metadata,
    picture_layouts,
)

__all__ = ["PassWriter", "StoreWriter"]

_TWO_BUFFERS_UP_TO_BYTES: Final = 512 << 20
_UNKNOWN_LENGTH: Final = 1 << 31
_FRAME_NAMES = frozenset(spec.name for spec in FRAME_ARRAYS)


class PassWriter:
    """Writes one pass over a clip: the group itself, or the sub-group of the time-reversed clip.

    Made by :class:`StoreWriter`.

    Parameters
    ----------
    partial : Partial
        Where to write and to note progress.
    group : str
        Sub-group, empty for the store itself.
    stream : StreamInfo
        Facts of the stream of this pass.
    layouts : dict of str to ArrayLayout
        The arrays to write.
    num_frames : int, optional
        Length of a reversed pass: the first frame appended becomes entry ``num_frames - 1``, the last one entry 0.

    Attributes
    ----------
    frames_done : int
        Frames in finished shards: what a resumed run need not append again.
    """

    def __init__(
        self,
        partial: Partial,
        group: str,
        stream: StreamInfo,
        layouts: dict[str, ArrayLayout],
        num_frames: int | None = None,
    ) -> None:
        self._partial = partial
        self._group = group
        self._folder = partial.store / group
        self.stream = stream
        self._layouts = layouts
        self._reversed_length = num_frames
        self._pictures: list[list[Any]] = []
        for record in partial.records:
            if record["group"] == group and "pictures" in record:
                self._pictures += record["pictures"]
        self.frames_done = len(self._pictures)
        self._appended = 0
        self._closed = False
        self._fixed_arrays: dict[str, Any] | None = None
        shard_bytes = sum(layout.frame_bytes for layout in layouts.values()) * SHARD_FRAMES
        # numpy touches no page of these before the first frame is copied in; reused for every shard after that.
        self._buffers = [self._allocate() for _ in range(2 if shard_bytes <= _TWO_BUFFERS_UP_TO_BYTES else 1)]
        self._in_flight: tuple[dict[str, Any], list[Any]] | None = None

    def append(self, frame: FramePriors) -> None:
        """Take the next frame; its arrays may be reused once this returns.

        Frames that an earlier run finished are compared with what it noted and skipped.

        Parameters
        ----------
        frame : FramePriors
            The whole coded picture. Arrays may be None where ``picture.has_priors`` is False.

        Raises
        ------
        SchemaError
            If an array is missing, or its shape or values do not fit the store.
        StoreError
            If the frame differs from what an interrupted run stored, or the disk is full or not writable.
        """
        if self._closed:
            raise StoreError(f"{self._partial.target}: this pass is closed; no frame can follow")
        index = self._appended
        if self._reversed_length is not None and index >= self._reversed_length:
            raise StoreError(f"{self._partial.target}: the reversed pass has more frames than the clip ({index})")
        row = _picture_row(frame.picture)
        if index < self.frames_done:
            self._appended += 1
            if row != self._pictures[index]:
                raise self._differs(index)
            return
        if index == self.frames_done and self.frames_done % SHARD_FRAMES and self._reversed_length is None:
            raise self._differs(index)
        self._fill(self._entry(index) % SHARD_FRAMES, frame)
        self._pictures.append(row)
        self._appended += 1
        if self._at_shard_end(index):
            self._flush()
        elif self._in_flight is not None and all(write.done() for write in self._in_flight[1]):
            self._settle()

    def close(self) -> None:
        """Write the last shard and wait for all; no frame can follow."""
        if self._closed:
            return
        if self._appended < self.frames_done:
            raise self._differs(self._appended)
        if self._reversed_length not in (None, self._appended):
            raise StoreError(
                f"{self._partial.target}: the reversed pass has {self._appended} frames, "
                f"the clip {self._reversed_length}; decode all of it"
            )
        if self._appended > self.frames_done and not self._at_shard_end(self._appended - 1):
            self._flush()
        self._settle()
        self._buffers.clear()
        self._closed = True

    def abandon(self) -> None:
        """Wait for the shard in flight and note it if it can still be finished."""
        self._closed = True
        with suppress(StoreError):
            self._settle()

    @property
    def num_frames(self) -> int:
        """Frames appended, or length of the reversed pass."""
        return self._appended if self._reversed_length is None else self._reversed_length

    @property
    def concealed_frames(self) -> tuple[int, ...]:
        """Entries without priors."""
        return tuple(sorted(self._entry(index) for index, row in enumerate(self._pictures) if not row[-1]))

    def finish(self) -> dict[str, dict[str, Any]]:
        """Write the arrays with one value per frame, and all array metadata.

        Returns
        -------
        dict of str to dict
            Metadata by name of array.
        """
        self.close()
        length = self.num_frames
        rows = self._pictures if self._reversed_length is None else self._pictures[::-1]
        pictures = picture_layouts()
        self._wait(
            [
                self._open(layout, length).write(np.array([row[column] for row in rows], layout.dtype))
                for column, layout in enumerate(pictures.values())
            ]
        )
        metadata = {name: layout.metadata(length) for name, layout in {**self._layouts, **pictures}.items()}
        for name, document in metadata.items():
            path = self._folder / name / METADATA_FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_json_bytes(document))
        return metadata

    def _allocate(self) -> dict[str, NDArray[Any]]:
        return {
            name: np.empty((SHARD_FRAMES, *layout.frame_shape), layout.dtype) for name, layout in self._layouts.items()
        }

    def _entry(self, index: int) -> int:
        return index if self._reversed_length is None else self._reversed_length - 1 - index

    def _at_shard_end(self, index: int) -> bool:
        entry = self._entry(index)
        return entry % SHARD_FRAMES == (SHARD_FRAMES - 1 if self._reversed_length is None else 0)

    def _fill(self, slot: int, frame: FramePriors) -> None:
        for name, buffer in self._buffers[0].items():
            layout = self._layouts[name]
            values: NDArray[Any] | None = getattr(frame, name)
            if not frame.picture.has_priors and (values is None or name not in _FRAME_NAMES):
                buffer[slot] = int(layout.spec.fill)
                continue
            if values is None or values.shape != layout.frame_shape:
                found = "nothing" if values is None else f"shape {values.shape}"
                raise SchemaError(f"frame {self._appended}: {name} is {found}, the store needs {layout.frame_shape}")
            if not np.can_cast(values.dtype, buffer.dtype, "safe"):
                _require_range(values, buffer.dtype, f"frame {self._appended}: {name}")
            np.copyto(buffer[slot], values, casting="unsafe")

    def _flush(self) -> None:
        shard = self._entry(self._appended - 1) // SHARD_FRAMES
        first = shard * SHARD_FRAMES
        if self._reversed_length is None:
            count = self._appended - first
            length = None if count == SHARD_FRAMES else self._appended
        else:
            length = self._reversed_length
            count = min(length - first, SHARD_FRAMES)
        self._settle()
        arrays = self._arrays(length)
        record = {"group": self._group, "shard": shard, "pictures": self._pictures[-count:]}
        try:
            # The buffer is left alone until the shard is on disk, so tensorstore need not copy it.
            writes = [
                arrays[name][first : first + count].write(buffer[:count], can_reference_source_data_indefinitely=True)
                for name, buffer in self._buffers[0].items()
            ]
        except ValueError as error:
            raise self._write_error(error) from error
        self._in_flight = (record, writes)
        if len(self._buffers) == 1:
            self._settle()
        self._buffers.reverse()

    def _arrays(self, length: int | None) -> dict[str, Any]:
        if length is not None and self._reversed_length is None:
            return {name: self._open(layout, length) for name, layout in self._layouts.items()}
        if self._fixed_arrays is None:
            known = _UNKNOWN_LENGTH if length is None else length
            self._fixed_arrays = {name: self._open(layout, known) for name, layout in self._layouts.items()}
        return self._fixed_arrays

    def _open(self, layout: ArrayLayout, length: int) -> Any:
        return open_shards(self._folder / layout.name, layout.metadata(length))

    def _settle(self) -> None:
        if self._in_flight is None:
            return
        record, writes = self._in_flight
        self._wait(writes)
        files = {}
        with os_errors(self._partial.target):
            for layout in self._layouts.values():
                path = self._folder / layout.shard_file(record["shard"])
                if path.exists():  # a shard that is all fill value has no file
                    with path.open("rb") as stream:
                        files[path.relative_to(self._partial.store).as_posix()] = sha256_of(stream)
        self._partial.record({**record, "files": files})
        self._in_flight = None  # only now: a shard that failed stays failed, whatever follows

    def _wait(self, writes: list[Any]) -> None:
        failures = [error for write in writes if (error := write.exception()) is not None]
        if failures:
            raise self._write_error(failures[0]) from failures[0]

    def _write_error(self, error: BaseException) -> StoreError:
        reason = str(error).splitlines()[0]
        return StoreError(f"{self._partial.target}: cannot write ({reason}); free space and run the same command again")

    def _differs(self, index: int) -> StoreError:
        return StoreError(
            f"{self._partial.target}: frame {index} is not what the interrupted run stored; "
            f"remove {self._partial.root} and run again"
        )


class StoreWriter:
    """Writes a store.

    A context manager: leaving it through an exception, or without :meth:`finish`, keeps what was finished for a later
    run with the same digest. Only :meth:`finish` makes the store appear.

    Parameters
    ----------
    target : str or path
        Final folder, or an fsspec URL: then written to a local temporary folder and uploaded at the end.
    digest : str
        Identifies input and settings: an unfinished store with the same digest is continued.
    attributes : mapping, optional
        Encoder, decoder, source and other facts to store, as JSON values.
    with_frames : bool
        Store decoded pictures, too.
    overwrite : bool
        Replace a finished store at the target once this one is finished.

    Attributes
    ----------
    scratch : Path
        Folder for files that a resumed run can use again; it goes when the store is finished.
    resumed : bool
        Whether an interrupted run left something to build on.

    Raises
    ------
    StoreError
        If the target exists, is being written by another process, or cannot be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        digest: str,
        attributes: Mapping[str, Any] | None = None,
        with_frames: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._facts = dict(attributes or {})
        self._with_frames = with_frames
        header = {"format_version": FORMAT_VERSION, "digest": digest, "with_frames": with_frames}
        self._partial = Partial(target, header, overwrite=overwrite)
        self.scratch = self._partial.scratch
        self.resumed = self._partial.holds_work()
        self._forward: PassWriter | None = None
        self._reverse: PassWriter | None = None

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in (self._forward, self._reverse):
            if writer is not None:
                writer.abandon()
        self._partial.release()

    def begin(self, stream: StreamInfo, *, mv_dtype: str = "int16") -> PassWriter:
        """Start the pass over the clip.

        Calling it again starts over, as needed when vectors turn out to need ``int32``; shards that fit are kept.

        Parameters
        ----------
        stream : StreamInfo
            Facts of the stream.
        mv_dtype : {"int16", "int32"}
            Element type of motion vectors.

        Returns
        -------
        PassWriter
            Takes the frames in display order.

        Raises
        ------
        StoreError
            If nothing can be written, or the writer is closed.
        """
        if self._reverse is not None:
            self._reverse.abandon()
            self._reverse = None
        self._forward = self._begin("", stream, mv_dtype, self._forward, None)
        return self._forward

    def begin_reverse(self, stream: StreamInfo, *, mv_dtype: str = "int16") -> PassWriter:
        """Close the forward pass and start that over the time-reversed clip.

        Parameters
        ----------
        stream : StreamInfo
            Facts of the reversed clip's stream.
        mv_dtype : {"int16", "int32"}
            Element type of its motion vectors.

        Returns
        -------
        PassWriter
            Takes the frames in the order of the reversed clip; the first one becomes the last entry.

        Raises
        ------
        StoreError
            If there was no forward pass, or its last shard cannot be written.
        """
        forward = self._require_forward()
        forward.close()
        self._reverse = self._begin(REVERSE_GROUP, stream, mv_dtype, self._reverse, forward.num_frames)
        return self._reverse

    def _begin(
        self, group: str, stream: StreamInfo, mv_dtype: str, previous: PassWriter | None, num_frames: int | None
    ) -> PassWriter:
        self._require_open()
        if previous is not None:
            previous.abandon()
        facts = StoreAttributes(stream=stream, num_frames=num_frames or 0).to_dict()
        start = {"group": group, "stream": facts, "mv_dtype": mv_dtype}
        begun = self._begun(group)
        if self._partial.records[begun : begun + 1] != [start]:
            self._partial.forget(begun)
            self._partial.record(start)
        layouts = frame_layouts(stream, with_frames=self._with_frames, mv_dtype=mv_dtype)
        return PassWriter(self._partial, group, stream, layouts, num_frames)

    def _begun(self, group: str) -> int:
        """Index of the first record of a pass."""
        groups = [record["group"] for record in self._partial.records]
        return groups.index(group) if group in groups else len(groups)

    def _require_open(self) -> None:
        if not self._partial.held:
            raise StoreError(f"{self._partial.name}: this writer is closed; open another")

    def _require_forward(self) -> PassWriter:
        self._require_open()
        if self._forward is None or self._forward.num_frames == 0:
            raise StoreError(f"{self._partial.name}: the stream has no frames; nothing to store")
        return self._forward

    def finish(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Write what is left, mark the store complete and give it its final name.

        Parameters
        ----------
        attributes : mapping, optional
            Facts known only at the end; they win over those given before.

        Raises
        ------
        StoreError
            If no frame was appended, or writing, renaming or uploading fails.
        """
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        facts = {"created": created, **self._facts, **(attributes or {})}
        forward = self._require_forward()
        forward.close()
        if self._reverse is None:
            self._partial.forget(self._begun(REVERSE_GROUP))
        with os_errors(self._partial.target):
            store = self._partial.store
            members = forward.finish()
            directions: tuple[str, ...] = ("forward",)
            if self._reverse is not None:
                arrays = self._reverse.finish()
                members[REVERSE_GROUP] = group_metadata(self._attributes(self._reverse, ("reverse",), facts), arrays)
                (store / REVERSE_GROUP / METADATA_FILE).write_bytes(_json_bytes(members[REVERSE_GROUP]))
                directions = ("forward", "reverse")
            document = _json_bytes(group_metadata(self._attributes(forward, directions, facts), members))
            self._partial.complete(document)
        self._partial.publish()

    def _attributes(self, writer: PassWriter, directions: tuple[str, ...], facts: dict[str, Any]) -> StoreAttributes:
        return StoreAttributes(
            stream=writer.stream,
            num_frames=writer.num_frames,
            directions=directions,
            concealed_frames=writer.concealed_frames,
            facts=facts,
        )


def _json_bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()


def _picture_row(picture: PictureInfo) -> list[Any]:
    values = (getattr(picture, spec.name) for spec in PICTURE_ARRAYS)
    row: list[Any] = [float(value) if isinstance(value, float) else int(value) for value in values]
    return [*row, bool(picture.has_priors)]


def _require_range(values: NDArray[Any], dtype: np.dtype[Any], what: str) -> None:
    limits = np.iinfo(dtype)
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        raise SchemaError(f"{what} has values from {low} to {high}, which do not fit {dtype.name}; nothing is clipped")
