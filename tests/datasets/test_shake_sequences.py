from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from codecprior.datasets.shake import ShakeSettings, render_shake
from codecprior.datasets.shake_sequences import (
    SHAKE_SIDES,
    Background,
    find_backgrounds,
    read_backgrounds,
    synthesize_shake,
)
from codecprior.datasets.synthesis import SequenceFolders, sequence_seed
from codecprior.errors import MediaError

SETTINGS = ShakeSettings(size=(64, 48), length=3, objects=1)


@pytest.fixture
def mixed(tiny: Any, tmp_path: Path) -> Path:
    """Four pictures, no two of one kind: sizes, bit depths, grey, alpha."""
    folder = tiny.pictures(tmp_path / "mixed", count=4)
    pictures = [cv2.imread(str(folder / f"{index}.png")) for index in range(4)]
    cv2.imwrite(str(folder / "1.png"), pictures[1][:100].astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "2.png"), cv2.cvtColor(pictures[2], cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(folder / "3.png"), cv2.cvtColor(pictures[3], cv2.COLOR_BGR2BGRA))
    return folder


def backgrounds(path: Path, name: str, every: int | None = None) -> list[Background]:
    return [background for found in find_backgrounds(path, name, every) for background in read_backgrounds(found)]


def test_each_picture_of_a_folder_is_a_background(mixed: Path) -> None:
    found = backgrounds(mixed, "mixed")
    assert [each.name for each in found] == ["mixed_0", "mixed_1", "mixed_2", "mixed_3"]
    assert [each.pictures[0].shape for each in found] == [(144, 176, 3), (100, 176, 3), (144, 176, 3), (144, 176, 3)]
    assert found[0].pictures[0].dtype == np.uint8
    assert found[1].pictures[0].dtype == np.uint16
    assert (found[0].pictures[0][..., ::-1] == cv2.imread(str(mixed / "0.png"))).all()
    for each, following in zip(found, [*found[1:], found[0]], strict=True):
        assert (each.pictures[1] == following.pictures[0]).all()
    assert [each.name for each in backgrounds(mixed, "mixed", every=3)] == ["mixed_0", "mixed_3"]
    assert all(each.material is None for each in find_backgrounds(mixed, "mixed", with_material=False))


def test_every_third_frame_of_a_video_is_a_background(tiny: Any, tmp_path: Path) -> None:
    video = tiny.mp4(tmp_path / "clip.mp4", range(8))
    found = backgrounds(video, "clip", every=3)
    assert [each.name for each in found] == ["clip_00000000", "clip_00000003", "clip_00000006"]
    assert found[1].source == f"{video}, frame 3"
    every = backgrounds(video, "clip", every=1)
    assert all((each.pictures[0] == every[3 * index].pictures[0]).all() for index, each in enumerate(found))
    assert (found[2].pictures[1] == found[0].pictures[0]).all()
    assert len(backgrounds(video, "clip")) == 1


def test_a_single_picture_gives_its_objects_itself(mixed: Path) -> None:
    (found,) = backgrounds(mixed / "0.png", "0")
    assert found.name == "0"
    assert len(found.pictures) == 1


def test_a_sequence_on_disk_is_what_is_rendered(mixed: Path, tmp_path: Path) -> None:
    background = backgrounds(mixed, "mixed")[1]
    folders = SequenceFolders(root=tmp_path / "out", name=background.name, sides=SHAKE_SIDES)
    result = synthesize_shake(background, folders, SETTINGS)
    assert (result.status, result.num_frames) == ("synthesized", 3)
    rendered = list(render_shake(background.pictures, replace(SETTINGS, seed=sequence_seed(0, "mixed_1"))))
    blur, sharp, motion = folders.folders
    for index, frame in enumerate(rendered):
        for folder, picture in ((blur, frame.blur), (sharp, frame.sharp)):
            written = cv2.imread(str(folder / f"{index:08d}.png"), cv2.IMREAD_UNCHANGED)
            assert written.dtype == np.uint16
            assert (written[..., ::-1] == picture).all()
        with np.load(motion / f"{index:08d}.npz") as arrays:
            assert sorted(arrays) == ["backward", "backward_valid", "forward", "forward_valid"]
            assert all((arrays[name] == getattr(frame, name)).all() for name in arrays)
    record = json.loads((tmp_path / "out" / "synthesis" / "mixed_1.json").read_text())
    assert [frame["exposure"] for frame in record["frames"]] == [frame.exposure for frame in rendered]
    assert np.shape([frame["transforms"] for frame in record["frames"]]) == (3, 2, 2, 3)


def test_a_finished_sequence_is_left_unless_its_pictures_change(mixed: Path, tmp_path: Path) -> None:
    first, second = backgrounds(mixed, "mixed")[2:]
    folders = SequenceFolders(root=tmp_path / "out", name="clip", sides=SHAKE_SIDES)
    assert synthesize_shake(first, folders, SETTINGS).status == "synthesized"
    assert synthesize_shake(first, folders, SETTINGS).status == "skipped"
    with pytest.raises(ValueError, match="has another source or settings"):
        synthesize_shake(second, folders, SETTINGS)
    assert synthesize_shake(second, folders, SETTINGS, overwrite=True).status == "synthesized"


def test_other_material_matters_only_to_objects(mixed: Path, tmp_path: Path) -> None:
    first, second = backgrounds(mixed, "mixed")[2:]
    alone = replace(SETTINGS, objects=0)
    folders = SequenceFolders(root=tmp_path / "out", name="clip", sides=SHAKE_SIDES)
    assert synthesize_shake(first, folders, alone).status == "synthesized"
    other = replace(first, pictures=(first.pictures[0], second.pictures[1]))
    assert synthesize_shake(other, folders, alone).status == "skipped"


def test_a_broken_picture_is_named(mixed: Path) -> None:
    (mixed / "1.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"1\.png: is no picture"):
        backgrounds(mixed, "mixed")
