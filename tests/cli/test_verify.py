from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from codecprior.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip = tiny.y4m(tmp_path_factory.mktemp("verify") / "clip.y4m", count=3)
    assert CliRunner().invoke(main, ["extract", str(clip)]).exit_code == 0
    return clip.with_suffix(".zarr")


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "clip.zarr"))


def test_a_sound_store_is_said_to_be_sound(store: Path) -> None:
    result = run(store)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{store}: sound (3 frames, ")
    assert result.stderr == ""


def test_one_flipped_bit_is_found(store: Path) -> None:
    shard = next((store / "residual_y").glob("c*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    result = run(store)
    assert (result.exit_code, result.stdout) == (1, "")
    assert all(line.startswith(str(store)) for line in result.stderr.splitlines())
    assert f"residual_y/{shard.name}" in result.stderr


def test_every_store_is_checked_even_if_one_is_missing(store: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "nothing.zarr", store)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{store}: sound")
    assert result.stderr == f"{tmp_path}/nothing.zarr: no priors store here (zarr.json is missing)\n"


def test_json_is_one_object_for_one_store_and_a_list_for_more(store: Path, tmp_path: Path) -> None:
    report = json.loads(run(store, "--json").output)
    assert (report["ok"], report["location"], report["num_frames"], report["problems"]) == (True, str(store), 3, [])
    first, second = json.loads(run(store, tmp_path / "nothing.zarr", "--json").stdout)
    assert (first["ok"], second["ok"], len(second["problems"])) == (True, False, 1)


def test_a_store_is_needed(store: Path) -> None:
    assert run().exit_code == 2
