"""Motion and residual as the .npy files that CPGD-Net's data loaders read.

The layout, as read in ``basicsr/data/VideoDeblur_dataset.py`` of liuyike422/CPGD-Net (1b21fd5)::

    MVs/<clip>/<clip>_00000_00001.npy     (2, H/4, W/4), 1/16 luma sample, x before y
    resi/<clip>/<clip>_00000_00001.npy    (H, W), luma residual

A clip of N frames has N - 1 files of each kind. File ``t_(t+1)`` holds the priors of frame t+1, with vectors that point
to frame t: the network warps the features of t by them, sampling at position + vector. Their loader repeats vectors
4 x 4 and divides by 16, and uses ``(residual + 1) / 512``. The BSD variant writes the frame numbers with 8 digits.

The files have no list, no reference and no mode. A vector is written only where list 0 refers to the previous frame;
elsewhere there is 0, which the files cannot tell from a block at rest. How many cells that concerns stands in
``<clip>.json`` at the root: inside ``MVs`` or ``resi`` their test loader would take it for a clip or an array.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL, REF_NONE, PictureType, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.errors import ConfigError, DatasetError
from codecprior.interop.common import (
    DAMAGED_JSON,
    ExportReport,
    ImportedPriors,
    Progress,
    check_same_stream,
    staged,
    stream_from_json,
    stream_to_json,
    unknown_arrays,
    visible,
)
from codecprior.media.files import natural_key

__all__ = ["clip_files", "cpgd_net_clips", "export_cpgd_net", "read_clip_metadata", "read_cpgd_net"]

_VERSION: Final = 1
_FOLDERS: Final = ("MVs", "resi")
_BIT_DEPTH: Final = 10
"""The depth that their ``(residual + 1) / 512`` is made for."""
_MV_SCALE: Final = 16
_UNITS_UNKNOWN: Final = (
    f"units: 1/{_MV_SCALE} sample and {_BIT_DEPTH} bit are assumed, as their training reads the files; those of their "
    "264/265 variant, with 1/4 sample and 8 bit, can look the same"
)
_GRID_265: Final = 8
"""Samples of a cell in their 264/265 variant."""


def export_cpgd_net(
    frames: Iterable[FramePriors],
    path: str | os.PathLike[str],
    *,
    clip: str,
    digits: int = 5,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write list 0 motion and luma residual of one clip.

    Parameters
    ----------
    frames : iterable of FramePriors
        Consecutive whole pictures in display order, with motion and references of list 0 and luma residual. The first
        one has no previous frame in the clip, and so no file.
    path : path-like
        Root of the data set: the folder that holds or will hold ``MVs`` and ``resi``. Other clips in it stay.
    clip : str
        Name of the clip: its folder and the prefix of its files.
    digits : int
        Digits of the frame numbers: 5, or 8 for their BSD variant.
    facts : mapping, optional
        Further metadata, as JSON values.
    overwrite : bool
        Replace an existing clip of that name.
    progress : callable, optional
        Called after each frame with the number of frames done.

    Returns
    -------
    ExportReport
        What was written and what was left out.

    Raises
    ------
    ConfigError
        If the clip exists, there are fewer than two frames, frames are missing in between, or a frame is a crop or
        lacks an array.
    """
    root = Path(path)
    if not clip or Path(clip).name != clip or clip.startswith("."):
        raise ConfigError(f"clip name {clip!r}: use a plain folder name")
    stream: StreamInfo | None = None
    first, last, cells = 0, 0, Counter[str]()
    with (
        staged(root / f"{clip}.json", overwrite=overwrite) as metadata,
        staged(root / "resi" / clip, overwrite=overwrite) as residuals,
        staged(root / "MVs" / clip, overwrite=overwrite) as vectors,
    ):
        vectors.mkdir()
        residuals.mkdir()
        for original in frames:
            frame = visible(original)
            if stream is None:
                stream, first, last = frame.stream, frame.frame_index, frame.frame_index
            else:
                check_same_stream(frame, stream)
                if frame.frame_index != last + 1:
                    raise ConfigError(f"frame {frame.frame_index} follows {last}: a clip of pairs needs every frame")
                name = f"{clip}_{last:0{digits}d}_{frame.frame_index:0{digits}d}.npy"
                np.save(vectors / name, _previous_frame_motion(frame, cells))
                np.save(residuals / name, frame.require("residual_y"))
                last = frame.frame_index
            if progress is not None:
                progress(last - first + 1)
        if stream is None or last == first:
            raise ConfigError(f"clip {clip!r} has fewer than two frames: there is no pair to write")
        described = {**_metadata(stream, first, last, cells), "facts": dict(facts or {})}
        metadata.write_text(json.dumps(described, indent=1) + "\n")
        files = [metadata, *vectors.iterdir(), *residuals.iterdir()]
        size = sum(file.stat().st_size for file in files)
    return ExportReport(
        path=root,
        num_frames=last - first + 1,
        size_bytes=size,
        not_represented=tuple(_not_represented(stream, first, cells)),
    )


def _previous_frame_motion(frame: FramePriors, cells: Counter[str]) -> NDArray[Any]:
    """Return list 0 vectors (2, H/4, W/4) that point to the previous frame, 0 elsewhere, and count the cells."""
    box = frame.box
    # their loader repeats cells from the corner of the picture, which the conformance window may have moved
    rows = (np.arange(0, box.height, CELL) + box.y % CELL) // CELL
    cols = (np.arange(0, box.width, CELL) + box.x % CELL) // CELL
    vectors = frame.require("mv_l0")[np.ix_(rows, cols)]
    used = frame.uses_list(0)[np.ix_(rows, cols)]
    previous = used & (frame.ref_frame_index(0)[np.ix_(rows, cols)] == frame.frame_index - 1)
    cells["previous_frame"] += int(previous.sum())
    cells["other_frame"] += int((used & ~previous).sum())
    cells["no_list_0"] += int((~used).sum())
    return np.ascontiguousarray(np.moveaxis(np.where(previous[..., None], vectors, 0).astype(vectors.dtype), -1, 0))


def _not_represented(stream: StreamInfo, first: int, cells: Counter[str]) -> Iterator[str]:
    yield f"frame {first} has no file, and the files have no list 1, modes, flags, QP or chroma residual"
    total = sum(cells.values())
    for key, what in (
        ("no_list_0", "do not use list 0"),
        ("other_frame", "refer to another frame than the previous"),
    ):
        if cells[key]:
            yield f"{cells[key]} of {total} cells ({100 * cells[key] / total:.1f} %) {what}: written as 0"
    if stream.bit_depth != _BIT_DEPTH:
        yield f"their loader scales residuals as fits {_BIT_DEPTH} bit; these are unscaled at {stream.bit_depth} bit"
    if stream.mv_scale != _MV_SCALE:
        yield f"their loader divides vectors by {_MV_SCALE}; these are in 1/{stream.mv_scale} sample"
    width, height = stream.output_size
    if width % CELL or height % CELL:
        yield f"their loader expands vectors to multiples of {CELL}, which {width}x{height} is not: crop the frames"


def _metadata(stream: StreamInfo, first: int, last: int, cells: Counter[str]) -> dict[str, Any]:
    return {
        "format": "CPGD-Net .npy files",
        "version": _VERSION,
        "stream": stream_to_json(stream),
        "first_frame": first,
        "last_frame": last,
        "MVs": {
            "shape": "(2, H/4, W/4), x before y",
            "unit": f"1/{stream.mv_scale} luma sample",
            "meaning": "file t_(t+1): from a cell of frame t+1 to its list 0 reference, frame t; position + vector",
            "zero": "also where the cell has no list 0 vector to the previous frame",
            "cells": {name: cells[name] for name in ("previous_frame", "no_list_0", "other_frame")},
        },
        "resi": {
            "shape": "(H, W)",
            "unit": f"luma sample value at {stream.bit_depth} bit",
            "meaning": "file t_(t+1): residual of frame t+1 before in-loop filters",
        },
    }


def read_cpgd_net(path: str | os.PathLike[str], *, clip: str | None = None) -> ImportedPriors:
    """Open one clip of a CPGD-Net data set.

    Parameters
    ----------
    path : path-like
        Root with ``MVs`` and ``resi``.
    clip : str, optional
        Name of the clip; not needed where the root has only one.

    Returns
    -------
    ImportedPriors
        One frame more than there are pairs: the first has no priors. Motion is list 0, referring to the previous
        frame, in every cell; POC is the frame index.

    Raises
    ------
    DatasetError
        If folders or pairs are missing, or shapes or types do not fit.
    """
    root = Path(path)
    clip = _choose_clip(root, clip)
    metadata = read_clip_metadata(root, clip)
    pairs = _list_pairs(root, clip, metadata)
    first = pairs[0][0]
    size, narrow = _check_arrays(root, clip, [name for _, name in pairs])
    stream = _read_stream(root / f"{clip}.json", metadata, size)
    maps = ("mv_l0", "ref_poc_delta_l0", "pred_mode", "residual_y")

    def read() -> Iterator[FramePriors]:
        indices = {index: index for index in range(first, first + len(pairs) + 1)}
        for index in indices:
            arrays = _empty_maps(stream, np.dtype(np.int16 if narrow else np.int32))
            if index > first:
                name = pairs[index - first - 1][1]
                arrays["mv_l0"][:] = np.moveaxis(_integers(root / "MVs" / clip / name, arrays["mv_l0"].dtype), 0, -1)
                arrays["ref_poc_delta_l0"][:] = -1
                arrays["pred_mode"][:] = PredMode.INTER
                arrays["residual_y"][:] = _integers(root / "resi" / clip / name, np.dtype(np.int16))
            yield FramePriors(
                stream=stream,
                picture=PictureInfo(
                    poc=index,
                    decode_order=index - first,
                    picture_type=PictureType.P if index > first else PictureType.I,
                    slice_qp=0,
                    has_priors=index > first,
                ),
                frame_index=index,
                box=stream.output_box,
                reference_frames=indices,
                **arrays,
            )

    return ImportedPriors(
        stream=stream,
        num_frames=len(pairs) + 1,
        read=read,
        attributes={"imported_from": "CPGD-Net .npy files", "clip": clip},
        unknown=(
            f"everything about frame {first}: the files begin with the next one",
            "list 1, coding units, flags, QP and chroma residual",
            "which zero vectors are blocks without motion: all cells are called inter and refer to the previous frame",
            "picture types and picture order counts: P pictures and frame indices are assumed",
            *(() if metadata else (_UNITS_UNKNOWN,)),
        ),
        unknown_arrays=unknown_arrays(stream, maps),
    )


def cpgd_net_clips(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Name the clips of a CPGD-Net data set.

    Parameters
    ----------
    path : path-like
        Root with ``MVs`` and ``resi``.

    Returns
    -------
    tuple of str
        Names of the folders that are in one of both, in natural order.

    Raises
    ------
    DatasetError
        If a folder is missing.
    """
    root = Path(path)
    missing = [name for name in _FOLDERS if not (root / name).is_dir()]
    if missing:
        raise DatasetError(f"{root} has no folder {missing[0]}; give the folder that holds MVs and resi")
    names = {entry.name for kind in _FOLDERS for entry in (root / kind).glob("[!.]*") if entry.is_dir()}
    return tuple(sorted(names, key=natural_key))


def read_clip_metadata(path: str | os.PathLike[str], clip: str) -> dict[str, Any] | None:
    """Read what the exporter wrote about a clip.

    Parameters
    ----------
    path : path-like
        Root of the data set.
    clip : str
        Name of the clip.

    Returns
    -------
    dict or None
        JSON values; None where the clip has none, as in a data set of theirs.

    Raises
    ------
    DatasetError
        If the file is damaged.
    """
    file = Path(path) / f"{clip}.json"
    try:
        metadata: dict[str, Any] = json.loads(file.read_text())
        if metadata["version"] != _VERSION:
            raise DatasetError(f"{file} has version {metadata['version']}; this codecprior reads {_VERSION}")
        bounds = {name: int(metadata[name]) for name in ("first_frame", "last_frame")}
    except FileNotFoundError:
        return None
    except DatasetError:
        raise
    except DAMAGED_JSON as error:
        raise DatasetError(f"{file} is damaged ({error!r}); export the clip again") from error
    return {**metadata, **bounds}


def clip_files(path: str | os.PathLike[str], clip: str) -> list[Path]:
    """List the files of a clip, those of motion before those of residual.

    Parameters
    ----------
    path : path-like
        Root of the data set.
    clip : str
        Name of the clip.

    Returns
    -------
    list of Path
        Sorted by name.
    """
    return [file for kind in _FOLDERS for file in sorted((Path(path) / kind / clip).glob("*.npy"))]


def _choose_clip(root: Path, clip: str | None) -> str:
    names = cpgd_net_clips(root)
    if clip is None and len(names) == 1:
        return names[0]
    if clip not in names:
        asked = "several clips and none chosen" if clip is None else f"no clip {clip!r}"
        raise DatasetError(f"{root / 'MVs'} has {asked}; clips there: {', '.join(names) or 'none'}")
    return clip


def _list_pairs(root: Path, clip: str, metadata: Mapping[str, Any] | None) -> list[tuple[int, str]]:
    """Return (t, file name) of all pairs (t, t+1), checked to be complete and the same for motion and residual."""
    named = re.compile(rf"{re.escape(clip)}_(\d{{5,}})_(\d{{5,}})\.npy")
    files, starts, digits = dict.fromkeys(clip_files(root, clip)), dict[str, int](), 0
    for file in files:
        match = named.fullmatch(file.name)
        if match is None or int(match[2]) != int(match[1]) + 1:
            raise DatasetError(f"{file} is not named {clip}_<t>_<t+1>.npy; remove it")
        starts[file.name], digits = int(match[1]), len(match[1])
    if not files:
        raise DatasetError(f"{root / 'MVs' / clip} holds no .npy file")
    known = metadata or {}
    first = known.get("first_frame", min(starts.values()))
    stop = known.get("last_frame", max(starts.values()) + 1)
    starts |= {f"{clip}_{t:0{digits}d}_{t + 1:0{digits}d}.npy": t for t in range(first, stop)}
    for name in sorted(starts):
        for kind in _FOLDERS:
            if root / kind / clip / name not in files:
                raise DatasetError(f"{root / kind / clip / name} is missing; restore it or export the clip again")
    if len(starts) != stop - first:
        raise DatasetError(
            f"{root / 'MVs' / clip} has {len(starts)} files, {clip}.json says {stop - first}; remove others"
        )
    return sorted((t, name) for name, t in starts.items())


def _check_arrays(root: Path, clip: str, names: Iterable[str]) -> tuple[tuple[int, int], bool]:
    """Return width and height of the clip, and whether vectors fit 16 bit, or refuse what does not fit together."""
    shape: tuple[int, ...] = ()
    narrow = True
    for name in names:
        file = root / "resi" / clip / name
        residual = _load(file, mapped=True)
        shape = shape or residual.shape
        if residual.ndim != 2 or residual.shape != shape or not residual.size:
            accepted = shape if len(shape) == 2 else "(H, W)"
            raise DatasetError(f"{file} has shape {residual.shape}; {accepted} is accepted")
        file = root / "MVs" / clip / name
        vectors = _load(file, mapped=True)
        expected, coarse = ((2, *(-(-side // cell) for side in shape)) for cell in (CELL, _GRID_265))
        if vectors.shape != expected:
            hint = f"; cells of {_GRID_265} are those of their 264/265 variant" if vectors.shape == coarse else ""
            raise DatasetError(f"{file} has shape {vectors.shape}; {expected} fits the residual {shape}{hint}")
        narrow &= vectors.dtype in (np.int8, np.int16)
    height, width = shape
    return (width, height), narrow


def _read_stream(file: Path, metadata: Mapping[str, Any] | None, size: tuple[int, int]) -> StreamInfo:
    """Take the facts of the stream from the exporter's metadata where there is any; the size is that of the arrays."""
    if metadata is None:
        return StreamInfo(codec="vvc", coded_size=size, bit_depth=_BIT_DEPTH, chroma_format="4:2:0", mv_scale=_MV_SCALE)
    try:
        stream = stream_from_json(metadata["stream"])
    except DAMAGED_JSON as error:
        raise DatasetError(f"{file} is damaged ({error!r}); export the clip again") from error
    return dataclasses.replace(stream, coded_size=size, conformance_window=(0, 0, 0, 0))


def _empty_maps(stream: StreamInfo, mv_dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
    return {
        "mv_l0": np.zeros((*stream.grid_shape, 2), mv_dtype),
        "ref_poc_delta_l0": np.full(stream.grid_shape, REF_NONE, np.int16),
        "pred_mode": np.full(stream.grid_shape, PredMode.NONE, np.uint8),
        "residual_y": np.zeros(stream.plane_shape("y"), np.int16),
    }


def _load(file: Path, *, mapped: bool = False) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{file} is not a readable .npy file: {error}") from error
    if array.dtype.kind not in "iuf":
        raise DatasetError(f"{file} holds {array.dtype}; numbers are accepted")
    return array


def _integers(file: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Load whole numbers, whatever type they are stored as, and refuse what the target type cannot hold."""
    array = _load(file)
    converted = array.astype(dtype)
    if not np.array_equal(converted, array):
        raise DatasetError(f"{file} holds {array.dtype} values that are not whole numbers of {dtype}; check its units")
    return converted
