from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from codecprior.core.arrays import PictureType
from codecprior.core.priors import FramePriors
from codecprior.errors import (
    BitstreamError,
    ConfigError,
    MediaError,
    ToolFailedError,
    ToolTimeoutError,
    TraceError,
    UnsupportedStreamError,
)
from codecprior.media import open_source
from vvc_wrappers.probe import Probe, ProbeOptions, probe_argv
from vvc_wrappers.tools import Program
from vvc_wrappers.trace_format import MvRangeError
from vvc_wrappers.vvenc import VideoFormat, VVenC, VVencOptions

NUM_FRAMES = 20
LAST_SLICE_TYPE = 11  # nal_unit_type of coded slices is 0 to 11
END = '{"event": "end", "num_pictures": 1}'
STREAM = (
    '{"event": "stream", "coded_size": [64, 32], "conformance_window": [0, 0, 0, 0], "bit_depth": 8, '
    '"chroma_format_idc": 1, "slot_bytes": 4096, "arrays": {}}'
)
CONCEALED = (
    '{"event": "picture", "slot": -1, "has_priors": false, "poc": 0, "decode_order": 0, "cvs": 0, "picture_type": 0, '
    '"slice_qp": 0, "lmcs": 0, "coded_size_bytes": 0}'
)

Play = Callable[[str], Program]


@pytest.fixture(scope="module")
def clip(clips: Path) -> bytes:
    """Twenty frames of carphone, 176x144, as a random-access stream."""
    frames = islice(open_source(clips / "carphone_pristine.mp4").frames(), NUM_FRAMES)
    video = VideoFormat(width=176, height=144, frame_rate=Fraction(30), pix_fmt="yuv420p")
    options = VVencOptions(gop="random-access", qp=37)
    return b"".join(VVenC(video, options).stream(frame.buffers() for frame in frames))


@pytest.fixture
def clip_path(clip: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "clip.266"
    path.write_bytes(clip)
    return path


@pytest.fixture
def play(script: Callable[[str, str], Path]) -> Play:
    """Return a function that makes a stand-in for the tracing decoder: it runs a shell script."""
    return lambda body: Program(name="codecprior-probe", path=script("codecprior-probe", body), version="3.0.0")


def says(*lines: str) -> str:
    return "\n".join(f"echo '{line}'" for line in lines)


def digest(frames: Iterable[FramePriors]) -> str:
    found = hashlib.sha256()
    for frame in frames:
        found.update(repr((frame.frame_index, frame.stream, frame.picture)).encode())
        for array in frame.arrays().values():
            found.update(array)
    return found.hexdigest()


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def probes_running() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "codecprior-probe"]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would not say that it is one open directory more


# What goes in


def test_pictures_come_in_display_order_with_their_facts(clip_path: Path) -> None:
    pictures = [frame.picture for frame in Probe().pictures(clip_path)]
    assert [picture.poc for picture in pictures] == list(range(NUM_FRAMES))
    assert sorted(picture.decode_order for picture in pictures) == list(range(NUM_FRAMES))
    assert [picture.decode_order for picture in pictures if picture.picture_type is PictureType.I] == [0]
    assert all(picture.has_priors for picture in pictures)
    size = clip_path.stat().st_size
    assert 0.9 * size < sum(picture.coded_size_bytes for picture in pictures) <= size


def test_frame_rate_and_size_are_those_that_were_encoded(clip_path: Path) -> None:
    with closing(Probe().pictures(clip_path)) as pictures:
        stream = next(pictures).stream
    assert stream.frame_rate == 30
    assert stream.output_size == (176, 144)


def test_arrays_cannot_be_written(clip_path: Path) -> None:
    with closing(Probe(ProbeOptions(with_frames=True)).pictures(clip_path)) as pictures:
        assert not any(array.flags.writeable for array in next(pictures).arrays().values())


def test_frames_come_only_when_asked_for(clip_path: Path) -> None:
    for asked in (False, True):
        with closing(Probe(ProbeOptions(with_frames=asked)).pictures(clip_path)) as pictures:
            assert ("frame_y" in next(pictures).arrays()) == asked


@pytest.mark.parametrize("size", [1, 97, 1 << 20])
def test_pieces_give_what_the_file_gives(clip: bytes, clip_path: Path, size: int) -> None:
    expected = digest(Probe().pictures(clip_path))
    assert digest(Probe().pictures(lambda: in_pieces(clip, size))) == expected
    assert digest(Probe().pictures(in_pieces(clip, size))) == expected


@pytest.mark.parametrize("zeros", [1, 2, 3, 4, 1 << 20])
def test_zeros_before_the_first_start_code_are_skipped(clip: bytes, clip_path: Path, zeros: int) -> None:
    """Annex B allows any number (leading_zero_8bits)."""
    assert digest(Probe().pictures([bytes(zeros) + clip])) == digest(Probe().pictures(clip_path))


def test_zeros_behind_a_unit_are_no_part_of_it(clip: bytes, clip_path: Path) -> None:
    padded = clip.replace(b"\0\0\0\1", bytes(9) + b"\1")
    assert len(padded) > len(clip)
    found = [frame.require("mv_l0").copy() for frame in Probe().pictures([padded])]
    expected = [frame.require("mv_l0").copy() for frame in Probe().pictures(clip_path)]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["-", "--frames", "a b.266", "ü.266"])
def test_any_file_name_will_do(
    clip: bytes, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(clip)
    monkeypatch.chdir(tmp_path)
    assert digest(Probe().pictures(name)) == digest(Probe().pictures(clip_path))


def test_two_streams_can_be_traced_side_by_side(clip_path: Path) -> None:
    for one, other in zip(Probe().pictures(clip_path), Probe(ProbeOptions(threads=0)).pictures(clip_path), strict=True):
        assert np.array_equal(one.require("residual_y"), other.require("residual_y"))


def test_command_line() -> None:
    assert probe_argv("probe", ProbeOptions(), 5, 7, "/clip.266") == [
        *("probe", "--memory-fd", "5", "--release-fd", "7", "/clip.266")
    ]
    options = ProbeOptions(threads=0, with_frames=True, wide_mv=True)
    assert probe_argv("probe", options, 5, 7, "-")[5:] == ["--threads", "0", "--wide-mv", "--frames", "-"]


@pytest.mark.parametrize("threads", [-1, 65])
def test_senseless_number_of_threads_is_refused(threads: int) -> None:
    with pytest.raises(ConfigError, match=f"decoder threads {threads}: use 0 to 64"):
        ProbeOptions(threads=threads)


# What is left behind


def leave_early(frames: Iterator[FramePriors]) -> None:
    next(frames)
    frames.close()  # type: ignore[attr-defined]


def break_out(frames: Iterator[FramePriors]) -> None:
    for _ in frames:
        break


def fail_inside(frames: Iterator[FramePriors]) -> None:
    with suppress(ZeroDivisionError):
        for frame in frames:
            frame.frame_index // 0


def finish(frames: Iterator[FramePriors]) -> None:
    for _ in frames:
        pass


def never_start(frames: Iterator[FramePriors]) -> None:
    del frames


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("use", [leave_early, break_out, fail_inside, finish, never_start])
def test_nothing_is_left_behind(
    clip: bytes, clip_path: Path, use: Callable[[Iterator[FramePriors]], None], piped: bool
) -> None:
    def run() -> None:
        use(Probe(ProbeOptions(threads=2)).pictures((lambda: in_pieces(clip, 1000)) if piped else clip_path))

    run()  # what is started once and stays, such as the guardian of processes, is no leak
    before = open_descriptors(), threading.active_count()
    for _ in range(8):
        run()
    assert not probes_running()
    assert (open_descriptors(), threading.active_count()) == before


def test_arrays_that_are_kept_outlive_the_decoder(clip_path: Path) -> None:
    with closing(Probe().pictures(clip_path)) as pictures:
        frame = next(pictures)
        array = frame.require("residual_y")
        copy = array.copy()
    assert np.array_equal(array, copy)


# What goes wrong


def test_decoder_that_is_killed_is_reported(clip: bytes, clip_path: Path) -> None:
    for source in (clip_path, [clip], lambda: [clip]):
        pictures = Probe().pictures(source)  # type: ignore[arg-type]
        next(pictures)
        (process,) = probes_running()
        process.send_signal(signal.SIGKILL)
        with pytest.raises(ToolFailedError, match="codecprior-probe was killed by signal 9"):
            list(pictures)
        assert not probes_running()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the stream is empty"),
        (b"no video at all, but some text\n", "no start code at the beginning: not a VVC byte stream"),
        (bytes(5000), "no start code at the beginning"),
        (b"\0\0\1", "a start code without a NAL unit"),
        (b"\0\0\0\1\x26\x01\xaf" + bytes(range(7, 99)), "broken or truncated VVC stream"),
    ],
)
def test_what_is_no_stream_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "odd.266"
    path.write_bytes(content)
    for source in (path, [content]):
        with pytest.raises(BitstreamError, match=message) as caught:
            list(Probe().pictures(source, name="odd.266"))
        assert str(caught.value).startswith("odd.266: broken or truncated VVC stream: ")
        assert "\n" not in str(caught.value)


def test_no_stream_is_refused_before_it_is_read_whole() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"no video at all"

    with pytest.raises(BitstreamError, match="no start code at the beginning"):
        list(Probe().pictures(endless()))


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.266: cannot be read \(No such file or directory\)"):
        list(Probe().pictures(tmp_path / "gone.266"))
    with pytest.raises(MediaError, match=r"cannot be read \(Is a directory\)"):
        list(Probe().pictures(tmp_path))


def corrupted(data: bytes, seed: int) -> bytes:
    """Cut off, flip bits, drop a range or overwrite one, by turns."""
    rng = random.Random(seed)
    broken = bytearray(data)
    at = rng.randrange(len(data))
    match seed % 4:
        case 0:
            del broken[at:]
        case 1:
            for _ in range(1 + seed % 5):
                broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            del broken[at : at + rng.randrange(1, 400)]
        case 3:
            broken[at : at + 50] = rng.randbytes(50)
    return bytes(broken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_corrupted_stream_ends_in_one_line(clip: bytes, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """With two threads VVdeC hangs on some of them."""
    monkeypatch.setenv("CODECPRIOR_STALL_SECONDS", "1.5")
    pictures = Probe(ProbeOptions(threads=2)).pictures(lambda: [corrupted(clip, seed)], name="broken.266")
    indices = []
    message = "broken.266: nothing was wrong"
    try:
        for frame in pictures:
            indices.append(frame.frame_index)
    except (BitstreamError, UnsupportedStreamError) as error:
        message = str(error)
    assert message.startswith("broken.266: ")
    assert "\n" not in message
    assert indices == list(range(len(indices)))
    assert not probes_running()


def test_stream_that_ends_inside_a_picture_is_broken(clip: bytes) -> None:
    units = [*(match.start() for match in re.finditer(b"\0\0\1", clip)), len(clip)]
    cut = [(start + end) // 2 for start, end in pairwise(units) if clip[start + 4] >> 3 <= LAST_SLICE_TYPE]
    assert len(cut) == NUM_FRAMES
    for count, end in enumerate(cut):
        indices = []
        with pytest.raises(BitstreamError, match="broken or truncated"):  # noqa: PT012 - the pictures before count
            for frame in Probe(ProbeOptions(threads=0)).pictures([clip[:end]]):
                indices.append(frame.frame_index)
        assert len(indices) <= count


def test_slow_producer_is_no_stall(
    clip: bytes, clip_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CODECPRIOR_STALL_SECONDS", "0.5")

    def slow() -> Iterator[bytes]:
        time.sleep(1.2)
        yield clip[: len(clip) // 2]
        time.sleep(1.2)
        yield clip[len(clip) // 2 :]

    with caplog.at_level(logging.WARNING):
        found = digest(Probe().pictures(slow))
    assert not caplog.records
    assert found == digest(Probe().pictures(clip_path))


@pytest.mark.parametrize("share", [0, 2])
def test_what_the_producer_raises_comes_through(clip: bytes, share: int) -> None:
    def failing() -> Iterator[bytes]:
        yield clip[: len(clip) * share // 3]
        raise LookupError("frame 7 is missing")

    for source in (failing, failing()):
        with pytest.raises(LookupError, match="frame 7 is missing"):
            list(Probe().pictures(source))
        assert not probes_running()


# A stand-in for the decoder says what no stream at hand makes the real one say


def test_concealed_picture_has_no_arrays(play: Play, clip_path: Path) -> None:
    (frame,) = Probe(program=play(says(STREAM, CONCEALED, END))).pictures(clip_path)
    assert not frame.picture.has_priors
    assert frame.arrays() == {}
    assert frame.size == (64, 32)


def test_vector_beyond_16_bits_is_an_error_of_its_own(play: Play, clip_path: Path) -> None:
    error = '{"event": "error", "kind": "mv_range", "message": "a motion vector does not fit into 16 bits"}'
    with pytest.raises(MvRangeError, match=r"clip\.266: a motion vector does not fit into 16 bits"):
        list(Probe(program=play(says(STREAM, error) + "\nexit 3")).pictures(clip_path))


def test_warnings_are_logged_with_the_stream(play: Play, clip_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warning = '{"event": "warning", "message": "tuning in"}'
    with caplog.at_level(logging.WARNING):
        list(Probe(program=play(says(STREAM, warning, CONCEALED, END))).pictures(clip_path, name="clip"))
    assert [record.getMessage() for record in caplog.records] == ["clip: tuning in"]


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (says(STREAM, CONCEALED), TraceError, r"clip\.266: the tracing decoder stopped without saying why"),
        (says(STREAM, "Segmentation fault"), TraceError, "the tracing decoder wrote b'Segmentation fault'"),
        ("echo no such option >&2; exit 2", ToolFailedError, "codecprior-probe exited with 2: no such option"),
        (says(STREAM, END) + "\nexit 1", ToolFailedError, "codecprior-probe exited with 1"),
    ],
)
def test_decoder_that_ends_otherwise_is_an_error(
    play: Play, clip_path: Path, body: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        list(Probe(program=play(body)).pictures(clip_path))


def test_decoder_that_hangs_is_tried_without_threads(
    play: Play, clip_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CODECPRIOR_STALL_SECONDS", "0.3")
    picture = CONCEALED.replace('"poc": 0', '"poc": 1')
    single = f'case "$*" in *"--threads 0"*) {says(picture, END)};; *) sleep 100;; esac'
    with caplog.at_level(logging.WARNING):
        frames = list(Probe(program=play(says(STREAM, CONCEALED) + "\n" + single)).pictures(clip_path))
    assert [(frame.frame_index, frame.picture.poc) for frame in frames] == [(0, 0), (1, 1)]
    assert "trying again without threads" in caplog.text


@pytest.mark.parametrize("threads", [0, 2])
def test_decoder_that_hangs_and_cannot_be_tried_again_is_a_timeout(
    play: Play, clip: bytes, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setenv("CODECPRIOR_STALL_SECONDS", "0.3")
    source: Any = [clip] if threads else lambda: [clip]
    with pytest.raises(ToolTimeoutError, match=r"codecprior-probe did nothing for 0\.3 seconds"):
        list(Probe(ProbeOptions(threads=threads), play("cat > /dev/null; sleep 100")).pictures(source))
    assert not probes_running()
