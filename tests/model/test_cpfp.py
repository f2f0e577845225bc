from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codecprior.errors import ConfigError
from codecprior.model.alignment import Guidance
from codecprior.model.config import CpfpConfig, load_preset
from codecprior.model.cpfp import CpfaBlock, Cpfp, Past
from codecprior.model.losses import restoration_loss

SMALL = CpfpConfig(
    channels=8, deform_groups=2, encoder_blocks=1, fusion_blocks=1, reconstruction_blocks=1, upsampling_channels=8
)
EVERYTHING = replace(
    SMALL,
    use_current_feat=True,
    second_order=True,
    intra_mask=True,
    fuse_previous=True,
    max_residue=5.0,
    residual_channels=3,
)
TINY = CpfpConfig.from_dict(load_preset("cpfp-tiny")["cpfp"])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(2)


def guidance(batch: int, length: int, height: int, width: int, planes: int = 1) -> Guidance:
    return Guidance(
        vectors=4 * torch.randn(batch, length, 2, height // 4, width // 4),
        residual=torch.rand(batch, length, planes, height, width),
        intra=torch.rand(batch, length, 1, height // 4, width // 4) > 0.5,
    )


def inputs(
    config: CpfpConfig, batch: int = 1, length: int = 4, height: int = 16, width: int = 24
) -> tuple[Tensor, dict[str, Guidance]]:
    blurry = torch.rand(batch, length, 3, height, width)
    guides = {
        direction: guidance(batch, length, height, width, config.residual_channels)
        for direction in set(config.branches)
    }
    return blurry, guides


def trained(config: CpfpConfig) -> Cpfp:
    """A network whose offsets and masks depend on what they see, as after some training."""
    network = Cpfp(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def picture(clips: Path) -> Tensor:
    """A real frame, (3, 272, 640), 0 to 1."""
    frame = cv2.VideoCapture(str(clips / "bikes.mp4")).read()[1]
    return torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).movedim(-1, 0) / 255


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_vectors_in_samples_lead_features_to_where_they_belong(picture: Tensor, stride: Any, direction: Any) -> None:
    x, y = 24, -8  # from this frame to its neighbour
    here, neighbour = picture[:, 16:176, 40:264], picture[:, 16 - y : 176 - y, 40 - x : 264 - x]
    config = replace(
        SMALL, branches=(direction,), feature_stride=stride, dcn_init="identity", residual_mask=False, encoder_blocks=0
    )
    network = Cpfp(config)
    aligned: list[Tensor] = []
    network.blocks[0].deform.register_forward_hook(lambda _module, _inputs, output: aligned.append(output))
    outputs: list[Tensor] = []
    network.blocks[0].register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    frames = torch.stack([neighbour, here])[None]
    frames = frames if direction == "forward" else frames.flip(1)
    vectors = torch.tensor([x, y]).view(1, 1, 2, 1, 1).expand(1, 2, 2, 40, 56).float()
    with torch.no_grad():
        network(frames, **{direction: Guidance(vectors=vectors)})
        network(here[None, None], **{direction: Guidance(vectors=vectors[:, :1])})
    # What comes from the neighbour is what this frame alone gives: convolutions move with the picture.
    expected, margin = outputs[-1], 48 // stride
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    error = (aligned[0][inside] - expected[inside]).abs().max()
    unmoved = (outputs[0][inside] - expected[inside]).abs().max()
    assert error < 1e-3 * unmoved


@pytest.mark.parametrize("second_order", [False, True])
def test_offsets_are_vectors_and_residue_as_y_and_x(second_order: bool) -> None:
    config = replace(SMALL, second_order=second_order)
    block = CpfaBlock(config, 0)
    motion = [torch.randn(1, 2, 4, 4) for _ in range(1 + second_order)]
    residue = torch.randn(1, 36, 4, 4)
    offsets = block._offsets(motion, residue) - residue
    for channel in range(36):
        vectors = motion[channel // 18] if second_order else motion[0]
        assert torch.allclose(offsets[:, channel], vectors[:, 1 - channel % 2], atol=1e-6)


def test_the_residue_of_offsets_can_be_limited() -> None:
    block, still = CpfaBlock(replace(SMALL, max_residue=3.0), 0), [torch.zeros(1, 2, 1, 1)]
    assert block._offsets(still, torch.full((1, 36, 1, 1), 100.0)).max() == 3
    assert torch.allclose(block._offsets(still, torch.full((1, 36, 1, 1), 0.1)), 3 * torch.tensor(0.1).tanh())


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("r_plus_sigmoid", [0.5 + 0.2, 0.8808 + 0.2, 0.2689 + 0.2]),
        ("sigmoid_sum", [0.5498, 0.9002, 0.3100]),
        ("clamp", [0.2, 1, 0]),
        ("raw", [0.2, 2.2, -0.8]),
    ],
)
def test_masks_are_residual_and_what_is_learnt(mode: Any, expected: list[float]) -> None:
    block = CpfaBlock(replace(SMALL, mask_mode=mode), 0)
    learnt = torch.tensor([0.0, 2.0, -1.0]).view(1, 1, 1, 3).expand(1, 18, 1, 3)
    residual = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1).expand(1, 3, 1, 3)  # three planes count by their mean
    assert block._masks(residual, learnt)[0, 17, 0].tolist() == pytest.approx(expected, abs=1e-4)
    without = block._masks(None, learnt)[0, 0, 0]
    assert torch.allclose(without, block._masks(torch.zeros(1, 1, 1, 3), learnt)[0, 0, 0])


@pytest.mark.parametrize(
    ("activation", "gain", "expected"),
    [("clamp", 1.0, [0.5, 1.0, 0.0]), ("none", 2.0, [1.0, 3.0, -2.0]), ("tanh", 1.0, [0.4621, 0.9051, -0.7616])],
)
def test_the_residual_is_brought_into_a_range(activation: Any, gain: float, expected: list[float]) -> None:
    config = replace(SMALL, branches=("forward",), residual_activation=activation, residual_gain=gain)
    network = Cpfp(config)
    seen: list[Tensor] = []
    network.blocks[0].register_forward_pre_hook(
        lambda _module, _inputs, priors: seen.append(priors["residual"]), with_kwargs=True
    )
    residual = torch.tensor([0.5, 1.5, -1.0]).repeat_interleave(4).expand(1, 1, 1, 4, 12)
    network(torch.rand(1, 1, 3, 4, 12), Guidance(vectors=torch.zeros(1, 1, 2, 1, 3), residual=residual))
    assert seen[0].flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_a_block_sees_what_its_configuration_says() -> None:
    literal = CpfaBlock(SMALL, 0).offset_network[0]
    assert isinstance(literal, nn.Conv2d)
    assert literal.in_channels == 8 + 2 + 1  # V, warped features and R alone
    for options, more in (
        ({"residual_mask": False}, -1),
        ({"residual_channels": 3}, 2),
        ({"intra_mask": True}, 1),
        ({"use_current_feat": True}, 8),
        ({"second_order": True}, 10),
    ):
        for network in ("offset_network", "mask_network"):
            first = getattr(CpfaBlock(replace(SMALL, **options), 0), network)[0]  # type: ignore[arg-type]
            assert first.in_channels == literal.in_channels + more
    assert CpfaBlock(SMALL, 3).fusion[0].in_channels == 5 * 8
    assert CpfaBlock(replace(SMALL, fuse_previous=True), 3).fusion[0].in_channels == 6 * 8


@pytest.mark.parametrize("config", [SMALL, EVERYTHING, replace(SMALL, feature_stride=2), TINY])
@pytest.mark.parametrize(("batch", "length", "height", "width"), [(1, 1, 4, 4), (3, 5, 12, 20), (2, 2, 20, 4)])
def test_frames_keep_their_number_and_size(
    config: CpfpConfig, batch: int, length: int, height: int, width: int
) -> None:
    blurry, guides = inputs(config, batch, length, height, width)
    output = Cpfp(config)(blurry, **guides)
    assert output.frames.shape == blurry.shape
    assert output.frames.dtype == torch.float32
    assert [past is not None for past in output.state] == [branch == "forward" for branch in config.branches]


def test_samples_of_a_batch_do_not_mix() -> None:
    network = trained(EVERYTHING)
    blurry, guides = inputs(EVERYTHING, batch=2)
    both = network(blurry, **guides).frames
    alone = {
        name: Guidance(vectors=each.vectors[1:], residual=each.residual[1:], intra=each.intra[1:])  # type: ignore[index]
        for name, each in guides.items()
    }
    assert torch.allclose(network(blurry[1:], **alone).frames, both[1:], atol=1e-5)


def test_both_directions_reach_each_frame_and_one_direction_only_those_behind() -> None:
    for branches, reached in ((("backward", "forward"), range(4)), (("forward",), (2, 3)), (("backward",), (0, 1, 2))):
        config = replace(SMALL, branches=branches)  # type: ignore[arg-type]
        network = trained(config)
        blurry, guides = inputs(config)
        changed = blurry.clone()
        changed[:, 2] += 0.1
        difference = (network(changed, **guides).frames - network(blurry, **guides).frames).abs()
        assert [t for t in range(4) if difference[:, t].max() > 1e-6] == list(reached)


@pytest.mark.parametrize("config", [SMALL, EVERYTHING], ids=["literal", "everything"])
def test_a_clip_in_parts_equals_the_whole_where_backward_blocks_see_to_its_end(config: CpfpConfig) -> None:
    network = trained(config).eval()
    blurry, guides = inputs(config, batch=2, length=7)
    with torch.no_grad():
        whole = network(blurry, **guides)
        frames, state, start = [], None, 0
        for kept in (1, 2, 4):
            part = {name: each.select(slice(start, None)) for name, each in guides.items()}
            output = network(blurry[:, start:], **part, state=state, keep=kept)
            frames.append(output.frames)
            state, start = output.state, start + kept
    assert torch.allclose(torch.cat(frames, dim=1), whole.frames, atol=1e-5)
    for one, other in zip(output.state, whole.state, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.allclose(one.features, other.features, atol=1e-5)


def test_forward_blocks_need_no_overlap_and_remember_one_or_two_frames() -> None:
    for config, remembered in (
        (replace(SMALL, branches=("forward",)), 1),
        (replace(EVERYTHING, branches=("forward",)), 2),
    ):
        network = trained(config).eval()
        blurry, guides = inputs(config, length=5)
        forward = guides["forward"]
        first = network(blurry[:, :3], forward.select(slice(0, 3)))
        second = network(blurry[:, 3:], forward.select(slice(3, None)), state=first.state)
        assert torch.allclose(second.frames, network(blurry, forward).frames[:, 3:], atol=1e-5)
        (past,) = second.state
        assert isinstance(past, Past)
        assert 1 + (past.before is not None) == remembered


def step(network: Cpfp, blurry: Tensor, sharp: Tensor, guides: dict[str, Guidance]) -> None:
    network.zero_grad()
    restoration_loss("l1", network(blurry, **guides).frames, sharp).backward()


def test_gradients_reach_what_sees_vectors_and_residual_after_one_step() -> None:
    network = Cpfp(SMALL)
    blurry, guides = inputs(SMALL, length=3)
    sharp = torch.rand_like(blurry)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for stage in ("at the start", "after one step"):
        step(network, blurry, sharp, guides)
        for block in network.blocks:
            for name in ("offset_network", "mask_network"):
                first, last = getattr(block, name)[0].weight.grad, getattr(block, name)[-1].weight.grad
                assert last.abs().max() > 0
                # The last convolution begins at 0 and lets no gradient through.
                for seen in (slice(0, 2), slice(10, 11)):  # V and R
                    assert (first[:, seen].abs().max() > 0) == (stage == "after one step")
        optimizer.step()


def test_gradients_reach_vectors_and_residual_themselves() -> None:
    network = Cpfp(SMALL)
    blurry, guides = inputs(SMALL, length=3)
    forward = Guidance(
        vectors=guides["forward"].vectors.requires_grad_(),
        residual=guides["forward"].residual.requires_grad_(),  # type: ignore[union-attr]
    )
    network(blurry, forward, guides["backward"]).frames.square().mean().backward()
    for given in (forward.vectors, forward.residual):
        assert given is not None
        assert given.grad is not None
        assert given.grad[:, 1:].flatten(2).abs().amax(dim=2).min() > 0
        assert not given.grad[:, 0].any()  # nothing lies before the first frame


def test_computing_activations_again_gives_the_same_gradients() -> None:
    network = trained(EVERYTHING)
    blurry, guides = inputs(EVERYTHING)
    sharp = torch.rand_like(blurry)
    gradients = []
    for network.gradient_checkpointing in (False, True):
        step(network, blurry, sharp, guides)
        gradients.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_leaves_offsets_and_sampling_in_single_precision(dtype: torch.dtype) -> None:
    network = trained(EVERYTHING)
    seen: set[torch.dtype] = set()
    for block in network.blocks:
        block.deform.register_forward_pre_hook(lambda _module, given: seen.update({given[1].dtype, given[2].dtype}))
        block.deform.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    blurry, guides = inputs(EVERYTHING, length=3)
    plain = network(blurry, **guides).frames
    with torch.autocast("cpu", dtype=dtype):
        mixed = network(blurry, **guides).frames
        restoration_loss("l1", mixed, torch.rand_like(blurry)).backward()
    assert seen == {torch.float32}
    assert mixed.dtype == torch.float32
    assert (mixed - plain).abs().max() < 0.05
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)


def test_saved_weights_give_the_same_output(tmp_path: Path) -> None:
    network = trained(EVERYTHING)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    other = Cpfp(CpfpConfig.from_dict(network.config.to_dict()))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    blurry, guides = inputs(EVERYTHING)
    assert torch.equal(other(blurry, **guides).frames, network(blurry, **guides).frames)


def test_what_does_not_fit_is_refused() -> None:
    network = Cpfp(replace(SMALL, intra_mask=True))
    blurry, guides = inputs(SMALL)
    forward, backward = guides["forward"], guides["backward"]
    bare = Guidance(vectors=forward.vectors)
    for message, call in (
        ("frames of 23x16: CPFP takes multiples of 4; crop or pad them", lambda: network(blurry[..., :23], **guides)),
        ("the network has backward blocks: give their guidance", lambda: network(blurry, forward)),
        ("the network needs a residual of 1 planes; there is none", lambda: network(blurry, bare, bare)),
        (
            "the network needs the intra mask; there is none",
            lambda: network(blurry, *(replace(each, intra=None) for each in (forward, backward))),
        ),
        (
            "ward guidance of 1 clips of 4 frames does not fit to 1 clips of 3 frames",
            lambda: network(blurry[:, :3], **guides),
        ),
        ("keep 5 of 4 frames: use 1 to 4", lambda: network(blurry, **guides, keep=5)),
        ("a grid of 6x4 values does not fit to 4x3 features", lambda: network(blurry[..., :12, :16], **guides)),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


SIDE = 96


def shaken(pictures: list[Tensor], random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a sharp frame and a blurred one of the same picture, the second one sharp too, and how it moved."""
    picture = pictures[random.integers(len(pictures))]
    x, y = random.integers(100, 400), random.integers(60, 120)
    mv = random.integers(-12, 13, 2)
    neighbour = picture[:, y : y + SIDE, x : x + SIDE]
    x, y = x + mv[0], y + mv[1]
    sharp = picture[:, y : y + SIDE, x : x + SIDE]
    around = picture[:, y - 4 : y + SIDE + 4, x - 4 : x + SIDE + 4]
    return torch.stack([neighbour, nn.functional.avg_pool2d(around, 9, 1)]), sharp, torch.from_numpy(mv).float()


def trained_gain(pictures: list[Tensor], others: list[Tensor], *, aligned: bool) -> float:
    """Train the tiny network, and return its gain over blurred frames of pictures it has not seen, in dB."""
    torch.manual_seed(0)
    network = Cpfp(replace(TINY, residual_mask=False, intra_mask=False))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def restore(material: list[Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
        drawn = zip(*(shaken(material, random) for _ in range(count)), strict=True)
        blurry, sharp, mv = (torch.stack(each) for each in drawn)
        vectors = mv.view(count, 1, 2, 1, 1).expand(count, 2, 2, SIDE // 4, SIDE // 4) * float(aligned)
        return blurry[:, 1], network(blurry, Guidance(vectors=vectors)).frames[:, 1], sharp

    random = np.random.default_rng(1)
    for _ in range(250):
        _, restored, sharp = restore(pictures, 2)
        optimizer.zero_grad()
        restoration_loss("log_mse", restored, sharp).backward()
        optimizer.step()
    random = np.random.default_rng(2)
    with torch.no_grad():
        blurry, restored, sharp = restore(others, 12)
    ratio = restoration_loss("log_mse", blurry, sharp) - restoration_loss("log_mse", restored, sharp)
    return float(ratio) * 10 / np.log(10)


@pytest.mark.slow
def test_true_vectors_let_a_tiny_network_restore_what_is_sharp_in_the_frame_before(clips: Path) -> None:
    video = cv2.VideoCapture(str(clips / "bikes.mp4"))
    frames = [video.read()[1] for _ in range(226)][::25]
    pictures = [torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).movedim(-1, 0) / 255 for frame in frames]
    gains = [trained_gain(pictures[:7], pictures[7:], aligned=aligned) for aligned in (True, False)]
    assert gains[0] > max(0, gains[1]) + 1  # 2.6 and 0.3 dB where this was written
