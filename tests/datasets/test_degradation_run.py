from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from codecprior.datasets.degradation.clip import degrade_frames, draw
from codecprior.datasets.degradation.recipe import load_recipe
from codecprior.datasets.degradation.run import (
    RECORD_NAME,
    DegradationJob,
    DegradationSettings,
    check_outputs,
    clip_parameters,
    degrade_here,
    degrade_sequence,
)
from codecprior.errors import DatasetError, MediaError
from codecprior.extraction.cluster import each_on_cluster
from codecprior.media import RawFormat, open_frames
from codecprior.media.rgb import rgb_frames

RECIPE = load_recipe("codeformer")


def job(path: Path, output: Path, name: str = "clip") -> DegradationJob:
    return DegradationJob(name=name, path=path, output=output)


def content(folder: Path) -> dict[str, str]:
    """Pictures below a folder by name."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD_NAME)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", ["pictures", "mp4", "y4m"])
def test_a_folder_of_frames_is_what_the_pieces_give(tiny: Any, tmp_path: Path, form: str) -> None:
    path = getattr(tiny, form)(tmp_path / f"clip.{form}")
    progress = []
    settings = DegradationSettings(recipe=RECIPE, seed=3)
    result = degrade_sequence(job(path, tmp_path / "out"), settings, lambda *state: progress.append(state))
    assert (result.status, result.num_frames, result.error) == ("degraded", 6, None)
    assert progress == [(done, 6) for done in range(1, 7)]
    expected = degrade_frames(rgb_frames(open_frames(path)), draw(RECIPE, 3, "clip", (176, 144)))
    np.testing.assert_array_equal(list(rgb_frames(open_frames(tmp_path / "out"))), list(expected))
    stems = [str(index) if form == "pictures" else f"{index:08d}" for index in range(6)]
    assert names(tmp_path / "out") == [*(f"{stem}.png" for stem in stems), RECORD_NAME]


def test_the_record_says_how_to_make_the_frames_again(tiny: Any, tmp_path: Path) -> None:
    path = tiny.pictures(tmp_path / "clip", extension="jpg")
    settings = DegradationSettings(recipe=load_recipe("real-esrgan"), seed=9, extension="jpg", command=("a", "b"))
    degrade_sequence(job(path, tmp_path / "out"), settings)
    record = json.loads((tmp_path / "out" / RECORD_NAME).read_text())
    parameters = clip_parameters(job(path, tmp_path / "out"), settings)
    assert {key: record[key] for key in ("seed", "name", "size", "operations")} == parameters.to_dict()
    assert record["recipe"] == {"name": "real-esrgan", **settings.recipe.document}
    assert record["source"]["sha256"] == open_frames(path).digest()
    assert (record["num_frames"], record["extension"], record["command"]) == (6, "jpg", ["a", "b"])
    assert set(record["versions"]) == {"codecprior", "numpy", "opencv"}
    assert names(tmp_path / "out")[0] == "0.jpg"


def test_16_bit_pictures_and_10_bit_files_become_8_bit_frames(tiny: Any, tmp_path: Path) -> None:
    deep = tiny.pictures(tmp_path / "deep", depth=16)
    shallow = tiny.pictures(tmp_path / "shallow")
    for path in (deep, shallow):
        degrade_sequence(job(path, tmp_path / f"{path.name}-out"), DegradationSettings(recipe=RECIPE))
    assert content(tmp_path / "deep-out") == content(tmp_path / "shallow-out")
    path = tmp_path / "ramp.yuv"
    path.write_bytes(np.arange(64, 940, dtype="<u2")[:864].tobytes())
    raw = RawFormat(width=36, height=24, bit_depth=10, chroma_format="4:0:0")
    degrade_sequence(job(path, tmp_path / "ramp"), DegradationSettings(recipe=RECIPE, raw=raw))
    (frame,) = rgb_frames(open_frames(tmp_path / "ramp"))
    assert (frame.dtype, frame.shape) == (np.uint8, (24, 36, 3))


def test_what_is_finished_is_skipped_and_everything_else_refused(tiny: Any, tmp_path: Path) -> None:
    path, output = tiny.pictures(tmp_path / "clip"), tmp_path / "out"
    first = DegradationSettings(recipe=RECIPE)
    degrade_sequence(job(path, output), first)
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert degrade_sequence(job(path, output), first).status == "skipped"
    for settings, difference in (
        (DegradationSettings(recipe=RECIPE, seed=1), "seed"),
        (DegradationSettings(recipe=load_recipe("real-esrgan")), "recipe"),
        (DegradationSettings(recipe=RECIPE, extension="jpg"), "extension"),
    ):
        with pytest.raises(DatasetError, match=f"out: holds frames made with another {difference}; use --overwrite"):
            degrade_sequence(job(path, output), settings)
    with pytest.raises(DatasetError, match="another name;"):
        degrade_sequence(job(path, output, "other"), first)
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before
    cv2.imwrite(str(path / "6.png"), np.zeros((144, 176, 3), np.uint8))
    with pytest.raises(DatasetError, match="another source;"):
        degrade_sequence(job(path, output), first)
    again = degrade_sequence(job(path, output), DegradationSettings(recipe=RECIPE, overwrite=True))
    assert (again.status, again.num_frames) == ("degraded", 7)
    (output / "3.png").unlink()
    with pytest.raises(DatasetError, match="out: holds 6 of 7 frames; use --overwrite"):
        degrade_sequence(job(path, output), first)


def test_folders_and_files_that_are_not_ours_are_left_alone(tiny: Any, tmp_path: Path) -> None:
    path = tiny.pictures(tmp_path / "clip")
    for name, text in (("empty", None), ("json", "{}"), ("list", "[]"), ("broken", "{"), ("photos", None)):
        folder = tmp_path / name
        folder.mkdir()
        if text is not None:
            (folder / RECORD_NAME).write_text(text)
        if name == "photos":
            (folder / "holiday.png").write_bytes(b"precious")
        if name == "empty":
            assert degrade_sequence(job(path, folder), DegradationSettings(recipe=RECIPE)).status == "degraded"
            continue
        with pytest.raises(DatasetError, match=f"{name}: exists and was not made here; use --overwrite"):
            degrade_sequence(job(path, folder), DegradationSettings(recipe=RECIPE))
    assert names(tmp_path / "photos") == ["holiday.png"]


@pytest.mark.parametrize("place", ["clip", "clip/out", "."])
def test_an_input_is_never_written_to(tiny: Any, tmp_path: Path, place: str) -> None:
    path = tiny.pictures(tmp_path / "clip")
    before = content(tmp_path)
    with pytest.raises(DatasetError, match=r"(lies in|holds) the input .*; choose an output elsewhere"):
        degrade_sequence(job(path, tmp_path / place), DegradationSettings(recipe=RECIPE, overwrite=True))
    assert content(tmp_path) == before


def test_outputs_that_would_lie_in_each_other_or_among_the_inputs_are_refused(tiny: Any, tmp_path: Path) -> None:
    outer, inner = tiny.pictures(tmp_path / "data" / "a"), tiny.pictures(tmp_path / "data" / "a" / "b")
    jobs = [job(outer, tmp_path / "out" / "a"), job(inner, tmp_path / "out" / "a" / "b")]
    with pytest.raises(DatasetError, match=r"a/b lies in .*a, and so would their outputs"):
        check_outputs(jobs, tmp_path / "data")
    check_outputs(jobs[:1], tmp_path / "data")
    with pytest.raises(DatasetError, match=r"lies in the input .*data;"):
        check_outputs([job(outer, tmp_path / "data" / "lq" / "a")], tmp_path / "data")


def test_a_sequence_that_fails_becomes_one_line_and_leaves_nothing(tiny: Any, tmp_path: Path) -> None:
    path = tiny.pictures(tmp_path / "clip")
    (path / "4.png").write_bytes((path / "4.png").read_bytes()[:-30])
    result = degrade_here(job(path, tmp_path / "new" / "out"), DegradationSettings(recipe=RECIPE))
    assert result.status == "failed"
    assert result.error == f"{path}/4.png: is truncated or damaged; replace or remove it"
    assert names(tmp_path / "new") == []
    assert "no such file" in str(degrade_here(job(tmp_path / "x.mp4", tmp_path / "y"), _settings()).error)


def _settings(**options: Any) -> DegradationSettings:
    return DegradationSettings(recipe=RECIPE, **options)


def test_two_processes_give_the_bytes_of_one_and_a_bad_sequence_fails_alone(tiny: Any, tmp_path: Path) -> None:
    paths = [tiny.pictures(tmp_path / "data" / name) for name in "abc"]
    (paths[1] / "2.png").write_bytes(b"no picture")

    def jobs(output: str) -> list[DegradationJob]:
        return [job(path, tmp_path / output / path.name, path.name) for path in paths]

    alone = [degrade_here(each, _settings()) for each in jobs("one")]
    degrade = partial(degrade_here, settings=_settings(threads=2))
    outcomes = [outcome for _, outcome in each_on_cluster(degrade, jobs("two"), workers=2)]
    results = sorted(outcomes, key=lambda result: result.name)
    assert [result.status for result in alone] == [result.status for result in results]
    assert [result.status for result in results] == ["degraded", "failed", "degraded"]
    assert "2.png" in str(results[1].error)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(content(tmp_path / "one")) == 12


def test_a_killed_run_leaves_no_folder_and_the_next_one_makes_the_same_bytes(tiny: Any, tmp_path: Path) -> None:
    path, output = tiny.pictures(tmp_path / "clip", 24), tmp_path / "out"
    program = """
import os, signal, sys
from pathlib import Path
from codecprior.datasets.degradation.recipe import load_recipe
from codecprior.datasets.degradation.run import DegradationJob, DegradationSettings, degrade_sequence
def progress(done, total):
    if done == 10:
        os.kill(os.getpid(), signal.SIGKILL)
job = DegradationJob(name="clip", path=Path(sys.argv[1]), output=Path(sys.argv[2]))
degrade_sequence(job, DegradationSettings(recipe=load_recipe("codeformer")), progress)
"""
    done = subprocess.run([sys.executable, "-c", program, path, output], check=False)
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) == [".out.partial", "clip"]
    assert degrade_sequence(job(path, output), _settings()).status == "degraded"
    assert names(tmp_path) == ["clip", "out"]
    degrade_sequence(job(path, tmp_path / "whole"), _settings())
    assert content(output) == content(tmp_path / "whole")


@pytest.mark.slow
def test_memory_stays_flat_over_a_4k_file(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(16, 236, 3840 * 2160 * 3 // 2).astype(np.uint8)
    path = tmp_path / "noise_3840x2160_30.yuv"
    with path.open("wb") as file:
        for shift in range(10):
            file.write(np.roll(frame, shift).tobytes())
    program = """
import sys
from pathlib import Path
from codecprior.datasets.degradation.recipe import load_recipe
from codecprior.datasets.degradation.run import DegradationJob, DegradationSettings, degrade_sequence
def progress(done, total):
    # Not ru_maxrss, which begins with what the parent had.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(done, int(peak.split()[1]) >> 10, flush=True)
job = DegradationJob(name="clip", path=Path(sys.argv[1]), output=Path(sys.argv[2]))
degrade_sequence(job, DegradationSettings(recipe=load_recipe("codeformer")), progress)
"""
    command = [sys.executable, "-c", program, path, tmp_path / "out"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    peaks = [int(line.split()[1]) for line in lines]
    assert len(peaks) == 10
    assert peaks[-1] < 1.1 * peaks[3]
    assert peaks[-1] < 1000  # MiB


def test_an_output_in_the_way_is_named(tiny: Any, tmp_path: Path) -> None:
    path = tiny.pictures(tmp_path / "clip")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MediaError, match=r"file/out: cannot be written \(Not a directory\)"):
        degrade_sequence(job(path, tmp_path / "file" / "out"), _settings())
