from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codecprior.model.colorfix import wavelet_color_fix


@pytest.fixture(scope="module")
def picture(clips: Path) -> torch.Tensor:
    frame = cv2.VideoCapture(str(clips / "bikes.mp4")).read()[1][:160, :200]
    return torch.from_numpy(frame.copy()).movedim(-1, 0)[None] / 255


def low(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blur a (H, W) picture with taps 1, 2, 4, 8 and 16 samples away, one after the other."""
    for distance in (1, 2, 4, 8, 16):
        wide = np.pad(picture, distance, mode="edge")
        height, width = picture.shape
        picture = np.zeros_like(picture)
        for dy, row in enumerate((0.25, 0.5, 0.25)):
            for dx, column in enumerate((0.25, 0.5, 0.25)):
                y, x = dy * distance, dx * distance
                picture = picture + row * column * wide[y : y + height, x : x + width]
    return picture


def test_low_frequencies_change_places_as_in_an_independent_computation(picture: torch.Tensor) -> None:
    details = picture.flip(3) * 0.7 + 0.1
    fixed = wavelet_color_fix(details, picture)
    for channel in range(3):
        one, other = (each[0, channel].double().numpy() for each in (details, picture))
        np.testing.assert_allclose(fixed[0, channel].numpy(), one - low(one) + low(other), atol=1e-6)


def test_a_shift_of_all_colours_is_taken_back(picture: torch.Tensor) -> None:
    shift = torch.tensor([0.2, -0.1, 0.05])[:, None, None]
    torch.testing.assert_close(wavelet_color_fix(picture + shift, picture), picture)


def test_fine_details_stay(picture: torch.Tensor) -> None:
    checks = 0.1 * (-1.0) ** (torch.arange(160)[:, None] + torch.arange(200))
    added = wavelet_color_fix(picture + checks, picture) - picture
    inside = (..., slice(1, -1), slice(1, -1))  # repeating the border makes checks there a little lighter
    torch.testing.assert_close(added[inside], checks.expand(1, 3, -1, -1)[inside], atol=0.01, rtol=0)


def test_a_picture_that_is_fixed_with_itself_is_the_same(picture: torch.Tensor) -> None:
    assert torch.equal(wavelet_color_fix(picture, picture), picture)
