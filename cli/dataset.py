"""``codecprior dataset``: what a folder of training material is, before anything is made of it."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from codecprior.cli.output import count, table
from codecprior.cli.progress import progress_bar

__all__ = ["dataset", "layout_options"]

_LAYOUTS: Final = ("gopro", "dvd", "hq", "rvrt", "kair", "bsstnet", "cdvd-tsp", "generic")
_WIDTH: Final = 80

_Command = TypeVar("_Command", bound=Callable[..., Any])


def layout_options(command: _Command) -> _Command:
    """Add the options that say how a folder is a dataset to a command."""
    options = (
        click.option(
            "--layout", type=click.Choice(_LAYOUTS), help="Take DIR to be this, where more than one layout fits."
        ),
        click.option(
            "--splits", metavar="FILE", type=click.Path(), help="YAML file: which sequence is in which split."
        ),
        click.option(
            "--blur",
            type=click.Choice(["blur", "blur_gamma"]),
            default="blur",
            show_default=True,
            help="GoPro's degraded side: averaged sample values, or averaged light.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(short_help="Look at datasets for restoration.")
def dataset() -> None:
    """Look at datasets for restoration: GoPro, DVD, HQ, their repacks, and your own.

    \b
    codecprior dataset inspect GOPRO_Large
    """


@dataset.command(short_help="Print what a dataset holds and what is wrong with it.")
@click.argument("folder", metavar="DIR", type=click.Path())
@layout_options
@click.option("--check-frames", "check", is_flag=True, help="Decode every frame, to find damaged ones.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(folder: str, *, layout: str | None, splits: str | None, blur: str, check: bool, as_json: bool) -> None:
    """Print what dataset DIR holds and what is wrong with it.

    DIR may be the dataset, one of its splits, or a folder up to two levels above. Sequences with an error are left
    out; exit status 1 says that none is left. The layout is recognised by what lies where:

    \b
    gopro      {train,test}/<sequence>/{blur,blur_gamma,sharp}/
    dvd        <sequence>/{input,GT}/
    hq         *.yuv, *.y4m
    rvrt       {train,test}_{GT_blurred,GT}/<sequence>/
    kair       train_{GT_blurred,GT}_with_val/<sequence>/
    bsstnet    {train,test}/{blur,GT}/<sequence>/
    cdvd-tsp   {train,test}/{blur,gt}/<sequence>/
    generic    [{train,test,val}/]{blur,sharp}/<sequence>/

    A file for --splits has lines such as 'train: [walk, "street_*"]'.

    \b
    codecprior dataset inspect GOPRO_Large
    codecprior dataset inspect DeepVideoDeblurring_Dataset --check-frames
    codecprior dataset inspect my_clips --splits splits.yaml --json
    """
    from codecprior.datasets.layouts import recognise
    from codecprior.datasets.report import check_frames, facts

    found = recognise(folder, layout, splits, blur=blur)
    if check:
        with progress_bar("check", "frame") as progress:
            found = check_frames(found, progress)
    summary = facts(found)
    click.echo(json.dumps(summary, indent=2) if as_json else "\n".join(_lines(summary)))


def _lines(summary: dict[str, Any]) -> list[str]:
    rows = [("dataset", summary["root"]), ("layout", summary["layout"])]
    for split, numbers in summary["splits"].items():
        rows.append((split, f"{count(numbers['sequences'], 'sequence')}, {count(numbers['pairs'], 'pair')}"))
    sizes = [f"{size} ({count(number, 'sequence')})" for size, number in summary["resolutions"].items()]
    rows += [("sizes" if not at else "", size) for at, size in enumerate(sizes)]
    problems = summary["problems"]
    severities = Counter(problem["severity"] for problem in problems)
    rows.append(("problems", ", ".join(count(severities[each], each) for each in severities) or "none"))
    lines = table(rows)
    for problem in problems:
        text = f"{problem['severity']}: {problem['path']}: {problem['message']} ({problem['kind']})"
        lines += textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines
