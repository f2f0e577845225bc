"""Facts of a coded video stream and of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from codecprior.core.arrays import CELL, PictureType
from codecprior.errors import ConfigError

__all__ = ["CHROMA_SUBSAMPLING", "Box", "PictureInfo", "StreamInfo"]

CHROMA_SUBSAMPLING: Final = {"4:0:0": None, "4:2:0": (2, 2), "4:2:2": (2, 1), "4:4:4": (1, 1)}
"""Luma samples per chroma sample, (horizontal, vertical), by chroma format; None without chroma."""


@dataclass(frozen=True)
class Box:
    """A rectangle in luma samples.

    Parameters
    ----------
    x, y : int
        Left and top sample.
    width, height : int
        Size in samples.
    """

    x: int
    y: int
    width: int
    height: int

    @property
    def grid_slices(self) -> tuple[slice, slice]:
        """Rows and columns of the 4x4 grid that the box touches."""
        return (
            slice(self.y // CELL, -(-(self.y + self.height) // CELL)),
            slice(self.x // CELL, -(-(self.x + self.width) // CELL)),
        )

    def plane_slices(self, subsampling: tuple[int, int] = (1, 1)) -> tuple[slice, slice]:
        """Rows and columns of a plane with the given subsampling (horizontal, vertical)."""
        sx, sy = subsampling
        if self.x % sx or self.y % sy:
            raise ConfigError(
                f"crop origin ({self.x}, {self.y}) falls between chroma samples; "
                f"use multiples of {sx} horizontally and {sy} vertically"
            )
        return (
            slice(self.y // sy, -(-(self.y + self.height) // sy)),
            slice(self.x // sx, -(-(self.x + self.width) // sx)),
        )

    def within(self, inner: Box) -> Box:
        """``inner``, given relative to this box, in the coordinates of this box; refuses what sticks out."""
        fits = inner.x >= 0 and inner.y >= 0 and inner.width > 0 and inner.height > 0
        if not (fits and inner.x + inner.width <= self.width and inner.y + inner.height <= self.height):
            raise ConfigError(
                f"crop {inner.width}x{inner.height} at ({inner.x}, {inner.y}) does not fit "
                f"into {self.width}x{self.height}"
            )
        return Box(self.x + inner.x, self.y + inner.y, inner.width, inner.height)


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """What is the same for all pictures of a stream.

    Parameters
    ----------
    codec : str
        ``"vvc"``.
    coded_size : tuple of int
        Width and height of the decoded luma plane before cropping, in samples.
    conformance_window : tuple of int
        Luma samples to crop at left, right, top and bottom.
    bit_depth : int
        Bits per sample.
    chroma_format : str
        ``"4:0:0"``, ``"4:2:0"``, ``"4:2:2"`` or ``"4:4:4"``.
    frame_rate : fractions.Fraction, optional
        Frames per second, where known.
    mv_scale : int
        Motion vector units per luma sample (VVC: 16).
    """

    codec: str
    coded_size: tuple[int, int]
    conformance_window: tuple[int, int, int, int] = (0, 0, 0, 0)
    bit_depth: int
    chroma_format: str
    frame_rate: Fraction | None = None
    mv_scale: int = 16

    def __post_init__(self) -> None:
        if self.chroma_format not in CHROMA_SUBSAMPLING:
            raise ConfigError(f"chroma format {self.chroma_format!r}: use one of {', '.join(CHROMA_SUBSAMPLING)}")
        if min(self.output_size) < 1:
            raise ConfigError(f"conformance window {self.conformance_window} leaves nothing of {self.coded_size}")

    @property
    def output_box(self) -> Box:
        """The conformance window as a box in the coded picture."""
        left, right, top, bottom = self.conformance_window
        width, height = self.coded_size
        return Box(left, top, width - left - right, height - top - bottom)

    @property
    def output_size(self) -> tuple[int, int]:
        """Width and height after cropping to the conformance window."""
        return self.output_box.width, self.output_box.height

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of the 4x4 grid over the coded picture."""
        width, height = self.coded_size
        return -(-height // CELL), -(-width // CELL)

    @property
    def planes(self) -> str:
        """Names of the colour planes: ``"y"`` or ``"yuv"``."""
        return "y" if self.chroma_format == "4:0:0" else "yuv"

    def subsampling(self, plane: str) -> tuple[int, int]:
        """Luma samples per sample of ``plane``, (horizontal, vertical)."""
        if plane == "y":
            return 1, 1
        chroma = CHROMA_SUBSAMPLING[self.chroma_format]
        if chroma is None or plane not in ("u", "v"):
            raise ConfigError(f"plane {plane!r}: a {self.chroma_format} stream has the planes {', '.join(self.planes)}")
        return chroma

    def plane_shape(self, plane: str) -> tuple[int, int]:
        """Rows and columns of ``plane`` in the coded picture."""
        sx, sy = self.subsampling(plane)
        width, height = self.coded_size
        return -(-height // sy), -(-width // sx)


@dataclass(frozen=True, kw_only=True)
class PictureInfo:
    """Facts of one coded picture.

    Parameters
    ----------
    poc : int
        Picture order count. Repeats after an IDR: unique only within one coded video sequence.
    decode_order : int
        Position in the bitstream, from 0.
    cvs : int
        Number of the coded video sequence that the picture belongs to, from 0.
    picture_type : PictureType
        The highest slice type in the picture.
    slice_qp : int
        Luma QP of the first slice.
    coded_size_bytes : int
        Bytes of the picture's slice data in the bitstream.
    lmcs : int
        Bit 0: the luma residual is in the mapped domain. Bit 1: the chroma residual is before chroma scaling.
    pts_seconds : float
        Presentation time.
    has_priors : bool
        False for a picture that the decoder concealed.
    """

    poc: int
    decode_order: int
    cvs: int = 0
    picture_type: PictureType
    slice_qp: int
    coded_size_bytes: int = 0
    lmcs: int = 0
    pts_seconds: float = 0.0
    has_priors: bool = True
