from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from codecprior.core.stream import StreamInfo
from codecprior.errors import IncompleteStoreError, SchemaError
from codecprior.store.schema import StoreAttributes, frame_layouts


def test_attributes_come_back_as_they_were(make: Any) -> None:
    stream = replace(make.stream(), conformance_window=(0, 8, 0, 2), frame_rate=Fraction(24000, 1001))
    attributes = StoreAttributes(
        stream=stream,
        num_frames=5,
        directions=("forward", "reverse"),
        concealed_frames=(3,),
        facts={"encoder": {"qp": 3}},
    )
    assert StoreAttributes.from_dict(attributes.to_dict(), "x") == attributes


def test_attributes_say_what_the_format_promises(make: Any) -> None:
    values = StoreAttributes(stream=make.stream(), num_frames=5).to_dict()
    assert values["format_version"] == 1
    assert values["mv_sign"] == "reference = current + mv"
    assert values["output_size"] == [48, 40]


def test_a_newer_format_is_refused(make: Any) -> None:
    values = {**StoreAttributes(stream=make.stream(), num_frames=5).to_dict(), "format_version": 2}
    with pytest.raises(SchemaError, match="format version 2"):
        StoreAttributes.from_dict(values, "clip.zarr")


def test_attributes_without_completion_are_refused(make: Any) -> None:
    values = StoreAttributes(stream=make.stream(), num_frames=5, complete=False).to_dict()
    with pytest.raises(IncompleteStoreError, match="run the same extract again"):
        StoreAttributes.from_dict(values, "clip.zarr")


@pytest.mark.parametrize(("name", "value"), [("coded_size", [640]), ("chroma_format", "4:1:1"), ("frame_rate", "1/0")])
def test_wrong_attributes_are_named(make: Any, name: str, value: Any) -> None:
    values = {**StoreAttributes(stream=make.stream(), num_frames=5).to_dict(), name: value}
    with pytest.raises(SchemaError, match="format 1"):
        StoreAttributes.from_dict(values, "clip.zarr")


def test_a_missing_attribute_is_named(make: Any) -> None:
    values = StoreAttributes(stream=make.stream(), num_frames=5).to_dict()
    del values["bit_depth"]
    with pytest.raises(SchemaError, match="no 'bit_depth'"):
        StoreAttributes.from_dict(values, "clip.zarr")


@pytest.mark.parametrize(
    ("size", "grid_tile"), [((1280, 720), [8, 64, 64]), ((176, 144), [8, 36, 44]), ((4096, 240), [8, 60, 64])]
)
def test_grids_are_tiled_as_training_crops_are_large(size: tuple[int, int], grid_tile: list[int]) -> None:
    stream = StreamInfo(codec="vvc", coded_size=size, bit_depth=10, chroma_format="4:2:0")
    metadata = frame_layouts(stream, with_frames=False)["qp"].metadata(5)
    assert metadata["codecs"][0]["configuration"]["chunk_shape"] == grid_tile


def test_shards_are_whole_multiples_of_their_chunks() -> None:
    stream = StreamInfo(codec="vvc", coded_size=(1928, 1080), bit_depth=10, chroma_format="4:2:2")
    for layout in frame_layouts(stream, with_frames=True).values():
        metadata = layout.metadata(33)
        shard = np.array(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        chunk = np.array(metadata["codecs"][0]["configuration"]["chunk_shape"])
        assert not (shard % chunk).any()
        assert (shard[1:] >= metadata["shape"][1:]).all()
