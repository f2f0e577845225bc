"""Size and random crops of a store against the layouts that people use: .npy files per frame, and HDF5."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import hdf5plugin  # noqa: F401 - registers the codec that the exported file uses
import numpy as np

import codecprior
from benchmarks.material import BUILD, stream
from benchmarks.measure import compare, machine, write
from benchmarks.tracing import extract_stream, show
from codecprior.interop.convert import export_store

__all__ = ["Layouts", "layouts", "run"]

_QP = 32
_FRAMES, _SIDE, _CROPS = 15, 256, 200


def run() -> None:
    """Measure and write ``storage.json``."""
    before = machine()
    results: dict[str, Any] = {}
    for name in ("bigbuckbunny", "bikes"):
        results |= _measure(name, _QP)
    write("storage", before, results)


class Layouts(NamedTuple):
    """Where the same priors lie in each layout."""

    store: Path
    npy: Path
    hdf5: Path
    gzip: Path


def layouts(name: str, qp: int) -> Layouts:
    """Extract the priors of a clip and export them, once."""
    store = BUILD / f"{name}-priors.zarr"
    if not store.exists():
        extract_stream(stream(name, qp), store)
    priors = codecprior.open_store(store)
    npy, hdf5, gzip = (BUILD / f"{name}-{kind}" for kind in ("npy", "blosc.h5", "gzip.h5"))
    if not npy.exists():
        export_store(priors, npy, "cpgd-net")
    if not hdf5.exists():
        export_store(priors, hdf5, "hdf5")
    if not gzip.exists():
        _write_gzip(priors, gzip)
    return Layouts(store, npy, hdf5, gzip)


def _measure(name: str, qp: int) -> dict[str, Any]:
    store, npy, hdf5, gzip = layouts(name, qp)
    priors = codecprior.open_store(store)
    bytes_per_frame = {
        "store": priors.info()["stored_bytes"] / len(priors),
        ".npy": sum(file.stat().st_size for file in npy.rglob("*.npy")) / (len(priors) - 1),
        "HDF5 blosc": hdf5.stat().st_size / len(priors),
        "HDF5 gzip": gzip.stat().st_size / len(priors),
    }
    print(f"{name}, QP {qp}: bytes per frame")
    for kind, size in bytes_per_frame.items():
        print(f"  {kind:20s} {size:9.0f}  {size / bytes_per_frame['store']:.2f} times the store")
    crops = _crops(priors)
    files = [sorted((npy / kind).rglob("*.npy")) for kind in ("MVs", "resi")]
    with h5py.File(hdf5) as blosc_file, h5py.File(gzip) as gzip_file:
        comparison = compare(
            "store",
            {
                "store": lambda: _read_store(priors, crops),
                ".npy": lambda: _read_npy(*files, crops),
                "HDF5 blosc": lambda: _read_hdf5(blosc_file, crops),
                "HDF5 gzip": lambda: _read_hdf5(gzip_file, crops),
            },
            turns=5,
        )
    show(f"{_CROPS} random crops of {_FRAMES}x{_SIDE}x{_SIDE}, L0 vectors and luma residual", comparison)
    return {
        f"{name}, QP {qp}, bytes per frame": {kind: round(size) for kind, size in bytes_per_frame.items()},
        f"{name}, QP {qp}, {_CROPS} crops": comparison,
    }


def _crops(priors: codecprior.PriorsStore) -> list[tuple[int, int, int]]:
    random = np.random.default_rng(0)
    width, height = priors.size
    return [
        (
            int(random.integers(len(priors) - _FRAMES)),
            int(random.integers((width - _SIDE) // 4 + 1)) * 4,
            int(random.integers((height - _SIDE) // 4 + 1)) * 4,
        )
        for _ in range(_CROPS)
    ]


def _read_store(priors: codecprior.PriorsStore, crops: list[tuple[int, int, int]]) -> None:
    selected = priors.select("mv_l0", "residual_y")
    for t, x, y in crops:
        arrays = selected[t : t + _FRAMES].crop(x, y, _SIDE, _SIDE).load().arrays
        assert arrays["residual_y"].shape == (_FRAMES, _SIDE, _SIDE)


def _read_npy(vectors: list[Path], residuals: list[Path], crops: list[tuple[int, int, int]]) -> None:
    for t, x, y in crops:
        first = min(t, len(vectors) - _FRAMES)
        for mv, residual in zip(vectors[first : first + _FRAMES], residuals[first : first + _FRAMES], strict=True):
            np.load(mv)[:, y // 4 : (y + _SIDE) // 4, x // 4 : (x + _SIDE) // 4].copy()
            np.load(residual)[y : y + _SIDE, x : x + _SIDE].copy()


def _read_hdf5(file: h5py.File, crops: list[tuple[int, int, int]]) -> None:
    vectors, residuals = file["mv_l0"], file["residual_y"]
    for t, x, y in crops:
        vectors[t : t + _FRAMES, y // 4 : (y + _SIDE) // 4, x // 4 : (x + _SIDE) // 4]
        residuals[t : t + _FRAMES, y : y + _SIDE, x : x + _SIDE]


def _write_gzip(priors: codecprior.PriorsStore, path: Path) -> None:
    """Write the same arrays with h5py's own means: chunks of one frame, gzip."""
    clip = priors.coded.load().arrays
    unfinished = path.with_suffix(".unfinished")
    with h5py.File(unfinished, "w") as file:
        for name, values in clip.items():
            file.create_dataset(
                name, data=values, chunks=(1, *values.shape[1:]), compression="gzip", compression_opts=4
            )
    shutil.move(unfinished, path)
