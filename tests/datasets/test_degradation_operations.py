from __future__ import annotations

import io
import math
from typing import Any

import av
import cv2
import numpy as np
import pytest
import scipy.ndimage

from codecprior.datasets.degradation.kernels import bivariate_kernel, sinc_kernel
from codecprior.datasets.degradation.operations import (
    Blur,
    GaussianNoise,
    Jpeg,
    Operation,
    PoissonNoise,
    Resize,
    Sharpen,
    Sinc,
)

EVERY = [
    Blur(shape="gaussian", size=41, sigma_x=3, sigma_y=3, rotation=0, beta=1),
    Blur(shape="plateau", size=21, sigma_x=3, sigma_y=1, rotation=1, beta=2),
    Sinc(size=21, cutoff=1.0),
    Resize(width=50, height=40, mode="area"),
    Resize(width=300, height=200, mode="bicubic"),
    GaussianNoise(sigma=10, grey=False),
    GaussianNoise(sigma=10, grey=True),
    PoissonNoise(scale=1.5, grey=False),
    PoissonNoise(scale=1.5, grey=True),
    Jpeg(quality=40),
    Sharpen(weight=0.5),
]


@pytest.fixture(scope="module")
def picture(tiny: Any) -> np.ndarray:
    return cv2.cvtColor(tiny.frames[3], cv2.COLOR_YUV2RGB_I420).astype(np.float32) / np.float32(255)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("operation", EVERY, ids=str)
def test_operations_keep_float32_and_leave_their_input_alone(picture: np.ndarray, operation: Operation) -> None:
    before = picture.copy()
    after = operation(picture, rng())
    np.testing.assert_array_equal(picture, before)
    assert after.dtype == np.float32
    assert after.shape[2] == 3
    assert not np.array_equal(after, picture)
    assert not np.shares_memory(after, picture)


@pytest.mark.parametrize("operation", EVERY, ids=str)
def test_operations_with_the_same_randomness_give_the_same_bits(picture: np.ndarray, operation: Operation) -> None:
    np.testing.assert_array_equal(operation(picture, rng(7)), operation(picture, rng(7)))


@pytest.mark.parametrize(
    ("operation", "kernel"),
    [
        (EVERY[0], bivariate_kernel("gaussian", 41, sigma_x=3, sigma_y=3)),
        (EVERY[1], bivariate_kernel("plateau", 21, sigma_x=3, sigma_y=1, rotation=1, beta=2)),
        (EVERY[2], sinc_kernel(21, 1.0)),
    ],
    ids=["separable", "plateau", "sinc"],
)
def test_blurring_is_correlation_with_the_kernel_over_mirrored_borders(picture, operation, kernel) -> None:
    expected = [scipy.ndimage.correlate(picture[..., c].astype(float), kernel, mode="mirror") for c in range(3)]
    np.testing.assert_allclose(operation(picture, rng()), np.stack(expected, -1), atol=2e-6)


def test_resizing_takes_the_centres_of_pixels(picture: np.ndarray) -> None:
    half = Resize(width=88, height=72, mode="area")(picture, rng())
    np.testing.assert_allclose(half, picture.reshape(72, 2, 88, 2, 3).mean(axis=(1, 3)), atol=1e-6)
    np.testing.assert_allclose(Resize(width=88, height=72, mode="bilinear")(picture, rng()), half, atol=1e-6)
    ramp = np.repeat(np.linspace(0, 1, 32, dtype=np.float32)[None, :, None], 8, axis=0).repeat(3, axis=2)
    back = Resize(width=32, height=8, mode="bilinear")(Resize(width=96, height=24, mode="bicubic")(ramp, rng()), rng())
    np.testing.assert_allclose(back[:, 4:-4], ramp[:, 4:-4], atol=1e-3)


@pytest.mark.parametrize("sigma", [2.0, 15.0])
def test_gaussian_noise_has_its_sigma_and_no_mean(sigma: float) -> None:
    grey = np.full((256, 256, 3), 0.5, np.float32)
    noise = (GaussianNoise(sigma=sigma, grey=False)(grey, rng()) - grey) * 255
    assert noise.std() == pytest.approx(sigma, rel=0.01)
    assert abs(noise.mean()) < 4 * sigma / math.sqrt(noise.size)
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("noise", [GaussianNoise(sigma=5, grey=True), PoissonNoise(scale=1, grey=True)], ids=str)
def test_grey_noise_is_the_same_in_all_channels(noise: Operation) -> None:
    coloured = np.full((64, 64, 3), (0.4, 0.5, 0.6), np.float32)
    change = noise(coloured, rng()) - coloured
    assert change.std() > 0.01
    np.testing.assert_allclose(change, change[..., :1].repeat(3, axis=2), atol=1e-6)


@pytest.mark.parametrize("level", [26, 128, 180])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_poisson_noise_is_that_of_256_photons_at_white(level: int, scale: float) -> None:
    flat = np.full((256, 256, 3), level / 255, np.float32)
    noise = PoissonNoise(scale=scale, grey=False)(flat, rng()) - flat
    assert noise.std() == pytest.approx(scale * math.sqrt(level / 255 / 256), rel=0.02)
    assert abs(noise.mean()) < 5 * noise.std() / math.sqrt(noise.size)


def test_noise_is_clipped() -> None:
    for noise in (GaussianNoise(sigma=60, grey=False), PoissonNoise(scale=3, grey=False)):
        both = np.zeros((64, 64, 3), np.float32)
        both[:32] = 1
        after = noise(both, rng())
        assert (after.min(), after.max()) == (0, 1)


def test_jpeg_is_what_another_decoder_sees(picture: np.ndarray) -> None:
    levels = np.rint(picture * 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", levels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
    with av.open(io.BytesIO(coded), format="jpeg_pipe") as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "yuvj420p"
    luma = frame.to_ndarray()[:144].astype(float)
    found = Jpeg(quality=60)(picture, rng()) * 255
    assert np.abs(found @ np.array([0.299, 0.587, 0.114]) - luma).mean() < 1


def test_jpeg_gets_better_with_its_quality(picture: np.ndarray) -> None:
    errors = [float(np.mean((Jpeg(quality=q)(picture, rng()) - picture) ** 2)) for q in (10, 30, 50, 70, 90, 100)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10 * errors[-1]


def test_sharpening_makes_edges_steeper_and_leaves_flat_parts_alone() -> None:
    step = np.full((128, 256, 3), 0.3, np.float32)
    step[:, 128:] = 0.7
    step = cv2.GaussianBlur(step, (0, 0), 2)
    sharp = Sharpen(weight=0.5)(step, rng())
    assert np.gradient(sharp[64, :, 0]).max() > 1.2 * np.gradient(step[64, :, 0]).max()
    np.testing.assert_allclose(sharp[:, :40], step[:, :40], atol=1e-6)
