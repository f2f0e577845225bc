from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from codecprior.datasets.degradation.kernels import bivariate_kernel, sinc_kernel

sigmas = st.floats(0.1, 12)
odd = st.integers(1, 20).map(lambda half: 2 * half + 1)


def impulse(size: int) -> np.ndarray:
    picture = np.zeros((size, size))
    picture[size // 2, size // 2] = 1
    return picture


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 5.0])
def test_isotropic_kernels_are_the_impulse_response_of_scipy_s_gaussian(sigma: float) -> None:
    expected = scipy.ndimage.gaussian_filter(impulse(41), sigma, mode="constant", radius=20)
    kernel = bivariate_kernel("gaussian", 41, sigma_x=sigma, sigma_y=sigma)
    np.testing.assert_allclose(kernel, expected / expected.sum(), atol=1e-7)


@pytest.mark.parametrize("rotation", [0.0, 0.4, -2.3, math.pi / 2])
def test_turned_kernels_are_normal_densities(rotation: float) -> None:
    turn = np.array([[math.cos(rotation), -math.sin(rotation)], [math.sin(rotation), math.cos(rotation)]])
    covariance = turn @ np.diag([5.0**2, 2.0**2]) @ turn.T
    y, x = np.mgrid[-20:21, -20:21]
    expected = scipy.stats.multivariate_normal([0, 0], covariance).pdf(np.stack([x, y], -1))
    kernel = bivariate_kernel("gaussian", 41, sigma_x=5, sigma_y=2, rotation=rotation)
    np.testing.assert_allclose(kernel, expected / expected.sum(), atol=1e-8)


def test_a_kernel_turned_by_nothing_is_longer_along_its_rows_if_sigma_x_is_larger() -> None:
    kernel = bivariate_kernel("gaussian", 21, sigma_x=4, sigma_y=1)
    assert kernel[10, 15] > 100 * kernel[15, 10]


@pytest.mark.parametrize("beta", [0.5, 2.0, 4.0])
def test_generalised_kernels_fall_off_as_their_exponent_says(beta: float) -> None:
    kernel = bivariate_kernel("gaussian", 21, sigma_x=2, sigma_y=2, beta=beta)
    ratio = kernel[10, 13] / kernel[10, 10]
    assert ratio == pytest.approx(math.exp(-0.5 * (9 / 4) ** beta), rel=1e-4)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_plateau_kernels_have_half_their_height_one_sigma_out(beta: float) -> None:
    kernel = bivariate_kernel("plateau", 21, sigma_x=3, sigma_y=5, beta=beta)
    assert kernel[10, 13] / kernel[10, 10] == pytest.approx(0.5, rel=1e-5)
    assert kernel[15, 10] / kernel[10, 10] == pytest.approx(0.5, rel=1e-5)


@given(
    st.sampled_from(["gaussian", "plateau"]),
    odd,
    st.fixed_dictionaries(
        {"sigma_x": sigmas, "sigma_y": sigmas, "rotation": st.floats(-math.pi, math.pi), "beta": st.floats(0.5, 4)}
    ),
)
def test_kernels_sum_to_one_and_look_the_same_from_both_sides(shape, size, parameters) -> None:
    kernel = bivariate_kernel(shape, size, **parameters)
    assert kernel.shape == (size, size)
    assert kernel.dtype == np.float32
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize(("size", "cutoff"), [(7, math.pi / 3), (21, math.pi / 5), (21, math.pi)])
def test_sinc_kernels_follow_their_formula(size: int, cutoff: float) -> None:
    kernel = sinc_kernel(size, cutoff)
    unscaled = np.array(
        [
            [
                cutoff * scipy.special.j1(cutoff * math.hypot(x, y)) / (2 * math.pi * math.hypot(x, y))
                if x or y
                else cutoff**2 / (4 * math.pi)
                for x in range(-(size // 2), size // 2 + 1)
            ]
            for y in range(-(size // 2), size // 2 + 1)
        ]
    )
    np.testing.assert_allclose(kernel, unscaled / unscaled.sum(), atol=1e-7)


def test_sinc_kernels_pass_what_is_below_their_cutoff_and_stop_what_is_above() -> None:
    response = np.abs(np.fft.fft2(sinc_kernel(81, math.pi / 2), (256, 256)))
    assert response[0, 20] == pytest.approx(1, abs=0.1)
    assert response[0, 110] < 0.1
