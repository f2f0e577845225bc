from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.datasets.degradation.clip import degrade_frame, degrade_frames, draw
from codecprior.datasets.degradation.recipe import RECIPES, Recipe, load_recipe
from codecprior.errors import ConfigError

NOISE = Recipe.from_dict("noise", {"steps": [{"noise": {"gaussian": 10}}]})
NOTHING = Recipe.from_dict("nothing", {"steps": [{"resize": {"modes": ["area"]}}]})


@pytest.fixture(scope="module")
def frames(tiny: Any) -> list[np.ndarray]:
    return [cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420) for frame in tiny.frames[:4]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads(frames: Any, recipe: str) -> None:
    parameters = draw(load_recipe(recipe), 5, "carphone", (176, 144))
    alone = list(degrade_frames(frames, parameters))
    for threads in (2, 5):
        np.testing.assert_array_equal(list(degrade_frames(iter(frames), parameters, threads=threads)), alone)
    np.testing.assert_array_equal(degrade_frame(frames[2], parameters, 2), alone[2])
    assert all(frame.dtype == np.uint8 and frame.shape == (144, 176, 3) for frame in alone)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from(RECIPES),
    st.integers(0, 2**63),
    st.text(max_size=20),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_every_size_comes_out_as_it_went_in(size, recipe, seed, name, dtype) -> None:
    frame = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (*size[::-1], 3)).astype(dtype)
    degraded = degrade_frame(frame, draw(load_recipe(recipe), seed, name, size), 0)
    assert (degraded.shape, degraded.dtype) == (frame.shape, np.uint8)


def test_each_seed_and_each_name_gets_its_own_parameters() -> None:
    recipe = load_recipe("codeformer")
    found = {
        str(draw(recipe, seed, name, (64, 48)).operations) for seed in (0, 1, 2**40) for name in ("a", "b", "a/b", "")
    }
    assert len(found) == 12


def test_frames_of_a_clip_share_everything_but_their_noise() -> None:
    parameters = draw(NOISE, 0, "clip", (256, 256))
    grey = np.full((256, 256, 3), 128, np.uint8)
    noise = [frame.astype(float) - 128 for frame in degrade_frames([grey] * 4, parameters)]
    assert np.std(noise, axis=(1, 2, 3)) == pytest.approx(10, rel=0.02)
    correlation = np.corrcoef(np.reshape(noise, (4, -1)))
    assert np.abs(correlation - np.eye(4)).max() < 0.02
    still = draw(load_recipe("codeformer"), 0, "clip", (256, 256))
    quiet = [operation for operation in still.operations if "noise" not in operation.name]
    assert len(quiet) == len(still.operations) - 1


def test_noise_of_another_name_or_seed_is_other_noise() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    found = [degrade_frame(grey, draw(NOISE, seed, name, (64, 64)), 0) for seed in (0, 1) for name in ("a", "b")]
    correlation = np.corrcoef(np.reshape(found, (4, -1)))
    assert np.abs(correlation - np.eye(4)).max() < 0.05


def test_a_recipe_that_does_nothing_rounds_once() -> None:
    parameters = draw(NOTHING, 0, "clip", (256, 1))
    levels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(degrade_frame(levels, parameters, 0), levels)
    np.testing.assert_array_equal(degrade_frame(levels.astype(np.uint16) * 257, parameters, 0), levels)


def test_frames_are_taken_one_at_a_time(frames: list[np.ndarray]) -> None:
    taken = []
    endless = (taken.append(index) or frames[0] for index in range(1000))
    degraded = degrade_frames(endless, draw(NOISE, 0, "clip", (176, 144)), threads=2)
    next(degraded)
    degraded.close()
    assert len(taken) == 3


def test_frames_of_another_size_and_negative_seeds_are_refused(frames: list[np.ndarray]) -> None:
    parameters = draw(NOISE, 0, "clip", (176, 144))
    with pytest.raises(ConfigError, match="clip: frame 1 is 100x100, the clip 176x144"):
        list(degrade_frames([frames[0], frames[0][:100, :100]], parameters))
    with pytest.raises(ConfigError, match="seed -1: give 0 or more"):
        draw(NOISE, -1, "clip", (8, 8))
