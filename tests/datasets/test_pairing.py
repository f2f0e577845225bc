from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.datasets.pairing import Problem, SequencePair, entries_beside, pair_folders, some


@pytest.fixture
def sides(trees: Any, tmp_path: Path) -> tuple[Path, Path]:
    """Four frames on both sides."""
    trees.sides(tmp_path / "blur", tmp_path / "sharp")
    return tmp_path / "blur", tmp_path / "sharp"


def pair(sides: tuple[Path, Path]) -> tuple[SequencePair | None, list[Problem]]:
    return pair_folders("walk", "train", *sides)


def only(problems: list[Problem], severity: str = "error") -> tuple[str, str, str]:
    (problem,) = problems
    assert problem.severity == severity
    return problem.kind, problem.path.name, problem.message


def test_frames_of_equal_names_are_a_pair(sides: tuple[Path, Path]) -> None:
    found, problems = pair(sides)
    assert found
    assert not problems
    assert (found.num_frames, found.size) == (4, (176, 144))
    for side, folder in zip((found.blurry, found.sharp), sides, strict=True):
        assert side
        assert side.files == tuple(folder / f"00000{index}.png" for index in range(4))


def test_extensions_may_differ_but_not_stand_beside_each_other(trees: Any, sides: tuple[Path, Path]) -> None:
    for file in sides[0].iterdir():
        file.rename(file.with_suffix(".PNG"))
    assert pair(sides)[0]
    os.link(sides[0] / "000002.PNG", sides[0] / "000002.png")
    kind, name, _ = only(pair(sides)[1])
    assert kind == "duplicate-frame"
    assert name.startswith("000002.")


def test_a_frame_without_partner_is_named(sides: tuple[Path, Path]) -> None:
    (sides[1] / "000002.png").unlink()
    found, problems = pair(sides)
    assert not found
    kind, name, message = only(problems)
    assert (kind, name) == ("unpaired-frame", "000002.png")
    assert message == f"has no partner in {sides[1]} (4 frames here, 3 there)"


def test_a_renamed_frame_is_named(sides: tuple[Path, Path]) -> None:
    (sides[1] / "000002.png").rename(sides[1] / "2_sharp.png")
    kind, name, _ = only(pair(sides)[1])
    assert (kind, name) == ("unpaired-frame", "000002.png")


def test_both_sides_counted_from_another_number_are_paired_in_order(trees: Any, tmp_path: Path) -> None:
    trees.sides(tmp_path / "blur", tmp_path / "none", first=9)
    trees.sides(tmp_path / "none", tmp_path / "sharp", first=0, digits=5)
    found, problems = pair((tmp_path / "blur", tmp_path / "sharp"))
    assert found
    assert found.blurry
    assert found.blurry.files[1].name == "000010.png"
    kind, name, message = only(problems, "note")
    assert (kind, name) == ("paired-by-order", "blur")
    assert "begins with 000009.png" in message
    trees.sides(tmp_path / "sharp", tmp_path / "sharp", size=(160, 144), digits=5)
    assert [problem.kind for problem in pair((tmp_path / "blur", tmp_path / "sharp"))[1]] == [
        "paired-by-order",
        "mixed-size",
    ]


def test_other_lengths_are_not_paired_in_order(trees: Any, tmp_path: Path) -> None:
    trees.sides(tmp_path / "blur", tmp_path / "none", first=9)
    trees.sides(tmp_path / "none2", tmp_path / "sharp", frames=3)
    kind, name, message = only(pair((tmp_path / "blur", tmp_path / "sharp"))[1])
    assert (kind, name) == ("unpaired-frame", "000009.png")
    assert "nor have 3 more" in message


def test_a_gap_in_the_numbers_is_a_warning(sides: tuple[Path, Path]) -> None:
    for side in sides:
        (side / "000001.png").unlink()
    found, problems = pair(sides)
    assert found
    kind, name, _ = only(problems, "warning")
    assert (kind, name) == ("numbering-gap", "000002.png")


def test_a_stride_in_the_numbers_is_no_gap(sides: tuple[Path, Path]) -> None:
    for side in sides:
        (side / "000001.png").unlink()
        (side / "000003.png").unlink()
        (side / "000002.png").rename(side / "000005.png")
    found, problems = pair(sides)
    assert found
    assert not problems


@pytest.mark.parametrize("side", [0, 1])
def test_a_frame_of_another_size_is_named(trees: Any, sides: tuple[Path, Path], side: int, tmp_path: Path) -> None:
    trees.sides(tmp_path / "other", tmp_path / "other", size=(160, 144))
    (tmp_path / "other" / "000003.png").replace(sides[side] / "000003.png")
    kind, name, message = only(pair(sides)[1])
    assert (kind, name) == ("mixed-size", "000003.png")
    assert message == f"is 160x144 but {sides[0] / '000000.png'} is 176x144; all frames of a pair need one size"


def test_what_is_no_picture_or_a_dead_link_is_named(sides: tuple[Path, Path]) -> None:
    frame = sides[0] / "000001.png"
    frame.write_bytes(b"")
    assert only(pair(sides)[1]) == ("unreadable-frame", "000001.png", "is empty; replace or remove it")
    frame.unlink()
    frame.symlink_to("gone.png")
    kind, name, message = only(pair(sides)[1])
    assert (kind, name) == ("unreadable-frame", "000001.png")
    assert "No such file" in message


def test_a_missing_side_says_what_is_there_instead(sides: tuple[Path, Path]) -> None:
    sides[1].rename(sides[1].with_name("sharpened"))
    kind, name, message = only(pair(sides)[1])
    assert (kind, name) == ("missing-side", "sharp")
    assert message.endswith("has blur, sharpened")


def test_an_empty_side_is_named(sides: tuple[Path, Path]) -> None:
    for file in sides[0].iterdir():
        file.unlink()
    kind, name, message = only(pair(sides)[1])
    assert (kind, name) == ("missing-side", "blur")
    assert message.startswith("holds no pictures")


def test_what_is_not_used_is_named_and_links_back_and_nowhere_apart(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "used").mkdir(parents=True)
    for name in ("notes.txt", ".hidden"):
        (folder / name).touch()
    (folder / "up").symlink_to(tmp_path)
    (folder / "self").symlink_to("self")
    (folder / "gone").symlink_to("nothing")
    problems = {problem.path.name: (problem.kind, problem.severity) for problem in entries_beside(folder, ["used"])}
    assert problems == {
        "data": ("unknown-entry", "note"),
        "up": ("link-loop", "warning"),
        "self": ("broken-link", "warning"),
        "gone": ("broken-link", "warning"),
    }


@given(st.lists(st.sampled_from("abc")), st.integers(1, 5))
def test_a_list_of_names_is_as_long_as_it_may_be_and_counts_the_rest(names: list[str], most: int) -> None:
    text = some(names, most)
    said, _, more = text.partition(" and ")
    listed = said.split(", ") if said else []
    assert listed == names[:most]
    assert int(more.removesuffix(" more") or 0) == max(0, len(names) - most)
