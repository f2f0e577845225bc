"""The conformance streams: the pictures are the standard's, the priors do not depend on threads."""

from __future__ import annotations

import hashlib
import logging
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from codecprior.core.arrays import FRAME_ARRAYS, GRID_ARRAYS, RESIDUAL_ARRAYS
from codecprior.errors import UnsupportedStreamError
from vvc_wrappers.probe import Probe, ProbeOptions
from vvc_wrappers.vvdec import VVdeC

UNSUPPORTED = {
    "8b444_A_Kwai_2": "palette mode is not yet supported",
    "RPR_A_Alibaba_4": "the picture format changes inside the stream",
}
WRONG_IN_VVDEC = {"10b422_B_Sony_5"}  # its 4:2:2 chroma differs from the reference decoder's


def pictures_md5(stream: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for frame in Probe(ProbeOptions(threads=2, with_frames=True)).pictures(stream):
        box = frame.stream.output_box
        output = frame.crop(box.x, box.y, box.width, box.height)
        for plane in frame.stream.planes:
            digest.update(np.ascontiguousarray(output.require(f"frame_{plane}")))
    return digest.hexdigest()


def priors_digest(stream: Path, options: ProbeOptions) -> str:
    digest = hashlib.sha256()
    for frame in Probe(options).pictures(stream):
        digest.update(repr((frame.frame_index, frame.stream, frame.picture)).encode())
        for name, array in frame.arrays().items():
            digest.update(name.encode())
            digest.update(array)
    return digest.hexdigest()


@pytest.mark.slow
def test_pictures_are_those_of_the_reference_decoder(conformance_dir: Path, traceable_stream: Path) -> None:
    lines = (conformance_dir / "md5.txt").read_text().splitlines()
    expected = {name: md5 for md5, name in map(str.split, lines)}[traceable_stream.name]
    found = pictures_md5(traceable_stream)
    if traceable_stream.stem in WRONG_IN_VVDEC:
        assert found == VVdeC().decode_to_md5(traceable_stream)
        assert found != expected
    else:
        assert found == expected


@pytest.mark.parametrize("name", [*WRONG_IN_VVDEC, "WP_A_InterDigital_3"])
def test_wrong_pictures_are_reported(conformance_dir: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        count = len(list(Probe().pictures(conformance_dir / f"{name}.bit")))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (name in WRONG_IN_VVDEC)
    assert all("do not match the checksums in the stream" in line and line.endswith(f": {count}") for line in messages)


@pytest.mark.slow
def test_priors_do_not_depend_on_threads(traceable_stream: Path) -> None:
    digests = {threads: priors_digest(traceable_stream, ProbeOptions(threads=threads)) for threads in (0, 1, 2)}
    assert len(set(digests.values())) == 1, digests


def test_arrays_have_the_shapes_and_types_of_the_stream(traceable_stream: Path) -> None:
    with closing(Probe(ProbeOptions(with_frames=True)).pictures(traceable_stream)) as pictures:
        frame = next(pictures)
    stream = frame.stream
    expected = {
        spec.name: (spec.dtype, (*stream.grid_shape, 2) if spec.components == 2 else stream.grid_shape)
        for spec in GRID_ARRAYS
    }
    sample = np.dtype(np.uint8 if stream.bit_depth == 8 else np.uint16)
    for spec in (*RESIDUAL_ARRAYS, *FRAME_ARRAYS):
        if spec.plane in stream.planes:
            dtype = sample if spec in FRAME_ARRAYS else spec.dtype
            expected[spec.name] = (dtype, stream.plane_shape(spec.plane))
    assert {name: (array.dtype, array.shape) for name, array in frame.arrays().items()} == expected
    assert frame.size == stream.coded_size


@pytest.mark.parametrize(
    ("name", "chroma_format", "bit_depth"),
    [
        ("8b400_A_Bytedance_2", "4:0:0", 8),
        ("10b400_A_Bytedance_2", "4:0:0", 10),
        ("8b420_A_Bytedance_2", "4:2:0", 8),
        ("10b422_B_Sony_5", "4:2:2", 10),
    ],
)
def test_format_of_the_stream_is_reported(conformance_dir: Path, name: str, chroma_format: str, bit_depth: int) -> None:
    with closing(Probe().pictures(conformance_dir / f"{name}.bit")) as pictures:
        stream = next(pictures).stream
    assert (stream.chroma_format, stream.bit_depth) == (chroma_format, bit_depth)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_stream_is_refused_with_the_reason(conformance_dir: Path, name: str, threads: int) -> None:
    stream = conformance_dir / f"{name}.bit"
    with pytest.raises(UnsupportedStreamError) as caught:
        list(Probe(ProbeOptions(threads=threads)).pictures(stream))
    message = str(caught.value)
    assert message.startswith(f"{stream}: {UNSUPPORTED[name]}")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["GPM_A_Alibaba_3", "WRAP_D_InterDigital_4"])
def test_wide_vectors_have_the_same_values(conformance_dir: Path, name: str) -> None:
    stream = conformance_dir / f"{name}.bit"
    longest = 0
    narrow, wide = (Probe(ProbeOptions(wide_mv=wide)).pictures(stream) for wide in (False, True))
    for short, long in zip(narrow, wide, strict=True):
        for which in ("mv_l0", "mv_l1"):
            assert short.require(which).dtype == np.int16
            assert long.require(which).dtype == np.int32
            assert np.array_equal(short.require(which), long.require(which))
            longest = max(longest, int(np.abs(long.require(which)).max()))
    assert longest > 600 * 16
