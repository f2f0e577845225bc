"""``codecprior ablate`` on a small prepared dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from codecprior.cli.main import main

SETTINGS = (
    *("--split", "train", "--config", "cpfp-tiny", "--stage2-config", "cpc-tiny", "--metrics", "psnr,ssim"),
    *("--set", "cpfp.channels=8", "--set", "cpfp.fusion_blocks=0", "--set", "cpfp.upsampling_channels=4"),
    *("--set", "data.crop=32", "--set", "data.num_frames=2", "--set", "run.num_workers=0", "--max-steps", "2"),
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(prepared: Path) -> Path:
    """Manifest of the shortest sequence."""
    path = prepared / "plain.jsonl"
    path.write_text((prepared / "manifest.jsonl").read_text().splitlines()[-1] + "\n")
    return path


def ablate(*arguments: object) -> Result:
    """Run in this process, where torch is imported already."""
    return CliRunner().invoke(main, ["ablate", *map(str, arguments)])


def test_measured_rows_stand_beside_those_of_the_paper(data: Path, tmp_path: Path) -> None:
    done = ablate("--data", data, "-o", tmp_path, "--table", "III", *SETTINGS)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()[:-1]  # the last one has a path of any length
    assert all(len(line) <= 80 for line in lines)
    table = lines[lines.index("Table III: Coding priors in CPFP") + 2 :]
    assert table[0].split() == ["Modification", "PSNR↑", "SSIM↑", "NIQE↓", "paper", "MUSIQ↑", "paper", "GMACs", "paper"]
    assert [line[:20].rstrip() for line in table[1:7]] == [
        *("Blurry input", "w/o CRs", "MVs", "RAFT Iter:4", "RAFT Iter:4 Init:MVs", "RAFT Iter:20")
    ]
    assert table[3].split()[3:] == ["-", "4.810", "-", "56.630", "0", "0"]
    assert table[6].split()[-2:] == ["907", "908"]
    assert "Not measured: RAFT Iter:4, RAFT Iter:4 Init:MVs, RAFT Iter:20: needs" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"ablation.json", "table_III.md", "runs", "results"}
    names = {path.name.rpartition("-")[0] for path in (tmp_path / "runs").iterdir()}
    assert names == {"mvs", "w-o-crs"}
    assert {path.name.rpartition("-")[0] for path in (tmp_path / "results").iterdir()} == {*names, "blurry"}

    weights = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/states/*/*")}
    again = ablate("--data", data, "-o", tmp_path, "--table", "III", *SETTINGS, "--json")
    assert again.exit_code == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/states/*/*")} == weights
    assert json.loads(again.stdout) == json.loads((tmp_path / "ablation.json").read_text())
    assert json.loads(again.stdout)["settings"]["stage1"] == "cpfp-tiny"


def test_a_plan_shows_rows_trainings_and_what_is_missing(data: Path, tmp_path: Path) -> None:
    done = ablate("--data", data, "-o", tmp_path / "out", *SETTINGS, "--dry-run")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "Table II: Both stages"
    assert [line.split()[-3:] for line in lines if line.startswith("  RAFT Iter:20 ")] == [
        ["needs", "--raft-weights", "FILE"]
    ]
    assert "5 trainings" in lines
    assert any(line.startswith("  cpgd-net-") and ": stage 2 on mvs-" in line for line in lines)
    assert not (tmp_path / "out").exists()
    plan = json.loads(ablate("--data", data, "-o", tmp_path, *SETTINGS, "--dry-run", "--json").stdout)
    assert len(plan["rows"]) == 11
    assert len(plan["runs"]) == 5
    (plain,) = (run for name, run in plan["runs"].items() if name.startswith("w-ircontrolnet"))
    assert (plain["changes"], plain["config"]["cpc"]["coding_priors"]) == (["cpc.coding_priors=false"], False)


def test_a_row_that_fails_is_told_and_the_status_is_1(data: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.yaml"
    rows.write_text("mine: {title: Sizes of crops, rows: {small: {}, large: {stage1: [data.crop=512]}}}\n")
    done = ablate("--data", data, "-o", tmp_path / "out", "--rows", rows, *SETTINGS)
    assert done.exit_code == 1
    assert "Table mine: Sizes of crops" in done.stdout
    assert "Not measured: large: crop 512x512 does not fit into sequence plain of 64x64." in done.stdout
    assert (tmp_path / "out" / "table_mine.md").exists()


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        (["--table", "V"], 2, "Error: --table V: use one of II, III, IV."),
        (["--set", "cpfp.depth=3"], 1, "Error: table II, row w/o CPC: cpfp: unknown key 'depth'"),
        (["--stage2-config", "cpfp"], 1, "Error: table II, row w/o CPFP: configuration 'cpfp': is of stage 1; use one"),
        (["--rows", "rows.yaml"], 1, "Error: rows.yaml: cannot be read (No such file or directory)"),
        (["--split", "test"], 1, "Error: --split 'test': the manifest in "),
        (["--protocol", "mine"], 1, "Error: protocol 'mine': use one of "),
    ],
)
def test_bad_input_is_one_clear_line(data: Path, tmp_path: Path, changes: list[str], status: int, message: str) -> None:
    done = ablate("--data", data, "-o", tmp_path / "out", *SETTINGS, *changes)
    assert done.exit_code == status
    assert done.stderr.splitlines()[-1].startswith(message)
    assert not (tmp_path / "out").exists()
