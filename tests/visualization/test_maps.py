from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from codecprior.core.arrays import REF_NONE, CodingFlag, PredMode
from codecprior.core.priors import FramePriors
from codecprior.errors import ConfigError
from codecprior.visualization.colormap import MID_GREY, motion_colors
from codecprior.visualization.maps import (
    arrow_overlay,
    cu_edges,
    draw_arrow,
    mode_map,
    mode_overlay,
    motion_map,
    partition_overlay,
    qp_map,
    residual_map,
    resize,
)
from codecprior.visualization.modes import MODE_COLORS, BlockMode

MAPS = {
    "motion": lambda priors, size=None: motion_map(priors, 4.0, size=size),
    "residual": lambda priors, size=None: residual_map(priors, 8, size=size),
    "qp": lambda priors, size=None: qp_map(priors, 20, 40, size=size),
    "modes": lambda priors, size=None: mode_map(priors, size=size),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("size", [None, (256, 192), (32, 24), (100, 75), (1, 1)])
def test_maps_have_the_size_asked_for(make_priors, name, size) -> None:
    picture = MAPS[name](make_priors(128, 96), size)
    width, height = size or (128, 96)
    assert (picture.shape, picture.dtype) == ((height, width, 3), np.uint8)


@pytest.mark.parametrize("name", ["residual", "modes", "qp"])
def test_the_map_of_a_crop_is_the_crop_of_the_map(make_priors, name) -> None:
    priors = make_priors(128, 96)
    np.testing.assert_array_equal(MAPS[name](priors.crop(10, 6, 50, 34)), MAPS[name](priors)[6:40, 10:60])


def test_motion_map_colors_vectors_and_hatches_blocks_without_one(make_priors) -> None:
    priors = make_priors(128, 96)
    picture, flow = motion_map(priors, 4.0), priors.flow()
    np.testing.assert_array_equal(picture[flow.valid], motion_colors(flow.displacement, 4.0)[flow.valid])
    assert not flow.valid.all()
    assert picture[~flow.valid].max() < 100


def test_motion_map_of_an_unused_list_is_all_hatched(make_priors) -> None:
    assert motion_map(make_priors(), 4.0, ref_list=1).max() < 100


def test_residual_is_mid_grey_exactly_where_it_is_zero(make_priors) -> None:
    priors = make_priors(128, 96)
    grey = (residual_map(priors, 8) == MID_GREY).all(axis=-1)
    np.testing.assert_array_equal(grey, priors.residual_y == 0)


def test_chroma_residual_is_shown_at_luma_size(make_priors) -> None:
    priors = make_priors(64, 48)
    u = np.zeros((24, 32), np.int16)
    u[3, 5] = 9
    picture = residual_map(dataclasses.replace(priors, residual_u=u), 8, plane="u")
    rows, cols = np.nonzero((picture != MID_GREY).any(axis=-1))
    assert (set(rows), set(cols)) == ({6, 7}, {10, 11})


def test_chroma_of_a_picture_without_chroma_is_refused(make_priors) -> None:
    with pytest.raises(ConfigError, match="4:0:0"):
        residual_map(make_priors(chroma_format="4:0:0"), 8, plane="u")


def test_shrinking_keeps_residual_magnitudes(make_priors) -> None:
    priors = make_priors(64, 48)
    checkers = np.where(np.indices((48, 64)).sum(axis=0) % 2, 8, -8).astype(np.int16)
    picture = residual_map(dataclasses.replace(priors, residual_y=checkers), 8, size=(21, 16))
    assert not (picture == MID_GREY).all(axis=-1).any()


@pytest.mark.parametrize("name", ["motion", "qp", "modes"])
def test_frames_without_priors_are_hatched_all_over(make_priors, name) -> None:
    assert MAPS[name](make_priors(has_priors=False)).max() < 100


def test_mode_map_uses_the_colors_of_the_legend(make_priors) -> None:
    priors = make_priors(128, 96)
    intra = priors.expand(priors.pred_mode == PredMode.INTRA)
    assert (mode_map(priors)[intra] == MODE_COLORS[BlockMode.INTRA]).all()


def test_coding_unit_edges_enclose_every_unit_with_lines_of_one_pixel(make_priors) -> None:
    priors = make_priors(128, 96)
    expected = np.zeros((96, 128), bool)
    for unit in priors.coding_units():
        x, y, width, height = (int(unit[name]) for name in ("x", "y", "width", "height"))
        expected[y : y + height, x] = True
        expected[y, x : x + width] = True
    np.testing.assert_array_equal(cu_edges(priors), expected)


@pytest.mark.parametrize("scale", [2, 5])
def test_edges_stay_one_pixel_wide_when_the_picture_grows(make_priors, scale) -> None:
    priors = make_priors(128, 96)
    edges = cu_edges(priors, (128 * scale, 96 * scale))
    np.testing.assert_array_equal(edges[::scale, ::scale], cu_edges(priors))
    between = edges[1::scale]
    assert not (between[:, :-1] & between[:, 1:]).any(), "no two columns of a line next to each other"


@pytest.mark.parametrize("size", [(64, 48), (16, 12), (3, 2)])
def test_no_edge_is_lost_when_the_picture_shrinks(make_priors, size) -> None:
    priors = make_priors(128, 96)
    edges = cu_edges(priors, size)
    units = priors.coding_units()
    assert edges[units["y"] * size[1] // 96, units["x"] * size[0] // 128].all()


def test_overlays_leave_the_frame_alone_and_draw_at_its_size(make_priors) -> None:
    priors = make_priors(64, 48)
    frame = np.full((96, 128, 3), 200, np.uint8)
    for drawn in (partition_overlay(frame, priors), mode_overlay(frame, priors), arrow_overlay(frame, priors, 2.0)):
        assert drawn.shape == frame.shape
        assert (drawn != frame).any()
    assert (frame == 200).all()


def single_block(make_priors: Callable[..., FramePriors], mv: tuple[int, int]) -> FramePriors:
    """Priors of one 64x64 block with one vector, in 1/16 samples."""
    edges = np.zeros((16, 16), np.uint8)
    edges[:, 0] |= int(CodingFlag.LEFT_EDGE)
    edges[0, :] |= int(CodingFlag.TOP_EDGE)
    return dataclasses.replace(
        make_priors(64, 64),
        coding_flags=edges,
        cu_size=np.full((16, 16), 0x66, np.uint8),
        mv_l0=np.broadcast_to(np.array(mv, np.int16), (16, 16, 2)),
        ref_poc_delta_l0=np.full((16, 16), -1, np.int16),
    )


@pytest.mark.parametrize(("mv", "tip"), [((160, 0), (52, 32)), ((0, -160), (32, 12)), ((-80, 80), (22, 42))])
def test_arrows_start_at_the_block_centre_and_point_to_the_reference(make_priors, mv, tip) -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    drawn = arrow_overlay(frame, single_block(make_priors, mv), gain=2.0).max(axis=-1)
    x, y = tip
    assert drawn[31:34, 31:34].max() > 150
    assert drawn[y - 1 : y + 2, x - 1 : x + 2].max() > 150
    opposite = 64 - y, 64 - x
    assert drawn[opposite[0] - 1 : opposite[0] + 2, opposite[1] - 1 : opposite[1] + 2].max() == 0


def test_no_motion_is_a_dot_and_no_vector_is_nothing(make_priors) -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    still = single_block(make_priors, (0, 0))
    rows, cols = np.nonzero(arrow_overlay(frame, still, gain=2.0).max(axis=-1))
    assert len(rows)
    assert max(np.abs(rows - 32).max(), np.abs(cols - 32).max()) <= 2
    without = dataclasses.replace(still, ref_poc_delta_l0=np.full((16, 16), REF_NONE, np.int16))
    assert not arrow_overlay(frame, without, gain=2.0).any()


def test_arrows_are_thinned_to_one_per_neighbourhood(make_priors) -> None:
    priors = make_priors(256, 256, zoom=0)
    frame = np.zeros((256, 256, 3), np.uint8)
    wide, narrow = (np.count_nonzero(arrow_overlay(frame, priors, 1.0, spacing=s)) for s in (64, 8))
    assert 0 < wide < narrow / 3


def test_arrows_may_leave_the_picture(make_priors) -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    draw_arrow(frame, np.array((32.0, 32.0)), np.array((9000.0, -9000.0)))
    assert frame.any()


def test_resize_repeats_pixels_where_it_grows_and_averages_where_it_shrinks() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0] = 200
    np.testing.assert_array_equal(resize(picture, (4, 4)), picture.repeat(2, axis=0).repeat(2, axis=1))
    assert resize(picture, (1, 1)).tolist() == [[[50, 50, 50]]]
