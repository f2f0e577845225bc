from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from codecprior.datasets.interpolation import Between
from codecprior.datasets.response import to_light, to_samples
from codecprior.errors import ConfigError
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames

EIGHT = np.dtype(np.uint8)


def read(path: Path, start: int, stop: int) -> list[Any]:
    return list(rgb_frames(open_frames(path), start=start, stop=stop))


def psnr(one: Any, other: Any) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


def light(frame: Any) -> Any:
    return to_light(frame, "gamma2.2")


def averages(frames: list[Any], step: int) -> tuple[Any, Any, Any]:
    """Mean light of all frames, of every K-th one, and of every K-th one with interpolated frames between."""
    kept = frames[::step]
    between = [
        motion.at(k / step, light(one), light(other))
        for one, other in pairwise(kept)
        for motion in [Between(one, other)]
        for k in range(1, step)
    ]
    plain = [light(frame) for frame in kept]
    every = [light(frame) for frame in frames]
    true, ghosts, interpolated = (
        to_samples(np.mean(samples, axis=0), "gamma2.2", EIGHT) for samples in (every, plain, plain + between)
    )
    return true, ghosts, interpolated


@pytest.mark.parametrize("time", [0.25, 0.5, 0.9])
def test_a_static_scene_is_unchanged(clips: Path, time: float) -> None:
    frame = read(clips / "carphone_pristine.mp4", 0, 1)[0]
    samples = light(frame)
    assert (Between(frame, frame).at(time, samples, samples) == samples).all()


@pytest.mark.parametrize(("x", "y"), [(8, 0), (0, -6), (-16, 10)])
@pytest.mark.parametrize("time", [0.25, 0.5, 0.75])
def test_a_moved_picture_is_shown_on_its_way(clips: Path, x: int, y: int, time: float) -> None:
    picture = read(clips / "bigbuckbunny.mp4", 60, 61)[0]

    def window(part: float) -> Any:
        left, top = 200 + x * part, 100 + y * part
        return np.asarray(cv2.getRectSubPix(picture, (320, 192), (left + 159.5, top + 95.5)))

    first, second = window(0), window(1)
    shown = to_samples(Between(first, second).at(time, light(first), light(second)), "gamma2.2", EIGHT)
    inner = np.s_[20:-20, 20:-20]
    assert psnr(shown[inner], window(time)[inner]) > 38


@pytest.mark.parametrize(
    ("clip", "start", "step", "gain"),
    [
        ("bikes.mp4", 0, 2, 8),
        ("bikes.mp4", 0, 4, 8),
        ("bikes.mp4", 110, 4, 7),
        ("bikes.mp4", 110, 8, 8),
        ("bikes.mp4", 200, 4, 0.7),  # faster than the flow can follow
        ("bigbuckbunny.mp4", 60, 2, 3),
        ("carphone_pristine.mp4", 60, 8, 2.5),
    ],
)
def test_interpolated_averages_come_closer_to_those_of_a_high_frame_rate(
    clips: Path, clip: str, start: int, step: int, gain: float
) -> None:
    true, ghosts, interpolated = averages(read(clips / clip, start, start + 2 * step + 1), step)
    assert psnr(interpolated, true) > psnr(ghosts, true) + gain


def test_across_a_cut_frames_are_blended_as_they_lie(clips: Path) -> None:
    before, after = read(clips / "bikes.mp4", 29, 31)
    shown = Between(before, after).at(0.5, light(before), light(after))
    blend = (light(before) + light(after)) / 2
    assert psnr(255 * shown, 255 * blend) > 30


def test_sixteen_bit_frames_move_as_eight_bit_ones_do(clips: Path) -> None:
    eight = read(clips / "carphone_pristine.mp4", 10, 12)
    first, second = (frame.astype(np.uint16) * 257 for frame in eight)
    wide = Between(first, second).at(0.5, light(first), light(second))
    assert np.abs(wide - Between(*eight).at(0.5, light(eight[0]), light(eight[1]))).max() < 1e-6


def test_the_number_of_threads_changes_nothing(clips: Path) -> None:
    first, second = read(clips / "bikes.mp4", 0, 2)
    shown = []
    threads = cv2.getNumThreads()
    for number in (1, 4):
        cv2.setNumThreads(number)
        shown.append(Between(first, second).at(0.3, light(first), light(second)))
    cv2.setNumThreads(threads)
    assert (shown[0] == shown[1]).all()


def test_frames_too_small_for_a_patch_are_refused() -> None:
    with pytest.raises(ConfigError, match="frames of 40x12: interpolation needs 16 pixels or more a side"):
        Between(np.zeros((12, 40, 3), np.uint8), np.zeros((12, 40, 3), np.uint8))
