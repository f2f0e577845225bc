from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codecprior
from codecprior.errors import ConfigError
from codecprior.model.metrics import MetricsConfig, OpenedMetrics, open_metrics
from codecprior.model.paper import ablation_table, comparison_table, paper_title
from codecprior.model.protocols import find_protocol
from codecprior.model.results import Results, write_results
from codecprior.model.scores import SequenceScores

PAPER = Path(__file__).parents[2] / ".." / "shared" / "paper" / "cpgd-net.txt"


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenedMetrics:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))  # where no weights are
    return open_metrics(MetricsConfig())


@pytest.fixture
def results(opened: OpenedMetrics) -> Results:
    def scores(name: str, psnr: list[float], warp: list[float]) -> SequenceScores:
        values = {"psnr": psnr, "ssim": [0.5 + value / 100 for value in range(len(psnr))], "warp_error": warp}
        arrays = {metric: np.array(each) for metric, each in values.items()}
        return SequenceScores(sequence=name, size=(64, 48), frames=range(len(psnr)), scores=arrays)

    return Results(
        protocol=find_protocol("rvrt"),
        opened=opened,
        sequences=[
            scores("walk", [30.0, 32.0, math.inf], [math.nan, 0.001, 0.002]),
            scores("street, night", [26.25], [math.nan]),
        ],
        method="CPFP",
        run={"checkpoint": "runs/cpfp"},
    )


def test_json_holds_means_and_scores_and_what_they_are(tmp_path: Path, results: Results) -> None:
    paths = write_results(tmp_path / "out", results)
    assert set(paths) == {path.name for path in (tmp_path / "out").iterdir()}
    assert set(paths) == {"metrics.json", "per_frame.csv", "per_sequence.csv", "table.md"}

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(paths["metrics.json"].read_text(), parse_constant=refuse)
    assert found["codecprior_version"] == codecprior.__version__
    assert found["run"] == {"checkpoint": "runs/cpfp"}
    assert found["protocol"]["name"] == "rvrt"
    assert found["protocol"]["group_frames"] is None
    assert (found["num_sequences"], found["num_frames"]) == (2, 4)
    assert found["metrics"]["psnr"]["available"]
    assert "10 log10" in found["metrics"]["psnr"]["convention"]
    assert found["metrics"]["niqe"] == {"available": False, "reason": results.opened.unavailable["niqe"]}
    assert found["total"]["psnr"] == {"value": (31 + 26.25) / 2, "num_frames": 3, "left_out": 1}
    assert set(found["total"]) == {"psnr", "ssim", "warp_error"}
    walk, street = found["sequences"]
    assert walk["scores"]["psnr"] == [30, 32, "inf"]
    assert walk["scores"]["warp_error"] == [None, 0.001, 0.002]
    assert walk["mean"]["psnr"] == {"value": 31, "num_frames": 2, "left_out": 1}
    assert street["mean"]["warp_error"] == {"value": None, "num_frames": 0, "left_out": 1}
    assert (street["sequence"], street["frames"], street["size"]) == ("street, night", [0], [64, 48])


def test_csv_files_have_a_row_for_each_frame_and_for_each_sequence(tmp_path: Path, results: Results) -> None:
    paths = write_results(tmp_path, results)
    with paths["per_frame.csv"].open(newline="") as file:
        frames = list(csv.DictReader(file))
    assert [(row["sequence"], row["frame"]) for row in frames] == [
        ("walk", "0"),
        ("walk", "1"),
        ("walk", "2"),
        ("street, night", "0"),
    ]
    assert [float(row["psnr"]) for row in frames] == [30, 32, math.inf, 26.25]
    assert [row["warp_error"] for row in frames] == ["", "0.001000", "0.002000", ""]
    with paths["per_sequence.csv"].open(newline="") as file:
        walk, street = csv.DictReader(file)
    assert (walk["frames"], walk["width"], walk["height"], walk["psnr"]) == ("3", "64", "48", "31.000000")
    assert street["warp_error"] == ""


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_stands_beside_the_papers_and_fits_a_terminal(tmp_path: Path, results: Results) -> None:
    table = write_results(tmp_path, results)["table.md"].read_text()
    lines = table.splitlines()
    assert max(map(len, lines)) <= 100
    head, own = (next(line for line in lines if line.startswith(start)) for start in ("| Method", "| **CPFP**"))
    assert cells(head) == ["Method", "PSNR ↑", "SSIM ↑", "LPIPS ↓", "NIQE ↓", "MUSIQ ↑", "Warp ↓"]
    assert cells(own) == ["**CPFP**", "28.62", "0.5050", "-", "-", "-", "0.00150"]
    paper = [line for line in lines if "CPGD-Net*" in line]
    assert [cells(line) for line in paper] == [
        ["GoPro: CPGD-Net*", "26.80", "0.7808", "0.0260", "3.500", "60.630", "-"],
        ["DVD: CPGD-Net*", "26.80", "0.7809", "0.0279", "3.513", "61.135", "-"],
    ]
    upper, lower = (table.split("## Sequences")[part].splitlines() for part in (0, 1))
    assert [len({len(line) for line in part if line.startswith("|")}) for part in (upper, lower)] == [1, 1]
    text = " ".join(table.split())
    assert "As printed in Table I of *Coding-Prior Guided Diffusion Network for Video Deblurring*" in text
    assert "Protocol `rvrt` (github.com/cszn/KAIR, main_test_rvrt.py): R'G'B' of 8 bit" in text
    assert "PSNR: 1 of 4 frames are left out (identical to the reference: infinite)." in text
    assert "NIQE was not measured: no model: give niqe_model_path" in text


def test_a_dataset_of_the_paper_brings_its_rows_alone(tmp_path: Path, results: Results) -> None:
    for dataset, title in (("gopro", "GoPro"), ("dvd", "DVD")):
        chosen = Results(**{**vars(results), "dataset": dataset})
        table = write_results(tmp_path, chosen)["table.md"].read_text()
        assert re.findall(r"^\| (\w+): .*\* +\|", table, re.MULTILINE) == [title] * 9
    with pytest.raises(ConfigError, match="dataset 'reds': the paper's table has gopro, dvd"):
        Results(**{**vars(results), "dataset": "reds"})


def test_without_sharp_frames_the_table_has_what_was_measured(tmp_path: Path, results: Results) -> None:
    opened = open_metrics(MetricsConfig(), sharp=False)
    table = write_results(tmp_path, Results(**{**vars(results), "opened": opened}))["table.md"].read_text()
    rows = [cells(line) for line in table.splitlines() if line.startswith("|")]
    assert rows[:3:2] == [["Method", "Warp ↓"], ["**CPFP**", "0.00150"]]
    assert "CPGD-Net" not in table
    assert "PSNR was not measured: no sharp frames." in table


def test_the_papers_numbers_are_those_of_its_text() -> None:
    if not PAPER.exists():
        pytest.skip(f"no text of the paper in {PAPER.parent}")
    text = PAPER.read_text()
    lines = [line.replace("<u>", "").replace("</u>", "").split("\t") for line in text.splitlines()]
    for dataset, first in (("gopro", "0.8705"), ("dvd", "0.9229")):
        at = next(index for index, line in enumerate(lines) if first in line)
        for row, metric in zip(lines[at : at + 5], ("ssim", "psnr", "lpips", "niqe", "musiq"), strict=True):
            printed = [float(number) for number in row[2:]]
            assert printed == [numbers[metric] for numbers in comparison_table(dataset).values()]
    for number in ("II", "III", "IV"):
        for values in ablation_table(number).values():
            assert all(f"{values[metric]:g}" in text for metric in ("niqe", "musiq"))
    assert paper_title()
