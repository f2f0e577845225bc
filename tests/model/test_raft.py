from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.optical_flow import raft_large

from codecprior.errors import ConfigError
from codecprior.model.raft import Raft, load_raft

SIZE = (128, 192)
SHIFT = (16.0, -8.0)  # (x, y) from the current frame to its neighbour, whole vectors of RAFT's grid


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of a network that was not trained: what the original layout is, without a download."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(raft_large(weights=None, progress=False).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def raft(weights: Path) -> Raft:
    return load_raft(weights)


@pytest.fixture(scope="module")
def pair(clips: Path) -> tuple[Tensor, Tensor]:
    """Two parts of one picture: what is at p in the first is at p + SHIFT in the second."""
    import cv2

    picture = cv2.VideoCapture(str(clips / "bikes.mp4")).read()[1]
    whole = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).movedim(-1, 0)[None] / 255
    height, width = SIZE
    x, y = (int(each) for each in SHIFT)
    return (
        whole[..., 40 : 40 + height, 100 : 100 + width],
        whole[..., 40 - y : 40 - y + height, 100 - x : 100 - x + width],
    )


def initial(x: float, y: float) -> Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, SIZE[0] // 8, SIZE[1] // 8)


def test_without_an_initial_flow_it_is_the_network_of_torchvision(raft: Raft, pair: tuple[Tensor, Tensor]) -> None:
    current, neighbour = pair
    with torch.no_grad():
        expected = raft.network(2 * current - 1, 2 * neighbour - 1, num_flow_updates=2)[-1]
    assert torch.equal(raft(current, neighbour, 2), expected)
    assert torch.equal(raft(current, neighbour, 2, initial(0, 0)), expected)


def test_an_initial_flow_changes_what_is_found(raft: Raft, pair: tuple[Tensor, Tensor]) -> None:
    assert not torch.allclose(raft(*pair, 1), raft(*pair, 1, initial(*SHIFT)), atol=1)


def test_without_updates_the_initial_flow_comes_back(raft: Raft, pair: tuple[Tensor, Tensor]) -> None:
    found = raft(*pair, 0, initial(*SHIFT))
    assert torch.allclose(found, torch.tensor(SHIFT).view(1, 2, 1, 1).expand_as(found), atol=1e-4)


def test_updates_of_zero_keep_the_initial_flow(weights: Path, pair: tuple[Tensor, Tensor]) -> None:
    raft = load_raft(weights)
    head = raft.network.update_block.flow_head.conv2
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    found = raft(*pair, 3, initial(*SHIFT))[..., 8:-8, 8:-8]  # it is brought to full size with zeros around it
    assert torch.allclose(found, torch.tensor(SHIFT).view(1, 2, 1, 1).expand_as(found), atol=1e-3)


def test_started_at_the_true_flow_each_place_is_compared_with_its_own(
    raft: Raft, pair: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    block = raft.network.corr_block
    original = block.index_pyramid

    def record(centroids_coords: Tensor) -> Tensor:
        seen.append(original(centroids_coords=centroids_coords))
        return seen[-1]

    monkeypatch.setattr(block, "index_pyramid", record)
    current, neighbour = pair
    raft(current, current, 1)
    x, y = SHIFT
    for start in ((x, y), (0.0, 0.0), (y, x), (-x, -y)):
        raft(current, neighbour, 1, initial(*start))
    middle = (2 * block.radius + 1) ** 2 // 2
    itself, *found = (features[:, middle, 4:-4, 4:-4] for features in seen)  # away from the border
    error = [float((each - itself).abs().mean() / itself.abs().mean()) for each in found]
    assert error[0] < 0.1
    assert min(error[1:]) > 0.3


def test_sizes_that_are_no_multiple_of_8_are_padded(raft: Raft, pair: tuple[Tensor, Tensor]) -> None:
    current, neighbour = (each[..., :132] for each in pair)
    assert raft(current, neighbour, 1).shape == (1, 2, 128, 132)


def test_frames_too_small_for_it_are_refused(raft: Raft) -> None:
    frame = torch.zeros(1, 3, 96, 256)
    with pytest.raises(ConfigError, match="RAFT between frames of 256x96: it needs 128 samples a side or more"):
        raft(frame, frame, 1)


def test_it_is_never_trained(raft: Raft, pair: tuple[Tensor, Tensor]) -> None:
    assert not any(parameter.requires_grad for parameter in raft.parameters())
    assert not raft(pair[0].clone().requires_grad_(), pair[1], 1).requires_grad


def test_without_its_weights_it_does_not_run(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"RAFT has no weights; give alignment.raft_weights the file"):
        load_raft(None)
    with pytest.raises(ConfigError, match=r"absent\.pth: cannot be read"):
        load_raft(tmp_path / "absent.pth")
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, other)
    for content in (b"PK\x03\x04 cut", b"not a file of torch", b""):
        with pytest.raises(ConfigError, match=r"other\.pth: holds no weights of torchvision's raft_large"):
            load_raft(other)
        other.write_bytes(content)
