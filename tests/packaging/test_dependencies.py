from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _imported(folder: str) -> set[str]:
    """Top-level names that the modules of a folder import, wherever in the module."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("folder", ["codecprior", "cli", "model", "vvc_wrappers"])
def test_every_imported_package_is_a_declared_dependency(folder: str) -> None:
    declared = {
        re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")  # type: ignore[index]
        for requirement in metadata.requires("codecprior") or ()
    }
    distributions = metadata.packages_distributions()
    third_party = _imported(folder) - sys.stdlib_module_names - {"codecprior", "vvc_wrappers"}
    undeclared = {
        name
        for name in third_party
        if not declared & {found.lower().replace("_", "-") for found in distributions.get(name, [name])}
    }
    assert not undeclared, f"{folder}/ imports {sorted(undeclared)}, which pyproject.toml does not list"
