from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
import pytest

from codecprior.core.arrays import CodingFlag, PredMode
from codecprior.visualization.modes import MODE_COLORS, MODE_LABELS, BlockMode, block_modes

EDGES = CodingFlag.LEFT_EDGE | CodingFlag.TOP_EDGE

# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision deficiency",
# IEEE TVCG 15 (2009), DOI 10.1109/TVCG.2009.113, severity 1.0, for linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colors: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of sRGB colours as seen with a kind of vision."""
    srgb = colors / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) @ vision.T
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear, 0, 1) @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


@pytest.mark.parametrize(
    ("pred_mode", "flags", "mode"),
    [
        (PredMode.INTRA, CodingFlag.RESIDUAL, BlockMode.INTRA),
        (PredMode.IBC, CodingFlag.MERGE, BlockMode.IBC),
        (PredMode.PALETTE, 0, BlockMode.IBC),
        (PredMode.NONE, 0, BlockMode.NONE),
        (PredMode.INTER, 0, BlockMode.AMVP),
        (PredMode.INTER, CodingFlag.RESIDUAL | EDGES, BlockMode.AMVP),
        (PredMode.INTER, CodingFlag.MERGE | EDGES, BlockMode.MERGE),
        (PredMode.INTER, CodingFlag.MERGE | CodingFlag.SKIP, BlockMode.SKIP),
        (PredMode.INTER, CodingFlag.AFFINE | CodingFlag.MERGE | CodingFlag.SKIP, BlockMode.AFFINE),
        (PredMode.INTER, CodingFlag.GEO | CodingFlag.MERGE, BlockMode.GEO),
        (PredMode.INTER, CodingFlag.CIIP | CodingFlag.MERGE, BlockMode.CIIP),
    ],
)
def test_flags_and_prediction_mode_give_one_category(make_priors, pred_mode, flags, mode) -> None:
    priors = make_priors(16, 8)
    grid = np.zeros((2, 4), np.uint8)
    priors = dataclasses.replace(priors, pred_mode=grid + np.uint8(pred_mode), coding_flags=grid + np.uint8(flags))
    assert (block_modes(priors) == mode).all()


def test_every_category_has_a_label_and_a_color() -> None:
    assert set(MODE_LABELS) == set(BlockMode)
    assert len(MODE_COLORS) == len(BlockMode)


@pytest.mark.parametrize("vision", VISION)
def test_all_categories_can_be_told_apart_with_every_kind_of_color_vision(vision: str) -> None:
    seen = lab(MODE_COLORS.astype(float), VISION[vision])
    closest = min((np.linalg.norm(seen[a] - seen[b]), a.name, b.name) for a, b in combinations(BlockMode, 2))
    assert closest[0] > 14, closest
