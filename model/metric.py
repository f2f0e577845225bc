"""What a metric is: one number for each frame of a sequence, and in words how it comes about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codecprior.core.priors import Flow

from .protocols import Protocol

__all__ = ["FramePair", "Metric", "Scorer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePair:
    """One frame of a sequence, as it is and as it should be.

    Parameters
    ----------
    output, reference : ndarray, shape (H, W, 3), uint8
        R'G'B', full range. Where it is not known how the frame should be, the reference is the blurry input.
    motion : Flow, optional
        Displacement from this frame to the one before it, and where it is known.
    """

    output: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    motion: Flow | None = None


Scorer = Callable[[FramePair], float]
"""Takes the frames of one sequence in order; NaN where the metric is not defined."""


class Metric(ABC):
    """A measure of quality.

    Attributes
    ----------
    name : str
        Key in results.
    label : str
        Heading in tables, short.
    decimals : int
        Digits behind the point in tables.
    higher_is_better : bool
        Direction.
    needs_sharp : bool
        Whether it compares with the frame as it should be.
    undefined : str
        Frames that the metric has no finite number for.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    decimals: ClassVar[int]
    higher_is_better: ClassVar[bool]
    needs_sharp: ClassVar[bool]
    undefined: ClassVar[str]

    @abstractmethod
    def start(self, protocol: Protocol) -> Scorer:
        """Begin a sequence.

        Parameters
        ----------
        protocol : Protocol
            What of a frame is looked at.

        Returns
        -------
        callable
            To be called with each frame of the sequence in turn.
        """

    @abstractmethod
    def convention(self, protocol: Protocol) -> str:
        """Say what exactly is computed, in one line.

        Parameters
        ----------
        protocol : Protocol
            What of a frame is looked at.

        Returns
        -------
        str
            For results.
        """

    def facts(self) -> Mapping[str, Any]:
        """Return what else decides the numbers, as JSON values: weights, versions of programs."""
        return {}
