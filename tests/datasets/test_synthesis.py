from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecprior.datasets.layouts import recognise
from codecprior.datasets.synthesis import SequenceFolders, sequence_seed
from codecprior.errors import DatasetError

PICTURE = np.zeros((32, 48, 3), np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> SequenceFolders:
    return SequenceFolders(root=tmp_path, name="clip")


def write(folders: SequenceFolders, made_from: dict[str, Any], count: int = 2) -> None:
    frames: list[dict[str, Any]] = []
    with folders.writing(made_from, "source", frames) as writers:
        for index in range(count):
            for writer in writers:
                writer.write(PICTURE)
            frames.append({"index": index})


def test_a_written_sequence_is_found_by_what_it_was_made_from(folders: SequenceFolders) -> None:
    assert folders.finished_frames({"seed": 1}, overwrite=False) == 0
    write(folders, {"seed": 1, "range": (1, 2)})
    assert folders.finished_frames({"seed": 1, "range": (1, 2)}, overwrite=False) == 2
    with pytest.raises(DatasetError, match=r"blur/clip: has another source or settings; use --overwrite"):
        folders.finished_frames({"seed": 2}, overwrite=False)
    assert folders.finished_frames({"seed": 2}, overwrite=True) == 0


def test_a_written_tree_is_a_dataset(folders: SequenceFolders) -> None:
    write(folders, {"seed": 1})
    found = recognise(folders.root)
    assert (found.layout, [pair.name for pair in found.pairs], found.pairs[0].num_frames) == ("generic", ["clip"], 2)
    assert {problem.severity for problem in found.problems} <= {"note"}


def test_a_record_is_json_with_a_line_for_each_frame(folders: SequenceFolders) -> None:
    write(folders, {"seed": 1})
    text = (folders.root / "synthesis" / "clip.json").read_text()
    assert '    {"index": 0},\n    {"index": 1}\n  ]\n}\n' in text
    record = json.loads(text)
    assert record["finished"] is True
    assert record["made_from"] == {"seed": 1}
    assert record["frames"] == [{"index": 0}, {"index": 1}]


def test_what_a_run_ended_between_its_last_steps_is_made_again(folders: SequenceFolders) -> None:
    write(folders, {"seed": 1})
    record = folders.root / "synthesis" / "clip.json"
    record.write_text(record.read_text().replace('"finished": true', '"finished": false'))
    assert folders.finished_frames({"seed": 1}, overwrite=False) == 0
    assert folders.finished_frames({"seed": 2}, overwrite=False) == 0
    write(folders, {"seed": 2}, count=3)
    assert folders.finished_frames({"seed": 2}, overwrite=False) == 3


def test_a_side_that_was_removed_is_made_again(folders: SequenceFolders) -> None:
    write(folders, {"seed": 1})
    folders.folders[1].rename(folders.root / "elsewhere")
    assert folders.finished_frames({"seed": 1}, overwrite=False) == 0


def test_an_error_leaves_nothing(folders: SequenceFolders) -> None:
    def fail() -> None:
        with folders.writing({"seed": 1}, "source", []) as (blur, _):
            blur.write(PICTURE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not [path for path in folders.root.rglob("*") if path.is_file()]


def test_folders_of_someone_else_are_not_touched(folders: SequenceFolders) -> None:
    folders.folders[1].mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"sharp/clip: was not made by this command; use --overwrite"):
        folders.finished_frames({"seed": 1}, overwrite=False)
    assert folders.finished_frames({"seed": 1}, overwrite=True) == 0


def test_a_record_that_is_none_is_named(folders: SequenceFolders) -> None:
    write(folders, {"seed": 1})
    for content in ("{", "[]", "{}"):
        (folders.root / "synthesis" / "clip.json").write_text(content)
        with pytest.raises(DatasetError, match=r"synthesis/clip\.json: is no record of a synthesised sequence"):
            folders.finished_frames({"seed": 1}, overwrite=False)


def test_each_sequence_has_a_seed_of_its_own() -> None:
    seeds = {sequence_seed(seed, name) for seed in range(20) for name in ("clip", "clip1", "other")}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert sequence_seed(0, "clip") == 12061245215383875506
