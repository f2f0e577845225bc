from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.datasets.sampling import RandomClips, Windows
from codecprior.errors import ConfigError
from codecprior.model.dataset import ClipDataset, ClipLoader


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    return read_manifest(prepared)


def clips(manifest: Manifest, *, backward: bool = False, **options: Any) -> ClipDataset:
    reader = ClipReader(manifest, ReaderConfig(backward=backward))
    return ClipDataset(reader, RandomClips(manifest.entries, **{"num_frames": 4, "crop": (48, 32), **options}))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) if isinstance(one[key], torch.Tensor) else one[key] == other[key]
        for key in one
    )


def test_a_sample_has_the_documented_keys_shapes_and_types(manifest: Manifest) -> None:
    three = Manifest(root=manifest.root, entries=manifest.entries[:3])
    sample = clips(three, backward=True)[0]
    shapes = {
        "blurry": (torch.float32, (4, 3, 32, 48)),
        "sharp": (torch.float32, (4, 3, 32, 48)),
        "frame_indices": (torch.int64, (4,)),
    }
    for direction, suffix in (("forward", ""), ("backward", "_backward")):
        shapes |= {
            f"mv_{direction}": (torch.float32, (4, 2, 8, 12)),
            f"mv_valid_{direction}": (torch.bool, (4, 1, 8, 12)),
            f"intra{suffix}": (torch.bool, (4, 1, 8, 12)),
            f"missing{suffix}": (torch.bool, (4, 1, 8, 12)),
            f"residual{suffix}": (torch.float32, (4, 1, 32, 48)),
        }
    name = sample.pop("sequence")
    assert name in {entry.sequence for entry in three.entries}
    assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in sample.items()} == shapes
    for side in ("blurry", "sharp"):
        assert 0 <= sample[side].min() < sample[side].max() <= 1
    assert all(tensor.is_contiguous() for tensor in sample.values())


def test_values_are_those_that_the_reader_reads(manifest: Manifest) -> None:
    dataset = clips(manifest)
    for key in ((0, 3), (2, 3)):
        sample = dataset[key]
        clip = dataset.reader.read(dataset.sampling.request(key[1], key[0]))
        assert torch.equal(sample["blurry"], torch.tensor(clip.blurry.copy()).movedim(-1, 1) / 255)
        assert torch.equal(sample["mv_forward"], torch.tensor(clip.forward.mv).movedim(-1, 1))
        assert torch.equal(sample["mv_valid_forward"][:, 0], torch.tensor(clip.forward.valid.copy()))
        assert torch.equal(sample["frame_indices"], torch.tensor(clip.frame_indices))


def test_warping_by_the_vectors_aligns_the_previous_frame(manifest: Manifest) -> None:
    sample = ClipDataset(ClipReader(manifest), Windows(manifest.entries))[0]
    frames, mv = sample["sharp"], sample["mv_forward"].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    height, width = frames.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack([x, y], dim=-1) + mv.movedim(1, -1)
    grid = 2 * position / torch.tensor([width - 1, height - 1]) - 1
    warped = torch.nn.functional.grid_sample(frames[:-1], grid[1:], align_corners=True)
    where = sample["mv_valid_forward"][1:].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    where = where & (grid[1:].abs() <= 1).all(dim=-1)[:, None]
    error = ((warped - frames[1:]).abs() * where).sum() / where.sum()
    still = ((frames[:-1] - frames[1:]).abs() * where).sum() / where.sum()
    assert where.float().mean() > 0.8
    assert error < 0.3 * still


def test_batches_are_the_same_with_any_number_of_workers_and_resume_where_they_stopped(manifest: Manifest) -> None:
    dataset = clips(manifest, seed=5)
    alone = ClipLoader(dataset, batch_size=3)
    batches = [batch for _ in range(2) for batch in alone]
    assert len(dataset) == 19
    assert len(batches) == 14
    assert alone.sampler.epoch == 2
    assert batches[0]["blurry"].shape == (3, 4, 3, 32, 48)
    assert len(batches[0]["sequence"]) == 3

    workers = ClipLoader(dataset, batch_size=3, num_workers=2)
    found, used = iter(workers), []
    for _ in range(3):
        used.append(next(found))
    state = json.loads(json.dumps(workers.state_dict()))
    del found
    assert state["position"] == 9  # although the workers have read on
    assert all(same(one, other) for one, other in zip(used, batches, strict=False))
    assert len(workers) == 4
    resumed = ClipLoader(clips(manifest, seed=5), batch_size=3)
    resumed.load_state_dict(state)
    for left, source in ((list(workers), "the same loader"), (list(resumed), "another one")):
        assert len(left) == 4, source
        assert all(same(one, other) for one, other in zip(left, batches[3:7], strict=True)), source
    assert all(same(one, other) for one, other in zip(workers, batches[7:], strict=True))


def test_a_last_batch_that_is_left_out_ends_the_epoch(manifest: Manifest) -> None:
    loader = ClipLoader(clips(manifest), batch_size=8, drop_last=True)
    assert [len(batch["sequence"]) for batch in loader] == [8, 8]
    assert loader.state_dict()["epoch"] == 1
    assert loader.state_dict()["position"] == 0


def test_a_state_of_other_settings_is_refused(manifest: Manifest) -> None:
    state = ClipLoader(clips(manifest, seed=1), batch_size=2).state_dict()
    with pytest.raises(ConfigError, match="other seed"):
        ClipLoader(clips(manifest, seed=2), batch_size=2).load_state_dict(state)


def test_evaluation_goes_through_whole_sequences_in_order(manifest: Manifest) -> None:
    dataset = ClipDataset(ClipReader(manifest), Windows(manifest.entries))
    samples = list(ClipLoader(dataset, batch_size=1))
    assert [sample["sequence"] for sample in samples] == [["moving"], ["bikes"], ["odd"], ["plain"]]
    assert samples[1]["frame_indices"].tolist() == [list(range(12))]
    assert samples[2]["blurry"].shape == (1, 6, 3, 71, 93)
    assert samples[2]["mv_forward"].shape == (1, 6, 2, 18, 24)


def test_forked_workers_are_told_how_to_start(manifest: Manifest) -> None:
    loader = torch.utils.data.DataLoader(clips(manifest), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(Exception, match="multiprocessing_context='spawn'"):
        next(iter(loader))
