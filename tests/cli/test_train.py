from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from codecprior.model.checkpoint import load_checkpoint

SETTINGS = {
    "cpfp.channels": 8,
    "cpfp.fusion_blocks": 0,
    "cpfp.upsampling_channels": 4,
    "data.crop": 32,
    "data.num_frames": 2,
    "training.steps": 60,
    "run.num_workers": 0,
    "run.log_every": 20,
    "run.save_every": 5,
}


def arguments(data: Path, run: Path, **changes: Any) -> list[object]:
    settings = [f"--set={name}={value}" for name, value in {**SETTINGS, **changes}.items()]
    return ["train", "--config", "cpfp-tiny", "--data", data, "-o", run, *settings]


@pytest.fixture(autouse=True)
def _one_thread(cli: Any) -> None:
    cli.environment["OMP_NUM_THREADS"] = "1"


def wait_for(path: Path, process: Any) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_and_interrupted_a_training_comes_to_the_same_weights(cli: Any, prepared: Path, tmp_path: Path) -> None:
    whole = cli(*arguments(prepared, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    assert [line.partition(":")[0] for line in whole.stdout.splitlines()[:3]] == ["step 20", "step 40", "step 60"]
    assert whole.stdout.splitlines()[3].startswith(f"{tmp_path}/whole: 60 of 60 steps, 0:0")

    run = tmp_path / "cut"
    for resume, at, number in (((), 5, signal.SIGKILL), (("--resume",), 15, signal.SIGINT)):
        process = cli.start(*arguments(prepared, run), *resume)
        wait_for(run / "states" / f"{at:08d}", process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (-number if number == signal.SIGKILL else 130), errors
    assert errors.splitlines()[-1].endswith("run the same command with --resume to continue.")
    done = cli(*arguments(prepared, run), "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert 15 <= json.loads(done.stdout)["first_step"] < json.loads(done.stdout)["step"] == 60
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert load_checkpoint(run)[0]["training"]["steps"] == 60
    assert "cut: exists; use --resume to go on, or another -o" in cli.fails(*arguments(prepared, run))


@pytest.mark.slow
def test_two_processes_share_a_batch(cli: Any, prepared: Path, tmp_path: Path) -> None:
    """DDP over gloo: parts of a batch of two in two processes, or one after the other in one."""
    changes = {"training.steps": 6, "training.loss": "l1", "run.save_every": 3}
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "codecprior.cli")
    environment = {**cli.environment, "ACCELERATE_USE_CPU": "1"}
    for options in (("--max-steps", "3"), ("--resume",)):
        command = [*launcher, *map(str, arguments(prepared, tmp_path / "two", **changes)), *options, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["first_step"] == 3, "one process reports"
    assert json.loads((tmp_path / "two" / "run.json").read_text())[0]["processes"] == 2
    one = cli(*arguments(prepared, tmp_path / "one", **changes, **{"training.gradient_accumulation": 2}))
    assert one.returncode == 0, one.stderr
    found, expected = (load_checkpoint(tmp_path / name)[1].state_dict() for name in ("two", "one"))
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_plan_is_printed_and_nothing_written(cli: Any, prepared: Path, tmp_path: Path) -> None:
    planned = cli(*arguments(prepared, tmp_path / "run"), "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "  channels: 8\n" in planned.stdout
    assert ": 4 sequences of split train, 31 frames, 27 clips, 13 steps an epoch\n" in planned.stdout
    assert not (tmp_path / "run").exists()
    facts = json.loads(cli(*arguments(prepared, tmp_path / "run"), "--dry-run", "--json").stdout)
    assert facts["data"]["clips"] == 27
    assert facts["config"]["data"]["crop"] == 32


def test_what_is_wrong_is_one_line(cli: Any, prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "configuration 'cpfq': use " in cli.fails("train", "--config", "cpfq", "--data", prepared, "-o", run)
    assert "data: crop 30: use a multiple of 8" in cli.fails(*arguments(prepared, run, **{"data.crop": 30}))
    assert "no such manifest" in cli.fails(*arguments(tmp_path, run))
