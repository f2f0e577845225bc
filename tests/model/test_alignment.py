from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.optical_flow import raft_large

from codecprior.datasets.holes import fill_holes
from codecprior.datasets.manifest import read_manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.datasets.sampling import Windows
from codecprior.errors import ConfigError
from codecprior.model.alignment import Aligner, Guidance, alignment_flops, on_grid, warp
from codecprior.model.config import AlignmentConfig, CpfpConfig
from codecprior.model.dataset import ClipDataset
from codecprior.model.raft import load_raft

BOTH = CpfpConfig(branches=("backward", "forward"), intra_mask=True)
TRUTH = {"forward": (-4.0, 2.0), "backward": (4.0, -2.0)}  # the texture of "moving" goes right by 4 and up by 2


@pytest.fixture(scope="module")
def moving(prepared: Path) -> dict[str, Any]:
    """A batch of one real clip, 8 frames of 128x96, with priors of both directions."""
    manifest = read_manifest(prepared)
    sample = ClipDataset(ClipReader(manifest, ReaderConfig(backward=True)), Windows(manifest.entries))[0]
    return {key: value[None] if isinstance(value, Tensor) else [value] for key, value in sample.items()}


def config(**options: Any) -> CpfpConfig:
    return replace(BOTH, alignment=AlignmentConfig(**options))


def has_neighbour(direction: str) -> slice:
    return slice(1, None) if direction == "forward" else slice(None, -1)


def test_zero_vectors_change_nothing() -> None:
    features = torch.randn(2, 5, 7, 9)
    assert torch.allclose(warp(features, torch.zeros(2, 2, 7, 9)), features, atol=1e-5)


def test_a_warp_brings_x_and_y_from_where_the_vector_points() -> None:
    features = torch.randn(1, 3, 12, 16)
    vectors = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 12, 16)
    warped = warp(features, vectors)
    assert torch.allclose(warped[..., 2:, :-3], features[..., :-2, 3:], atol=1e-5)
    assert warped[..., :2, :].abs().max() < 1e-5
    assert warped[..., -3:].abs().max() < 1e-5


def test_between_features_a_warp_is_bilinear() -> None:
    features = torch.randn(1, 1, 6, 6)
    warped = warp(features, torch.tensor([0.25, 0.0]).view(1, 2, 1, 1).expand(1, 2, 6, 6))
    assert torch.allclose(warped[..., :-1], 0.75 * features[..., :-1] + 0.25 * features[..., 1:], atol=1e-5)


def test_each_block_goes_its_own_way() -> None:
    features, vectors = torch.randn(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    vectors[:, 0, :, 4:] = -4
    warped = warp(features, vectors)
    assert torch.allclose(warped, features[..., [0, 1, 2, 3, 0, 1, 2, 3]], atol=1e-5)


def test_grids_are_joined_by_means_and_split_by_repeating() -> None:
    values = torch.arange(16.0).view(1, 1, 1, 4, 4)
    assert on_grid(values, (2, 2))[0, 0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert torch.equal(on_grid(values, (8, 8))[..., 1::2, ::2], values)
    assert torch.equal(on_grid(values > 7, (2, 2))[0, 0, 0], torch.tensor([[0.0, 0], [1, 1]]))
    for size in ((3, 3), (4, 8), (2, 4)):
        with pytest.raises(ConfigError, match="a grid of 4x4 values does not fit to"):
            on_grid(values, size)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_vectors_of_the_codec_are_those_of_the_data(moving: dict[str, Any], direction: str) -> None:
    guidance = Aligner(BOTH)(moving)[direction]
    assert torch.equal(guidance.vectors, moving[f"mv_{direction}"])
    suffix = "" if direction == "forward" else "_backward"
    assert guidance.residual is moving[f"residual{suffix}"]
    assert guidance.intra is moving[f"intra{suffix}"]
    there = guidance.vectors[:, has_neighbour(direction)].movedim(2, -1).flatten(0, 3)
    assert there.median(dim=0).values.tolist() == list(TRUTH[direction])


@pytest.mark.parametrize("policy", ["neighbour", "global"])
def test_holes_are_filled_as_the_reader_would(moving: dict[str, Any], policy: Any) -> None:
    guidance = Aligner(config(hole_policy=policy))(moving)["forward"]
    mv, valid = moving["mv_forward"][0].movedim(1, -1).numpy(), moving["mv_valid_forward"][0, :, 0].numpy()
    assert 0 < valid[1:].mean() < 1
    assert np.array_equal(guidance.vectors[0].movedim(1, -1).numpy(), fill_holes(mv, valid, policy))
    filled = moving | {"mv_forward": guidance.vectors, "mv_valid_forward": torch.ones(1, 8, 1, 24, 32).bool()}
    assert torch.equal(Aligner(config(hole_policy=policy))(filled)["forward"].vectors, guidance.vectors)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_dis_finds_the_motion_between_blurry_frames(moving: dict[str, Any], direction: str) -> None:
    flow = Aligner(config(source="dis"))(moving)[direction].vectors
    assert flow.shape == (1, 8, 2, 96, 128)
    assert flow.dtype == torch.float32
    there = flow[:, has_neighbour(direction), :, 16:-16, 16:-16].movedim(2, -1).flatten(0, 3)
    assert torch.allclose(there.median(dim=0).values, torch.tensor(TRUTH[direction]), atol=0.1)
    edge = 0 if direction == "forward" else -1
    assert not flow[:, edge].any()


def test_no_alignment_is_vectors_of_zero_and_needs_no_priors(moving: dict[str, Any]) -> None:
    literal = CpfpConfig(residual_mask=False, alignment=AlignmentConfig(source="none"))
    guidance = Aligner(literal)({"blurry": moving["blurry"]})
    assert guidance.keys() == {"forward", "backward"}
    assert guidance["forward"].vectors.shape == (1, 8, 2, 24, 32)
    assert not guidance["forward"].vectors.any()
    assert guidance["forward"].residual is None
    assert guidance["forward"].intra is None


def test_only_directions_of_the_network_are_computed(moving: dict[str, Any]) -> None:
    forward = CpfpConfig(branches=("forward", "forward"))
    assert Aligner(forward)(moving).keys() == {"forward"}


def test_what_the_batch_lacks_is_named(moving: dict[str, Any]) -> None:
    without = {key: value for key, value in moving.items() if not key.endswith("backward")}
    with pytest.raises(ConfigError, match=r"needs 'mv_backward', which .* made with --directions both"):
        Aligner(BOTH)(without)
    with pytest.raises(ConfigError, match=r"needs 'residual', which .* read clips with priors"):
        Aligner(CpfpConfig(branches=("forward",)))({key: value for key, value in moving.items() if key != "residual"})


def test_frames_can_be_left_out() -> None:
    guidance = Guidance(vectors=torch.randn(1, 4, 2, 3, 3), intra=torch.zeros(1, 4, 1, 3, 3).bool())
    rest = guidance.select(slice(1, None))
    assert torch.equal(rest.vectors, guidance.vectors[:, 1:])
    assert rest.residual is None
    assert rest.intra is not None
    assert rest.intra.shape[1] == 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(raft_large(weights=None, progress=False).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def large(moving: dict[str, Any]) -> dict[str, Any]:
    """Three frames of 132x136 of the same motion, which RAFT's grid does not divide evenly."""
    frames = torch.nn.functional.pad(moving["blurry"][0, :3], (0, 4, 40, 0), mode="reflect")[None]
    mv = torch.nn.functional.pad(moving["mv_forward"][0, :3], (0, 1, 10, 0), mode="replicate")[None]
    valid = torch.nn.functional.pad(moving["mv_valid_forward"][0, :3].float(), (0, 1, 10, 0))[None] > 0
    return {"blurry": frames, "mv_forward": mv, "mv_valid_forward": valid}


def raft_config(weights: str, **options: Any) -> CpfpConfig:
    return CpfpConfig(
        branches=("forward",),
        residual_mask=False,
        alignment=AlignmentConfig(raft_weights=weights, raft_updates=1, **options),
    )


def test_raft_goes_from_each_frame_to_the_one_before(large: dict[str, Any], weights: str) -> None:
    flow = Aligner(raft_config(weights, source="raft"))(large)["forward"].vectors
    frames = large["blurry"]
    assert flow.shape == (1, 3, 2, 136, 132)
    assert not flow[:, 0].any()
    assert torch.equal(flow[:, 2], load_raft(weights)(frames[:, 2], frames[:, 1], 1))


@pytest.mark.parametrize("pooling", ["average", "valid"])
def test_raft_starts_at_vectors_of_two_by_two_cells(large: dict[str, Any], weights: str, pooling: Any) -> None:
    flow = Aligner(raft_config(weights, source="raft_mv_init", pooling=pooling))(large)["forward"].vectors
    mv, valid = large["mv_forward"][0, 1].numpy(), large["mv_valid_forward"][0, 1].numpy()
    start = np.zeros((1, 2, 17, 17), np.float32)
    for row, col in np.ndindex(17, 17):
        cells = slice(2 * row, 2 * row + 2), slice(2 * col, 2 * col + 2)
        known = valid[0][cells] if pooling == "valid" else np.ones_like(valid[0][cells])
        if known.any():
            start[0, :, row, col] = mv[(slice(None), *cells)][:, known].mean(axis=1)
    frames = large["blurry"]
    expected = load_raft(weights)(frames[:, 1], frames[:, 0], 1, torch.from_numpy(start))
    assert torch.allclose(flow[:, 1], expected, atol=1e-3)


def test_without_weights_raft_is_refused() -> None:
    with pytest.raises(ConfigError, match="RAFT has no weights"):
        Aligner(CpfpConfig(alignment=AlignmentConfig(source="raft_mv_init")))


def test_vectors_of_the_codec_cost_nothing_and_raft_what_the_paper_says() -> None:
    def giga(**options: Any) -> float | None:
        count = alignment_flops(AlignmentConfig(**options), 752, 1024).multiply_adds
        return None if count is None else count / 1e9

    assert giga(source="mv") == giga(source="none") == 0
    assert giga(source="raft", raft_updates=4) == pytest.approx(307, abs=0.5)
    assert giga(source="raft_mv_init", raft_updates=4) == pytest.approx(307, abs=0.5)
    assert giga(source="raft", raft_updates=20) == pytest.approx(908, abs=1)
    assert giga(source="dis") is None
    convention = alignment_flops(AlignmentConfig(source="raft"), 130, 150).convention
    assert convention.startswith("one pair of 150x130 frames: multiply-adds of convolutions, each counted once")
    with pytest.raises(ConfigError, match="RAFT between frames of 150x90: it needs 128 samples"):
        alignment_flops(AlignmentConfig(source="raft"), 90, 150)
