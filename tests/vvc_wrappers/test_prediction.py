"""Prediction + residual = reconstruction: the field's truth, with a motion compensation of our own.

A clip is encoded without in-loop filters, so that what is decoded is what was reconstructed. From the vectors,
references and residual of the priors and from the decoded references, ``motion_oracle.py`` predicts every sample anew.

Left out, by name, is what changes the prediction and is not described by one vector per list and cell:

- affine blocks (a further refinement for each sample), geometric partitions (two predictions under a mask), combined
  inter and intra prediction: their cells say so in ``coding_flags``; and blocks that are not inter;
- bi-directional optical flow, which no flag marks: switched off (``bdof=0``);
- decoder-side refinement, which is compensated from a padded window of the reference (clause 8.5.6.3), so that samples
  differ where a refined vector looks beyond it: switched off (``dmvr=0``);
- vectors in half-sample resolution, whose blocks at half-sample positions take another filter, of which nothing is
  recorded: switched off (``imv=0``), except in a test that accepts either filter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codecprior.core.arrays import CELL, REF_NONE, CodingFlag, PredMode
from codecprior.core.priors import FramePriors
from codecprior.media import Frame, open_source
from vvc_wrappers.probe import Probe, ProbeOptions
from vvc_wrappers.vvenc import VideoFormat, VVenC, VVencOptions

SHAPE = (192, 320)
NUM_FRAMES = 9
NO_FILTERS = {"loopfilterdisable": "1", "sao": "0", "alf": "0", "ccalf": "0", "bdof": "0", "edo": "0"}
WHOLE_DESCRIPTION = {"dmvr": "0", "imv": "0"}
UNDESCRIBED = CodingFlag.AFFINE | CodingFlag.GEO | CodingFlag.CIIP
KINDS = (
    "integer",
    "fractional in x",
    "fractional in y",
    "from L0 alone",
    "from L1 alone",
    "from both lists",
    "with residual",
    "without residual",
)


@pytest.fixture(scope="module")
def cut_out(clips: Path) -> list[list[memoryview]]:
    """Planes of the first frames of bikes.mp4, cropped."""
    frames = islice(open_source(clips / "bikes.mp4").frames(), NUM_FRAMES)
    return [[np.ascontiguousarray(plane[part]).data.cast("B") for plane, part in parts(frame)] for frame in frames]


def parts(frame: Frame) -> Iterator[tuple[NDArray[Any], tuple[slice, slice]]]:
    for plane, step in zip(frame.planes, (1, 2, 2), strict=True):
        yield plane, (slice(SHAPE[0] // step), slice(SHAPE[1] // step))


def trace(planes: list[list[memoryview]], options: VVencOptions) -> list[FramePriors]:
    video = VideoFormat(width=SHAPE[1], height=SHAPE[0], frame_rate=Fraction(25), pix_fmt="yuv420p")
    stream = b"".join(VVenC(video, options).stream(planes))
    pictures = Probe(ProbeOptions(with_frames=True)).pictures([stream])
    return [replace(frame, **{name: array.copy() for name, array in frame.arrays().items()}) for frame in pictures]


def dense(cells: NDArray[Any], plane: str) -> NDArray[Any]:
    """One value per sample instead of one per cell."""
    step = 4 if plane == "y" else 2
    return cells.repeat(step, axis=0).repeat(step, axis=1)


class Compensation:
    """Predicts the inter samples of a decoded clip again.

    Luma vectors count in 1/16 sample, and so do their values in 1/32 chroma sample: both index the filters directly.
    """

    def __init__(self, oracle: ModuleType, frames: list[FramePriors]) -> None:
        self._oracle = oracle
        self._by_poc = {frame.picture.poc: frame for frame in frames}

    def reconstruct(self, frame: FramePriors, plane: str, taps: NDArray[np.int32]) -> NDArray[np.int32]:
        """Prediction + residual, clipped; meaningless where a block is not inter."""
        depth = frame.stream.bit_depth
        used = [dense(frame.uses_list(which), plane) for which in (0, 1)]
        part = [self._predict_from(frame, plane, which, taps) for which in (0, 1)]
        one = self._oracle.predict([np.where(used[0], *part)], depth)
        predicted = np.where(used[0] & used[1], self._oracle.predict(part, depth), one)
        return np.clip(predicted + frame.require(f"residual_{plane}"), 0, (1 << depth) - 1)

    def _predict_from(self, frame: FramePriors, plane: str, which: int, taps: NDArray[np.int32]) -> NDArray[np.int32]:
        mv = dense(frame.require(f"mv_l{which}").astype(np.int32), plane)
        distances = frame.require(f"ref_poc_delta_l{which}")
        predicted = np.zeros(frame.stream.plane_shape(plane), np.int32)
        for distance in np.unique(distances[distances != REF_NONE]):
            decoded = self._by_poc[frame.picture.poc + int(distance)].require(f"frame_{plane}").astype(np.int32)
            here = dense(distances == distance, plane)
            predicted[here] = self._oracle.interpolate(decoded, mv, frame.stream.bit_depth, taps)[here]
        return predicted


def is_described(frame: FramePriors) -> NDArray[np.bool_]:
    inter = frame.require("pred_mode") == PredMode.INTER
    return inter & ((frame.require("coding_flags") & UNDESCRIBED) == 0)


def kinds_of_cells(frame: FramePriors) -> Counter[str]:
    """Count cells that are compared, by the kinds of motion and residual that a fault could hide in."""
    described = is_described(frame)
    first, second = frame.uses_list(0), frame.uses_list(1)
    fraction = (frame.mv_fraction(0) * first[..., None]) | (frame.mv_fraction(1) * second[..., None])
    residual = (
        (frame.require("residual_y") != 0).reshape(SHAPE[0] // CELL, CELL, SHAPE[1] // CELL, CELL).any(axis=(1, 3))
    )
    kinds = {
        "integer": ~fraction.any(axis=-1),
        "fractional in x": fraction[..., 0] > 0,
        "fractional in y": fraction[..., 1] > 0,
        "from L0 alone": first & ~second,
        "from L1 alone": second & ~first,
        "from both lists": first & second,
        "with residual": residual,
        "without residual": ~residual,
    }
    return Counter({name: int((kinds[name] & described).sum()) for name in KINDS})


@pytest.mark.parametrize(
    ("gop", "preset", "absent"),
    [
        ("low-delay", "faster", {"from L1 alone"}),  # both lists hold the same one picture
        ("random-access", "fast", set()),
        ("random-access", "medium", set()),
    ],
)
def test_prediction_and_residual_give_the_decoded_samples(
    motion_oracle: ModuleType, cut_out: list[list[memoryview]], gop: Any, preset: Any, absent: set[str]
) -> None:
    frames = trace(cut_out, VVencOptions(gop=gop, preset=preset, extra=NO_FILTERS | WHOLE_DESCRIPTION))
    assert len(frames) == NUM_FRAMES
    compensation = Compensation(motion_oracle, frames)
    compared: Counter[str] = Counter()
    for frame in frames:
        compared += kinds_of_cells(frame)
        for plane in frame.stream.planes:
            taps = motion_oracle.LUMA_TAPS if plane == "y" else motion_oracle.CHROMA_TAPS
            wrong = compensation.reconstruct(frame, plane, taps) != frame.require(f"frame_{plane}")
            assert not (wrong & dense(is_described(frame), plane)).any(), (frame, plane)
    assert {name for name in KINDS if compared[name] == 0} == absent
    assert all(compared[name] > 2000 for name in KINDS if name not in absent), compared


def test_half_sample_vectors_take_one_of_two_filters(
    motion_oracle: ModuleType, cut_out: list[list[memoryview]]
) -> None:
    frames = trace(cut_out, VVencOptions(preset="fast", extra=NO_FILTERS | {"dmvr": "0"}))
    compensation = Compensation(motion_oracle, frames)
    smooth = motion_oracle.LUMA_TAPS.copy()
    smooth[8] = motion_oracle.HALF_PEL_TAPS
    smoothed = 0
    for frame in frames:
        decoded, here = frame.require("frame_y"), dense(is_described(frame), "y")
        sharp_is_wrong, smooth_is_wrong = (
            (compensation.reconstruct(frame, "y", taps) != decoded) & here for taps in (motion_oracle.LUMA_TAPS, smooth)
        )
        assert not (sharp_is_wrong & smooth_is_wrong).any(), frame
        smoothed += int(sharp_is_wrong.sum())
    assert smoothed > 1000
