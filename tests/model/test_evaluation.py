from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.errors import ConfigError, DatasetError
from codecprior.media.images import read_picture
from codecprior.model.checkpoint import save_checkpoint
from codecprior.model.config import CpfpConfig, load_preset
from codecprior.model.cpfp import Cpfp
from codecprior.model.deblurrer import Deblurrer, load_deblurrer
from codecprior.model.evaluation import Evaluation
from codecprior.model.metric_temporal import MotionSource
from codecprior.model.metrics import MetricsConfig
from codecprior.model.protocols import PROTOCOLS
from codecprior.model.scores import SequenceScores

PSNR = MetricsConfig(metrics=("psnr",))
PLAIN = PROTOCOLS["plain"]


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    whole = read_manifest(prepared)
    return replace(whole, entries=whole.entries[:3])


def network(folder: Path, change: float = 0.0) -> Deblurrer:
    """Return one that changes nothing, or a little, loaded from a checkpoint."""
    section = {**load_preset("cpfp-tiny")["cpfp"], "channels": 8, "deform_groups": 2, "fusion_blocks": 0}
    torch.manual_seed(1)
    built = Cpfp(CpfpConfig.from_dict(section))
    last = built.reconstruction[-1]
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(change)
    save_checkpoint(folder, built, {"cpfp": section})
    return load_deblurrer(folder)


def values(scores: list[SequenceScores], metric: str = "psnr") -> list[float]:
    return [score for each in scores for score in each.scores[metric].tolist()]


def test_the_blurry_input_has_the_scores_of_its_pictures(manifest: Manifest, tmp_path: Path) -> None:
    found = list(Evaluation(manifest, PLAIN, PSNR, tmp_path).scores(None))
    assert [(each.sequence, each.size, len(each.frames)) for each in found] == [
        ("moving", (128, 96), 8),
        ("bikes", (160, 128), 12),
        ("odd", (93, 71), 6),
    ]
    expected = []
    for entry in manifest.entries:
        assert isinstance(entry.sharp, tuple)
        for files in zip(entry.blurry, entry.sharp, strict=True):
            blurry, sharp = (read_picture(Path(manifest.resolve(file))).astype(float) for file in files)
            expected.append(10 * np.log10(255**2 / np.mean((blurry - sharp) ** 2)))
    assert values(found) == pytest.approx(expected)


def test_a_network_that_changes_nothing_scores_like_its_input(manifest: Manifest, tmp_path: Path) -> None:
    evaluation = Evaluation(manifest, PROTOCOLS["bsstnet"], MetricsConfig(metrics=("psnr", "ssim")), tmp_path)
    same = list(evaluation.scores(network(tmp_path / "same")))
    blurry = list(evaluation.scores(None))
    assert [each.frames for each in same] == [range(2, 6), range(2, 10), range(2, 4)]
    for metric in ("psnr", "ssim"):
        assert values(same, metric) == pytest.approx(values(blurry, metric))
    other = list(evaluation.scores(network(tmp_path / "other", 0.1)))
    assert values(other) != pytest.approx(values(blurry))


def test_an_interrupted_evaluation_goes_on_with_what_is_left(manifest: Manifest, tmp_path: Path) -> None:
    deblurrer = network(tmp_path / "run")
    evaluation = Evaluation(manifest, PLAIN, PSNR, tmp_path / "scores")
    done: list[tuple[int, int]] = []
    started = evaluation.scores(deblurrer, lambda *frames: done.append(frames))
    next(started)
    del started
    assert done == [(frame, 26) for frame in range(1, 9)]
    done.clear()
    first = list(evaluation.scores(deblurrer, lambda *frames: done.append(frames)))
    assert done == [(frame, 26) for frame in range(9, 27)]
    done.clear()
    second = list(evaluation.scores(deblurrer, lambda *frames: done.append(frames)))
    assert not done
    assert values(first) == values(second)
    assert [each.frames for each in first] == [each.frames for each in second]


def test_scores_that_are_no_finite_numbers_are_kept_as_they_are(manifest: Manifest, tmp_path: Path) -> None:
    sharp = tuple(replace(entry, blurry=entry.sharp) for entry in manifest.entries[:1] if entry.sharp is not None)
    config = MetricsConfig(metrics=("psnr", "warp_error"), warp_motion="mv")
    evaluation = Evaluation(replace(manifest, entries=sharp), PLAIN, config, tmp_path)
    for _ in range(2):
        (found,) = evaluation.scores(None)
        assert np.isposinf(found.scores["psnr"]).all()
        assert np.isnan(found.scores["warp_error"]).tolist() == [True] + 7 * [False]
    json.loads((tmp_path / "blurry" / "moving.json").read_text(), parse_constant=pytest.fail)


def test_a_network_that_fails_says_where(manifest: Manifest, tmp_path: Path) -> None:
    evaluation = Evaluation(manifest, PLAIN, PSNR, tmp_path / "scores")
    with pytest.raises(ConfigError, match="sequence moving, frame 0: the network returns values that are no finite"):
        next(evaluation.scores(network(tmp_path / "run", float("nan"))))


@pytest.mark.parametrize("what", ["protocol", "metric", "network"])
def test_what_was_measured_in_another_way_is_measured_anew(manifest: Manifest, tmp_path: Path, what: str) -> None:
    one = replace(manifest, entries=manifest.entries[2:])
    first, second = (network(tmp_path / name, change) for name, change in (("a", 0.0), ("b", 0.01)))
    list(Evaluation(one, PLAIN, PSNR, tmp_path).scores(first))
    protocol = PROTOCOLS["rvrt-y" if what == "protocol" else "plain"]
    metrics = MetricsConfig(metrics=("psnr", "ssim")) if what == "metric" else PSNR
    done: list[int] = []
    deblurrer = second if what == "network" else first
    list(Evaluation(one, protocol, metrics, tmp_path).scores(deblurrer, lambda count, _: done.append(count)))
    assert done == list(range(1, 7))


def without_sharp_sides(manifest: Manifest) -> Manifest:
    return replace(manifest, entries=tuple(replace(entry, sharp=None) for entry in manifest.entries))


@pytest.mark.parametrize("motion", ["dis", "mv"])
def test_without_sharp_sides_flicker_is_measured(manifest: Manifest, tmp_path: Path, motion: MotionSource) -> None:
    config = MetricsConfig(metrics=("psnr", "warp_error"), warp_motion=motion)
    evaluation = Evaluation(without_sharp_sides(manifest), PLAIN, config, tmp_path)
    assert evaluation.opened.unavailable == {"psnr": "no sharp frames"}
    same, other = (network(tmp_path / str(change), change) for change in (0.0, 3.0))
    blurry, kept, changed = (list(evaluation.scores(deblurrer)) for deblurrer in (None, same, other))
    assert all(each.scores.keys() == {"warp_error"} for each in blurry)
    assert values(kept, "warp_error") == pytest.approx(values(blurry, "warp_error"), nan_ok=True)
    assert all(np.isfinite(each.mean("warp_error").value) for each in blurry)
    assert values(changed, "warp_error") != pytest.approx(values(blurry, "warp_error"), nan_ok=True)


def test_sequences_with_and_without_a_sharp_side_are_not_averaged(manifest: Manifest, tmp_path: Path) -> None:
    mixed = replace(manifest, entries=(*manifest.entries[:1], *without_sharp_sides(manifest).entries[1:]))
    with pytest.raises(DatasetError, match="sequence bikes: has no sharp frames to compare with, others have"):
        Evaluation(mixed, PLAIN, PSNR, tmp_path)


def test_metrics_that_all_need_sharp_frames_are_refused_without_any(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^there is nothing to measure \(psnr: no sharp frames\)$"):
        Evaluation(without_sharp_sides(manifest), PLAIN, PSNR, tmp_path)
