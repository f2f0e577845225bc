"""The tables of the paper as data, so that measured numbers can stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, cast

import yaml

__all__ = ["PAPER_DATASETS", "ablation_table", "comparison_table", "paper_title"]

PAPER_DATASETS: Final = {"gopro": "GoPro", "dvd": "DVD"}
"""Datasets of Table I, and what they are called."""

Numbers = Mapping[str, float]
"""Values by name of the metric, ``flops`` in GFLOPs."""


def paper_title() -> str:
    """Return the title of the paper."""
    return str(_document()["title"])


def comparison_table(dataset: str) -> Mapping[str, Numbers]:
    """Return the part of Table I about a dataset.

    Parameters
    ----------
    dataset : {"gopro", "dvd"}
        One of :data:`PAPER_DATASETS`.

    Returns
    -------
    mapping of str to mapping of str to float
        By name of the method; ``CPGD-Net`` is the paper's own.
    """
    return cast("Mapping[str, Numbers]", _document()["I"][dataset])


def ablation_table(number: str) -> Mapping[str, Numbers]:
    """Return one of the tables of ablations, which are about DVD.

    Parameters
    ----------
    number : {"II", "III", "IV"}
        As the paper numbers them.

    Returns
    -------
    mapping of str to mapping of str to float
        By modification.
    """
    return cast("Mapping[str, Numbers]", _document()[number])


@cache
def _document() -> dict[str, Any]:
    text = (resources.files(__package__) / "data" / "paper.yaml").read_text(encoding="utf-8")
    return cast("dict[str, Any]", yaml.safe_load(text))
