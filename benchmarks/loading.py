"""Random training clips from a prepared dataset, against the layouts that people use: .npy files and HDF5.

A clip is 15 frames of 256x256: blurry and sharp frames as uint8, vectors in samples and |residual| / 512 as float32;
from HDF5, which has them, also references and modes, which tell valid vectors from others. All contestants read the
same clips from the same 720p frames and priors, in one process, with the files in the page cache. One folder of frames
stands in for both sides; what they show changes little. Eight names for the same files stand in for eight sequences:
what was decompressed for one clip is seldom there for the next, as in a training.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

import codecprior
from benchmarks.material import BUILD, frame_folder
from benchmarks.measure import compare, machine, write
from benchmarks.storage import layouts
from benchmarks.tracing import show
from codecprior.datasets.manifest import Manifest, ManifestEntry, write_manifest
from codecprior.datasets.reader import ClipReader
from codecprior.datasets.sampling import ClipRequest
from codecprior.media.images import list_images
from codecprior.store.packed import pack_frames

__all__ = ["run"]

_NAME, _QP, _LENGTH = "bigbuckbunny", 32, 132
_WIDTH, _HEIGHT = 1280, 720
_FRAMES, _SIDE, _SEQUENCES = 15, 256, 8
_FAST, _SLOW = 100, 6
"""Clips of a turn: where frames are quick to read, and where pictures are decoded."""

_MANY: Final = 1000
_FIRST_SAMPLE: Final = """
import sys, time
begin = time.perf_counter()
from codecprior.datasets.manifest import read_manifest
from codecprior.datasets.reader import ClipReader
from codecprior.datasets.sampling import RandomClips
manifest = read_manifest(sys.argv[1])
ClipReader(manifest).read(RandomClips(manifest.entries).request(0))
print(time.perf_counter() - begin)
"""


class _Place(NamedTuple):
    sequence: int
    frame: int
    x: int
    y: int

    @property
    def request(self) -> ClipRequest:
        """The clip as the reader takes it."""
        places = (_WIDTH - _SIDE) // 4 + 1, (_HEIGHT - _SIDE) // 4 + 1
        return ClipRequest(
            sequence=self.sequence,
            frames=range(self.frame, self.frame + _FRAMES),
            crop=(_SIDE, _SIDE),
            position=((self.x // 4 + 0.5) / places[0], (self.y // 4 + 0.5) / places[1]),
        )

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Rows and columns of the picture."""
        return slice(self.y, self.y + _SIDE), slice(self.x, self.x + _SIDE)

    @property
    def cells(self) -> tuple[slice, slice]:
        """Rows and columns of the 4x4 grid."""
        return slice(self.y // 4, (self.y + _SIDE) // 4), slice(self.x // 4, (self.x + _SIDE) // 4)


_Read = Callable[[_Place], Any]


def run() -> None:
    """Measure and write ``loading.json``."""
    before = machine()
    pictures = list_images(frame_folder(_NAME, _LENGTH))
    store, npy, hdf5, gzip = layouts(_NAME, _QP)
    packed = BUILD / f"{_NAME}-frames.zarr"
    if not packed.exists():
        pack_frames(packed, {side: map(_rgb, pictures) for side in ("blurry", "sharp")}, num_frames=_LENGTH)
    arrays = _frame_arrays(pictures)
    priors = [sorted((npy / kind).rglob("*.npy")) for kind in ("MVs", "resi")]
    with ExitStack() as stack:
        manifest = _manifest(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=BUILD))), store, packed, pictures)
        unpacked = replace(manifest, entries=tuple(replace(entry, frames=None) for entry in manifest.entries))
        blosc_file, gzip_file = (stack.enter_context(h5py.File(_with_frames(path, pictures))) for path in (hdf5, gzip))
        from_packed, from_pictures = ClipReader(manifest), ClipReader(unpacked)
        contestants: dict[str, _Read] = {
            "packed frames": lambda place: from_packed.read(place.request),
            ".npy, frames too": lambda place: _read_npy(priors, arrays, np.load, place),
            "HDF5 blosc": lambda place: _read_hdf5(blosc_file, place),
        }
        slow: dict[str, _Read] = {
            "packed frames": contestants["packed frames"],
            "PNG frames": lambda place: from_pictures.read(place.request),
            ".npy, PNG frames": lambda place: _read_npy(priors, pictures, _rgb, place),
            "HDF5 gzip": lambda place: _read_hdf5(gzip_file, place),
        }
        results = _compare(contestants, _FAST) | _compare(slow, _SLOW)
        results["first sample of a manifest"] = _first_sample(manifest)
    results["bytes of priors per frame"] = _bytes_per_frame(store, npy)
    write("loading", before, results)


def _compare(contestants: dict[str, _Read], count: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    places = [
        _Place(
            int(random.integers(_SEQUENCES)),
            int(random.integers(_LENGTH - _FRAMES + 1)),
            int(random.integers((_WIDTH - _SIDE) // 4 + 1)) * 4,
            int(random.integers((_HEIGHT - _SIDE) // 4 + 1)) * 4,
        )
        for _ in range(count)
    ]
    comparison = compare(
        "packed frames",
        {name: partial(_read_all, read, places) for name, read in contestants.items()},
        turns=5,
    )
    title = f"{count} clips of {_FRAMES}x{_SIDE}x{_SIDE}"
    show(f"{title}, blurry, sharp, vectors and residual", comparison)
    rates = {name: round(count / statistics.median(times), 1) for name, times in comparison.wall_seconds.items()}
    print("  clips/s: " + ", ".join(f"{name} {rate}" for name, rate in rates.items()))
    return {title: comparison, f"{title}, clips per second": rates}


def _read_all(read: _Read, places: Sequence[_Place]) -> None:
    for place in places:
        read(place)


def _first_sample(manifest: Manifest) -> dict[str, Any]:
    """Time a new process from importing the reader to the first clip."""
    seconds = []
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        many = [replace(manifest.entries[0], sequence=f"sequence-{number}") for number in range(_MANY)]
        write_manifest(folder, many)
        for _ in range(5):
            command = [sys.executable, "-c", _FIRST_SAMPLE, folder]
            seconds.append(round(float(subprocess.run(command, check=True, capture_output=True).stdout), 3))
    print(f"first sample of {_MANY} sequences, imports included: {statistics.median(seconds):.2f} s")
    return {"sequences": _MANY, "seconds": {"median": statistics.median(seconds), "all": seconds}}


def _bytes_per_frame(store: Path, npy: Path) -> dict[str, int]:
    facts = codecprior.open_store(store).info()
    arrays = {name: array["stored_bytes"] / _LENGTH for name, array in facts["arrays"].items()}
    sizes = {
        "store, all arrays": facts["stored_bytes"] / _LENGTH,
        "store, what .npy holds": arrays["mv_l0"] + arrays["ref_poc_delta_l0"] + arrays["residual_y"],
        ".npy": sum(file.stat().st_size for file in npy.rglob("*.npy")) / (_LENGTH - 1),
    }
    print("bytes of priors per frame: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items()))
    return {name: round(size) for name, size in sizes.items()}


def _read_npy(
    priors: Sequence[Sequence[Path]], frames: Sequence[Path], load: Callable[[Path], Any], place: _Place
) -> list[NDArray[Any]]:
    """Read as CPGD-Net's loader does: whole files, then the crop. The first frame of a clip has no pair."""
    files = frames[place.frame : place.frame + _FRAMES]
    sides = [np.stack([load(file)[place.pixels] for file in files]) for _ in range(2)]
    vectors, residuals = (files[place.frame : place.frame + _FRAMES - 1] for files in priors)
    rows, cols = place.cells
    mv = np.stack([np.load(file)[:, rows, cols] for file in vectors]) / np.float32(16)
    return [*sides, mv, np.abs(np.stack([np.load(file)[place.pixels] for file in residuals])) / np.float32(512)]


def _read_hdf5(file: h5py.File, place: _Place) -> list[NDArray[Any]]:
    frames = slice(place.frame, place.frame + _FRAMES)
    sides = [file[side][(frames, *place.pixels)] for side in ("blurry", "sharp")]
    maps = [file[name][(frames, *place.cells)] for name in ("ref_poc_delta_l0", "pred_mode")]
    mv = file["mv_l0"][(frames, *place.cells)] / np.float32(16)
    return [*sides, *maps, mv, np.abs(file["residual_y"][(frames, *place.pixels)]) / np.float32(512)]


def _manifest(folder: Path, store: Path, packed: Path, pictures: Sequence[Path]) -> Manifest:
    files = tuple(map(str, pictures))
    entries = []
    for number in range(_SEQUENCES):
        names = [folder / f"{kind}-{number}.zarr" for kind in ("priors", "frames")]
        for name, path in zip(names, (store, packed), strict=True):
            name.symlink_to(path)
        entries.append(
            ManifestEntry(
                sequence=str(number),
                split="train",
                num_frames=_LENGTH,
                blurry=files,
                sharp=files,
                store=str(names[0]),
                frames=str(names[1]),
            )
        )
    return Manifest(root=str(folder), entries=tuple(entries))


def _frame_arrays(pictures: Sequence[Path]) -> list[Path]:
    """Write every picture as .npy."""
    folder = BUILD / f"{_NAME}-frames-npy"
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for picture in pictures:
            np.save(unfinished / f"{picture.stem}.npy", _rgb(picture))
        unfinished.rename(folder)
    return sorted(folder.iterdir())


def _with_frames(priors: Path, pictures: Sequence[Path]) -> Path:
    """Copy an HDF5 file of priors and add both sides, compressed as the priors are."""
    path = priors.with_name(f"{priors.stem}-frames.h5")
    if path.exists():
        return path
    unfinished = path.with_suffix(".unfinished")
    shutil.copyfile(priors, unfinished)
    if "gzip" in priors.name:
        options: dict[str, Any] = {"chunks": (1, _HEIGHT, _WIDTH, 3), "compression": "gzip", "compression_opts": 4}
    else:
        blosc = hdf5plugin.Blosc(cname="lz4", clevel=9, shuffle=hdf5plugin.Blosc.NOSHUFFLE)
        options = {"chunks": (8, 64, 64, 3), "fletcher32": True, **blosc}
    with h5py.File(unfinished, "a") as file:
        for side in ("blurry", "sharp"):
            file.create_dataset(side, data=np.stack([_rgb(picture) for picture in pictures]), **options)
    return unfinished.rename(path)


def _rgb(picture: Path) -> NDArray[np.uint8]:
    return cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)  # type: ignore[no-any-return]
