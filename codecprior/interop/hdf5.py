"""The arrays of a priors store, or of all stores of a dataset, in one HDF5 file, for tools that do not read Zarr.

Names, dtypes, shapes, chunks and attributes are those of the store (format 1): datasets at the root, frames along the
first axis, the attributes as JSON in the root attribute ``codecprior``, the pass over the time-reversed clip in the
group ``reverse``. Datasets have their unit in the attribute ``unit``. Chunks are compressed with Blosc (zstd), which
HDF5 reads through the plugin that PyPI's hdf5plugin carries, and have Fletcher-32 checksums.

In the file of a dataset, the same lies in a group ``<split>/<sequence>`` for each sequence, with its line of the
manifest as JSON in the attribute ``manifest`` and, if wanted, packed frames in the datasets ``blurry`` and ``sharp``.
The root attribute ``codecprior`` lists the groups.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import ArrayKind, PictureType
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo, StreamInfo
from codecprior.errors import ConfigError, CorruptStoreError, SchemaError
from codecprior.interop.common import (
    ExportReport,
    ImportedPriors,
    Progress,
    check_same_stream,
    reference_frames,
    staged,
    unknown_arrays,
)
from codecprior.store.packed import PackedFrames
from codecprior.store.schema import (
    ATTRIBUTES_KEY,
    CHUNK_FRAMES,
    FORMAT_VERSION,
    REVERSE_GROUP,
    SHARD_FRAMES,
    ArrayLayout,
    StoreAttributes,
    frame_layouts,
    picture_layouts,
)

__all__ = [
    "export_hdf5",
    "hdf5_dataset",
    "hdf5_sequences",
    "read_frames",
    "read_hdf5",
    "read_manifest_line",
    "write_frames",
    "write_manifest_line",
    "write_priors",
]

_DATASET_KIND: Final = "dataset"
_MANIFEST_KEY: Final = "manifest"
_FRAME_CHUNK: Final = (CHUNK_FRAMES, 64, 64, 3)
"""Chunk of packed frames, as in their Zarr group."""


def export_hdf5(
    frames: Iterable[FramePriors],
    path: str | os.PathLike[str],
    *,
    facts: Mapping[str, Any] | None = None,
    reverse: Iterable[FramePriors] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write every array that the frames have.

    Parameters
    ----------
    frames : iterable of FramePriors
        Whole pictures in display order, all with the same arrays. At most 16 frames are held at a time.
    path : path-like
        The file to write.
    facts : mapping, optional
        Further attributes (source, encoder, ...), as plain JSON values.
    reverse : iterable of FramePriors, optional
        The same frames in the pass over the time-reversed clip, in display order.
    overwrite : bool
        Replace an existing file.
    progress : callable, optional
        Called after each frame with the number of frames done, over both passes.

    Returns
    -------
    ExportReport
        What was written. Nothing is left out, but where the frames show the conformance window only, samples outside
        it are filled.

    Raises
    ------
    ConfigError
        If the output exists, there are no frames, or a frame is a crop or differs from the first in arrays or types.
    """
    final = Path(path)
    with staged(final, overwrite=overwrite) as temporary, _create_file(temporary) as file:
        count, lost = write_priors(file, frames, facts=facts, reverse=reverse, progress=progress)
    return ExportReport(path=final, num_frames=count, size_bytes=final.stat().st_size, not_represented=lost)


@contextmanager
def hdf5_dataset(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[h5py.File]:
    """Make the file of a dataset, which appears under its name when the block ends without error.

    Parameters
    ----------
    path : path-like
        The file to write.
    overwrite : bool
        Replace an existing file.

    Yields
    ------
    h5py.File
        Where to make a group for each sequence.

    Raises
    ------
    ConfigError
        If the output exists, or no group was made.
    """
    with staged(path, overwrite=overwrite) as temporary, _create_file(temporary) as file:
        yield file
        found: list[str] = []
        file.visit(found.append)
        names = [name for name in found if _MANIFEST_KEY in file[name].attrs]
        if not names:
            raise ConfigError(f"{path} is not written: none of the sequences could be")
        file.attrs[ATTRIBUTES_KEY] = json.dumps(
            {"format_version": FORMAT_VERSION, "kind": _DATASET_KIND, "sequences": names}
        )


def _create_file(path: Path) -> h5py.File:
    return h5py.File(path, "w", libver="v110")  # readable by HDF5 1.10 and later


def write_priors(
    group: h5py.Group,
    frames: Iterable[FramePriors],
    *,
    facts: Mapping[str, Any] | None = None,
    reverse: Iterable[FramePriors] | None = None,
    progress: Progress | None = None,
) -> tuple[int, tuple[str, ...]]:
    """Write one sequence into a group; see :func:`export_hdf5`.

    Parameters
    ----------
    group : h5py.Group
        The file itself or a group in it.
    frames : iterable of FramePriors
        Whole pictures in display order.
    facts : mapping, optional
        Further attributes.
    reverse : iterable of FramePriors, optional
        The pass over the time-reversed clip.
    progress : callable, optional
        Called after each frame with the number of frames done.

    Returns
    -------
    tuple of int and tuple of str
        Number of frames, and what is left out, one sentence each.

    Raises
    ------
    ConfigError
        If there are no frames, or a frame is a crop or differs from the first in arrays or types.
    """
    both = ("forward",) if reverse is None else ("forward", "reverse")
    count, hidden = _write_pass(group, frames, dict(facts or {}), both, progress)
    if reverse is not None:
        done = None if progress is None else lambda number: progress(count + number)
        _write_pass(group.create_group(REVERSE_GROUP), reverse, dict(facts or {}), ("reverse",), done)
    return count, ("samples outside the conformance window were not read: filled",) if hidden else ()


def _write_pass(
    group: h5py.Group,
    frames: Iterable[FramePriors],
    facts: dict[str, Any],
    directions: tuple[str, ...],
    progress: Progress | None,
) -> tuple[int, bool]:
    pictures: list[PictureInfo] = []
    writer: _ArrayWriter | None = None
    for frame in frames:
        if writer is None:
            writer = _ArrayWriter(group, frame, len(frames) if isinstance(frames, Sized) else None)
            if frame.frame_index:
                facts["first_frame"] = frame.frame_index
        writer.append(frame)
        pictures.append(frame.picture)
        if progress is not None:
            progress(len(pictures))
    if writer is None:
        raise ConfigError("no frames to write")
    writer.flush()
    for name, layout in picture_layouts().items():
        values = np.array([getattr(picture, name) for picture in pictures], layout.dtype)
        _label(group.create_dataset(name, data=values, fletcher32=True, chunks=values.shape), layout.dimension_names)
    attributes = StoreAttributes(
        stream=writer.stream,
        num_frames=len(pictures),
        directions=directions,
        concealed_frames=tuple(t for t, picture in enumerate(pictures) if not picture.has_priors),
        facts=facts,
    )
    group.attrs[ATTRIBUTES_KEY] = json.dumps(attributes.to_dict())
    return len(pictures), writer.hidden


class _ArrayWriter:
    """Buffers a shard of frames and appends it to the datasets: HDF5 compresses each chunk once only."""

    def __init__(self, group: h5py.Group, first: FramePriors, num_frames: int | None) -> None:
        self.stream = first.stream
        self.hidden = False
        mv_dtype = "int16" if first.mv_l0 is None else str(first.mv_l0.dtype)
        layouts = frame_layouts(first.stream, with_frames=first.frame_y is not None, mv_dtype=mv_dtype)
        self._layouts = {name: layout for name, layout in layouts.items() if name in first.arrays()}
        self._num_frames = num_frames
        self._datasets = {
            name: _create(group, layout, first.stream, num_frames) for name, layout in self._layouts.items()
        }
        self._buffers = {
            name: np.empty((SHARD_FRAMES, *layout.frame_shape), layout.dtype) for name, layout in self._layouts.items()
        }
        self._count = 0
        self._written = 0

    def append(self, frame: FramePriors) -> None:
        check_same_stream(frame, self.stream)
        arrays = frame.arrays()
        if arrays.keys() != self._layouts.keys():
            odd = sorted(arrays.keys() ^ self._layouts.keys())
            raise ConfigError(f"frame {frame.frame_index} and the first differ in having {odd[0]}; read all alike")
        for name, array in arrays.items():
            layout, slot = self._layouts[name], self._buffers[name][self._count]
            if array.dtype != layout.dtype:
                raise ConfigError(f"frame {frame.frame_index} has {name} as {array.dtype}, the first as {layout.dtype}")
            place = _place(frame, layout)
            if array.shape != slot.shape:
                self.hidden = True
                slot[:] = layout.spec.fill
            slot[place] = array
        self._count += 1
        if self._count == SHARD_FRAMES:
            self.flush()

    def flush(self) -> None:
        stop = self._written + self._count
        for name, dataset in self._datasets.items():
            if self._num_frames is None:
                dataset.resize(stop, axis=0)
            dataset[self._written : stop] = self._buffers[name][: self._count]
        self._written, self._count = stop, 0


def _place(frame: FramePriors, layout: ArrayLayout) -> tuple[slice, slice]:
    """Rows and columns of the coded picture that a frame's array covers."""
    shown, box = frame.stream.output_box, frame.box
    if box.x > shown.x or box.y > shown.y or box.width < shown.width or box.height < shown.height:
        raise ConfigError(
            f"frame {frame.frame_index} is a {box.width}x{box.height} crop of a {shown.width}x{shown.height} picture; "
            "export whole pictures"
        )
    if layout.spec.kind is ArrayKind.GRID:
        return box.grid_slices
    return box.plane_slices(frame.stream.subsampling(layout.spec.plane))


def _create(group: h5py.Group, layout: ArrayLayout, stream: StreamInfo, num_frames: int | None) -> h5py.Dataset:
    # Of known length where possible: what HDF5 notes of the chunks of a dataset that can grow stays in memory until the
    # file is closed.
    dataset = group.create_dataset(
        layout.name,
        shape=(num_frames or 0, *layout.frame_shape),
        maxshape=(num_frames, *layout.frame_shape),
        dtype=layout.dtype,
        chunks=(min(CHUNK_FRAMES, num_frames or CHUNK_FRAMES), *layout.tile),
        fillvalue=layout.spec.fill,
        fletcher32=True,
        **hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    )
    _label(dataset, layout.dimension_names)
    if layout.name in ("mv_l0", "mv_l1"):
        dataset.attrs["unit"] = f"1/{stream.mv_scale} luma sample, x before y; reference = current + mv"
    elif layout.spec.kind is ArrayKind.PLANE:
        dataset.attrs["unit"] = f"sample value at {stream.bit_depth} bit"
    return dataset


def _label(dataset: h5py.Dataset, names: Iterable[str]) -> None:
    for axis, name in enumerate(names):
        dataset.dims[axis].label = name


def write_frames(group: h5py.Group, packed: PackedFrames, sides: Iterable[str]) -> None:
    """Write packed frames of a sequence beside its priors, 16 frames at a time.

    Parameters
    ----------
    group : h5py.Group
        Group of the sequence.
    packed : PackedFrames
        The frames.
    sides : iterable of str
        Names of the sides to write, such as ``"blurry"``.

    Raises
    ------
    StoreError
        If the frames cannot be read.
    """
    for side in sides:
        width, height = packed.frame_size(side)
        shape = (len(packed), height, width, 3)
        dataset = group.create_dataset(
            side,
            shape=shape,
            dtype=np.uint8,
            chunks=tuple(map(min, _FRAME_CHUNK, shape)),
            fletcher32=True,
            **hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.BITSHUFFLE),
        )
        _label(dataset, ("frame", "row", "column", "channel"))
        dataset.attrs["unit"] = "R'G'B', full range, 8 bit"
        for first in range(0, len(packed), SHARD_FRAMES):
            some = slice(first, min(first + SHARD_FRAMES, len(packed)))
            dataset[some] = packed.start(side, (some, slice(0, height), slice(0, width)))()


def read_frames(path: str | os.PathLike[str], sequence: str) -> dict[str, Iterator[NDArray[np.uint8]]]:
    """Open what :func:`write_frames` wrote.

    Parameters
    ----------
    path : path-like
        The file of a dataset.
    sequence : str
        Name of the group.

    Returns
    -------
    dict of str to iterator of ndarray, shape (H, W, 3), uint8
        Frames in display order by side; empty where the file has none. 8 frames are held at a time.

    Raises
    ------
    SchemaError
        If they are no frames.
    CorruptStoreError
        While iterating, if data does not match its checksum.
    """
    source = Path(path)
    with _open_file(source) as file:
        shapes = {side: file[sequence][side].shape for side in ("blurry", "sharp") if side in file[sequence]}
    for side, shape in shapes.items():
        if len(shape) != 4 or shape[3] != 3:
            raise SchemaError(f"{source}: {sequence}/{side} has shape {list(shape)}; [T, H, W, 3] is accepted")

    def frames(side: str) -> Iterator[NDArray[np.uint8]]:
        for _, arrays in _read_chunks(source, sequence, [side], shapes[side][0]):
            yield from arrays[side]

    return {side: frames(side) for side in shapes}


def write_manifest_line(group: h5py.Group, line: Mapping[str, Any]) -> None:
    """Write what a manifest says of a sequence, as JSON values; it marks the group as a sequence."""
    group.attrs[_MANIFEST_KEY] = json.dumps(line)


def read_manifest_line(path: str | os.PathLike[str], sequence: str) -> dict[str, Any]:
    """Read what :func:`write_manifest_line` wrote.

    Parameters
    ----------
    path : path-like
        The file of a dataset.
    sequence : str
        Name of the group.

    Returns
    -------
    dict
        JSON values.

    Raises
    ------
    SchemaError
        If it is missing, or no line of a manifest.
    """
    with _open_file(Path(path)) as file:
        line = _json_attribute(file[sequence], _MANIFEST_KEY, f"{path}: {sequence}")
    missing = [name for name in ("sequence", "split", "num_frames", "blurry", "sharp") if name not in line]
    if missing:
        raise SchemaError(f"{path}: {sequence}: attribute {_MANIFEST_KEY!r} has no {missing[0]}; export it again")
    return line


def hdf5_sequences(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Name the sequences of the file of a dataset.

    Parameters
    ----------
    path : path-like
        The HDF5 file.

    Returns
    -------
    tuple of str
        Names of the groups; empty for the file of a single store.

    Raises
    ------
    SchemaError
        If it is no HDF5 file or not one of this format, or a group is missing.
    """
    source = Path(path)
    with _open_file(source) as file:
        attributes = _json_attribute(file, ATTRIBUTES_KEY, str(source))
        if attributes.get("kind") != _DATASET_KIND:
            return ()
        names = tuple(str(name) for name in attributes.get("sequences", ()))
        for name in names:
            if not isinstance(file.get(name), h5py.Group):
                raise SchemaError(f"{source} has no group {name}, which it lists; export it again")
    return names


def read_hdf5(path: str | os.PathLike[str], *, sequence: str | None = None) -> ImportedPriors:
    """Open a file that :func:`export_hdf5` wrote, or one sequence of the file of a dataset.

    Parameters
    ----------
    path : path-like
        The HDF5 file.
    sequence : str, optional
        Name of the group in the file of a dataset.

    Returns
    -------
    ImportedPriors
        Frames of the whole coded picture with every array in the file, bit-exact; 8 frames are held at a time.

    Raises
    ------
    ConfigError
        If the file has no such sequence, or has several and none is chosen.
    SchemaError
        If it is no HDF5 file or not one of this format.
    CorruptStoreError
        While iterating, if data does not match its checksum.
    """
    source = Path(path)
    names = hdf5_sequences(source)
    if sequence not in (names or (None,)):
        asked = "several sequences and none chosen" if sequence is None else f"no sequence {sequence!r}"
        raise ConfigError(f"{source} has {asked}; sequences there: {', '.join(names) or 'a single one without name'}")
    root = sequence or "/"
    with _open_file(source) as file:
        backward = f"{root}/{REVERSE_GROUP}" if REVERSE_GROUP in file[root] else None
    reverse = None if backward is None else _read_pass(source, backward, backward=True)
    return dataclasses.replace(_read_pass(source, root), reverse=reverse)


def _read_pass(source: Path, name: str, *, backward: bool = False) -> ImportedPriors:
    where = str(source) if name == "/" else f"{source}: {name}"
    with _open_file(source) as file:
        group = file[name]
        attributes = StoreAttributes.from_dict(_json_attribute(group, ATTRIBUTES_KEY, where), where)
        layouts = _check_arrays(group, where, attributes)
        pictures = _read_pictures(group, attributes)

    def read() -> Iterator[FramePriors]:
        references = reference_frames(pictures)
        for first, arrays in _read_chunks(source, name, layouts, attributes.num_frames, backward=backward):
            offsets = range(len(next(iter(arrays.values()), ())))
            for offset in reversed(offsets) if backward else offsets:
                yield FramePriors(
                    stream=attributes.stream,
                    picture=pictures[first + offset],
                    frame_index=first + offset,
                    box=Box(0, 0, *attributes.stream.coded_size),
                    reference_frames=references[first + offset],
                    **{name: array[offset] for name, array in arrays.items()},
                )

    absent = unknown_arrays(attributes.stream, layouts)
    return ImportedPriors(
        stream=attributes.stream,
        num_frames=attributes.num_frames,
        read=read,
        attributes=dict(attributes.facts),
        unknown=(f"arrays that the file does not have: {', '.join(absent)}",) if absent else (),
        unknown_arrays=absent,
    )


@contextmanager
def _open_file(source: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(source, "r") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SchemaError(f"{source} is no HDF5 file that can be read: {error}") from error


def _json_attribute(group: h5py.Group, key: str, where: str) -> dict[str, Any]:
    text = group.attrs.get(key)
    if not isinstance(text, str):
        raise SchemaError(f"{where} has no attribute {key!r}; give a file that codecprior exported")
    try:
        values = json.loads(text)
    except ValueError as error:
        raise SchemaError(f"{where}: attribute {key!r} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise SchemaError(f"{where}: attribute {key!r} is no JSON object")
    return values


def _check_arrays(group: h5py.Group, where: str, attributes: StoreAttributes) -> dict[str, ArrayLayout]:
    """Return the layouts of the arrays in a group, checked against the format."""
    mv_dtype = "int32" if "mv_l0" in group and group["mv_l0"].dtype == np.int32 else "int16"
    layouts = frame_layouts(attributes.stream, with_frames=True, mv_dtype=mv_dtype)
    for name, layout in {**layouts, **picture_layouts()}.items():
        if name not in group:
            if layout.spec.kind is ArrayKind.PICTURE:
                raise SchemaError(f"{where} has no dataset {name}; export it again")
            continue
        expected = (attributes.num_frames, *layout.frame_shape)
        found = group[name]
        if not isinstance(found, h5py.Dataset) or found.shape != expected or found.dtype != layout.dtype:
            raise SchemaError(f"{where}: {name} is not a dataset {layout.dtype}{list(expected)}; export it again")
    return {name: layout for name, layout in layouts.items() if name in group}


def _read_pictures(group: h5py.Group, attributes: StoreAttributes) -> list[PictureInfo]:
    columns = {name: group[name][:].tolist() for name in picture_layouts()}
    concealed = set(attributes.concealed_frames)
    return [
        PictureInfo(
            **{name: values[t] for name, values in columns.items() if name != "picture_type"},
            picture_type=PictureType(columns["picture_type"][t]),
            has_priors=t not in concealed,
        )
        for t in range(attributes.num_frames)
    ]


def _read_chunks(
    source: Path, group: str, names: Iterable[str], num_frames: int, *, backward: bool = False
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    chunks = range(0, num_frames, CHUNK_FRAMES)
    for first in reversed(chunks) if backward else chunks:
        try:
            with h5py.File(source, "r") as file:
                stop = min(first + CHUNK_FRAMES, num_frames)
                arrays = {name: file[group][name][first:stop] for name in names}
        except OSError as error:
            place = source if group == "/" else f"{source}: {group}"
            raise CorruptStoreError(f"{place}: frames {first} to {stop - 1} cannot be read: {error}") from error
        yield first, arrays
