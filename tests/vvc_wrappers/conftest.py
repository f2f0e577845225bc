"""What the tests of the wrappers share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def motion_oracle() -> ModuleType:
    """The module ``motion_oracle.py`` beside this file."""
    return module_beside("motion_oracle")


@pytest.fixture(scope="session")
def annex_b() -> ModuleType:
    """The module ``annex_b.py`` beside this file."""
    return module_beside("annex_b")


def module_beside(name: str) -> ModuleType:
    """Load a module of this folder, which is not on the import path."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that writes an executable shell script."""

    def write(name: str, body: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write
