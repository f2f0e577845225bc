"""Frames whose coding units are known: each map is painted from one list of units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from codecprior.core.arrays import REF_NONE, CodingFlag, PictureType, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo, StreamInfo


@dataclass(frozen=True)
class Unit:
    """A coding unit and what its maps hold; a vector is None where the list is unused."""

    box: Box
    pred_mode: PredMode
    flags: int
    qp: int
    vectors: tuple[tuple[int, int] | None, tuple[int, int] | None]
    deltas: tuple[int, int]


def make_units(rng: np.random.Generator, width: int, height: int) -> list[Unit]:
    """Split 64x64 blocks by four until they fit, then at random, down to 8x8; halve some once more."""
    units: list[Unit] = []
    pending = [Box(x, y, 64, 64) for y in range(0, height, 64) for x in range(0, width, 64)]
    while pending:
        box = pending.pop()
        if box.x >= width or box.y >= height:
            continue
        fits = box.x + box.width <= width and box.y + box.height <= height
        if box.width > 8 and (not fits or rng.random() < 0.6):
            half = box.width // 2
            pending += [Box(box.x + dx, box.y + dy, half, half) for dy in (0, half) for dx in (0, half)]
        elif rng.random() < 0.3:
            half = box.width // 2
            units += [make_unit(rng, Box(box.x + dx, box.y, half, box.height)) for dx in (0, half)]
        else:
            units.append(make_unit(rng, box))
    return sorted(units, key=lambda unit: (unit.box.y, unit.box.x))


def make_unit(rng: np.random.Generator, box: Box) -> Unit:
    inter = rng.random() < 0.8
    used = rng.choice([(True, False), (False, True), (True, True)]) if inter else (False, False)
    first, second = (
        (int(x), int(y)) if use else None for use, (x, y) in zip(used, rng.integers(-999, 999, (2, 2)), strict=True)
    )
    return Unit(
        box=box,
        pred_mode=PredMode.INTER if inter else PredMode.INTRA,
        flags=int(rng.integers(0, 64)),
        qp=int(rng.integers(-12, 64)),
        vectors=(first, second),
        deltas=(int(rng.integers(-2, 0)), int(rng.choice([-2, -1, 1]))),
    )


def make_priors(
    seed: int = 0, width: int = 72, height: int = 56, *, chroma_format: str = "4:2:0", mv_scale: int = 16
) -> tuple[FramePriors, list[Unit]]:
    """A coded picture with every map and residual plane, and its units in raster order."""
    rng = np.random.default_rng(seed)
    stream = StreamInfo(
        codec="vvc", coded_size=(width, height), bit_depth=8, chroma_format=chroma_format, mv_scale=mv_scale
    )
    rows, cols = stream.grid_shape
    maps: dict[str, Any] = {
        "mv_l0": np.zeros((rows, cols, 2), np.int16),
        "mv_l1": np.zeros((rows, cols, 2), np.int16),
        "ref_poc_delta_l0": np.full((rows, cols), REF_NONE, np.int16),
        "ref_poc_delta_l1": np.full((rows, cols), REF_NONE, np.int16),
        "pred_mode": np.full((rows, cols), PredMode.NONE, np.uint8),
        "coding_flags": np.zeros((rows, cols), np.uint8),
        "cu_size": np.zeros((rows, cols), np.uint8),
        "qp": np.zeros((rows, cols), np.int8),
    }
    units = make_units(rng, width, height)
    for unit in units:
        cells = unit.box.grid_slices
        maps["pred_mode"][cells] = unit.pred_mode
        maps["qp"][cells] = unit.qp
        maps["cu_size"][cells] = (unit.box.width.bit_length() - 1) << 4 | (unit.box.height.bit_length() - 1)
        flags = maps["coding_flags"][cells]
        flags[...] = unit.flags
        flags[:, 0] |= np.uint8(CodingFlag.LEFT_EDGE)
        flags[0] |= np.uint8(CodingFlag.TOP_EDGE)
        for ref_list, vector in enumerate(unit.vectors):
            if vector is not None:
                maps[f"mv_l{ref_list}"][cells] = vector
                maps[f"ref_poc_delta_l{ref_list}"][cells] = unit.deltas[ref_list]
    for plane in stream.planes:
        maps[f"residual_{plane}"] = rng.integers(-255, 256, stream.plane_shape(plane), dtype=np.int16)
    priors = FramePriors(
        stream=stream,
        picture=PictureInfo(poc=10, decode_order=4, picture_type=PictureType.B, slice_qp=30),
        frame_index=5,
        box=Box(0, 0, width, height),
        reference_frames={9: 4, 10: 5, 11: 6},
        **maps,
    )
    return priors, units


@pytest.fixture(scope="session")
def make() -> Any:
    return make_priors
