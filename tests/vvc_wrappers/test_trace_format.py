from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from codecprior.core.arrays import PictureType
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.errors import BitstreamError, CodecpriorError, TraceError, UnsupportedStreamError
from vvc_wrappers.trace_format import (
    ArrayLayout,
    EndEvent,
    ErrorEvent,
    MvRangeError,
    PictureEvent,
    StreamEvent,
    WarningEvent,
    parse_event,
    slot_arrays,
    stream_error,
)

# Recorded from the tracing decoder, the list of arrays shortened.
STREAM = (
    b'{"event": "stream", "coded_size": [176, 144], "conformance_window": [0, 8, 0, 4], "bit_depth": 10, '
    b'"chroma_format_idc": 1, "slot_bytes": 102400, "frame_rate": [30000, 1001], "arrays": {'
    b'"mv_l0": {"dtype": "int16", "offset": 0, "shape": [36, 44, 2]}, '
    b'"qp": {"dtype": "int8", "offset": 23872, "shape": [36, 44]}, '
    b'"residual_y": {"dtype": "int16", "offset": 25472, "shape": [144, 176]}}}\n'
)
PICTURE = (
    b'{"event": "picture", "slot": 3, "has_priors": true, "poc": 1, "decode_order": 3, "cvs": 2, "picture_type": 2, '
    b'"slice_qp": 41, "lmcs": 3, "coded_size_bytes": 399}\n'
)
VVDEC_PREFIX = "decoder requires restart: decoder exception: caught decoder exception:  ERROR: In function "
TRUNCATED = (
    VVDEC_PREFIX + '"void vvdec::InputBitstream::load_next_bits(int)" in /src/CommonLib/BitStream.h:193: '
    "Exceeded FIFO size ERROR CONDITION: m_fifo_idx + required_bytes > m_fifo.size()"
)
LOST = (
    VVDEC_PREFIX + '"void vvdec::Slice::constructSingleRefPicList(const vvdec::PicList&, vvdec::RefPicList)" in '
    "/src/CommonLib/Slice.cpp:486: Picture pointer missing from ref pic list ERROR CONDITION: !pcRefPic"
)
PALETTE = (
    VVDEC_PREFIX + '"void vvdec::HLSyntaxReader::parseSPS(vvdec::SPS*, const vvdec::ParameterSetManager*)" in '
    "/src/DecoderLib/HLSyntaxReader.cpp:2164: palette mode is not yet supported "
    "ERROR CONDITION: sps_palette_enabled_flag"
)


def changed(line: bytes, **changes: Any) -> bytes:
    """The line with other fields; None removes one."""
    fields = json.loads(line) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def test_stream_line() -> None:
    event = parse_event(STREAM)
    assert isinstance(event, StreamEvent)
    assert event.slot_bytes == 102400
    assert event.stream == StreamInfo(
        codec="vvc",
        coded_size=(176, 144),
        conformance_window=(0, 8, 0, 4),
        bit_depth=10,
        chroma_format="4:2:0",
        frame_rate=Fraction(30000, 1001),
    )
    assert event.arrays["residual_y"] == ArrayLayout(dtype=np.dtype("int16"), offset=25472, shape=(144, 176))
    assert event.arrays["mv_l0"].size_bytes == 36 * 44 * 2 * 2


def test_stream_need_not_state_a_frame_rate() -> None:
    event = parse_event(changed(STREAM, frame_rate=None))
    assert isinstance(event, StreamEvent)
    assert event.stream.frame_rate is None


def test_picture_line() -> None:
    assert parse_event(PICTURE) == PictureEvent(
        slot=3,
        picture=PictureInfo(
            poc=1,
            decode_order=3,
            cvs=2,
            picture_type=PictureType.B,
            slice_qp=41,
            coded_size_bytes=399,
            lmcs=3,
            has_priors=True,
        ),
    )


def test_concealed_picture_has_no_slot() -> None:
    event = parse_event(changed(PICTURE, slot=-1, has_priors=False))
    assert isinstance(event, PictureEvent)
    assert event.slot is None
    assert not event.picture.has_priors


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b'{"event": "warning", "message": "tuning in"}', WarningEvent("tuning in")),
        (b'{"event": "error", "kind": "bitstream", "message": "no \\"SPS\\""}', ErrorEvent("bitstream", 'no "SPS"')),
        (b'{"event": "end", "num_pictures": 5}', EndEvent(5)),
    ],
)
def test_other_lines(line: bytes, event: object) -> None:
    assert parse_event(line) == event


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"VVdeC, the Fraunhofer VVC/H.266 decoder",
        b"[1, 2]",
        b'"picture"',
        b"null",
        b"{}",
        b'{"event": "frame"}',
        b'{"event": ["end"]}',
        b'{"event": "end"}',
        b'{"event": "warning"}',
        b'{"event": "error", "message": "no kind"}',
        b'{"event": "warning", "message": "\xff"}',
        PICTURE[:-10],
        changed(PICTURE, picture_type=3),
        changed(PICTURE, slot="3"),
        changed(PICTURE, poc=None),
        changed(PICTURE, unheard_of=1),
        changed(STREAM, chroma_format_idc=4),
        changed(STREAM, coded_size=7),
        changed(STREAM, conformance_window=[0, 176, 0, 0]),
        changed(STREAM, frame_rate=[25, 0]),
        changed(STREAM, arrays=[]),
        changed(STREAM, arrays={"qp": {"dtype": "int9", "offset": 0, "shape": [1, 1]}}),
        changed(STREAM, arrays={"qp": {"dtype": "int8", "shape": [1, 1]}}),
    ],
)
def test_line_that_the_tracing_decoder_does_not_write_is_an_error(line: bytes) -> None:
    with pytest.raises(TraceError, match="the tracing decoder wrote b") as caught:
        parse_event(line)
    assert "\n" not in str(caught.value)


def test_arrays_lie_where_the_layout_says() -> None:
    layout = parse_event(STREAM)
    assert isinstance(layout, StreamEvent)
    memory = np.random.default_rng(0).integers(0, 256, layout.slot_bytes, np.uint8).tobytes()
    arrays = slot_arrays(memory, layout)
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
        "mv_l0": (np.dtype("int16"), (36, 44, 2)),
        "qp": (np.dtype("int8"), (36, 44)),
        "residual_y": (np.dtype("int16"), (144, 176)),
    }
    assert arrays["residual_y"].tobytes() == memory[25472 : 25472 + 144 * 176 * 2]
    assert not arrays["qp"].flags.writeable


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        (ErrorEvent("bitstream", TRUNCATED), BitstreamError, "broken or truncated VVC stream: Exceeded FIFO size"),
        (
            ErrorEvent("bitstream", LOST),
            BitstreamError,
            "broken or truncated VVC stream: Picture pointer missing from ref pic list",
        ),
        (ErrorEvent("bitstream", PALETTE), UnsupportedStreamError, "palette mode is not yet supported"),
        (
            ErrorEvent("bitstream", PALETTE.replace("palette mode is not yet supported", "Invalid VPS")),
            UnsupportedStreamError,
            "streams of several layers are not supported by VVdeC",
        ),
        (
            ErrorEvent("unsupported", "the picture format changes inside the stream"),
            UnsupportedStreamError,
            "the picture format changes inside the stream",
        ),
        (
            ErrorEvent("bitstream", "the stream is empty"),
            BitstreamError,
            "broken or truncated VVC stream: the stream is empty",
        ),
        (
            ErrorEvent("mv_range", "a motion vector does not fit into 16 bits"),
            MvRangeError,
            "a motion vector does not fit into 16 bits",
        ),
        (ErrorEvent("internal", "no memory"), TraceError, "the tracing decoder failed: no memory"),
    ],
)
def test_error_line_becomes_an_exception_that_names_the_stream(
    event: ErrorEvent, kind: type[CodecpriorError], message: str
) -> None:
    error = stream_error(event, "clip.266")
    assert type(error) is kind
    assert str(error) == f"clip.266: {message}"
