from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest


@pytest.fixture
def object_storage() -> Iterator[dict[str, str]]:
    """Environment of a process that sees an S3 server with the bucket ``priors``."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with urlopen(Request(f"http://{host}:{port}/priors", method="PUT")):
        pass
    yield {
        **os.environ,
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="reading URLs needs zarr 3, which needs Python 3.11")
def test_a_dataset_goes_to_object_storage(tmp_path: Path, tiny: Any, object_storage: dict[str, str]) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "codecprior.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=object_storage)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name in ("a", "b"):
        tiny.y4m(tmp_path / "dataset" / f"{name}.y4m", 4)
    results = json.loads(run("extract", str(tmp_path / "dataset"), "-o", "s3://priors", "--json"))
    assert [result["bitstreams"] for result in results] == [["s3://priors/a.266"], ["s3://priors/b.266"]]
    assert json.loads(run("inspect", "s3://priors/b.zarr", "--json"))["num_frames"] == 4
    assert json.loads(run("inspect", "s3://priors/b.zarr", "-n", "2", "--json"))["reference_frames"]["l0"] == [1]
    assert "sound" in run("verify", "s3://priors/a.zarr")
    assert "finished before" in run("extract", str(tmp_path / "dataset" / "a.y4m"), "-o", "s3://priors/a.zarr")
