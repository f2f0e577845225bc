"""A store as a lazy sequence of frames: slices, crops and array selections cost nothing until samples are asked for.

Coordinates are those of the output picture: the conformance window is cropped here, the file keeps the coded picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import ARRAYS, PICTURE_ARRAYS, ArrayKind, PictureType
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo, StreamInfo
from codecprior.errors import ConfigError, CorruptStoreError, IncompleteStoreError, SchemaError, StoreNotFoundError
from codecprior.store.bulk import ArrayReader, open_array, reading
from codecprior.store.location import Location
from codecprior.store.partial import partial_path
from codecprior.store.schema import (
    CHUNK_FRAMES,
    METADATA_FILE,
    REVERSE_GROUP,
    StoreAttributes,
    frame_layouts,
    picture_layouts,
)

__all__ = ["ClipPriors", "PriorsStore", "StoreGroup", "open_store"]


class StoreGroup:
    """One group of a store: attributes, per-picture facts and arrays, each read on first use.

    Pickles as its location and attributes, so that workers open their own arrays.

    Parameters
    ----------
    location : Location
        The store.
    group : str
        Sub-group, empty for the store itself.
    cached : bool
        Whether decompressed chunks are kept; see :func:`open_store`.
    """

    def __init__(self, location: Location, group: str = "", *, cached: bool = True) -> None:
        self.location = location
        self.group = group
        self.cached = cached
        where = f"{location}/{group}" if group else str(location)
        self.attributes = StoreAttributes.from_dict(location.group_attributes(group), where)

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("location", "group", "cached", "attributes")}

    @cached_property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file of this group by name relative to the group."""
        prefix = f"{self.group}/" if self.group else ""
        listed = self.location.checksums().items()
        return {name[len(prefix) :]: digest for name, digest in listed if name.startswith(prefix)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays of maps and planes, in the order of the format."""
        grids_and_planes = (name for name, spec in ARRAYS.items() if spec.kind is not ArrayKind.PICTURE)
        return tuple(name for name in grids_and_planes if f"{name}/{METADATA_FILE}" in self.checksums)

    @cached_property
    def _arrays(self) -> dict[str, ArrayReader]:
        return {}

    def array(self, name: str) -> ArrayReader:
        """Open an array.

        Parameters
        ----------
        name : str
            Name of the array.

        Returns
        -------
        ArrayReader
            The array.

        Raises
        ------
        CorruptStoreError
            If a file of it is missing or its metadata is damaged.
        SchemaError
            If it is not what the attributes say.
        """
        if name not in self._arrays:
            # A missing shard would read as fill values.
            path = f"{self.group}/{name}" if self.group else name
            skip = len(self.group) + 1 if self.group else 0
            present = {file[skip:] for file in self.location.files(path)}
            missing = sorted(file for file in self.checksums if file.startswith(f"{name}/") and file not in present)
            if missing:
                raise CorruptStoreError(f"{self.location}: file {missing[0]} is missing; extract again")
            array = open_array(self.location, path, cached=self.cached)
            self._require_layout(name, array)
            self._arrays[name] = array
        return self._arrays[name]

    def _require_layout(self, name: str, array: ArrayReader) -> None:
        layouts = {**frame_layouts(self.attributes.stream, with_frames=True), **picture_layouts()}
        if name not in layouts:
            raise SchemaError(f"{self.location}: a {self.attributes.stream.chroma_format} stream has no array {name!r}")
        shape = (self.attributes.num_frames, *layouts[name].frame_shape)
        dtypes = {layouts[name].dtype} | ({np.dtype(np.int32)} if name.startswith("mv_") else set())
        if array.shape != shape or array.dtype not in dtypes:
            raise SchemaError(
                f"{self.location}: {name} is {array.dtype}{list(array.shape)}, "
                f"the attributes say {layouts[name].dtype}{list(shape)}"
            )

    def start(self, name: str, selection: tuple[slice, ...]) -> Callable[[], NDArray[Any]]:
        """Start reading a part of an array.

        Parameters
        ----------
        name : str
            Name of the array.
        selection : tuple of slice
            Part of it, with positive steps.

        Returns
        -------
        callable
            Waits for the samples and returns them; raises StoreError where they cannot be read.
        """
        return reading(f"{self.location}/{name}", self.array(name).start(selection))

    @cached_property
    def pictures(self) -> tuple[PictureInfo, ...]:
        """Facts of all pictures."""
        waits = {spec.name: self.start(spec.name, (slice(None),)) for spec in PICTURE_ARRAYS}
        columns = {name: wait().tolist() for name, wait in waits.items()}
        concealed = set(self.attributes.concealed_frames)
        rows = zip(*columns.values(), strict=True)
        infos = []
        for frame, row in enumerate(rows):
            values = dict(zip(columns, row, strict=True))
            values["picture_type"] = PictureType(values["picture_type"])
            infos.append(PictureInfo(**values, has_priors=frame not in concealed))
        return tuple(infos)

    @cached_property
    def reference_frames(self) -> dict[int, dict[int, int]]:
        """Frame index by picture order count, by coded video sequence."""
        index: dict[int, dict[int, int]] = {}
        for frame, picture in enumerate(self.pictures):
            index.setdefault(picture.cvs, {})[picture.poc] = frame
        return index


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ClipPriors:
    """The priors of several frames in memory.

    Parameters
    ----------
    stream : StreamInfo
        Facts of the stream.
    frame_indices : tuple of int
        Position of each frame in display order.
    pictures : tuple of PictureInfo
        Facts of each frame.
    reference_frames : tuple of mapping of int to int
        For each frame, frame index by picture order count.
    box : Box
        The part of the coded picture that the arrays cover.
    arrays : mapping of str to ndarray
        Each array of :class:`~codecprior.core.priors.FramePriors` with a leading frame axis: (T, Hg, Wg, 2),
        (T, Hg, Wg) or (T, H, W).
    """

    stream: StreamInfo
    frame_indices: tuple[int, ...]
    pictures: tuple[PictureInfo, ...]
    reference_frames: tuple[Mapping[int, int], ...]
    box: Box
    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.frame_indices)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in self.arrays.items())
        return f"ClipPriors({len(self)} frames, {shapes or 'no arrays'})"

    @cached_property
    def frames(self) -> tuple[FramePriors, ...]:
        """One view per frame, on the same memory."""
        return tuple(
            FramePriors(
                stream=self.stream,
                picture=self.pictures[i],
                frame_index=self.frame_indices[i],
                box=self.box,
                reference_frames=self.reference_frames[i],
                **{name: array[i] for name, array in self.arrays.items()},
            )
            for i in range(len(self))
        )


class PriorsStore:
    """The coding priors of one sequence, read lazily; made by :func:`open_store`.

    A sequence of frames: ``store[t]`` reads one; ``store[a:b]``, :meth:`crop` and :meth:`select` give a restricted
    store that reads nothing yet; iterating reads ahead. Can be pickled; start workers with spawn or forkserver.

    Parameters
    ----------
    group : StoreGroup
        Where to read.
    frames : range
        The frames, by position in display order.
    box : Box
        The part of the coded picture.
    names : tuple of str
        The arrays to read.
    """

    def __init__(self, group: StoreGroup, frames: range, box: Box, names: tuple[str, ...]) -> None:
        self._group = group
        self._frames = frames
        self._box = box
        self._names = names

    def __len__(self) -> int:
        return len(self._frames)

    def __repr__(self) -> str:
        width, height = self.size
        stream = self.stream
        arrays = ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in self._shapes().items())
        facts = f"{len(self)} frames, {width}x{height}, {stream.bit_depth} bit, {stream.chroma_format}"
        return f"PriorsStore({self.location}: {facts}, {arrays or 'no arrays'})"

    @overload
    def __getitem__(self, index: int) -> FramePriors: ...

    @overload
    def __getitem__(self, index: slice) -> PriorsStore: ...

    def __getitem__(self, index: int | slice) -> FramePriors | PriorsStore:
        if isinstance(index, slice):
            return PriorsStore(self._group, self._frames[index], self._box, self._names)
        try:
            frame = self._frames[index]
        except IndexError:
            raise IndexError(f"frame {index}: {self.location} has {len(self)} frames here") from None
        return self._start(range(frame, frame + 1))().frames[0]

    def __iter__(self) -> Iterator[FramePriors]:
        pending: Callable[[], ClipPriors] | None = None
        for frames in _runs_within_chunks(self._frames):
            following = self._start(frames)
            if pending is not None:
                yield from pending().frames
            pending = following
        if pending is not None:
            yield from pending().frames

    @property
    def location(self) -> str:
        """Path or URL of the store."""
        group = self._group
        return f"{group.location}/{group.group}" if group.group else str(group.location)

    @property
    def stream(self) -> StreamInfo:
        """Facts of the stream."""
        return self._group.attributes.stream

    @property
    def attributes(self) -> Mapping[str, Any]:
        """All attributes as plain values: encoder, decoder, source and so on."""
        return self._group.attributes.to_dict()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays that are read."""
        return self._names

    @property
    def frame_indices(self) -> range:
        """Position of each frame in the stored sequence."""
        return self._frames

    @property
    def box(self) -> Box:
        """The part of the coded picture that is read."""
        return self._box

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in luma samples."""
        return self._box.width, self._box.height

    @property
    def pictures(self) -> tuple[PictureInfo, ...]:
        """Facts of each picture."""
        pictures = self._group.pictures
        return tuple(pictures[frame] for frame in self._frames)

    @property
    def reverse(self) -> PriorsStore | None:
        """The same frames in the pass over the time-reversed clip, or None; its vectors of frame t point to t + 1."""
        group = self._group
        if REVERSE_GROUP not in group.attributes.directions or group.group:
            return None
        reverse = StoreGroup(group.location, REVERSE_GROUP, cached=group.cached)
        return PriorsStore(reverse, self._frames, self._box, self._names)

    @property
    def coded(self) -> PriorsStore:
        """The same frames as whole coded pictures, with what the conformance window hides."""
        return PriorsStore(self._group, self._frames, Box(0, 0, *self.stream.coded_size), self._names)

    def crop(self, x: int, y: int, width: int, height: int) -> PriorsStore:
        """Restrict to a rectangle.

        Parameters
        ----------
        x, y : int
            Left and top in luma samples, relative to the output picture or to this crop.
        width, height : int
            Size in luma samples.

        Returns
        -------
        PriorsStore
            Reads only what the rectangle touches.

        Raises
        ------
        ConfigError
            If the rectangle sticks out or starts between two chroma samples.
        """
        box = self._box.within(Box(x, y, width, height))
        for plane in self.stream.planes:
            box.plane_slices(self.stream.subsampling(plane))
        return PriorsStore(self._group, self._frames, box, self._names)

    def select(self, *names: str) -> PriorsStore:
        """Restrict to some arrays.

        Parameters
        ----------
        *names : str
            Names of arrays, such as ``"mv_l0"``.

        Returns
        -------
        PriorsStore
            Reads only these.

        Raises
        ------
        ConfigError
            If the store has no array of a name.
        """
        for name in names:
            if name not in self._group.names:
                raise ConfigError(f"{self.location}: no array {name!r}; it has {', '.join(self._group.names)}")
        chosen = tuple(name for name in self._group.names if name in names)
        return PriorsStore(self._group, self._frames, self._box, chosen)

    def load(self) -> ClipPriors:
        """Read everything into memory.

        Returns
        -------
        ClipPriors
            Arrays with a leading frame axis.

        Raises
        ------
        CorruptStoreError
            If stored bytes are damaged or missing.
        """
        return self._start(self._frames)()

    def info(self) -> dict[str, Any]:
        """Facts as plain JSON values: attributes, and shape, type and stored bytes of every array.

        Returns
        -------
        dict
            Facts of what this object covers; the attributes and ``stored_bytes`` are those of the whole store.
        """
        sizes = self._group.location.files(self._group.group)
        arrays = {}
        for name, (dtype, shape) in self._shapes().items():
            folder = f"{self._group.group}/{name}/" if self._group.group else f"{name}/"
            stored = sum(size for file, size in sizes.items() if file.startswith(folder))
            arrays[name] = {"dtype": dtype.name, "shape": list(shape), "stored_bytes": stored}
        return {
            "location": self.location,
            **self.attributes,
            "num_frames": len(self),
            "size": list(self.size),
            "stored_bytes": sum(sizes.values()),
            "arrays": arrays,
        }

    def _selection(self, name: str) -> tuple[slice, slice]:
        spec = ARRAYS[name]
        if spec.kind is ArrayKind.GRID:
            return self._box.grid_slices
        return self._box.plane_slices(self.stream.subsampling(spec.plane))

    def _shapes(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        shapes = {}
        for name in self._names:
            array = self._group.array(name)
            rows, cols = self._selection(name)
            shape = (len(self), rows.stop - rows.start, cols.stop - cols.start, *array.shape[3:])
            shapes[name] = (array.dtype, shape)
        return shapes

    def _start(self, frames: range) -> Callable[[], ClipPriors]:
        rising = frames if frames.step > 0 else frames[::-1]
        entries = slice(rising.start, rising[-1] + 1, rising.step) if rising else slice(0, 0)
        waits = {name: self._group.start(name, (entries, *self._selection(name))) for name in self._names}

        def finish() -> ClipPriors:
            arrays = {name: wait() for name, wait in waits.items()}
            pictures = tuple(self._group.pictures[frame] for frame in frames)
            return ClipPriors(
                stream=self.stream,
                frame_indices=tuple(frames),
                pictures=pictures,
                reference_frames=tuple(self._group.reference_frames[picture.cvs] for picture in pictures),
                box=self._box,
                arrays=arrays if rising is frames else {name: array[::-1] for name, array in arrays.items()},
            )

        return finish


def open_store(target: str | os.PathLike[str], *, cached: bool = True) -> PriorsStore:
    """Open a finished store for reading.

    Parameters
    ----------
    target : str or path
        Local folder or fsspec URL.
    cached : bool
        Whether decompressed chunks are kept, 64 MiB for all stores of a process: reading frame after frame then
        decompresses each chunk once. Clips of many frames are read as fast without.

    Returns
    -------
    PriorsStore
        All frames, cropped to the conformance window, with all arrays.

    Raises
    ------
    StoreNotFoundError
        If there is no store.
    IncompleteStoreError
        If its writing never finished.
    SchemaError
        If it is something else, or has a newer format.
    CorruptStoreError
        If its metadata is damaged.
    """
    location = Location(target)
    try:
        group = StoreGroup(location, cached=cached)
        names = group.names
    except StoreNotFoundError as error:
        if location.is_local and (unfinished := partial_path(location.path)).exists():
            raise IncompleteStoreError(
                f"{location}: only an unfinished {unfinished.name} is there; run the same extract again"
            ) from error
        raise
    return PriorsStore(group, range(group.attributes.num_frames), group.attributes.stream.output_box, names)


def _runs_within_chunks(frames: range) -> Iterator[range]:
    """Split a range so that each piece lies within one inner chunk."""
    first = 0
    for i in range(1, len(frames) + 1):
        if i == len(frames) or frames[i] // CHUNK_FRAMES != frames[first] // CHUNK_FRAMES:
            yield frames[first:i]
            first = i
