"""One frame as the encoder takes it: planar Y'CbCr 4:2:0, 8 or 10 bit, even size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecprior.errors import MediaError

__all__ = ["Frame", "Plane"]

Plane = NDArray[Any]
"""Samples of one colour plane, uint8 or uint16."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Frame:
    """One frame, ready for the encoder.

    Parameters
    ----------
    y : ndarray, shape (H, W), uint8 or uint16
        Luma; H and W are even. uint16 holds 10 bit samples, 0 to 1023.
    u, v : ndarray, shape (H / 2, W / 2), same dtype
        Chroma.
    pts_seconds : float
        Presentation time.

    Raises
    ------
    MediaError
        If the planes do not fit together.
    """

    y: Plane
    u: Plane
    v: Plane
    pts_seconds: float

    def __post_init__(self) -> None:
        height, width = self.y.shape
        chroma = (height // 2, width // 2)
        shapes_fit = not (height % 2 or width % 2) and self.u.shape == self.v.shape == chroma
        if (
            not shapes_fit
            or self.y.dtype not in (np.uint8, np.uint16)
            or {self.u.dtype, self.v.dtype} != {self.y.dtype}
        ):
            planes = ", ".join(f"{plane.dtype}{list(plane.shape)}" for plane in self.planes)
            raise MediaError(
                f"planes {planes} are no 4:2:0 frame; needs an even luma size and halved chroma of one type"
            )

    def __repr__(self) -> str:
        height, width = self.y.shape
        return f"Frame({width}x{height}, {self.bit_depth} bit, {self.pts_seconds:.3f} s)"

    @property
    def planes(self) -> tuple[Plane, Plane, Plane]:
        """Y, U and V."""
        return self.y, self.u, self.v

    @property
    def bit_depth(self) -> int:
        """Bits per sample: 8 or 10."""
        return 8 if self.y.dtype == np.uint8 else 10

    def buffers(self) -> Iterator[memoryview]:
        """Give the bytes of each plane without padding, for writing to a pipe; copies only rows that have gaps.

        Yields
        ------
        memoryview
            Rows of Y, then of U, then of V; 10 bit samples as 16 bit little endian (``yuv420p``, ``yuv420p10le``).
        """
        for plane in self.planes:
            little = plane.astype(plane.dtype.newbyteorder("<"), copy=False)
            yield np.ascontiguousarray(little).view(np.uint8).data.cast("B")

    def to_bytes(self) -> bytes:
        """Return all planes as one block of bytes, laid out as in :meth:`buffers`."""
        return b"".join(self.buffers())
