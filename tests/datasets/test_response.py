from __future__ import annotations

import numpy as np
import pytest

from codecprior.datasets.response import RESPONSES, Response, check_response, to_light, to_samples
from codecprior.errors import ConfigError


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("response", RESPONSES)
def test_every_sample_survives_an_average_of_itself(dtype: type, response: Response) -> None:
    samples = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)[None, :, None].repeat(3, axis=2)
    light = to_light(samples, response)
    total = sum((light for _ in range(97)), np.zeros_like(light))
    assert (to_samples(total / np.float32(97), response, np.dtype(dtype)) == samples).all()


def test_light_is_the_power_2_2_of_samples() -> None:
    samples = np.array([[[0, 128, 255]]], np.uint8)
    assert np.allclose(to_light(samples, "gamma2.2"), (samples / 255) ** 2.2, atol=1e-6)
    assert np.allclose(to_light(samples, "linear"), samples / 255, atol=1e-6)


def test_floats_are_samples_from_0_to_1() -> None:
    samples = np.array([[[0, 128, 255]]], np.uint8)
    assert np.allclose(to_light((samples / 255).astype(np.float32), "gamma2.2"), to_light(samples, "gamma2.2"))


def test_light_outside_of_the_range_is_clipped() -> None:
    light = np.array([[[-0.5, 0.0, 1.5]]], np.float32)
    assert to_samples(light, "gamma2.2", np.dtype(np.uint8)).tolist() == [[[0, 0, 255]]]


def test_another_response_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"camera response 'srgb': use gamma2.2 or linear"):
        check_response("srgb")
