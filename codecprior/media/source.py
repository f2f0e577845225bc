"""What a source of frames is: facts about it, and frames in either direction, as often as they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

from codecprior.errors import ConfigError
from codecprior.media.convert import frame_bit_depth
from codecprior.media.frame import Frame

__all__ = ["DEFAULT_FRAME_RATE", "FrameSource", "Provenance", "SourceInfo", "SourceKind", "pass_order"]

DEFAULT_FRAME_RATE: Final = Fraction(30)
"""Frames per second assumed where neither the input nor the caller states a rate."""

SourceKind = Literal["images", "video", "raw", "bitstream"]
"""Folder of pictures, video file, raw planar video (.yuv, .y4m), coded VVC."""

Provenance = Literal["header", "packets", "files", "file size", "file name", "option", "assumed"]
"""Where a number was taken from."""


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """Facts of a source that do not change from frame to frame.

    Parameters
    ----------
    path : pathlib.Path
        File or folder.
    kind : SourceKind
        What the path is.
    width, height : int
        Size in luma samples as the source has it, after rotation.
    bit_depth : int
        Bits per sample of the source, 8 to 16.
    chroma_format : str
        ``"4:0:0"``, ``"4:2:0"``, ``"4:2:2"``, ``"4:4:4"`` or ``"rgb"``, of the source.
    frame_rate : fractions.Fraction
        Frames per second; the mean where it varies.
    frame_rate_from : str
        Who says so: ``"header"``, ``"packets"``, ``"file name"``, ``"option"`` or ``"assumed"``.
    num_frames : int, optional
        Number of frames. Exact for ``"files"`` and ``"file size"``; ``"packets"`` counts coded frames of a video, of
        which a decoder may keep some to itself.
    num_frames_from : str, optional
        Who says so.
    variable_frame_rate : bool
        Whether the time between frames differs; the frames are given as they are, with their times.
    color_range : {"limited", "full"}, optional
        Range of the samples of the frames given out, None where unknown.
    color_matrix : str, optional
        Matrix of the frames given out, such as ``"bt709"``, None where unknown.
    conversion : str
        What was done to the samples on the way from the source to the frames, ``""`` for nothing.
    """

    path: Path
    kind: SourceKind
    width: int
    height: int
    bit_depth: int
    chroma_format: str
    frame_rate: Fraction
    frame_rate_from: Provenance
    num_frames: int | None = None
    num_frames_from: Provenance | None = None
    variable_frame_rate: bool = False
    color_range: str | None = None
    color_matrix: str | None = None
    conversion: str = ""

    @property
    def frame_bit_depth(self) -> int:
        """Bits per sample of the frames given out: 8 or 10."""
        return frame_bit_depth(self.bit_depth)

    @property
    def padding(self) -> tuple[int, int]:
        """Luma columns (right) and rows (bottom) that repeat the edge to make the size even, as 4:2:0 coding needs."""
        return self.width % 2, self.height % 2

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height of the frames given out, padding included."""
        right, bottom = self.padding
        return self.width + right, self.height + bottom

    @property
    def frame_size_bytes(self) -> int:
        """Bytes of one frame given out."""
        width, height = self.frame_size
        return width * height * 3 // 2 * (1 if self.frame_bit_depth == 8 else 2)


class FrameSource(ABC):
    """A sequence of frames that can be read again and again, in both directions, in memory that does not grow with it.

    Files are open only while a pass runs.

    Parameters
    ----------
    info : SourceInfo
        Facts of the source.
    """

    def __init__(self, info: SourceInfo) -> None:
        self._info = info

    @property
    def info(self) -> SourceInfo:
        """Facts of the source."""
        return self._info

    @property
    def names(self) -> tuple[str, ...] | None:
        """File name of each frame in display order, None where frames have no names."""
        return None

    def frames(self, *, start: int = 0, reverse: bool = False) -> Iterator[Frame]:
        """Read frames in display order or backwards.

        Parameters
        ----------
        start : int
            How many frames to leave out at the beginning of the pass (at the end of the clip when reversed).
        reverse : bool
            Whether to begin with the last frame. Presentation times stay those of the frames.

        Returns
        -------
        iterator of Frame
            Frames of one size and bit depth.

        Raises
        ------
        ConfigError
            If ``start`` is negative.
        MediaError
            While iterating, if a frame cannot be read.
        """
        if start < 0:
            raise ConfigError(f"start {start}: give the number of frames to leave out, 0 or more")
        return self._frames(start, reverse)

    @abstractmethod
    def _frames(self, start: int, reverse: bool) -> Iterator[Frame]:
        """Do the work of :meth:`frames`."""

    @abstractmethod
    def digest(self) -> str:
        """Identify the content.

        Returns
        -------
        str
            SHA-256 in hexadecimal of the file, or of the names and contents of the files of a folder.
        """

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __repr__(self) -> str:
        info = self.info
        count = "?" if info.num_frames is None else info.num_frames
        return f"{type(self).__name__}({info.path}, {info.width}x{info.height}, {info.bit_depth} bit, {count} frames)"


def pass_order(num_frames: int, start: int, reverse: bool) -> range:
    """Return the frame indices of one pass over a source that can read any frame.

    Parameters
    ----------
    num_frames : int
        Length of the sequence.
    start : int
        Frames to leave out at the beginning of the pass.
    reverse : bool
        Whether the pass runs backwards.

    Returns
    -------
    range
        Frame indices in display order or reversed.
    """
    order = range(num_frames)
    return (order[::-1] if reverse else order)[start:]
