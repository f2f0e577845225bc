from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.datasets.blur import BlurSettings, blurry_frames, synthesize_blur
from codecprior.datasets.response import RESPONSES, Response
from codecprior.datasets.synthesis import SequenceFolders
from codecprior.errors import CodecpriorError, ConfigError, MediaError
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames


@pytest.fixture(scope="module")
def real(clips: Path) -> list[Any]:
    return list(rgb_frames(open_frames(clips / "carphone_pristine.mp4"), stop=30))


def read(folder: Path) -> list[Any]:
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1] for path in sorted(folder.iterdir())]


# ---- averages


@pytest.mark.parametrize(("crf", "power"), [("gamma2.2", 2.2), ("linear", 1.0)])
def test_an_average_is_the_mean_light_of_its_frames(real: list[Any], crf: Response, power: float) -> None:
    (average,) = blurry_frames(real[:7], 7, 7, crf=crf)
    exact = 255 * np.mean([(frame / 255) ** power for frame in real[:7]], axis=0) ** (1 / power)
    assert np.abs(average.blur - exact).max() < 0.501
    assert (average.sharp == real[3]).all()


def test_light_keeps_highlights_brighter_than_samples_do(real: list[Any]) -> None:
    (light,), (samples,) = (list(blurry_frames(real[:7], 7, 7, crf=crf)) for crf in RESPONSES)
    difference = light.blur.astype(int) - samples.blur
    assert difference.min() >= 0
    assert difference.max() > 5


@given(
    total=st.integers(0, 25),
    count=st.integers(1, 5).map(lambda half: 2 * half + 1),
    stride=st.integers(1, 14),
    values=st.randoms(use_true_random=False),
)
def test_every_window_that_the_clip_fills_is_averaged(total: int, count: int, stride: int, values: Any) -> None:
    frames = [np.full((1, 2, 3), values.randrange(256), np.uint8) for _ in range(total)]
    averages = list(blurry_frames(frames, count, stride, crf="linear"))
    assert [average.source_frames for average in averages] == [
        range(first, first + count) for first in range(0, total - count + 1, stride)
    ]
    for average in averages:
        used = [frames[index] for index in average.source_frames]
        assert np.abs(average.blur - np.mean(used, axis=0)).max() < 0.501
        assert (average.sharp == used[count // 2]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("crf", RESPONSES)
@pytest.mark.parametrize("interpolate", [1, 4])
def test_a_static_clip_stays_as_it_is(real: list[Any], dtype: Any, crf: Response, interpolate: int) -> None:
    frame = real[0].astype(dtype) * (257 if dtype == np.uint16 else 1)
    for average in blurry_frames([frame] * 9, 3, 3, crf=crf, interpolate=interpolate):
        assert average.blur.dtype == dtype
        assert (average.blur == frame).all()


def test_interpolation_fills_the_gaps_of_each_window(real: list[Any]) -> None:
    overlapping = list(blurry_frames(real[:9], 5, 2, interpolate=3))
    assert [average.source_frames for average in overlapping] == [range(5), range(2, 7), range(4, 9)]
    for average in overlapping:
        window = [real[index] for index in average.source_frames]
        (alone,) = blurry_frames(window, 5, 5, interpolate=3)
        assert (average.blur == alone.blur).all()
        (plain,) = blurry_frames(window, 5, 5)
        assert (average.blur != plain.blur).any()


def test_memory_holds_few_frames_however_many_are_averaged(real: list[Any]) -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    def frames() -> Iterator[Any]:
        nonlocal most
        for frame in real:
            copy = frame.copy()
            alive.append(weakref.ref(copy))
            most = max(most, sum(reference() is not None for reference in alive))
            yield copy
            del copy

    assert sum(1 for _ in blurry_frames(frames(), 13, 13)) == 2
    assert most <= 4  # the one that comes, the one before, the one in the middle, and that of the average given out


# ---- settings


def test_each_sequence_draws_an_odd_number_of_frames() -> None:
    settings = BlurSettings(frames=(7, 13), seed=3)
    drawn = [settings.drawn(f"clip{index}") for index in range(60)]
    assert {each.frames[0] for each in drawn} == {7, 9, 11, 13}
    assert all(each.stride == each.frames[0] == each.frames[1] for each in drawn)
    assert drawn == [settings.drawn(f"clip{index}") for index in range(60)]
    assert drawn != [BlurSettings(seed=4).drawn(f"clip{index}") for index in range(60)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"frames": (8, 8)}, "frames 8: use an odd number from 3 on"),
        ({"frames": (1, 7)}, "frames 1-7: use an odd number from 3 on"),
        ({"frames": (9, 7)}, "frames 9-7: use an odd number from 3 on"),
        ({"stride": 0}, "stride 0: use 1 or more source frames"),
        ({"interpolate": 0}, "interpolate 0: use 1 for no interpolation"),
        ({"crf": "log"}, "camera response 'log': use gamma2.2 or linear"),
        ({"seed": -1}, "seed -1: use 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        BlurSettings(**options)


# ---- sequences on disk


@pytest.mark.parametrize("form", ["pictures", "yuv", "y4m", "mp4"])
def test_any_source_becomes_both_sides_and_a_record(tiny: Any, tmp_path: Path, form: str) -> None:
    names = {"pictures": "clip", "yuv": "clip_176x144.yuv", "y4m": "clip.y4m", "mp4": "clip.mp4"}
    path = getattr(tiny, form)(tmp_path / names[form])
    folders = SequenceFolders(root=tmp_path / "out", name="clip")
    told: list[tuple[int, int | None]] = []
    result = synthesize_blur(path, folders, BlurSettings(frames=(3, 3)), progress=lambda *done: told.append(done))
    assert (result.status, result.num_frames, told) == ("synthesized", 2, [(1, 2), (2, 2)])
    frames = list(rgb_frames(open_frames(path)))
    expected = list(blurry_frames(frames, 3, 3))
    blur, sharp = map(read, folders.folders)
    assert all((written == average.blur).all() for written, average in zip(blur, expected, strict=True))
    assert all((written == average.sharp).all() for written, average in zip(sharp, expected, strict=True))
    record = json.loads((tmp_path / "out" / "synthesis" / "clip.json").read_text())
    assert record["source"] == str(path)
    assert record["frames"] == [{"source_frames": [0, 2], "sharp": 1}, {"source_frames": [3, 5], "sharp": 4}]
    assert record["made_from"]["averaging"]["crf"] == "gamma2.2"


def test_sixteen_bit_pictures_stay_sixteen_bit(tiny: Any, tmp_path: Path) -> None:
    pictures = tiny.pictures(tmp_path / "clip", depth=16)
    folders = SequenceFolders(root=tmp_path / "out", name="clip")
    synthesize_blur(pictures, folders, BlurSettings(frames=(5, 5)))
    ((blur,), (sharp,)) = map(read, folders.folders)
    assert blur.dtype == sharp.dtype == np.uint16
    assert (sharp == read(pictures)[2]).all()


def test_a_clip_shorter_than_an_average_is_refused_and_leaves_nothing(tiny: Any, tmp_path: Path) -> None:
    folders = SequenceFolders(root=tmp_path / "out", name="clip")
    with pytest.raises(MediaError, match=r"clip\.y4m: is shorter than one average of 7 frames; average fewer"):
        synthesize_blur(tiny.y4m(tmp_path / "clip.y4m"), folders, BlurSettings(frames=(7, 7)))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(folder.exists() for folder in folders.folders)


def test_a_broken_source_leaves_nothing(tiny: Any, tmp_path: Path) -> None:
    pictures = tiny.pictures(tmp_path / "clip")
    (pictures / "4.png").write_bytes((pictures / "4.png").read_bytes()[:-20])
    folders = SequenceFolders(root=tmp_path / "out", name="clip")
    with pytest.raises(CodecpriorError, match=r"4\.png: is truncated or damaged"):
        synthesize_blur(pictures, folders, BlurSettings(frames=(3, 3)))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
