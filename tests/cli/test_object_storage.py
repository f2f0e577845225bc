"""Stores and bitstreams in object storage, played by a real S3 server on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="reading URLs needs zarr 3, which needs Python 3.11")

_READ_WITH_ZARR_PYTHON = """
import sys
import codecprior
import fsspec
import zarr
group = zarr.open_group("s3://priors/a.zarr", mode="r")
store = codecprior.open_store("s3://priors/a.zarr")
local = zarr.open_group(sys.argv[1], mode="r")
for name, array in local.arrays():
    assert (group[name][...] == array[...]).all(), name
assert (store[3].mv_l0 == local["mv_l0"][3]).all()
with fsspec.open("s3://priors/a.266") as kept, open(sys.argv[2], "rb") as wanted:
    assert kept.read() == wanted.read()
print(sorted(group) == sorted(local), len(store))
"""


@pytest.mark.slow
def test_a_dataset_goes_to_object_storage(cli: Any, tiny: Any, tmp_path: Path, bucket: str) -> None:
    for name in ("a", "b"):
        tiny.y4m(tmp_path / "dataset" / f"{name}.y4m", 4)
    results = json.loads(cli("extract", tmp_path / "dataset", "-o", f"{bucket}/", "--json").stdout)
    assert [result["store"] for result in results] == [f"{bucket}/a.zarr", f"{bucket}/b.zarr"]
    assert [result["bitstreams"] for result in results] == [[f"{bucket}/a.266"], [f"{bucket}/b.266"]]
    assert json.loads(cli("inspect", f"{bucket}/b.zarr", "--json").stdout)["num_frames"] == 4
    frame = json.loads(cli("inspect", f"{bucket}/b.zarr", "-n", 2, "--json").stdout)
    assert frame["reference_frames"]["l0"] == [1]
    assert "sound" in cli("verify", f"{bucket}/a.zarr").stdout
    assert not list((tmp_path / "tmp").rglob("*.partial"))

    again = cli("extract", tmp_path / "dataset" / "a.y4m", "-o", f"{bucket}/a.zarr")
    assert again.stdout.endswith(f"{bucket}/a.zarr: finished before, 4 frames\n")
    refusal = cli.fails("extract", tmp_path / "dataset" / "a.y4m", "-o", f"{bucket}/a.zarr", "--qp", 40)
    assert refusal.startswith(f"{bucket}/a.zarr: exists and was made from another input or with other settings")


def test_what_is_stored_is_what_a_local_store_has(cli: Any, tiny: Any, tmp_path: Path, bucket: str) -> None:
    clip = tiny.y4m(tmp_path / "a.y4m", 4)
    assert cli("extract", clip).returncode == 0
    assert cli("extract", clip, "-o", f"{bucket}/a.zarr", "--workers", 1).returncode == 0
    command = [sys.executable, "-c", _READ_WITH_ZARR_PYTHON, str(tmp_path / "a.zarr"), str(tmp_path / "a.266")]
    done = subprocess.run(command, env=cli.environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("True 4\n", 0), done.stderr


def test_a_bucket_that_is_not_there_gives_one_line(cli: Any, tiny: Any, tmp_path: Path, bucket: str) -> None:
    clip = tiny.y4m(tmp_path / "a.y4m", 2)
    assert cli.fails("extract", clip, "-o", "s3://elsewhere/a.zarr").startswith("s3://elsewhere/a.")
