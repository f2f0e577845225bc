from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from codecprior.errors import MediaError
from codecprior.media import Frame, video
from codecprior.media.video import VideoFile


def contents(frames) -> list[tuple[bytes, float]]:
    return [(frame.to_bytes(), frame.pts_seconds) for frame in frames]


def raw_video(ffmpeg, path: Path, pixel_format: str = "yuv420p") -> bytes:
    return ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pixel_format, "-")


@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4"])
def test_420_video_passes_bit_exact(clips: Path, ffmpeg, name: str) -> None:
    source = VideoFile(clips / name)
    assert b"".join(frame.to_bytes() for frame in source) == raw_video(ffmpeg, clips / name)
    assert source.info.conversion == ""


def test_10_bit_video_passes_bit_exact(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    path = tmp_path / "deep.mkv"
    ffmpeg("-i", carphone, "-frames:v", "5", "-pix_fmt", "yuv420p10le", "-c:v", "ffv1", path)
    source = VideoFile(path)
    assert b"".join(frame.to_bytes() for frame in source) == raw_video(ffmpeg, path, "yuv420p10le")
    assert (source.info.bit_depth, source.info.frame_bit_depth) == (10, 10)


def test_odd_sizes_are_padded_by_their_edge(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    path = tmp_path / "odd.mkv"
    ffmpeg("-i", carphone, "-frames:v", "2", "-vf", "crop=175:143:0:0:exact=1", "-c:v", "ffv1", path)
    source = VideoFile(path)
    frames = list(source)
    assert (source.info.width, source.info.height, source.info.padding) == (175, 143, (1, 1))
    assert frames[0].y.shape == (144, 176)
    cropped = b"".join(f.y[:143, :175].tobytes() + f.u.tobytes() + f.v.tobytes() for f in frames)
    assert cropped == raw_video(ffmpeg, path)
    np.testing.assert_array_equal(frames[0].y[143], frames[0].y[142])


@pytest.mark.parametrize(
    ("pixel_format", "chroma_format", "note"),
    [
        ("yuv422p", "4:2:2", "chroma rows averaged"),
        ("yuv444p", "4:4:4", "chroma 2x2 averaged"),
        ("gray", "4:0:0", "neutral chroma"),
        ("yuva420p", "4:2:0", "alpha dropped"),
        ("yuv420p12le", "4:2:0", "12 bit to 10 bit"),
    ],
)
def test_other_formats_keep_their_luma_and_say_what_happened(
    tmp_path: Path, ffmpeg, carphone: Path, *, pixel_format: str, chroma_format: str, note: str
) -> None:
    path = tmp_path / "clip.mkv"
    ffmpeg("-i", carphone, "-frames:v", "2", "-pix_fmt", pixel_format, "-c:v", "ffv1", path)
    source = VideoFile(path)
    assert source.info.chroma_format == chroma_format
    assert note in source.info.conversion
    luma = np.frombuffer(raw_video(ffmpeg, path, pixel_format), "<u2" if "12" in pixel_format else np.uint8)
    luma = luma[: 176 * 144].reshape(144, 176)
    frame = next(iter(source))
    np.testing.assert_array_equal(frame.y, np.minimum((luma + 2) >> 2, 1023) if "12" in pixel_format else luma)


def test_rgb_video_is_turned_into_bt709(tmp_path: Path, ffmpeg) -> None:
    path = tmp_path / "red.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32:r=25:d=0.2,format=gbrp", "-c:v", "ffv1", path)
    source = VideoFile(path)
    frame = next(iter(source))
    assert [int(plane[3, 3]) for plane in frame.planes] == [63, 102, 240]
    assert (source.info.chroma_format, source.info.color_matrix, source.info.color_range) == ("rgb", "bt709", "limited")


def test_a_format_that_is_not_read_is_named(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    path = tmp_path / "clip.mkv"
    ffmpeg("-i", carphone, "-frames:v", "2", "-pix_fmt", "yuv411p", "-c:v", "ffv1", path)
    with pytest.raises(MediaError, match=r"clip\.mkv: pixel format yuv411p is not read"):
        VideoFile(path)


def test_range_and_matrix_are_reported(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    path = tmp_path / "clip.mp4"
    tags = ["-colorspace", "bt709", "-color_range", "pc"]
    ffmpeg(
        "-i", carphone, "-frames:v", "2", "-vf", "setparams=range=pc:colorspace=bt709", "-c:v", "libx264", *tags, path
    )
    info = VideoFile(path).info
    assert (info.color_matrix, info.color_range) == ("bt709", "full")


@pytest.fixture(scope="module")
def many_containers(tmp_path_factory: pytest.TempPathFactory, ffmpeg, carphone: Path) -> Path:
    """Open groups of pictures with B frames, eight frames apart, in one container each."""
    folder = tmp_path_factory.mktemp("containers")
    x264 = ["-c:v", "libx264", "-g", "8", "-bf", "3", "-x264-params", "open-gop=1:scenecut=0", "-pix_fmt", "yuv420p"]
    ffmpeg("-i", carphone, "-frames:v", "30", *x264, folder / "clip.mkv")
    for name in ("clip.mp4", "clip.mov", "clip.ts", "clip.avi", "clip.h264"):
        annex_b = [] if name in ("clip.mp4", "clip.mov") else ["-bsf:v", "h264_mp4toannexb"]
        ffmpeg("-i", folder / "clip.mkv", "-c", "copy", *annex_b, folder / name)
    vp8 = ["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "10", "-g", "9"]
    ffmpeg("-i", carphone, "-frames:v", "30", *vp8, folder / "clip.webm")
    return folder


@pytest.mark.parametrize("window_frames", [1, 5, 1000])
@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "ts", "avi", "h264", "webm"])
def test_reversed_video_is_the_video_backwards(
    many_containers: Path, monkeypatch: pytest.MonkeyPatch, extension: str, window_frames: int
) -> None:
    source = VideoFile(many_containers / f"clip.{extension}")
    monkeypatch.setattr(video, "_WINDOW_BYTES", window_frames * source.info.frame_size_bytes)
    forward = contents(source)
    assert len(forward) == 30
    assert [seconds for _, seconds in forward] == sorted(seconds for _, seconds in forward)
    assert contents(source.frames(reverse=True)) == forward[::-1]
    assert contents(source.frames(reverse=True, start=7)) == forward[::-1][7:]
    assert contents(source.frames(start=11)) == forward[11:]


def test_memory_of_a_backward_pass_is_bounded_by_the_window(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = VideoFile(clips / "bikes.mp4")
    monkeypatch.setattr(video, "_WINDOW_BYTES", 4 * source.info.frame_size_bytes)
    held: list[int] = []
    convert = video.VideoFile._convert
    alive = 0

    class Counted(Frame):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def counting(self: VideoFile, *arguments) -> Frame:
        nonlocal alive
        frame = convert(self, *arguments)
        alive += 1
        held.append(alive)
        return Counted(y=frame.y, u=frame.u, v=frame.v, pts_seconds=frame.pts_seconds)

    monkeypatch.setattr(video.VideoFile, "_convert", counting)
    assert sum(1 for _ in source.frames(reverse=True)) == 250
    assert max(held) <= 4 + 4 + 1  # one window that is given out while the next is read


def test_variable_frame_rate_keeps_frames_and_times(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    path = tmp_path / "vfr.mp4"
    select = "select='not(mod(n,2))+lt(n,10)'"
    ffmpeg("-i", carphone, "-frames:v", "20", "-vf", select, "-fps_mode", "vfr", "-c:v", "libx264", "-an", path)
    source = VideoFile(path)
    frames = list(source)
    assert source.info.variable_frame_rate
    assert (source.info.frame_rate_from, source.info.num_frames, len(frames)) == ("packets", 20, 20)
    with av.open(str(path)) as container:
        assert [frame.pts_seconds for frame in frames] == [frame.time for frame in container.decode(video=0)]
    steps = {round(later.pts_seconds - earlier.pts_seconds, 3) for earlier, later in pairwise(frames)}
    assert steps == {0.033, 0.067}


def test_constant_frame_rate_is_the_header_s(carphone: Path) -> None:
    info = VideoFile(carphone).info
    assert (info.frame_rate, info.frame_rate_from, info.variable_frame_rate) == (Fraction(30000, 1001), "header", False)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied_as_players_do(tmp_path: Path, ffmpeg, carphone: Path, degrees: int) -> None:
    path = tmp_path / "turned.mp4"
    ffmpeg("-i", carphone, "-frames:v", "3", "-c:v", "libx264", "-an", tmp_path / "plain.mp4")
    ffmpeg("-display_rotation", str(degrees), "-i", tmp_path / "plain.mp4", "-c", "copy", path)
    source = VideoFile(path)
    size = (144, 176) if degrees % 180 else (176, 144)
    assert (source.info.width, source.info.height) == size
    assert "rotated" in source.info.conversion
    assert b"".join(frame.to_bytes() for frame in source) == raw_video(ffmpeg, path)


def test_rotation_by_an_odd_angle_is_refused(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "45", "-i", carphone, "-an", "-c", "copy", path)
    with pytest.raises(MediaError, match="rotated by 45 degrees"):
        VideoFile(path)


def test_interlaced_video_is_kept_woven_and_said_to_be(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    path = tmp_path / "fields.mpg"
    ffmpeg("-i", carphone, "-frames:v", "5", "-c:v", "mpeg2video", "-vf", "setfield=tff", "-flags", "+ilme+ildct", path)
    assert VideoFile(path).info.conversion == "interlaced fields kept woven"


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "avi", "h264"])
def test_a_truncated_video_is_an_error(many_containers: Path, tmp_path: Path, extension: str, ffmpeg) -> None:
    whole = many_containers / f"clip.{extension}"
    if extension == "mp4":
        ffmpeg("-i", whole, "-c", "copy", "-movflags", "+faststart", tmp_path / "whole.mp4")
        whole = tmp_path / "whole.mp4"
    data = whole.read_bytes()
    path = tmp_path / f"cut.{extension}"
    path.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(MediaError, match=r"truncated|damaged"):
        list(VideoFile(path))


def test_damage_inside_a_video_is_an_error_with_the_frame_number(many_containers: Path, tmp_path: Path) -> None:
    data = bytearray((many_containers / "clip.mkv").read_bytes())
    for at in range(len(data) // 2, len(data), 150):  # a single flip may decode to something valid
        data[at] ^= 0x5A
    path = tmp_path / "broken.mkv"
    path.write_bytes(data)
    source = VideoFile(path)
    with pytest.raises(MediaError, match=r"frame \d+ .*damaged"):
        list(source)
    with pytest.raises(MediaError, match="damaged"):
        list(source.frames(reverse=True))


def test_sound_without_pictures_is_refused(tmp_path: Path, ffmpeg) -> None:
    path = tmp_path / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", path)
    with pytest.raises(MediaError, match="no video track"):
        VideoFile(path)


def test_a_size_that_changes_on_the_way_is_an_error(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    for name, size in (("a.h264", "176x144"), ("b.h264", "160x128")):
        ffmpeg("-i", carphone, "-frames:v", "4", "-s", size, "-c:v", "libx264", tmp_path / name)
    path = tmp_path / "both.h264"
    path.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    with pytest.raises(MediaError, match=r"frame 4 is 160x128 .* but the first is 176x144"):
        list(VideoFile(path))


def test_joined_files_whose_time_starts_again_play_backwards_too(tmp_path: Path, ffmpeg, carphone: Path) -> None:
    ffmpeg("-i", carphone, "-frames:v", "12", "-c:v", "mpeg2video", "-bf", "2", tmp_path / "one.mpg")
    path = tmp_path / "joined.mpg"
    path.write_bytes((tmp_path / "one.mpg").read_bytes() * 2)
    source = VideoFile(path)
    forward = contents(source)
    assert len(forward) == 24
    assert contents(source.frames(reverse=True)) == forward[::-1]


def test_an_unfinished_pass_leaves_no_file_open(carphone: Path) -> None:
    process = psutil.Process()
    before = process.num_fds()
    source = VideoFile(carphone)
    frames = source.frames(reverse=True)
    next(frames)
    del frames
    assert process.num_fds() == before


def test_an_unknown_codec_is_refused(tmp_path: Path, carphone: Path) -> None:
    path = tmp_path / "odd.mp4"
    path.write_bytes(carphone.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(MediaError, match=r"odd\.mp4: .*cannot decode"):
        VideoFile(path)
