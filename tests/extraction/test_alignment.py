from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from codecprior.errors import ExtractionError
from codecprior.extraction.alignment import AlignmentCheck, least_psnr
from codecprior.extraction.backend import Trace
from codecprior.extraction.vvc import VvcBackend
from codecprior.media.images import ImageFolder
from vvc_wrappers.vvenc import VVencOptions


@pytest.fixture
def frames(tiny: Any, tmp_path: Path) -> Path:
    """Nine pictures, 176x144, that move."""
    folder: Path = tiny.pictures(tmp_path / "clip", count=24)
    for number in range(24):
        if number % 3:
            (folder / f"{number}.png").unlink()
    return folder


def checked(encoded: Path, compared: Path, scratch: Path, *, reverse: bool = False, qp: int = 27) -> dict[str, Any]:
    """Encode one folder and compare what comes out with another."""
    backend = VvcBackend(encoder=VVencOptions(threads=1, qp=qp), decoder_threads=1)
    check = AlignmentCheck(ImageFolder(compared), reverse=reverse)
    trace = Trace(source=ImageFolder(encoded), bitstream=scratch / "a.266", reverse=reverse, with_frames=True)
    for picture in backend.pictures(trace):
        check.take(picture)
    return check.finish()


@pytest.mark.parametrize("reverse", [False, True])
def test_frames_that_were_encoded_pass_in_both_directions(frames: Path, tmp_path: Path, reverse: bool) -> None:
    checks = checked(frames, frames, tmp_path, reverse=reverse)
    assert checks["frames"] == [0, 3, 7]
    assert all(50 > psnr > least + 4 for psnr, least in zip(checks["psnr_db"], checks["least_psnr_db"], strict=True))


@pytest.mark.parametrize("size", [(175, 143), (174, 141)])
def test_odd_sizes_are_compared_without_what_pads_them(tiny: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    folder = tiny.pictures(tmp_path / "odd", count=3, size=size)
    assert checked(folder, folder, tmp_path)["frames"] == [0, 1, 2]


@pytest.mark.parametrize("depth", [8, 16])
def test_deeper_pictures_are_compared_at_their_depth(tiny: Any, tmp_path: Path, depth: int) -> None:
    folder = tiny.pictures(tmp_path / "deep", count=3, depth=depth)
    assert min(checked(folder, folder, tmp_path)["psnr_db"]) > 35


@pytest.mark.parametrize("qp", [12, 51])
def test_the_bound_holds_for_noise_which_codes_worst(frames: Path, tmp_path: Path, qp: int) -> None:
    random = np.random.default_rng(0)
    for file in frames.iterdir():
        cv2.imwrite(str(file), random.integers(0, 256, (144, 176, 3), dtype=np.uint8))
    checked(frames, frames, tmp_path, qp=qp)


def test_least_psnr_falls_by_six_decibels_as_the_step_doubles() -> None:
    assert least_psnr(4) == pytest.approx(48.13, abs=0.01)
    assert least_psnr(22) - least_psnr(28) == pytest.approx(6.02, abs=0.01)


def test_priors_that_are_shifted_by_a_frame_are_found(frames: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "shifted"
    shifted.mkdir()
    files = ImageFolder(frames).names
    for number, name in enumerate((files[0], *files[:-1])):
        (shifted / f"{number}.png").hardlink_to(frames / name)
    with pytest.raises(ExtractionError, match=r"shifted: frame 4 is nearer to what frame 3 was .*priors are shifted"):
        checked(frames, shifted, tmp_path)


def test_frames_that_change_meanwhile_are_found(frames: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for file in frames.iterdir():
        cv2.imwrite(str(others / file.name), cv2.imread(str(file))[::-1])
    with pytest.raises(ExtractionError, match=r"frame 0 is \d+.\d dB from what it was decoded to, at QP \d+"):
        checked(frames, others, tmp_path)
