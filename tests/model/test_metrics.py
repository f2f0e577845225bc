from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codecprior.core.priors import Flow
from codecprior.errors import ConfigError
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames
from codecprior.model.metric_fidelity import Psnr, psnr, ssim
from codecprior.model.metric_temporal import store_motion
from codecprior.model.metrics import METRICS, MetricsConfig, evaluate_sequence, open_metrics
from codecprior.model.protocols import PROTOCOLS, Protocol, find_protocol
from codecprior.store.reader import open_store

PLAIN = find_protocol("plain")
FIDELITY = open_metrics(MetricsConfig(metrics=("psnr", "ssim"))).metrics

Frames = list[NDArray[Any]]


def offset_frames(*offsets: int, size: tuple[int, int] = (24, 32)) -> tuple[Frames, Frames]:
    """Outputs that differ from references by a constant each."""
    references = [np.full((*size, 3), 100, np.uint8) for _ in offsets]
    return [frame + np.uint8(offset) for frame, offset in zip(references, offsets, strict=True)], references


def decibels(*offsets: int) -> list[float]:
    return [20 * math.log10(255 / offset) if offset else math.inf for offset in offsets]


def test_every_frame_gets_its_scores_in_order() -> None:
    scores = evaluate_sequence(*offset_frames(1, 2, 0, 51), PLAIN, FIDELITY, name="walk")
    assert scores.sequence == "walk"
    assert scores.size == (32, 24)
    assert scores.frames == range(4)
    assert scores.scores["psnr"].tolist() == pytest.approx(decibels(1, 2, 0, 51))
    assert scores.scores["ssim"][2] == 1
    mean = scores.mean("psnr")
    assert (mean.value, mean.num_frames, mean.left_out) == (pytest.approx(np.mean(decibels(1, 2, 51))), 3, 1)


def test_protocols_drop_frames_at_both_ends() -> None:
    frames = offset_frames(1, 2, 3, 4, 5, 6, 7)
    for name, kept in (("plain", range(7)), ("rvrt", range(7)), ("cdvd-tsp", range(2, 5)), ("bsstnet", range(2, 5))):
        scores = evaluate_sequence(*frames, find_protocol(name), [Psnr()], name="walk")
        assert scores.frames == kept
        assert scores.scores["psnr"].tolist() == pytest.approx(decibels(*(index + 1 for index in kept)))


def test_a_border_is_left_out() -> None:
    (output,), references = offset_frames(3, size=(40, 40))
    output[:4] = 255
    output[:, -4:] = 0
    score = evaluate_sequence(
        [output], references, Protocol(name="own", source="here", border=4), [Psnr()], name="walk"
    )
    assert score.scores["psnr"].tolist() == pytest.approx(decibels(3))
    assert evaluate_sequence([output], references, PLAIN, [Psnr()], name="walk").mean("psnr").value < 20


def test_luma_is_compared_where_the_protocol_says_so() -> None:
    reference = np.full((24, 32, 3), 100, np.uint8)
    output = reference + np.array([0, 0, 40], np.uint8)
    for name, difference in (("rvrt", 40 / math.sqrt(3)), ("rvrt-y", 40 * 24.966 / 255)):
        score = evaluate_sequence([output], [reference], find_protocol(name), [Psnr()], name="walk").mean("psnr").value
        assert score == pytest.approx(20 * math.log10(255 / difference))


def test_frames_of_other_types_are_rounded_to_eight_bit_as_in_a_file(clips: Path) -> None:
    sharp, other = rgb_frames(open_frames(clips / "bikes.mp4"), start=60, stop=62)
    expected = [psnr(other, sharp), ssim(other, sharp)]
    noise = np.random.default_rng(1).uniform(-0.49, 0.49, other.shape)
    for frame in (other, other.astype(np.uint16) * 257, (other + noise) / 255, (other / 255).astype(np.float32)):
        scores = evaluate_sequence([frame], [sharp.astype(np.uint16) * 257], PLAIN, FIDELITY, name="bikes")
        assert [scores.mean(name).value for name in ("psnr", "ssim")] == expected
    over = np.where(sharp > 250, 1.2, sharp / 255)
    assert (
        evaluate_sequence([over], [np.where(sharp > 250, 255, sharp)], PLAIN, [Psnr()], name="bikes").mean("psnr").value
        == math.inf
    )


@pytest.mark.parametrize(
    ("outputs", "references", "message"),
    [
        ([(24, 32)] * 3, [(24, 32)] * 4, "sequence walk: no more outputs at frame 3; give as many of each"),
        ([(24, 32)] * 3, [(24, 32)] * 2, "sequence walk: no more references at frame 2; give as many of each"),
        (
            [(24, 32), (24, 30)],
            [(24, 32)] * 2,
            "sequence walk, frame 1: the output is 30x24, the reference 32x24",
        ),
        ([], [], "sequence walk: protocol plain leaves out .* none is left"),
    ],
)
def test_sequences_that_do_not_match_are_refused(
    outputs: list[tuple[int, int]], references: list[tuple[int, int]], message: str
) -> None:
    sides = ([np.zeros((*size, 3), np.uint8) for size in side] for side in (outputs, references))
    with pytest.raises(ConfigError, match=message):
        evaluate_sequence(*sides, PLAIN, FIDELITY, name="walk")


def test_a_sequence_that_the_protocol_uses_up_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="sequence walk: protocol cdvd-tsp leaves out the first 2 and the last 2 frames"
    ):
        evaluate_sequence(*offset_frames(1, 2, 3, 4), find_protocol("cdvd-tsp"), FIDELITY, name="walk")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((24, 32)), r"sequence walk, frame 0: output is an array of \[24, 32\]; give rows, columns and three"),
        (np.zeros((24, 32, 3), np.int32), "frame 0: output is int32; give uint8, uint16 or floating point"),
        (np.full((24, 32, 3), np.nan), "frame 0: output has values that are no finite numbers"),
    ],
)
def test_what_is_no_frame_is_refused(frame: NDArray[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_sequence([frame], [np.zeros((24, 32, 3), np.uint8)], PLAIN, FIDELITY, name="walk")


def test_memory_does_not_grow_with_the_length_of_a_sequence() -> None:
    def frames(count: int) -> Iterator[NDArray[np.uint8]]:
        return (np.full((256, 256, 3), index % 250, np.uint8) for index in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        evaluate_sequence(frames(count), frames(count), find_protocol("cdvd-tsp"), [Psnr()], name="walk")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(120) < peak(12) + 256 * 256 * 3


def test_vectors_come_with_the_frames() -> None:
    texture = np.random.default_rng(1).integers(0, 256, (48, 60, 3), dtype=np.uint8)
    frames = [texture[:, 10 - 2 * t : 50 - 2 * t] for t in range(4)]
    motion = [Flow(np.full((48, 40, 2), (-2, 0), np.float32), np.ones((48, 40), np.bool_))] * 4
    opened = open_metrics(MetricsConfig(metrics=("warp_error",), warp_motion="mv"))
    scores = evaluate_sequence(frames, frames, PLAIN, opened.metrics, name="walk", motion=motion)
    assert math.isnan(scores.scores["warp_error"][0])
    assert scores.scores["warp_error"][1:].tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="sequence walk: no more motion at frame 3"):
        evaluate_sequence(frames, frames, PLAIN, opened.metrics, name="walk", motion=motion[:3])


def test_a_prepared_sequence_is_measured_with_its_own_vectors(prepared: Path) -> None:
    blurry, sharp = (rgb_frames(open_frames(prepared / side / "bikes")) for side in ("blurry", "sharp"))
    motion = store_motion(open_store(prepared / "priors" / "bikes.zarr"))
    opened = open_metrics(MetricsConfig(metrics=("psnr", "ssim", "warp_error"), warp_motion="mv"))
    scores = evaluate_sequence(blurry, sharp, PLAIN, opened.metrics, name="bikes", motion=motion)
    assert scores.frames == range(12)
    assert 25 < scores.mean("psnr").value < 45
    assert 0.8 < scores.mean("ssim").value < 1
    assert 0 < scores.mean("warp_error").value < 0.01
    assert scores.mean("warp_error").left_out == 1


def test_metrics_without_weights_are_unavailable_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    opened = open_metrics(MetricsConfig())
    assert [metric.name for metric in opened.metrics] == ["psnr", "ssim", "warp_error"]
    assert set(opened.unavailable) == {"lpips", "niqe", "musiq"}
    assert "torchvision's alexnet-owt-7be5be79.pth" in opened.unavailable["lpips"]
    assert "give niqe_model_path" in opened.unavailable["niqe"]
    assert "give musiq_weights_path" in opened.unavailable["musiq"]


def test_without_sharp_frames_only_metrics_that_need_none_run() -> None:
    opened = open_metrics(MetricsConfig(), sharp=False)
    assert [metric.name for metric in opened.metrics] == ["warp_error"]
    assert {name for name, reason in opened.unavailable.items() if reason == "no sharp frames"} == {
        *("psnr", "ssim", "lpips")
    }
    assert "give niqe_model_path" in opened.unavailable["niqe"]
    assert opened.metrics[0].convention(PROTOCOLS["plain"]).endswith("DIS flow of the blurry input, occlusions masked")


@pytest.mark.skipif(find_spec("pyiqa") is not None, reason="pyiqa is installed")
def test_musiq_is_unavailable_without_its_package(tmp_path: Path) -> None:
    opened = open_metrics(MetricsConfig(metrics=("musiq",), musiq_weights_path=str(tmp_path / "musiq.pth")))
    assert opened.metrics == ()
    assert "package pyiqa (noncommercial licence), which is not installed" in opened.unavailable["musiq"]


@pytest.mark.parametrize("field", ["niqe_model_path", "lpips_backbone_path"])
def test_a_file_that_is_given_must_be_there(field: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights\.bin: no such file"):
        open_metrics(MetricsConfig.from_dict({field: str(tmp_path / "weights.bin")}))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"metrics": ["psnr", "vmaf"]},
            r"metrics .*'vmaf'.*: use a list, each one of psnr, ssim, lpips, niqe, musiq, warp_error",
        ),
        ({"lpips_backbone": "vgg19"}, "lpips_backbone 'vgg19': use one of alex, vgg, squeeze"),
        ({"warp_motion": "raft"}, "warp_motion 'raft': use one of dis, mv"),
        ({"niqe_model": "x"}, "unknown key 'niqe_model'; use metrics, niqe_model_path"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MetricsConfig.from_dict(document)


def test_every_metric_tells_what_it_does_under_every_protocol() -> None:
    assert list(METRICS) == list(MetricsConfig().metrics)  # in the same order
    for protocol in PROTOCOLS.values():
        for metric in open_metrics(MetricsConfig()).metrics:
            assert metric.convention(protocol)
            assert metric.undefined
