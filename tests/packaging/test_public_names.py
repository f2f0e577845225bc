from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# As in pyproject.toml's [tool.scikit-build.wheel.packages].
FOLDERS = {
    "codecprior": "codecprior",
    "codecprior.cli": "cli",
    "codecprior.model": "model",
    "vvc_wrappers": "vvc_wrappers",
}


def _modules() -> list[str]:
    names = []
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            names.append(".".join((package, *parts)).removesuffix(".__init__"))
    return [name for name in names if "._" not in name]


@pytest.mark.parametrize("name", _modules())
def test_all_lists_exactly_what_a_module_makes_public(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    missing = [entry for entry in exported if not hasattr(module, entry)]
    assert not missing, f"{name}.__all__ lists {missing}, which do not exist"
    own = {
        entry
        for entry, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == name and entry[0] != "_"
    }
    assert own <= set(exported), f"{name}.__all__ lacks {sorted(own - set(exported))}: list them or underscore them"


def test_every_module_is_seen() -> None:
    names = _modules()
    assert {"codecprior.cli.main", "codecprior.core.arrays", "codecprior.errors"} <= set(names)
