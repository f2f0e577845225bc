"""YUV4MPEG2 files (``.y4m``): one header line, then a line and the planar samples for each frame."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final

from codecprior.errors import MediaError
from codecprior.media.planar import PlanarFile, PlanarLayout
from codecprior.media.source import DEFAULT_FRAME_RATE

__all__ = ["Y4MVideo", "is_y4m"]

_SIGNATURE: Final = b"YUV4MPEG2"
_LINE_BYTES: Final = 4096
"""Longest header line that is read before a file is called damaged."""
_RANGE_FIELD: Final = "XCOLORRANGE="
_CHROMA_FORMATS: Final = {"420": "4:2:0", "422": "4:2:2", "444": "4:4:4", None: "4:0:0"}
_COLOUR = re.compile(r"(?:(420|422|444)(?:jpeg|mpeg2|paldv)?(?:p(\d+))?|mono(\d+)?)")


class Y4MVideo(PlanarFile):
    """Frames of a YUV4MPEG2 file.

    Parameters
    ----------
    path : path-like
        File.
    frame_rate : fractions.Fraction, optional
        Frames per second if the header does not state them.

    Raises
    ------
    MediaError
        If the header is damaged or names a layout that is not read, or if the last frame is cut off.
    """

    def __init__(self, path: str | Path, *, frame_rate: Fraction | None = None) -> None:
        path = Path(path)
        with path.open("rb") as file:
            signature, *parameters = _read_line(file, path).split() or [""]
            if signature.encode() != _SIGNATURE:
                raise MediaError(f"{path}: does not begin with {_SIGNATURE.decode()}; it is no .y4m file")
            fields = {parameter[0]: parameter[1:] for parameter in parameters if parameter[0] != "X"}
            layout = _parse_layout(fields, path)
            offsets = _find_frames(file, layout, path)
        header_rate = _parse_rate(fields, path)
        ranges = [value.removeprefix(_RANGE_FIELD).lower() for value in parameters if value.startswith(_RANGE_FIELD)]
        super().__init__(
            path,
            layout,
            offsets,
            frame_rate=header_rate or frame_rate or DEFAULT_FRAME_RATE,
            frame_rate_from="header" if header_rate else "option" if frame_rate else "assumed",
            color_range=ranges[0] if ranges else None,
            interlaced=fields.get("I", "p") not in ("p", "?"),
        )


def is_y4m(head: bytes) -> bool:
    """Tell whether a file is YUV4MPEG2.

    Parameters
    ----------
    head : bytes
        First bytes of the file.

    Returns
    -------
    bool
        Whether they are its signature.
    """
    return head.startswith(_SIGNATURE)


def _read_line(file: BinaryIO, path: Path) -> str:
    line = file.readline(_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise MediaError(f"{path}: ends within a header line or is damaged; write it again")
    return line[:-1].decode("ascii", "replace")


def _parse_layout(fields: dict[str, str], path: Path) -> PlanarLayout:
    colour = fields.get("C", "420jpeg")
    found = _COLOUR.fullmatch(colour)
    depth = int(found[2] or found[3] or 8) if found else 0
    if not found or not 8 <= depth <= 16:
        raise MediaError(f"{path}: colour space C{colour} is not read; use 420, 422, 444 or mono with 8 to 16 bit")
    width, height = fields.get("W", ""), fields.get("H", "")
    if not (re.fullmatch("[1-9][0-9]*", width) and re.fullmatch("[1-9][0-9]*", height)):
        raise MediaError(f"{path}: the header states the size as W{width} H{height}; write the file again")
    return PlanarLayout(width=int(width), height=int(height), bit_depth=depth, chroma_format=_CHROMA_FORMATS[found[1]])


def _parse_rate(fields: dict[str, str], path: Path) -> Fraction | None:
    rate = fields.get("F", "0:0")
    found = re.fullmatch("([0-9]+):([0-9]+)", rate)
    if not found:
        raise MediaError(f"{path}: the header states the frame rate as F{rate}, not like F30:1; write the file again")
    numerator, denominator = int(found[1]), int(found[2])
    return Fraction(numerator, denominator) if numerator and denominator else None


def _find_frames(file: BinaryIO, layout: PlanarLayout, path: Path) -> list[int]:
    """Return where the samples of each frame begin; the lines before them may differ in length."""
    size_bytes = path.stat().st_size
    offsets: list[int] = []
    position = file.tell()
    while position < size_bytes:
        if _read_line(file, path).split(" ", 1)[0] != "FRAME":
            raise MediaError(f"{path}: frame {len(offsets)} does not begin with FRAME; the file is damaged")
        offsets.append(file.tell())
        position = file.seek(layout.frame_size_bytes, 1)
    if not offsets:
        raise MediaError(f"{path}: holds no frame")
    if position > size_bytes:
        raise MediaError(
            f"{path}: is truncated: frame {len(offsets) - 1} has {size_bytes - offsets[-1]} "
            f"of {layout.frame_size_bytes} bytes; write it again"
        )
    return offsets
