"""Extraction that is ended from outside, at any moment: no process stays, and a second run finishes the same store."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import codecprior


@pytest.fixture(scope="module")
def clip(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four frames: one whole shard and a part of one."""
    return tiny.y4m(tmp_path_factory.mktemp("killed") / "clip.y4m", count=24)


def wait_for_family(cli: Any, size: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while len(family := cli.processes()) < size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return family


def test_ctrl_c_ends_everything_and_says_how_to_continue(cli: Any, clip: Path, tmp_path: Path) -> None:
    store = tmp_path / "clip.zarr"
    process = cli.start("extract", clip, "-o", store, "--directions", "both", "--preset", "slow")
    family = wait_for_family(cli, 4)  # with guardian, encoder and decoder
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "\nInterrupted. Finished work is kept; run the same command again to continue.\n"
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert not store.exists()
    assert cli("extract", clip, "-o", store).returncode == 0
    assert len(codecprior.open_store(store)) == 24


def test_terminated_by_the_system_leaves_no_process(cli: Any, clip: Path, tmp_path: Path) -> None:
    process = cli.start("extract", clip, "-o", tmp_path / "clip.zarr", "--preset", "slow")
    family = wait_for_family(cli, 4)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.slow
def test_killed_at_any_moment_the_same_store_is_finished(cli: Any, clip: Path, tiny: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["extract", clip, "-o", out / "clip.zarr", "--directions", "both", "--threads", "1"]

    def content() -> dict[str, str]:
        assert sorted(path.name for path in out.iterdir()) == ["clip.266", "clip.reverse.266", "clip.zarr"]
        streams = {path.name: path.read_bytes().hex() for path in out.glob("*.266")}
        return {**streams, **tiny.content(out / "clip.zarr")}

    started = time.monotonic()
    assert cli(*command).returncode == 0
    seconds = time.monotonic() - started
    expected = content()
    moments = random.Random(1)
    kills = 0
    for _ in range(4):
        shutil.rmtree(out)
        for _ in range(2):
            process = cli.start(*command)
            time.sleep(moments.uniform(0.2, 1) * seconds)
            family = cli.processes()
            process.kill()
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            assert not psutil.wait_procs(family, timeout=10)[1]
        done = cli(*command)
        assert (done.returncode, done.stderr) == (0, "")
        assert content() == expected
    assert kills > 2
