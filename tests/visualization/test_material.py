from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from codecprior.errors import MediaError
from codecprior.visualization.frames import Origin, frames_for
from codecprior.visualization.material import Material, find_material


@pytest.fixture
def folder_of_frames(tmp_path: Path) -> Path:
    """Four frames, 64x48, each of one grey level."""
    folder = tmp_path / "walk"
    folder.mkdir()
    for index in range(4):
        cv2.imwrite(str(folder / f"{index:03d}.png"), np.full((48, 64, 3), 40 + 50 * index, np.uint8))
    return folder


def test_the_bitstream_beside_the_store_is_found_first(tmp_path: Path, vvc_clip: Path, folder_of_frames: Path) -> None:
    beside = tmp_path / "walk.266"
    shutil.copy(vvc_clip, beside)
    found = find_material(str(tmp_path / "walk.zarr"), {"source": {"kind": "images", "path": "walk"}})
    assert found == Material(bitstream=beside)


def test_the_source_beside_the_store_is_used_without_a_bitstream(make_priors, folder_of_frames: Path) -> None:
    store = folder_of_frames.with_suffix(".zarr")
    material = find_material(str(store), {"source": {"kind": "images", "path": "walk"}})
    asked = [make_priors(64, 48, frame_index=index) for index in (1, 3)]
    found = [base for _, base in frames_for(asked, material)]
    assert [base.origin for base in found] == [Origin.SOURCE] * 2
    np.testing.assert_allclose([base.rgb.mean() for base in found], [90, 190], atol=1)


def test_a_source_that_is_vvc_is_taken_as_the_bitstream(tmp_path: Path, vvc_clip: Path) -> None:
    source = tmp_path / "other.bit"
    shutil.copy(vvc_clip, source)
    found = find_material(str(tmp_path / "clip.zarr"), {"source": {"kind": "bitstream", "path": "other.bit"}})
    assert found == Material(bitstream=source)


@pytest.mark.parametrize("attributes", [{}, {"source": None}, {"source": {"path": "gone.mp4"}}])
def test_nothing_is_found_where_nothing_is_left(tmp_path: Path, attributes) -> None:
    assert find_material(str(tmp_path / "clip.zarr"), attributes) == Material()
    assert find_material("s3://bucket/clip.zarr", attributes) == Material()


def test_an_unreadable_source_is_reported_and_left_out(tmp_path: Path, caplog) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert find_material(str(tmp_path / "clip.zarr"), {"source": {"path": "clip.mp4"}}) == Material()
    assert "clip.mp4" in caplog.text


def test_a_path_that_was_named_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        Material.at(tmp_path / "nothing.mp4")
