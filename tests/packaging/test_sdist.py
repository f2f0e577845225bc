from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_sdist_holds_what_the_build_needs_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE",
        "THIRD-PARTY.md",
        "cli/main.py",
        "codecprior/__init__.py",
        "vvc_wrappers/native/CMakeLists.txt",
        "vvc_wrappers/native/cmake/VVdeCSource.cmake",
        "vvc_wrappers/native/probe_main.cpp",
    } <= names
    assert not [name for name in names if name.startswith(("build/", "dist/", ".venv/"))]
