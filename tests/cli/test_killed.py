from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import codecprior
from codecprior.store.verify import verify


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 0.8, 1.1])
def test_a_killed_command_leaves_no_process_and_is_continued(tmp_path: Path, tiny: Any, seconds: float) -> None:
    source = tiny.y4m(tmp_path / "clip.y4m", 24)
    command = [sys.executable, "-m", "codecprior.cli", "extract", str(source), "--threads", "1"]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    family = process.children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    store = tmp_path / "clip.zarr"
    if store.exists():  # the run was quicker than the kill
        assert verify(store).ok
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert verify(store).ok
    assert len(codecprior.open_store(store)) == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.266", "clip.y4m", "clip.zarr"]
