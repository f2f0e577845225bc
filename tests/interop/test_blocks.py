import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codecprior.interop.blocks import BLOCK_DTYPE, block_pixels, coding_unit_labels, uniform_blocks

small_maps = hnp.arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2))


def slices(block):
    return (
        slice(block["row"], block["row"] + block["height"]),
        slice(block["col"], block["col"] + block["width"]),
    )


@given(small_maps)
def test_blocks_cover_every_cell_once_and_are_uniform(values):
    painted = np.zeros(values.shape, int)
    for block in uniform_blocks([values]):
        painted[slices(block)] += 1
        assert len(np.unique(values[slices(block)])) == 1
    assert (painted == 1).all()


@given(small_maps)
def test_no_two_stacked_blocks_of_the_same_extent_could_be_one(values):
    blocks = uniform_blocks([values])
    ends = {(b["row"] + b["height"], b["col"], b["width"], values[b["row"], b["col"]]) for b in blocks}
    assert not any((b["row"], b["col"], b["width"], values[b["row"], b["col"]]) in ends for b in blocks)


def test_a_uniform_rectangle_is_one_block():
    labels = np.zeros((6, 8), int)
    labels[2:5, 3:7] = 1
    blocks = uniform_blocks([labels])
    assert (2, 3, 3, 4) in blocks.tolist()


def test_both_components_of_a_vector_separate_blocks():
    vectors = np.zeros((2, 4, 2), np.int16)
    vectors[:, 2:, 1] = 5
    assert uniform_blocks([np.zeros((2, 4)), vectors]).tolist() == [(0, 0, 2, 2), (0, 2, 2, 2)]


def test_coding_units_are_those_that_the_frame_lists(make_clip):
    frame = make_clip(1, seed=3)[0]
    units = frame.coding_units()
    blocks = uniform_blocks([coding_unit_labels(frame.coding_flags)])
    expected = np.stack([units[name] for name in ("x", "y", "width", "height")], axis=1)
    assert np.array_equal(block_pixels(frame, blocks), expected)


def test_units_with_equal_content_side_by_side_stay_apart(make_clip):
    frame = make_clip(1, seed=3)[0]
    labels = coding_unit_labels(frame.coding_flags)
    assert len(np.unique(labels)) == len(frame.coding_units()) > 3


def test_blocks_are_cut_at_the_edges_of_a_crop_off_the_grid(make_clip):
    crop = make_clip(1)[0].crop(2, 2, 21, 15)
    whole = np.array([(0, 0, *crop.pred_mode.shape)], BLOCK_DTYPE)
    assert block_pixels(crop, whole).tolist() == [[0, 0, 21, 15]]
    corner = np.array([(0, 0, 1, 1)], BLOCK_DTYPE)
    assert block_pixels(crop, corner).tolist() == [[0, 0, 2, 2]]
