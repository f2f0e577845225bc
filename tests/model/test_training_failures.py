"""Trainings whose data fail after the first steps: one clear line, and the last state is there to go on from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.errors import ConfigError, DatasetError, StoreError
from codecprior.model.training import train
from codecprior.model.training_config import Phase1Config, training_config

SMALL = (
    "cpfp.channels=8",
    "cpfp.fusion_blocks=0",
    "cpfp.upsampling_channels=4",
    "data.crop=32",
    "data.num_frames=2",
    "training.steps=12",
    "run.save_every=2",
)


@pytest.fixture
def manifest(prepared: Path, tmp_path: Path) -> Manifest:
    """One sequence whose store may be damaged."""
    whole = read_manifest(prepared)
    store = tmp_path / "moving.zarr"
    shutil.copytree(whole.resolve(whole.entries[0].store), store)
    return replace(whole, entries=(replace(whole.entries[0], store=str(store)),))


def config(workers: int) -> Phase1Config:
    found = training_config("cpfp-tiny", [*SMALL, f"run.num_workers={workers}"])
    assert isinstance(found, Phase1Config)
    return found


@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_that_is_damaged_meanwhile_is_named_and_the_training_can_go_on(
    manifest: Manifest, tmp_path: Path, workers: int
) -> None:
    store = Path(manifest.entries[0].store)
    shards = [path for path in (store / "residual_y").rglob("*") if path.is_file() and path.name != "zarr.json"]
    kept = {path: path.read_bytes() for path in shards}
    assert kept

    def damage(done: int, total: int) -> None:
        if done == 3:
            for path, content in kept.items():
                path.write_bytes(bytes(len(content)))

    with pytest.raises(StoreError) as caught:
        train(config(workers), manifest, tmp_path / "cut", progress=damage)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{store}/")
    assert "stored bytes are damaged" in line
    for path, content in kept.items():
        path.write_bytes(content)
    result = train(config(workers), manifest, tmp_path / "cut", resume=True)
    assert 2 <= result.first_step < result.step == 12
    train(config(0), manifest, tmp_path / "whole")
    cut, whole = ((tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    assert load_file(cut).keys() == load_file(whole).keys()
    assert all(torch.equal(tensor, load_file(whole)[name]) for name, tensor in load_file(cut).items())


def test_a_worker_that_is_killed_ends_the_training_in_one_line(manifest: Manifest, tmp_path: Path) -> None:
    def kill(done: int, total: int) -> None:
        if done == 3:
            workers = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
            max(workers, key=psutil.Process.create_time).kill()

    with pytest.raises(DatasetError, match=r"^a process that reads clips was ended from outside \(.*\), .*--resume$"):
        train(config(1), manifest, tmp_path / "cut", progress=kill)
    assert 2 <= train(config(0), manifest, tmp_path / "cut", resume=True).first_step < 12


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_half_precision_needs_a_gpu(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^mixed_precision fp16: is for GPUs; use bf16 or none on a CPU$"):
        train(replace(config(0), training=replace(config(0).training, mixed_precision="fp16")), manifest, tmp_path)
