"""Temporal warp error: how much a sequence flickers, the motion of the scene taken out.

The frame before is warped to each frame, and the mean squared difference of samples from 0 to 1 is taken over channels
and over all places where the motion is known, as by Lai et al. [1]_. They warp the next frame to each with FlowNet2 on
their inputs; here the motion is that from each frame to the one before it, from one of two sources:

- ``"dis"``: DIS optical flow between the reference frames [2]_, or between those of the blurry input where there are
  none. Places are left out where flow there and back disagree, ``|f + b|^2 > 0.01 (|f|^2 + |b|^2) + 0.5``, and at edges
  of the motion, ``|grad f|^2 > 0.01 |f|^2 + 0.002``, the rules of Lai et al. and Ruder et al. [3]_;
- ``"mv"``: vectors of a priors store, where a block has one to the frame before.

Blurrier sequences flicker less: the number is to be read beside one for sharpness.

References
----------
.. [1] W.-S. Lai et al., "Learning blind video temporal consistency", ECCV 2018. DOI 10.1007/978-3-030-01267-0_11
.. [2] T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016. DOI 10.1007/978-3-319-46493-0_29
.. [3] M. Ruder, A. Dosovitskiy, T. Brox, "Artistic style transfer for videos", GCPR 2016.
   DOI 10.1007/978-3-319-45886-1_3
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.core.priors import Flow
from codecprior.datasets.motion import vectors_to_previous
from codecprior.errors import ConfigError
from codecprior.store.reader import PriorsStore

from .metric import FramePair, Metric, Scorer
from .protocols import Protocol

__all__ = ["MotionSource", "WarpError", "dis_motion", "store_motion", "warp_error"]

MotionSource = Literal["dis", "mv"]
"""Optical flow of the reference frames, or vectors of a store."""

_DIS_SIDE: Final = 12
"""What OpenCV's DIS needs."""

_READ_FRAMES: Final = 8
"""Frames of a store that are in memory at a time."""


class WarpError(Metric):
    """Temporal warp error.

    Parameters
    ----------
    motion : {"dis", "mv"}
        Where motion comes from. ``"mv"`` needs frames that come with it.
    sharp : bool
        Whether references are the frames as they should be, or the blurry input.
    """

    name = "warp_error"
    label = "Warp"
    decimals = 5
    higher_is_better = False
    needs_sharp = False
    undefined = "the first frame of a sequence, and frames without known motion"

    def __init__(self, motion: MotionSource = "dis", *, sharp: bool = True) -> None:
        self._motion = motion
        self._flow_of = "references" if sharp else "blurry input"

    def start(self, protocol: Protocol) -> Scorer:
        """Begin a sequence; scores remember the frame before."""
        previous: FramePair | None = None

        def score(pair: FramePair) -> float:
            nonlocal previous
            before, previous = previous, pair
            if before is None:
                return math.nan
            if self._motion == "dis":
                motion = dis_motion(pair.reference, before.reference)
            elif pair.motion is not None:
                motion = pair.motion
            else:
                raise ConfigError("warp motion 'mv': the sequence comes without vectors; extract them, or use 'dis'")
            return warp_error(pair.output, before.output, motion)

        return score

    def convention(self, protocol: Protocol) -> str:
        """Say what exactly is computed."""
        flow = f"DIS flow of the {self._flow_of}, occlusions masked"
        motion = flow if self._motion == "dis" else "vectors of the store"
        return f"MSE of samples 0 to 1 against the frame before, warped; whole frames, {motion}"


def warp_error(frame: NDArray[np.uint8], previous: NDArray[np.uint8], motion: Flow) -> float:
    """Compare a frame with the one before it, warped.

    Parameters
    ----------
    frame, previous : ndarray, shape (H, W, 3), uint8
        R'G'B'.
    motion : Flow
        Displacement (x, y) in samples from each place of ``frame`` to ``previous``, and where it is known.

    Returns
    -------
    float
        Mean squared difference of samples from 0 to 1; NaN where no motion is known within the frame.

    Raises
    ------
    ConfigError
        If the motion is that of a frame of another size.
    """
    height, width = frame.shape[:2]
    if motion.valid.shape != (height, width):
        raise ConfigError(
            f"motion for {motion.valid.shape[1]}x{motion.valid.shape[0]} samples, the frame is {width}x{height}; "
            "give the vectors of the same sequence"
        )
    x, y = _targets(motion.displacement)
    known = motion.valid & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if not known.any():
        return math.nan
    warped = cv2.remap(previous.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = (warped[known] - frame[known]) / np.float32(255)
    return float(np.mean(error * error, dtype=np.float64))


def dis_motion(frame: NDArray[np.uint8], previous: NDArray[np.uint8]) -> Flow:
    """Estimate the motion from a frame to the one before it.

    Parameters
    ----------
    frame, previous : ndarray, shape (H, W, 3), uint8
        R'G'B'.

    Returns
    -------
    Flow
        Displacement in samples; valid where nothing covers what was there.

    Raises
    ------
    ConfigError
        If the frame is too small.
    """
    height, width = frame.shape[:2]
    if max(height, width) < _DIS_SIDE:
        raise ConfigError(f"frame of {width}x{height}: DIS flow needs {_DIS_SIDE} samples on one side")
    grey, grey_before = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (frame, previous))
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    no_guess = np.empty(0, np.float32)
    back: NDArray[Any] = np.asarray(estimator.calc(grey, grey_before, no_guess))
    forth = np.asarray(estimator.calc(grey_before, grey, no_guess))
    returned: NDArray[Any] = cv2.remap(forth, *_targets(back), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    disagreement, length = _squared(back + returned), _squared(back)
    covered = disagreement > 0.01 * (length + _squared(returned)) + 0.5
    slope = np.zeros_like(length)
    slope[:, :-1] += _squared(np.diff(back, axis=1))
    slope[:-1] += _squared(np.diff(back, axis=0))
    return Flow(back, ~covered & (slope <= 0.01 * length + 0.002))


def store_motion(store: PriorsStore) -> Iterator[Flow]:
    """Read the motion of a sequence, a few frames at a time.

    Parameters
    ----------
    store : PriorsStore
        Priors of the sequence.

    Yields
    ------
    Flow
        For each frame, displacement to the frame before it in the size of the source, by the vectors of both lists;
        nowhere valid in the first frame.
    """
    width, height = store.attributes.get("source", {}).get("size", store.size)
    motion = store.crop(0, 0, width, height).select("mv_l0", "mv_l1", "ref_poc_delta_l0", "ref_poc_delta_l1")
    yield Flow(np.zeros((height, width, 2), np.float32), np.zeros((height, width), np.bool_))
    for first in range(0, len(store) - 1, _READ_FRAMES):
        clip = motion[first : first + _READ_FRAMES + 1].load()
        for frame, mv, valid in zip(clip.frames[1:], *vectors_to_previous(clip, "mean"), strict=True):
            yield Flow(frame.expand(mv), frame.expand(valid))


def _targets(displacement: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the columns and rows that vectors point to."""
    rows, columns = np.indices(displacement.shape[:2], dtype=np.float32)
    return displacement[..., 0] + columns, displacement[..., 1] + rows


def _squared(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.einsum("...c,...c", vectors, vectors)
    return length
