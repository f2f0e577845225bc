"""What the tests of the wrappers share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def conformance_dir() -> Path:
    default = Path(__file__).parents[3] / "shared" / "conformance"
    folder = Path(os.environ.get("CODECPRIOR_CONFORMANCE", default))
    if not (folder / "md5.txt").exists():
        pytest.skip(f"no conformance streams in {folder}; set CODECPRIOR_CONFORMANCE to a folder with them")
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that writes an executable shell script."""

    def write(name: str, body: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write
