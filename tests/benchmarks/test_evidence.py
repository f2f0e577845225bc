"""The evidence on vectors and residual: from pictures to the table, with trainings of a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.evidence import main, with_tables
from benchmarks.evidence_data import make_data
from benchmarks.evidence_table import markdown, summary
from benchmarks.evidence_unit import VARIANTS
from codecprior.datasets.manifest import read_manifest
from codecprior.datasets.reader import ClipReader
from codecprior.datasets.sampling import Windows
from codecprior.model.training_config import training_config


@pytest.fixture(scope="module")
def data(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidence")
    video = cv2.VideoCapture(str(clips / "bikes.mp4"))
    for split in ("train", "test"):
        (folder / "pictures" / split).mkdir(parents=True)
        cv2.imwrite(str(folder / "pictures" / split / "street.png"), video.read()[1])
    make_data(folder / "data", folder / "pictures", passes={"train": 1, "test": 1})
    return folder / "data"


def test_the_data_can_be_moved(data: Path) -> None:
    for kind in ("codec", "true", "dis"):
        for entry in read_manifest(data / kind).entries:
            assert entry.frames is not None
            assert not Path(entry.store).is_absolute()
            assert not Path(entry.frames).is_absolute()


@pytest.mark.parametrize(("kind", "least"), [("true", 3.0), ("dis", 1.5), ("codec", 1.2)])
def test_vectors_lead_to_the_same_thing_in_the_frame_before(data: Path, kind: str, least: float) -> None:
    manifest = read_manifest(data / kind)
    clip = ClipReader(manifest).read(Windows(manifest.entries).request(0))
    assert clip.sharp is not None
    sharp = clip.sharp.astype(np.float32)
    height, width = sharp.shape[1:3]
    vectors = clip.forward.mv.repeat(4, axis=1).repeat(4, axis=2)
    there = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + vectors
    still = moved = 0.0
    for t in range(1, len(sharp)):
        led = cv2.remap(
            sharp[t - 1], there[t].astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        still += float(np.abs(sharp[t] - sharp[t - 1]).mean())
        moved += float(np.abs(sharp[t] - led).mean())
    assert still > least * moved


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_training_that_lacks_something_of_another(variant: str) -> None:
    training_config("cpfp-tiny", VARIANTS[variant].settings)
    assert VARIANTS[variant].base in VARIANTS


@pytest.mark.slow
def test_a_unit_trains_and_measures(data: Path, tmp_path: Path) -> None:
    units = []
    for variant in ("none", "vr-global"):
        out = tmp_path / f"{variant}-0.json"
        main(["unit", "--data", str(data), "--variant", variant, "--steps", "2", "--out", str(out)])
        units.append(json.loads(out.read_text()))
    results = summary(units)
    assert results["clips"] == ["pass0_street"]
    assert len(units[0]["clips"]["pass0_street"]["restored"]) == 9
    assert len(markdown(results).splitlines()) == 6


def _unit(variant: str, seed: int, gains: list[float]) -> dict[str, Any]:
    """A unit that gains so many dB in every frame of each clip but the first."""
    clips = {
        f"pass0_{number}": {
            "blurry": [1.0, 8.0, 9.0],
            "restored": [0.1, *(each / 10 ** (gain / 10) for each in (8.0, 9.0))],
        }
        for number, gain in enumerate(gains)
    }
    return {
        "variant": variant,
        "seed": seed,
        "steps": 1,
        "common": [],
        "seconds": 1.0,
        "device": "none",
        "clips": clips,
    }


def test_the_table_pairs_clips_and_leaves_out_first_frames() -> None:
    units = [
        _unit(variant, seed, [gain + more for gain in (0.1, 0.7, 2.0)])
        for seed in (0, 1)
        for variant, more in (("none", 0.0), ("true", 0.5))
    ]
    results = summary(units)
    assert results["blurry_db"]["pass0_0"] == pytest.approx(48.13 - 9.29, abs=0.01)  # a squared error of 8.5
    row = results["rows"]["true"]
    assert row["gain_db"]["quartiles"] == [0.9, 1.2, 1.85]
    assert row["against"]["none"]["quartiles"] == [0.5, 0.5, 0.5]
    assert row["against"]["none"]["interval"] == [0.5, 0.5]
    assert row["against"]["none"]["clips_better"] == 3
    assert row["after_sharper_db"] == 1.2


def test_units_of_different_steps_are_no_table() -> None:
    with pytest.raises(ValueError, match="different steps"):
        summary([_unit("none", 0, [0.0]), {**_unit("none", 1, [0.0]), "steps": 2}])


def test_tables_go_between_their_marks() -> None:
    text = "a\n<!-- order -->\nold\n<!-- end -->\nb\n<!-- real -->\n<!-- end -->\n"
    filled = with_tables(text, {"order": "| new |", "wiring": "| nowhere |"})
    assert filled == "a\n<!-- order -->\n\n| new |\n\n<!-- end -->\nb\n<!-- real -->\n<!-- end -->\n"
    assert with_tables(filled, {"order": "| new |"}) == filled
