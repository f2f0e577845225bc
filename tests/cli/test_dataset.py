from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from codecprior.cli.dataset import _LAYOUTS
from codecprior.cli.main import main
from codecprior.datasets.layouts import LAYOUTS


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["dataset", "inspect", *map(str, arguments)])


def test_facts_of_a_dataset_fit_a_terminal(trees: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.gopro(tmp_path / "GOPRO_Large")
    monkeypatch.chdir(tmp_path)
    result = run("GOPRO_Large")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert dict(line.split(maxsplit=1) for line in lines[:6]) == {
        "dataset": "GOPRO_Large",
        "layout": "gopro",
        "train": "2 sequences, 8 pairs",
        "test": "1 sequence, 4 pairs",
        "sizes": "176x144 (3 sequences)",
        "problems": "7 warnings",
    }
    text = " ".join(" ".join(lines[6:]).split())
    assert (
        "warning: GOPRO_Large: split train has 8 pairs in 2 sequences, but GoPro has 2,103 in 22 (total-differs)"
        in text
    )


def test_json_has_the_same_facts(trees: Any, tmp_path: Path) -> None:
    result = run(trees.generic(tmp_path), "--json", "--check-frames")
    assert json.loads(result.stdout) == {
        "root": str(tmp_path),
        "layout": "generic",
        "splits": {"train": {"sequences": 2, "pairs": 8}},
        "resolutions": {"176x144": 2},
        "problems": [],
    }


def test_layout_splits_and_blur_are_the_users_to_choose(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(trees.generic(tmp_path / "data"))
    assert run(root).stderr.endswith("choose one with --layout\n")
    splits = tmp_path / "splits.yaml"
    splits.write_text("test: ['*_11_*']\nval: ['*']\n")
    result = run(root, "--layout", "gopro", "--splits", splits, "--blur", "blur_gamma", "--json")
    assert json.loads(result.stdout)["splits"] == {
        "val": {"sequences": 1, "pairs": 4},
        "test": {"sequences": 2, "pairs": 8},
    }


def test_errors_are_told_while_anything_is_left(trees: Any, tmp_path: Path) -> None:
    root = trees.generic(tmp_path)
    frame = root / "blur" / "seq1" / "000003.png"
    frame.write_bytes(frame.read_bytes()[:-100])
    assert run(root).exit_code == 0
    result = run(root, "--check-frames")
    assert result.exit_code == 0
    assert "train     1 sequence, 4 pairs" in result.stdout
    assert "error: " + str(frame) in " ".join(result.stdout.split())
    (root / "sharp" / "seq0" / "000000.png").unlink()
    result = run(root, "--check-frames")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {frame}: is truncated or damaged; replace or remove it and 1 more")


def test_a_folder_without_a_dataset_is_one_line(cli: Any, tmp_path: Path) -> None:
    assert cli.fails("dataset", "inspect", tmp_path / "gone") == f"{tmp_path}/gone: no such folder"
    assert cli.fails("dataset", "inspect", tmp_path).startswith(f"{tmp_path}: holds no dataset; looked for gopro: ")


def test_the_help_has_every_layout() -> None:
    assert tuple(LAYOUTS) == _LAYOUTS
    text = run("--help").stdout
    for layout in LAYOUTS.values():
        assert f"{layout.name.ljust(10)} {layout.tree}" in text
