"""What the tracing decoder emits: JSON lines about pictures, whose arrays lie in slots of shared memory.

The writing side is ``native/tracer.cpp``. No process is started here, so recorded lines are enough to test it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import PictureType
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.errors import BitstreamError, ExtractionError, TraceError, UnsupportedStreamError

__all__ = [
    "ArrayLayout",
    "EndEvent",
    "ErrorEvent",
    "Event",
    "MvRangeError",
    "PictureEvent",
    "StreamEvent",
    "WarningEvent",
    "parse_event",
    "slot_arrays",
    "stream_error",
]

_VVDEC_REASON = re.compile(r"ERROR: In function .*?:\d+: (?P<reason>.*?)\s*(?:ERROR CONDITION: .*)?$")
_UNSUPPORTED = {
    "not yet supported": None,
    "not supported": None,
    "not implemented": None,
    "Invalid VPS": "streams of several layers are not supported by VVdeC",
    "nuh_layer_id": "streams of several layers are not supported by VVdeC",
    "range supported by signalled profile": "its profile is not supported by VVdeC, which knows those of VVC version 1",
    "High bit depth support": "more than 12 bits are not supported by VVdeC",
}
"""Parts of VVdeC's messages that say that a stream may be sound, and what to say instead where they are no help."""
_CHROMA_FORMATS = ("4:0:0", "4:2:0", "4:2:2", "4:4:4")


class MvRangeError(TraceError):
    """A motion vector needs more than 16 bits: trace again with wide vectors."""


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """Where an array lies within a slot.

    Parameters
    ----------
    dtype : numpy.dtype
        Element type.
    offset : int
        Bytes from the start of the slot.
    shape : tuple of int
        Rows, columns and, for vectors, components.
    """

    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    """The first picture was found: facts of the stream and the layout of a slot.

    Parameters
    ----------
    stream : StreamInfo
        Size, depth and format of all pictures.
    slot_bytes : int
        Distance between two slots in the shared memory.
    arrays : mapping of str to ArrayLayout
        The arrays of a slot by name.
    """

    stream: StreamInfo
    slot_bytes: int
    arrays: Mapping[str, ArrayLayout]


@dataclass(frozen=True, kw_only=True)
class PictureEvent:
    """A picture was output.

    Parameters
    ----------
    slot : int or None
        Slot with its arrays; None for a concealed picture.
    picture : PictureInfo
        Facts of the picture; ``pts_seconds`` is left at 0.
    """

    slot: int | None
    picture: PictureInfo


@dataclass(frozen=True)
class WarningEvent:
    """The decoder skipped something, such as pictures before the first entry point."""

    message: str


@dataclass(frozen=True)
class ErrorEvent:
    """Decoding ended with an error.

    Parameters
    ----------
    kind : str
        ``"bitstream"``, ``"unsupported"``, ``"mv_range"`` or ``"internal"``.
    message : str
        One line.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class EndEvent:
    """All pictures were output."""

    num_pictures: int


Event = StreamEvent | PictureEvent | WarningEvent | ErrorEvent | EndEvent


def parse_event(line: bytes) -> Event:
    """Read one line of the tracing decoder.

    Parameters
    ----------
    line : bytes
        A JSON object.

    Returns
    -------
    Event
        What it says.

    Raises
    ------
    TraceError
        If the line is not one that the tracing decoder writes.
    """
    try:
        fields = json.loads(line)
        return _PARSERS[fields.pop("event")](fields)
    except (ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise TraceError(f"the tracing decoder wrote {line[:80]!r}, which is not in its format ({error!r})") from error


def _stream(fields: dict[str, Any]) -> StreamEvent:
    rate = fields.get("frame_rate")
    stream = StreamInfo(
        codec="vvc",
        coded_size=tuple(fields["coded_size"]),
        conformance_window=tuple(fields["conformance_window"]),
        bit_depth=fields["bit_depth"],
        chroma_format=_CHROMA_FORMATS[fields["chroma_format_idc"]],
        frame_rate=Fraction(*rate) if rate else None,
    )
    arrays = {
        name: ArrayLayout(dtype=np.dtype(array["dtype"]), offset=array["offset"], shape=tuple(array["shape"]))
        for name, array in fields["arrays"].items()
    }
    return StreamEvent(stream=stream, slot_bytes=fields["slot_bytes"], arrays=arrays)


def _picture(fields: dict[str, Any]) -> PictureEvent:
    slot = fields.pop("slot")
    picture_type = PictureType(fields.pop("picture_type"))
    return PictureEvent(slot=slot if slot >= 0 else None, picture=PictureInfo(picture_type=picture_type, **fields))


_PARSERS: Mapping[str, Callable[[dict[str, Any]], Event]] = {
    "stream": _stream,
    "picture": _picture,
    "warning": lambda fields: WarningEvent(fields["message"]),
    "error": lambda fields: ErrorEvent(fields["kind"], fields["message"]),
    "end": lambda fields: EndEvent(fields["num_pictures"]),
}


def slot_arrays(memory: Any, layout: StreamEvent) -> dict[str, NDArray[Any]]:
    """View the arrays of a slot.

    Parameters
    ----------
    memory : buffer
        The slot's bytes.
    layout : StreamEvent
        The layout.

    Returns
    -------
    dict of str to ndarray
        Views, valid until the slot is released.
    """
    return {
        name: np.frombuffer(memory, array.dtype, array.size_bytes // array.dtype.itemsize, array.offset).reshape(
            array.shape
        )
        for name, array in layout.arrays.items()
    }


def stream_error(event: ErrorEvent, name: str) -> ExtractionError:
    """Turn an error event into an exception.

    Parameters
    ----------
    event : ErrorEvent
        What the tracing decoder said.
    name : str
        The stream, for the message.

    Returns
    -------
    ExtractionError
        To raise.
    """
    if event.kind == "mv_range":
        return MvRangeError(f"{name}: {event.message}")
    reason = _shortened(event.message)
    known = next((part for part in _UNSUPPORTED if part in reason), None)
    if event.kind == "unsupported" or known:
        return UnsupportedStreamError(f"{name}: {(known and _UNSUPPORTED[known]) or reason}")
    if event.kind == "bitstream":
        return BitstreamError(f"{name}: broken or truncated VVC stream: {reason}")
    return TraceError(f"{name}: the tracing decoder failed: {reason}")


def _shortened(message: str) -> str:
    """Keep the reason of a VVdeC message, without its own function, file, line and condition."""
    found = _VVDEC_REASON.search(message)
    return (found["reason"] if found else message).strip()
