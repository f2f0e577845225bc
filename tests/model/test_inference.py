from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.datasets.sampling import Windows
from codecprior.errors import ConfigError
from codecprior.model.alignment import Aligner
from codecprior.model.config import AlignmentConfig, CpfpConfig
from codecprior.model.cpfp import Cpfp
from codecprior.model.dataset import ClipDataset
from codecprior.model.inference import ChunkConfig, Stage1

MOVING, BIKES, ODD = range(3)

FORWARD = CpfpConfig(
    branches=("forward", "forward"),
    feature_stride=2,
    channels=8,
    deform_groups=2,
    encoder_blocks=1,
    fusion_blocks=1,
    reconstruction_blocks=1,
    upsampling_channels=8,
    intra_mask=True,
    dcn_init="identity",
)
BOTH = replace(FORWARD, branches=("backward", "forward"))
WHOLE = ChunkConfig(chunk_frames=100, tile_size=0)


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    return read_manifest(prepared)


def network(config: CpfpConfig) -> Cpfp:
    torch.manual_seed(3)
    built = Cpfp(config).eval()
    with torch.no_grad():  # offsets and masks that begin at zero would hide what leads to them
        for parameter in built.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return built


def restored(manifest: Manifest, sequence: int, config: CpfpConfig, chunks: ChunkConfig) -> Tensor:
    reader = ClipReader(manifest, ReaderConfig(sharp=False, backward="backward" in config.branches))
    return torch.cat([chunk.frames for chunk in Stage1(network(config), chunks).restore(reader, sequence)])


def test_a_clip_in_one_chunk_is_what_the_network_makes_of_it(manifest: Manifest) -> None:
    entries = manifest.entries[BIKES : BIKES + 1]
    dataset = ClipDataset(ClipReader(replace(manifest, entries=entries), ReaderConfig(backward=True)), Windows(entries))
    sample = dataset[0]
    batch = {key: value[None] for key, value in sample.items() if isinstance(value, Tensor)}
    with torch.no_grad():
        expected = network(BOTH)(batch["blurry"], **Aligner(BOTH)(batch)).frames[0].clamp(0, 1)
    found = restored(manifest, BIKES, BOTH, WHOLE)
    assert torch.allclose(found, expected, atol=1e-6)
    assert (found - sample["blurry"]).abs().mean() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [{}, {"second_order": True}, {"alignment": AlignmentConfig(source="dis")}],
    ids=["vectors", "second order", "flow"],
)
def test_forward_blocks_never_notice_where_a_chunk_ends(manifest: Manifest, changes: dict[str, Any]) -> None:
    config = replace(FORWARD, **changes)
    whole = restored(manifest, BIKES, config, WHOLE)
    for frames in (1, 5, 12):
        cut = restored(manifest, BIKES, config, replace(WHOLE, chunk_frames=frames))
        assert torch.allclose(cut, whole, atol=1e-5), frames


def test_backward_blocks_come_closer_to_the_whole_clip_the_more_chunks_overlap(manifest: Manifest) -> None:
    whole = restored(manifest, BIKES, BOTH, WHOLE)
    errors = [
        float(
            (restored(manifest, BIKES, BOTH, replace(WHOLE, chunk_frames=4, overlap_frames=overlap)) - whole)
            .abs()
            .max()
        )
        for overlap in (0, 4, 8)
    ]
    assert errors[0] > errors[1] > 0
    assert errors[2] < 1e-5  # the last chunk but one sees the end of the clip


def test_each_chunk_has_the_vectors_that_lead_into_it(manifest: Manifest) -> None:
    reader = ClipReader(manifest, ReaderConfig(sharp=False))
    chunks = list(Stage1(network(FORWARD), replace(WHOLE, chunk_frames=3)).restore(reader, MOVING))
    assert [len(chunk.frames) for chunk in chunks] == [3, 3, 2]
    assert torch.cat([chunk.sample["frame_indices"] for chunk in chunks]).tolist() == list(range(8))
    known = torch.cat([chunk.sample["mv_valid_forward"] for chunk in chunks]).float().mean(dim=(1, 2, 3))
    assert known[0] == 0
    assert known[1:].min() > 0.5


def test_odd_sizes_are_padded_and_cut(manifest: Manifest) -> None:
    for changes in ({}, {"feature_stride": 4}, {"alignment": AlignmentConfig(source="none")}):
        assert restored(manifest, ODD, replace(BOTH, **changes), WHOLE).shape == (6, 3, 71, 93)


def test_tiles_fade_into_each_other(manifest: Manifest) -> None:
    whole = restored(manifest, BIKES, FORWARD, WHOLE)
    tiles = replace(WHOLE, chunk_frames=5, tile_size=104, tile_overlap=48)
    tiled = restored(manifest, BIKES, FORWARD, tiles)
    assert tiled.shape == whole.shape == (12, 3, 128, 160)
    difference = (tiled - whole).abs()
    assert 0 < difference.mean() < 5e-3
    seams = (tiled.diff(dim=-1) - whole.diff(dim=-1)).abs().mean(dim=(0, 1, 2))
    assert seams.max() < 3 * seams.mean()  # no column where two tiles meet


def test_a_frame_that_fits_into_one_tile_is_restored_as_a_whole(manifest: Manifest) -> None:
    whole = restored(manifest, MOVING, FORWARD, WHOLE)
    assert torch.equal(whole, restored(manifest, MOVING, FORWARD, replace(WHOLE, tile_size=160)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chunk_frames": 0}, "chunk_frames 0: use 1 or more"),
        ({"overlap_frames": -1}, "overlap_frames -1: use 0 or more"),
        ({"tile_size": 100}, "tile_size 100: use a multiple of 8, or 0"),
        ({"tile_size": 64, "tile_overlap": 32}, "tile_size 64: use more than twice the tile_overlap 32"),
    ],
)
def test_values_that_cannot_be_used_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChunkConfig(**values)
