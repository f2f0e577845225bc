from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from codecprior.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


@pytest.fixture(scope="module")
def store(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of odd size, in both directions."""
    folder = tmp_path_factory.mktemp("inspect")
    frames = tiny.pictures(folder / "clip", size=(175, 143))
    result = CliRunner().invoke(main, ["extract", str(frames), "--directions", "both"])
    assert result.exit_code == 0, result.output
    return folder / "clip.zarr"


def test_facts_of_a_store_fit_a_terminal(store: Path) -> None:
    lines = run(store).output.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("store "))
    facts = dict(line.split(maxsplit=1) for line in lines if line)
    assert facts["store"] == str(store)
    assert facts["frames"] == "6, 175x143 (coded 176x144), 10 bit 4:2:0, 30 frames/s (assumed)"
    assert facts["source"] == "clip (images)"
    assert facts["encoder"].startswith("VVenC")
    assert facts["directions"] == "forward, reverse"
    assert facts["mv_l0"].startswith("int16  6x36x44x2  ")
    assert facts["residual_u"].startswith("int16  6x72x88 ")


def test_facts_of_a_frame_fit_a_terminal(store: Path) -> None:
    result = run(store, "--frame", 3)
    assert all(len(line) <= 80 for line in result.output.splitlines())
    facts = dict(re.split("  +", line, maxsplit=1) for line in result.output.splitlines())
    assert facts["frame"] == "3 (0.100 s), 175x143"
    assert facts["picture"] == "B, POC 3, decode order 3"
    assert (facts["references L0"], facts["references L1"]) == ("2", "2")
    assert "inter" in facts["prediction"]
    assert "merge" in facts["flags"]


def test_json_of_a_store_is_complete(store: Path) -> None:
    facts = json.loads(run(store, "--json").output)
    assert (facts["location"], facts["num_frames"], facts["size"]) == (str(store), 6, [175, 143])
    assert facts["arrays"]["mv_l0"]["shape"] == [6, 36, 44, 2]
    assert facts["source"]["frame_names"] == [f"{t}.png" for t in range(6)]
    assert sum(array["stored_bytes"] for array in facts["arrays"].values()) < facts["stored_bytes"]


@pytest.mark.parametrize(("arguments", "index", "reference"), [(["-n", 3], 3, 2), (["-n", -1], 5, 4)])
def test_json_of_a_frame_has_shares_of_the_area(
    store: Path, arguments: list[object], index: int, reference: int
) -> None:
    facts = json.loads(run(store, *arguments, "--json").output)
    assert (facts["frame"], facts["pts_seconds"]) == (index, index / 30)
    assert facts["reference_frames"]["l0"] == [reference]
    modes = ("intra", "inter_l0", "inter_l1", "inter_bi", "ibc")
    assert sum(facts["area"][mode] for mode in modes) == pytest.approx(1, abs=1e-3)
    assert facts["residual_y"]["min"] <= 0 <= facts["residual_y"]["max"]


def test_the_reversed_pass_refers_to_the_next_frame(store: Path) -> None:
    facts = json.loads(run(store, "--reverse", "-n", 3, "--json").output)
    assert facts["reference_frames"]["l0"] == [4]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{}", "-n", "6"], "{}: frame 6: the store has frames 0 to 5"),
        (["{}", "-n", "-7"], "{}: frame -7: the store has frames 0 to 5"),
        (["{}.nothing"], "{}.nothing: no priors store here (zarr.json is missing)"),
    ],
)
def test_what_is_not_there_gives_one_line(store: Path, arguments: list[str], reason: str) -> None:
    result = run(*(argument.format(store) for argument in arguments))
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {reason.format(store)}\n")


def test_a_missing_reversed_pass_is_said(tiny: Any, tmp_path: Path) -> None:
    clip = tiny.y4m(tmp_path / "clip.y4m", count=1)
    assert CliRunner().invoke(main, ["extract", str(clip)]).exit_code == 0
    result = run(tmp_path / "clip.zarr", "--reverse")
    assert result.stderr == (
        f"Error: {tmp_path}/clip.zarr: has no time-reversed pass; extract with --directions both\n"
    )
    assert json.loads(run(tmp_path / "clip.zarr", "-n", 0, "--json").output)["area"]["intra"] == 1
