"""Stage 1 and latents once for a whole dataset, and trainings of stage 2 that read them, on tiny random networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zarr
from numpy.typing import NDArray

from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig, sequence_frames
from codecprior.datasets.sampling import ClipRequest
from codecprior.errors import ConfigError
from codecprior.media.files import sha256_file
from codecprior.model.checkpoint import save_checkpoint
from codecprior.model.cpfp import Cpfp
from codecprior.model.dataset import ClipDataset, ClipLoader
from codecprior.model.deblurrer import load_deblurrer
from codecprior.model.latents import CONDITION_LATENTS, SHARP_MOMENTS, LatentEncoder
from codecprior.model.phase2 import Phase2
from codecprior.model.precompute import precompute
from codecprior.model.stable_diffusion import StableDiffusion, load_stable_diffusion
from codecprior.model.training import train
from codecprior.model.training_config import Phase1Config, Phase2Config, training_config
from codecprior.model.training_data import TrainingData
from codecprior.store.packed import open_packed

CPU = torch.device("cpu")
TILE = 128  # larger than plain and odd, smaller than bikes
BIKES, MOVING, ODD, PLAIN = range(4)


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    found = read_manifest(prepared)
    return replace(found, entries=tuple(sorted(found.entries, key=lambda entry: entry.sequence)))


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of stage 1 whose output is not its input."""
    settings = ("cpfp.channels=8", "cpfp.fusion_blocks=0", "cpfp.upsampling_channels=4", "data.blurry=decoded")
    config = training_config("cpfp-tiny", settings)
    assert isinstance(config, Phase1Config)
    torch.manual_seed(1)
    network = Cpfp(config.cpfp)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("stage1")
    save_checkpoint(folder, network, {**config.to_dict(), "data": {**config.data.to_dict(), "blurry": "source"}})
    return folder


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return load_stable_diffusion(config().cpc)


@pytest.fixture(scope="module")
def made(manifest: Manifest, stage1: Path, base: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The dataset with frames of stage 1 and latents."""
    output = tmp_path_factory.mktemp("made")
    results = list(precompute(load_deblurrer(stage1), manifest, str(output), latents=LatentEncoder(base, TILE, CPU)))
    assert [each.error for each in results] == [None] * 4
    return read_manifest(output)


def config(*assignments: str) -> Phase2Config:
    small = ("training.steps=3", "run.num_workers=0", "run.save_every=1", "sampling.num_steps=2", "data.num_frames=2")
    found = training_config("cpc-tiny", [*small, *assignments])
    assert isinstance(found, Phase2Config)
    return found


def on_latents(stage1: Path, *assignments: str) -> Phase2Config:
    settings = ("data.latents=true", "data.flips=false", "data.transpose=false")
    return config(f"stage1.checkpoint={stage1}", *settings, *assignments)


def part(manifest: Manifest, *places: int) -> Manifest:
    return replace(manifest, entries=tuple(manifest.entries[place] for place in places))


def packed(manifest: Manifest, place: int) -> Any:
    return zarr.open_group(manifest.resolve(manifest.entries[place].frames or ""), mode="r")


def batch_of(manifest: Manifest, config: Phase2Config) -> dict[str, Any]:
    data = TrainingData(manifest, config)
    return next(iter(ClipLoader(ClipDataset(data.reader, data.clips), batch_size=config.training.batch_size)))


def planes(frame: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(frame).movedim(-1, 0)[None] / 255


def test_frames_are_what_stage_1_makes_of_whole_sequences(manifest: Manifest, made: Manifest, stage1: Path) -> None:
    deblurrer = load_deblurrer(stage1)
    reader = ClipReader(manifest, deblurrer.reader_config())
    for place, (old, new) in enumerate(zip(manifest.entries, made.entries, strict=True)):
        group = packed(made, place)
        assert np.array_equal(group["blurry"][:], np.stack(list(deblurrer.frames(reader, place))))
        assert np.array_equal(group["sharp"][:], np.stack(list(sequence_frames(manifest, place, "sharp"))))
        assert (new.sequence, new.split, new.num_frames) == (old.sequence, old.split, old.num_frames)
        assert made.resolve(new.store) == manifest.resolve(old.store)
        assert list(map(made.resolve, new.blurry)) == list(map(manifest.resolve, old.blurry))
        assert new.restored_by == sha256_file(stage1 / "model.safetensors")


def test_a_training_reads_them_and_runs_no_stage_1(made: Manifest, stage1: Path) -> None:
    settings = config(f"stage1.checkpoint={stage1}", "data.blurry=decoded", "data.flips=false", "data.transpose=false")
    batch = batch_of(part(made, PLAIN), settings)  # 64 x 64, as the crop
    for sample in range(len(batch["sequence"])):
        frames = packed(made, PLAIN)["blurry"][:][batch["frame_indices"][sample]]
        assert torch.equal(batch["blurry"][sample], torch.from_numpy(frames).movedim(-1, 1) / 255)
    phase = Phase2(settings, CPU, restored=True)
    shown = phase.restore(phase.network.eval(), {key: value[:1] for key, value in batch.items()})
    assert torch.equal(shown["stage 1"], shown["blurry"])


def test_frames_of_stage_1_are_refused_where_they_do_not_belong(
    manifest: Manifest, made: Manifest, stage1: Path, tmp_path: Path
) -> None:
    deblurrer = load_deblurrer(stage1)
    with pytest.raises(ConfigError, match="its frames are outputs of stage 1 already; give the dataset that"):
        next(deblurrer.frames(ClipReader(made, deblurrer.reader_config()), MOVING))
    with pytest.raises(ConfigError, match="is the dataset itself, whose manifest would be lost; choose another -o"):
        next(precompute(deblurrer, manifest, f"{manifest.root}/"))
    first = training_config("cpfp-tiny", ["data.crop=64"])
    assert isinstance(first, Phase1Config)
    with pytest.raises(ConfigError, match="train stage 1 on the dataset that they came from"):
        TrainingData(made, first)
    with pytest.raises(ConfigError, match="frames of the dataset are outputs of another stage 1"):
        TrainingData(part(made, PLAIN), config())
    (failed,) = precompute(deblurrer, part(made, PLAIN), str(tmp_path))
    assert "outputs of stage 1 already" in (failed.error or "")
    assert not list(tmp_path.rglob("*.zarr*"))


def test_what_is_there_is_skipped_and_something_else_kept_until_overwritten(
    manifest: Manifest, stage1: Path, base: StableDiffusion, tmp_path: Path
) -> None:
    deblurrer, one = load_deblurrer(stage1), part(manifest, PLAIN)
    steps: list[tuple[int, int]] = []

    def run(**options: Any) -> Any:
        return next(
            precompute(deblurrer, one, str(tmp_path), progress=lambda _: lambda *at: steps.append(at), **options)
        )

    assert [run().status, run().status] == ["precomputed", "skipped"]
    encoder = LatentEncoder(base, TILE, CPU)
    assert "exists and was made from something else; use --overwrite" in run(latents=encoder).error
    assert len(read_manifest(tmp_path).entries) == 1
    assert run(latents=encoder, overwrite=True).status == "precomputed"
    assert run(latents=encoder).status == "skipped"
    assert [steps[9], steps[-1]] == [(5, 5), (5, 5)]
    assert open_packed(tmp_path / "frames/train/plain.zarr").planes == (CONDITION_LATENTS, SHARP_MOMENTS)


@pytest.mark.parametrize("place", [BIKES, ODD])
def test_latents_are_those_of_whole_pictures(made: Manifest, base: StableDiffusion, place: int) -> None:
    group = packed(made, place)
    height, width = group["sharp"].shape[1:3]
    for name, side, channels in ((CONDITION_LATENTS, "blurry", 4), (SHARP_MOMENTS, "sharp", 8)):
        found = group[name]
        assert (found.dtype, found.shape[1:]) == (np.float16, (-(-height // 8), -(-width // 8), channels))
        whole = F.pad(planes(group[side][3]), (0, -width % 8, 0, -height % 8), mode="replicate")
        expected = base.encode(whole, tile_size=TILE) if channels == 4 else base.moments(whole, tile_size=TILE)
        np.testing.assert_allclose(found[3], expected[0].movedim(0, -1), rtol=2**-11, atol=1e-7)


def test_crops_of_latents_begin_where_those_of_priors_do(made: Manifest) -> None:
    reader = ClipReader(made, ReaderConfig(blurry=None, sharp=False, planes=(CONDITION_LATENTS, SHARP_MOMENTS)))
    whole = reader.read(ClipRequest(sequence=BIKES, frames=range(2, 6)))
    assert (whole.size, whole.blurry, whole.sharp) == ((160, 128), None, None)
    found = set()
    for position in ((0.0, 0.0), (0.3, 0.7), (0.99, 0.99)):
        request = ClipRequest(sequence=BIKES, frames=range(2, 6), crop=(64, 64), position=position, multiple=8)
        clip = reader.read(request)
        x, y = (8 * int(place * ((side - 64) // 8 + 1)) for place, side in zip(position, whole.size, strict=True))
        expected = whole.crop(x, y, 64, 64)
        found.add((x, y))
        for name, values in clip.planes.items():
            assert np.array_equal(values, expected.planes[name])
        assert np.array_equal(clip.forward.residual, expected.forward.residual)
        assert np.array_equal(clip.forward.mv[1:], expected.forward.mv[1:])
    assert found == {(0, 0), (24, 48), (96, 64)}
    backwards = reader.read(ClipRequest(sequence=BIKES, frames=range(5, 1, -1)))
    assert np.array_equal(backwards.planes[SHARP_MOMENTS][::-1], whole.planes[SHARP_MOMENTS])
    with pytest.raises(ConfigError, match=r"a crop begins at \(20, 0\); use multiples of 8"):
        reader.read(ClipRequest(sequence=BIKES, frames=range(1), crop=(64, 64), position=(5.5 / 25, 0)))
    with pytest.raises(ConfigError, match="lies inside a cell; use multiples of 8"):
        whole.crop(4, 0, 64, 64)


def test_latents_give_the_loss_that_frames_give(made: Manifest, stage1: Path) -> None:
    one = part(made, PLAIN)  # the crop is the picture
    settings = on_latents(stage1)
    batch = batch_of(one, settings)
    assert not {"blurry", "sharp"} & batch.keys()
    losses = {}
    for each in (settings, replace(settings, data=replace(settings.data, latents=False))):
        data = TrainingData(one, each)
        phase = Phase2(each, CPU, restored=data.restored, vae=data.vae)
        torch.manual_seed(3)
        losses[each.data.latents] = phase.loss(phase.network, batch_of(one, each)).item()
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)


def test_a_training_on_latents_that_was_cut_comes_to_the_same_weights(
    made: Manifest, stage1: Path, tmp_path: Path
) -> None:
    clips = part(made, MOVING, BIKES)
    settings = on_latents(stage1, "data.time_reversal=true", "validation.split=train", "validation.num_clips=1")
    whole = train(settings, clips, tmp_path / "whole")
    assert whole.psnr_restored is not None  # validations see frames
    train(settings, clips, tmp_path / "cut", max_steps=1)
    train(settings, clips, tmp_path / "cut", resume=True)
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_latents_that_do_not_fit_are_one_clear_line(
    manifest: Manifest, made: Manifest, stage1: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a turned picture has other latents than those that are read; set flips"):
        on_latents(stage1, "data.flips=true")
    settings = on_latents(stage1)
    with pytest.raises(ConfigError, match="sequence plain has none; make them with 'codecprior precompute --latents'"):
        TrainingData(part(manifest, PLAIN), settings)
    other = replace(settings.cpc, frozen_dtype="bfloat16")
    encoder = LatentEncoder(load_stable_diffusion(other), TILE, CPU)
    next(precompute(load_deblurrer(stage1), part(manifest, PLAIN), str(tmp_path), latents=encoder))
    data = TrainingData(read_manifest(tmp_path), settings)
    with pytest.raises(ConfigError, match="they are of another VAE than that of the base, or in another type"):
        Phase2(settings, CPU, restored=True, vae=data.vae)
    both = replace(
        made,
        entries=(*made.entries[:3], read_manifest(tmp_path).entries[0].with_paths(read_manifest(tmp_path).resolve)),
    )
    with pytest.raises(ConfigError, match="they are of several VAEs"):
        TrainingData(both, settings)
    (group,) = tmp_path.glob("frames/*/*.zarr/zarr.json")
    attributes = json.loads(group.read_text())["attributes"]["codecprior"]
    assert attributes["latents"] == attributes["sources"]["latents"] == encoder.facts
