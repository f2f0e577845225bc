from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from codecprior.datasets.hq import HqList, find_raw, read_hq_list
from codecprior.datasets.layouts import recognise
from codecprior.datasets.splits import load_yaml, packaged
from codecprior.errors import DatasetError
from codecprior.media.raw import RawFormat


@pytest.fixture
def listed(tmp_path: Path) -> HqList:
    return read_hq_list(tmp_path)


def test_the_list_knows_what_mcml_names_do_not_tell(tmp_path: Path, listed: HqList) -> None:
    frame = 3840 * 2160 * 3 // 2
    path = tmp_path / "S07_R_00_00.yuv"
    with path.open("wb") as file:
        file.truncate(2 * frame)
    frames, problems = listed.measure(path)
    assert frames
    assert not problems
    assert (frames.num_frames, frames.size) == (2, (3840, 2160))
    assert frames.raw == RawFormat(width=3840, height=2160, bit_depth=8, frame_rate=Fraction(30))


def test_a_name_is_believed_and_its_difference_from_the_list_told(tmp_path: Path, listed: HqList) -> None:
    path = tmp_path / "CatRobot_64x48_60fps_10bit_420_jvet.yuv"
    with path.open("wb") as file:
        file.truncate(300 * 64 * 48 * 3)
    frames, problems = listed.measure(path)
    assert frames
    assert (frames.num_frames, frames.size) == (300, (64, 48))
    (problem,) = problems
    assert (problem.kind, problem.severity) == ("differs-from-list", "warning")
    assert problem.message == "differs from what the list says about CatRobot1: width 64, not 3840, height 48, not 2160"


def test_sequences_that_are_not_listed_are_used_and_entries_of_the_dataset_come_first(
    trees: Any, tmp_path: Path
) -> None:
    found = recognise(trees.hq(tmp_path))
    assert {pair.name: pair.size for pair in found.pairs} == {
        "Deep_176x144_50fps_10bit_420": (176, 144),
        "S01_R_00_00": (176, 144),
        "Walk_176x144_24": (176, 144),
    }
    assert all(pair.blurry is None and pair.sharp and pair.sharp.num_frames == 3 for pair in found.pairs)
    assert not found.problems


def test_y4m_files_tell_themselves(tiny: Any, tmp_path: Path, listed: HqList) -> None:
    frames, problems = listed.measure(tiny.y4m(tmp_path / "walk.y4m", 2))
    assert frames
    assert not problems
    assert (frames.num_frames, frames.size, frames.raw) == (2, (176, 144), None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("walk.yuv", "the name does not tell the size"),
        ("walk_64x48_24.yuv", "100 bytes are no whole number"),
        ("walk_64x48_10_99bit.yuv", "raw bit depth 99"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, listed: HqList, name: str, reason: str) -> None:
    (tmp_path / name).write_bytes(bytes(100))
    frames, (problem,) = listed.measure(tmp_path / name)
    assert frames is None
    assert (problem.kind, problem.severity, problem.path) == ("unreadable-file", "error", tmp_path / name)
    assert problem.message.startswith(reason)


def test_files_are_found_at_any_depth_once_and_what_lies_beside_is_named(tiny: Any, tmp_path: Path) -> None:
    deep = tiny.yuv(tmp_path / "ClassB" / "a_176x144_24.yuv")
    (tmp_path / "again").symlink_to(tmp_path / "ClassB")
    (tmp_path / "ClassB" / "up").symlink_to(tmp_path)
    (tmp_path / "docs").mkdir()
    files, problems = find_raw(tmp_path)
    assert files == [deep]
    assert [(problem.kind, problem.path.name, problem.message) for problem in problems] == [
        ("link-loop", "up", f"is a link back to {tmp_path} and is not followed; remove it"),
        ("unknown-entry", tmp_path.name, "does not use again, docs"),
    ]


def test_every_entry_of_the_packaged_list_can_be_opened(listed: HqList) -> None:
    names = load_yaml(packaged("hq.yaml"))
    assert len(names) == 26
    assert all(name.lower() in listed.entries for name in names)
    assert listed.entries["catrobot"] is listed.entries["catrobot1"]


@pytest.mark.parametrize("text", ["- a", "a: 1", "a: {width: 3}", "a: {width: x, height: 1}", "a: {speed: 3}"])
def test_a_damaged_list_of_a_dataset_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "hq.yaml").write_text(text)
    with pytest.raises(DatasetError, match=r"hq\.yaml: .*; write 'Name: \{width: 3840"):
        read_hq_list(tmp_path)
