"""The distributions, built once per run, and an environment that holds the wheel alone."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout; build/ keeps the compiled VVdeC, so only what changed is compiled."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ".")
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    code = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, check=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="session")
def run_installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of an environment that holds the wheel, with neither compiler nor cargo nor checkout in reach."""
    environment, home = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("home")
    venv.create(environment, with_pip=False)
    programs = environment / "bin"
    _pip("--python", programs / "python", "install", "--no-deps", wheel)
    # The dependencies come from the running environment. Python obeys no .pth file in a folder that a .pth file names,
    # so the editable install there stays out of sight.
    base = {"base": str(environment), "platbase": str(environment)}
    site_packages = Path(sysconfig.get_path("purelib", vars=base))
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [programs / program, *arguments],
            cwd=home,
            env={"PATH": str(programs), "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run
