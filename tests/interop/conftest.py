"""Synthetic clips whose maps obey the rules of the format: a quadtree of coding units in each frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest

from codecprior.core.arrays import REF_NONE, CodingFlag, PictureType, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo, StreamInfo

MakeClip = Callable[..., list[FramePriors]]

_KINDS = ("intra", "ibc", "l0", "l1", "both", "affine", "geo")


def _quadtree(rng: np.random.Generator, x: int, y: int, size: int, picture: tuple[int, int]) -> Iterator[Box]:
    width, height = picture
    if x >= width or y >= height:
        return
    fits = x + size <= width and y + size <= height
    if fits and (size == 8 or rng.random() < 0.5):
        yield Box(x, y, size, size)
    else:
        for dy in (0, size // 2):
            for dx in (0, size // 2):
                yield from _quadtree(rng, x + dx, y + dy, size // 2, picture)


def _references(pictures: list[PictureInfo], index: int) -> dict[int, int]:
    return {p.poc: t for t, p in enumerate(pictures) if p.cvs == pictures[index].cvs}


def _make_frame(
    *, rng: np.random.Generator, stream: StreamInfo, pictures: list[PictureInfo], index: int, mv_dtype: str
) -> FramePriors:
    picture = pictures[index]
    rows, cols = stream.grid_shape
    width, height = stream.coded_size
    limits = np.iinfo(np.int16) if mv_dtype == "int16" else np.iinfo(np.int32)
    references = _references(pictures, index)
    deltas = [poc - picture.poc for poc in references if poc != picture.poc]
    maps = {
        "mv_l0": np.zeros((rows, cols, 2), mv_dtype),
        "mv_l1": np.zeros((rows, cols, 2), mv_dtype),
        "ref_poc_delta_l0": np.full((rows, cols), REF_NONE, np.int16),
        "ref_poc_delta_l1": np.full((rows, cols), REF_NONE, np.int16),
        "pred_mode": np.full((rows, cols), PredMode.NONE, np.uint8),
        "coding_flags": np.zeros((rows, cols), np.uint8),
        "cu_size": np.zeros((rows, cols), np.uint8),
        "qp": np.zeros((rows, cols), np.int8),
    }

    def vector(*shape: int) -> np.ndarray:
        small = rng.integers(-200, 200, (*shape, 2))
        return np.where(rng.random() < 0.1, rng.choice([limits.min, limits.max]), small)

    for y in range(0, height, 64):
        for x in range(0, width, 64):
            for unit in _quadtree(rng, x, y, 64, stream.coded_size) if picture.has_priors else ():
                cells = unit.grid_slices
                kind = rng.choice(_KINDS) if deltas else "intra"
                flags = int(rng.integers(0, 4)) | (CodingFlag.CIIP if rng.random() < 0.1 else 0)
                mode = {"intra": PredMode.INTRA, "ibc": PredMode.IBC}.get(kind, PredMode.INTER)
                if mode is PredMode.INTER:
                    first, second = kind in ("l0", "both", "affine", "geo"), kind in ("l1", "both", "affine")
                    shape = (unit.height // 4, unit.width // 4) if kind == "affine" else (1, 1)
                    for which, used in (("l0", first), ("l1", second)):
                        if used:
                            maps[f"mv_{which}"][cells] = vector(*shape)
                            maps[f"ref_poc_delta_{which}"][cells] = rng.choice(deltas)
                    if kind == "geo":  # the lower half has the other list
                        half = Box(unit.x, unit.y + unit.height // 2, unit.width, unit.height // 2).grid_slices
                        for name in ("mv_l", "ref_poc_delta_l"):
                            maps[f"{name}1"][half] = maps[f"{name}0"][half]
                            maps[f"{name}0"][half] = 0 if name == "mv_l" else REF_NONE
                        flags |= CodingFlag.GEO
                    if kind == "affine":
                        flags |= CodingFlag.AFFINE
                part = maps["coding_flags"][cells]
                part[:] = flags
                part |= np.where(rng.random(part.shape) < 0.5, CodingFlag.RESIDUAL, 0).astype(np.uint8)
                part[:, 0] |= np.uint8(CodingFlag.LEFT_EDGE)
                part[0] |= np.uint8(CodingFlag.TOP_EDGE)
                maps["pred_mode"][cells] = mode
                maps["cu_size"][cells] = (unit.width.bit_length() - 1) << 4 | (unit.height.bit_length() - 1)
                maps["qp"][cells] = rng.integers(-12, 64)
    for plane in stream.planes:
        shape = stream.plane_shape(plane)
        maps[f"residual_{plane}"] = (rng.integers(-1023, 1024, shape) * (rng.random(shape) < 0.3)).astype(np.int16)
    return FramePriors(
        stream=stream,
        picture=picture,
        frame_index=index,
        box=Box(0, 0, width, height),
        reference_frames=references,
        **maps,
    )


def _make_clip(
    num_frames: int = 4,
    *,
    seed: int = 0,
    coded_size: tuple[int, int] = (72, 40),
    conformance_window: tuple[int, int, int, int] = (0, 0, 0, 0),
    chroma_format: str = "4:2:0",
    mv_dtype: str = "int16",
    intra_period: int = 3,
    concealed: int | None = None,
) -> list[FramePriors]:
    """Make frames of a whole coded picture; POC counts by 2 and starts again every ``intra_period`` frames."""
    rng = np.random.default_rng(seed)
    stream = StreamInfo(
        codec="vvc",
        coded_size=coded_size,
        conformance_window=conformance_window,
        bit_depth=10,
        chroma_format=chroma_format,
        frame_rate=Fraction(30000, 1001),
    )
    pictures = [
        PictureInfo(
            poc=2 * (t % intra_period),
            decode_order=t,
            cvs=t // intra_period,
            picture_type=PictureType.B if t % intra_period else PictureType.I,
            slice_qp=30 + t,
            coded_size_bytes=1000 + t,
            lmcs=t % 4,
            pts_seconds=t / 29.97,
            has_priors=t != concealed,
        )
        for t in range(num_frames)
    ]
    return [
        _make_frame(rng=rng, stream=stream, pictures=pictures, index=t, mv_dtype=mv_dtype) for t in range(num_frames)
    ]


def _cropped(frame: FramePriors) -> FramePriors:
    box = frame.stream.output_box
    return frame.crop(box.x, box.y, box.width, box.height)


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    return _make_clip


@pytest.fixture(scope="session")
def visible_part() -> Callable[[FramePriors], FramePriors]:
    """What a store's reader gives: the conformance window of a coded picture."""
    return _cropped
