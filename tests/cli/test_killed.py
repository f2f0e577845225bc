"""Extraction that is ended from outside, at any moment: no process stays, and a second run finishes the same store."""

from __future__ import annotations

import os
import random
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
    def command(folder: str) -> list[object]:
        return ["extract", clip, "-o", tmp_path / folder / "clip.zarr", "--directions", "both", "--threads", "1"]

    def content(folder: str) -> dict[str, str]:
        store = tiny.content(tmp_path / folder / "clip.zarr")
        streams = {name: (tmp_path / folder / name).read_bytes().hex() for name in ("clip.266", "clip.reverse.266")}
        return {**_without_command(store), **streams}

    started = time.monotonic()
    assert cli(*command("whole")).returncode == 0
    seconds = time.monotonic() - started
    expected = content("whole")
    moments = random.Random(1)
    kills = 0
    for attempt in range(4):
        for _ in range(2):
            process = cli.start(*command(f"killed{attempt}"))
            time.sleep(moments.uniform(0.2, 1) * seconds)
            family = cli.processes()
            process.kill()
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            assert not psutil.wait_procs(family, timeout=10)[1]
        done = cli(*command(f"killed{attempt}"))
        assert (done.returncode, done.stderr) == (0, "")
        assert content(f"killed{attempt}") == expected
        found = sorted(path.name for path in (tmp_path / f"killed{attempt}").iterdir())
        assert found == ["clip.266", "clip.reverse.266", "clip.zarr"]
    assert kills > 2


def _without_command(store: dict[str, str]) -> dict[str, str]:
    """The attributes name the output folder in the command line, which differs here."""
    return {name: content for name, content in store.items() if not name.endswith("zarr.json") or "/" in name[8:]}
