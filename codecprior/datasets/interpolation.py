"""Two neighbouring frames into the frames between them, along the motion that is estimated from one to the other.

Motion is dense inverse search optical flow in both directions (Kroeger et al., "Fast Optical Flow using Dense Inverse
Search", ECCV 2016, DOI 10.1007/978-3-319-46493-0_29), as OpenCV has it. A pixel of the frame between finds its place in
either frame by a fixed-point iteration over that frame's flow. It takes from both what both show, and from one frame
what only that one shows: there the iteration over the other's flow ends nowhere, or where the flow does not lead back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.errors import ConfigError

__all__ = ["Between"]

_ITERATIONS: Final = 4
_ROUND_TRIP: Final = 0.01
"""Tolerated square of the round trip's error per square of the motion (Sundaram et al., ECCV 2010)."""
_ROUND_TRIP_PIXELS: Final = 0.5
"""Tolerated square of the round trip's error, in pixels squared, where nothing moves."""
_LEAST_TRUST: Final = 0.05
"""Trust in a place whose flow does not lead back: it decides where the other frame has none at all."""
_FULL_TRUST: Final = 0.3
"""Trust from which a place counts fully. Below, the frames as they lie are mixed in: what else would a cut show?"""
_TINY: Final = np.float32(1e-12)
_SMALLEST_SIDE: Final = 16
"""Width and height in pixels below which the flow has no patch to match."""

_Field = NDArray[np.float32]
_Light = NDArray[np.float32]


@dataclass(frozen=True)
class _Side:
    """One of the two frames: its flow to the other, and how far that flow leads back."""

    flow: _Field
    trust: _Field

    def places(self, grid: _Field, distance: float) -> tuple[_Field, _Field]:
        """For each pixel of a frame ``distance`` away: where it lies in this frame, and how much to trust that."""
        motion = self.flow
        for _ in range(_ITERATIONS):
            last = motion
            motion = _sample(self.flow, grid - distance * last)
        place = grid - distance * motion
        return place, _sample(self.trust, place) * np.exp(-_squared(motion - last))


class Between:
    """The motion between two neighbouring frames, from which any moment between them can be shown.

    Where no motion is found, across a scene cut for instance, a moment is a blend of both frames as they lie.

    Parameters
    ----------
    first, second : ndarray, shape (H, W, 3), uint8 or uint16
        Neighbours in time as they are displayed: the motion is estimated from their gamma-encoded luma.

    Raises
    ------
    ConfigError
        If the frames are less than 16 pixels wide or high.
    """

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        height, width = first.shape[:2]
        if min(height, width) < _SMALLEST_SIDE:
            raise ConfigError(f"frames of {width}x{height}: interpolation needs {_SMALLEST_SIDE} pixels or more a side")
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        luma, no_guess = [_luma(frame) for frame in (first, second)], np.empty(0, np.float32)
        forward = np.asarray(search.calc(luma[0], luma[1], no_guess), np.float32)
        backward = np.asarray(search.calc(luma[1], luma[0], no_guess), np.float32)
        rows, cols = np.indices((height, width), dtype=np.float32)
        self._grid = np.stack([cols, rows], axis=-1)
        self._first = _Side(forward, _trust(self._grid, forward, backward))
        self._second = _Side(backward, _trust(self._grid, backward, forward))

    def at(self, time: float, first: _Light, second: _Light) -> _Light:
        """Show the scene at a moment between the two frames.

        Parameters
        ----------
        time : float
            0 for the first frame to 1 for the second.
        first, second : ndarray, shape (H, W, 3), float32
            The frames to take samples from, in any linear unit, such as light.

        Returns
        -------
        ndarray, shape (H, W, 3), float32
            Samples in the same unit.
        """
        first_place, first_trust = self._first.places(self._grid, time)
        second_place, second_trust = self._second.places(self._grid, 1 - time)
        first_weight, second_weight = (1 - time) * first_trust, time * second_trust
        share = np.divide(second_weight, first_weight + second_weight + _TINY, dtype=np.float32)
        moved = _mix(_sample(first, first_place), _sample(second, second_place), share)
        sure = np.minimum(np.maximum(first_trust, second_trust) / np.float32(_FULL_TRUST), np.float32(1))
        return _mix(first + time * (second - first), moved, sure)


def _luma(frame: NDArray[Any]) -> NDArray[np.uint8]:
    eight = frame if frame.dtype == np.uint8 else (frame >> 8).astype(np.uint8)
    luma: NDArray[np.uint8] = cv2.cvtColor(eight, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    return luma


def _trust(grid: _Field, flow: _Field, back: _Field) -> _Field:
    returned = _sample(back, grid + flow)
    tolerance = _ROUND_TRIP * (_squared(flow) + _squared(returned)) + _ROUND_TRIP_PIXELS
    return np.maximum(np.exp(-_squared(flow + returned) / tolerance), np.float32(_LEAST_TRUST))


def _squared(vectors: _Field) -> _Field:
    x, y = vectors[..., 0], vectors[..., 1]
    return x * x + y * y


def _mix(one: _Light, other: _Light, share: _Field) -> _Light:
    return one + share[..., None] * (other - one)


def _sample(values: _Field, place: _Field) -> _Field:
    # OpenCV's annotation knows no call without the second map, and an empty one in its place gives NaN.
    sampled: _Field = cv2.remap(  # type: ignore[call-overload]
        values, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled
