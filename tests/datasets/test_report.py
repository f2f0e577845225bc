from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codecprior.datasets.layouts import recognise
from codecprior.datasets.report import check_frames, facts
from codecprior.errors import DatasetError


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def test_facts_count_what_can_be_used(trees: Any, tmp_path: Path) -> None:
    root = trees.dvd(tmp_path)
    (root / "quantitative_datasets" / "IMG_0001" / "GT" / "00001.jpg").unlink()
    summary = json.loads(json.dumps(facts(recognise(root))))
    assert summary["root"] == str(root / "quantitative_datasets")
    assert summary["layout"] == "dvd"
    assert summary["splits"] == {"train": {"sequences": 1, "pairs": 4}, "test": {"sequences": 1, "pairs": 4}}
    assert summary["resolutions"] == {"176x144": 1, "112x144": 1}
    first = summary["problems"][0]
    assert (first["kind"], first["severity"]) == ("unpaired-frame", "error")
    assert first["path"].endswith("IMG_0001/input/00001.jpg")


def test_truncated_pictures_are_found_when_frames_are_checked(trees: Any, tmp_path: Path) -> None:
    root = trees.gopro(tmp_path)
    damaged = [
        root / "train" / "GOPR0372_07_00" / "sharp" / "000048.png",
        root / "test" / "GOPR0384_11_05" / "blur" / "000047.png",
    ]
    for file in damaged:
        truncate(file)
    found = recognise(root)
    assert len(found.pairs) == 3
    done: list[tuple[int, int | None]] = []
    checked = check_frames(found, lambda *counts: done.append(counts))
    assert [pair.name for pair in checked.pairs] == ["GOPR0374_11_03"]
    assert [(p.kind, p.severity, p.path) for p in checked.problems[:2]] == [
        ("damaged-frame", "error", file) for file in damaged
    ]
    assert checked.problems[2:] == found.problems
    assert done == [(number, 24) for number in range(1, 25)]


def test_whole_frames_pass_the_check(trees: Any, tmp_path: Path) -> None:
    for found in (recognise(trees.generic(tmp_path / "generic")), recognise(trees.hq(tmp_path / "hq"))):
        assert check_frames(found) == found


def test_samples_of_a_raw_file_that_its_depth_does_not_allow_are_found(trees: Any, tmp_path: Path) -> None:
    root = trees.hq(tmp_path)
    deep = root / "Deep_176x144_50fps_10bit_420.yuv"
    deep.write_bytes(deep.read_bytes()[:-2] + b"\xff\xff")
    checked = check_frames(recognise(root))
    assert len(checked.pairs) == 2
    assert (checked.problems[0].kind, checked.problems[0].path) == ("damaged-frame", deep)
    assert checked.problems[0].message.startswith("frame 2 has a sample of 65535")


def test_a_dataset_with_nothing_but_damage_is_refused(trees: Any, tmp_path: Path) -> None:
    root = trees.generic(tmp_path, sequences=1)
    truncate(root / "blur" / "seq0" / "000002.png")
    found = recognise(root)
    with pytest.raises(DatasetError, match=r"seq0/000002\.png: is truncated or damaged; .*; no sequence can be used"):
        check_frames(found)
