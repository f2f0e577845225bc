"""``codecprior precompute``, and a training on what it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from codecprior.cli.main import main
from codecprior.datasets.manifest import read_manifest, write_manifest
from codecprior.model.checkpoint import save_checkpoint
from codecprior.model.cpfp import Cpfp
from codecprior.model.training_config import Phase1Config, training_config


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = training_config("cpfp-tiny", ["cpfp.channels=8", "cpfp.fusion_blocks=0", "cpfp.upsampling_channels=4"])
    assert isinstance(config, Phase1Config)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("runs") / "stage1"
    save_checkpoint(folder, Cpfp(config.cpfp), config.to_dict())
    return folder


@pytest.fixture
def data(prepared: Path) -> Path:
    """Two sequences of the same name."""
    moving, _, _, plain = read_manifest(prepared).entries
    entries = [moving, plain.__class__(**{**vars(plain), "sequence": "moving", "split": "test"})]
    write_manifest(prepared / "splits.jsonl", entries)
    return prepared / "splits.jsonl"


def run_here(*arguments: object) -> Result:
    """Run a command in this process, where torch is imported already."""
    return CliRunner().invoke(main, list(map(str, arguments)))


def failed(*arguments: object) -> str:
    """Run a command, which must fail, and return its one line of error."""
    result = run_here(*arguments)
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 1
    return line.removeprefix("Error: ")


def test_what_is_made_once_trains_stage_2(data: Path, stage1: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    arguments: tuple[Any, ...] = ("precompute", "--checkpoint", stage1, "--data", data, "-o", made)
    latents = ("--latents", "--config", "cpc-tiny")
    assert run_here(*arguments, *latents, "--dry-run").stdout.splitlines() == [
        f"train/moving -> {made}/frames/train/moving.zarr",
        f"test/moving -> {made}/frames/test/moving.zarr",
    ]
    assert not made.exists()
    done = run_here(*arguments, *latents, "--split", "test")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("test/moving: 5 frames, ")
    results = json.loads(run_here(*arguments, *latents, "--json").stdout)
    assert [(each["split"], each["status"], each["num_frames"]) for each in results] == [
        ("train", "precomputed", 8),
        ("test", "skipped", 5),
    ]
    assert [(entry.split, entry.frames) for entry in read_manifest(made).entries] == [
        ("test", "frames/test/moving.zarr"),
        ("train", "frames/train/moving.zarr"),
    ]
    settings = {
        "stage1.checkpoint": stage1,
        "data.latents": "true",
        "data.flips": "false",
        "data.transpose": "false",
        "validation.split": "test",
        "training.steps": 2,
        "run.num_workers": 0,
    }
    options = [f"--set={name}={value}" for name, value in settings.items()]
    trained = run_here("train", "--config", "cpc-tiny", "--data", made, "-o", tmp_path / "run", *options, "--json")
    assert trained.exit_code == 0, trained.stderr
    assert json.loads(trained.stdout)["psnr_restored"] > 0


def test_bad_input_is_one_clear_line(data: Path, stage1: Path, tmp_path: Path) -> None:
    arguments = ("precompute", "--checkpoint", stage1, "--data", data, "-o", tmp_path / "out")
    assert "--config and --set say whose latents to make" in failed(*arguments, "--set", "cpc.base=tiny")
    assert "--config cpfp: is for stage 1, which has no latents" in failed(*arguments, "--latents", "--config", "cpfp")
    assert "base sd21 has no weights: set base_path" in failed(*arguments, "--latents")
    assert "--split 'val': the manifest in" in failed(*arguments, "--split", "val")
    assert "no checkpoint here" in failed(*arguments[:2], tmp_path, *arguments[3:])
    assert "is the dataset itself" in failed(*arguments[:-1], data.parent)
    assert "no such manifest" in failed(*arguments[:4], tmp_path, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
