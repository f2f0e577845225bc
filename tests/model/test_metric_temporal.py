from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from codecprior.core.priors import Flow
from codecprior.errors import ConfigError
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames
from codecprior.model.metric import FramePair
from codecprior.model.metric_temporal import WarpError, dis_motion, store_motion, warp_error
from codecprior.model.protocols import find_protocol
from codecprior.store.reader import open_store

Frames = list[NDArray[np.uint8]]


def shifted(dx: int, dy: int, count: int = 3) -> Frames:
    """A picture that moves by (dx, dy) from each frame to the next."""
    texture = np.random.default_rng(2).integers(0, 256, (120, 140, 3), dtype=np.uint8)
    return [texture[30 - dy * t : 94 - dy * t, 30 - dx * t : 110 - dx * t] for t in range(count)]


def constant(dx: float, dy: float, shape: tuple[int, int] = (64, 80)) -> Flow:
    return Flow(np.full((*shape, 2), (dx, dy), np.float32), np.ones(shape, np.bool_))


def known_motion(frames: Frames, motion: Flow) -> list[float]:
    score = WarpError("mv").start(find_protocol("plain"))
    return [score(FramePair(output=frame, reference=frame, motion=motion)) for frame in frames]


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (0, 5), (-4, 7), (6, -2)])
def test_the_warp_error_of_a_perfect_shift_is_zero(dx: int, dy: int) -> None:
    first, *others = known_motion(shifted(dx, dy), constant(-dx, -dy))
    assert math.isnan(first)
    assert others == [0, 0]


def test_motion_of_the_wrong_sign_or_order_is_no_perfect_shift() -> None:
    frames = shifted(4, 1)
    for wrong in ((4, 1), (-1, -4), (0, 0), (-4, -2)):
        assert known_motion(frames, constant(*wrong))[1] > 0.05


def test_the_warp_error_of_a_constant_step_is_its_square() -> None:
    dark, light = (np.full((20, 30, 3), value, np.uint8) for value in (100, 151))
    assert warp_error(light, dark, constant(0, 0, (20, 30))) == pytest.approx(0.2**2)
    light[..., 1:] = 100  # in one channel of three
    assert warp_error(light, dark, constant(0, 0, (20, 30))) == pytest.approx(0.2**2 / 3)


def test_fractions_of_samples_are_interpolated() -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 8, np.uint8)[:, None], (20, 30, 3))
    assert warp_error(ramp + np.uint8(2), ramp, constant(0.25, 0, (20, 30))) == pytest.approx(0, abs=1e-9)


def test_only_places_of_known_motion_within_the_frame_count() -> None:
    frame, previous = np.zeros((2, 20, 30, 3), np.uint8)
    frame[:, :10] = 255
    motion = constant(0, 0, (20, 30))
    motion.valid[:, :10] = False
    assert warp_error(frame, previous, motion) == 0
    assert warp_error(frame, previous, constant(-10, 0, (20, 30))) == 0  # what came in from the left is unknown
    assert math.isnan(warp_error(frame, previous, constant(30, 0, (20, 30))))
    motion.valid[:] = False
    assert math.isnan(warp_error(frame, previous, motion))


def test_motion_of_another_size_or_none_is_refused() -> None:
    frame = shifted(0, 0)[0]
    with pytest.raises(ConfigError, match="motion for 40x32 samples, the frame is 80x64"):
        warp_error(frame, frame, constant(0, 0, (32, 40)))
    score = WarpError("mv").start(find_protocol("plain"))
    score(FramePair(output=frame, reference=frame))
    with pytest.raises(ConfigError, match="warp motion 'mv': the sequence comes without vectors"):
        score(FramePair(output=frame, reference=frame))


@pytest.fixture(scope="module")
def bikes(clips: Path) -> Frames:
    return list(rgb_frames(open_frames(clips / "bikes.mp4"), start=60, stop=64))


def dis_scores(outputs: Frames, references: Frames) -> list[float]:
    score = WarpError().start(find_protocol("plain"))
    return [score(FramePair(output=each, reference=sharp)) for each, sharp in zip(outputs, references, strict=True)]


def test_flow_finds_the_shift_of_a_picture_and_masks_what_it_uncovers(bikes: Frames) -> None:
    frame, previous = bikes[0][40:200, 100:400], bikes[0][43:203, 106:406]  # moved to the right and down
    motion = dis_motion(frame, previous)
    assert motion.displacement[motion.valid].mean(axis=0) == pytest.approx([-6, -3], abs=0.2)
    assert motion.valid[20:-20, 20:-20].mean() > 0.8
    assert warp_error(frame, previous, motion) < warp_error(frame, previous, constant(0, 0, (160, 300))) / 20


def test_real_frames_flicker_little_and_noise_and_brightness_that_change_flicker(bikes: Frames) -> None:
    noise = np.random.default_rng(3)
    noisy = [(each + noise.normal(0, 8, each.shape)).clip(0, 255).astype(np.uint8) for each in bikes]
    pulsing = [each // (1 + index % 2) for index, each in enumerate(bikes)]
    still, shaken, pulsed = (np.nanmean(dis_scores(outputs, bikes)) for outputs in (bikes, noisy, pulsing))
    assert still < 3e-4
    # Noise of both frames, that of the one before smoothed by interpolation: between s^2 and 2 s^2.
    assert (8 / 255) ** 2 < shaken < 2 * (8 / 255) ** 2 + still
    assert pulsed > 10 * still


def test_a_frame_too_small_for_flow_is_refused() -> None:
    frame = np.zeros((8, 11, 3), np.uint8)
    with pytest.raises(ConfigError, match="frame of 11x8: DIS flow needs 12 samples on one side"):
        dis_motion(frame, frame)


def test_vectors_of_a_store_are_those_to_the_frame_before(prepared: Path) -> None:
    store = open_store(prepared / "priors" / "moving.zarr")
    motions = list(store_motion(store))
    assert len(motions) == len(store) == 8
    assert not motions[0].valid.any()
    for motion in motions[1:]:
        assert motion.displacement.shape == (96, 128, 2)
        assert motion.valid.mean() > 0.8
        # The picture moves by (4, -2) from each frame to the next.
        assert np.median(motion.displacement[motion.valid], axis=0) == pytest.approx([-4, 2])


def test_vectors_of_a_store_take_the_motion_out_of_its_frames(prepared: Path) -> None:
    frames = list(rgb_frames(open_frames(prepared / "sharp" / "moving")))
    score = WarpError("mv").start(find_protocol("plain"))
    motions = store_motion(open_store(prepared / "priors" / "moving.zarr"))
    warped = [
        score(FramePair(output=frame, reference=frame, motion=motion))
        for frame, motion in zip(frames, motions, strict=True)
    ]
    still = [warp_error(frame, before, constant(0, 0, (96, 128))) for before, frame in pairwise(frames)]
    assert np.nanmean(warped) < np.mean(still) / 20


def test_vectors_of_an_odd_size_are_those_of_the_source(prepared: Path) -> None:
    store = open_store(prepared / "priors" / "odd.zarr")
    assert store.coded.size == (96, 72)
    assert {motion.valid.shape for motion in store_motion(store)} == {(71, 93)}
