from __future__ import annotations

import cv2
import numpy as np
import pytest

from codecprior.core.stream import Box
from codecprior.visualization.colormap import RGB, heat_colors
from codecprior.visualization.comparison import BOX_COLORS, Pane, comparison_sheet
from codecprior.visualization.theme import BACKGROUND

BOXES = (Box(100, 40, 230, 180), Box(10, 20, 60, 30))


def frame(seed: int) -> RGB:
    noise = np.random.default_rng(seed).integers(0, 256, (360, 640, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def panes(count: int, **changes: object) -> list[Pane]:
    notes = {"note": "30.00 dB", "crop_notes": ("31.00 dB",) * len(BOXES), **changes}
    return [Pane(title=f"Method {number}", picture=frame(number), **notes) for number in range(count)]  # type: ignore[arg-type]


def holds(sheet: RGB, part: RGB) -> bool:
    height, width = part.shape[:2]
    places = zip(*np.nonzero((sheet == part[0, 0]).all(axis=-1)), strict=True)
    return any(np.array_equal(sheet[y : y + height, x : x + width], part) for y, x in places)


def test_parts_are_shown_as_they_are_and_framed_in_the_color_of_their_box() -> None:
    found = panes(3)
    sheet = comparison_sheet("walk, frame 3", found, BOXES)
    for pane in found:
        assert holds(sheet, pane.picture[40:220, 100:330][3:-3, 3:-3])
    for color in BOX_COLORS[:2]:
        assert (sheet == color).all(axis=-1).sum() > 4 * 50
    assert not (sheet == BOX_COLORS[2]).all(axis=-1).any()


@pytest.mark.parametrize(("count", "columns", "lines"), [(2, 2, 1), (5, 5, 1), (6, 3, 2), (11, 4, 3)])
def test_many_methods_stand_in_lines_of_equal_length(count: int, columns: int, lines: int) -> None:
    one = comparison_sheet("walk", panes(1), BOXES[:1])
    sheet = comparison_sheet("walk", panes(count), BOXES[:1])
    assert sheet.shape[1] - one.shape[1] == (columns - 1) * (230 + 14)
    assert (sheet.shape[0] > one.shape[0]) == (lines > 1)


def test_nothing_is_written_beyond_the_margin() -> None:
    long = panes(2, note="a remark that is far too long for one column of the sheet")
    long = [Pane(title=10 * each.title, picture=each.picture, note=each.note) for each in long]
    sheet = comparison_sheet(40 * "name ", long, BOXES)
    assert (sheet[:, -12:] == BACKGROUND).all()
    assert (sheet[:12] == BACKGROUND).all()


def test_heat_lies_over_the_grey_frame_on_one_scale_for_all() -> None:
    grey = np.full((360, 640, 3), 100, np.uint8)
    low, high = (Pane(title="a", picture=grey, heat=np.full((45, 80), value)) for value in (1.0, 3.0))
    sheet = comparison_sheet("walk", [low, high, *panes(1)], BOXES[:1], heat_unit="attention received")
    for value in (1.0, 3.0):
        expected = 0.7 * heat_colors(np.array(value), 1.0, 3.0) + 0.3 * 100
        assert (abs(sheet - expected) < 1).all(axis=-1).sum() > 0.9 * 230 * 129
    plain = comparison_sheet("walk", panes(3), BOXES[:1])
    assert sheet.shape[0] > plain.shape[0]
