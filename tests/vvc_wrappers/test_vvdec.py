from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codecprior.errors import (
    BitstreamError,
    MediaError,
    ToolFailedError,
    ToolTimeoutError,
    UnsupportedStreamError,
)
from vvc_wrappers.tools import Program
from vvc_wrappers.vvdec import VVdeC, decoder_error, retry_single_threaded, vvdecapp_argv

TRUNCATED = """\
VVdeC, the Fraunhofer VVC/H.266 decoder, version 3.0.0 [THREADS=0; PARSE_DELAY=0; SIMD=AVX2]
vvdecapp [error]: decoding failed: decoder exception (decoder requires restart) detail: caught decoder exception: 
ERROR: In function "void vvdec::InputBitstream::load_next_bits(int)" in /src/BitStream.h:193: Exceeded FIFO size
ERROR CONDITION: m_fifo_idx + required_bytes > m_fifo.size()
"""  # noqa: W291 - as recorded
PALETTE = """\
Warning: MAIN_10_444 and MAIN_10_444_STILL_PICTURE is still experimental.
vvdecapp [error]: decoding failed: decoder exception (decoder requires restart) detail: caught decoder exception: 
ERROR: In function "void vvdec::HLSyntaxReader::parseSPS()" in /src/HLSyntaxReader.cpp:2164: palette mode is not yet supported
ERROR CONDITION: sps_palette_enabled_flag
"""  # noqa: E501, W291 - as recorded


def failure(stderr: str, returncode: int = 245) -> ToolFailedError:
    return ToolFailedError(["vvdecapp"], returncode, stderr)


def test_broken_stream_is_reported_with_the_decoders_reason() -> None:
    error = decoder_error(failure(TRUNCATED), "clip.266")
    assert isinstance(error, BitstreamError)
    assert str(error) == "clip.266: broken or truncated VVC stream: Exceeded FIFO size"


def test_unsupported_feature_is_no_broken_stream() -> None:
    error = decoder_error(failure(PALETTE), "clip.266")
    assert isinstance(error, UnsupportedStreamError)
    assert str(error) == "clip.266: palette mode is not yet supported"


def test_crash_stays_a_failed_tool() -> None:
    crash = failure("", -11)
    assert decoder_error(crash, "clip.266") is crash


@pytest.mark.parametrize(("threads", "tail"), [(None, []), (0, ["--threads", "0"]), (3, ["--threads", "3"])])
def test_command_line(threads: int | None, tail: list[str]) -> None:
    base = ["--bitstream", "a b.266", "--output", "-", "--verbosity", "1"]
    assert vvdecapp_argv(Path("a b.266"), threads) == [*base, *tail]


@pytest.mark.parametrize(
    "name", ["ALF_B_Huawei_3.bit", "CodingToolsSets_D_Tencent_2.bit", "8b420_A_Bytedance_2.bit", "IBC_A_Tencent_2.bit"]
)
def test_decoded_samples_are_those_of_the_conformance_package(conformance_dir: Path, name: str) -> None:
    digests = dict(line.split()[::-1] for line in (conformance_dir / "md5.txt").read_text().splitlines())
    assert VVdeC().decode_to_md5(conformance_dir / name) == digests[name]


def test_unsupported_conformance_stream_is_refused(conformance_dir: Path) -> None:
    with pytest.raises(UnsupportedStreamError, match=r"8b444_A_Kwai_2\.bit: palette mode is not yet supported"):
        VVdeC().decode_to_md5(conformance_dir / "8b444_A_Kwai_2.bit")


def test_corrupted_streams_always_end_in_an_error(conformance_dir: Path, tmp_path: Path) -> None:
    """With two threads about half of these runs hang in VVdeC."""
    decoder = VVdeC(threads=2, stall_seconds=0.5)
    whole = (conformance_dir / "CodingToolsSets_D_Tencent_2.bit").read_bytes()
    broken = tmp_path / "broken.266"
    for seed in (1, 6, 7):
        rng = random.Random(seed)
        data = bytearray(whole)
        at = rng.randrange(len(data) // 4, len(data))
        if seed % 2:
            data[at] ^= 1 << rng.randrange(8)
        else:
            del data[at : at + rng.randrange(1, 200)]
        broken.write_bytes(data)
        with pytest.raises(BitstreamError, match=r"broken\.266"):
            decoder.decode_to_md5(broken)


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(1000)])
def test_file_without_pictures_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.266"
    path.write_bytes(content)
    with pytest.raises(BitstreamError, match=r"odd\.266"):
        VVdeC().decode_to_md5(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.266: cannot be read \(No such file or directory\)"):
        VVdeC().decode_to_md5(tmp_path / "gone.266")


def test_decoder_that_hangs_with_threads_is_tried_without(
    script: Callable[[str, str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stand-in that hangs every time, as VVdeC does now and then."""
    stream = tmp_path / "clip.266"
    stream.write_bytes(b"-")
    (tmp_path / "reason").write_text(TRUNCATED)
    single_threaded = f'case "$*" in *"--threads 0") cat {tmp_path}/reason >&2; exit 245; esac'
    body = f"head -c 2500000 /dev/zero; {single_threaded}; sleep 100"
    program = Program(name="vvdecapp", path=script("vvdecapp", body), version="3.0.0")
    sizes: list[int] = []
    blocks = VVdeC(program, threads=2, stall_seconds=0.4).decode(stream)
    with caplog.at_level(logging.WARNING), pytest.raises(BitstreamError, match="Exceeded FIFO size"):
        sizes.extend(map(len, blocks))
    assert sizes == [1 << 20, 1 << 20, 2_500_000 - (2 << 20)]
    assert "trying again without threads" in caplog.text


def test_decoder_that_hangs_without_threads_is_not_tried_again(
    script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    stream = tmp_path / "clip.266"
    stream.write_bytes(b"-")
    program = Program(name="vvdecapp", path=script("vvdecapp", f"echo >> {tmp_path}/runs; sleep 100"), version="3.0.0")
    with pytest.raises(ToolTimeoutError):
        VVdeC(program, threads=0, stall_seconds=0.4).decode_to_md5(stream)
    assert (tmp_path / "runs").read_text() == "\n"


def test_retry_gives_out_only_what_is_new() -> None:
    def decode(threads: int | None) -> Iterator[int]:
        yield from range(3)
        if threads != 0:
            raise ToolTimeoutError("hangs")
        yield from range(3, 5)

    assert list(retry_single_threaded(decode, 4)) == [0, 1, 2, 3, 4]
