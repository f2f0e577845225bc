from __future__ import annotations

from pathlib import Path

import pytest

from codecprior.datasets.pairing import FrameFiles, SequencePair
from codecprior.datasets.splits import SplitList, packaged_list, read_splits
from codecprior.errors import DatasetError


def pairs(split: str, frames: dict[str, int]) -> list[SequencePair]:
    return [
        SequencePair(
            name=name,
            split=split,
            blurry=None,
            sharp=FrameFiles(path=Path(name), kind="images", num_frames=number, size=(4, 4)),
        )
        for name, number in frames.items()
    ]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "split", "sequences", "frames"),
    [
        ("GOPR0372_07_00", "train", 22, 2103),
        ("GOPR0372_07_00", "test", 11, 1111),
        ("IMG_0001", "train", 61, 5708),
        ("IMG_0001", "test", 10, 1000),
    ],
)
def test_the_packaged_lists_have_the_official_totals(name: str, split: str, sequences: int, frames: int) -> None:
    known = packaged_list(frozenset([name, "mine"]))
    assert known
    assert (len(known.splits[split]), sum(number or 0 for number in known.splits[split].values())) == (
        sequences,
        frames,
    )


def test_a_dataset_of_other_names_has_no_list() -> None:
    assert packaged_list(frozenset(["walk", "000"])) is None


def test_names_are_texts_and_may_be_patterns(tmp_path: Path) -> None:
    listed = read_splits(written(tmp_path / "s.yaml", "test: [007, 'street_*']\nval: {walk: 12}\ntrain: ['*']\n"))
    assert [listed.split_of(name) for name in ("007", "street_3", "walk", "7")] == ["test", "test", "val", "train"]
    assert listed.splits["val"] == {"walk": 12}


def test_an_exact_name_is_stronger_than_a_pattern(tmp_path: Path) -> None:
    listed = read_splits(written(tmp_path / "s.yaml", "train: ['*']\ntest: [walk]\n"))
    assert listed.split_of("walk") == "test"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"s\.yaml: names no splits; write each split as 'train: \[name, \.\.\.\]'"),
        ("train: walk", "split train is no list of names"),
        ("train: [[a]]", "split train is no list of names"),
        ("train: {a: many}", "a has 'many' frames"),
        ("train: [a]\ntest: [a]", "lists a in two splits; give it to one"),
        ("train: [a", r"s\.yaml: is no YAML"),
    ],
)
def test_a_damaged_list_is_one_message(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason) as caught:
        read_splits(written(tmp_path / "s.yaml", text))
    assert "\n" not in str(caught.value)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.yaml: cannot be read"):
        read_splits(tmp_path / "gone.yaml")


def test_differences_from_a_list_are_named_with_both_numbers() -> None:
    listed = SplitList(title="Mine", splits={"train": {"a": 5, "b": 6, "c": 7}, "test": {"d": 1}, "val": {"e": 1}})
    here = [*pairs("train", {"a": 5, "b": 4}), *pairs("test", {"d": 1, "new": 2}), *pairs("train", {"f": 1})]
    found = {(problem.kind, str(problem)) for problem in listed.differences(Path("set"), here, broken=set())}
    assert found == {
        ("frames-differ", "b: has 4 frames, but Mine has 6 in b"),
        ("unlisted-sequence", "set: has 2 sequences that Mine does not have: new, f"),
        ("missing-sequence", "set: split train lacks 1 sequence of Mine: c"),
        ("total-differs", "set: split train has 10 pairs in 3 sequences, but Mine has 18 in 3"),
        ("total-differs", "set: split test has 3 pairs in 2 sequences, but Mine has 1 in 1"),
        ("missing-split", "set: has no split val, which Mine has"),
    }


def test_a_sequence_in_the_wrong_split_is_named_and_a_broken_one_is_not_missing() -> None:
    listed = SplitList(title="Mine", splits={"train": {"a": None, "b": None}, "test": {"c": None}})
    found = listed.differences(Path("set"), pairs("train", {"a": 5, "c": 1}), broken={"b"})
    assert [(problem.kind, problem.severity) for problem in found] == [
        ("split-differs", "warning"),
        ("missing-split", "note"),
    ]
