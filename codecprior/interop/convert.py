"""From a store to another tool's format and back: picks exporter or importer, reads only what the format needs."""

from __future__ import annotations

import dataclasses
import itertools
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from codecprior.core.arrays import GRID_ARRAYS, ArrayKind, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box
from codecprior.errors import ConfigError
from codecprior.interop.common import REVERSE_LEFT_OUT, ExportReport, ImportedPriors, Progress
from codecprior.store import PriorsStore, StoreWriter
from codecprior.store.schema import frame_layouts

__all__ = ["FORMATS", "arrays_for", "export_store", "hdf5_passes", "import_store", "num_passes", "open_import"]

FORMATS: Final = ("blockstat", "mv-extractor", "cpgd-net", "hdf5")
"""Names of the formats."""

_NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "blockstat": frozenset(spec.name for spec in GRID_ARRAYS),
    "mv-extractor": frozenset(("mv_l0", "mv_l1", "ref_poc_delta_l0", "ref_poc_delta_l1", "coding_flags")),
    "cpgd-net": frozenset(("mv_l0", "ref_poc_delta_l0", "residual_y")),
}


def arrays_for(store: PriorsStore, file_format: str) -> tuple[str, ...]:
    """Name the arrays of a store that a format can hold.

    Parameters
    ----------
    store : PriorsStore
        The store.
    file_format : str
        One of :data:`FORMATS`.

    Returns
    -------
    tuple of str
        What :func:`export_store` reads.

    Raises
    ------
    ConfigError
        If there is no such format.
    """
    _require_format(file_format)
    needed = _NEEDED.get(file_format)
    return tuple(name for name in store.names if needed is None or name in needed)


def export_store(
    store: PriorsStore,
    path: str | os.PathLike[str],
    file_format: str,
    *,
    clip: str | None = None,
    digits: int = 5,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a store, or a slice of one, in another tool's format.

    Parameters
    ----------
    store : PriorsStore
        What to write: whole pictures.
    path : path-like
        The file (blockstat, hdf5), folder (mv-extractor) or root of a data set (cpgd-net) to write.
    file_format : str
        One of :data:`FORMATS`.
    clip : str, optional
        Name of the clip in a CPGD-Net data set; the default is the store's name.
    digits : int
        Digits of frame numbers in a CPGD-Net data set.
    overwrite : bool
        Replace what is there.
    progress : callable, optional
        Called after each frame with the number of frames done, which goes up to the number of frames times
        :func:`num_passes`.

    Returns
    -------
    ExportReport
        What was written, and what the format cannot say.

    Raises
    ------
    ConfigError
        If the output exists or an option does not fit.
    """
    frames = store.select(*arrays_for(store, file_format))
    if file_format == "blockstat":
        from codecprior.interop.blockstat import export_blockstat

        report = export_blockstat(frames, path, overwrite=overwrite, progress=progress)
    elif file_format == "mv-extractor":
        from codecprior.interop.mvextractor import export_mv_extractor

        report = export_mv_extractor(frames, path, overwrite=overwrite, progress=progress)
    elif file_format == "cpgd-net":
        from codecprior.interop.cpgdnet import export_cpgd_net

        name = Path(store.location).stem if clip is None else clip
        report = export_cpgd_net(frames, path, clip=name, digits=digits, overwrite=overwrite, progress=progress)
    else:
        from codecprior.interop.hdf5 import export_hdf5

        forward, reverse = hdf5_passes(store)
        facts = store.attributes
        return export_hdf5(forward, path, facts=facts, reverse=reverse, overwrite=overwrite, progress=progress)
    if store.reverse is not None:
        report = dataclasses.replace(report, not_represented=(*report.not_represented, REVERSE_LEFT_OUT))
    return report


def hdf5_passes(store: PriorsStore) -> tuple[PriorsStore, PriorsStore | None]:
    """Return the passes over a clip that go into HDF5.

    Parameters
    ----------
    store : PriorsStore
        The store, or a slice of one.

    Returns
    -------
    tuple of PriorsStore
        The clip, and the time-reversed clip where the store has it. Whole pictures come with what the conformance
        window hides, so that the file is bit-exact there, too.
    """
    whole = store.box == store.stream.output_box
    reverse = store.reverse
    return (store.coded, reverse and reverse.coded) if whole else (store, reverse)


def num_passes(store: PriorsStore | ImportedPriors, file_format: str) -> int:
    """Count the passes over a clip that an export to a format, or an import, goes through.

    Parameters
    ----------
    store : PriorsStore or ImportedPriors
        What is read.
    file_format : str
        One of :data:`FORMATS`.

    Returns
    -------
    int
        1 or 2.
    """
    return 2 if file_format == "hdf5" and store.reverse is not None else 1


def open_import(path: str | os.PathLike[str], file_format: str, *, clip: str | None = None) -> ImportedPriors:
    """Open another tool's files.

    Parameters
    ----------
    path : path-like
        File, folder or root, as written by :func:`export_store` or by the other tool.
    file_format : str
        One of :data:`FORMATS`.
    clip : str, optional
        Name of the clip in a CPGD-Net data set that has several, or of the sequence in the HDF5 file of a dataset.

    Returns
    -------
    ImportedPriors
        The frames, read lazily, and what the format cannot know.

    Raises
    ------
    ConfigError
        If there is no such format or path.
    DatasetError, SchemaError, TraceError
        If the files do not follow the format.
    """
    _require_format(file_format)
    if not Path(path).exists():
        raise ConfigError(f"{os.fspath(path)} does not exist; give a file or folder of format {file_format}")
    if file_format == "blockstat":
        from codecprior.interop.blockstat_reader import read_blockstat

        return read_blockstat(path)
    if file_format == "mv-extractor":
        from codecprior.interop.mvextractor import read_mv_extractor

        return read_mv_extractor(path)
    if file_format == "cpgd-net":
        from codecprior.interop.cpgdnet import read_cpgd_net

        return read_cpgd_net(path, clip=clip)
    from codecprior.interop.hdf5 import read_hdf5

    return read_hdf5(path, sequence=clip)


def import_store(
    imported: ImportedPriors,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write imported priors as a store.

    Arrays that the format does not give are stored with their fill value and named in the attribute
    ``unknown_arrays``, beside the sentences of ``unknown``.

    Parameters
    ----------
    imported : ImportedPriors
        What :func:`open_import` returned.
    target : path-like
        Path or URL of the store.
    overwrite : bool
        Replace a finished store.
    progress : callable, optional
        Called after each frame with the number of frames done.

    Raises
    ------
    ConfigError
        If modes, or references of vectors, are unknown: a store cannot say that.
    StoreError
        If the target exists or cannot be written.
    """
    unknown = set(imported.unknown_arrays)
    if "pred_mode" in unknown or ("ref_poc_delta_l0" in unknown and "mv_l0" not in unknown):
        raise ConfigError(
            "these files do not say which blocks are predicted from which pictures, as a store must; "
            "read them in Python with codecprior.interop.convert.open_import"
        )
    first = next(iter(imported), None)
    if first is None:
        raise ConfigError("these files hold no frames")
    facts = {**imported.attributes, "unknown": list(imported.unknown), "unknown_arrays": list(imported.unknown_arrays)}
    with StoreWriter(
        target,
        digest=uuid.uuid4().hex,  # the files may change until the next run: an interrupted import starts over
        attributes=facts,
        with_frames=first.frame_y is not None,
        overwrite=overwrite,
    ) as writer:
        done = itertools.count(1)
        for source, begin in ((imported, writer.begin), (imported.reverse, writer.begin_reverse)):
            if source is None:
                continue
            mv_dtype = _narrowest_mv_dtype(source)
            clip = begin(source.stream, mv_dtype=mv_dtype)
            for frame in source:
                clip.append(_whole(frame, mv_dtype))
                if progress is not None:
                    progress(next(done))
        writer.finish()


def _require_format(file_format: str) -> None:
    if file_format not in FORMATS:
        raise ConfigError(f"format {file_format!r}: use one of {', '.join(FORMATS)}")


def _narrowest_mv_dtype(imported: ImportedPriors) -> str:
    limits = np.iinfo(np.int16)
    for frame in imported:
        vectors = [array for array in (frame.mv_l0, frame.mv_l1) if array is not None]
        if all(array.dtype == np.int16 for array in vectors):
            return "int16"
        if any(array.min() < limits.min or array.max() > limits.max for array in vectors):
            return "int32"
    return "int16"


def _whole(frame: FramePriors, mv_dtype: str) -> FramePriors:
    """Return the coded picture with every array of a store; what the frame does not have is filled."""
    stream = frame.stream
    arrays: dict[str, Any] = {}
    for name, layout in frame_layouts(stream, with_frames=frame.frame_y is not None, mv_dtype=mv_dtype).items():
        array = getattr(frame, name)
        if array is None or array.shape != layout.frame_shape:
            # a store has a mode for every cell of a frame with priors, outside the conformance window as well
            fill = PredMode.INTRA if name == "pred_mode" and frame.picture.has_priors else layout.spec.fill
            whole = np.full(layout.frame_shape, fill, layout.dtype)
            if array is not None and layout.spec.kind is ArrayKind.GRID:
                whole[frame.box.grid_slices] = array
            elif array is not None:
                whole[frame.box.plane_slices(stream.subsampling(layout.spec.plane))] = array
            array = whole
        arrays[name] = array
    return dataclasses.replace(frame, box=Box(0, 0, *stream.coded_size), **arrays)
