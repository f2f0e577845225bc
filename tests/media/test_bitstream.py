from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from codecprior.errors import BitstreamError
from codecprior.media.bitstream import BitstreamSource, is_annex_b


def test_a_bare_stream_is_given_byte_by_byte(vvc_files: Path) -> None:
    source = BitstreamSource(vvc_files / "clip.266", frame_rate=Fraction(30))
    data = (vvc_files / "clip.266").read_bytes()
    assert b"".join(source.chunks()) == data
    assert b"".join(source.chunks()) == data
    assert source.digest() == hashlib.sha256(data).hexdigest()
    assert (source.container, source.frame_rate, source.pts_seconds) == ("annexb", 30, None)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_a_track_becomes_a_stream_that_decodes_the_same(
    vvc_files: Path, ffmpeg, tmp_path: Path, extension: str
) -> None:
    source = BitstreamSource(vvc_files / f"clip.{extension}")
    stream = tmp_path / "out.266"
    stream.write_bytes(b"".join(source.chunks()))
    assert is_annex_b(stream.read_bytes())
    decoded = [ffmpeg("-i", path, "-f", "rawvideo", "-") for path in (stream, vvc_files / "clip.266")]
    assert len(decoded[0]) == 10 * 176 * 144 * 3
    assert decoded[0] == decoded[1]


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_a_track_has_a_rate_and_a_time_for_each_picture(vvc_files: Path, extension: str) -> None:
    source = BitstreamSource(vvc_files / f"clip.{extension}", frame_rate=Fraction(7))
    assert source.frame_rate == 30
    assert source.pts_seconds is not None
    steps = [later - earlier for earlier, later in pairwise(sorted(source.pts_seconds))]
    assert len(steps) == 9
    assert all(abs(step - 1 / 30) < 0.002 for step in steps)


def test_every_conformance_stream_is_recognised(conformance_dir: Path) -> None:
    streams = sorted(conformance_dir.glob("*.bit"))
    assert streams
    assert [path.name for path in streams if not is_annex_b(path.read_bytes()[:64])] == []


def test_a_stream_that_is_cut_at_any_unit_is_recognised(conformance_dir: Path) -> None:
    stream = (conformance_dir / "SUBPIC_C_ERICSSON_1.bit").read_bytes()
    starts = [match.start() for match in re.finditer(b"\0\0\1", stream)]
    assert [start for start in starts if not is_annex_b(stream[start : start + 64])] == []


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\0\0\1",
        b"\0\0\0\1\x40\x01\x0c\x01",  # HEVC video parameter set
        b"\0\0\0\1\x67\x64\x00\x1f",  # H.264 sequence parameter set
        b"\0\0\0\1\x09\xf0",  # H.264 access unit delimiter
        b"\0\0\0\1\x06\x05",  # H.264 supplemental enhancement information
        b"\0\0\0\1\x02\x01",  # HEVC coded slice
        b"\0\0\0\1\x00\x78",  # VVC sequence parameter set with the forbidden temporal id 0
        b"ftypisom",
    ],
)
def test_other_content_is_not_taken_for_vvc(head: bytes) -> None:
    assert not is_annex_b(head)


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"just some text" * 50, "no VVC Annex B stream")])
def test_a_file_that_is_no_stream_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.bit"
    path.write_bytes(content)
    with pytest.raises(BitstreamError, match=reason):
        BitstreamSource(path)


def test_another_codec_is_named(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    path = tmp_path / "x.bit"
    ffmpeg("-i", carphone, "-frames:v", "2", "-c:v", "libx264", "-f", "h264", path)
    with pytest.raises(BitstreamError, match="holds h264, not VVC"):
        BitstreamSource(path)


def test_a_truncated_container_is_refused(vvc_files: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    path.write_bytes((vvc_files / "clip.mkv").read_bytes()[:-500])
    with pytest.raises(BitstreamError, match="truncated"):
        BitstreamSource(path)
