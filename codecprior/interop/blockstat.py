"""Write priors as block statistics text of the VVC reference software, which YUView shows over a video.

The lines follow the format strings of VTM's ``dtrace_blockstatistics.cpp`` and were checked against what YUView's
``StatisticsFileVTMBMS.cpp`` (IENT/YUView 039aaac) accepts. Three of its habits shape the file:

- It takes the POC of a line as the frame number and expects all lines of one POC together. The writer therefore puts
  the frame's index in display order there, which also keeps pictures apart whose POC repeats after an IDR; the true
  picture order counts stand in ``# Picture`` comments, which YUView skips.
- It reads the scale of vectors from the header, so that vectors keep their full 1/16 sample precision although VTM
  itself rounds ``MVL0`` and ``MVL1`` to 1/4.
- It reports blocks that stick out of the picture, so that blocks are cut at the conformance window; a ``# CU`` comment
  keeps the true size of a unit that was cut.

Where a map varies inside a coding unit (affine and refined motion, geometric partitions, transform blocks), the unit
is cut into rectangles of equal value: nothing is averaged or sampled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import REF_NONE, CodingFlag, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import StreamInfo
from codecprior.errors import ConfigError
from codecprior.interop.blocks import block_pixels, coding_unit_labels, uniform_blocks
from codecprior.interop.common import (
    ExportReport,
    Progress,
    check_same_stream,
    picture_to_json,
    staged,
    stream_to_json,
    visible,
)

__all__ = ["EDGES", "FLAG_STATISTICS", "FORMAT_VERSION", "export_blockstat"]

FORMAT_VERSION: Final = 1
"""Version of the comments by which the importer recovers what BlockStat text cannot say."""

EDGES: Final = np.uint8(CodingFlag.LEFT_EDGE | CodingFlag.TOP_EDGE)
"""The bits of ``coding_flags`` that say where coding units begin."""

FLAG_STATISTICS: Final = {
    "SkipFlag": CodingFlag.SKIP,
    "MergeFlag": CodingFlag.MERGE,
    "AffineFlag": CodingFlag.AFFINE,
    "GeoFlag": CodingFlag.GEO,
    "CiipFlag": CodingFlag.CIIP,
    "Cbf_Y": CodingFlag.RESIDUAL,
}
"""Statistics that are one bit of ``coding_flags``. The names are VTM's, except ``GeoFlag``, which VTM does not have."""

_NOTICE: Final = (
    "# Written by codecprior. POC is the index of the frame in display order, which YUView takes as the frame number;",
    "# the picture order counts are in the '# Picture' lines. RefPOCDelta is the reference's POC minus the picture's.",
)


@dataclass(frozen=True)
class _Statistic:
    """One map to write: values per cell, and where they mean something."""

    name: str
    kind: str
    values: NDArray[Any]
    where: NDArray[np.bool_]


def export_blockstat(
    frames: Iterable[FramePriors],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write motion vectors, references, modes, flags and QP as BlockStat text.

    Parameters
    ----------
    frames : iterable of FramePriors
        Whole pictures in display order, with ``coding_flags``, ``cu_size`` and ``pred_mode``. Other grid arrays are
        written where present. Residual and decoded pictures are not needed.
    path : path-like
        The file to write. YUView recognises the extension ``.vtmbmsstats``.
    overwrite : bool
        Replace an existing file.
    progress : callable, optional
        Called after each frame with the number of frames done.

    Returns
    -------
    ExportReport
        What was written.

    Raises
    ------
    ConfigError
        If the output exists, there are no frames, or a frame is a crop or lacks an array.
    """
    final = Path(path)
    count = 0
    stream: StreamInfo | None = None
    with staged(final, overwrite=overwrite) as temporary, temporary.open("w", encoding="ascii", newline="\n") as out:
        for original in frames:
            frame = visible(original)
            if stream is None:
                stream = frame.stream
                _write_header(out, frame)
            check_same_stream(frame, stream)
            _write_picture(out, frame)
            count += 1
            if progress is not None:
                progress(count)
        if stream is None:
            raise ConfigError(f"no frames to write to {final}")
        out.write(f"# End: {count} pictures\n")
    lost = ["BlockStat text has no samples: residual and decoded pictures are not in it"]
    if any(stream.conformance_window):
        lost.append(f"blocks outside the conformance window {stream.conformance_window} were left out or cut")
    return ExportReport(path=final, num_frames=count, size_bytes=final.stat().st_size, not_represented=tuple(lost))


def _write_header(out: TextIO, frame: FramePriors) -> None:
    width, height = frame.size
    mv_dtype = "int16" if frame.mv_l0 is None else str(frame.mv_l0.dtype)
    grids = [name for name in frame.arrays() if not name.startswith(("residual_", "frame_"))]
    facts = {**stream_to_json(frame.stream), "version": FORMAT_VERSION, "mv_dtype": mv_dtype, "arrays": grids}
    lines = [
        "# VTMBMS Block Statistics",
        f"# Sequence size: [{width}x {height}]",
        *_NOTICE,
        f"# codecprior: {json.dumps(facts)}",
        *(f"# Block Statistic Type: {statistic.name}; {statistic.kind}" for statistic in _statistics(frame)),
    ]
    out.writelines(f"{line}\n" for line in lines)


def _write_picture(out: TextIO, frame: FramePriors) -> None:
    facts = picture_to_json(frame.picture)
    references = {str(poc): index for poc, index in frame.reference_frames.items()}
    out.write(f"# Picture: {json.dumps({'frame': frame.frame_index, **facts, 'reference_frames': references})}\n")
    labels = coding_unit_labels(frame.require("coding_flags"))
    out.writelines(_cut_units(frame, labels))
    for statistic in _statistics(frame):
        out.writelines(_block_lines(frame, labels, statistic))


def _statistics(frame: FramePriors) -> Iterator[_Statistic]:
    """Give the maps that a frame has, in the order of the file."""
    pred_mode, flags = frame.require("pred_mode"), frame.require("coding_flags")
    known = pred_mode != PredMode.NONE
    inter = pred_mode == PredMode.INTER
    yield _Statistic("PredMode", f"Integer; [0, {PredMode.PALETTE.value}]", pred_mode, known)
    if frame.qp is not None:
        yield _Statistic("QP", "Integer; [0, 63]", frame.qp, known | (frame.qp != 0))
    for name, bit in FLAG_STATISTICS.items():
        flag = (flags & bit) != 0
        everywhere = known if bit is CodingFlag.RESIDUAL else inter
        yield _Statistic(name, "Flag; ", flag.astype(np.uint8), everywhere | flag)

    lists = [name for name in ("l0", "l1") if getattr(frame, f"ref_poc_delta_{name}") is not None]
    used = {name: frame.require(f"ref_poc_delta_{name}") != REF_NONE for name in lists}
    if lists == ["l0", "l1"]:
        direction = used["l0"].astype(np.uint8) + 2 * used["l1"].astype(np.uint8)
        yield _Statistic("InterDir", "Integer; [1, 3]", direction, direction != 0)
    for name in lists:
        yield _Statistic(
            f"RefPOCDelta{name.upper()}", "Integer; [-16, 16]", frame.require(f"ref_poc_delta_{name}"), used[name]
        )
        vectors = getattr(frame, f"mv_{name}")
        if vectors is not None:
            yield _Statistic(f"MV{name.upper()}", f"Vector; Scale: {frame.stream.mv_scale}", vectors, used[name])


def _block_lines(frame: FramePriors, labels: NDArray[np.int64], statistic: _Statistic) -> Iterator[str]:
    blocks = uniform_blocks([labels, statistic.values, statistic.where])
    blocks = blocks[statistic.where[blocks["row"], blocks["col"]]]
    values = statistic.values[blocks["row"], blocks["col"]]
    if values.ndim == 1:
        value, values = "%d", values[:, None]
    else:
        value = "{%4d,%4d}"  # both as VTM prints them
    numbers = np.concatenate([block_pixels(frame, blocks), values], axis=1).tolist()
    template = f"BlockStat: POC {frame.frame_index} @(%4d,%4d) [%2dx%2d] {statistic.name}={value}\n"
    return (template % tuple(row) for row in numbers)


def _cut_units(frame: FramePriors, labels: NDArray[np.int64]) -> Iterator[str]:
    """Describe the coding units whose visible part does not tell their size or where they begin."""
    sizes, flags = frame.require("cu_size"), frame.require("coding_flags")
    units = uniform_blocks([labels])
    units = units[frame.require("pred_mode")[units["row"], units["col"]] != PredMode.NONE]
    pixels = block_pixels(frame, units)
    size, edges = sizes[units["row"], units["col"]], flags[units["row"], units["col"]] & EDGES
    coded = np.stack([np.left_shift(1, size >> 4, dtype=np.int32), np.left_shift(1, size & 15, dtype=np.int32)], axis=1)
    cut = (pixels[:, 2:] != coded).any(axis=1) | (edges != EDGES)
    for (x, y, width, height), cu_size, edge in zip(pixels[cut].tolist(), size[cut], edges[cut], strict=True):
        yield f"# CU: @({x},{y}) [{width}x{height}] cu_size={cu_size} edges={edge}\n"
