"""Keys to the maps: what a colour, an arrow or a hatched area means, as strips that go below the picture."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from codecprior.visualization.colormap import RGB, heat_colors, qp_colors, residual_colors, wheel_picture
from codecprior.visualization.maps import LEAST_ARROW, draw_arrow, hatch
from codecprior.visualization.modes import MODE_COLORS, MODE_LABELS, BlockMode
from codecprior.visualization.theme import BACKGROUND, Theme, blank

__all__ = ["arrow_legend", "heat_legend", "mode_legend", "motion_legend", "qp_legend", "residual_legend", "text_legend"]

_WHEEL: Final = 46
_BAR: Final = 240
_BAR_HEIGHT: Final = 11
_UNIT_GAP: Final = 14
_INK: Final = 3
"""How far ink may reach beyond the width that OpenCV reports."""
_SWATCH: Final = 11
_RIM: Final = (96, 100, 108)


def motion_legend(width: int, full_scale: float, ref_list: int | str, theme: Theme) -> RGB:
    """Explain a motion map: the wheel with its radius, and the hatching.

    Parameters
    ----------
    width : int
        Width of the strip.
    full_scale : float
        Length of the wheel's radius in luma samples.
    ref_list : {0, 1, "mean"}
        Vectors shown.
    theme : Theme
        The look.

    Returns
    -------
    ndarray, shape (H, width, 3), uint8
        The strip.
    """
    side = theme.px(_WHEEL)
    strip = blank(width, side)
    strip[:side, :side] = wheel_picture(side, BACKGROUND)
    left, line = side + theme.px(12), theme.px(17)
    top = (side - 2 * line - theme.body.height) // 2
    theme.body.draw(strip, f"rim = {full_scale:g} px or more", left, top)
    theme.muted.draw(strip, "direction: from block to reference", left, top + line)
    swatch = theme.px(_SWATCH)
    swatch_top = top + 2 * line + (theme.body.height - swatch) // 2
    area = (slice(swatch_top, swatch_top + swatch), slice(left, left + swatch))
    strip[area] = hatch(strip[area], np.ones((swatch, swatch), bool))
    theme.muted.draw(
        strip,
        "no vector" if ref_list == "mean" else f"no L{ref_list} vector",
        left + swatch + theme.px(6),
        top + 2 * line,
    )
    return strip


def arrow_legend(width: int, length_px: float, gain: float, theme: Theme) -> RGB:
    """Explain motion arrows with one of known length and with the dot for very little motion.

    Parameters
    ----------
    width : int
        Width of the strip.
    length_px : float
        Motion of the arrow to show, in luma samples.
    gain : float
        Pixels of arrow per luma sample.
    theme : Theme
        The look.

    Returns
    -------
    ndarray, shape (H, width, 3), uint8
        The strip.
    """
    line = theme.px(17)
    strip = blank(width, 2 * line + theme.px(_INK))
    top = (line - theme.body.height) // 2
    middle, start = line / 2, theme.px(4)
    end = start + gain * length_px
    draw_arrow(strip, np.array((start, middle)), np.array((end, middle)))
    theme.body.draw(strip, f"= {length_px:g} px", round(end) + theme.px(8), top)
    dot = end + theme.px(24) + theme.body.width(f"= {length_px:g} px")
    draw_arrow(strip, np.array((dot, middle)), np.array((dot, middle)))
    theme.body.draw(strip, f"less than {_one_digit(LEAST_ARROW / gain)} px", round(dot) + theme.px(8), top)
    theme.muted.draw(strip, "arrows point from block to reference", 0, line + top)
    return strip


def residual_legend(width: int, full_scale: int, bit_depth: int, theme: Theme) -> RGB:
    """Explain a residual map: a bar from the most negative to the most positive colour.

    Parameters
    ----------
    width : int
        Width of the strip.
    full_scale : int
        Magnitude at the ends of the bar, in sample values.
    bit_depth : int
        Bits per sample of the stream.
    theme : Theme
        The look.

    Returns
    -------
    ndarray, shape (H, width, 3), uint8
        The strip.
    """
    unit, labels = f"{bit_depth}-bit sample values", (f"-{full_scale}", "0", f"+{full_scale}")
    values = np.linspace(-full_scale, full_scale, _bar_width(width, unit, theme))
    return _bar_legend(width, residual_colors(values, full_scale), labels, unit, theme)


def qp_legend(width: int, low: int, high: int, theme: Theme) -> RGB:
    """Explain a QP map: a bar from the finest to the coarsest quantisation.

    Parameters
    ----------
    width : int
        Width of the strip.
    low, high : int
        Values at the ends of the bar.
    theme : Theme
        The look.

    Returns
    -------
    ndarray, shape (H, width, 3), uint8
        The strip.
    """
    unit = "higher is coarser"
    colors = qp_colors(np.linspace(low, high, _bar_width(width, unit, theme)), low, high)
    return _bar_legend(width, colors, (str(low), "", str(high)), unit, theme)


def heat_legend(width: int, low: float, high: float, unit: str, theme: Theme) -> RGB:
    """Explain a heat map: a bar from the first to the last colour.

    Parameters
    ----------
    width : int
        Width of the strip.
    low, high : float
        Values at the ends of the bar.
    unit : str
        What is shown.
    theme : Theme
        The look.

    Returns
    -------
    ndarray, shape (H, width, 3), uint8
        The strip.
    """
    colors = heat_colors(np.linspace(low, high, _bar_width(width, unit, theme)), low, high)
    return _bar_legend(width, colors, (f"{low:.2f}", "", f"{high:.2f}"), unit, theme)


def mode_legend(width: int, theme: Theme) -> RGB:
    """Explain block modes: a swatch and a name for each, in as many lines as the width needs.

    Parameters
    ----------
    width : int
        Width of the strip.
    theme : Theme
        The look.

    Returns
    -------
    ndarray, shape (H, width, 3), uint8
        The strip.
    """
    swatch, gap, line = theme.px(_SWATCH), theme.px(6), theme.px(18)
    advance = {mode: swatch + gap + theme.body.width(MODE_LABELS[mode]) for mode in BlockMode}
    places: list[tuple[BlockMode, int, int]] = []
    left = row = 0
    for mode in BlockMode:
        if left and left + advance[mode] + theme.px(_INK) > width:
            left, row = 0, row + 1
        places.append((mode, left, row * line))
        left += advance[mode] + theme.px(16)
    strip = blank(width, (row + 1) * line + theme.px(_INK))
    for mode, left, top in places:
        square = (slice(top + (line - swatch) // 2, top + (line - swatch) // 2 + swatch), slice(left, left + swatch))
        strip[square] = MODE_COLORS[mode]
        if mode is BlockMode.NONE:
            strip[square] = hatch(strip[square], np.ones(strip[square].shape[:2], bool))
        theme.body.draw(strip, MODE_LABELS[mode], left + swatch + gap, top + (line - theme.body.height) // 2)
    return strip


def text_legend(width: int, text: str, theme: Theme) -> RGB:
    """Write one line of remarks.

    Parameters
    ----------
    width : int
        Width of the strip.
    text : str
        What to say; shortened to fit.
    theme : Theme
        The look.

    Returns
    -------
    ndarray, shape (H, width, 3), uint8
        The strip.
    """
    line = theme.px(17)
    strip = blank(width, line + theme.px(_INK))
    theme.muted.draw(strip, theme.muted.fit(text, width), 0, (line - theme.muted.height) // 2)
    return strip


def _one_digit(value: float) -> str:
    return f"{float(f'{value:.0e}'):g}"


def _bar_width(width: int, unit: str, theme: Theme) -> int:
    # Odd, so that zero has a pixel of its own in the middle.
    return (min(theme.px(_BAR), width - theme.px(_UNIT_GAP) - theme.muted.width(unit) - theme.px(_INK)) - 1) | 1


def _bar_legend(width: int, colors: RGB, labels: tuple[str, str, str], unit: str, theme: Theme) -> RGB:
    """Draw a bar with its unit to the right and its values below: at the left end, the middle and the right end."""
    bar, height, line = len(colors), theme.px(_BAR_HEIGHT), theme.px(20)
    strip = blank(width, height + line + theme.px(_INK))
    strip[:height, :bar] = colors
    cv2.rectangle(strip, (0, 0), (bar - 1, height - 1), _RIM, 1)
    for text, fraction in zip(labels, (0, 0.5, 1), strict=True):
        theme.body.draw(strip, text, round((bar - theme.body.width(text)) * fraction), height + theme.px(6))
    theme.muted.draw(strip, unit, bar + theme.px(_UNIT_GAP), (height - theme.muted.height) // 2)
    return strip
