from __future__ import annotations

import numpy as np
import pytest

from codecprior.visualization.panel import Caption, Tile, compose
from codecprior.visualization.theme import Theme, blank

CAPTION = Caption("bikes", (("frame 1 of 9", "frame 0 of 9"), ("POC 1", "POC 00")))


def tile(seed: int, width: int = 60, height: int = 40, legend: int = 20) -> Tile:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Tile(f"Picture {seed}", picture, blank(width, legend))


def position(sheet: np.ndarray, picture: np.ndarray) -> tuple[int, int]:
    """Left and top of a picture of noise in a sheet that holds it unchanged."""
    height, width = picture.shape[:2]
    for y, x in zip(*np.nonzero((sheet == picture[0, 0]).all(axis=-1)), strict=True):
        if np.array_equal(sheet[y : y + height, x : x + width], picture):
            return int(x), int(y)
    raise AssertionError("the picture is not in the sheet")


def test_pictures_stand_in_rows_and_columns_with_equal_gaps() -> None:
    tiles = [tile(seed) for seed in range(4)]
    sheet = compose(CAPTION, [tiles[:2], tiles[2:]], Theme())
    (left, top), (right, same_top), (same_left, bottom), last = (position(sheet, each.picture) for each in tiles)
    assert (same_top, same_left, last) == (top, left, (right, bottom))
    assert left == sheet.shape[1] - right - 60
    assert right - left > 60


def test_nothing_overlaps_when_legends_differ_in_height() -> None:
    high, low = tile(1, legend=70), tile(2, legend=10)
    sheet = compose(CAPTION, [[low, high], [tile(3), tile(4)]], Theme())
    _, top = position(sheet, high.picture)
    _, below = position(sheet, tile(3).picture)
    assert below >= top + 40 + 70


@pytest.mark.parametrize("name", ["", "a name that is much longer than the sheet is wide " * 4])
def test_the_sheet_is_as_large_for_every_caption(name: str) -> None:
    caption = Caption(name, (("frame 8 of 9", "frame 0 of 9"), ("a fact " * 30, "")))
    assert compose(caption, [[tile(1)]], Theme()).shape == compose(CAPTION, [[tile(1)]], Theme()).shape


def test_long_captions_do_not_reach_the_margin() -> None:
    caption = Caption("W" * 99, (("W" * 99, ""), ("W" * 99, "")))
    sheet = compose(caption, [[tile(1)]], Theme())
    assert (sheet[:40, -10:] == blank(1, 1)[0, 0]).all()


def test_facts_do_not_move_when_numbers_get_longer() -> None:
    def facts(index: int) -> np.ndarray:
        texts = ((f"frame {index} of 250", "frame 000 of 250"), ("B picture", "B picture"))
        return compose(Caption("", texts), [[tile(1, width=400)]], Theme())

    differs = (facts(7) != facts(123)).any(axis=(0, 2))
    assert differs.any()
    assert np.nonzero(differs)[0].max() < 16 + Theme().muted.width("frame 000 of 250") + 4


def test_caption_names_frame_type_poc_qp_and_bits(make_priors) -> None:
    texts = [text for text, _ in Caption.of(make_priors(frame_index=3), "bikes", 250).facts]
    assert texts == ["frame 3 of 250", "B picture", "POC 3", "QP 32", "9,872 bits"]


def test_caption_of_a_concealed_frame_says_so(make_priors) -> None:
    texts = [text for text, _ in Caption.of(make_priors(has_priors=False), "bikes").facts]
    assert texts == ["frame 3", "B picture", "POC 3", "concealed, no priors"]
