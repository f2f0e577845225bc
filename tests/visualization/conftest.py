"""Synthetic priors with everything a stream can have: a random partition, a zoom, all modes, signed residuals."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from codecprior.core.arrays import REF_NONE, CodingFlag, PictureType, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.store.writer import StoreWriter

MakePriors = Callable[..., FramePriors]

_KINDS = [
    (PredMode.INTRA, CodingFlag.RESIDUAL),
    (PredMode.INTER, CodingFlag.SKIP | CodingFlag.MERGE),
    (PredMode.INTER, CodingFlag.MERGE | CodingFlag.RESIDUAL),
    (PredMode.INTER, CodingFlag.RESIDUAL),
    (PredMode.INTER, CodingFlag.MERGE | CodingFlag.AFFINE),
    (PredMode.INTER, CodingFlag.MERGE | CodingFlag.GEO),
    (PredMode.INTER, CodingFlag.MERGE | CodingFlag.CIIP),
    (PredMode.IBC, CodingFlag.RESIDUAL),
]


def _partition(rng: np.random.Generator, width: int, height: int) -> list[tuple[int, int, int]]:
    """Random quadtree of squares from 64 down to 8 samples that covers the picture; CUs never leave it."""
    blocks: list[tuple[int, int, int]] = []
    pending = [(x, y, 64) for y in range(0, height, 64) for x in range(0, width, 64)]
    while pending:
        x, y, side = pending.pop()
        if x >= width or y >= height:
            continue
        outside = x + side > width or y + side > height
        if side > 4 and (outside or (side > 8 and rng.random() < 0.45)):
            half = side // 2
            pending += [(x + dx, y + dy, half) for dx in (0, half) for dy in (0, half)]
        else:
            blocks.append((x, y, side))
    return blocks


def _make_priors(
    width: int = 128,
    height: int = 96,
    *,
    frame_index: int = 3,
    chroma_format: str = "4:2:0",
    bit_depth: int = 8,
    has_priors: bool = True,
    zoom: float = 0.04,
    seed: int = 1,
) -> FramePriors:
    rng = np.random.default_rng(seed)
    stream = StreamInfo(
        codec="vvc",
        coded_size=(width, height),
        bit_depth=bit_depth,
        chroma_format=chroma_format,
        frame_rate=Fraction(30),
    )
    picture = PictureInfo(
        poc=frame_index,
        decode_order=frame_index,
        picture_type=PictureType.B,
        slice_qp=32,
        coded_size_bytes=1234,
        has_priors=has_priors,
    )
    rows, cols = stream.grid_shape
    arrays: dict[str, NDArray[Any]] = {
        "mv_l0": np.zeros((rows, cols, 2), np.int16),
        "mv_l1": np.zeros((rows, cols, 2), np.int16),
        "ref_poc_delta_l0": np.full((rows, cols), REF_NONE, np.int16),
        "ref_poc_delta_l1": np.full((rows, cols), REF_NONE, np.int16),
        "pred_mode": np.full((rows, cols), PredMode.NONE, np.uint8),
        "coding_flags": np.zeros((rows, cols), np.uint8),
        "cu_size": np.zeros((rows, cols), np.uint8),
        "qp": np.zeros((rows, cols), np.int8),
    }
    planes = {f"residual_{name}": np.zeros(stream.plane_shape(name), np.int16) for name in stream.planes}
    if has_priors:
        for x, y, side in _partition(rng, width, height):
            cells = slice(y // 4, (y + side) // 4), slice(x // 4, (x + side) // 4)
            mode, flags = _KINDS[rng.choice(len(_KINDS), p=[0.1, 0.35, 0.2, 0.15, 0.08, 0.05, 0.05, 0.02])]
            arrays["pred_mode"][cells] = mode
            arrays["coding_flags"][cells] = flags
            arrays["coding_flags"][cells[0], x // 4] |= int(CodingFlag.LEFT_EDGE)
            arrays["coding_flags"][y // 4, cells[1]] |= int(CodingFlag.TOP_EDGE)
            arrays["cu_size"][cells] = side.bit_length() - 1 << 4 | side.bit_length() - 1
            arrays["qp"][cells] = rng.integers(28, 37)
            if mode == PredMode.INTER:
                centre = np.array([x + side / 2 - width / 2, y + side / 2 - height / 2])
                arrays["mv_l0"][cells] = np.rint(16 * zoom * centre)
                arrays["ref_poc_delta_l0"][cells] = -1
            if flags & CodingFlag.RESIDUAL:
                block = planes["residual_y"][y : y + side, x : x + side]
                block[:] = np.rint(rng.laplace(0, 4, block.shape)).astype(np.int16)
    return FramePriors(
        stream=stream,
        picture=picture,
        frame_index=frame_index,
        box=stream.output_box,
        reference_frames={frame_index - 1: frame_index - 1},
        **arrays,
        **planes,
    )


@pytest.fixture
def make_priors() -> MakePriors:
    """Return a function that makes synthetic priors of any size."""
    return _make_priors


@pytest.fixture(scope="session")
def vvc_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a VVC stream of 6 frames, 64x48, whose picture changes from frame to frame."""
    path = tmp_path_factory.mktemp("vvc") / "clip.266"
    source = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-frames:v", "6", "-pix_fmt", "yuv420p10le"]
    codec = ["-c:v", "libvvenc", "-preset", "faster", "-qp", "30", "-f", "vvc"]
    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, "-loglevel", "error", *source, *codec, str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory, vvc_clip: Path) -> Path:
    """Return a store of 6 synthetic frames, 64x48, with the bitstream beside it."""
    path = tmp_path_factory.mktemp("store") / "clip.zarr"
    shutil.copy(vvc_clip, path.with_suffix(".266"))
    frames = [_make_priors(64, 48, frame_index=index, bit_depth=10, seed=index) for index in range(6)]
    with StoreWriter(path, digest="synthetic") as writer:
        forward = writer.begin(frames[0].stream)
        for priors in frames:
            forward.append(priors)
        writer.finish()
    return path
