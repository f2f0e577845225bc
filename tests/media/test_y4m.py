from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.errors import MediaError
from codecprior.media.y4m import Y4MVideo


def write(folder: Path, content: bytes) -> Path:
    path = folder / "clip.y4m"
    path.write_bytes(content)
    return path


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.lists(st.sampled_from([b"", b" Ip", b" XA=1"]), min_size=1, max_size=4))
def test_frames_come_back_whatever_their_headers_say(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, parameters: list[bytes]
) -> None:
    size = width * height + 2 * (-(-width // 2) * -(-height // 2))
    frames = [bytes((number * 7 + at) % 256 for at in range(size)) for number in range(len(parameters))]
    header = f"YUV4MPEG2 W{width} H{height} F30000:1001 C420jpeg\n".encode()
    body = b"".join(b"FRAME" + extra + b"\n" + frame for extra, frame in zip(parameters, frames, strict=True))
    source = Y4MVideo(write(tmp_path_factory.mktemp("y4m"), header + body))
    read = [f.y[:height, :width].tobytes() + f.u.tobytes() + f.v.tobytes() for f in source]
    assert read == frames
    assert [f.to_bytes() for f in source.frames(reverse=True)] == [f.to_bytes() for f in source][::-1]
    assert source.info.frame_rate == Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("pixel_format", "depth", "chroma_format"),
    [
        ("yuv420p", 8, "4:2:0"),
        ("yuv420p10le", 10, "4:2:0"),
        ("yuv422p", 8, "4:2:2"),
        ("yuv444p12le", 12, "4:4:4"),
        ("gray", 8, "4:0:0"),
        ("gray10le", 10, "4:0:0"),
    ],
)
def test_what_ffmpeg_writes_is_read(
    tmp_path: Path, ffmpeg, carphone: Path, *, pixel_format: str, depth: int, chroma_format: str
) -> None:
    path = tmp_path / "clip.y4m"
    ffmpeg("-i", carphone, "-frames:v", "3", "-pix_fmt", pixel_format, "-strict", "-1", path)
    source = Y4MVideo(path)
    assert (source.info.bit_depth, source.info.chroma_format, source.info.num_frames) == (depth, chroma_format, 3)
    assert len(list(source)) == 3
    expected = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", pixel_format, "-")
    luma = np.frombuffer(expected, np.uint8 if depth == 8 else "<u2")[: 144 * 176].reshape(144, 176)
    if depth <= 10:
        np.testing.assert_array_equal(next(iter(source)).y, luma)


def test_colour_range_interlacing_and_missing_rate_are_reported(tmp_path: Path) -> None:
    header = b"YUV4MPEG2 W2 H2 It Cmono XCOLORRANGE=FULL\n"
    info = Y4MVideo(write(tmp_path, header + b"FRAME\n1234")).info
    assert info.color_range == "full"
    assert info.conversion == "interlaced fields kept woven; neutral chroma added"
    assert (info.frame_rate, info.frame_rate_from) == (30, "assumed")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"YUV4MPEG2 W2 H2 F25:1\nFRAME\n123456FRAME\n12", "truncated: frame 1 has 2 of 6 bytes"),
        (b"YUV4MPEG2 W2 H2 F25:1\nFRAME\n123456FRAM", "ends within a header line"),
        (b"YUV4MPEG2 W2 H2 F25:1\nFRAME\n123456xxxxx\n", "frame 1 does not begin with FRAME"),
        (b"YUV4MPEG2 W2 H2 F25:1\n", "holds no frame"),
        (b"YUV4MPEG2 W2 H0 F25:1\nFRAME\n", "W2 H0"),
        (b"YUV4MPEG2 H2 F25:1\nFRAME\n", "W H2"),
        (b"YUV4MPEG2 W2 H2 Fx\nFRAME\n123456", "frame rate as Fx"),
        (b"YUV4MPEG2 W2 H2 C411\nFRAME\n", "colour space C411"),
        (b"YUV4MPEG2 W2 H2 C444alpha\nFRAME\n", "colour space C444alpha"),
        (b"YUV4MPEG2 W2 H2 C420p20\nFRAME\n", "colour space C420p20"),
        (b"YUV4MPEG3 W2 H2\n", "no .y4m file"),
        (b"\n", "no .y4m file"),
    ],
)
def test_damaged_and_unknown_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        Y4MVideo(write(tmp_path, content))
