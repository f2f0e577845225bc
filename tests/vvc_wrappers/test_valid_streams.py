"""Streams that are put together, cut out or thinned at NAL units, as splicers and extractors do, and stay valid."""

from __future__ import annotations

import hashlib
import logging
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import imageio_ffmpeg
import pytest

from codecprior.core.priors import FramePriors
from codecprior.errors import BitstreamError, UnsupportedStreamError
from codecprior.media import open_source
from vvc_wrappers.probe import Probe, ProbeOptions
from vvc_wrappers.vvdec import VVdeC
from vvc_wrappers.vvenc import VideoFormat, VVenC, VVencOptions

THREADS = (0, 2, 8)
Units = list[bytes]


def encode(clips: Path, count: int, **options: Any) -> bytes:
    frames = islice(open_source(clips / "carphone_pristine.mp4").frames(), count)
    video = VideoFormat(width=176, height=144, frame_rate=Fraction(30), pix_fmt="yuv420p")
    return b"".join(VVenC(video, VVencOptions(qp=37, **options)).stream(frame.buffers() for frame in frames))


@pytest.fixture(scope="module")
def low_delay(clips: Path, annex_b: ModuleType) -> Units:
    """Five pictures, none of them reordered."""
    return annex_b.nal_units(encode(clips, 5))


@pytest.fixture(scope="module")
def random_access(clips: Path, annex_b: ModuleType) -> Units:
    """48 pictures, intra periods of sixteen; the second and third begin with a CRA picture."""
    extra = {"intraperiod": "16", "gopsize": "16", "decodingrefreshtype": "cra"}
    return annex_b.nal_units(encode(clips, 48, gop="random-access", extra=extra))


@pytest.fixture(scope="module")
def cut_at_cra(random_access: Units, annex_b: ModuleType) -> Units:
    """The stream from its first CRA picture on, whose leading pictures refer to what is missing."""
    cra = next(index for index, unit in enumerate(random_access) if annex_b.kind(unit) == annex_b.CRA)
    assert annex_b.kind(random_access[cra - 2]) == annex_b.SPS
    return random_access[cra - 2 :]


@pytest.fixture
def pictures(annex_b: ModuleType) -> Callable[..., list[FramePriors]]:
    """Return a function that traces NAL units and keeps no arrays."""

    def trace(units: Iterable[bytes], threads: int = 2, **options: Any) -> list[FramePriors]:
        stream = annex_b.joined(units)
        probe = Probe(ProbeOptions(threads=threads, **options))
        return [
            FramePriors(stream=frame.stream, picture=frame.picture, frame_index=frame.frame_index, box=frame.box)
            for frame in probe.pictures(lambda: [stream], name="clip")
        ]

    return trace


def plain_md5(parts: Sequence[bytes], folder: Path) -> str:
    """Decode each part for itself."""
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        (folder / "part.266").write_bytes(part)
        for block in VVdeC(threads=0).decode(folder / "part.266"):
            digest.update(block)
    return digest.hexdigest()


def traced_md5(stream: bytes, threads: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for frame in Probe(ProbeOptions(threads=threads, with_frames=True)).pictures([stream]):
        for plane in frame.stream.planes:
            digest.update(frame.require(f"frame_{plane}").astype("<u2"))
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("names", "ended"),
    [
        (("low_delay", "low_delay"), False),
        (("low_delay", "low_delay"), True),
        (("random_access", "random_access"), False),
        (("low_delay", "random_access"), False),  # VVdeC goes on reordering as the first sequence demands
        (("low_delay", "random_access"), True),
        (("random_access", "low_delay", "random_access"), False),
        (("random_access", "cut_at_cra", "low_delay", "cut_at_cra"), True),  # CRA pictures that start anew
        (("cut_at_cra", "cut_at_cra"), True),  # VVdeC keeps a reference that has the same POC
    ],
)
def test_sequences_come_one_after_the_other(
    names: tuple[str, ...], ended: bool, request: pytest.FixtureRequest, annex_b: ModuleType, tmp_path: Path
) -> None:
    parts = [request.getfixturevalue(name) for name in names]
    end = [annex_b.unit(annex_b.END_OF_SEQUENCE)] if ended else []
    stream = annex_b.joined(chain.from_iterable([*part, *end] for part in parts))
    expected = plain_md5([annex_b.joined(part) for part in parts], tmp_path)
    assert {threads: traced_md5(stream, threads) for threads in THREADS} == dict.fromkeys(THREADS, expected)


@pytest.mark.parametrize("which", [1, 2])
def test_prior_pictures_are_dropped_as_the_standard_says(
    clips: Path, annex_b: ModuleType, tmp_path: Path, which: int
) -> None:
    """With sh_no_output_of_prior_pics_flag. What VVdeC drops depends on its threads; FFmpeg's decoder is the judge."""
    extra = {"intraperiod": "16", "gopsize": "16", "decodingrefreshtype": "idr"}
    units = annex_b.nal_units(encode(clips, 48, gop="random-access", extra=extra))
    at = [index for index, unit in enumerate(units) if annex_b.kind(unit) == annex_b.IDR_W_RADL][which]
    flag_byte, flag = 4, 0x20  # behind the picture header that this encoder writes into the slice header
    assert not units[at][flag_byte] & flag
    units[at] = units[at][:flag_byte] + bytes([units[at][flag_byte] | flag]) + units[at][flag_byte + 1 :]
    stream = annex_b.joined(units)
    (tmp_path / "clip.266").write_bytes(stream)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", tmp_path / "clip.266", "-fps_mode", "passthrough"]
    frames = subprocess.run([*command, "-f", "rawvideo", "-"], stdout=subprocess.PIPE, check=True).stdout
    assert len(frames) == 44 * 176 * 144 * 3  # of 48
    expected = hashlib.md5(frames, usedforsecurity=False).hexdigest()
    assert {threads: traced_md5(stream, threads) for threads in THREADS} == dict.fromkeys(THREADS, expected)


def test_a_sequence_has_its_own_number_and_order_counts(
    random_access: Units, cut_at_cra: Units, annex_b: ModuleType, pictures: Callable[..., list[FramePriors]]
) -> None:
    end = annex_b.unit(annex_b.END_OF_BITSTREAM)
    found = [frame.picture for frame in pictures([*random_access, end, *cut_at_cra])]
    assert [picture.cvs for picture in found] == [0] * 48 + [1] * 17
    for cvs in (0, 1):
        pocs = [picture.poc for picture in found if picture.cvs == cvs]
        assert pocs == sorted(pocs)


def test_pictures_that_cannot_be_decoded_are_counted(
    random_access: Units,
    cut_at_cra: Units,
    annex_b: ModuleType,
    pictures: Callable[..., list[FramePriors]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = (index for index, unit in enumerate(random_access) if annex_b.kind(unit) == annex_b.CRA)
    parameters = [unit for unit in random_access[:first] if annex_b.kind(unit) in (annex_b.SPS, annex_b.PPS)]
    slices = [unit for unit in random_access[:second] if annex_b.is_slice(unit)]
    cases = {
        "cut": ([*cut_at_cra], [("leading", 15)]),
        "late": ([*parameters, *slices[1:8], *cut_at_cra], [("coded", 7), ("leading", 15)]),
        "unknown": ([*slices[:8], *cut_at_cra], [("coded", 8), ("leading", 15)]),
    }
    for name, (units, warnings) in cases.items():
        for threads in THREADS:
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert len(pictures(units, threads)) == 17, name
            messages = [record.getMessage() for record in caplog.records]
            assert len(messages) == len(warnings), (name, messages)
            for message, (which, left_out) in zip(messages, warnings, strict=True):
                assert message.startswith(f"clip: {which} pictures left out")
                assert message.endswith(f": {left_out}")


def test_a_picture_header_of_its_own_waits_for_its_slices(
    conformance_dir: Path, pictures: Callable[..., list[FramePriors]], annex_b: ModuleType
) -> None:
    units = annex_b.nal_units((conformance_dir / "SUBPIC_C_ERICSSON_1.bit").read_bytes())
    header = next(index for index, unit in enumerate(units) if annex_b.kind(unit) == annex_b.PICTURE_HEADER)
    ended = [*units, annex_b.unit(annex_b.END_OF_SEQUENCE)]
    assert len(pictures([*ended, *units])) == 2 * len(pictures(units))
    assert len(pictures([*units[header:], *units])) == len(pictures(units))  # the first ones lack their parameter sets


def test_a_whole_stream_gives_no_warning(
    random_access: Units, pictures: Callable[..., list[FramePriors]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(pictures(random_access)) == 48
    assert not caplog.records


def test_decode_order_counts_what_is_left_out(
    cut_at_cra: Units, pictures: Callable[..., list[FramePriors]], annex_b: ModuleType
) -> None:
    kinds = [annex_b.kind(unit) for unit in cut_at_cra if annex_b.is_slice(unit)]
    left_out = {index for index, kind in enumerate(kinds[:16]) if kind == annex_b.RASL}
    found = {frame.picture.decode_order for frame in pictures(cut_at_cra)}
    assert found == set(range(32)) - left_out


def test_units_that_hold_no_picture_change_nothing(
    random_access: Units, pictures: Callable[..., list[FramePriors]], annex_b: ModuleType
) -> None:
    padded: Units = []
    for unit in random_access:
        padded += [unit]
        if annex_b.is_slice(unit):
            padded += [annex_b.unit(annex_b.FILLER, b"\xff\xff\x80"), annex_b.unit(28, b"unspecified\x80")]
    bare = [unit for unit in random_access if annex_b.kind(unit) != annex_b.ACCESS_UNIT_DELIMITER]
    orders = [
        [(frame.picture.poc, frame.picture.decode_order, frame.picture.cvs) for frame in pictures(units)]
        for units in (random_access, padded, bare)
    ]
    assert orders[0] == orders[1] == orders[2]


def test_temporal_sublayers_can_be_removed(
    random_access: Units, pictures: Callable[..., list[FramePriors]], annex_b: ModuleType
) -> None:
    for highest in range(4):
        kept = [unit for unit in random_access if annex_b.temporal_id(unit) <= highest]
        found = [frame.picture.poc for frame in pictures(kept)]
        assert found == sorted(found)
        assert len(found) == sum(map(annex_b.is_slice, kept))


# What a store cannot hold


CHANGES = {
    ("8b400_A_Bytedance_2", "8b420_A_Bytedance_2"): "the chroma format changes inside the stream",
    ("8b420_A_Bytedance_2", "10b400_A_Bytedance_2"): "the chroma format changes inside the stream",
    ("8b400_A_Bytedance_2", "10b400_A_Bytedance_2"): "from 832x480 cropped to 832x480, 8 bit to 832x480 .*, 10 bit at",
    ("8b420_A_Bytedance_2", "CodingToolsSets_D_Tencent_2"): "cropped to 832x480, 8 bit to 416x240",
}


@pytest.mark.parametrize("names", CHANGES)
def test_a_change_of_format_is_refused(
    conformance_dir: Path, names: tuple[str, str], annex_b: ModuleType, pictures: Callable[..., list[FramePriors]]
) -> None:
    units = [annex_b.nal_units((conformance_dir / f"{name}.bit").read_bytes()) for name in names]
    for threads in THREADS:
        with pytest.raises(UnsupportedStreamError, match=CHANGES[names]):
            pictures(chain(*units), threads)


def edited_sps(units: Iterable[bytes], annex_b: ModuleType, at: int, value: int) -> Iterator[bytes]:
    """Overwrite a byte of each sequence parameter set."""
    for unit in units:
        yield unit[:at] + bytes([value]) + unit[at + 1 :] if annex_b.kind(unit) == annex_b.SPS else unit


@pytest.mark.parametrize("profile", [2, 10, 34, 36, 42])
def test_a_profile_of_version_2_is_unsupported(
    random_access: Units, profile: int, annex_b: ModuleType, pictures: Callable[..., list[FramePriors]]
) -> None:
    with pytest.raises(UnsupportedStreamError, match="profile is not supported by VVdeC"):
        pictures(edited_sps(random_access, annex_b, 4, profile << 1))


# What is broken near the beginning, while VVdeC still forgives


def test_a_broken_picture_is_an_error_wherever_it_is(
    random_access: Units, pictures: Callable[..., list[FramePriors]], annex_b: ModuleType
) -> None:
    at = [index for index, unit in enumerate(random_access) if annex_b.is_slice(unit)]
    for index in at[:6]:
        units = list(random_access)
        whole = units[index]
        units[index] = whole[: len(whole) // 2] + bytes(byte ^ 0x5A for byte in whole[len(whole) // 2 :])
        for threads in (0, 8):
            with pytest.raises(BitstreamError, match="broken or truncated"):
                pictures(units, threads)


def test_a_picture_that_lacks_slices_is_no_hang(
    conformance_dir: Path, pictures: Callable[..., list[FramePriors]], annex_b: ModuleType
) -> None:
    """VVdeC waits for them, also without threads."""
    units = annex_b.nal_units((conformance_dir / "SUBPIC_C_ERICSSON_1.bit").read_bytes())
    slices = [index for index, unit in enumerate(units) if annex_b.is_slice(unit)]
    cases = [[*units[:index], *units[index + 1 :]] for index in (*slices[1:9], slices[-1])]
    first, second = 103, 161  # slices of two pictures
    swapped = list(units)
    swapped[first], swapped[second] = units[second], units[first]
    for case in (*cases, swapped):
        for threads in (0, 8):
            with pytest.raises(BitstreamError, match="broken or truncated"):
                pictures(case, threads)


def test_a_stream_without_a_beginning_says_what_is_missing(
    low_delay: Units, pictures: Callable[..., list[FramePriors]], annex_b: ModuleType
) -> None:
    slices = [unit for unit in low_delay if annex_b.is_slice(unit)]
    parameters = [unit for unit in low_delay if annex_b.kind(unit) in (annex_b.SPS, annex_b.PPS)]
    for units, count in ((slices, 5), ([*parameters, *slices[1:]], 4)):
        with pytest.raises(BitstreamError, match=f"{count} coded pictures, but no random access point with its param"):
            pictures(units)
