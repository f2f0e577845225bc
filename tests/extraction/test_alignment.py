from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from codecprior.datasets.layouts import recognise
from codecprior.datasets.pairing import SequencePair
from codecprior.errors import DatasetError
from codecprior.extraction.alignment import check_alignment, least_psnr
from codecprior.extraction.discover import SequenceInput
from codecprior.extraction.sequence import Directions, ExtractionSettings, extract_sequence
from codecprior.extraction.vvc import VvcBackend
from vvc_wrappers.vvenc import VVencOptions

BACKEND = VvcBackend(encoder=VVencOptions(threads=1, qp=27), decoder_threads=1)


@pytest.fixture
def pair(trees: Any, tmp_path: Path) -> SequencePair:
    """Nine frames of each side."""
    return recognise(trees.generic(tmp_path / "pairs", sequences=1, frames=9)).pairs[0]


def extracted(
    pair: SequencePair, store: Path, *, directions: Directions = "forward", with_frames: bool = False, qp: int = 27
) -> str:
    backend = replace(BACKEND, encoder=replace(BACKEND.encoder, qp=qp))
    settings = ExtractionSettings(backend=backend, directions=directions, with_frames=with_frames)
    assert pair.blurry is not None
    extract_sequence(SequenceInput(name=pair.name, path=pair.blurry.path, kind="images"), str(store), settings)
    return str(store)


@pytest.mark.parametrize("with_frames", [False, True])
def test_priors_of_the_frames_beside_them_pass_in_both_directions(
    pair: SequencePair, tmp_path: Path, with_frames: bool
) -> None:
    store = extracted(pair, tmp_path / "a.zarr", directions="both", with_frames=with_frames)
    checks = check_alignment(pair, store, BACKEND)
    assert (checks["num_frames"], checks["size"], checks["frame_names"]) == (9, [176, 144], True)
    assert checks["frames"] == [0, 4, 8]
    for direction in ("forward", "reverse"):
        found, least = checks["psnr_db"][direction], checks["least_psnr_db"][direction]
        assert all(50 > psnr > needed + 4 for psnr, needed in zip(found, least, strict=True))


@pytest.mark.parametrize("qp", [12, 51])
def test_the_bound_holds_for_noise_which_codes_worst(pair: SequencePair, tmp_path: Path, qp: int) -> None:
    assert pair.blurry is not None
    random = np.random.default_rng(0)
    for file in pair.blurry.files:
        cv2.imwrite(str(file), random.integers(0, 256, (144, 176, 3), dtype=np.uint8))
    check_alignment(pair, extracted(pair, tmp_path / "a.zarr", qp=qp), BACKEND)


def test_least_psnr_falls_by_six_decibels_as_the_step_doubles() -> None:
    assert least_psnr(4) == pytest.approx(48.13, abs=0.01)
    assert least_psnr(22) - least_psnr(28) == pytest.approx(6.02, abs=0.01)


def test_frames_that_moved_by_one_are_found(pair: SequencePair, tmp_path: Path) -> None:
    store = extracted(pair, tmp_path / "a.zarr")
    assert pair.blurry is not None
    files = pair.blurry.files
    for file, following in pairwise(files):
        shutil.copy(following, file)
    with pytest.raises(DatasetError, match=r"blur/seq0: frame 3 is nearer to decoded frame 4 .*the priors are shifted"):
        check_alignment(pair, store, BACKEND)


def test_another_picture_is_found(pair: SequencePair, tmp_path: Path) -> None:
    store = extracted(pair, tmp_path / "a.zarr")
    assert pair.blurry is not None
    for file in pair.blurry.files:
        cv2.imwrite(str(file), cv2.imread(str(file))[::-1])
    with pytest.raises(DatasetError, match=r"frame 0 is \d+.\d dB from what .*or more are expected"):
        check_alignment(pair, store, BACKEND)


def test_another_number_of_frames_is_found(pair: SequencePair, tmp_path: Path) -> None:
    store = extracted(pair, tmp_path / "a.zarr")
    assert pair.sharp is not None
    shorter = replace(pair, sharp=replace(pair.sharp, num_frames=8, files=pair.sharp.files[:8]))
    with pytest.raises(DatasetError, match=r"sharp/seq0: has 8 frames of 176x144, .*a.zarr 9 frames of 176x144"):
        check_alignment(shorter, store, BACKEND)


def test_other_names_are_found(pair: SequencePair, tmp_path: Path) -> None:
    store = extracted(pair, tmp_path / "a.zarr")
    assert pair.blurry is not None
    renamed = tuple(file.with_name(f"x{file.name}") for file in pair.blurry.files)
    with pytest.raises(DatasetError, match="its file names are not those"):
        check_alignment(replace(pair, blurry=replace(pair.blurry, files=renamed)), store, BACKEND)
