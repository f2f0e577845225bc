"""The priors are those of the VVC reference decoder (VTM), cell by cell.

Left out of the comparison, each for a reason:

- Pictures beyond the first 33 in decoding order of 8b400_A: the reference decoder's output was cut there.
- Cells whose flag is 255: the flag is not signalled there, and its meaning follows from others, which the last test
  states: a skipped block is merged by definition, and of blocks in slices without inter prediction only those that copy
  within the picture can be skipped.
- Block vectors of intra block copy: neither side counts them as motion.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codecprior.core.arrays import CodingFlag, PredMode
from codecprior.core.priors import FramePriors
from vvc_wrappers.probe import Probe, ProbeOptions

NOT_SIGNALLED = 255
UNUSED = -(2**31)
FLAGS = {
    "skip": CodingFlag.SKIP,
    "merge": CodingFlag.MERGE,
    "affine": CodingFlag.AFFINE,
    "geo": CodingFlag.GEO,
    "ciip": CodingFlag.CIIP,
    "cbfy": CodingFlag.RESIDUAL,
}

Reference = dict[str, NDArray[Any]]


def read_statistics(stream: Path) -> Reference:
    with np.load(io.BytesIO(lzma.decompress(stream.with_suffix(".npz.xz").read_bytes()))) as arrays:
        return dict(arrays)


def compared(stream: Path) -> Iterator[tuple[FramePriors, Reference]]:
    """Give each picture with its block statistics, in display order, and see to it that none is left over."""
    statistics = read_statistics(stream)
    pairs = zip(statistics["cvs"].tolist(), statistics["poc"].tolist(), strict=True)
    position = {pair: index for index, pair in enumerate(pairs)}
    last_decoded = int(statistics["decode_order"].max())
    seen = []
    for frame in Probe(ProbeOptions(threads=2)).pictures(stream):
        if frame.picture.decode_order <= last_decoded:
            index = position[frame.picture.cvs, frame.picture.poc]
            seen.append(index)
            yield frame, {name: array[index] for name, array in statistics.items()}
    assert seen == list(range(len(position)))  # which also says that the order is that of display


def test_pictures_have_the_references_order_and_size(referenced_stream: Path) -> None:
    for frame, expected in compared(referenced_stream):
        assert frame.picture.decode_order == expected["decode_order"]
        assert frame.stream.coded_size == tuple(expected["size"])


def test_motion_is_what_the_reference_compensates_with(referenced_stream: Path) -> None:
    for frame, expected in compared(referenced_stream):
        for which in (0, 1):
            used = frame.uses_list(which)
            assert np.array_equal(used, expected["inter_dir"] >> which & 1)
            assert np.array_equal(frame.require(f"mv_l{which}"), expected[f"mv_l{which}"])
            distance = frame.require(f"ref_poc_delta_l{which}")
            poc = np.where(used, distance.astype(np.int64) + frame.picture.poc, UNUSED)
            assert np.array_equal(poc, expected[f"ref_poc_l{which}"])


def test_coding_units_are_the_references(referenced_stream: Path) -> None:
    for frame, expected in compared(referenced_stream):
        assert np.array_equal(frame.require("pred_mode"), expected["pred_mode"])
        assert np.array_equal(frame.require("qp"), expected["qp"])
        size = frame.require("cu_size")
        assert np.array_equal(1 << (size >> 4).astype(int), expected["cu_w"])
        assert np.array_equal(1 << (size & 15).astype(int), expected["cu_h"])
        rows, cols = np.indices(size.shape) * 4
        flags = frame.require("coding_flags")
        assert np.array_equal((flags & CodingFlag.LEFT_EDGE) > 0, expected["cu_x"] == cols)
        assert np.array_equal((flags & CodingFlag.TOP_EDGE) > 0, expected["cu_y"] == rows)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_the_references_where_it_has_them(referenced_stream: Path, name: str) -> None:
    for frame, expected in compared(referenced_stream):
        found = (frame.require("coding_flags") & FLAGS[name]) > 0
        signalled = expected[name] != NOT_SIGNALLED
        assert np.array_equal(found[signalled], expected[name][signalled] != 0)


def test_flags_that_are_not_signalled_follow_from_others(referenced_stream: Path) -> None:
    for frame, expected in compared(referenced_stream):
        flags = frame.require("coding_flags")
        for name, flag in FLAGS.items():
            found = ((flags & flag) > 0)[expected[name] == NOT_SIGNALLED]
            implied = np.zeros_like(flags, bool)
            if name == "skip":
                implied = ((flags & flag) > 0) & (frame.require("pred_mode") == PredMode.IBC)
            elif name == "merge":
                implied = (flags & CodingFlag.SKIP) > 0
            assert np.array_equal(found, implied[expected[name] == NOT_SIGNALLED]), name


def test_block_statistics_hold_every_tool(conformance_dir: Path) -> None:
    """What the streams do not contain is not tested by the comparisons above."""
    seen: dict[str, set[int]] = {name: set() for name in (*FLAGS, "pred_mode", "inter_dir", "dmvr")}
    refined = 0
    for path in sorted(conformance_dir.glob("*.npz.xz")):
        statistics = read_statistics(conformance_dir / path.name.replace(".npz.xz", ".bit"))
        for name, values in seen.items():
            values.update(np.unique(statistics[name]).tolist())
        refined += int((statistics["mv_l0"] != statistics["mv_l0_before_dmvr"]).any(axis=-1).sum())
    assert all({0, 1} <= values for values in seen.values()), seen
    assert PredMode.IBC in seen["pred_mode"]
    assert seen["inter_dir"] == {0, 1, 2, 3}
    assert refined > 100_000
