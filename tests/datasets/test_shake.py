from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.datasets.shake import ShakeFrame, ShakeScene, ShakeSettings, render_shake
from codecprior.errors import ConfigError
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames


@pytest.fixture(scope="module")
def pictures(clips: Path) -> tuple[Any, Any]:
    """Two pictures of different clips and sizes."""
    first, second = (
        next(rgb_frames(open_frames(clips / name), start=start))
        for name, start in (("bikes.mp4", 40), ("bigbuckbunny.mp4", 60))
    )
    return first, second


def psnr(one: Any, other: Any) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


def grid(size: tuple[int, int]) -> Any:
    rows, cols = np.indices(size[::-1], np.float32)
    return np.stack([cols, rows], axis=-1)


def smooth(picture: Any) -> Any:
    """Where no edge is near, which any interpolation would blur."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    slope = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return cv2.dilate(slope, np.ones((5, 5))) < 80


def neighbours(frames: list[ShakeFrame]) -> list[tuple[ShakeFrame, ShakeFrame, Any, Any]]:
    """Reference, current frame, motion of the current one to the reference and where it is valid, both ways."""
    pairs = list(pairwise(frames))
    return [
        *((before, after, after.backward, after.backward_valid) for before, after in pairs),
        *((after, before, before.forward, before.forward_valid) for before, after in pairs),
    ]


scenes = st.builds(
    ShakeSettings,
    size=st.sampled_from([(160, 96), (97, 131)]),
    length=st.just(4),
    speed=st.tuples(st.floats(0, 12), st.floats(12, 28)),
    rotation=st.floats(0, 10),
    zoom=st.floats(0, 0.2),
    objects=st.integers(0, 3),
    exposure=st.just((0.05, 0.3)),
    crf=st.sampled_from(["gamma2.2", "linear"]),
    seed=st.integers(0, 2**64 - 1),
)


# ---- true motion


@given(scene=scenes)
@settings(max_examples=25, deadline=None)
def test_a_sharp_frame_warped_by_the_true_motion_is_its_neighbour(pictures: Any, scene: ShakeSettings) -> None:
    for reference, current, motion, valid in neighbours(list(render_shake(pictures, scene))):
        warped = cv2.remap(reference.sharp, grid(scene.size) + motion, None, cv2.INTER_CUBIC)
        inner = cv2.erode(valid.astype(np.uint8), np.ones((7, 7)), borderValue=0) > 0
        compared = inner & smooth(current.sharp)
        if compared.sum() > 100:
            assert psnr(warped[compared], current.sharp[compared]) > 40


@given(scene=scenes)
@settings(max_examples=25, deadline=None)
def test_the_true_motion_is_that_of_one_of_the_layers(pictures: Any, scene: ShakeSettings) -> None:
    rendered = ShakeScene(pictures, scene)
    here = np.concatenate([grid(scene.size).astype(float), np.ones((*scene.size[::-1], 1))], axis=-1)
    for index in range(1, scene.length):
        frame = rendered.frame(index)
        errors = []
        for layer in range(rendered.num_layers):
            place = here @ rendered.transform(layer, index).T
            there = np.linalg.solve(rendered.transform(layer, index - 1), place.reshape(-1, 3).T).T.reshape(here.shape)
            errors.append(np.abs(frame.backward - (there - here)[..., :2]).max(axis=-1))
        assert np.min(errors, axis=0).max() < 1e-3
        if not scene.objects:
            there = grid(scene.size) + frame.backward
            inside = ((there >= 0) & (there <= np.subtract(scene.size, 1))).all(axis=-1)
            assert (frame.backward_valid == inside).mean() > 0.999  # but for the rounding of the motion at the rim


def test_motion_there_and_back_cancels(pictures: Any) -> None:
    frames = list(render_shake(pictures, ShakeSettings(length=3, objects=2, seed=5)))
    motion, valid = frames[1].backward, frames[1].backward_valid
    place = grid((320, 192)) + motion
    back = cv2.remap(frames[0].forward, place, None, cv2.INTER_LINEAR)
    surely = valid & (cv2.remap(frames[0].forward_valid.astype(np.float32), place, None, cv2.INTER_LINEAR) == 1)
    assert surely.mean() > 0.5
    assert np.abs(motion + back)[surely].max() < 0.01


def test_what_an_object_hides_is_not_valid(pictures: Any) -> None:
    scene = ShakeSettings(length=2, objects=3, seed=9, rotation=0, zoom=0)
    frame = list(render_shake(pictures, scene))[1]
    alone = list(render_shake(pictures, replace(scene, objects=0)))[1]
    assert (frame.backward_valid <= alone.backward_valid | (frame.backward != alone.backward).any(axis=-1)).all()
    hidden = alone.backward_valid & ~frame.backward_valid & (frame.backward == alone.backward).all(axis=-1)
    assert hidden.sum() > 200


def test_ends_of_a_sequence_have_no_motion_beyond(pictures: Any) -> None:
    first, last = render_shake(pictures, ShakeSettings(length=2))
    assert not first.backward.any()
    assert not first.backward_valid.any()
    assert not last.forward.any()
    assert not last.forward_valid.any()


# ---- pictures


def test_speed_is_as_asked(pictures: Any) -> None:
    for seed in range(5):
        scene = ShakeSettings(size=(64, 48), speed=(20, 20), rotation=0, zoom=0, seed=seed)
        frames = list(render_shake(pictures, scene))[1:]
        speeds = [float(np.hypot(*frame.backward[0, 0])) for frame in frames]
        assert 15 < np.mean(speeds) < 21  # a chord is shorter than its path


def test_nothing_is_black_however_far_the_camera_wanders(pictures: Any) -> None:
    white = np.full((40, 60, 3), 255, np.uint8)
    for frame in render_shake((white,), ShakeSettings(speed=(60, 60), rotation=30, zoom=0.3, length=6)):
        assert frame.blur.min() == frame.sharp.min() == 255


def test_a_longer_exposure_blurs_more_and_none_at_rest(pictures: Any) -> None:
    scene = ShakeSettings(length=12, seed=2)
    frames = list(render_shake(pictures, scene))
    assert len({frame.exposure for frame in frames}) == 12
    assert all(0.05 <= frame.exposure <= 0.95 for frame in frames)
    loss = [psnr(frame.blur, frame.sharp) for frame in frames]
    order = np.argsort([frame.exposure for frame in frames])
    assert np.mean(np.array(loss)[order[:4]]) > np.mean(np.array(loss)[order[-4:]]) + 5
    for frame in render_shake(pictures, ShakeSettings(speed=(0, 0), rotation=0, zoom=0, length=2)):
        assert (frame.blur == frame.sharp).all()


def test_an_exposure_sums_light(pictures: Any) -> None:
    scene = ShakeSettings(length=3, seed=4, exposure=(0.5, 0.5), speed=(16, 16))
    frame = ShakeScene(pictures, scene).frame(1)
    of_samples = ShakeScene(pictures, replace(scene, crf="linear")).frame(1)
    assert (frame.sharp == of_samples.sharp).all()
    assert (frame.blur >= of_samples.blur).mean() > 0.999  # a mean of powers is no less than the power of a mean
    assert ((frame.blur / 255.0) ** 2.2).mean() == pytest.approx(((frame.sharp / 255.0) ** 2.2).mean(), abs=0.02)


def test_sixteen_bit_pictures_give_sixteen_bit_frames(pictures: Any) -> None:
    scene = ShakeSettings(length=1, size=(64, 48))
    (wide,) = render_shake([pictures[0].astype(np.uint16) * 257], scene)
    (narrow,) = render_shake(pictures[:1], scene)
    assert wide.blur.dtype == wide.sharp.dtype == np.uint16
    assert np.abs(wide.blur / 257 - narrow.blur).max() < 1


def test_a_seed_gives_the_same_bytes_with_any_number_of_threads(pictures: Any) -> None:
    scene = ShakeSettings(length=2, objects=2, seed=11)
    threads = cv2.getNumThreads()
    rendered = []
    for number in (1, 4):
        cv2.setNumThreads(number)
        rendered.append(list(render_shake(pictures, scene)))
    cv2.setNumThreads(threads)
    for one, other in zip(*rendered, strict=True):
        assert all((getattr(one, name) == getattr(other, name)).all() for name in ("blur", "sharp", "backward"))
    another = next(render_shake(pictures, replace(scene, seed=12)))
    assert (another.sharp != rendered[0][0].sharp).any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": (320, 8)}, "size 320x8: use 16 pixels or more a side"),
        ({"length": 0}, "length 0: use 1 frame or more"),
        ({"speed": (9, 3)}, "speed 9-3: use a range of pixels per frame from 0 on"),
        ({"exposure": (0, 0.5)}, "exposure 0-0.5: use a range above 0 and up to 1"),
        ({"exposure": (0.5, 1.5)}, r"exposure 0.5-1.5: use a range above 0 and up to 1"),
        ({"rotation": -1}, "rotation -1: use 0 to 180 degrees"),
        ({"zoom": 1}, "zoom 1: use 0 or more and less than 1"),
        ({"objects": -1}, "objects -1: use 0 or more"),
        ({"seed": -1}, "seed -1: use 0 or more"),
        ({"crf": "log"}, "camera response 'log'"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        ShakeSettings(**options)
