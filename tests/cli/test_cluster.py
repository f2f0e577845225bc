"""Many sequences at a time: on a cluster of this machine, and on one that is there already."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import codecprior
from codecprior.store.verify import verify

NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def dataset(tiny: Any, tmp_path: Path) -> Path:
    for name in NAMES:
        tiny.y4m(tmp_path / "dataset" / f"{name}.y4m", count=24)
    return tmp_path / "dataset"


def assert_all_finished(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{extension}" for name in NAMES for extension in ("zarr", "266")
    )
    for name in NAMES:
        assert verify(folder / f"{name}.zarr").ok
        assert len(codecprior.open_store(folder / f"{name}.zarr")) == 24


def test_workers_share_a_dataset_and_name_what_fails(cli: Any, dataset: Path, tmp_path: Path) -> None:
    (dataset / "bad.y4m").write_bytes(b"YUV4MPEG2 W176 H144 F24:1\nFRAME\nshort")
    done = cli("extract", dataset, "-o", tmp_path / "out", "--workers", 2)
    assert done.returncode == 1
    first, blank, summary, last = done.stderr.splitlines()
    assert first.startswith(f"Error: {dataset}/bad.y4m: ")
    assert (blank, summary) == ("", "1 of 5 sequences failed:")
    assert last.startswith("  bad: ")
    assert_all_finished(tmp_path / "out")
    command = codecprior.open_store(tmp_path / "out" / "a.zarr").attributes["extractor"]["command"]
    assert command[1:3] == ["extract", str(dataset)]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(cli: Any, dataset: Path, tmp_path: Path) -> None:
    process = cli.start("extract", dataset, "-o", tmp_path / "out", "--workers", 2, "--preset", "medium")
    deadline = time.monotonic() + 60
    while not (encoders := [one for one in cli.processes() if _name(one).startswith("ffmpeg")]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(encoders[0].ppid(), signal.SIGKILL)  # the worker that has started this encoder
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert_all_finished(tmp_path / "out")


@pytest.mark.slow
def test_ctrl_c_ends_the_workers(cli: Any, dataset: Path, tmp_path: Path) -> None:
    process = cli.start("extract", dataset, "-o", tmp_path / "out", "--workers", 2, "--preset", "slow")
    deadline = time.monotonic() + 60
    while not any(_name(one).startswith("ffmpeg") for one in cli.processes()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = cli.processes()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "\nInterrupted. Finished work is kept; run the same command again to continue.\n"
    assert not psutil.wait_procs(family, timeout=10)[1]


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


@pytest.fixture
def scheduler(cli: Any, tmp_path: Path) -> Iterator[str]:
    """Address of a Dask cluster of one worker, whose working directory is another one."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    address_file = elsewhere / "scheduler.json"
    programs = {"dask_scheduler": ["--port", "0", "--host", "127.0.0.1"], "dask_worker": ["--nthreads", "1"]}
    processes = []
    for name, arguments in programs.items():
        command = [sys.executable, "-m", f"distributed.cli.{name}", "--scheduler-file", str(address_file)]
        command += ["--no-dashboard", *arguments]
        output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, cwd=elsewhere, env=cli.environment, **output))
    deadline = time.monotonic() + 60
    while not address_file.exists() or not address_file.read_text().endswith("}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield json.loads(address_file.read_text())["address"]
    for process in reversed(processes):
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
def test_an_existing_cluster_extracts_relative_paths(cli: Any, dataset: Path, tmp_path: Path, scheduler: str) -> None:
    done = cli("extract", "dataset", "-o", "out", "--scheduler", scheduler, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(result["name"] for result in json.loads(done.stdout)) == NAMES
    assert_all_finished(tmp_path / "out")
