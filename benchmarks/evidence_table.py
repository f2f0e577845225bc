"""Units of the evidence as a table: medians over unseen clips, paired with the network that lacks what is in question.

The gain of a clip is that of its PSNR, of the squared error over all frames but the first, which has none before it;
means of the PSNR of frames would be ruled by those that are sharp already. Gains are means over seeds. Intervals come
from drawing pictures and seeds again, 95 % of the medians: clips of one picture are no independent witnesses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence_unit import VARIANTS

__all__ = ["markdown", "summary", "vector_table"]

_SHARPER: Final = 2.0
"""A frame follows a sharper one where its squared error is so many times that of the one before."""
_PEAK: Final = 255.0
_DRAWS: Final = 2000

_Gains = NDArray[np.float64]
"""In dB, shape (seeds, clips)."""


def summary(units: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up the units of one level.

    Parameters
    ----------
    units : sequence of mapping
        What :func:`benchmarks.evidence_unit.run_unit` returned, all of the same steps and clips.

    Returns
    -------
    dict
        JSON values: how the units were made, and a row for each variant in the order of ``VARIANTS``.
    """
    by_variant: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for unit in units:
        by_variant[unit["variant"]][unit["seed"]] = unit
    for name in ("steps", "common"):
        if any(unit[name] != units[0][name] for unit in units):
            raise ValueError(f"units of different {name}: a table takes those of one kind")
    clips = list(units[0]["clips"])
    return {
        "steps": units[0]["steps"],
        "common": units[0]["common"],
        "devices": sorted({unit["device"] for unit in units}),
        "median_seconds_of_a_unit": float(np.median([unit["seconds"] for unit in units])),
        "clips": clips,
        "blurry_db": {clip: round(_psnr(scores["blurry"][1:]), 2) for clip, scores in units[0]["clips"].items()},
        "rows": {variant: _row(variant, by_variant, clips) for variant in VARIANTS if variant in by_variant},
    }


def markdown(results: Mapping[str, Any]) -> str:
    """Return a level as a Markdown table.

    Parameters
    ----------
    results : mapping
        What :func:`summary` returned.

    Returns
    -------
    str
        How it was trained, and one line a variant.
    """
    rows, clips = results["rows"], results["clips"]
    made = [f"{results['steps']} steps", *results["common"], f"trained on {', '.join(results['devices'])}"]
    lines = [
        f"{'; '.join(made)}. Median blurry input {np.median(list(results['blurry_db'].values())):.1f} dB; {len(clips)} "
        f"clips of {len(set(map(_picture, clips)))} pictures.",
        "",
        "| the network is given | seeds | gain over the blurry input | after a sharper frame | against no V, no R | "
        "against the line in brackets |",
        "|---|---|---|---|---|---|",
    ]
    numbers = {variant: number for number, variant in enumerate(rows, 1)}
    for variant, row in rows.items():
        low, median, high = row["gain_db"]["quartiles"]
        against = {base: _against(found) for base, found in row["against"].items()}
        base = VARIANTS[variant].base
        beside = f"{against[base]} ({numbers[base]})" if base != "none" and base in against else ""
        lines.append(
            f"| {numbers[variant]}. {VARIANTS[variant].meaning} | {len(row['seeds'])} "
            f"| **{median:+.2f}** ({low:+.2f} to {high:+.2f}) | {row['after_sharper_db']:+.2f} "
            f"| {against.get('none', '')} | {beside} |"
        )
    return "\n".join(lines)


def vector_table(facts: Mapping[str, Any]) -> str:
    """Return how near vectors are to the truth as a Markdown table.

    Parameters
    ----------
    facts : mapping
        What :func:`benchmarks.evidence_data.make_data` returned.

    Returns
    -------
    str
        One line a kind of vectors.
    """
    found = facts["vectors_of_test_clips"]
    kinds = {
        "zero": "V, holes 0",
        "neighbour": "V, holes from neighbours",
        "global": "V, holes from global motion",
        "mean": "mean of both lists, holes from neighbours",
        "dis": "DIS flow between blurry frames",
    }
    lines = ["| vectors | cells within 1 sample of the true motion | within 4 samples |", "|---|---|---|"]
    for kind, meaning in kinds.items():
        shares = " | ".join(f"{100 * found[f'within_{near}_samples'][kind]:.0f} %" for near in (1, 4))
        lines.append(f"| {meaning} | {shares} |")
    return "\n".join(lines)


def _row(variant: str, by_variant: Mapping[str, Mapping[int, Mapping[str, Any]]], clips: list[str]) -> dict[str, Any]:
    units = by_variant[variant]
    gains = _gains(units, sorted(units), clips)
    after_sharper = [
        np.mean([_gain(unit["clips"][clip], _after_a_sharper_one) for unit in units.values()])
        for clip in clips
        if _after_a_sharper_one(units[min(units)]["clips"][clip]["blurry"])
    ]
    against = {}
    for base in dict.fromkeys(("none", VARIANTS[variant].base)):
        common = sorted(set(units) & set(by_variant.get(base, {})))
        if base != variant and common:
            against[base] = _paired(_gains(units, common, clips) - _gains(by_variant[base], common, clips), clips)
    return {
        "meaning": VARIANTS[variant].meaning,
        "settings": list(VARIANTS[variant].settings),
        "vectors": VARIANTS[variant].vectors,
        "seeds": sorted(units),
        "gain_db": {
            "quartiles": _quartiles(gains.mean(axis=0)),
            "median_of_each_seed": _rounded(np.median(gains, axis=1)),
            "by_clip": dict(zip(clips, _rounded(gains.mean(axis=0)), strict=True)),
        },
        "after_sharper_db": round(float(np.median(after_sharper)), 3),
        "against": against,
    }


def _gains(units: Mapping[int, Mapping[str, Any]], seeds: Sequence[int], clips: Sequence[str]) -> _Gains:
    return np.array([[_gain(units[seed]["clips"][clip], _all_but_the_first) for clip in clips] for seed in seeds])


def _gain(scores: Mapping[str, list[float]], frames: Callable[[Sequence[float]], Sequence[int]]) -> float:
    """PSNR of some frames after less before."""
    chosen = frames(scores["blurry"])
    after, before = (_psnr([scores[side][frame] for frame in chosen]) for side in ("restored", "blurry"))
    return after - before


def _psnr(errors: Sequence[float]) -> float:
    return 10 * math.log10(_PEAK**2 / float(np.mean(errors)))


def _all_but_the_first(errors: Sequence[float]) -> Sequence[int]:
    return range(1, len(errors))


def _after_a_sharper_one(errors: Sequence[float]) -> Sequence[int]:
    return [frame for frame in range(1, len(errors)) if errors[frame] >= _SHARPER * errors[frame - 1]]


def _paired(differences: _Gains, clips: Sequence[str]) -> dict[str, Any]:
    """Sum up differences of gains, shape (seeds, clips)."""
    pictures = np.array(list(map(_picture, clips)))
    places = [np.flatnonzero(pictures == picture) for picture in dict.fromkeys(pictures)]
    random, medians = np.random.default_rng(0), []
    for _ in range(_DRAWS):
        seeds = random.integers(len(differences), size=len(differences))
        drawn = np.concatenate([places[place] for place in random.integers(len(places), size=len(places))])
        medians.append(np.median(differences[seeds][:, drawn].mean(axis=0)))
    of_clips = differences.mean(axis=0)
    return {
        "quartiles": _quartiles(of_clips),
        "interval": _rounded(np.quantile(medians, (0.025, 0.975))),
        "least": round(float(of_clips.min()), 3),
        "median_of_each_seed": _rounded(np.median(differences, axis=1)),
        "clips_better": int((of_clips > 0).sum()),
        "clips": len(clips),
    }


def _picture(clip: str) -> str:
    """Return the picture that a clip shows, whatever the pass."""
    return clip.partition("_")[2]


def _against(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['quartiles'][1]:+.2f} [{low:+.2f}, {high:+.2f}], {found['clips_better']}/{found['clips']}"


def _quartiles(values: NDArray[np.float64]) -> list[float]:
    return _rounded(np.quantile(values, (0.25, 0.5, 0.75)))


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 3) for value in values]
