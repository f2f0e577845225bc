"""Scores of frames, and their means over sequences and over everything.

A mean is over the frames whose score is a finite number, and comes with how many these are: a frame that equals its
reference has infinite PSNR, the first frame has none before it to be compared with. Where no score is finite, the mean
is infinite if one of them is, else NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .protocols import Protocol

__all__ = ["Mean", "SequenceScores", "total_mean"]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over frames.

    Parameters
    ----------
    value : float
        The mean; infinite or NaN where no score is finite.
    num_frames : int
        Frames with a finite score, which it is the mean of.
    left_out : int
        Frames without one.
    """

    value: float
    num_frames: int
    left_out: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceScores:
    """Scores of one sequence.

    Parameters
    ----------
    sequence : str
        Its name.
    size : tuple of int
        Width and height of its frames.
    frames : range
        Positions in the sequence of the frames that were looked at.
    scores : mapping of str to ndarray, shape (len(frames),), float64
        By name of the metric; NaN or infinite where it has no finite number.
    """

    sequence: str
    size: tuple[int, int]
    frames: range
    scores: Mapping[str, NDArray[np.float64]]

    def mean(self, metric: str) -> Mean:
        """Return the mean of one metric over the frames."""
        scores = self.scores[metric]
        finite = int(np.isfinite(scores).sum())
        return Mean(value=_mean(scores), num_frames=finite, left_out=len(scores) - finite)


def total_mean(sequences: Sequence[SequenceScores], metric: str, protocol: Protocol) -> Mean:
    """Average one metric over sequences.

    Parameters
    ----------
    sequences : sequence of SequenceScores
        Scores of each.
    metric : str
        Name of the metric.
    protocol : Protocol
        What is averaged first.

    Returns
    -------
    Mean
        Mean of the means of the protocol's groups of frames.
    """
    means = [each.mean(metric) for each in sequences]
    return Mean(
        value=_mean([_mean(group) for each in sequences for group in _groups(each.scores[metric], protocol)]),
        num_frames=sum(mean.num_frames for mean in means),
        left_out=sum(mean.left_out for mean in means),
    )


def _groups(scores: NDArray[np.float64], protocol: Protocol) -> Iterable[NDArray[np.float64]]:
    size = protocol.group_frames or len(scores)
    return (scores[start : start + size] for start in range(0, len(scores), size))


def _mean(scores: Sequence[float] | NDArray[np.float64]) -> float:
    values = np.asarray(scores, np.float64)
    finite = values[np.isfinite(values)]
    if finite.size:
        return float(finite.mean())
    return math.inf if np.isposinf(values).any() else math.nan
