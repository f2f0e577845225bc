"""``codecprior verify``: every byte of finished stores."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from codecprior.cli.output import count, size
from codecprior.cli.progress import progress_bar

__all__ = ["verify"]


@click.command(short_help="Check every byte of stores.")
@click.argument("stores", nargs=-1, required=True, type=str)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(ctx: click.Context, stores: tuple[str, ...], as_json: bool) -> None:
    """Check STORES (paths or URLs): digests of all files, checksums of all chunks, and that the values agree.

    Exits with 1 if anything is wrong.

    \b
    codecprior verify bikes.zarr
    codecprior verify priors/*.zarr
    """
    from codecprior.errors import StoreError
    from codecprior.store.verify import verify as verify_store

    reports = []
    for store in stores:
        try:
            with progress_bar(f"verify {store}", "check") as progress:
                facts = asdict(verify_store(store, progress))
        except StoreError as error:
            facts = {"location": store, "problems": [str(error)]}
        reports.append({"ok": not facts["problems"], **facts})
        if not as_json:
            _print(reports[-1])
    if as_json:
        click.echo(json.dumps(reports if len(stores) > 1 else reports[0], indent=2))
    ctx.exit(0 if all(report["ok"] for report in reports) else 1)


def _print(facts: dict[str, Any]) -> None:
    if facts["ok"]:
        frames, files = count(facts["num_frames"], "frame"), count(facts["num_files"], "file")
        click.echo(f"{facts['location']}: sound ({frames}, {files}, {size(facts['size_bytes'])})")
    for problem in facts["problems"]:
        click.echo(problem if problem.startswith(facts["location"]) else f"{facts['location']}: {problem}", err=True)
