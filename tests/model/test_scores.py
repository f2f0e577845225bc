from __future__ import annotations

import math

import numpy as np
import pytest

from codecprior.model.protocols import Protocol, find_protocol
from codecprior.model.scores import SequenceScores, total_mean


def scores(name: str, *values: float) -> SequenceScores:
    return SequenceScores(
        sequence=name, size=(64, 48), frames=range(2, 2 + len(values)), scores={"psnr": np.array(values)}
    )


LONG, SHORT = scores("long", 20, 22, 24, 26), scores("short", 40)


@pytest.mark.parametrize(
    ("group_frames", "expected"),
    [
        (1, (20 + 22 + 24 + 26 + 40) / 5),  # every frame
        (None, (23 + 40) / 2),  # every sequence
        (3, ((20 + 22 + 24) / 3 + 26 + 40) / 3),  # groups of three and what is left
    ],
)
def test_the_total_averages_what_the_protocol_says(group_frames: int | None, expected: float) -> None:
    protocol = Protocol(name="own", source="here", group_frames=group_frames)
    mean = total_mean([LONG, SHORT], "psnr", protocol)
    assert mean.value == pytest.approx(expected)
    assert (mean.num_frames, mean.left_out) == (5, 0)


@pytest.mark.parametrize(("length", "groups"), [(77, (44, 29)), (100, (44, 44, 8)), (134, (44, 44, 42))])
def test_bsstnet_averages_over_the_clips_that_its_code_scores(length: int, groups: tuple[int, ...]) -> None:
    # Its clips begin at 0, 44, 88 and at the end less 48; hand-written cases keep what no clip before has scored.
    values = np.arange(length - 4.0) ** 2
    assert sum(groups) == len(values)
    ends = np.cumsum(groups)
    means = [values[end - size : end].mean() for end, size in zip(ends, groups, strict=True)]
    assert total_mean([scores("walk", *values)], "psnr", find_protocol("bsstnet")).value == pytest.approx(
        np.mean(means)
    )


def test_a_mean_is_over_the_finite_scores_and_counts_the_others() -> None:
    mean = scores("walk", 30, math.inf, math.nan, 32).mean("psnr")
    assert (mean.value, mean.num_frames, mean.left_out) == (31, 2, 2)
    total = total_mean([scores("walk", 30, math.inf), scores("run", math.nan)], "psnr", find_protocol("rvrt"))
    assert (total.value, total.num_frames, total.left_out) == (30, 1, 2)


def test_a_mean_of_no_finite_score_is_infinite_or_undefined() -> None:
    assert scores("walk", math.nan, math.inf).mean("psnr").value == math.inf
    assert math.isnan(scores("walk", math.nan).mean("psnr").value)
    assert math.isnan(total_mean([], "psnr", find_protocol("plain")).value)
