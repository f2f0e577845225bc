from __future__ import annotations

from fractions import Fraction

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecprior.media.convert import bgr_to_yuv420, describe_conversion, pad_to_even, planar_to_yuv420

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def bt709(blue: Fraction, green: Fraction, red: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    """Limited range 8 bit Y'CbCr of R'G'B' in 0 to 1: Rec. ITU-R BT.709-6, items 3.2 to 3.4."""
    luma = Fraction("0.2126") * red + Fraction("0.7152") * green + Fraction("0.0722") * blue
    cb, cr = (blue - luma) / Fraction("1.8556"), (red - luma) / Fraction("1.5748")
    return 16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr


@pytest.mark.parametrize(("dtype", "peak", "scale"), [(np.uint8, 255, 1), (np.uint16, 65535, 4)])
def test_colours_come_out_as_bt709_prescribes(dtype: type[np.uint8 | np.uint16], peak: int, scale: int) -> None:
    rng = np.random.default_rng(0)
    for colour in [(0, 0, 0), (peak, peak, peak), (peak, 0, 0), *rng.integers(0, peak + 1, (50, 3))]:
        planes = bgr_to_yuv420(np.full((2, 2, 3), colour, dtype))
        exact = bt709(*(Fraction(int(value), peak) for value in colour))
        for plane, value in zip(planes, exact, strict=True):
            # Coefficients of 13 bits move a value by less than a tenth of a step.
            assert abs(int(plane[0, 0]) - float(value * scale)) <= 0.6


@pytest.mark.parametrize(("dtype", "peak", "neutral"), [(np.uint8, 255, 128), (np.uint16, 65535, 512)])
def test_grey_has_exactly_neutral_chroma(dtype: type[np.uint8 | np.uint16], peak: int, neutral: int) -> None:
    for level in np.linspace(0, peak, 256).astype(int):
        _, u, v = bgr_to_yuv420(np.full((2, 2, 3), level, dtype))
        assert (u[0, 0], v[0, 0]) == (neutral, neutral)


def test_float_arithmetic_of_the_8_bit_path_is_exact() -> None:
    rng = np.random.default_rng(1)
    bgr = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    weights = np.array([508, 5032, 1496])  # round(2**13 * 219 / 255 * (kb, kg, kr))
    exact = bgr.astype(np.int64) @ weights + (16 << 13)
    quotient, rest = exact >> 13, exact & 8191
    half_to_even = quotient + ((rest > 4096) | ((rest == 4096) & (quotient % 2 == 1)))
    np.testing.assert_array_equal(bgr_to_yuv420(bgr)[0], half_to_even)


@given(hnp.arrays(np.uint8, sizes), st.sampled_from([8, 10]))
def test_420_with_8_or_10_bit_passes_untouched(luma: NDArray[np.uint8], bit_depth: int) -> None:
    height, width = luma.shape
    chroma = np.zeros(((height + 1) // 2, (width + 1) // 2), np.uint8)
    y, u, v = planar_to_yuv420((luma, chroma, chroma), "4:2:0", bit_depth)
    assert y is luma
    assert u is chroma
    assert v is chroma


@settings(max_examples=50)
@given(sizes, st.sampled_from(["4:2:2", "4:4:4"]), st.integers(0, 2**32 - 1))
def test_chroma_is_the_mean_of_the_samples_it_covers(size: tuple[int, int], chroma_format: str, seed: int) -> None:
    height, width = size
    columns = (width + 1) // 2 if chroma_format == "4:2:2" else width
    step = 1 if chroma_format == "4:2:2" else 2
    chroma = np.random.default_rng(seed).integers(0, 256, (height, columns), dtype=np.uint8)
    _, u, _ = planar_to_yuv420((np.zeros(size, np.uint8), chroma, chroma), chroma_format, 8)
    assert u.shape == ((height + 1) // 2, (width + 1) // 2)
    for row, column in np.ndindex(*u.shape):
        rows = [min(2 * row + i, height - 1) for i in range(2)]
        cols = [min(step * column + i, columns - 1) for i in range(step)]
        values = [int(chroma[r, c]) for r in rows for c in cols]
        assert u[row, column] == (sum(values) + len(values) // 2) // len(values)


@pytest.mark.parametrize(
    ("bit_depth", "given_values", "expected"),
    [
        (9, [0, 1, 511], [0, 2, 1022]),
        (12, [0, 1, 2, 4093, 4095], [0, 0, 1, 1023, 1023]),
        (16, [31, 32, 65535], [0, 1, 1023]),
    ],
)
def test_other_depths_become_10_bit(bit_depth: int, given_values: list[int], expected: list[int]) -> None:
    luma = np.array([given_values], np.uint16)
    y, u, _ = planar_to_yuv420((luma,), "4:0:0", bit_depth)
    assert y.tolist() == [expected]
    assert set(u.ravel().tolist()) == {512}


def test_odd_sizes_repeat_their_last_luma_samples() -> None:
    luma, chroma = np.array([[1, 2, 3]], np.uint8), np.array([[4, 5]], np.uint8)
    y, u, v = pad_to_even((luma, chroma, chroma))
    assert y.tolist() == [[1, 2, 3, 3], [1, 2, 3, 3]]
    assert u is chroma
    assert v is chroma


def test_conversion_is_described_and_nothing_for_what_passes() -> None:
    assert describe_conversion("4:2:0", 8) == ""
    assert describe_conversion("4:2:2", 12, alpha=True) == (
        "alpha dropped; chroma rows averaged to 4:2:0; 12 bit to 10 bit"
    )
