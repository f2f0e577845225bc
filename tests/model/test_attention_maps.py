from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codecprior.errors import ConfigError
from codecprior.model.attention_maps import received_attention, recorded_attention
from codecprior.model.cpc import CodingPriorControlNet

SIZES: dict[str, Any] = {
    "block_out_channels": (16, 32, 32, 32),
    "attention_head_dim": (2, 4, 4, 4),
    "cross_attention_dim": 16,
    "norm_num_groups": 8,
}


def network(planes: int) -> CodingPriorControlNet:
    torch.manual_seed(1)
    found = CodingPriorControlNet(**SIZES, prior_channels=planes)
    for name, parameter in found.named_parameters():
        if "controlnet_" in name or "to_qm" in name:
            nn.init.normal_(parameter, std=0.5)
    return found.eval()


def inputs(planes: int, height: int = 20, width: int = 24) -> dict[str, Any]:
    random = torch.Generator().manual_seed(2)
    priors = torch.randn(1, planes, height, width, generator=random) if planes else None
    return {
        "sample": torch.randn(1, 4, height, width, generator=random),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 7, 16, generator=random),
        "condition": torch.randn(1, 4, height, width, generator=random),
        "coding_priors": priors,
    }


def weights(attention: Any, query: Tensor, features: Tensor) -> Tensor:
    """Attention weights by diffusers' own function, (heads, N, N)."""
    query, key = attention.head_to_batch_dim(query), attention.head_to_batch_dim(attention.to_k(features))
    return attention.get_attention_scores(query, key)


@torch.no_grad()
def test_what_a_place_receives_is_the_mean_of_the_weights_over_queries_and_heads() -> None:
    features = torch.randn(1, 300, 16, generator=torch.Generator().manual_seed(3))
    priors = torch.randn(1, 300, 3, generator=torch.Generator().manual_seed(4))
    for planes in (0, 3):
        _, transformer = next(network(planes).transformers())
        attention = transformer.attn1
        query = attention.to_q(features)
        if planes:
            query = query + attention.processor.to_qm(features * attention.processor.to_mask(priors))
        expected = weights(attention, query, features).mean(dim=(0, 1)) * 300
        found = received_attention(attention, features, (priors,) if planes else None)
        torch.testing.assert_close(found[0], expected)
        assert float(found.mean()) == pytest.approx(1, abs=1e-5)
    without = received_attention(network(0).transformers().__next__()[1].attn1, features)
    assert not torch.allclose(found, without, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("planes", [0, 3])
def test_recording_changes_nothing_and_ends(planes: int) -> None:
    found = network(planes)
    before = found(**inputs(planes))
    with recorded_attention(found) as record:
        during = found(**inputs(planes))
        first = record.mean()
        found(**inputs(planes))
    assert all(torch.equal(*pair) for pair in zip(before.skips, during.skips, strict=True))
    assert first.shape == (20, 24)
    torch.testing.assert_close(record.mean(), first)
    assert float(first.min()) >= 0
    assert float(first.std()) > 0.01
    found(**inputs(planes, 8, 8))  # recorded no more
    torch.testing.assert_close(record.mean(), first)


@torch.no_grad()
def test_all_seven_layers_count() -> None:
    found = network(3)
    assert [level for level, _ in found.transformers()] == [0, 0, 1, 1, 2, 2, 3]
    with recorded_attention(found) as record:
        found(**inputs(3))
    assert record._count == 7


@torch.no_grad()
def test_tiles_are_no_whole_frames() -> None:
    found = network(0)
    with recorded_attention(found) as record:
        with pytest.raises(ConfigError, match="no attention was recorded"):
            record.mean()
        found(**inputs(0, 16, 16))
        with pytest.raises(ConfigError, match="latents of 24x16 and of others: record one size only"):
            found(**inputs(0, 16, 24))
