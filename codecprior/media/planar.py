"""Frames at known places of a file of raw planar samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BufferedReader
from pathlib import Path

import numpy as np

from codecprior.core.stream import CHROMA_SUBSAMPLING
from codecprior.errors import MediaError
from codecprior.media.convert import describe_conversion, pad_to_even, planar_to_yuv420
from codecprior.media.files import sha256_file
from codecprior.media.frame import Frame, Plane
from codecprior.media.source import FrameSource, Provenance, SourceInfo, pass_order

__all__ = ["PlanarFile", "PlanarLayout"]


@dataclass(frozen=True, kw_only=True)
class PlanarLayout:
    """How the samples of one frame lie in a file: Y, U, V, row by row, without gaps.

    Parameters
    ----------
    width, height : int
        Size in luma samples.
    bit_depth : int
        Bits per sample; above 8, samples are 16 bit little endian words.
    chroma_format : str
        ``"4:0:0"``, ``"4:2:0"``, ``"4:2:2"`` or ``"4:4:4"``.
    """

    width: int
    height: int
    bit_depth: int
    chroma_format: str

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of a sample in the file."""
        return np.dtype("u1") if self.bit_depth == 8 else np.dtype("<u2")

    @property
    def plane_shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each plane; odd sizes have their half sample of chroma rounded up."""
        luma = (self.height, self.width)
        subsampling = CHROMA_SUBSAMPLING[self.chroma_format]
        if subsampling is None:
            return (luma,)
        chroma = (-(-self.height // subsampling[1]), -(-self.width // subsampling[0]))
        return luma, chroma, chroma

    @property
    def frame_size_bytes(self) -> int:
        """Bytes of one frame."""
        return sum(height * width for height, width in self.plane_shapes) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.chroma_format} {self.bit_depth} bit"


class PlanarFile(FrameSource):
    """Frames of a file of raw planar samples.

    Parameters
    ----------
    path : pathlib.Path
        File.
    layout : PlanarLayout
        Layout of each frame.
    offsets : sequence of int
        Position of the samples of each frame, in bytes.
    frame_rate : fractions.Fraction
        Frames per second.
    frame_rate_from : str
        Who says so.
    color_range : str, optional
        ``"limited"`` or ``"full"`` where the file tells.
    interlaced : bool
        Whether the file says that its frames are pairs of fields, which are then kept woven.
    """

    def __init__(
        self,
        path: Path,
        layout: PlanarLayout,
        offsets: Sequence[int],
        *,
        frame_rate: Fraction,
        frame_rate_from: Provenance,
        color_range: str | None = None,
        interlaced: bool = False,
    ) -> None:
        super().__init__(
            SourceInfo(
                path=path,
                kind="raw",
                width=layout.width,
                height=layout.height,
                bit_depth=layout.bit_depth,
                chroma_format=layout.chroma_format,
                frame_rate=frame_rate,
                frame_rate_from=frame_rate_from,
                num_frames=len(offsets),
                num_frames_from="file size",
                color_range=color_range,
                conversion=describe_conversion(layout.chroma_format, layout.bit_depth, interlaced=interlaced),
            )
        )
        self._layout = layout
        self._offsets = offsets

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        return sha256_file(self.info.path)

    def _frames(self, start: int, reverse: bool) -> Iterator[Frame]:
        try:
            with self.info.path.open("rb") as file:
                for index in pass_order(len(self._offsets), start, reverse):
                    y, u, v = pad_to_even(self._read(file, index))
                    yield Frame(y=y, u=u, v=v, pts_seconds=float(index / self.info.frame_rate))
        except OSError as error:
            raise MediaError(f"{self.info.path}: cannot be read ({error.strerror})") from error

    def _read(self, file: BufferedReader, index: int) -> tuple[Plane, Plane, Plane]:
        layout = self._layout
        samples = np.empty(layout.frame_size_bytes // layout.dtype.itemsize, layout.dtype)
        file.seek(self._offsets[index])
        if file.readinto(samples.view(np.uint8).data) != samples.nbytes:
            raise MediaError(f"{self.info.path}: became shorter while it was read, at frame {index}")
        peak = int(samples.max())
        if peak >> layout.bit_depth:
            raise MediaError(
                f"{self.info.path}: frame {index} has a sample of {peak}, more than {layout.bit_depth} bit allow; "
                "state the bit depth (samples are 16 bit little endian)"
            )
        planes, first = [], 0
        for height, width in layout.plane_shapes:
            planes.append(samples[first : first + height * width].reshape(height, width))
            first += height * width
        return planar_to_yuv420(tuple(planes), layout.chroma_format, layout.bit_depth)
