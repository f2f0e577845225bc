from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from codecprior.errors import BitstreamError, MediaError
from codecprior.media import BitstreamSource, RawFormat, open_frames, open_source
from codecprior.media.images import ImageFolder
from codecprior.media.raw import RawVideo
from codecprior.media.video import VideoFile
from codecprior.media.y4m import Y4MVideo


def test_each_kind_of_input_gets_its_reader(
    tmp_path: Path, image_folder: Path, carphone: Path, vvc_files: Path
) -> None:
    (tmp_path / "x.yuv").write_bytes(bytes(24))
    (tmp_path / "x.y4m").write_bytes(b"YUV4MPEG2 W2 H2 F25:1\nFRAME\n123456")
    shutil.copy(tmp_path / "x.y4m", tmp_path / "wrong.mp4")
    assert isinstance(open_source(image_folder), ImageFolder)
    assert isinstance(open_source(str(carphone)), VideoFile)
    assert isinstance(open_source(tmp_path / "x.yuv", raw=RawFormat(width=4, height=4)), RawVideo)
    assert isinstance(open_source(tmp_path / "x.y4m"), Y4MVideo)
    assert isinstance(open_source(tmp_path / "wrong.mp4"), Y4MVideo)
    for name in ("clip.266", "clip.mp4", "clip.mkv", "clip.ts"):
        assert isinstance(open_source(vvc_files / name), BitstreamSource)


def test_a_bare_vvc_stream_with_a_video_s_extension_is_recognised(tmp_path: Path, vvc_files: Path) -> None:
    shutil.copy(vvc_files / "clip.266", tmp_path / "clip.mp4")
    source = open_source(tmp_path / "clip.mp4")
    assert isinstance(source, BitstreamSource)
    assert source.container == "annexb"


def test_a_stated_rate_fills_in_for_inputs_without_one(image_folder: Path) -> None:
    source = open_source(image_folder, frame_rate=Fraction(24))
    assert isinstance(source, ImageFolder)
    assert (source.info.frame_rate, source.info.frame_rate_from) == (24, "option")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.mp4", None, "no such file or folder"),
        ("x.mp4", b"", "is empty"),
        ("x.mp4", b"text " * 100, "damaged or no video"),
        ("x.txt", b"text", r"extension \.txt is no input; use .*\.mp4"),
        ("x", b"text", r"extension \(none\)"),
        ("x.png", b"text", "single picture"),
        ("x.y4m", b"text", "ends within a header line"),
        ("x.yuv", b"text", "does not tell the size"),
    ],
)
def test_what_cannot_be_opened_is_explained(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=rf"{name}: .*{reason}") as caught:
        open_source(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_stream_that_is_none_is_a_bitstream_error(tmp_path: Path) -> None:
    (tmp_path / "x.266").write_bytes(b"text " * 100)
    with pytest.raises(BitstreamError, match="no VVC Annex B stream"):
        open_source(tmp_path / "x.266")


def test_a_folder_without_pictures_is_explained(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no pictures"):
        open_source(tmp_path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(MediaError, match="no regular file"):
        open_source(tmp_path / "x.mp4")


def test_a_vvc_stream_has_no_frames_to_take(vvc_files: Path, tiny: Any, tmp_path: Path) -> None:
    for name in ("clip.266", "clip.mp4"):
        with pytest.raises(MediaError, match=rf"{name}: is a VVC stream; decode it"):
            open_frames(vvc_files / name)
    assert open_frames(tiny.mp4(tmp_path / "clip.mp4")).info.num_frames == 6
