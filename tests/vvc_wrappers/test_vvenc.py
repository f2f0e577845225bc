from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from codecprior.core.arrays import REF_NONE
from codecprior.errors import ConfigError, MediaError, ToolFailedError
from vvc_wrappers.probe import Probe
from vvc_wrappers.tools import Program, find_ffmpeg_vvenc
from vvc_wrappers.vvdec import VVdeC
from vvc_wrappers.vvenc import (
    VideoFormat,
    VVenC,
    VVencOptions,
    encoder_error,
    ffmpeg_argv,
    parse_extra,
    vvencapp_argv,
)

WIDTH, HEIGHT = 96, 64
NTSC = Fraction(30000, 1001)
VIDEO = VideoFormat(width=WIDTH, height=HEIGHT, frame_rate=Fraction(25), pix_fmt="yuv420p")
FOLLOWING = """\
[vost#0:0/libvvenc @ 0x55c2c2184240] [enc:libvvenc @ 0x55c2c2184d80] Error while opening encoder - maybe incorrect
[vf#0:0 @ 0x55c2c2186240] Error sending frames to consumers: Invalid argument
[vf#0:0 @ 0x55c2c2186240] Task finished with error code: -22 (Invalid argument)
[vf#0:0 @ 0x55c2c2186240] Terminating thread with return code -22 (Invalid argument)
[out#0/vvc @ 0x55c2c2183680] Nothing was written into output file, because at least one of its streams received none.
"""


@pytest.fixture(scope="module")
def ffmpeg() -> Program:
    return find_ffmpeg_vvenc()


def moving_texture(count: int, dtype: str = "uint8") -> list[list[memoryview]]:
    """A grainy texture that moves by (3, 1) samples a frame; 10 bit values are four times the 8 bit ones."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (HEIGHT // 8 + 8, WIDTH // 8 + 16)).astype(float)
    smooth = coarse.repeat(8, 0).repeat(8, 1)
    smooth = (smooth[:-8, :-8] + smooth[8:, :-8] + smooth[:-8, 8:] + smooth[8:, 8:]) / 4
    scale = 1 if dtype == "uint8" else 4
    frames = []
    for t in range(count):
        grain = rng.normal(0, 3, (HEIGHT, WIDTH))  # without it, VVenC takes the texture for screen content
        luma = ((smooth[t : t + HEIGHT, 3 * t : 3 * t + WIDTH] + grain).round() * scale).astype(dtype)
        chroma = np.full((HEIGHT // 2, WIDTH // 2), 128 * scale, dtype)
        frames.append([plane.data.cast("B") for plane in (luma, chroma, chroma)])
    return frames


def screen_content(count: int) -> list[list[memoryview]]:
    """Hard-edged blocks of two levels that jump about, which VVenC takes for screen content."""
    frames = []
    for t in range(count):
        luma = np.full((HEIGHT, WIDTH), 235, np.uint8)
        for x in range(0, WIDTH - 8, 12):
            luma[(5 * t + x) % (HEIGHT - 8) :: 16, x : x + 8] = 16
        chroma = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
        frames.append([plane.data.cast("B") for plane in (luma, chroma, chroma)])
    return frames


def encode(frames: list[list[memoryview]], options: VVencOptions, ffmpeg: Program, video: VideoFormat = VIDEO) -> bytes:
    return b"".join(VVenC(video, options, program=ffmpeg).stream(frames))


def decode_luma(stream: bytes, folder: Path, count: int, dtype: str) -> NDArray[Any]:
    path = folder / "clip.266"
    path.write_bytes(stream)
    samples = np.frombuffer(b"".join(VVdeC().decode(path)), dtype)
    return samples.reshape(count, HEIGHT * 3 // 2, WIDTH)[:, :HEIGHT]


def luma_of(frames: list[list[memoryview]], dtype: str) -> NDArray[Any]:
    return np.stack([np.frombuffer(planes[0], dtype).reshape(HEIGHT, WIDTH) for planes in frames])


def test_ffmpeg_command_line_of_the_default() -> None:
    video = VideoFormat(width=640, height=272, frame_rate=NTSC, pix_fmt="yuv420p")
    assert ffmpeg_argv(VVencOptions(threads=2), video) == [
        *("-nostdin", "-hide_banner", "-loglevel", "error"),
        *("-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", "640x272", "-framerate", "30000/1001"),
        *("-i", "pipe:0", "-fps_mode", "passthrough", "-pix_fmt", "yuv420p10le"),
        *("-c:v", "libvvenc", "-preset", "faster", "-qp", "27", "-threads", "2", "-vvenc-params"),
        "maxparallelframes=0:decodingrefreshtype=0:picreordering=0:gopsize=8:intraperiod=-1:numrefpics=1:numrefpicsscc=1"
        ":internalbitdepth=10",
        *("-f", "vvc", "pipe:3"),
    ]


def test_ffmpeg_command_line_of_everything_else() -> None:
    options = VVencOptions(
        preset="slow", bitrate=300_000, gop="random-access", bit_depth=8, threads=3, extra={"ALF": "0"}
    )
    argv = ffmpeg_argv(options, VideoFormat(width=64, height=32, frame_rate=Fraction(50), pix_fmt="yuv420p10le"))
    assert argv[argv.index("-preset") :] == [
        *("-preset", "slow", "-b:v", "300000", "-threads", "3"),
        *("-vvenc-params", "maxparallelframes=0:alf=0:internalbitdepth=8", "-f", "vvc", "pipe:3"),
    ]
    assert argv[argv.index("-framerate") + 1] == "50"


def test_vvencapp_command_line() -> None:
    low_delay = vvencapp_argv(VVencOptions(threads=2, qp=32), VIDEO)
    assert low_delay == [
        *("--verbosity", "1", "--input", "-", "--size", "96x64", "--format", "yuv420", "--fps", "25/1"),
        *("--preset", "faster", "--qp", "32", "--threads", "2", "--internal-bitdepth", "10", "--additional"),
        "decodingrefreshtype=0 picreordering=0 gopsize=8 intraperiod=-1 numrefpics=1 numrefpicsscc=1",
        *("--output", "/dev/fd/3"),
    ]
    video = VideoFormat(width=96, height=64, frame_rate=NTSC, pix_fmt="yuv420p10le")
    random_access = vvencapp_argv(VVencOptions(threads=2, bitrate=90_000, gop="random-access"), video)
    assert "--additional" not in random_access
    assert random_access[random_access.index("--bitrate") :][:4] == ["--bitrate", "90000", "--passes", "1"]
    assert random_access[random_access.index("--format") :][:4] == ["--format", "yuv420_10", "--fps", "30000/1001"]


def test_extra_options_win_over_those_of_the_gop() -> None:
    assert VVencOptions(extra={"IntraPeriod": "32"}).settings["intraperiod"] == "32"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "fastest"}, "preset 'fastest': use one of faster, fast"),
        ({"gop": "all-intra"}, "GOP 'all-intra'"),
        ({"bit_depth": 12}, "bit depth 12: use one of 8, 10"),
        ({"qp": 64}, "QP 64: give 0 to 63"),
        ({"qp": 27, "bitrate": 1000}, "give one of the two"),
        ({"bitrate": 0}, "bitrate 0"),
        ({"threads": 0}, "0 encoder threads"),
        ({"extra": {"qp": "3"}}, "'qp' cannot be set here: it follows from the option qp"),
        ({"extra": {"Size": "64x64"}}, "'Size' cannot be set here: it follows from the frames"),
        ({"extra": {"alf": "0", "ALF": "1"}}, "'ALF' is set twice, to '0' and '1'"),
        ({"extra": {"a b": "1"}}, "a key has letters"),
        ({"extra": {"alf": "0:sao=0"}}, "a value has no space, colon"),
        ({"extra": {"alf": ""}}, "VVenC option 'alf'=''"),
    ],
)
def test_senseless_options_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VVencOptions(**fields)


def test_qp_has_a_default_only_without_a_bitrate() -> None:
    assert VVencOptions().qp == 27
    assert VVencOptions(qp=0).qp == 0
    assert VVencOptions(bitrate=1000).qp is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 65}, "65x64: VVenC takes even sizes"),
        ({"height": 16}, "96x16: VVenC takes even sizes from 32x32 up"),
        ({"frame_rate": Fraction(0)}, "frame rate 0"),
        ({"pix_fmt": "rgb24"}, "pixel format 'rgb24': use one of yuv420p, yuv420p10le"),
    ],
)
def test_frames_that_vvenc_cannot_take_are_refused(fields: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"width": 96, "height": 64, "frame_rate": Fraction(25), "pix_fmt": "yuv420p"}
    with pytest.raises(ConfigError, match=message):
        VideoFormat(**{**good, **fields})


def test_extra_options_are_read_from_arguments() -> None:
    assert parse_extra(["alf=0", "qpa=0"]) == {"alf": "0", "qpa": "0"}
    with pytest.raises(ConfigError, match="'alf': write it as key=value"):
        parse_extra(["alf"])
    with pytest.raises(ConfigError, match="'alf' is set twice, to '0' and '1'"):
        parse_extra(["alf=0", "alf=1"])


def failure(stderr: str) -> ToolFailedError:
    return ToolFailedError(["/usr/bin/ffmpeg"], 234, stderr)


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("[libvvenc @ 0x55c2c2184e40] Unknown vvenc option: foo.\n", "VVenC has no option 'foo'"),
        ("[libvvenc @ 0x55ff306e7e40] Invalid vvenc value for qpa: abc.\n", "VVenC option qpa=abc"),
        ("[libvvenc @ 0x1] vvenc-params 2pass option 'passes' not available. Use option 'pass'\n", "'passes'"),
        (
            "Parameter Check Error: GOP auto configuration only supported for GOP size (1,8,16,32)\n",
            r"GOP size \(1,8,16,32\)$",
        ),
    ],
)
def test_refused_options_are_named(stderr: str, message: str) -> None:
    error = encoder_error(failure(stderr + FOLLOWING))
    assert isinstance(error, ConfigError)
    with pytest.raises(ConfigError, match=message):
        raise error


def test_other_failures_end_with_their_reason() -> None:
    reason = (
        "[vost#0:0/libvvenc @ 0x1] [enc:libvvenc @ 0x2] Error flushing encoder: Generic error in an external library"
    )
    error = encoder_error(failure(reason + "\n" + "\n".join(FOLLOWING.splitlines()[1:])))
    assert str(error) == f"ffmpeg exited with 234: {reason}"


def test_option_unknown_to_the_encoder_is_named(ffmpeg: Program) -> None:
    with pytest.raises(ConfigError, match="VVenC has no option 'nonsense'"):
        encode(moving_texture(2), VVencOptions(extra={"nonsense": "1"}), ffmpeg)


def test_stream_holds_nothing_but_nal_units(ffmpeg: Program) -> None:
    """VVenC prints a warning to standard output for these very options."""
    stream = encode(moving_texture(3), VVencOptions(extra={"verbosity": "6"}), ffmpeg)
    assert stream[:4] == b"\0\0\0\1"
    assert b"Configuration" not in stream
    assert b"POC" not in stream


@pytest.mark.parametrize("coded_depth", [8, 10])
@pytest.mark.parametrize("frame_depth", [8, 10])
def test_pictures_have_the_bit_depth_asked_for(
    ffmpeg: Program, tmp_path: Path, frame_depth: int, coded_depth: int
) -> None:
    dtypes = {8: "uint8", 10: "<u2"}
    frames = moving_texture(4, dtypes[frame_depth])
    pix_fmt = "yuv420p" if frame_depth == 8 else "yuv420p10le"
    video = VideoFormat(width=WIDTH, height=HEIGHT, frame_rate=Fraction(25), pix_fmt=pix_fmt)  # type: ignore[arg-type]
    stream = encode(frames, VVencOptions(qp=4, bit_depth=coded_depth), ffmpeg, video)
    decoded = decode_luma(stream, tmp_path, 4, dtypes[coded_depth]) / 2.0 ** (coded_depth - 8)
    source = luma_of(frames, dtypes[frame_depth]) / 2.0 ** (frame_depth - 8)
    assert np.abs(decoded - source).mean() < 0.6


@pytest.mark.parametrize("preset", ["faster", "slow"])
@pytest.mark.parametrize("content", [moving_texture, screen_content])
def test_low_delay_refers_to_the_picture_before_and_no_other(
    ffmpeg: Program, tmp_path: Path, preset: Any, content: Any
) -> None:
    path = tmp_path / "clip.266"
    path.write_bytes(encode(content(12), VVencOptions(preset=preset), ffmpeg))
    seen = set()
    for frame in Probe().pictures(path):
        for name in ("ref_poc_delta_l0", "ref_poc_delta_l1"):
            seen.update(np.unique(frame.require(name)).tolist())
    assert seen == {REF_NONE, -1}


def test_random_access_reorders_pictures(ffmpeg: Program, tmp_path: Path) -> None:
    path = tmp_path / "clip.266"
    path.write_bytes(encode(moving_texture(10), VVencOptions(gop="random-access"), ffmpeg))
    assert [frame.picture.decode_order for frame in Probe().pictures(path)] != list(range(10))


def test_stream_does_not_depend_on_threads_up_to_four_nor_on_the_run(ffmpeg: Program) -> None:
    frames = moving_texture(10)
    streams = {encode(frames, VVencOptions(threads=threads), ffmpeg) for threads in (1, 2, 4, 2)}
    assert len(streams) == 1


def test_encode_reports_what_it_did(ffmpeg: Program, tmp_path: Path) -> None:
    output = tmp_path / "clip.266"
    frames = moving_texture(5)
    encoder = VVenC(VIDEO, program=ffmpeg)
    result = encoder.encode(frames, output)
    assert result.num_frames == 5
    assert result.size_bytes == output.stat().st_size
    assert result.command == encoder.command
    assert result.version == ffmpeg.version
    assert result.seconds > 0
    pieces: list[bytes] = []
    encoder.encode(frames, pieces.append)
    assert b"".join(pieces) == output.read_bytes()


def test_failed_encode_leaves_what_was_there(ffmpeg: Program, tmp_path: Path) -> None:
    output = tmp_path / "clip.266"
    output.write_bytes(b"before")
    with pytest.raises(MediaError):
        VVenC(VIDEO, program=ffmpeg).encode([*moving_texture(3), [memoryview(b"short")]], output)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.266"]
    assert output.read_bytes() == b"before"


def test_frame_of_another_size_is_counted_and_refused(ffmpeg: Program) -> None:
    frames = [*moving_texture(2), [memoryview(bytes(100))]]
    with pytest.raises(MediaError, match="frame 2 has 100 bytes; 96x64 yuv420p takes 9216"):
        encode(frames, VVencOptions(), ffmpeg)


def test_nothing_to_encode_is_an_error(ffmpeg: Program) -> None:
    with pytest.raises(MediaError, match="no frame"):
        encode([], VVencOptions(), ffmpeg)


def test_what_the_frames_raise_comes_through(ffmpeg: Program) -> None:
    def frames() -> Iterator[list[memoryview]]:
        yield from moving_texture(2)
        raise MediaError("frame_0002.png: truncated")

    with pytest.raises(MediaError, match=r"frame_0002\.png"):
        list(VVenC(VIDEO, program=ffmpeg).stream(frames()))
    assert not encoders_running()


def encoders_running() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "ffmpeg" in child.name()]


def test_leaving_the_stream_ends_the_encoder_and_closes_the_frames(ffmpeg: Program) -> None:
    closed = threading.Event()

    def endless() -> Iterator[list[memoryview]]:
        try:
            while True:
                yield from moving_texture(8)
        finally:
            closed.set()

    frames = endless()
    stream = VVenC(VIDEO, program=ffmpeg).stream(frames)
    assert next(stream)
    assert encoders_running()
    stream.close()  # type: ignore[attr-defined]
    assert not encoders_running()
    assert closed.is_set()
