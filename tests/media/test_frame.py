from __future__ import annotations

import numpy as np
import pytest

from codecprior.errors import MediaError
from codecprior.media import Frame


def test_bytes_are_the_planes_row_by_row_in_little_endian() -> None:
    y = np.arange(8, dtype=np.uint16).reshape(2, 4) + 256
    chroma = np.array([[1, 2]], np.uint16)
    frame = Frame(y=y, u=chroma, v=chroma + 2, pts_seconds=0)
    expected = [*range(256, 264), 1, 2, 3, 4]
    assert frame.to_bytes() == b"".join(value.to_bytes(2, "little") for value in expected)


def test_planes_without_gaps_are_not_copied_for_writing() -> None:
    y, chroma = np.zeros((4, 4), np.uint8), np.zeros((2, 2), np.uint8)
    buffer = next(Frame(y=y, u=chroma, v=chroma, pts_seconds=0).buffers())
    y[0, 0] = 7
    assert buffer[0] == 7


def test_planes_with_gaps_between_rows_are_written_without_them() -> None:
    wide = np.arange(24, dtype=np.uint8).reshape(2, 12)
    chroma = np.zeros((1, 2), np.uint8)
    frame = Frame(y=wide[:, :4], u=chroma, v=chroma, pts_seconds=0)
    assert frame.to_bytes() == bytes([0, 1, 2, 3, 12, 13, 14, 15, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("luma", "chroma"),
    [((3, 4), (1, 2)), ((4, 4), (2, 1)), ((4, 4), (4, 4))],
)
def test_planes_that_are_no_even_420_frame_are_refused(luma: tuple[int, int], chroma: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match=r"no 4:2:0 frame"):
        Frame(y=np.zeros(luma, np.uint8), u=np.zeros(chroma, np.uint8), v=np.zeros(chroma, np.uint8), pts_seconds=0)


def test_planes_of_mixed_types_are_refused() -> None:
    chroma = np.zeros((1, 1), np.uint16)
    with pytest.raises(MediaError, match=r"uint8\[2, 2\]"):
        Frame(y=np.zeros((2, 2), np.uint8), u=chroma, v=chroma, pts_seconds=0)


def test_repr_tells_size_and_depth() -> None:
    chroma = np.zeros((2, 3), np.uint16)
    assert (
        repr(Frame(y=np.zeros((4, 6), np.uint16), u=chroma, v=chroma, pts_seconds=1)) == "Frame(6x4, 10 bit, 1.000 s)"
    )
