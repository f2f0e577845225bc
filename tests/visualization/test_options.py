from __future__ import annotations

import pytest

from codecprior.errors import ConfigError
from codecprior.visualization.options import RenderOptions


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((640, 272), (640, 272)),
        ((416, 240), (416, 240)),
        ((1280, 720), (960, 540)),
        ((3840, 2160), (960, 540)),
        ((64, 64), (384, 384)),
        ((176, 144), (352, 288)),
        ((180, 320), (360, 640)),
        ((1080, 1920), (540, 960)),
        ((8, 800), (8, 800)),
        ((4000, 8), (960, 2)),
    ],
)
def test_pictures_get_a_size_that_suits_a_screen(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert RenderOptions().picture_size(size, 960) == shown


def test_a_scale_that_was_asked_for_is_kept() -> None:
    assert RenderOptions(scale=0.5).picture_size((640, 272), 960) == (320, 136)
    assert RenderOptions(scale=3).picture_size((640, 272), 960) == (1920, 816)


@pytest.mark.parametrize(
    ("values", "accepted"),
    [
        ({"kind": "flow"}, "overview, all, frame, motion"),
        ({"scale": 0}, "above 0"),
        ({"scale": float("nan")}, "above 0"),
        ({"ref_list": 2}, "0, 1 or 'mean'"),
        ({"plane": "r"}, "y, u, v"),
    ],
)
def test_wrong_values_are_refused_with_those_accepted(values: dict[str, object], accepted: str) -> None:
    with pytest.raises(ConfigError, match=accepted):
        RenderOptions(**values)  # type: ignore[arg-type]
