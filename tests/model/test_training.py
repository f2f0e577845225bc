from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.datasets.sampling import RandomClips
from codecprior.errors import ConfigError, StoreNotFoundError
from codecprior.model.checkpoint import load_checkpoint
from codecprior.model.config import overridden
from codecprior.model.training import TrainingResult, learning_rate, train
from codecprior.model.training_config import Phase1Config, TrainingConfig, training_config
from codecprior.model.training_data import Share

SMALL = (
    "cpfp.channels=8",
    "cpfp.fusion_blocks=0",
    "cpfp.upsampling_channels=4",
    "data.crop=32",
    "data.num_frames=2",
    "training.steps=4",
    "training.warmup_steps=1",
    "run.num_workers=0",
    "run.log_every=2",
    "run.save_every=2",
)


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    return read_manifest(prepared)


def small(*assignments: str) -> Phase1Config:
    return training_config("cpfp-tiny", [*SMALL, *assignments])


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def after(steps: int) -> Callable[[], bool]:
    """Ask to stop after a number of steps."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) == steps


def test_a_training_cut_anywhere_goes_on_to_the_same_weights(manifest: Manifest, tmp_path: Path) -> None:
    config = small("training.gradient_accumulation=2", "training.gradient_clipping=1.0", "training.steps=5")
    whole = train(config, manifest, tmp_path / "whole")
    assert (whole.step, whole.first_step) == (5, 0)
    for cut in (1, 2, 4):
        run = tmp_path / f"cut{cut}"
        with pytest.raises(KeyboardInterrupt):
            train(config, manifest, run, should_stop=after(cut))
        assert weights(run) != weights(tmp_path / "whole")
        result = train(config, manifest, run, resume=True)
        assert (result.step, result.first_step) == (5, cut)
        assert weights(run) == weights(tmp_path / "whole"), cut
    assert [each["step"] for each in json.loads((run / "run.json").read_text())] == [0, 4]


def test_what_was_done_after_the_last_state_is_done_again(manifest: Manifest, tmp_path: Path) -> None:
    train(small(), manifest, tmp_path / "whole")

    def power_cut(done: int, total: int) -> None:
        if done == 3:
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        train(small(), manifest, tmp_path / "cut", progress=power_cut)
    assert train(small(), manifest, tmp_path / "cut", resume=True).first_step == 2
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_run_has_weights_configuration_states_pictures_and_logs(manifest: Manifest, tmp_path: Path) -> None:
    config = small("validation.split=train", "validation.num_clips=2", "validation.every=3", "run.keep_states=1")
    reports: list[Any] = []
    result = train(config, manifest, tmp_path / "run", report=reports.append)
    assert isinstance(result, TrainingResult)
    assert [each.step for each in reports] == [2, 4]
    assert all(math.isfinite(each.loss) and each.samples_per_second > 0 for each in reports)
    assert result.psnr_restored is not None
    sections, _ = load_checkpoint(tmp_path / "run", kind="cpfp")
    assert Phase1Config.from_dict(sections) == config
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == sections
    assert [path.name for path in (tmp_path / "run" / "states").iterdir()] == ["00000004"]
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {"00000003.png", "00000004.png"}
    assert list((tmp_path / "run" / "logs").glob("events.*"))


def test_steps_lower_the_loss(manifest: Manifest, tmp_path: Path) -> None:
    reports: list[Any] = []
    config = small("training.steps=30", "run.log_every=10", "run.save_every=1000", "training.loss=l1")
    train(config, manifest, tmp_path / "run", report=reports.append)
    assert reports[-1].loss < 0.7 * reports[0].loss


def test_the_mean_of_weights_is_what_is_saved(manifest: Manifest, tmp_path: Path) -> None:
    train(small("training.ema_decay=null"), manifest, tmp_path / "last")
    train(small(), manifest, tmp_path / "mean")
    assert weights(tmp_path / "last") != weights(tmp_path / "mean")
    state = tmp_path / "mean" / "states" / "00000004" / "model.safetensors"
    last = load_checkpoint(tmp_path / "last")[1].state_dict()
    from safetensors.torch import load_file

    assert all(torch.equal(value, last[name]) for name, value in load_file(state).items())


def test_processes_share_the_clips_of_one(manifest: Manifest) -> None:
    clips = RandomClips(manifest.entries, num_frames=2, crop=32)
    shares = [Share(clips, process, 3) for process in range(3)]
    together = [share.request(index, 1) for index in range(len(shares[0])) for share in shares]
    assert together == [clips.request(index, 1) for index in range(len(together))]
    assert len(clips) - len(together) < 3


def test_the_learning_rate_rises_and_falls() -> None:
    config = TrainingConfig(steps=100, warmup_steps=10, learning_rate=1e-3, final_learning_rate=1e-5)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[55] == pytest.approx((1e-3 + 1e-5) / 2)
    assert rates[100] == pytest.approx(1e-5)
    assert learning_rate(replace(config, schedule="constant"), 99) == 1e-3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.learning_rate=fast", "training: learning_rate 'fast': use a number"),
        ("training.rate=1", "training: unknown key 'rate'; use batch_size, "),
        ("trainings.rate=1", "unknown key 'trainings'; use cpfp, data, training, validation, run"),
        ("data.crop=30", "data: crop 30: use a multiple of 8"),
        ("training.gradient_accumulation=3", "training: gradient_accumulation 3: use a divisor of batch_size 2"),
        ("crop=30", "'crop=30' sets nothing; write it as section.name=value"),
        ("data.crop.x=1", "'data.crop.x=1': crop is a value, no section"),
    ],
)
def test_a_value_that_is_not_accepted_is_named(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small(assignment)
    assert str(caught.value).startswith(message)


def test_overriding_leaves_the_rest_alone() -> None:
    sections = {"data": {"crop": 64, "split": "train"}}
    assert overridden(sections, "data.crop=1e-4") == {"data": {"crop": 1e-4, "split": "train"}}
    assert sections["data"]["crop"] == 64


def test_data_that_do_not_fit_are_told_before_the_first_step(manifest: Manifest, tmp_path: Path) -> None:
    def message(config: Phase1Config, data: Manifest = manifest, kind: type[Exception] = ConfigError) -> str:
        with pytest.raises(kind) as caught:
            train(config, data, tmp_path / "run")
        (line,) = str(caught.value).splitlines()
        assert not (tmp_path / "run").exists()
        return line

    assert message(small("data.crop=256")).startswith("crop 256x256 does not fit into sequence moving of 128x96")
    assert "data.split 'test': the manifest in" in message(small("data.split=test"))
    assert "needs 9; use shorter clips" in message(small("data.num_frames=9"))
    assert "batch_size 64: split train has" in message(small("training.batch_size=64"))
    assert "prepare with --directions both" in message(small("data.time_reversal=true"))
    broken = replace(manifest, entries=(*manifest.entries[:3], replace(manifest.entries[3], store="gone.zarr")))
    assert "gone.zarr: no priors store here" in message(small(), broken, StoreNotFoundError)


def test_a_loss_that_is_no_number_ends_the_training(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^step \d: the loss is (nan|inf) \(clips of .*; use a smaller"):
        train(small("training.learning_rate=1e30", "training.final_learning_rate=0"), manifest, tmp_path / "run")


def test_a_folder_is_neither_overwritten_nor_resumed_with_other_settings(manifest: Manifest, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="holds no training to resume; leave out --resume"):
        train(small(), manifest, run, resume=True)
    train(small(), manifest, run, max_steps=2)
    with pytest.raises(ConfigError, match="run: exists; use --resume to go on, or another -o"):
        train(small(), manifest, run)
    with pytest.raises(ConfigError, match=r"another configuration: training\.seed 0 there, 5 here$"):
        train(small("training.seed=5"), manifest, run, resume=True)
    assert train(small("run.log_every=1"), manifest, run, resume=True).step == 4
