from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.visualization.colormap import (
    MID_GREY,
    heat_colors,
    motion_colors,
    qp_colors,
    residual_colors,
    wheel_picture,
)


def lightness(colors: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours."""
    linear = np.where(colors <= 10, colors / 255 / 12.92, ((colors / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_no_motion_is_white() -> None:
    assert motion_colors(np.zeros((2, 3, 2)), 4.0).tolist() == np.full((2, 3, 3), 255).tolist()


@pytest.mark.parametrize(
    ("vector", "color"),
    [((1, 0), (255, 0, 0)), ((0, 1), (255, 234, 0)), ((-1, 0), (0, 197, 255)), ((0, -1), (103, 0, 255))],
)
def test_direction_is_hue_clockwise_from_red_on_the_right(vector: tuple[int, int], color: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(motion_colors(np.array(vector), 1.0), color, atol=1)


@given(
    angle=st.floats(0, 2 * np.pi),
    lengths=st.lists(st.floats(0, 200), min_size=2, max_size=8).map(sorted),
    full_scale=st.floats(0.1, 100),
)
def test_longer_motion_is_never_paler(angle: float, lengths: list[float], full_scale: float) -> None:
    vectors = np.array(lengths)[:, None] * np.array([np.cos(angle), np.sin(angle)])
    colors = motion_colors(vectors, full_scale).astype(int)
    assert (np.diff(colors, axis=0) <= 0).all()


def test_motion_beyond_full_scale_has_the_color_of_full_scale() -> None:
    np.testing.assert_array_equal(motion_colors(np.array([3.0, 4.0]), 5), motion_colors(np.array([30.0, 40.0]), 5))


def test_wheel_shows_each_vector_at_the_place_it_points_to() -> None:
    wheel = wheel_picture(101, (1, 2, 3))
    assert wheel[50, 50].tolist() == [255, 255, 255]
    assert wheel[0, 0].tolist() == [1, 2, 3]
    np.testing.assert_allclose(wheel[50, 98], motion_colors(np.array([48.0, 0.0]), 50.5), atol=1)
    np.testing.assert_allclose(wheel[98, 50], motion_colors(np.array([0.0, 48.0]), 50.5), atol=1)


@pytest.mark.parametrize("full_scale", [1, 8, 127, 128, 1000, 65535])
def test_zero_residual_is_exactly_mid_grey_and_its_neighbours_at_full_scale_are_not(full_scale: int) -> None:
    colors = residual_colors(
        np.array([-full_scale, 0, full_scale], np.int16 if full_scale < 2**15 else np.int32), full_scale
    )
    assert colors[1].tolist() == [MID_GREY] * 3
    assert colors[0][2] > colors[0][0], "negative is blue"
    assert colors[2][0] > colors[2][2], "positive is orange"


def test_residual_lightness_rises_with_the_value() -> None:
    steps = np.diff(lightness(residual_colors(np.arange(-127, 128), 127)))
    assert (steps > 0).sum() > 200
    assert (steps > -0.5).all()


def test_residual_beyond_full_scale_has_the_last_color() -> None:
    extremes = np.array([-32768, 32767], np.int16)
    np.testing.assert_array_equal(residual_colors(extremes, 10), residual_colors(np.array([-10, 10]), 10))


def test_qp_map_is_perceptually_uniform_and_clips_at_its_ends() -> None:
    steps = np.diff(lightness(qp_colors(np.linspace(20, 40, 21), 20, 40)))
    assert steps.min() > 0.5 * steps.mean() > 0
    outside, ends = qp_colors(np.array([-12, 63], np.int8), 20, 40), qp_colors(np.array([20, 40], np.int8), 20, 40)
    np.testing.assert_array_equal(outside, ends)


def test_more_heat_is_lighter_and_ends_stay_at_their_colors() -> None:
    values = np.linspace(0.5, 2.5, 65)
    assert (np.diff(lightness(heat_colors(values, 0.5, 2.5).astype(float))) > -0.5).all()
    assert heat_colors(np.array([0.0, 3.0]), 0.5, 2.5).tolist() == heat_colors(values[[0, -1]], 0.5, 2.5).tolist()
