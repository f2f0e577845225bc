from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from codecprior.visualization.colormap import MID_GREY
from codecprior.visualization.legends import (
    arrow_legend,
    heat_legend,
    mode_legend,
    motion_legend,
    qp_legend,
    residual_legend,
    text_legend,
)
from codecprior.visualization.modes import MODE_COLORS, BlockMode
from codecprior.visualization.theme import Theme, blank
from codecprior.visualization.tiles import LEAST_WIDTH

LEGENDS: dict[str, Callable[[int, Theme], np.ndarray]] = {
    "motion": lambda width, theme: motion_legend(width, 150.0, 0, theme),
    "arrows": lambda width, theme: arrow_legend(width, 150.0, theme.px(36) / 150, theme),
    "residual": lambda width, theme: residual_legend(width, 1000, 10, theme),
    "qp": lambda width, theme: qp_legend(width, -12, 63, theme),
    "heat": lambda width, theme: heat_legend(width, 0.25, 12.5, "attention received; 1: an even share", theme),
    "modes": mode_legend,
    "text": lambda width, theme: text_legend(width, "3840 x 2160, 10 bit, 4:2:0", theme),
}


@pytest.mark.parametrize("zoom", [1.0, 1.25, 1.5])
@pytest.mark.parametrize("wider", [0, 57, 600])
@pytest.mark.parametrize("name", LEGENDS)
def test_legends_keep_within_their_width(name: str, wider: int, zoom: float) -> None:
    theme = Theme(zoom)
    width = theme.px(LEAST_WIDTH) + wider
    strip = LEGENDS[name](width, theme)
    assert strip.shape[1] == width
    background = blank(1, 1)[0, 0]
    drawn = (strip != background).any(axis=-1)
    assert drawn.any()
    assert not drawn[:, -1].any(), "something is cut off at the right"
    assert not drawn[-1].any() or name == "motion", "something is cut off at the bottom"


def test_residual_bar_runs_from_negative_through_mid_grey_to_positive() -> None:
    bar = residual_legend(640, 64, 8, Theme()).astype(int)[5, 1:238]
    assert bar[0][2] > bar[0][0]
    assert bar[-1][0] > bar[-1][2]
    assert bar[len(bar) // 2].tolist() == [MID_GREY] * 3


@pytest.mark.parametrize("width", [340, 640])
def test_mode_legend_shows_every_color(width: int) -> None:
    colors = {tuple(color) for color in mode_legend(width, Theme()).reshape(-1, 3).tolist()}
    shown = {tuple(MODE_COLORS[mode].tolist()) for mode in BlockMode if mode is not BlockMode.NONE}
    assert shown <= colors


def test_a_narrow_mode_legend_wraps() -> None:
    assert len(mode_legend(340, Theme())) > len(mode_legend(900, Theme()))
