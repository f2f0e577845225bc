"""Read block statistics text, written by codecprior or by the VVC reference software (VTM).

Of a file that :func:`~codecprior.interop.blockstat.export_blockstat` wrote, every grid array of the visible picture
comes back exactly. Of VTM's own trace:

- pictures come in decoding order; they are sorted into display order by POC, and a POC that repeats is taken as the
  start of a new coded video sequence, since the text does not say where one begins;
- motion is read from ``MotionBufL0`` and ``MotionBufL1`` where the trace has them (the rule
  ``D_BLOCK_STATISTICS_ALL`` prints them per 4x4 cell, at the scale that the header states), else from ``MVL0`` and
  ``MVL1``, which VTM rounds to 1/4 sample and prints neither for affine nor for geometric blocks;
- references are indices into lists that the trace does not give, so the reference POCs stay unknown;
- bit depth, chroma format and frame rate are not in the text.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import ARRAYS, CELL, CodingFlag, PictureType
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo, StreamInfo
from codecprior.errors import TraceError
from codecprior.interop.blockstat import EDGES, FLAG_STATISTICS, FORMAT_VERSION
from codecprior.interop.common import (
    DAMAGED_JSON,
    ImportedPriors,
    picture_from_json,
    reference_frames,
    stream_from_json,
    unknown_arrays,
)

__all__ = ["read_blockstat"]

_SIZE: Final = re.compile(rb"# Sequence size: \[ *(\d+) *x *(\d+)\]")
_TYPE: Final = re.compile(rb"# Block Statistic Type: *(\w+); *\w+;.*Scale: *(\d+)")
_POC: Final = re.compile(rb"BlockStat: POC (\d+) ")
_BLOCK: Final = re.compile(
    rb"BlockStat: POC \d+ @\( *(\d+), *(\d+)\) *\[ *(\d+) *x *(\d+)\] *(\w+)=(?:(-?\d+)|\{([-0-9, ]+)\})\s*$"
)
_CUT: Final = re.compile(rb"# CU: @\((\d+),(\d+)\) \[(\d+)x(\d+)\] cu_size=(\d+) edges=(\d+)$")
_END: Final = re.compile(rb"# End: (\d+) pictures$")
_FACTS: Final = b"# codecprior: "
_PICTURE: Final = b"# Picture: "

_SCALARS: Final = {
    "PredMode": "pred_mode",
    "QP": "qp",
    "RefPOCDeltaL0": "ref_poc_delta_l0",
    "RefPOCDeltaL1": "ref_poc_delta_l1",
}
_UNIT_STATISTICS: Final = ("PredMode", "Depth")
"""Statistics with one line per coding unit; VTM's trace of coded data has only the second."""

_VTM_MAPS: Final = ("mv_l0", "mv_l1", "pred_mode", "coding_flags", "cu_size", "qp")


class _Picture(NamedTuple):
    """Where the lines of a picture lie in the file, and what is known of it before they are read."""

    start: int
    stop: int
    frame_index: int
    info: PictureInfo
    references: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What the header and a first pass over the file tell."""

    path: Path
    stream: StreamInfo
    maps: tuple[str, ...]
    mv_dtype: str
    motion: str
    """Statistics that hold the vectors: this name and L0 or L1."""
    is_vtm: bool
    pictures: tuple[_Picture, ...]


def read_blockstat(path: str | os.PathLike[str]) -> ImportedPriors:
    """Open a BlockStat text file.

    The file is scanned once for where pictures begin; iterating then reads one picture at a time.

    Parameters
    ----------
    path : path-like
        A ``.vtmbmsstats`` file in text form (not CSV).

    Returns
    -------
    ImportedPriors
        The frames in display order. ``stream.mv_scale`` is the scale of the vectors in the file: 16, or 4 where VTM
        rounded them.

    Raises
    ------
    TraceError
        If the file does not follow the format. The blocks themselves are read, and refused, when iterating.
    """
    source = _open(Path(path))
    stream = source.stream
    unknown = ["samples: BlockStat text has neither residual nor pictures"]
    if source.is_vtm:
        unknown += [
            "reference pictures: VTM prints indices into lists that it does not print",
            "bit depth, chroma format and frame rate: 10 bit 4:2:0 assumed",
            "picture types, slice QP and coded sizes: pictures with inter blocks are called B",
        ]
        if source.motion == "MV":
            unknown.append(
                f"exact motion: VTM rounded it to 1/{stream.mv_scale} sample and left out affine and geometric blocks"
            )
    return ImportedPriors(
        stream=stream,
        num_frames=len(source.pictures),
        read=lambda: _read_pictures(source),
        attributes={"imported_from": "VTM BlockStat text" if source.is_vtm else "BlockStat text of codecprior"},
        unknown=tuple(unknown),
        unknown_arrays=unknown_arrays(stream, source.maps),
    )


def _open(path: Path) -> _Source:
    with path.open("rb") as file:
        size, scales, facts, body = _read_header(file)
        if size is None:
            raise TraceError(f"{path} has no '# Sequence size' line; give BlockStat text of VTM or codecprior")
        if facts is not None:
            return _open_ours(path, file, body, facts)
        return _open_vtm(path, file, body, size, scales)


def _read_header(file: BinaryIO) -> tuple[tuple[int, int] | None, dict[str, int], bytes | None, int]:
    """Return picture size, vector scales by statistic, codecprior's facts, and where the body begins."""
    size, scales, facts, position = None, {}, None, 0
    for line in file:
        if not line.startswith(b"#") or line.startswith(_PICTURE):
            break
        position += len(line)
        if match := _SIZE.match(line):
            size = int(match[1]), int(match[2])
        elif match := _TYPE.match(line):
            scales[match[1].decode()] = int(match[2])
        elif line.startswith(_FACTS):
            facts = line.removeprefix(_FACTS)
    return size, scales, facts, position


def _open_ours(path: Path, file: BinaryIO, body: int, header: bytes) -> _Source:
    starts: list[tuple[int, bytes]] = []
    announced, position = None, body
    file.seek(body)
    for line in file:
        if line.startswith(_PICTURE):
            starts.append((position, line.removeprefix(_PICTURE)))
        position += len(line)
        if match := _END.match(line):
            announced = int(match[1])
    if announced != len(starts):
        raise TraceError(
            f"{path} is cut off: {len(starts)} pictures and no line '# End: {len(starts)} pictures'; write it again"
        )
    stops = [start for start, _ in starts[1:]] + [position]
    try:
        facts = json.loads(header)
        if facts["version"] != FORMAT_VERSION:
            raise TraceError(
                f"{path} has version {facts['version']} of codecprior's comments; this one reads {FORMAT_VERSION}"
            )
        pictures = []
        for (start, line), stop in zip(starts, stops, strict=True):
            picture = json.loads(line)
            references = {int(poc): int(index) for poc, index in picture["reference_frames"].items()}
            pictures.append(_Picture(start, stop, int(picture["frame"]), picture_from_json(picture), references))
        return _Source(
            path=path,
            stream=stream_from_json(facts),
            maps=tuple(name for name in facts["arrays"] if name in ARRAYS),
            mv_dtype=str(np.dtype(facts["mv_dtype"])),
            motion="MV",
            is_vtm=False,
            pictures=tuple(pictures),
        )
    except TraceError:
        raise
    except DAMAGED_JSON as error:
        raise TraceError(f"{path} has a damaged comment of codecprior ({error!r}); write it again") from error


def _open_vtm(path: Path, file: BinaryIO, body: int, size: tuple[int, int], scales: dict[str, int]) -> _Source:
    runs: list[tuple[int, int, bool]] = []  # offset, POC, has inter blocks; in decoding order
    position, has_motion_buffer = body, False
    file.seek(body)
    for line in file:
        if match := _POC.match(line):
            poc = int(match[1])
            if not runs or runs[-1][1] != poc:
                runs.append((position, poc, False))
            if b" InterDir=" in line:
                runs[-1] = (*runs[-1][:2], True)
            has_motion_buffer |= b" MotionBufL" in line
        position += len(line)
    if not runs:
        raise TraceError(f"{path} has no line that begins with 'BlockStat: POC'; give the text form, not the CSV form")
    motion = "MotionBuf" if has_motion_buffer else "MV"
    if f"{motion}L0" not in scales:
        raise TraceError(
            f"{path} does not state the scale of {motion}L0 in its header; add '# Block Statistic Type' lines"
        )

    stops = [run[0] for run in runs[1:]] + [position]
    cvs, seen, coded = 0, set[int](), []
    for order, ((start, poc, inter), stop) in enumerate(zip(runs, stops, strict=True)):
        if poc in seen:
            cvs, seen = cvs + 1, set()
        seen.add(poc)
        kind = PictureType.B if inter else PictureType.I
        coded.append((start, stop, PictureInfo(poc=poc, decode_order=order, cvs=cvs, picture_type=kind, slice_qp=0)))
    shown = sorted(coded, key=lambda item: (item[2].cvs, item[2].poc))
    references = reference_frames(info for _, _, info in shown)
    return _Source(
        path=path,
        stream=StreamInfo(
            codec="vvc", coded_size=size, bit_depth=10, chroma_format="4:2:0", mv_scale=scales[f"{motion}L0"]
        ),
        maps=_VTM_MAPS,
        mv_dtype="int32",
        motion=motion,
        is_vtm=True,
        pictures=tuple(_Picture(start, stop, t, info, references[t]) for t, (start, stop, info) in enumerate(shown)),
    )


def _read_pictures(source: _Source) -> Iterator[FramePriors]:
    with source.path.open("rb") as file:
        for picture in source.pictures:
            file.seek(picture.start)
            lines = file.read(picture.stop - picture.start).splitlines()
            yield FramePriors(
                stream=source.stream,
                picture=picture.info,
                frame_index=picture.frame_index,
                box=source.stream.output_box,
                reference_frames=picture.references,
                **_Canvas(source, picture).paint(lines),
            )


class _Canvas:
    """The maps of one picture, filled block by block."""

    def __init__(self, source: _Source, picture: _Picture) -> None:
        self._source, self._picture = source, picture
        box = source.stream.output_box
        rows, cols = box.grid_slices
        self._maps: dict[str, NDArray[Any]] = {}
        for name in source.maps:
            spec = ARRAYS[name]
            component = (spec.components,) if spec.components > 1 else ()
            shape = (rows.stop - rows.start, cols.stop - cols.start, *component)
            dtype = np.dtype(source.mv_dtype) if name.startswith("mv_") else spec.dtype
            self._maps[name] = np.full(shape, spec.fill, dtype)
        self._targets = _SCALARS | {f"{source.motion}L0": "mv_l0", f"{source.motion}L1": "mv_l1"}

    def paint(self, lines: list[bytes]) -> dict[str, NDArray[Any]]:
        """Read all lines of the picture and return the maps by name."""
        cut_units = []
        for line in lines:
            if match := _BLOCK.match(line):
                x, y, width, height = (int(number) for number in match.group(1, 2, 3, 4))
                numbers = [int(number) for number in (match[6] or match[7]).split(b",")]
                try:
                    self._paint_block(match[5].decode(), self._cells(x, y, width, height), (width, height), numbers)
                except (OverflowError, ValueError) as error:  # numpy's, for numbers that do not fit the map
                    raise self._refuse(line, str(error)) from error
            elif match := _CUT.match(line):
                cut_units.append([int(number) for number in match.groups()])
            elif line.startswith(b"BlockStat: ") and b" @[" not in line:  # VTM's polygons have no place on the grid
                raise self._refuse(line, "not a block statistic")
        for x, y, width, height, cu_size, edges in cut_units:
            self._paint_cut_unit(self._cells(x, y, width, height), cu_size, edges)
        if self._source.is_vtm:
            flags = self._maps["coding_flags"]
            flags[(flags & CodingFlag.SKIP) != 0] |= np.uint8(
                CodingFlag.MERGE
            )  # VTM prints no MergeFlag for skipped units
        return self._maps

    def _paint_block(self, name: str, cells: tuple[slice, slice], size: tuple[int, int], numbers: list[int]) -> None:
        target = self._maps.get(self._targets.get(name, ""))
        if target is not None:
            target[cells] = numbers if len(numbers) > 1 else numbers[0]
        elif (name in FLAG_STATISTICS or name == "GeoPartitioning") and any(numbers):
            self._maps["coding_flags"][cells] |= np.uint8(FLAG_STATISTICS.get(name, CodingFlag.GEO))
        if name in _UNIT_STATISTICS:
            width, height = size
            self._maps["cu_size"][cells] = (width.bit_length() - 1) << 4 | (height.bit_length() - 1)
            self._mark_edges(cells, int(EDGES))

    def _paint_cut_unit(self, cells: tuple[slice, slice], cu_size: int, edges: int) -> None:
        self._maps["cu_size"][cells] = cu_size
        self._maps["coding_flags"][cells] &= ~EDGES
        self._mark_edges(cells, edges)

    def _mark_edges(self, cells: tuple[slice, slice], edges: int) -> None:
        unit = self._maps["coding_flags"][cells]
        unit[:, 0] |= np.uint8(edges & CodingFlag.LEFT_EDGE)
        unit[0] |= np.uint8(edges & CodingFlag.TOP_EDGE)

    def _cells(self, x: int, y: int, width: int, height: int) -> tuple[slice, slice]:
        box = self._source.stream.output_box
        if not (width and height and x + width <= box.width and y + height <= box.height):
            raise TraceError(
                f"{self._source.path}, frame {self._picture.frame_index}: block {width}x{height} at ({x}, {y}) "
                f"does not fit into the {box.width}x{box.height} picture"
            )
        rows, cols = Box(box.x + x, box.y + y, width, height).grid_slices
        top, left = box.y // CELL, box.x // CELL
        return slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)

    def _refuse(self, line: bytes, reason: str) -> TraceError:
        text = line.decode("ascii", "replace")
        return TraceError(f"{self._source.path}, frame {self._picture.frame_index}: cannot use {text!r}: {reason}")
