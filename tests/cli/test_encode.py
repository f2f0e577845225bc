from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from codecprior.cli.main import main
from vvc_wrappers.vvdec import VVdeC


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["encode", *map(str, arguments)])


@pytest.fixture
def y4m(tiny: Any, tmp_path: Path) -> Path:
    return tiny.y4m(tmp_path / "clip.y4m", count=3)


def num_frames(stream: Path) -> int:
    return len(b"".join(VVdeC().decode(stream))) // (176 * 144 * 3 // 2 * 2)


def test_the_stream_lies_beside_the_input(y4m: Path) -> None:
    result = run(y4m)
    first, last = result.output.splitlines()
    assert first == f"{y4m} -> {y4m.with_suffix('.266')}"
    assert last.startswith(f"{y4m.with_suffix('.266')}: 3 frames, ")
    assert num_frames(y4m.with_suffix(".266")) == 3


def test_a_folder_of_frames_gives_a_stream_beside_it(
    frames: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(frames).exit_code == 0
    assert num_frames(tmp_path / "clip.266") == 6
    monkeypatch.chdir(frames)
    assert run(".", "--dry-run", "--overwrite").output == f". -> {frames}.266\n"


def test_what_exists_is_replaced_on_request_only(y4m: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.266"
    output.write_bytes(b"mine")
    refused = run(y4m, "-o", output)
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {output}: exists; give --overwrite or another -o\n")
    assert output.read_bytes() == b"mine"
    assert run(y4m, "-o", output, "--overwrite").exit_code == 0
    assert num_frames(output) == 3


def test_json_has_the_command_of_the_encoder(y4m: Path, tmp_path: Path) -> None:
    facts = json.loads(run(y4m, "-o", tmp_path / "out.266", "--qp", 40, "--json", "--reverse").output)
    assert (facts["output"], facts["num_frames"]) == (str(tmp_path / "out.266"), 3)
    assert facts["size_bytes"] == (tmp_path / "out.266").stat().st_size
    assert facts["command"][facts["command"].index("-qp") + 1] == "40"


def test_a_dry_run_writes_nothing(y4m: Path) -> None:
    facts = json.loads(run(y4m, "--dry-run", "--json").output)
    assert facts == {"input": str(y4m), "output": str(y4m.with_suffix(".266"))}
    assert [path.name for path in y4m.parent.iterdir()] == ["clip.y4m"]


@pytest.mark.parametrize(("rate", "bits"), [("800k", 800_000), ("1.5M", 1_500_000), ("90000", 90_000)])
def test_bit_rates_are_written_as_codec_tools_write_them(y4m: Path, tmp_path: Path, rate: str, bits: int) -> None:
    facts = json.loads(run(y4m, "-o", tmp_path / "out.266", "--bitrate", rate, "--json").output)
    assert facts["command"][facts["command"].index("-b:v") + 1] == str(bits)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--bitrate", "-1"], "'-1': give bits per second, such as 800k, 2M or 1500000"),
        (["--size", "176*144"], "'176*144': write it as WIDTHxHEIGHT, such as 1920x1080"),
        (["--frame-rate", "1/0"], "'1/0': give frames per second, such as 25, 29.97 or 30000/1001"),
    ],
)
def test_values_that_make_no_sense_are_explained(y4m: Path, arguments: list[str], reason: str) -> None:
    result = run(y4m, *arguments)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: Invalid value for '{arguments[0]}': {reason}\n")


def test_what_fails_leaves_one_line_and_no_file(y4m: Path, frames: Path, tmp_path: Path) -> None:
    (frames / "2.png").write_bytes(b"")
    result = run(frames)
    assert (result.exit_code, result.stderr) == (1, f"Error: {frames}/2.png: is empty; replace or remove it\n")
    result = run(tmp_path / "nothing.mp4")
    assert (result.exit_code, result.stderr) == (1, f"Error: {tmp_path}/nothing.mp4: no such file or folder\n")
    result = run(y4m, "-o", tmp_path / "missing" / "out.266")
    assert result.stderr.startswith(f"Error: {tmp_path}/missing/out.266: cannot write (No such file or directory)")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "clip.y4m"]
