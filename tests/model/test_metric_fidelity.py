from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecprior.errors import ConfigError
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames
from codecprior.model.metric import FramePair
from codecprior.model.metric_fidelity import Psnr, Ssim, psnr, ssim, ssim_across_channels
from codecprior.model.protocols import find_protocol

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def pairs(clips: Path) -> dict[str, Pair]:
    """Pairs of frames of real video."""
    bikes = list(rgb_frames(open_frames(clips / "bikes.mp4"), start=60, stop=62))
    bunny = next(rgb_frames(open_frames(clips / "bigbuckbunny.mp4")))
    noise = np.random.default_rng(5).normal(0, 10, bikes[0].shape)
    return {
        "neighbours": (bikes[0], bikes[1]),
        "noisy": (bikes[0], (bikes[0] + noise).clip(0, 255).round().astype(np.uint8)),
        "turned": (bunny, bunny[::-1]),
    }


# With scikit-image 0.26.0:
# peak_signal_noise_ratio(a, b), structural_similarity(a, b, gaussian_weights=True, sigma=1.5,
#                                                       use_sample_covariance=False, data_range=255, channel_axis=2)
# and with ssim_calculate(a, b) of github.com/huicongzhang/BSSTNet, basicsr/metrics/psnr_ssim.py:
REFERENCE = {
    "neighbours": (21.617805, 0.86722433, 0.872634),
    "noisy": (28.174666, 0.55918404, 0.585402),
    "turned": (10.134885, 0.27290033, 0.096683),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_psnr_and_ssim_are_those_of_scikit_image_and_of_bsstnet(name: str, pairs: dict[str, Pair]) -> None:
    found = [function(*pairs[name]) for function in (psnr, ssim, ssim_across_channels)]
    assert found == pytest.approx(REFERENCE[name], abs=2e-6)


def flat(value: int, shape: tuple[int, ...] = (32, 40, 3)) -> NDArray[np.uint8]:
    return np.full(shape, value, np.uint8)


@given(st.integers(0, 255), st.integers(0, 255))
def test_the_psnr_of_a_constant_difference_is_that_of_its_square(first: int, second: int) -> None:
    expected = math.inf if first == second else 20 * math.log10(255 / abs(first - second))
    assert psnr(flat(first), flat(second)) == pytest.approx(expected)
    assert psnr(flat(first), flat(second)) == psnr(flat(second), flat(first))


def test_the_mean_squared_error_is_over_all_channels() -> None:
    other = flat(100)
    other[..., 0] += 30  # MSE 900 / 3
    assert psnr(flat(100), other) == pytest.approx(10 * math.log10(255**2 / 300))


def test_opposite_samples_do_not_overflow() -> None:
    assert psnr(flat(0), flat(255)) == 0


@pytest.mark.parametrize("function", [ssim, ssim_across_channels])
def test_ssim_of_identical_inverted_and_flat_pictures(
    function: Callable[[NDArray[np.uint8], NDArray[np.uint8]], float], pairs: dict[str, Pair]
) -> None:
    picture = pairs["neighbours"][0]
    assert function(picture, picture) == 1
    # Of noise, variances and covariance of the inverse are the same but for the sign, and means are nearly the same.
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert -1 < function(noise, 255 - noise) < -0.9
    # Without texture, only the means are left: (2 a b + C1) / (a^2 + b^2 + C1).
    c1 = (0.01 * 255) ** 2
    assert function(flat(60), flat(120)) == pytest.approx((2 * 60 * 120 + c1) / (60**2 + 120**2 + c1), abs=1e-4)


def test_ssim_looks_only_where_its_window_lies_within_the_frame() -> None:
    texture = np.random.default_rng(1).integers(0, 256, (11, 11, 3), dtype=np.uint8)
    corner = texture.copy()
    corner[0, 0] ^= 255
    assert ssim(texture, corner) < 1
    wide = np.concatenate([texture] * 3, axis=1)
    other = wide.copy()
    other[0, 0] ^= 255
    assert 1 - ssim(wide, other) < (1 - ssim(texture, corner)) / 10


def test_a_frame_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="frame of 40x10: SSIM needs at least 11x11 samples"):
        ssim(flat(1, (10, 40, 3)), flat(1, (10, 40, 3)))


def test_metrics_look_at_what_the_protocol_shows(pairs: dict[str, Pair]) -> None:
    output, reference = pairs["noisy"]
    pair = FramePair(output=output, reference=reference)
    cut = output[4:-4, 4:-4], reference[4:-4, 4:-4]
    for metric, function in ((Psnr(), psnr), (Ssim(), ssim)):
        assert metric.start(find_protocol("plain"))(pair) == function(output, reference)
        assert metric.start(find_protocol("cdvd-tsp"))(pair) == function(*cut)
    assert Ssim().start(find_protocol("bsstnet"))(pair) == ssim_across_channels(output, reference)
    conventions = {Ssim().convention(find_protocol(name)) for name in ("plain", "bsstnet")}
    assert len(conventions) == 2
