"""The arrays of a priors store in one HDF5 file, for tools that do not read Zarr.

Names, dtypes, shapes, chunks and attributes are those of the store (format 1): datasets at the root, frames along the
first axis, the attributes as JSON in the root attribute ``codecprior``. Chunks are compressed with Blosc (zstd), which
HDF5 reads through the plugin that PyPI's hdf5plugin carries, and have Fletcher-32 checksums.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import ArrayKind, PictureType
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo
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
from codecprior.store.schema import (
    ATTRIBUTES_KEY,
    CHUNK_FRAMES,
    SHARD_FRAMES,
    ArrayLayout,
    StoreAttributes,
    frame_layouts,
    picture_layouts,
)

__all__ = ["export_hdf5", "read_hdf5"]


def export_hdf5(
    frames: Iterable[FramePriors],
    path: str | os.PathLike[str],
    *,
    facts: Mapping[str, Any] | None = None,
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
    overwrite : bool
        Replace an existing file.
    progress : callable, optional
        Called after each frame with the number of frames done.

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
    with staged(final, overwrite=overwrite) as temporary:
        count, hidden = _write(temporary, frames, dict(facts or {}), progress)
    lost = ("samples outside the conformance window were not read: filled",) if hidden else ()
    return ExportReport(path=final, num_frames=count, size_bytes=final.stat().st_size, not_represented=lost)


def _write(
    path: Path, frames: Iterable[FramePriors], facts: dict[str, Any], progress: Progress | None
) -> tuple[int, bool]:
    pictures: list[PictureInfo] = []
    writer: _ArrayWriter | None = None
    with h5py.File(path, "w", libver="v110") as file:  # readable by HDF5 1.10 and later
        for frame in frames:
            if writer is None:
                writer = _ArrayWriter(file, frame)
                if frame.frame_index:
                    facts["first_frame"] = frame.frame_index
            writer.append(frame)
            pictures.append(frame.picture)
            if progress is not None:
                progress(len(pictures))
        if writer is None:
            raise ConfigError(f"no frames to write to {path.name}")
        writer.flush()
        for name, layout in picture_layouts().items():
            values = np.array([getattr(picture, name) for picture in pictures], layout.dtype)
            _label(file.create_dataset(name, data=values, fletcher32=True, chunks=values.shape), layout)
        attributes = StoreAttributes(
            stream=writer.stream,
            num_frames=len(pictures),
            concealed_frames=tuple(t for t, picture in enumerate(pictures) if not picture.has_priors),
            facts=facts,
        )
        file.attrs[ATTRIBUTES_KEY] = json.dumps(attributes.to_dict())
    return len(pictures), writer.hidden


class _ArrayWriter:
    """Buffers a shard of frames and appends it to the datasets: HDF5 compresses each chunk once only."""

    def __init__(self, file: h5py.File, first: FramePriors) -> None:
        self.stream = first.stream
        self.hidden = False
        mv_dtype = "int16" if first.mv_l0 is None else str(first.mv_l0.dtype)
        layouts = frame_layouts(first.stream, with_frames=first.frame_y is not None, mv_dtype=mv_dtype)
        self._layouts = {name: layout for name, layout in layouts.items() if name in first.arrays()}
        self._datasets = {name: _create(file, layout) for name, layout in self._layouts.items()}
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


def _create(file: h5py.File, layout: ArrayLayout) -> h5py.Dataset:
    dataset = file.create_dataset(
        layout.name,
        shape=(0, *layout.frame_shape),
        maxshape=(None, *layout.frame_shape),
        dtype=layout.dtype,
        chunks=(CHUNK_FRAMES, *layout.tile),
        fillvalue=layout.spec.fill,
        fletcher32=True,
        **hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    )
    _label(dataset, layout)
    return dataset


def _label(dataset: h5py.Dataset, layout: ArrayLayout) -> None:
    for axis, name in enumerate(layout.dimension_names):
        dataset.dims[axis].label = name


def read_hdf5(path: str | os.PathLike[str]) -> ImportedPriors:
    """Open a file that :func:`export_hdf5` wrote.

    Parameters
    ----------
    path : path-like
        The HDF5 file.

    Returns
    -------
    ImportedPriors
        Frames of the whole coded picture with every array in the file, bit-exact; 8 frames are held at a time.

    Raises
    ------
    SchemaError
        If it is no HDF5 file or not one of this format.
    CorruptStoreError
        While iterating, if data does not match its checksum.
    """
    source = Path(path)
    try:
        with h5py.File(source, "r") as file:
            attributes = _read_attributes(file, source)
            layouts = _check_arrays(file, source, attributes)
            pictures = _read_pictures(file, attributes)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SchemaError(f"{source} is no HDF5 file that can be read: {error}") from error

    def read() -> Iterator[FramePriors]:
        references = reference_frames(pictures)
        for first, arrays in _read_chunks(source, layouts, attributes.num_frames):
            for offset in range(len(next(iter(arrays.values()), ()))):
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


def _read_attributes(file: h5py.File, source: Path) -> StoreAttributes:
    text = file.attrs.get(ATTRIBUTES_KEY)
    if not isinstance(text, str):
        raise SchemaError(f"{source} has no root attribute {ATTRIBUTES_KEY!r}; give a file that codecprior exported")
    try:
        values = json.loads(text)
    except ValueError as error:
        raise SchemaError(f"{source}: root attribute {ATTRIBUTES_KEY!r} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise SchemaError(f"{source}: root attribute {ATTRIBUTES_KEY!r} is no JSON object")
    return StoreAttributes.from_dict(values, str(source))


def _check_arrays(file: h5py.File, source: Path, attributes: StoreAttributes) -> dict[str, ArrayLayout]:
    """Return the layouts of the arrays in the file, checked against the format."""
    mv_dtype = "int32" if "mv_l0" in file and file["mv_l0"].dtype == np.int32 else "int16"
    layouts = frame_layouts(attributes.stream, with_frames=True, mv_dtype=mv_dtype)
    for name, layout in {**layouts, **picture_layouts()}.items():
        if name not in file:
            if layout.spec.kind is ArrayKind.PICTURE:
                raise SchemaError(f"{source} has no dataset {name}; export it again")
            continue
        expected = (attributes.num_frames, *layout.frame_shape)
        found = file[name]
        if not isinstance(found, h5py.Dataset) or found.shape != expected or found.dtype != layout.dtype:
            raise SchemaError(f"{source}: {name} is not a dataset {layout.dtype}{list(expected)}; export it again")
    return {name: layout for name, layout in layouts.items() if name in file}


def _read_pictures(file: h5py.File, attributes: StoreAttributes) -> list[PictureInfo]:
    columns = {name: file[name][:].tolist() for name in picture_layouts()}
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
    source: Path, layouts: Mapping[str, ArrayLayout], num_frames: int
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    for first in range(0, num_frames, CHUNK_FRAMES):
        try:
            with h5py.File(source, "r") as file:
                stop = min(first + CHUNK_FRAMES, num_frames)
                arrays = {name: file[name][first:stop] for name in layouts}
        except OSError as error:
            raise CorruptStoreError(f"{source}: frames {first} to {stop - 1} cannot be read: {error}") from error
        yield first, arrays
