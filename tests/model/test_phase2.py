"""Training of stage 2 on tiny random networks: the same code path as with Stable Diffusion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codecprior.datasets.manifest import Manifest, ManifestEntry, joined, read_manifest
from codecprior.datasets.sampling import MixedClips, RandomClips
from codecprior.errors import ConfigError
from codecprior.media.files import sha256_file
from codecprior.model.checkpoint import STAGE1_NAME, load_checkpoint, save_checkpoint
from codecprior.model.dataset import ClipDataset, ClipLoader
from codecprior.model.deblurrer import load_deblurrer
from codecprior.model.phase2 import Phase2
from codecprior.model.training import train
from codecprior.model.training_config import Phase1Config, Phase2Config, training_config
from codecprior.model.training_data import TrainingData

SMALL = (
    "training.steps=4",
    "run.num_workers=0",
    "run.log_every=2",
    "run.save_every=2",
    "sampling.num_steps=2",
)


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    """Sequences that a crop of 64 x 64 fits into."""
    whole = read_manifest(prepared)
    return replace(whole, entries=tuple(entry for entry in whole.entries if entry.sequence in ("moving", "bikes")))


@pytest.fixture(scope="module")
def additional(prepared: Path) -> Manifest:
    """Another dataset, in another folder."""
    whole = read_manifest(prepared)
    return replace(whole, entries=tuple(entry for entry in whole.entries if entry.sequence == "plain"))


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of stage 1 whose output is not its input."""
    from codecprior.model.cpfp import Cpfp

    config = training_config("cpfp-tiny", ["cpfp.channels=8", "cpfp.fusion_blocks=0", "cpfp.upsampling_channels=4"])
    assert isinstance(config, Phase1Config)
    torch.manual_seed(1)
    network = Cpfp(config.cpfp)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("stage1")
    save_checkpoint(folder, network, config.to_dict())
    return folder


def small(*assignments: str) -> Phase2Config:
    config = training_config("cpc-tiny", [*SMALL, *assignments])
    assert isinstance(config, Phase2Config)
    return config


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def batch_of(manifest: Manifest, config: Phase2Config) -> dict[str, Any]:
    data = TrainingData(manifest, config)
    return next(iter(ClipLoader(ClipDataset(data.reader, data.clips), batch_size=config.training.batch_size)))


def test_a_training_cut_anywhere_goes_on_to_the_same_weights(
    manifest: Manifest, additional: Manifest, stage1: Path, tmp_path: Path
) -> None:
    config = small(f"stage1.checkpoint={stage1}", "training.ema_decay=0.9", "training.gradient_accumulation=2")
    train(config, manifest, tmp_path / "whole", additional=additional)
    for cut in (1, 3):
        run = tmp_path / f"cut{cut}"
        train(config, manifest, run, additional=additional, max_steps=cut)
        assert weights(run) != weights(tmp_path / "whole")
        result = train(config, manifest, run, additional=additional, resume=True)
        assert (result.step, result.first_step) == (4, cut)
        assert weights(run) == weights(tmp_path / "whole")
    with pytest.raises(ConfigError, match="saved sampler has other"):
        train(replace(config, training=replace(config.training, steps=4)), manifest, run, resume=True, max_steps=4)


def test_steps_lower_the_loss_and_leave_the_base_and_stage_1_alone(
    manifest: Manifest, stage1: Path, tmp_path: Path
) -> None:
    before = weights(stage1)
    config = small(
        f"stage1.checkpoint={stage1}", "training.steps=60", "run.log_every=20", "training.learning_rate=1e-3"
    )
    reports: list[Any] = []
    train(config, manifest, tmp_path / "run", report=reports.append)
    assert reports[-1].loss < reports[0].loss
    assert weights(stage1) == before
    assert sha256_file(tmp_path / "run" / STAGE1_NAME) == sha256_file(stage1 / "model.safetensors")
    sections, network = load_checkpoint(tmp_path / "run", "cpc")
    assert Phase2Config.from_dict(sections) == config
    queries = {name: value for name, value in network.state_dict().items() if name.endswith("to_qm.weight")}
    # In the middle, 64 x 64 samples are one position, which attends to itself whatever the query is.
    assert {name for name, value in queries.items() if not value.any()} == {
        "mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_qm.weight"
    }


def test_stage_1_restores_the_whole_clip_for_the_frame_in_the_middle(manifest: Manifest, stage1: Path) -> None:
    plain, restored = small(), small(f"stage1.checkpoint={stage1}")
    batch = batch_of(manifest, restored)
    shown = [Phase2(config, torch.device("cpu")) for config in (plain, restored)]
    frames = [phase.restore(phase.network.eval(), batch) for phase in shown]
    assert set(frames[0]) == {"blurry", "stage 1", "restored", "sharp"}
    torch.testing.assert_close(frames[0]["blurry"], batch["blurry"][:, 1])
    torch.testing.assert_close(frames[0]["stage 1"], frames[0]["blurry"])
    assert not torch.equal(frames[1]["stage 1"], frames[1]["blurry"])
    network = load_checkpoint(stage1)[1]
    from codecprior.model.alignment import Aligner

    with torch.no_grad():
        expected = network(batch["blurry"], **Aligner(network.config)(batch)).frames[:, 1].clamp(0, 1)  # type: ignore[arg-type]
    torch.testing.assert_close(frames[1]["stage 1"], expected)
    # Frames that are outputs of stage 1 are not restored a second time.
    precomputed = Phase2(restored, torch.device("cpu"), restored=True)
    torch.testing.assert_close(precomputed.restore(precomputed.network.eval(), batch)["stage 1"], frames[0]["blurry"])


def test_priors_change_the_loss_only_where_the_network_has_them(manifest: Manifest) -> None:
    for coding_priors in (True, False):
        config = small(f"cpc.coding_priors={str(coding_priors).lower()}")
        phase = Phase2(config, torch.device("cpu"))
        with torch.no_grad():
            for name, parameter in phase.network.named_parameters():
                if "to_qm" in name or "zero_conv" in name or "controlnet_" in name:
                    parameter.normal_(std=0.3)
        batch = batch_of(manifest, config)
        losses = []
        for factor in (1.0, 0.0):
            changed = {**batch, "mv_forward": batch["mv_forward"] * factor, "residual": batch["residual"] * factor}
            torch.manual_seed(3)
            losses.append(float(phase.loss(phase.network, changed).detach()))
        assert (losses[0] != losses[1]) == coding_priors


def test_checkpointed_gradients_are_the_same(manifest: Manifest) -> None:
    gradients = []
    for option in ("true", "false"):
        config = small(f"training.gradient_checkpointing={option}")
        torch.manual_seed(5)
        phase = Phase2(config, torch.device("cpu"))
        phase.network.train()
        torch.manual_seed(6)
        phase.loss(phase.network, batch_of(manifest, config)).backward()
        gradients.append({name: each.grad for name, each in phase.network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.7])
def test_additional_clips_come_in_their_share_and_every_other_clip_once(share: float) -> None:
    def entries(name: str, *lengths: int) -> list[ManifestEntry]:
        return [
            ManifestEntry(
                sequence=f"{name}{number}", split="train", num_frames=length, blurry="x.yuv", sharp=None, store="s.zarr"
            )
            for number, length in enumerate(lengths)
        ]

    first = RandomClips(entries("a", 30, 20), num_frames=3, crop=None)
    second = RandomClips(entries("b", 9), num_frames=3, crop=None)
    mixed = MixedClips(first, second, offset=2, share=share)
    requests = [mixed.request(index, epoch) for epoch in (0, 1) for index in range(len(mixed))]
    own = [request for request in requests if request.sequence < 2]
    other = [request for request in requests if request.sequence == 2]
    assert len(other) / len(requests) == pytest.approx(share, abs=2 / len(mixed))
    assert len({(each.sequence, each.frames.start) for each in own[: len(first)]}) == len(first)
    counts = np.bincount([each.frames.start for each in other], minlength=7)
    assert counts.max() - counts.min() <= 1, "each clip of the smaller dataset as often as any other"
    eights = [sum(each.sequence == 2 for each in requests[start : start + 8]) for start in range(0, len(mixed) - 8, 8)]
    assert max(eights) - min(eights) <= 1, "batches are alike"


def test_a_joined_manifest_leads_to_the_files_of_both(tmp_path: Path) -> None:
    def manifest(folder: str, blurry: Any) -> Manifest:
        entry = ManifestEntry(
            sequence="s", split="train", num_frames=2, blurry=blurry, sharp=("a.png", "../b.png"), store="s.zarr"
        )
        return Manifest(root=str(tmp_path / folder), entries=(entry,))

    one, two = manifest("one", "clip.yuv"), manifest("two", ("c.png", "s3://bucket/d.png"))
    both = joined(one, two)
    assert both.entries[0] == one.entries[0]
    moved = both.entries[1]
    assert both.resolve(moved.store) == str(tmp_path / "two" / "s.zarr")
    assert [both.resolve(file) for file in moved.sharp or ()] == [str(tmp_path / "two/a.png"), str(tmp_path / "b.png")]
    assert [both.resolve(file) for file in moved.blurry] == [str(tmp_path / "two/c.png"), "s3://bucket/d.png"]


def test_a_trained_stage_2_deblurs_with_the_stage_1_that_it_knows(
    manifest: Manifest, stage1: Path, tmp_path: Path
) -> None:
    from codecprior.datasets.reader import ClipReader

    for name, checkpoint in (("both", str(stage1)), ("alone", "none")):
        train(small(f"stage1.checkpoint={checkpoint}"), manifest, tmp_path / name)
    moved = (tmp_path / "both").rename(tmp_path / "moved")
    frames = {}
    for name, options in {"moved": {}, "alone": {}, "first": {"stage": 1}}.items():
        deblurrer = load_deblurrer(moved if name == "first" else tmp_path / name, device="cpu", **options)  # type: ignore[arg-type]
        reader = ClipReader(manifest, deblurrer.reader_config())
        frames[name] = np.stack(list(deblurrer.frames(reader, 0)))
    assert frames["moved"].shape == frames["alone"].shape == (8, 96, 128, 3)
    assert not np.array_equal(frames["moved"], frames["first"])
    with pytest.raises(ConfigError, match="was trained without stage 1; use both stages, or give --stage1"):
        load_deblurrer(tmp_path / "alone", stage=1)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["stage1.checkpoint=null"], "stage1.checkpoint is not set: give the folder of a training of stage 1"),
        (["stage1.checkpoint=nowhere"], "nowhere: no checkpoint here"),
        (["data.crop=96"], "crop 96: use a multiple of 64, which"),
        (["data.crop=128"], "crop 128x128 does not fit into sequence"),
        (["data.num_frames=1"], "num_frames 1: use 2 or more"),
        (["data.mixing=1.0"], "mixing 1.0: use more than 0 and less than 1"),
        (["cpc.base=sd21"], "base sd21 has no weights: set base_path"),
        (["cpc.init=ircontrolnet"], "init ircontrolnet has no weights: set ircontrolnet_path"),
        (["training.learning_rate=1e30", "training.gradient_clipping=null"], "the loss is (nan|inf)"),
    ],
)
def test_bad_settings_are_one_clear_line(
    manifest: Manifest, tmp_path: Path, assignments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        train(small(*assignments), manifest, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_stages_that_do_not_belong_together_are_one_clear_line(
    manifest: Manifest, additional: Manifest, stage1: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with_stage1 = f"stage1.checkpoint={stage1}"
    with pytest.raises(ConfigError, match=r"was trained on other priors; use cpc\.residual_channels 1"):
        train(small(with_stage1, "data.residual=signed"), manifest, run)
    first = training_config("cpfp-tiny", ["data.crop=32", "data.num_frames=2"])
    with pytest.raises(ConfigError, match="additional data are for stage 2"):
        train(first, manifest, run, additional=additional)
    train(small(with_stage1), manifest, run, max_steps=2)
    with pytest.raises(ConfigError, match=r"is a checkpoint of stage 2 \(cpc\); give one of stage 1 \(cpfp\)"):
        train(small(f"stage1.checkpoint={run}"), manifest, tmp_path / "other")
    sections, network = load_checkpoint(stage1)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    changed = tmp_path / "changed"
    changed.mkdir()
    save_checkpoint(changed, network, sections)
    (stage1 / "model.safetensors").rename(tmp_path / "kept")
    try:
        (changed / "model.safetensors").rename(stage1 / "model.safetensors")
        with pytest.raises(ConfigError, match=r"is not the stage 1 that this training began with; use .*stage1"):
            train(small(with_stage1), manifest, run, resume=True)
    finally:
        (tmp_path / "kept").rename(stage1 / "model.safetensors")
    other = [replace(entry, restored_by="0" * 64) for entry in manifest.entries]
    with pytest.raises(ConfigError, match="frames of the dataset are outputs of another stage 1"):
        train(small(with_stage1), replace(manifest, entries=tuple(other)), tmp_path / "third")
    with pytest.raises(ConfigError, match="some frames are outputs of stage 1, others are not"):
        train(small(with_stage1), replace(manifest, entries=(other[0], manifest.entries[1])), tmp_path / "third")


def test_validations_show_each_stage(manifest: Manifest, stage1: Path, tmp_path: Path) -> None:
    config = small(f"stage1.checkpoint={stage1}", "validation.split=train", "validation.num_clips=1")
    result = train(config, manifest, tmp_path / "run")
    assert result.psnr_blurry is not None
    assert result.psnr_restored is not None
    assert (tmp_path / "run" / "samples" / "00000004.png").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())[0]["step"] == 0
