from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.errors import ConfigError, MediaError
from codecprior.media import RawFormat
from codecprior.media.raw import RawVideo


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Kimono1_1920x1080_24.yuv", RawFormat(width=1920, height=1080, frame_rate=Fraction(24))),
        (
            "Tango2_3840x2160_60fps_10bit_420.yuv",
            RawFormat(width=3840, height=2160, frame_rate=Fraction(60), bit_depth=10, chroma_format="4:2:0"),
        ),
        (
            "CatRobot_3840x2160_60fps_10bit_420_jvet.yuv",
            RawFormat(width=3840, height=2160, frame_rate=Fraction(60), bit_depth=10, chroma_format="4:2:0"),
        ),
        (
            "CatRobot1_3840x2160p_60_10_709_420.yuv",
            RawFormat(width=3840, height=2160, frame_rate=Fraction(60), bit_depth=10, chroma_format="4:2:0"),
        ),
        (
            "MarketPlace_1920x1080_60_10bit.yuv",
            RawFormat(width=1920, height=1080, frame_rate=Fraction(60), bit_depth=10),
        ),
        (
            "a_352x288_29.97_444p12le.yuv",
            RawFormat(width=352, height=288, frame_rate=Fraction(30000, 1001), bit_depth=12, chroma_format="4:4:4"),
        ),
        ("clip_176x144_12.5fps.yuv", RawFormat(width=176, height=144, frame_rate=Fraction(25, 2))),
        ("clip_176x144_400.yuv", RawFormat(width=176, height=144, chroma_format="4:0:0")),
        ("S01_R_00_00.yuv", RawFormat()),
    ],
)
def test_layout_is_read_from_the_name(name: str, expected: RawFormat) -> None:
    assert RawFormat.from_name(name) == expected


def test_what_the_caller_states_wins_over_the_name(tmp_path: Path) -> None:
    path = tmp_path / "clip_4x2_50fps_10bit_420.yuv"
    path.write_bytes(bytes(2 * 4 * 2 * 3))
    source = RawVideo(path, RawFormat(chroma_format="4:4:4", frame_rate=Fraction(24)))
    info = source.info
    assert (info.width, info.bit_depth, info.chroma_format, info.frame_rate) == (4, 10, "4:4:4", 24)
    assert (info.frame_rate_from, info.num_frames) == ("option", 1)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    num_frames=st.integers(1, 4),
    depth=st.sampled_from([8, 10]),
    seed=st.integers(0, 99),
)
def test_420_files_pass_sample_for_sample(
    tmp_path_factory: pytest.TempPathFactory, *, width: int, height: int, num_frames: int, depth: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("raw") / f"x_{width}x{height}_30_{depth}bit_420.yuv"
    chroma = -(-width // 2) * -(-height // 2)
    dtype = "u1" if depth == 8 else "<u2"
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 1 << depth, (num_frames, width * height + 2 * chroma)).astype(dtype)
    path.write_bytes(samples.tobytes())
    source = RawVideo(path)
    cropped = [b"".join([frame.y[:height, :width].tobytes(), frame.u.tobytes(), frame.v.tobytes()]) for frame in source]
    assert b"".join(cropped) == samples.tobytes()
    forward = [frame.to_bytes() for frame in source]
    assert [frame.to_bytes() for frame in source.frames(reverse=True, start=1)] == forward[::-1][1:]


def test_a_size_that_does_not_fit_is_told_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x_4x4_30.yuv"
    path.write_bytes(bytes(50))
    with pytest.raises(MediaError, match=r"50 bytes .* 4x4 4:2:0 8 bit frames of 24 bytes \(2 and 2 bytes more\)"):
        RawVideo(path)


def test_a_name_without_a_size_needs_options(tmp_path: Path) -> None:
    path = tmp_path / "S01_R_00_00.yuv"
    path.write_bytes(bytes(24))
    with pytest.raises(MediaError, match="does not tell the size"):
        RawVideo(path)
    source = RawVideo(path, RawFormat(width=4, height=4))
    assert (source.info.frame_rate, source.info.frame_rate_from) == (30, "assumed")
    assert source.digest() == hashlib.sha256(bytes(24)).hexdigest()


def test_samples_above_the_stated_depth_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x_2x2_30_10bit.yuv"
    path.write_bytes(np.array([0, 1024, 0, 0, 0, 0], ">u2").tobytes() + bytes(12))
    path.write_bytes(np.array([0] * 6 + [5, 1024, 0, 0, 0, 0], "<u2").tobytes())
    with pytest.raises(MediaError, match="frame 1 has a sample of 1024, more than 10 bit"):
        list(RawVideo(path))


def test_a_file_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x_4x4_30.yuv"
    path.write_bytes(bytes(48))
    source = RawVideo(path)
    path.write_bytes(bytes(30))
    with pytest.raises(MediaError, match="became shorter while it was read, at frame 1"):
        list(source)


@pytest.mark.parametrize(
    "options",
    [{"width": 4}, {"width": 0, "height": 4}, {"bit_depth": 7}, {"chroma_format": "420"}, {"frame_rate": Fraction(0)}],
)
def test_values_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        RawFormat(**options)  # type: ignore[arg-type]


def test_a_name_that_makes_no_sense_is_a_media_error(tmp_path: Path) -> None:
    path = tmp_path / "x_4x4_30_20bit.yuv"
    path.write_bytes(bytes(24))
    with pytest.raises(MediaError, match="bit depth 20"):
        RawVideo(path)


def test_a_negative_start_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x_4x4_30.yuv"
    path.write_bytes(bytes(24))
    with pytest.raises(ConfigError, match="start -1"):
        RawVideo(path).frames(start=-1)
