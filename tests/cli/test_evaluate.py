"""``codecprior evaluate`` on a small prepared dataset."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from codecprior.cli.main import main
from codecprior.datasets.manifest import read_manifest, write_manifest
from codecprior.model.checkpoint import save_checkpoint
from codecprior.model.config import CpfpConfig, load_preset
from codecprior.model.cpfp import Cpfp

FAST = ("--metrics", "psnr,ssim,niqe")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a network that darkens what it gets."""
    section = {**load_preset("cpfp-tiny")["cpfp"], "channels": 8, "deform_groups": 2, "fusion_blocks": 0}
    network = Cpfp(CpfpConfig.from_dict(section))
    last = network.reconstruction[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(-0.1)
    folder = tmp_path_factory.mktemp("runs") / "darker"
    save_checkpoint(folder, network, {"cpfp": section})
    return folder


def evaluate(*arguments: object) -> Result:
    """Run in this process, where torch is imported already."""
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_results_stand_beside_those_of_the_blurry_input(prepared: Path, run: Path, tmp_path: Path) -> None:
    done = evaluate(
        *("--checkpoint", run, "--data", prepared / "manifest.jsonl", "--split", "train", "-o", tmp_path / "out"),
        *("--protocol", "rvrt", *FAST),
    )
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("metrics.json", "per_frame.csv", "per_sequence.csv", "table.md", "scores")
    }
    lines = done.stdout.splitlines()
    assert re.fullmatch(r" +darker +Blurry input", lines[0])
    assert re.fullmatch(r"PSNR +\d\d\.\d\d +\d\d\.\d\d", lines[1])
    assert lines[3].startswith("NIQE was not measured: no model: give niqe_model_path")
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (found["protocol"]["name"], found["num_sequences"], found["num_frames"]) == ("rvrt", 4, 31)
    assert found["total"]["psnr"]["value"] < 21 < found["blurry_total"]["psnr"]["value"]
    assert found["metrics"]["niqe"]["available"] is False
    assert found["run"]["networks"]["stage"] == 1
    rows = list(csv.DictReader((tmp_path / "out" / "per_frame.csv").read_text().splitlines()))
    assert len(rows) == 31
    assert all(float(row["psnr"]) < float(row["blurry_psnr"]) for row in rows)
    sequences = list(csv.DictReader((tmp_path / "out" / "per_sequence.csv").read_text().splitlines()))
    assert [row["sequence"] for row in sequences] == ["moving", "bikes", "odd", "plain"]
    means = [each["mean"]["ssim"]["value"] for each in found["blurry_sequences"]]
    assert [float(row["blurry_ssim"]) for row in sequences] == pytest.approx(means, abs=1e-6)
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| **darker** " in table
    assert "| Blurry input " in table
    assert "| GoPro: CPGD-Net* " in table


def test_a_second_run_only_reads_what_was_measured(prepared: Path, run: Path, tmp_path: Path) -> None:
    arguments = ("--checkpoint", run, "--data", prepared, "--split", "train", "-o", tmp_path, *FAST, "--json")
    first = json.loads(evaluate(*arguments).stdout)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "scores").rglob("*.json")}
    assert len(kept) == 8
    second = json.loads(evaluate(*arguments).stdout)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert first == second == json.loads((tmp_path / "metrics.json").read_text())


def test_the_blurry_input_alone_needs_no_checkpoint(prepared: Path, tmp_path: Path) -> None:
    done = evaluate("--checkpoint", "none", "--data", prepared, "--split", "train", "-o", tmp_path, *FAST)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["Blurry", "input"]
    assert "# Evaluation of Blurry input" in (tmp_path / "table.md").read_text()


def test_clips_that_are_blurry_themselves_are_measured_without_sharp_frames(
    prepared: Path, run: Path, tmp_path: Path
) -> None:
    entries = [replace(entry, sharp=None) for entry in read_manifest(prepared).entries[:2]]
    manifest = prepared / "blurry.jsonl"
    write_manifest(manifest, entries)
    done = evaluate("--checkpoint", run, "--data", manifest, "--split", "train", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"Warp +0\.\d{5} +0\.\d{5}", lines[1])
    assert "PSNR was not measured: no sharp frames" in lines
    table = (tmp_path / "out" / "table.md").read_text()
    assert re.search(r"^\| Method +\| +Warp ↓ \|$", table, re.MULTILINE)
    rows = list(csv.DictReader((tmp_path / "out" / "per_frame.csv").read_text().splitlines()))
    assert rows[0].keys() == {"sequence", "frame", "warp_error", "blurry_warp_error"}


def test_it_runs_as_a_command_and_dry_run_writes_nothing(cli: Any, prepared: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "--checkpoint", "none", "--data", prepared, "--split", "train", "-o", tmp_path / "out")
    done = cli(*arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 sequences, 31 frames: R'G'B' of 8 bit")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--split": "test"}, "--split 'test': the manifest in .* has train"),
        ({"--protocol": "mine"}, "protocol 'mine': use one of plain, "),
        ({"--metrics": "psnr,vmaf"}, "'vmaf'"),
        ({"--data": "nowhere"}, "no such manifest"),
        ({"--checkpoint": "nowhere"}, "nowhere: no checkpoint here"),
        ({"--niqe-model-path": "nowhere.npz"}, "nowhere.npz"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_clear_line(
    prepared: Path, run: Path, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    options = {"--checkpoint": run, "--data": prepared, "--split": "train", "-o": tmp_path / "out", **changes}
    done = evaluate(*(part for option in options.items() for part in option))
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert re.search(f"^Error: .*{message}", line)
    assert not (tmp_path / "out").exists()
