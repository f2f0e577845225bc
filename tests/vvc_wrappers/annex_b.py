"""Byte streams of Rec. ITU-T H.266, annex B, taken apart into NAL units and put together again."""

from __future__ import annotations

import re
from collections.abc import Iterable

RASL, IDR_W_RADL, IDR_N_LP, CRA, LAST_SLICE = 3, 7, 8, 9, 11
SPS, PPS, PICTURE_HEADER, ACCESS_UNIT_DELIMITER, END_OF_SEQUENCE, END_OF_BITSTREAM, FILLER = 15, 16, 19, 20, 21, 22, 25


def nal_units(stream: bytes) -> list[bytes]:
    """Give the units without start codes."""
    starts = [match.start() for match in re.finditer(b"\0\0\1", stream)]
    return [
        stream[start + 3 : end].rstrip(b"\0") for start, end in zip(starts, [*starts[1:], len(stream)], strict=True)
    ]


def joined(units: Iterable[bytes], start_code: bytes = b"\0\0\0\1") -> bytes:
    """Put a start code before each unit."""
    return b"".join(start_code + unit for unit in units)


def unit(kind: int, payload: bytes = b"") -> bytes:
    """Make a unit of the base layer and lowest sublayer."""
    return bytes([0, kind << 3 | 1]) + payload


def kind(unit: bytes) -> int:
    """Return nal_unit_type."""
    return unit[1] >> 3


def temporal_id(unit: bytes) -> int:
    """Return TemporalId."""
    return (unit[1] & 7) - 1


def is_slice(unit: bytes) -> bool:
    """Tell whether the unit holds coded samples."""
    return kind(unit) <= LAST_SLICE
