from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from codecprior.core.arrays import (
    ARRAYS,
    FRAME_ARRAYS,
    GRID_ARRAYS,
    PICTURE_ARRAYS,
    REF_NONE,
    RESIDUAL_ARRAYS,
    ArrayKind,
    CodingFlag,
    PredMode,
)
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo


def test_each_array_is_a_field_of_the_value_type_that_carries_it() -> None:
    on_frames = {spec.name for spec in (*GRID_ARRAYS, *RESIDUAL_ARRAYS, *FRAME_ARRAYS)}
    optional = {field.name for field in dataclasses.fields(FramePriors) if field.default is None}
    assert optional == on_frames
    of_pictures = {field.name for field in dataclasses.fields(PictureInfo)} - {"has_priors"}
    assert of_pictures == {spec.name for spec in PICTURE_ARRAYS}
    assert len(ARRAYS) == len(on_frames) + len(of_pictures)


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_fill_values_fit_and_planes_are_named_by_their_arrays(name: str) -> None:
    spec = ARRAYS[name]
    assert spec.name == name
    assert np.array(spec.fill).astype(spec.dtype) == spec.fill
    assert (spec.kind is ArrayKind.PLANE) == bool(spec.plane)
    assert name.endswith(spec.plane)


def test_flags_and_modes_fill_a_byte_without_overlap() -> None:
    assert sum(CodingFlag) == 255
    assert all(flag & (flag - 1) == 0 for flag in map(int, CodingFlag))
    assert max(PredMode) == np.iinfo(ARRAYS["pred_mode"].dtype).max
    assert np.iinfo(ARRAYS["ref_poc_delta_l0"].dtype).min == REF_NONE
