"""``codecprior doctor``: the programs and libraries that extraction uses, where they are and whether they work."""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from typing import Any, Final

import click

from codecprior import __version__
from codecprior.cli.output import table

__all__ = ["doctor"]

_LIBRARIES: Final = (
    *("numpy", "tensorstore", "zarr", "av", "opencv-python-headless", "imageio-ffmpeg", "h5py", "distributed"),
    *("fsspec", "s3fs", "xarray", "torch", "diffusers"),
)


@click.command(short_help="Print the programs and libraries that are used.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Print every program and library that is used, with path and version.

    Exits with 1 if one that is needed is missing.

    \b
    codecprior doctor
    codecprior doctor --json
    """
    from vvc_wrappers.tools import find_all

    facts: dict[str, Any] = {
        "codecprior": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "tools": [
            {
                "name": tool.name,
                "path": str(tool.path) if tool.path else None,
                "version": tool.version,
                "needed": tool.needed,
                "problem": tool.problem,
            }
            for tool in find_all()
        ],
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _print(facts)
    ctx.exit(1 if any(tool["problem"] and tool["needed"] for tool in facts["tools"]) else 0)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _print(facts: dict[str, Any]) -> None:
    rows = [(key, facts[key]) for key in ("codecprior", "python", "platform")]
    for tool in facts["tools"]:
        rows.append((tool["name"], tool["version"] or "not found"))
        if tool["path"]:
            rows.append(("", tool["path"]))
    rows += [(name, version or "not installed") for name, version in facts["libraries"].items()]
    click.echo("\n".join(table(rows)))
    for tool in facts["tools"]:
        if tool["problem"]:
            word = "missing" if tool["needed"] else "optional"
            click.echo(f"\n{tool['name']} ({word}): {tool['problem']}")
