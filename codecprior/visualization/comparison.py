"""One frame as several methods have it: the whole frame with boxes, and what is in them, enlarged, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.core.stream import Box
from codecprior.visualization.colormap import RGB, heat_colors
from codecprior.visualization.legends import heat_legend
from codecprior.visualization.maps import resize
from codecprior.visualization.theme import TextStyle, Theme, blank

__all__ = ["BOX_COLORS", "Pane", "comparison_sheet"]

BOX_COLORS: Final = ((255, 92, 92), (92, 214, 128), (96, 168, 255), (255, 204, 72))
"""Frames of boxes, in turn."""

_MARGIN: Final = 16
_GUTTER: Final = 14
_COLUMN: Final = 230
_COLUMNS: Final = 5
_HEADER: Final = 30
_LINE: Final = 22
_RIM: Final = 2
_NOTE_GAP: Final = 6
_HEAT_SHARE: Final = 0.7
"""Of a heat map over the grey frame."""
_SCALE: Final = (0.005, 0.995)
"""Shares of values that lie below the first and the last colour."""
_LEAST_RANGE: Final = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Pane:
    """A frame as one method has it.

    Parameters
    ----------
    title : str
        Name of the method.
    picture : ndarray, shape (H, W, 3), uint8
        The frame.
    note : str
        About the frame, such as its PSNR.
    crop_notes : tuple of str
        The same about each box.
    heat : ndarray, shape (h, w), optional
        A map over the frame, on any grid.
    """

    title: str
    picture: RGB
    note: str = ""
    crop_notes: tuple[str, ...] = ()
    heat: NDArray[Any] | None = None


def comparison_sheet(heading: str, panes: Sequence[Pane], boxes: Sequence[Box], *, heat_unit: str = "") -> RGB:
    """Draw a frame once as a whole, and what each method has in the boxes.

    Parameters
    ----------
    heading : str
        What stands above.
    panes : sequence of Pane
        Methods; the first one is shown as a whole, too.
    boxes : sequence of Box
        Parts of the frame.
    heat_unit : str
        What heat maps show.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        The sheet.
    """
    look = _Look(boxes=boxes, heat=_range([pane.heat for pane in panes if pane.heat is not None]), theme=Theme())
    px = look.theme.px
    margin, gutter, header = px(_MARGIN), px(_GUTTER), px(_HEADER)
    left = [_whole(panes[0], 2 * look.column + gutter, look)]
    if look.heat is not None:
        left.append(heat_legend(left[0].shape[1], *look.heat, heat_unit, look.theme))
    per_line = -(-len(panes) // -(-len(panes) // _COLUMNS))
    lines = [panes[start : start + per_line] for start in range(0, len(panes), per_line)]
    grid = [_beside([_stacked(list(_pane(pane, look)), 0) for pane in line], gutter) for line in lines]
    body = _beside([_stacked(left, gutter), _stacked(grid, gutter)], gutter)
    sheet = blank(body.shape[1] + 2 * margin, body.shape[0] + 2 * margin + header)
    look.theme.headline.draw(sheet, look.theme.headline.fit(heading, body.shape[1]), margin, margin)
    sheet[margin + header :][: len(body), margin : margin + body.shape[1]] = body
    return sheet


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What all parts of a sheet have in common."""

    boxes: Sequence[Box]
    heat: tuple[float, float] | None
    theme: Theme

    @property
    def column(self) -> int:
        return self.theme.px(_COLUMN)


def _range(heats: Sequence[NDArray[Any]]) -> tuple[float, float] | None:
    """Return the ends of one colour scale for all maps, which leaves out a few extremes."""
    if not heats:
        return None
    values = np.concatenate([heat.ravel() for heat in heats])
    low, high = (float(np.quantile(values, share)) for share in _SCALE)
    return low, max(high, low + _LEAST_RANGE)


def _whole(pane: Pane, width: int, look: _Look) -> RGB:
    scale = width / pane.picture.shape[1]
    picture = _scaled(pane.picture, width)
    for number, box in enumerate(look.boxes):
        x, y, right, bottom = (round(side * scale) for side in (box.x, box.y, box.x + box.width, box.y + box.height))
        cv2.rectangle(picture, (x, y), (right - 1, bottom - 1), _color(number), look.theme.px(_RIM))
    return picture


def _pane(pane: Pane, look: _Look) -> Iterator[RGB]:
    """Give the parts of a column from top to bottom."""
    width, theme = look.column, look.theme
    yield _text(pane.title, width, theme.title, theme)
    yield _text(pane.note, width, theme.body, theme)
    if look.heat is not None:
        frame, gap = _scaled(pane.picture, width), blank(width, theme.px(_GUTTER))
        yield from (frame, gap)
        yield blank(width, len(frame)) if pane.heat is None else _heated(frame, pane.heat, look.heat)
        yield gap
    for number, box in enumerate(look.boxes):
        crop = _scaled(pane.picture[box.y : box.y + box.height, box.x : box.x + box.width], width)
        cv2.rectangle(crop, (0, 0), (width - 1, len(crop) - 1), _color(number), theme.px(_RIM))
        yield crop
        yield blank(width, theme.px(_NOTE_GAP))
        yield _text(pane.crop_notes[number] if pane.crop_notes else "", width, theme.body, theme)


def _heated(frame: RGB, heat: NDArray[Any], ends: tuple[float, float]) -> RGB:
    height, width = frame.shape[:2]
    smooth = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    mixed = _HEAT_SHARE * heat_colors(smooth, *ends) + (1 - _HEAT_SHARE) * grey
    return np.rint(mixed).astype(np.uint8)


def _scaled(picture: RGB, width: int) -> RGB:
    """Bring a picture to a width, smoothly where it grows, and return a copy."""
    size = width, max(1, round(picture.shape[0] * width / picture.shape[1]))
    if width <= picture.shape[1]:
        return resize(picture, size).copy()
    return cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)


def _text(text: str, width: int, style: TextStyle, theme: Theme) -> RGB:
    line = blank(width, theme.px(_LINE))
    style.draw(line, style.fit(text, width), 0, 0)
    return line


def _color(number: int) -> tuple[int, int, int]:
    return BOX_COLORS[number % len(BOX_COLORS)]


def _stacked(pictures: Sequence[RGB], gap: int) -> RGB:
    return np.swapaxes(_beside([np.swapaxes(each, 0, 1) for each in pictures], gap), 0, 1)


def _beside(pictures: Sequence[RGB], gap: int) -> RGB:
    width = sum(each.shape[1] for each in pictures) + gap * (len(pictures) - 1)
    row = blank(width, max(len(each) for each in pictures))
    left = 0
    for each in pictures:
        row[: len(each), left : left + each.shape[1]] = each
        left += each.shape[1] + gap
    return row
