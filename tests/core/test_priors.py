from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.core.arrays import CELL, REF_NONE
from codecprior.core.priors import FramePriors
from codecprior.core.stream import CHROMA_SUBSAMPLING, Box
from codecprior.errors import ConfigError

WIDTH, HEIGHT = 72, 56
seeds = st.integers(0, 20)


@st.composite
def boxes(draw: st.DrawFn, width: int = WIDTH, height: int = HEIGHT, step: int = 1) -> Box:
    """A box within a picture whose corner lies at multiples of ``step``."""
    x = draw(st.integers(0, (width - 1) // step)) * step
    y = draw(st.integers(0, (height - 1) // step)) * step
    return Box(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))


def crop(priors: FramePriors, box: Box) -> FramePriors:
    return priors.crop(box.x, box.y, box.width, box.height)


def only(priors: FramePriors, *names: str) -> FramePriors:
    """The same frame as if no other array had been read."""
    return dataclasses.replace(priors, **{name: None for name in priors.arrays() if name not in names})


def without_planes(priors: FramePriors) -> FramePriors:
    return only(priors, *(name for name in priors.arrays() if not name.startswith("residual")))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, chroma=st.sampled_from(sorted(CHROMA_SUBSAMPLING)), data=st.data())
def test_a_crop_of_a_crop_is_the_crop_at_once(*, make: Any, seed: int, chroma: str, data: st.DataObject) -> None:
    priors, _ = make(seed, WIDTH, HEIGHT, chroma_format=chroma)
    outer = data.draw(boxes(step=2))
    inner = data.draw(boxes(outer.width, outer.height, step=2))
    twice = crop(crop(priors, outer), inner)
    once = crop(priors, outer.within(inner))
    assert twice.box == once.box == Box(outer.x + inner.x, outer.y + inner.y, inner.width, inner.height)
    assert twice.arrays().keys() == priors.arrays().keys()
    for name, array in once.arrays().items():
        np.testing.assert_array_equal(twice.require(name), array, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, chroma=st.sampled_from(sorted(CHROMA_SUBSAMPLING)), box=boxes(step=2))
def test_a_crop_holds_the_samples_of_its_box_and_every_cell_it_touches(
    *, make: Any, seed: int, chroma: str, box: Box
) -> None:
    priors, _ = make(seed, WIDTH, HEIGHT, chroma_format=chroma)
    part = crop(priors, box)
    assert part.size == (box.width, box.height)
    ys, xs = np.mgrid[box.y : box.y + box.height, box.x : box.x + box.width]
    np.testing.assert_array_equal(part.residual_y, priors.require("residual_y")[ys, xs])
    if chroma != "4:0:0":
        sx, sy = priors.stream.subsampling("u")
        # A sample of the chroma plane is inside as soon as one of its luma samples is.
        chroma_rows, chroma_cols = np.unique(ys // sy), np.unique(xs // sx)
        np.testing.assert_array_equal(part.residual_u, priors.require("residual_u")[np.ix_(chroma_rows, chroma_cols)])
    cell_rows, cell_cols = np.unique(ys // CELL), np.unique(xs // CELL)
    np.testing.assert_array_equal(part.mv_l0, priors.require("mv_l0")[np.ix_(cell_rows, cell_cols)])
    assert np.shares_memory(part.require("qp"), priors.require("qp"))


def test_the_crop_of_the_whole_picture_changes_nothing(make: Any) -> None:
    priors, _ = make()
    whole = crop(priors, priors.box)
    assert whole.box == priors.box
    for name, array in priors.arrays().items():
        np.testing.assert_array_equal(whole.require(name), array)


@pytest.mark.parametrize("box", [(-1, 0, 8, 8), (0, 0, 73, 8), (8, 50, 8, 7), (0, 0, 0, 8), (0, 0, 8, -8)])
def test_a_crop_that_sticks_out_is_refused(make: Any, box: tuple[int, int, int, int]) -> None:
    priors, _ = make(0, WIDTH, HEIGHT)
    with pytest.raises(ConfigError, match=f"does not fit into {WIDTH}x{HEIGHT}"):
        priors.crop(*box)


def test_a_crop_between_two_chroma_samples_is_refused_only_where_there_is_chroma(make: Any) -> None:
    priors, _ = make(0, chroma_format="4:2:2")
    with pytest.raises(ConfigError, match=r"multiples of 2 horizontally and 1 vertically"):
        priors.crop(1, 0, 8, 8)
    assert priors.crop(0, 1, 8, 8).box == Box(0, 1, 8, 8)
    assert only(priors, "residual_y", "qp").crop(1, 1, 8, 8).box == Box(1, 1, 8, 8)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, box=boxes(), ref_list=st.sampled_from([0, 1]))
def test_every_sample_flows_by_the_vector_of_its_unit(*, make: Any, seed: int, box: Box, ref_list: int) -> None:
    whole, units = make(seed, WIDTH, HEIGHT)
    part = crop(without_planes(whole), box)
    flow = part.flow(ref_list)
    assert flow.displacement.dtype == np.float32
    wanted = np.zeros((HEIGHT, WIDTH, 2))
    valid = np.zeros((HEIGHT, WIDTH), bool)
    for unit in units:
        vector = unit.vectors[ref_list]
        if vector is not None:
            wanted[unit.box.plane_slices()] = np.array(vector) / 16
            valid[unit.box.plane_slices()] = True
    np.testing.assert_array_equal(flow.displacement, wanted[box.plane_slices()])
    np.testing.assert_array_equal(flow.valid, valid[box.plane_slices()])


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_the_mean_flow_joins_vectors_to_the_same_reference_only(*, make: Any, seed: int) -> None:
    priors, units = make(seed, WIDTH, HEIGHT)
    flow = priors.flow("mean")
    for unit in units:
        first, second = unit.vectors
        block = flow.displacement[unit.box.plane_slices()]
        assert (flow.valid[unit.box.plane_slices()] == (first is not None or second is not None)).all()
        if first is not None and second is not None and unit.deltas[0] == unit.deltas[1]:
            wanted = (np.array(first) + np.array(second)) / 32
        else:
            wanted = np.array(first or second or (0, 0)) / 16
        np.testing.assert_array_equal(block, np.broadcast_to(wanted, block.shape))


def test_some_units_have_two_vectors_to_one_reference_and_some_to_two(make: Any) -> None:
    """What the tests above need to see."""
    both = [unit for seed in range(21) for unit in make(seed, WIDTH, HEIGHT)[1] if None not in unit.vectors]
    assert {unit.deltas[0] == unit.deltas[1] for unit in both} == {True, False}


def test_flow_is_zero_and_invalid_where_a_list_is_unused_whatever_the_vectors_say(make: Any) -> None:
    priors, _ = make()
    unused = np.full(priors.stream.grid_shape, REF_NONE, np.int16)
    stray = np.full((*priors.stream.grid_shape, 2), 99, np.int16)
    frame = dataclasses.replace(priors, mv_l0=stray, mv_l1=stray, ref_poc_delta_l0=unused, ref_poc_delta_l1=unused)
    for ref_list in (0, 1, "mean"):
        flow = frame.flow(ref_list)
        assert not flow.valid.any()
        assert not flow.displacement.any()


@pytest.mark.parametrize("ref_list", [2, -1, "both", None])
def test_another_list_is_refused(make: Any, ref_list: Any) -> None:
    priors, _ = make()
    with pytest.raises(ConfigError, match="use 0, 1 or 'mean'"):
        priors.flow(ref_list)


@settings(max_examples=40, deadline=None)
@given(
    vectors=st.lists(st.tuples(*[st.integers(-(1 << 17), (1 << 17) - 1)] * 2), min_size=1, max_size=8),
    mv_scale=st.sampled_from([4, 16]),
    ref_list=st.sampled_from([0, 1]),
)
def test_pixels_are_the_integer_part_and_the_fraction(
    *, make: Any, vectors: list[tuple[int, int]], mv_scale: int, ref_list: int
) -> None:
    priors, _ = make(0, 4 * len(vectors), 4, mv_scale=mv_scale, chroma_format="4:0:0")
    dtype = np.int16 if np.abs(vectors).max() < 1 << 15 else np.int32
    frame = dataclasses.replace(priors, **{f"mv_l{ref_list}": np.array([vectors], dtype)})
    pixels, whole, part = frame.mv_pixels(ref_list), frame.mv_integer(ref_list), frame.mv_fraction(ref_list)
    assert (pixels.dtype, whole.dtype, part.dtype) == (np.float32, np.int32, np.uint8)
    assert part.max() < mv_scale
    np.testing.assert_array_equal(whole * mv_scale + part, [vectors])
    np.testing.assert_array_equal(pixels, whole + part / mv_scale)


@settings(max_examples=40, deadline=None)
@given(box=boxes())
def test_expand_gives_each_sample_its_cell(*, make: Any, box: Box) -> None:
    priors, _ = make(0, WIDTH, HEIGHT)
    rows, cols = priors.stream.grid_shape
    numbers = np.arange(rows * cols).reshape(rows, cols)
    part = crop(without_planes(priors), box)
    ys, xs = np.mgrid[box.y : box.y + box.height, box.x : box.x + box.width]
    np.testing.assert_array_equal(part.expand(numbers[box.grid_slices]), numbers[ys // CELL, xs // CELL])
    pairs = np.stack([numbers, -numbers], axis=-1)
    np.testing.assert_array_equal(part.expand(pairs[box.grid_slices]), pairs[ys // CELL, xs // CELL])


@settings(max_examples=40, deadline=None)
@given(seed=seeds, box=boxes())
def test_coding_units_are_those_whose_first_cell_the_box_touches(*, make: Any, seed: int, box: Box) -> None:
    whole, units = make(seed, WIDTH, HEIGHT)
    found = crop(without_planes(whole), box).coding_units()
    rows, cols = box.grid_slices
    inside = [
        unit
        for unit in units
        if rows.start <= unit.box.y // CELL < rows.stop and cols.start <= unit.box.x // CELL < cols.stop
    ]
    assert len(found) == len(inside)
    for row, unit in zip(found, inside, strict=True):
        assert (row["x"] + box.x, row["y"] + box.y) == (unit.box.x, unit.box.y)
        assert (row["width"], row["height"]) == (unit.box.width, unit.box.height)
        assert (row["pred_mode"], row["coding_flags"], row["qp"]) == (unit.pred_mode, unit.flags, unit.qp)
        for ref_list, vector in enumerate(unit.vectors):
            assert tuple(row[f"mv_l{ref_list}"]) == (vector or (0, 0))
            wanted = REF_NONE if vector is None else unit.deltas[ref_list]
            assert row[f"ref_poc_delta_l{ref_list}"] == wanted


def test_coding_units_tile_the_picture(make: Any) -> None:
    priors, _ = make(3, WIDTH, HEIGHT)
    covered = np.zeros((HEIGHT, WIDTH), int)
    for unit in priors.coding_units():
        covered[unit["y"] : unit["y"] + unit["height"], unit["x"] : unit["x"] + unit["width"]] += 1
    assert (covered == 1).all()


def test_a_frame_without_priors_has_no_coding_units(make: Any) -> None:
    priors, _ = make()
    flags = np.zeros(priors.stream.grid_shape, np.uint8)
    assert dataclasses.replace(priors, coding_flags=flags).coding_units().size == 0


@pytest.mark.parametrize("ref_list", [0, 1])
def test_references_are_frame_indices_where_known_and_minus_one_elsewhere(make: Any, ref_list: int) -> None:
    priors, units = make(1, WIDTH, HEIGHT)  # POC 10; frames 4 and 6 have POC 9 and 11, POC 8 was never output
    index = priors.ref_frame_index(ref_list)
    assert index.dtype == np.int32
    assert np.unique(index).tolist() == ([-1, 4] if ref_list == 0 else [-1, 4, 6])
    for unit in units:
        known = {-1: 4, 1: 6}.get(unit.deltas[ref_list], -1)
        wanted = -1 if unit.vectors[ref_list] is None else known
        assert (index[unit.box.grid_slices] == wanted).all()


def test_an_array_that_was_not_read_is_named(make: Any) -> None:
    priors, _ = make()
    frame = only(priors, "qp", "residual_y")
    assert repr(frame) == "FramePriors(frame 5, B, poc 10, qp int8[14, 18], residual_y int16[56, 72])"
    with pytest.raises(ConfigError, match=r"frame 5 was read without 'mv_l0'; it has qp, residual_y"):
        frame.flow()
    with pytest.raises(ConfigError, match=r"without 'mv_l2'"):
        priors.mv_pixels(2)
    with pytest.raises(ConfigError, match=r"without 'stream'"):
        priors.require("stream")
