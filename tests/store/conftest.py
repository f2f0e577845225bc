"""Streams and frames that are made up but consistent: what a store must keep bit by bit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecprior.core.arrays import FRAME_ARRAYS, GRID_ARRAYS, REF_NONE, RESIDUAL_ARRAYS, PictureType, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.store.writer import PassWriter, StoreWriter

CREATED = {"created": "2024-01-01T00:00:00+00:00", "encoder": {"name": "vvenc"}}


def make_stream(width: int = 48, height: int = 40, **facts: Any) -> StreamInfo:
    defaults: dict[str, Any] = {
        "codec": "vvc",
        "bit_depth": 8,
        "chroma_format": "4:2:0",
        "frame_rate": Fraction(30000, 1001),
    }
    return StreamInfo(coded_size=(width, height), **{**defaults, **facts})


def make_arrays(
    stream: StreamInfo, index: int, *, with_frames: bool = False, mv_dtype: str = "int16"
) -> dict[str, np.ndarray]:
    """Arrays of frame ``index``: the same ones each time."""
    rng = np.random.default_rng(index)
    rows, cols = stream.grid_shape
    reach = 1 << (17 if mv_dtype == "int32" else 13)
    arrays: dict[str, np.ndarray] = {
        "pred_mode": rng.choice([PredMode.INTER, PredMode.INTRA, PredMode.IBC], (rows, cols)).astype(np.uint8),
        "coding_flags": rng.integers(0, 256, (rows, cols), dtype=np.uint8),
        "cu_size": rng.choice([0x22, 0x33, 0x64], (rows, cols)).astype(np.uint8),
        "qp": rng.integers(-12, 64, (rows, cols), dtype=np.int8),
    }
    for ref_list in (0, 1):
        used = (arrays["pred_mode"] == PredMode.INTER) & (rng.random((rows, cols)) < 0.5)
        vectors = rng.integers(-reach, reach, (rows, cols, 2)) * used[..., None]
        arrays[f"mv_l{ref_list}"] = vectors.astype(mv_dtype)
        arrays[f"ref_poc_delta_l{ref_list}"] = np.where(used, -1, REF_NONE).astype(np.int16)
    peak = 1 << stream.bit_depth
    for plane in stream.planes:
        shape = stream.plane_shape(plane)
        sparse = rng.random(shape) < 0.2
        arrays[f"residual_{plane}"] = (rng.integers(1 - peak, peak, shape) * sparse).astype(np.int16)
        if with_frames:
            arrays[f"frame_{plane}"] = rng.integers(0, peak, shape).astype(np.uint8 if peak <= 256 else np.uint16)
    return arrays


def make_frame(stream: StreamInfo, index: int, **options: Any) -> FramePriors:
    picture = PictureInfo(
        poc=index % 20,
        decode_order=index,
        cvs=index // 20,
        picture_type=PictureType.I if index % 20 == 0 else PictureType.P,
        slice_qp=30 + index % 3,
        coded_size_bytes=1000 + index,
        lmcs=index % 4,
        pts_seconds=index / 30,
    )
    width, height = stream.coded_size
    whole = StreamInfo(codec="vvc", coded_size=(width, height), bit_depth=8, chroma_format="4:0:0").output_box
    return FramePriors(
        stream=stream, picture=picture, frame_index=index, box=whole, **make_arrays(stream, index, **options)
    )


def append_frames(clip: PassWriter, stream: StreamInfo, indices: range, **options: Any) -> None:
    for index in indices:
        clip.append(make_frame(stream, index, **options))


def write_store(
    path: Path | str,
    stream: StreamInfo,
    count: int,
    *,
    with_frames: bool = False,
    mv_dtype: str = "int16",
    reverse: bool = False,
    **options: Any,
) -> None:
    kinds: dict[str, Any] = {"with_frames": with_frames, "mv_dtype": mv_dtype}
    with StoreWriter(path, digest="made up", attributes=CREATED, with_frames=with_frames, **options) as writer:
        append_frames(writer.begin(stream, mv_dtype=mv_dtype), stream, range(count), **kinds)
        if reverse:
            backward = writer.begin_reverse(stream, mv_dtype=mv_dtype)
            append_frames(backward, stream, range(1000, 1000 + count), **kinds)
        writer.finish()


def assert_same_frame(found: FramePriors, wanted: FramePriors) -> None:
    assert found.picture == wanted.picture
    for spec in (*GRID_ARRAYS, *RESIDUAL_ARRAYS, *FRAME_ARRAYS):
        expected = getattr(wanted, spec.name)
        array = getattr(found, spec.name)
        if expected is None:
            assert array is None, spec.name
        else:
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected, err_msg=spec.name)


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Maker:
    """The functions above, for tests that cannot import them."""

    stream = staticmethod(make_stream)
    arrays = staticmethod(make_arrays)
    frame = staticmethod(make_frame)
    append = staticmethod(append_frames)
    write = staticmethod(write_store)
    assert_same_frame = staticmethod(assert_same_frame)
    file_bytes = staticmethod(file_bytes)
    module = Path(__file__)
    attributes = CREATED


@pytest.fixture(scope="session")
def make() -> type[Maker]:
    return Maker


@pytest.fixture
def stored(tmp_path: Path, make: type[Maker]) -> Path:
    """Store of 37 frames: two whole shards and a part of one."""
    path = tmp_path / "clip.zarr"
    make.write(path, make.stream(), 37)
    return path
