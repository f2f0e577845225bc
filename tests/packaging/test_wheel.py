from __future__ import annotations

import json
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

# The first of these tests compiles VVdeC where build/ is empty.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_wheel_is_for_every_python_on_this_platform(wheel: Path) -> None:
    assert wheel.name.split("-")[2:4] == ["py3", "none"]
    assert "-any" not in wheel.name


def test_wheel_holds_both_programs_executable_and_the_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        members = {member.filename: member for member in archive.infolist()}
        notices = next(archive.read(name).decode() for name in members if name.endswith("/licenses/THIRD-PARTY.md"))
    for program in ("codecprior-probe", "vvdecapp"):
        mode = members[f"vvc_wrappers/bin/{program}"].external_attr >> 16
        assert mode & stat.S_IXUSR
        assert mode & stat.S_IXOTH
    assert any(name.endswith("/licenses/LICENSE") for name in members)
    assert "Redistributions in binary form must reproduce the above copyright" in notices


def test_wheel_holds_packages_under_their_installed_names_and_no_sources_of_programs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top_level = {name.split("/")[0] for name in names}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"codecprior", "vvc_wrappers"}
    assert {"codecprior/py.typed", "codecprior/cli/main.py", "vvc_wrappers/py.typed"} <= set(names)
    assert not [name for name in names if name.endswith((".cpp", ".hpp", ".cmake", "CMakeLists.txt"))]


def test_installed_command_shows_its_help(run_installed: Run) -> None:
    result = run_installed("codecprior", "--help")
    assert result.returncode == 0, result.stderr
    assert "extract" in result.stdout


def test_installed_doctor_finds_the_programs_inside_the_package(run_installed: Run) -> None:
    result = run_installed("codecprior", "doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert str(Path("vvc_wrappers", "bin", "codecprior-probe")) in result.stdout
    assert str(Path("vvc_wrappers", "bin", "vvdecapp")) in result.stdout


def test_installed_command_extracts_without_compiler_or_cargo(run_installed: Run, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    for index in range(3):
        assert cv2.imwrite(str(frames / f"{index:03d}.png"), np.roll(picture, 4 * index, axis=1))

    result = run_installed("codecprior", "extract", frames, "-o", tmp_path / "out.zarr")
    assert result.returncode == 0, result.stderr

    result = run_installed("codecprior", "inspect", tmp_path / "out.zarr", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["num_frames"] == 3


@pytest.mark.parametrize("folder", ["cli", "model"])
def test_folder_names_of_the_checkout_are_no_import_names(run_installed: Run, folder: str) -> None:
    result = run_installed("python", "-c", f"import {folder}")
    assert result.returncode == 1
    assert f"No module named '{folder}'" in result.stderr


@pytest.mark.parametrize("package", ["codecprior", "codecprior.cli.main", "vvc_wrappers"])
def test_importing_is_light(run_installed: Run, package: str) -> None:
    code = f"import sys, {package}; print(*sys.modules)"
    result = run_installed("python", "-c", code)
    assert result.returncode == 0, result.stderr
    assert package in result.stdout.split()
    assert {"torch", "zarr", "tensorstore", "distributed"}.isdisjoint(result.stdout.split())
