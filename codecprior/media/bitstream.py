"""VVC that is coded already: Annex B byte streams, bare or taken out of MP4, Matroska or transport streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Final

from av.bitstream import BitStreamFilterContext

from codecprior.errors import BitstreamError, MediaError
from codecprior.media.container import check_whole, opened_track
from codecprior.media.files import sha256_file
from codecprior.media.timeline import read_timeline

__all__ = ["BitstreamSource", "is_annex_b"]

_CHUNK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 4096
_START_CODE: Final = re.compile(rb"\x00{2,}\x01")
_LAYERS: Final = 64
"""Layer ids in a NAL unit header; the two bits above them are zero."""
_FIRST_UNIT_TYPES: Final = frozenset({12, 13, 14, 15, 16, 17, 20, 23})
"""NAL unit types a stream begins with (Rec. ITU-T H.266 table 5): OPI, DCI, VPS, SPS, PPS, prefix APS, AUD, SEI."""
_LATER_UNIT_TYPES: Final = frozenset({0, 1, 2, 3, 7, 8, 9, 10, 18, 19, 21, 22, 24, 25})
"""Those that come later: slices, suffix APS, picture header, ends of sequence and bitstream, suffix SEI, filler. What
was cut out of a stream begins with one; only in the base layer, where older codecs have no unit with the same bytes."""


class BitstreamSource:
    """A VVC stream to be decoded as it is.

    Parameters
    ----------
    path : path-like
        Annex B file, or a container whose main video track is VVC.
    frame_rate : fractions.Fraction, optional
        Frames per second where the file states none; an Annex B file never does here.

    Attributes
    ----------
    path : pathlib.Path
        File.
    container : str
        ``"annexb"`` or FFmpeg's name of the container format.
    frame_rate : fractions.Fraction or None
        Frames per second, None where unknown.
    pts_seconds : tuple of float or None
        Presentation times of the coded pictures in decoding order, None where the file has none. A picture that the
        decoder does not output has a time too.

    Raises
    ------
    BitstreamError
        If the file holds no VVC or is truncated.
    """

    kind: Final = "bitstream"

    def __init__(self, path: str | Path, *, frame_rate: Fraction | None = None) -> None:
        self.path = Path(path)
        self.frame_rate = frame_rate
        self.pts_seconds: tuple[float, ...] | None = None
        with self.path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if is_annex_b(head):
            self.container = "annexb"
            return
        if not head:
            raise BitstreamError(f"{self.path}: is empty")
        self._open_track()

    def chunks(self) -> Iterator[bytes]:
        """Read the stream in Annex B form.

        Yields
        ------
        bytes
            Pieces that join to the whole stream; cuts are anywhere.

        Raises
        ------
        BitstreamError
            If the file cannot be read to its end.
        """
        return self._annex_b_chunks() if self.container == "annexb" else self._track_chunks()

    def digest(self) -> str:
        """Return the SHA-256 of the file in hexadecimal."""
        return sha256_file(self.path)

    def __repr__(self) -> str:
        return f"BitstreamSource({self.path}, {self.container})"

    def _annex_b_chunks(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise BitstreamError(f"{self.path}: cannot be read ({error.strerror})") from error

    def _track_chunks(self) -> Iterator[bytes]:
        try:
            with opened_track(self.path) as (container, stream):
                to_annex_b = BitStreamFilterContext("vvc_mp4toannexb", stream)
                for packet in chain(container.demux(stream), [None]):
                    if packet is None or packet.size:
                        yield from map(bytes, to_annex_b.filter(packet))
        except MediaError as error:
            raise BitstreamError(str(error)) from error

    def _open_track(self) -> None:
        try:
            check_whole(self.path)
            with opened_track(self.path) as (container, stream):
                codec, self.container = stream.codec_context.name, container.format.name
            if self.container == "vvc":  # chosen by the extension alone
                raise BitstreamError(f"{self.path}: is no VVC Annex B stream; it does not begin with a NAL unit of one")
            if codec != "vvc":
                raise BitstreamError(f"{self.path}: holds {codec}, not VVC; give it an extension that says so")
            timeline = read_timeline(self.path)
        except MediaError as error:
            raise BitstreamError(f"{error} (it is no VVC Annex B stream either)") from error
        self.frame_rate = timeline.header_rate or self.frame_rate
        self.pts_seconds = tuple(float(pts * timeline.time_base) for pts in timeline.coded_pts) or None


def is_annex_b(head: bytes) -> bool:
    """Tell whether a file that begins with ``head`` is a VVC byte stream (Rec. ITU-T H.266 annex B).

    Streams of older codecs have the same start codes, but their first NAL unit header makes no sense in VVC.

    Parameters
    ----------
    head : bytes
        First bytes of the file.

    Returns
    -------
    bool
        Whether the first unit has a header that VVC allows there.
    """
    start = _START_CODE.match(head)
    if not start or len(head) < start.end() + 2:
        return False
    layer, kind = head[start.end()], head[start.end() + 1]
    allowed = _FIRST_UNIT_TYPES if layer else _FIRST_UNIT_TYPES | _LATER_UNIT_TYPES
    return layer < _LAYERS and kind >> 3 in allowed and kind & 7 > 0
