"""Letters, colours and distances of labelled pictures.

Text uses the fonts that OpenCV carries: outlines in OpenCV 5, strokes in OpenCV 4.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from codecprior.visualization.colormap import RGB

__all__ = ["BACKGROUND", "TextStyle", "Theme", "blank"]

BACKGROUND: Final = (22, 24, 29)
"""Colour of everything that is no picture."""

_ELLIPSIS: Final = "..."


@dataclass(frozen=True)
class TextStyle:
    """Size, weight and colour of a line of text.

    Parameters
    ----------
    scale : float
        OpenCV's font scale; 0.46 gives capitals about 9 pixels high.
    color : tuple of int
        Red, green, blue.
    bold : bool
        Whether to use the heavier font.
    """

    scale: float
    color: tuple[int, int, int]
    bold: bool = False

    @property
    def height(self) -> int:
        """Height of a capital letter in pixels."""
        return _cap_height(self._font, self.scale)

    def width(self, text: str) -> int:
        """Width of a text in pixels."""
        (width, _), _ = cv2.getTextSize(text, self._font, self.scale, 1)
        return int(width)

    def draw(self, picture: RGB, text: str, left: int, top: int) -> None:
        """Write a text into a picture, the upper left corner of its capitals at (left, top)."""
        origin = (left, top + self.height)
        cv2.putText(picture, text, origin, self._font, self.scale, self.color, 1, cv2.LINE_AA)

    def fit(self, text: str, width: int) -> str:
        """Shorten a text from the right, ending in three dots, until it is no wider than ``width`` pixels."""
        if self.width(text) <= width:
            return text
        while text and self.width(text + _ELLIPSIS) > width:
            text = text[:-1]
        return text + _ELLIPSIS

    @property
    def _font(self) -> int:
        return cv2.FONT_HERSHEY_DUPLEX if self.bold else cv2.FONT_HERSHEY_SIMPLEX


@functools.cache
def _cap_height(font: int, scale: float) -> int:
    # OpenCV 5 reports the height of the line, OpenCV 4 that of a capital: only ink tells.
    baseline = math.ceil(50 * scale)
    sample = np.zeros((baseline + 1, baseline), np.uint8)
    cv2.putText(sample, "H", (0, baseline), font, scale, 255, 1, cv2.LINE_AA)
    return baseline - int(np.argmax(sample.max(axis=1) > 127))


@dataclass(frozen=True)
class Theme:
    """The look of a panel.

    Parameters
    ----------
    zoom : float
        1 for pictures of about 640 pixels; larger ones get larger letters.
    """

    zoom: float = 1.0

    @property
    def headline(self) -> TextStyle:
        """For the name of the sequence."""
        return TextStyle(0.64 * self.zoom, (240, 242, 245), bold=True)

    @property
    def title(self) -> TextStyle:
        """For the heading of a picture."""
        return TextStyle(0.52 * self.zoom, (232, 234, 237), bold=True)

    @property
    def body(self) -> TextStyle:
        """For values and labels."""
        return TextStyle(0.46 * self.zoom, (208, 212, 218))

    @property
    def muted(self) -> TextStyle:
        """For units and remarks."""
        return TextStyle(0.46 * self.zoom, (150, 156, 165))

    def px(self, length: float) -> int:
        """Scale a distance given for zoom 1 to whole pixels."""
        return round(length * self.zoom)


def blank(width: int, height: int) -> RGB:
    """Return an empty picture of the theme's background, shape (height, width, 3)."""
    return np.full((height, width, 3), BACKGROUND, np.uint8)
