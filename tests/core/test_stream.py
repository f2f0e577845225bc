from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.core.stream import CHROMA_SUBSAMPLING, Box, StreamInfo
from codecprior.errors import ConfigError

lengths = st.integers(1, 200)
corners = st.integers(0, 200)
boxes = st.builds(Box, corners, corners, lengths, lengths)


def make_stream(**facts: Any) -> StreamInfo:
    return StreamInfo(**{"codec": "vvc", "coded_size": (72, 56), "bit_depth": 10, "chroma_format": "4:2:0", **facts})


@given(boxes)
def test_grid_slices_touch_each_cell_of_the_box_and_no_other(box: Box) -> None:
    rows, cols = box.grid_slices
    assert set(range(rows.start, rows.stop)) == {y // 4 for y in range(box.y, box.y + box.height)}
    assert set(range(cols.start, cols.stop)) == {x // 4 for x in range(box.x, box.x + box.width)}


@given(boxes, st.sampled_from([(1, 1), (2, 1), (2, 2)]))
def test_plane_slices_cover_the_box_or_are_refused(box: Box, subsampling: tuple[int, int]) -> None:
    sx, sy = subsampling
    if box.x % sx or box.y % sy:
        with pytest.raises(ConfigError, match="falls between chroma samples"):
            box.plane_slices(subsampling)
        return
    rows, cols = box.plane_slices(subsampling)
    assert set(range(rows.start, rows.stop)) == {y // sy for y in range(box.y, box.y + box.height)}
    assert set(range(cols.start, cols.stop)) == {x // sx for x in range(box.x, box.x + box.width)}


@given(boxes, boxes)
def test_a_box_within_another_lies_inside_or_is_refused(outer: Box, inner: Box) -> None:
    if inner.x + inner.width > outer.width or inner.y + inner.height > outer.height:
        with pytest.raises(ConfigError, match="does not fit into"):
            outer.within(inner)
        return
    found = outer.within(inner)
    assert (found.x - outer.x, found.y - outer.y, found.width, found.height) == (
        inner.x,
        inner.y,
        inner.width,
        inner.height,
    )


def test_the_conformance_window_crops_the_coded_picture() -> None:
    stream = make_stream(conformance_window=(2, 4, 6, 8))
    assert stream.output_box == Box(2, 6, 66, 42)
    assert stream.output_size == (66, 42)
    assert stream.grid_shape == (14, 18)


@pytest.mark.parametrize("window", [(36, 36, 0, 0), (0, 0, 50, 7)])
def test_a_window_that_leaves_nothing_is_refused(window: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="leaves nothing of"):
        make_stream(conformance_window=window)


@pytest.mark.parametrize(
    ("chroma_format", "shapes"),
    [
        ("4:0:0", {"y": (56, 72)}),
        ("4:2:0", {"y": (56, 72), "u": (28, 36), "v": (28, 36)}),
        ("4:2:2", {"y": (56, 72), "u": (56, 36), "v": (56, 36)}),
        ("4:4:4", {"y": (56, 72), "u": (56, 72), "v": (56, 72)}),
    ],
)
def test_planes_have_the_shape_of_their_chroma_format(chroma_format: str, shapes: dict[str, tuple[int, int]]) -> None:
    stream = make_stream(chroma_format=chroma_format)
    assert {plane: stream.plane_shape(plane) for plane in stream.planes} == shapes
    for plane in {"y", "u", "v", "yu", "uv", "a", ""} - shapes.keys():
        with pytest.raises(ConfigError, match=f"a {chroma_format} stream has the planes {', '.join(shapes)}"):
            stream.plane_shape(plane)


@given(lengths, lengths, st.sampled_from(sorted(CHROMA_SUBSAMPLING)))
def test_the_box_of_a_whole_picture_covers_whole_maps_and_planes(width: int, height: int, chroma_format: str) -> None:
    stream = make_stream(coded_size=(width, height), chroma_format=chroma_format)
    whole = stream.output_box
    assert tuple(part.stop for part in whole.grid_slices) == stream.grid_shape
    for plane in stream.planes:
        assert tuple(part.stop for part in whole.plane_slices(stream.subsampling(plane))) == stream.plane_shape(plane)


def test_an_unknown_chroma_format_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"chroma format '4:1:1': use one of 4:0:0, 4:2:0, 4:2:2, 4:4:4"):
        make_stream(chroma_format="4:1:1")
