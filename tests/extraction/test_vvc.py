from __future__ import annotations

import pickle
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest

from codecprior.errors import ConfigError, MediaError, ToolError
from codecprior.extraction.backend import Trace
from codecprior.extraction.sequence import SequenceResult
from codecprior.extraction.vvc import VvcBackend, encode_file, video_format
from codecprior.media.bitstream import BitstreamSource
from codecprior.media.opening import open_source
from codecprior.media.raw import RawFormat
from vvc_wrappers.vvdec import VVdeC
from vvc_wrappers.vvenc import VideoFormat, VVencOptions

BACKEND = VvcBackend(encoder=VVencOptions(threads=1), decoder_threads=1)


def decoded(stream: Path) -> np.ndarray:
    """10 bit luma of each frame, shape (T, 144, 176)."""
    samples = np.frombuffer(b"".join(VVdeC(threads=1).decode(stream)), np.uint16)
    return samples.reshape(-1, 216, 176)[:, :144]


def test_a_backend_can_be_sent_to_a_worker() -> None:
    assert pickle.loads(pickle.dumps(BACKEND)) == BACKEND


def test_identity_has_what_decides_the_stream_and_nothing_else(y4m: Path) -> None:
    source = open_source(y4m)

    def identity(**options: Any) -> dict[str, Any]:
        decoder_threads = options.pop("decoder_threads", None)
        backend = VvcBackend(encoder=VVencOptions(**options), decoder_threads=decoder_threads)
        return backend.identity(source)

    same = identity()
    assert identity(threads=1) == identity(threads=4) == identity(decoder_threads=0) == identity(qp=27) == same
    assert identity(extra={"SAO": "0"}) == identity(extra={"sao": "0"})
    others = [
        {"threads": 5},
        {"qp": 28},
        {"bitrate": 100_000},
        {"preset": "fast"},
        {"gop": "random-access"},
        {"bit_depth": 8},
        {"extra": {"sao": "0"}},
    ]
    found = [same, *(identity(**other) for other in others)]
    assert all(first != second for index, first in enumerate(found) for second in found[:index])


def test_a_coded_stream_has_no_encoder(conformance_dir: Path) -> None:
    source = BitstreamSource(conformance_dir / "AMVR_A_HHI_3.bit")
    assert BACKEND.identity(source) == {"codec": "vvc", "encoder": None}
    assert BACKEND.facts(source)["encoder"] is None
    assert BACKEND.facts(source)["decoder"]["version"] == "3.0.0"


def test_a_pass_delivers_every_frame_and_keeps_the_stream(y4m: Path, tmp_path: Path) -> None:
    source = open_source(y4m)
    trace = Trace(source=source, bitstream=tmp_path / "kept.266", with_frames=True)
    encoded = [frame.require("frame_y").copy() for frame in BACKEND.pictures(trace)]
    np.testing.assert_array_equal(encoded, decoded(tmp_path / "kept.266"))
    before = (tmp_path / "kept.266").stat()
    again = [(frame.picture.pts_seconds, frame.require("frame_y").copy()) for frame in BACKEND.pictures(trace)]
    assert [seconds for seconds, _ in again] == [t / 24 for t in range(6)]
    np.testing.assert_array_equal([luma for _, luma in again], encoded)
    assert (tmp_path / "kept.266").stat() == before


def test_a_pass_that_is_left_keeps_no_unfinished_stream(y4m: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    pictures = BACKEND.pictures(Trace(source=open_source(y4m), bitstream=out / "kept.266"))
    next(pictures)
    pictures.close()
    assert sorted(path.name for path in out.iterdir()) in ([], ["kept.266", "kept.times.json"])


def test_frames_keep_their_times_where_pictures_are_left_out(tiny: Any, tmp_path: Path) -> None:
    """A container that is cut at a key frame begins with leading pictures, which cannot be decoded."""
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    parameters = "intraperiod=16:gopsize=16:decodingrefreshtype=cra"
    raw = b"".join(frame.tobytes() for _ in range(2) for frame in tiny.frames)
    size = f"{tiny.width}x{tiny.height}"
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size, "-r", "24", "-i", "-", "-pix_fmt", "yuv420p10le"]
    encoder = ["-c:v", "libvvenc", "-preset", "faster", "-qp", "37", "-vvenc-params", parameters]
    subprocess.run([*ffmpeg, *source, *encoder, whole], input=raw, check=True)
    with av.open(str(whole)) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    first = keys.index(True, 1)
    subprocess.run([*ffmpeg, "-i", whole, "-c", "copy", "-bsf:v", f"noise=drop=lt(n\\,{first})", cut], check=True)

    def times(path: Path) -> list[tuple[float, bytes]]:
        trace = Trace(source=BitstreamSource(path), bitstream=tmp_path / "unused", with_frames=True)
        return [(frame.picture.pts_seconds, frame.require("frame_y").tobytes()) for frame in BACKEND.pictures(trace)]

    expected = times(whole)
    assert [seconds for seconds, _ in expected] == pytest.approx([t / 24 for t in range(48)], abs=2e-3)
    found = times(cut)
    assert 0 < len(found) < len(keys) - first
    lead = expected[-1][0] - found[-1][0]
    for (seconds, luma), (when, wanted) in zip(found, expected[-len(found) :], strict=True):
        assert luma == wanted
        assert seconds + lead == pytest.approx(when, abs=2e-3)


def test_odd_sizes_are_cropped(tiny: Any, tmp_path: Path) -> None:
    source = open_source(tiny.pictures(tmp_path / "odd", size=(175, 143), count=2))
    assert video_format(source.info) == VideoFormat(width=176, height=144, frame_rate=Fraction(30), pix_fmt="yuv420p")
    for frame in BACKEND.pictures(Trace(source=source, bitstream=tmp_path / "kept.266")):
        assert (frame.stream.coded_size, frame.stream.output_size) == ((176, 144), (175, 143))


def test_deep_samples_are_encoded_with_10_bit(tiny: Any, tmp_path: Path) -> None:
    source = open_source(tiny.pictures(tmp_path / "deep", depth=16, count=2))
    assert video_format(source.info).pix_fmt == "yuv420p10le"


# ---- encoding alone


def test_encoding_gives_what_extraction_keeps(
    y4m: Path, tmp_path: Path, extract: Callable[..., SequenceResult]
) -> None:
    kept = extract(y4m, directions="both").bitstreams
    seen: list[tuple[int, int | None]] = []
    for path, reverse in zip(kept, (False, True), strict=True):
        output = tmp_path / "encoded.266"
        result = encode_file(
            y4m, output, VVencOptions(threads=1), reverse=reverse, progress=lambda *counts: seen.append(counts)
        )
        assert output.read_bytes() == Path(path).read_bytes()
        assert (result.num_frames, result.size_bytes) == (6, output.stat().st_size)
    assert seen == [(count, 6) for count in range(1, 7)] * 2


def test_a_clip_as_long_as_the_encoder_looks_ahead_is_encoded_whole(tiny: Any, tmp_path: Path) -> None:
    # FFmpeg's libvvenc lost all of a clip of exactly 20 frames now and then.
    clip = tiny.y4m(tmp_path / "clip.y4m", count=20)
    for threads in (1, 2, 4):
        encode_file(clip, tmp_path / "clip.266", VVencOptions(threads=threads))
        assert len(decoded(tmp_path / "clip.266")) == 20


def test_raw_layout_and_rate_can_be_given(tiny: Any, tmp_path: Path) -> None:
    raw = tiny.yuv(tmp_path / "plain.yuv")
    result = encode_file(
        raw, tmp_path / "plain.266", VVencOptions(), raw=RawFormat(width=176, height=144), frame_rate=Fraction(50)
    )
    assert result.num_frames == 6
    assert result.command[result.command.index("-framerate") + 1] == "50"
    with pytest.raises(MediaError, match=r"plain\.yuv: the name does not tell the size"):
        encode_file(raw, tmp_path / "other.266", VVencOptions())


def test_what_is_coded_already_is_not_encoded(conformance_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is VVC already"):
        encode_file(conformance_dir / "AMVR_A_HHI_3.bit", tmp_path / "again.266", VVencOptions())


def test_an_encode_that_fails_leaves_no_file(y4m: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ConfigError, match="VVenC has no option 'nonsense'"):
        encode_file(y4m, out / "clip.266", VVencOptions(extra={"nonsense": "1"}))
    assert list(out.iterdir()) == []
    with pytest.raises(ToolError, match=r"missing/clip\.266: cannot write \(No such file or directory\)"):
        encode_file(y4m, tmp_path / "missing" / "clip.266", VVencOptions())
