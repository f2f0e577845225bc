from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from codecprior.datasets.layouts import LAYOUTS, Dataset, recognise
from codecprior.errors import ConfigError, DatasetError

BUILDERS = {name: name.replace("-", "_") for name in LAYOUTS}


def names(dataset: Dataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in dataset.pairs:
        found.setdefault(pair.split, []).append(pair.name)
    return found


def errors(dataset: Dataset) -> list[tuple[str, Path]]:
    return [(problem.kind, problem.path) for problem in dataset.problems if problem.severity == "error"]


def kinds(dataset: Dataset) -> Counter[str]:
    return Counter(problem.kind for problem in dataset.problems)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("gopro", {"train": ["GOPR0372_07_00", "GOPR0374_11_03"], "test": ["GOPR0384_11_05"]}),
        ("dvd", {"train": ["720p_240fps_1", "IMG_0001"], "test": ["IMG_0049"]}),
        ("hq", {"train": ["Deep_176x144_50fps_10bit_420", "S01_R_00_00", "Walk_176x144_24"]}),
        ("rvrt", {"train": ["run", "walk"], "test": ["run", "walk"]}),
        ("kair", {"train": ["IMG_0001"], "test": ["IMG_0003"]}),
        ("bsstnet", {"train": ["run", "walk"], "test": ["run", "walk"]}),
        ("cdvd-tsp", {"train": ["run", "walk"]}),
        ("generic", {"train": ["seq0", "seq1"]}),
    ],
)
@pytest.mark.parametrize("above", [0, 1])
def test_every_layout_is_recognised_with_its_splits(
    trees: Any, tmp_path: Path, layout: str, expected: dict[str, list[str]], above: int
) -> None:
    given = (tmp_path, tmp_path / "data")[1 - above]
    getattr(trees, BUILDERS[layout])(tmp_path / "data")
    found = recognise(given)
    assert found.layout == layout == recognise(given, layout).layout
    assert names(found) == expected
    assert not errors(found)
    assert found.root == tmp_path / "data" / ("quantitative_datasets" if layout == "dvd" else "")
    for pair in found.pairs:
        sides = [pair.sharp] if layout == "hq" else [pair.blurry, pair.sharp]
        assert all(side and (side.num_frames, side.size) == (pair.num_frames, pair.size) for side in sides)
        assert (pair.blurry is None) == (layout == "hq")


def test_a_split_alone_is_recognised_and_the_other_one_missed(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path)
    found = recognise(root / "test")
    assert names(found) == {"test": ["GOPR0384_11_05"]}
    assert kinds(found)["missing-split"] == 1
    assert names(recognise(trees.bsstnet(tmp_path / "repack") / "test")) == {"test": ["run", "walk"]}


def test_gopro_without_folders_for_splits_is_split_by_its_list(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path / "old")
    flat = tmp_path / "flat"
    flat.mkdir()
    for sequence in root.glob("*/*"):
        sequence.rename(flat / sequence.name)
    assert names(recognise(flat)) == {"train": ["GOPR0372_07_00", "GOPR0374_11_03"], "test": ["GOPR0384_11_05"]}


def test_either_blur_of_gopro_is_used(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path / "both")
    for blur in ("blur", "blur_gamma"):
        assert {pair.blurry.path.name for pair in recognise(root, blur=blur).pairs if pair.blurry} == {blur}
    gamma = trees.gopro(tmp_path / "gamma", blurs=["blur_gamma"])
    with pytest.raises(DatasetError, match=r"GOPR0372_07_00/blur: is missing.* has blur_gamma, sharp and 2 more"):
        recognise(gamma)
    assert len(recognise(gamma, blur="blur_gamma").pairs) == 3


def test_upright_and_other_sizes_are_kept_apart(trees: Any, tmp_path: Path) -> None:
    sizes = {pair.name: pair.size for pair in recognise(trees.dvd(tmp_path)).pairs}
    assert sizes == {"720p_240fps_1": (176, 144), "IMG_0001": (176, 144), "IMG_0049": (112, 144)}


def test_generic_folders_may_be_split(trees: Any, tmp_path: Path) -> None:
    root = trees.generic(tmp_path, sequences=1, splits=("train", "validation", "test"))
    assert names(recognise(root)) == {"train": ["seq0"], "val": ["seq0"], "test": ["seq0"]}


def test_known_totals_are_checked_and_both_numbers_told(trees: Any, tmp_path: Path) -> None:
    found = recognise(trees.gopro(tmp_path))
    told = [problem.message for problem in found.problems if problem.kind == "total-differs"]
    assert told == [
        "split train has 8 pairs in 2 sequences, but GoPro has 2,103 in 22",
        "split test has 4 pairs in 1 sequence, but GoPro has 1,111 in 11",
    ]
    missing = next(problem for problem in found.problems if problem.kind == "missing-sequence")
    assert missing.message.startswith("split train lacks 20 sequences of GoPro: GOPR0372_07_01, ")


def test_a_repack_is_checked_against_the_dataset_that_it_repacks(trees: Any, tmp_path: Path) -> None:
    root = trees.generic(tmp_path, sequences=1)
    for side in ("blur", "sharp"):
        (root / side / "seq0").rename(root / side / "GOPR0384_11_00")
    found = recognise(root)
    assert names(found) == {"test": ["GOPR0384_11_00"]}
    assert kinds(found)["total-differs"] == 1


def test_a_sequence_renamed_is_missed_and_unlisted(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path)
    (root / "train" / "GOPR0374_11_03").rename(root / "train" / "my_walk")
    found = recognise(root)
    assert names(found)["train"] == ["GOPR0372_07_00", "my_walk"]
    assert kinds(found)["unlisted-sequence"] == 1
    assert any("GOPR0374_11_03" in p.message or "21 sequences" in p.message for p in found.problems)


def test_a_file_of_splits_is_the_only_word(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path / "data")
    splits = tmp_path / "mine.yaml"
    splits.write_text("val: [GOPR0372_07_00, gone]\ntrain: {GOPR0384_11_05: 9}\n")
    found = recognise(root, splits=splits)
    assert names(found) == {"train": ["GOPR0384_11_05"], "val": ["GOPR0372_07_00"]}
    told = {problem.kind: problem.message for problem in found.problems}
    assert told["sequence-without-split"] == "does not use what mine.yaml gives no split: GOPR0374_11_03"
    assert told["missing-sequence"] == "split val lacks 1 sequence of mine.yaml: gone"
    assert told["frames-differ"] == "has 4 frames, but mine.yaml has 9 in GOPR0384_11_05"
    splits.write_text("val: [nothing]")
    with pytest.raises(DatasetError, match="no sequence is in a split; no sequence can be used"):
        recognise(root, splits=splits)


def test_two_layouts_that_fit_are_told_apart_by_the_user(trees: Any, tmp_path: Path) -> None:
    root = trees.cdvd_tsp(trees.generic(tmp_path))
    with pytest.raises(DatasetError, match=r"fits cdvd-tsp \(.*\) and generic \(.*\); choose one with --layout"):
        recognise(root)
    found = recognise(root, "generic")
    assert found.layout == "generic"
    assert "missing-side" in kinds(found)  # the sequences of blur/ that only gt/ has
    assert any("gt" in problem.message for problem in found.problems if problem.kind == "unknown-entry")


def test_several_datasets_are_not_mixed(trees: Any, tmp_path: Path) -> None:
    trees.gopro(tmp_path / "GOPRO_Large")
    trees.generic(tmp_path / "mine")
    with pytest.raises(DatasetError, match=r"several datasets, .*GOPRO_Large \(gopro\), .*mine \(generic\); give one"):
        recognise(tmp_path)
    assert recognise(tmp_path, "gopro").root == tmp_path / "GOPRO_Large"


def test_raw_files_in_several_folders_are_one_dataset(tiny: Any, tmp_path: Path) -> None:
    tiny.yuv(tmp_path / "ClassA" / "a_176x144_24.yuv")
    tiny.yuv(tmp_path / "ClassB" / "b_176x144_24.yuv")
    found = recognise(tmp_path)
    assert (found.layout, found.root, names(found)) == ("hq", tmp_path, {"train": ["a_176x144_24", "b_176x144_24"]})


def test_one_bad_sequence_is_left_out_alone(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path)
    frame = root / "train" / "GOPR0372_07_00" / "sharp" / "000049.png"
    frame.unlink()
    found = recognise(root)
    assert names(found) == {"train": ["GOPR0374_11_03"], "test": ["GOPR0384_11_05"]}
    assert errors(found) == [("unpaired-frame", root / "train" / "GOPR0372_07_00" / "blur" / "000049.png")]


def test_a_sequence_with_one_side_is_named(trees: Any, tmp_path: Path) -> None:
    root = trees.generic(tmp_path)
    shutil.rmtree(root / "sharp" / "seq1")
    found = recognise(root)
    assert names(found) == {"train": ["seq0"]}
    assert errors(found) == [("missing-side", root / "sharp" / "seq1")]


@pytest.mark.parametrize("linked", [False, True])
def test_the_same_folder_twice_is_used_once(trees: Any, tmp_path: Path, linked: bool) -> None:
    root = trees.gopro(tmp_path / "data")
    if linked:
        (tmp_path / "link").symlink_to("data")
        root = tmp_path / "link"
    link = root / "train" / "GOPR0001_00_00"
    link.symlink_to("GOPR0372_07_00")
    found = recognise(root)
    assert names(found)["train"] == ["GOPR0372_07_00", "GOPR0374_11_03"]
    assert errors(found) == [("duplicate-sequence", link / "blur")]
    told = next(problem for problem in found.problems if problem.severity == "error")
    assert f"is {root / 'train' / 'GOPR0372_07_00' / 'blur'} once more" in told.message


def test_a_sequence_in_train_and_test_is_in_neither(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path)
    shutil.copytree(root / "test" / "GOPR0384_11_05", root / "train" / "GOPR0384_11_05")
    found = recognise(root)
    assert names(found) == {"train": ["GOPR0372_07_00", "GOPR0374_11_03"]}
    assert errors(found) == [("duplicate-sequence", root / "test" / "GOPR0384_11_05" / "blur")]


def test_equal_names_with_other_frames_are_only_noted(trees: Any, tmp_path: Path) -> None:
    for name, extension in (("png", "png"), ("equal_sizes", "bmp")):
        root = trees.generic(tmp_path / name, splits=("train", "test"), extension=extension)
        found = recognise(root)
        assert len(found.pairs) == 4
        assert [(problem.kind, problem.severity) for problem in found.problems] == [("shared-name", "note")]


def test_links_in_circles_end_and_are_named(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path)
    (root / "train" / "up").symlink_to(root)
    (root / "train" / "GOPR0372_07_00" / "again").symlink_to(root / "train")
    (root / "self").symlink_to("self")
    found = recognise(root)
    assert len(found.pairs) == 3
    assert {(problem.kind, problem.path.name) for problem in found.problems if "link" in problem.kind} == {
        ("link-loop", "up"),
        ("link-loop", "again"),
        ("broken-link", "self"),
    }


def test_a_side_that_links_to_itself_is_an_error_of_its_sequence(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path)
    side = root / "train" / "GOPR0372_07_00" / "blur"
    shutil.rmtree(side)
    side.symlink_to("blur")
    found = recognise(root)
    assert len(found.pairs) == 2
    assert errors(found) == [("missing-side", side)]


def test_nothing_beside_a_dataset_is_passed_over_in_silence(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path / "GOPRO_Large")
    strange = [tmp_path / "docs", root / "extra", root / "train" / "notes", root / "train" / "GOPR0372_07_00" / "depth"]
    for folder in strange:
        folder.mkdir()
    (root / "train" / "GOPR0372_07_00" / "blur" / "labels.json").touch()
    found = recognise(tmp_path)
    notes = {problem.path: problem.message for problem in found.problems if problem.kind == "unknown-entry"}
    assert notes == {
        **{folder.parent: f"does not use {folder.name}" for folder in strange},
        root / "train" / "GOPR0372_07_00" / "blur": "does not use labels.json",
    }


@pytest.mark.parametrize("folders", [(), ("blur", "sharp"), ("a/b/c/d/blur/seq",)])
def test_a_tree_without_a_layout_says_which_are_read(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"holds no dataset; looked for gopro: \{train,test\}/.*; generic: "):
        recognise(tmp_path)


def test_a_side_that_no_layout_knows_is_explained(trees: Any, tmp_path: Path) -> None:
    root = trees.generic(tmp_path)
    (root / "sharp").rename(root / "clean")
    with pytest.raises(DatasetError, match=r"has but one side of bsstnet .* and cdvd-tsp .* and generic"):
        recognise(root)
    missing = re.escape(f"{root}/sharp/seq0: is missing, the other side of {root}/blur/seq0; {root} has blur, clean")
    with pytest.raises(DatasetError, match=rf"{missing} and 1 more; no sequence can be used"):
        recognise(root, "generic")


def test_frames_of_many_clips_in_one_folder_are_no_sequence(trees: Any, tmp_path: Path) -> None:
    trees.sides(tmp_path / "train" / "blur", tmp_path / "train" / "sharp")
    with pytest.raises(DatasetError, match="holds no dataset"):
        recognise(tmp_path)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone: no such folder"):
        recognise(tmp_path / "gone")
    with pytest.raises(ConfigError, match="layout 'reds': use one of gopro, dvd, "):
        recognise(tmp_path, "reds")
    with pytest.raises(ConfigError, match="blur 'more': use one of blur, blur_gamma"):
        recognise(tmp_path, blur="more")


def test_what_blur_synthesis_writes_beside_the_sides_is_part_of_a_dataset(trees: Any, tmp_path: Path) -> None:
    root = trees.generic(tmp_path / "pairs")
    for name in ("motion", "synthesis"):
        (root / name).mkdir()
    assert recognise(root).problems == ()
