from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.errors import ConfigError, MediaError
from codecprior.media import FrameSource, RawFormat, open_source
from codecprior.media.convert import bgr_to_yuv420
from codecprior.media.rgb import rgb_frames, yuv_to_rgb


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


@pytest.mark.parametrize("chroma_format", ["4:0:0", "4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_limited_range_black_grey_and_white_fill_the_range(chroma_format: str, bit_depth: int) -> None:
    unit = 1 << (bit_depth - 8)
    peak, dtype = (255, np.uint8) if bit_depth == 8 else (65535, np.uint16)
    y = np.repeat(np.array([[16, 126, 235]], dtype) * unit, 6, axis=1).repeat(5, axis=0)
    cols, rows = {"4:4:4": (18, 5), "4:2:2": (9, 5), "4:2:0": (9, 3), "4:0:0": (0, 0)}[chroma_format]
    neutral = np.full((rows, cols), 128 * unit, dtype)
    rgb = yuv_to_rgb((y, neutral, neutral) if rows else (y,), bit_depth)
    assert rgb.shape == (5, 18, 3)
    assert rgb.dtype == dtype
    expected = np.rint(np.array([0, (126 - 16) / 219, 1]) * peak)
    np.testing.assert_array_equal(rgb[2, [2, 9, 15]], np.repeat(expected[:, None], 3, axis=1))


@pytest.mark.parametrize(("matrix", "space"), [("bt709", 1), ("bt601", 5), ("smpte240m", 7), ("bt2020", 9)])
@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_colors_are_those_that_ffmpeg_sees(matrix: str, space: int, color_range: str) -> None:
    planes = np.random.default_rng(0).integers(60, 190, (3, 48, 64)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    expected = frame.reformat(
        format="rgb24",
        src_colorspace=space,
        dst_colorspace=space,
        src_color_range=1 if color_range == "limited" else 2,
        dst_color_range=2,
        interpolation=2 | 0x2000 | 0x40000 | 0x80000,  # full chroma, accurate rounding, bit exact
    ).to_ndarray()
    rgb = yuv_to_rgb(tuple(planes), 8, matrix=matrix, color_range=color_range)
    assert np.abs(rgb.astype(int) - expected).max() <= 1


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.sampled_from([np.uint8, np.uint16]))
def test_flat_colors_survive_the_way_to_yuv_and_back(red: int, green: int, blue: int, dtype: Any) -> None:
    step = 1 if dtype == np.uint8 else 257
    picture = np.full((4, 6, 3), (red * step, green * step, blue * step), dtype)
    back = yuv_to_rgb(bgr_to_yuv420(picture[..., ::-1].copy()), 8 if dtype == np.uint8 else 10)
    assert np.abs(back.astype(int) - picture).max() <= (2 if dtype == np.uint8 else 160)


def test_pictures_come_as_they_are_with_all_their_chroma(tiny: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2, 15, 21, 3)).astype(np.uint8)
    for index, picture in enumerate(noise):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture[..., ::-1])
    found = list(rgb_frames(_open(tmp_path)))
    np.testing.assert_array_equal(found, noise)
    assert all(picture.flags.c_contiguous for picture in found)


def test_16_bit_pictures_keep_their_depth(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 65536, (6, 8, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "0.png"), picture[..., ::-1])
    (found,) = rgb_frames(_open(tmp_path))
    np.testing.assert_array_equal(found, picture)


def test_10_bit_files_come_in_16_bit_steps_finer_than_8_bit(tmp_path: Path) -> None:
    luma = np.arange(64, 940, dtype="<u2")[:864].reshape(24, 36)
    path = tmp_path / "ramp_36x24_30fps_10bit_400.yuv"
    path.write_bytes(luma.tobytes())
    (found,) = rgb_frames(_open(path))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[..., 0], np.rint((luma.astype(float) - 64) / 876 * 65535))


def test_all_forms_of_a_clip_look_alike(tiny: Any, tmp_path: Path) -> None:
    raw = RawFormat(width=176, height=144)
    from_yuv = list(rgb_frames(_open(tiny.yuv(tmp_path / "clip.yuv"), raw)))
    assert len(from_yuv) == 6
    np.testing.assert_array_equal(list(rgb_frames(_open(tiny.y4m(tmp_path / "clip.y4m")))), from_yuv)
    np.testing.assert_array_equal(list(rgb_frames(_open(tiny.mp4(tmp_path / "clip.mp4")))), from_yuv)
    for shown, planar in zip(from_yuv, tiny.frames, strict=False):
        y = 16 + 219 / 255 * (shown @ np.array([0.2126, 0.7152, 0.0722]))
        assert np.median(np.abs(y - planar[:144])) < 0.6


def test_a_source_says_which_matrix_and_range_it_has(tiny: Any, tmp_path: Path) -> None:
    limited = tiny.y4m(tmp_path / "limited.y4m", 1)
    full = tmp_path / "full.y4m"
    full.write_bytes(limited.read_bytes().replace(b" C420\n", b" C420 XCOLORRANGE=FULL\n"))
    planes = [np.frombuffer(tiny.frames[0].tobytes(), np.uint8)[:25344].reshape(144, 176)]
    (shown,) = rgb_frames(_open(full))
    assert np.median(np.abs(shown @ np.array([0.2126, 0.7152, 0.0722]) - planes[0])) < 0.6

    path = tmp_path / "bt601.mp4"
    _write_red(path, colorspace=5)
    (shown,) = rgb_frames(_open(path))
    np.testing.assert_allclose(shown[8, 8], (255, 0, 0), atol=2)


def test_odd_sizes_come_without_padding(tiny: Any, tmp_path: Path) -> None:
    path = tmp_path / "odd_21x15.yuv"
    path.write_bytes(bytes(range(200)) * 10)
    with pytest.raises(MediaError):
        _open(path)
    path.write_bytes(np.full(21 * 15 + 2 * 11 * 8, 128, np.uint8).tobytes() * 2)
    assert [frame.shape for frame in rgb_frames(_open(path))] == [(15, 21, 3)] * 2


@pytest.mark.parametrize("form", ["pictures", "y4m", "mp4"])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (2, None), (0, 3), (2, 5), (4, 99), (9, None), (3, 3), (4, 2)])
def test_a_part_of_a_clip_is_that_part(tiny: Any, tmp_path: Path, form: str, start: int, stop: int | None) -> None:
    source = _open(getattr(tiny, form)(tmp_path / f"clip.{form}"))
    whole = list(rgb_frames(source))
    part = list(rgb_frames(source, start=start, stop=stop))
    assert len(part) == len(whole[start:stop])
    for found, expected in zip(part, whole[start:stop], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", ["pictures", "y4m"])
def test_a_negative_start_is_refused(tiny: Any, tmp_path: Path, form: str) -> None:
    with pytest.raises(ConfigError, match="start -1"):
        rgb_frames(_open(getattr(tiny, form)(tmp_path / f"clip.{form}")), start=-1)


def _open(path: Path, raw: RawFormat | None = None) -> FrameSource:
    source = open_source(path, raw=raw)
    assert isinstance(source, FrameSource)
    return source


def _write_red(path: Path, colorspace: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.codec_context.colorspace = colorspace
        planes = np.concatenate([np.full(512, 81), np.full(128, 90), np.full(128, 240)]).astype(np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes.reshape(24, 32), format="yuv420p")))
        container.mux(stream.encode())
