from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from codecprior.datasets.holes import HolePolicy, fill_holes
from codecprior.errors import ConfigError

masks = npst.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))


def vectors(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(scale=9, size=(*shape, 2)).astype(np.float32)


def similarity(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Motion of a picture that is turned by 1 degree, enlarged by 2 % and shifted, at the middle of each cell."""
    rows, cols = np.indices(shape)
    place = np.stack([4 * cols + 1.5, 4 * rows + 1.5], axis=-1)
    angle = np.deg2rad(1)
    turn = 1.02 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (place @ turn.T + (5.25, -3.5) - place).astype(np.float32)


@given(masks, st.sampled_from(["zero", "neighbour", "global"]))
def test_vectors_that_are_there_stay_and_nothing_invalid_is_read(valid: NDArray[np.bool_], policy: HolePolicy) -> None:
    mv = vectors(valid.shape)
    filled = fill_holes(mv, valid, policy)
    assert filled.dtype == np.float32
    assert np.array_equal(filled[valid], mv[valid])
    assert np.isfinite(filled).all()
    assert not filled[~valid.any(axis=(1, 2))].any()
    mv[~valid] = np.nan
    assert np.array_equal(filled, fill_holes(mv, valid, policy))


@given(masks)
def test_the_neighbour_is_the_nearest_cell_with_a_vector(valid: NDArray[np.bool_]) -> None:
    mv = vectors(valid.shape)
    filled = fill_holes(mv, valid, "neighbour")
    for frame, known, found in zip(mv, valid, filled, strict=True):
        there = np.argwhere(known)
        if len(there):
            for cell in np.argwhere(~known):
                distance = ((there - cell) ** 2).sum(axis=1)
                nearest = frame[tuple(there[distance == distance.min()].T)]
                assert (found[tuple(cell)] == nearest).all(axis=1).any()


def test_zero_leaves_zeros() -> None:
    valid = np.array([[[True, False]]])
    assert fill_holes(vectors(valid.shape), valid, "zero")[0, 0, 1].tolist() == [0, 0]


def test_global_motion_is_found_among_objects_that_move_on_their_own() -> None:
    truth = similarity((40, 60))
    mv, valid = truth.copy(), np.ones((40, 60), np.bool_)
    mv[5:25, 10:35] = (-20, 11)  # a fifth of the picture
    valid[20:40, 30:60] = False
    mv[~valid] = 0
    filled = fill_holes(mv[None], valid[None], "global")[0]
    assert np.abs(filled - truth)[~valid].max() < 0.01
    assert np.array_equal(filled, fill_holes(mv[None], valid[None], "global")[0])


def test_motion_that_no_three_vectors_share_is_not_made_up() -> None:
    valid = np.zeros((1, 8, 8), np.bool_)
    valid[0, 0, :2] = True
    assert not fill_holes(vectors(valid.shape), valid, "global")[~valid].any()


def test_large_pictures_are_fitted_to_a_part_of_their_vectors() -> None:
    truth = similarity((270, 480))
    valid = np.random.default_rng(1).random(truth.shape[:2]) > 0.4
    assert np.abs(fill_holes(truth[None], valid[None], "global")[0] - truth).max() < 0.01


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="hole policy 'mean': use one of zero, neighbour, global"):
        fill_holes(vectors((1, 2, 2)), np.ones((1, 2, 2), np.bool_), "mean")  # type: ignore[arg-type]
