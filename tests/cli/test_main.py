from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import codecprior
from codecprior.cli.main import main

COMMANDS = [
    "extract",
    "encode",
    "inspect",
    "verify",
    "render",
    "export",
    "import",
    "dataset",
    "prepare",
    "degrade",
    "synthesize-blur",
    "train",
    "precompute",
    "deblur",
    "evaluate",
    "ablate",
    "compare",
    "doctor",
]


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from codecprior.cli.main import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
print(sorted(sys.modules.keys() & {"av", "cv2", "distributed", "fsspec", "numpy", "tensorstore", "torch", "zarr"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_is_listed_with_a_whole_sentence() -> None:
    lines = CliRunner().invoke(main, ["--help"], terminal_width=80).output.splitlines()
    listed = lines[lines.index("Commands:") + 1 :][: len(COMMANDS)]
    assert [line.split()[0] for line in listed] == COMMANDS
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("command", ["", *COMMANDS, "dataset inspect"])
def test_help_fits_a_terminal(command: str) -> None:
    result = CliRunner().invoke(main, [*command.split(), "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert all(len(line) <= 80 for line in result.output.splitlines())
    assert result.output == CliRunner().invoke(main, [*command.split(), "-h"], terminal_width=80).output


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"codecprior, version {codecprior.__version__}\n"


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["extrakt"])
    assert result.exit_code == 2
    assert "No such command 'extrakt'" in result.stderr


def test_errors_of_the_operating_system_are_one_line(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("in the way")
    result = CliRunner().invoke(main, ["inspect", str(target / "clip.zarr")])
    assert result.exit_code == 1
    assert result.stderr == f"Error: {target}/clip.zarr: no priors store here (zarr.json is missing)\n"


def test_a_reader_that_has_seen_enough_is_no_error(cli: Any) -> None:
    command = [*cli.command, "doctor", "--json"]
    with subprocess.Popen(command, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_verbose_logs_every_external_command(cli: Any, tiny: Any, tmp_path: Path) -> None:
    clip = tiny.y4m(tmp_path / "clip.y4m", count=1)
    quiet, loud = (cli(*flags, "encode", clip, "-o", tmp_path / "out.266", "--overwrite") for flags in ((), ("-vv",)))
    assert quiet.stderr == ""
    assert "DEBUG: RUN: " in loud.stderr
    assert "libvvenc" in loud.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--config", "cpfp-tiny", "--data", "x", "-o", "run"],
        ["deblur", "clip.mp4", "-o", "sharp.mp4", "--checkpoint", "run"],
        ["evaluate", "--checkpoint", "run", "--data", "x", "-o", "results"],
        ["ablate", "--data", "x", "-o", "ablations"],
    ],
)
def test_without_torch_the_line_that_installs_it_is_printed(arguments: list[str], tmp_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None
from codecprior.cli.main import main
main(sys.argv[1:])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "Error: torch is not installed, which networks need: pip install 'codecprior[model]'"
