from __future__ import annotations

from pathlib import Path

import pytest

from codecprior.errors import DatasetError
from codecprior.extraction.discover import discover


def make(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def names(root: Path) -> list[str]:
    return [sequence.name for sequence in discover(root)]


def test_folders_and_files_are_found_at_any_depth_in_natural_order(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("train/seq10/sharp/1.png", "train/seq9/sharp/1.jpg", "train/seq9/blur/1.BMP"),
        *("test/clip.MP4", "test/raw/a_4x4_30.yuv", "stream.266", "readme.txt", "train/seq9/labels.json"),
    )
    found = {sequence.name: sequence.kind for sequence in discover(tmp_path)}
    assert list(found.items()) == [
        ("stream", "bitstream"),
        ("test/clip", "video"),
        ("test/raw/a_4x4_30", "raw"),
        ("train/seq9/blur", "images"),
        ("train/seq9/sharp", "images"),
        ("train/seq10/sharp", "images"),
    ]


def test_a_frame_folder_is_one_sequence_with_its_own_name(tmp_path: Path) -> None:
    (sequence,) = discover(make(tmp_path / "walk", "1.png", "2.png"))
    assert (sequence.name, sequence.path, sequence.kind) == ("walk", tmp_path / "walk", "images")


def test_a_file_is_one_sequence(tmp_path: Path) -> None:
    make(tmp_path, "bikes.mp4")
    (sequence,) = discover(tmp_path / "bikes.mp4")
    assert (sequence.name, sequence.kind) == ("bikes", "video")


def test_pictures_beside_folders_of_pictures_are_a_sequence_too(tmp_path: Path) -> None:
    assert names(make(tmp_path, "a/1.png", "a/b/1.png")) == ["a", "a/b"]


def test_hidden_entries_and_own_outputs_are_no_input(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("a.mp4", "a.zarr/zarr.json", "a.zarr/x.png", "a.266", ".b.zarr.partial/x.png"),
        *(".hidden/x.png", "c/.x.png", "other.266", "c/y.png"),
    )
    assert names(tmp_path) == ["a", "c", "other"]


def test_equal_names_keep_their_extension(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "a.mov", "b.mp4", "b/1.png", "c.mp4", "d.y4m.mp4", "d.y4m")
    assert names(tmp_path) == ["a.mov", "a.mp4", "b", "b.mp4", "c", "d", "d.y4m.mp4"]


def test_names_are_unique_or_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "walk", "1.png", "walk/1.png")
    with pytest.raises(DatasetError, match="would both be called walk"):
        discover(root)


def test_links_that_form_a_loop_are_followed_once(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "a/1.png")
    (root / "a" / "up").symlink_to(root)
    (root / "0_again").symlink_to(root / "a")
    assert names(root) == ["a"]


def test_a_linked_folder_outside_is_followed(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "1.png")
    root = make(tmp_path / "data", "note.txt")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert names(root) == ["link"]


def test_a_broken_link_to_a_video_is_listed_so_that_it_fails_by_name(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "target", "reason"),
    [
        ((), "", "holds no sequence at any depth"),
        (("x.txt",), "", "holds no sequence at any depth"),
        (("x.txt",), "x.txt", "is no sequence"),
        (("x.png",), "x.png", "is no sequence"),
        ((), "gone", "no such file or folder"),
    ],
)
def test_nothing_to_extract_is_explained(tmp_path: Path, files: tuple[str, ...], target: str, reason: str) -> None:
    make(tmp_path, *files)
    with pytest.raises(DatasetError, match=reason):
        discover(tmp_path / target)
