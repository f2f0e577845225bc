"""Motion vectors as the N x 10 tables of mv-extractor, in the folder layout of its ``extract_mvs --dump``.

One row is one block and one reference list. The columns, int32, are FFmpeg's ``AVMotionVector``:

======================  ===============================================================================
``source``              reference frame minus this frame, in frames of display order; -1 is the previous
``w``, ``h``            size of the block in luma samples
``src_x``, ``src_y``    ``dst + motion / motion_scale``, the fraction cut off as in C (FFmpeg's ``add_mb``)
``dst_x``, ``dst_y``    centre of the block
``motion_x, motion_y``  the vector, exact, in 1/``motion_scale`` sample; reference = current + motion
``motion_scale``        16 for VVC
======================  ===============================================================================

FFmpeg writes -1 or +1 as ``source`` whatever the distance is; this exporter writes the true distance. A block is a
coding unit, or a part of one where its motion varies. Rows of list 0 come before rows of list 1.

The layout is that of LukasBommes/mv-extractor (``src/mvextractor/__main__.py``): ``motion_vectors/mvs-{t}.npy``,
``frame_types.txt`` and ``timestamps.txt`` with one line per frame. The file ``metadata.json`` is an addition.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL, REF_NONE, PictureType, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo, StreamInfo
from codecprior.errors import ConfigError, DatasetError
from codecprior.interop.blocks import block_pixels, coding_unit_labels, uniform_blocks
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

__all__ = ["COLUMNS", "export_mv_extractor", "motion_vector_table", "read_mv_extractor"]

COLUMNS: Final = (
    "source",
    "w",
    "h",
    "src_x",
    "src_y",
    "dst_x",
    "dst_y",
    "motion_x",
    "motion_y",
    "motion_scale",
)
"""Names of the columns."""

_VERSION: Final = 1
_MAPS: Final = ("mv_l0", "mv_l1", "ref_poc_delta_l0", "ref_poc_delta_l1", "pred_mode")


@dataclass
class _Tally:
    """What the tables of a clip hold and leave out."""

    rows: list[tuple[int, int]]
    """Rows of list 0 and list 1 of each frame."""
    left_out: int = 0
    """Blocks whose reference was never output."""


def motion_vector_table(frame: FramePriors) -> NDArray[np.int32]:
    """Return the motion vectors of a frame as mv-extractor's table.

    Parameters
    ----------
    frame : FramePriors
        A whole picture with motion, references and ``coding_flags``.

    Returns
    -------
    ndarray, shape (N, 10), int32
        One row per block and list, see :data:`COLUMNS`; shape (0, 10) for a frame without motion. Blocks that refer
        to a picture that was never output have no frame distance and no row.

    Raises
    ------
    ConfigError
        If the frame is a crop or lacks an array.
    """
    return np.concatenate([table for table, _ in _tables(visible(frame))])


def _tables(frame: FramePriors) -> Iterator[tuple[NDArray[np.int32], int]]:
    """For each list, give the rows and the number of blocks that have none."""
    labels = coding_unit_labels(frame.require("coding_flags"))
    scale = frame.stream.mv_scale
    for ref_list in (0, 1):
        vectors, reference = frame.require(f"mv_l{ref_list}"), frame.ref_frame_index(ref_list)
        used = frame.uses_list(ref_list)
        blocks = uniform_blocks([labels, vectors, frame.require(f"ref_poc_delta_l{ref_list}")])
        blocks = blocks[used[blocks["row"], blocks["col"]]]
        known = reference[blocks["row"], blocks["col"]] >= 0
        left_out = int((~known).sum())
        blocks = blocks[known]
        cell = blocks["row"], blocks["col"]
        x, y, width, height = block_pixels(frame, blocks).T
        motion = vectors[cell].astype(np.int32)
        centre = np.stack([x + width // 2, y + height // 2], axis=1)
        table = np.empty((len(blocks), len(COLUMNS)), np.int32)
        table[:, 0] = reference[cell] - frame.frame_index
        table[:, 1], table[:, 2] = width, height
        table[:, 3:5] = centre + np.sign(motion) * (np.abs(motion) // scale)
        table[:, 5:7] = centre
        table[:, 7:9] = motion
        table[:, 9] = scale
        yield table, left_out


def export_mv_extractor(
    frames: Iterable[FramePriors],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write one table per frame in the layout of ``extract_mvs --dump``.

    Parameters
    ----------
    frames : iterable of FramePriors
        Whole pictures in display order, with motion, references and ``coding_flags``.
    path : path-like
        The folder to write. Files carry the frame index.
    overwrite : bool
        Replace an existing folder.
    progress : callable, optional
        Called after each frame with the number of frames done.

    Returns
    -------
    ExportReport
        What was written and left out.

    Raises
    ------
    ConfigError
        If the output exists, there are no frames, or a frame is a crop or lacks an array.
    """
    final = Path(path)
    stream: StreamInfo | None = None
    tally, first = _Tally([]), 0
    with staged(final, overwrite=overwrite) as folder:
        (folder / "motion_vectors").mkdir(parents=True)
        with (folder / "frame_types.txt").open("w") as types, (folder / "timestamps.txt").open("w") as times:
            for frame in frames:
                if stream is None:
                    stream, first = frame.stream, frame.frame_index
                check_same_stream(frame, stream)
                (table0, lost0), (table1, lost1) = _tables(visible(frame))
                np.save(folder / "motion_vectors" / f"mvs-{frame.frame_index}.npy", np.concatenate([table0, table1]))
                types.write(f"{frame.picture.picture_type.name if frame.picture.has_priors else '?'}\n")
                times.write(f"{frame.picture.pts_seconds!r}\n")
                tally.rows.append((len(table0), len(table1)))
                tally.left_out += lost0 + lost1
                if progress is not None:
                    progress(len(tally.rows))
        if stream is None:
            raise ConfigError(f"no frames to write to {final}")
        (folder / "metadata.json").write_text(json.dumps(_metadata(stream, first, tally), indent=1) + "\n")
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    lost = ["the tables have no coding units, modes, flags, QP or samples"]
    if tally.left_out:
        lost.append(f"{tally.left_out} blocks refer to pictures that were never output: they have no row")
    return ExportReport(path=final, num_frames=len(tally.rows), size_bytes=size, not_represented=tuple(lost))


def _metadata(stream: StreamInfo, first: int, tally: _Tally) -> dict[str, Any]:
    return {
        "format": "mv-extractor columns",
        "version": _VERSION,
        "columns": COLUMNS,
        "motion": f"reference = current + motion, in 1/{stream.mv_scale} luma sample",
        "source": "reference frame - frame, in frames of display order",
        "stream": stream_to_json(stream),
        "first_frame": first,
        "num_frames": len(tally.rows),
        "rows_of_list_0_and_1": tally.rows,
    }


def read_mv_extractor(path: str | os.PathLike[str]) -> ImportedPriors:
    """Open a folder of mv-extractor tables: of :func:`export_mv_extractor` or of ``extract_mvs --dump``.

    Parameters
    ----------
    path : path-like
        Folder with ``motion_vectors/mvs-{t}.npy``. Without ``metadata.json``, the size of the video is taken from
        ``frames/frame-{t}.jpg``.

    Returns
    -------
    ImportedPriors
        Motion, references in frames (POC is the frame index), and inter mode where there is a vector, intra elsewhere.

    Raises
    ------
    DatasetError
        If files are missing or do not follow the format. Tables are only read, and refused, when iterating.
    """
    root = Path(path)
    files = sorted((root / "motion_vectors").glob("mvs-*.npy"), key=_frame_number)
    if not files:
        raise DatasetError(f"{root} has no motion_vectors/mvs-0.npy; give the folder that extract_mvs --dump wrote")
    metadata = _load_metadata(root)
    try:
        stream = _foreign_stream(root, files) if metadata is None else stream_from_json(metadata["stream"])
        rows = None if metadata is None else [int(zero) for zero, _ in metadata["rows_of_list_0_and_1"]]
    except DatasetError:
        raise
    except DAMAGED_JSON as error:
        raise DatasetError(f"{root / 'metadata.json'} is damaged ({error!r}); export again") from error
    if rows is not None and len(rows) != len(files):
        raise DatasetError(f"{root} has {len(files)} tables, but metadata.json lists {len(rows)}; export again")
    unknown = [
        "coding units, flags, QP and samples",
        "modes: cells with a vector are called inter, the others intra",
        "picture order counts: frame indices are used",
    ]
    if metadata is None:
        unknown.append("reference frames: FFmpeg writes -1 or +1 as source whatever the distance is")
        unknown.append("bit depth and chroma format: 8 bit 4:2:0 assumed")
    return ImportedPriors(
        stream=stream,
        num_frames=len(files),
        read=lambda: _read_tables(root, files, stream, rows),
        attributes={"imported_from": "mv-extractor tables"},
        unknown=tuple(unknown),
        unknown_arrays=unknown_arrays(stream, _MAPS),
    )


def _frame_number(file: Path) -> int:
    number = file.stem.removeprefix("mvs-")
    if not number.isdigit():
        raise DatasetError(f"{file} is not named mvs-<frame>.npy; remove it")
    return int(number)


def _load_metadata(root: Path) -> dict[str, Any] | None:
    file = root / "metadata.json"
    if not file.exists():
        return None
    try:
        metadata: dict[str, Any] = json.loads(file.read_text())
        version = metadata["version"]
    except DAMAGED_JSON as error:
        raise DatasetError(f"{file} is damaged ({error!r}); export again") from error
    if version != _VERSION:
        raise DatasetError(f"{file} has version {version}; this codecprior reads {_VERSION}")
    return metadata


def _foreign_stream(root: Path, files: list[Path]) -> StreamInfo:
    """Find out what mv-extractor's own output tells of the stream: frame size and scale of the vectors."""
    picture = root / "frames" / f"frame-{_frame_number(files[0])}.jpg"
    image = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE) if picture.exists() else None
    if image is None:
        raise DatasetError(f"{root} has neither metadata.json nor a readable {picture.name} that would tell the size")
    scale = next((int(table[0, 9]) for table in map(_load_table, files) if len(table)), 4)
    height, width = image.shape
    return StreamInfo(codec="unknown", coded_size=(width, height), bit_depth=8, chroma_format="4:2:0", mv_scale=scale)


def _load_table(file: Path) -> NDArray[np.int64]:
    try:
        table: NDArray[Any] = np.load(file)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{file} is not a readable .npy file: {error}") from error
    if table.size == 0:  # mv-extractor's empty table of an intra frame
        return np.zeros((0, len(COLUMNS)), np.int64)
    if table.shape != (len(table), len(COLUMNS)) or not np.issubdtype(table.dtype, np.integer):
        raise DatasetError(f"{file} holds {table.dtype}{list(table.shape)}; integers of shape [N, 10] are accepted")
    return table.astype(np.int64)


def _picture_types(root: Path, count: int) -> list[str]:
    file = root / "frame_types.txt"
    letters = file.read_text().split() if file.exists() else ["?"] * count
    if len(letters) != count:
        raise DatasetError(f"{file} has {len(letters)} lines for {count} tables; restore it")
    return letters


def _read_tables(root: Path, files: list[Path], stream: StreamInfo, rows: list[int] | None) -> Iterator[FramePriors]:
    letters = _picture_types(root, len(files))
    indices = {_frame_number(file): _frame_number(file) for file in files}
    for order, (file, letter) in enumerate(zip(files, letters, strict=True)):
        frame, table = _frame_number(file), _load_table(file)
        if len(table) and not (table[:, 9] == stream.mv_scale).all():
            raise DatasetError(
                f"{file} has motion scales {np.unique(table[:, 9])}; {stream.mv_scale} alone is accepted"
            )
        in_list_0 = table[:, 0] < 0 if rows is None else np.arange(len(table)) < rows[order]
        has_priors = letter != "?" or len(table) > 0
        maps = _rasterise(file, table, in_list_0, stream.output_box)
        if not has_priors:
            maps["pred_mode"][:] = PredMode.NONE
        yield FramePriors(
            stream=stream,
            picture=PictureInfo(
                poc=frame,
                decode_order=order,
                picture_type=PictureType.__members__.get(letter, PictureType.B),
                slice_qp=0,
                has_priors=has_priors,
            ),
            frame_index=frame,
            box=stream.output_box,
            reference_frames=indices,
            **maps,
        )


def _rasterise(file: Path, table: NDArray[np.int64], in_list_0: NDArray[np.bool_], box: Box) -> dict[str, NDArray[Any]]:
    rows, cols = box.grid_slices
    shape = rows.stop - rows.start, cols.stop - cols.start
    maps: dict[str, NDArray[Any]] = {
        "mv_l0": np.zeros((*shape, 2), np.int32),
        "mv_l1": np.zeros((*shape, 2), np.int32),
        "ref_poc_delta_l0": np.full(shape, REF_NONE, np.int16),
        "ref_poc_delta_l1": np.full(shape, REF_NONE, np.int16),
        "pred_mode": np.full(shape, PredMode.INTRA, np.uint8),
    }
    for row, first in zip(table.tolist(), in_list_0.tolist(), strict=True):
        source, width, height, _, _, centre_x, centre_y, motion_x, motion_y, _ = row
        left, top = centre_x - width // 2, centre_y - height // 2
        right, bottom = min(left + width, box.width), min(top + height, box.height)
        if left < 0 or top < 0 or right <= left or bottom <= top:
            raise DatasetError(
                f"{file} has a block {width}x{height} at ({left}, {top}) outside {box.width}x{box.height}"
            )
        part = Box(box.x + left, box.y + top, right - left, bottom - top).grid_slices
        cells = tuple(
            slice(side.start - begin, side.stop - begin)
            for side, begin in zip(part, (box.y // CELL, box.x // CELL), strict=True)
        )
        which = 0 if first else 1
        maps[f"mv_l{which}"][cells] = motion_x, motion_y
        maps[f"ref_poc_delta_l{which}"][cells] = source
        maps["pred_mode"][cells] = PredMode.INTER
    return maps
