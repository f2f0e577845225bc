from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.visualization.theme import TextStyle, Theme, blank

STYLE = Theme().body
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(text=PRINTABLE, width=st.integers(40, 400))
def test_shortened_text_fits_and_keeps_its_beginning(text: str, width: int) -> None:
    fitted = STYLE.fit(text, width)
    assert STYLE.width(fitted) <= width
    assert fitted == text or (fitted.endswith("...") and text.startswith(fitted[:-3]))


def test_text_that_fits_is_left_alone() -> None:
    assert STYLE.fit("carphone", STYLE.width("carphone")) == "carphone"


@pytest.mark.parametrize("style", [Theme().headline, Theme().title, Theme().body, Theme(1.5).muted])
def test_capitals_stand_where_they_were_asked_to(style: TextStyle) -> None:
    picture = np.zeros((80, 120, 3), np.uint8)
    style.draw(picture, "HE", 10, 20)
    rows, cols = np.nonzero(picture.max(axis=-1) > 40)
    assert abs(rows.min() - 20) <= 2
    assert abs(rows.max() + 1 - 20 - style.height) <= 2
    assert 8 <= cols.min() <= 14
    assert cols.max() <= 10 + style.width("HE") + 1


def test_zoom_scales_letters_and_distances() -> None:
    small, large = Theme(1.0), Theme(1.5)
    assert large.px(10) == 15
    assert large.body.height > 1.3 * small.body.height


def test_letters_are_large_enough_to_read() -> None:
    assert Theme().muted.height >= 9


def test_blank_pictures_are_dark() -> None:
    assert blank(3, 2).shape == (2, 3, 3)
    assert blank(3, 2).max() < 40
