"""``codecprior synthesize-blur`` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

FRAMES = [f"{index:08d}.png" for index in range(2)]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file but the records, which name the command."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def dataset(tiny: Any, tmp_path: Path) -> Path:
    """A folder of pictures and two videos, at two depths."""
    tiny.pictures(tmp_path / "data" / "walk" / "a")
    tiny.y4m(tmp_path / "data" / "walk" / "b.y4m")
    tiny.mp4(tmp_path / "data" / "ride.mp4")
    return tmp_path / "data"


# ---- averages


def test_it_writes_both_sides_and_says_so(cli: Any, frames: Path, tmp_path: Path) -> None:
    done = cli("synthesize-blur", frames, "-o", tmp_path / "out", "--frames", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path}/out/blur/clip: 2 frames, ")
    assert sorted(tree(tmp_path / "out")) == [f"{side}/clip/{name}" for side in ("blur", "sharp") for name in FRAMES]
    again = cli("synthesize-blur", frames, "-o", tmp_path / "out", "--frames", 3)
    assert again.stdout == f"{tmp_path}/out/blur/clip: finished before, 2 frames\n"


def test_options_reach_the_frames_and_the_record(cli: Any, tiny: Any, tmp_path: Path) -> None:
    raw = tiny.yuv(tmp_path / "plain.yuv")
    assert "plain.yuv: the name does not tell the size" in cli.fails("synthesize-blur", raw, "-o", tmp_path / "out")
    layout = ["--size", "176x144", "--bit-depth", 8, "--chroma-format", "4:2:0"]
    how = ["--frames", "3-5", "--stride", 1, "--interpolate", 2, "--crf", "linear", "--seed", 3, "--split", "test"]
    assert cli("synthesize-blur", raw, "-o", tmp_path / "out", *layout, *how).returncode == 0
    record = json.loads((tmp_path / "out" / "test" / "synthesis" / "plain.json").read_text())
    made = record["made_from"]["averaging"]
    assert made == {"frames": made["frames"], "stride": 1, "crf": "linear", "interpolate": 2, "seed": 3}
    assert made["frames"] in ([3, 3], [5, 5])
    assert len(record["frames"]) == 7 - made["frames"][0]
    assert record["command"][1:3] == ["synthesize-blur", str(raw)]


def test_a_dataset_becomes_one_level_of_sequences(cli: Any, dataset: Path, tmp_path: Path) -> None:
    command = ["synthesize-blur", dataset, "-o", tmp_path / "out", "--frames", "3-5"]
    done = cli(*command, "--dry-run")
    assert len(done.stdout.splitlines()) == 3
    assert f"{dataset}/walk/b.y4m -> {tmp_path}/out/{{blur,sharp}}/walk_b (frames " in done.stdout
    planned = json.loads(cli(*command, "--dry-run", "--json").stdout)
    assert [each["output"].rpartition("/")[2] for each in planned] == ["ride", "walk_a", "walk_b"]
    assert not (tmp_path / "out").exists()
    results = json.loads(cli(*command, "--json").stdout)
    assert [(each["name"], each["status"]) for each in results] == [
        (name, "synthesized") for name in ("ride", "walk_a", "walk_b")
    ]
    assert results[0]["folders"] == [f"{tmp_path}/out/blur/ride", f"{tmp_path}/out/sharp/ride"]
    assert [each["num_frames"] for each in results] == [6 // each["frames"] for each in planned]


def test_workers_change_no_byte(cli: Any, dataset: Path, tmp_path: Path) -> None:
    for mode in (
        ["--frames", "3-5", "--interpolate", 2],
        ["--shake", "--size", "64x48", "--length", 2, "--objects", 1],
    ):
        assert cli("synthesize-blur", dataset, "-o", tmp_path / "alone", *mode).returncode == 0
        done = cli("synthesize-blur", dataset, "-o", tmp_path / "many", *mode, "--workers", 2, "--json")
        assert done.returncode == 0
        assert {each["status"] for each in json.loads(done.stdout)} == {"synthesized"}
        alone, many = tree(tmp_path / "alone"), tree(tmp_path / "many")
        assert alone == many
        (tmp_path / "alone").rename(tmp_path / f"alone{len(alone)}")
        (tmp_path / "many").rename(tmp_path / f"many{len(alone)}")


def test_a_sequence_that_fails_does_not_stop_the_others(cli: Any, dataset: Path, tmp_path: Path) -> None:
    (dataset / "walk" / "a" / "3.png").write_bytes(b"")
    done = cli("synthesize-blur", dataset, "-o", tmp_path / "out", "--frames", 3)
    assert done.returncode == 1
    assert f"Error: {dataset}/walk/a/3.png: is empty; replace or remove it\n" in done.stderr
    assert "1 of 3 sequences failed" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "blur").iterdir()) == ["ride", "walk_b"]


def test_other_settings_need_overwrite(cli: Any, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("synthesize-blur", frames, "-o", out, "--frames", 3).returncode == 0
    reason = cli.fails("synthesize-blur", frames, "-o", out, "--frames", 5)
    assert reason == f"{out}/blur/clip: has another source or settings; use --overwrite or choose another output"
    assert cli("synthesize-blur", frames, "-o", out, "--frames", 5, "--overwrite").returncode == 0
    assert sorted(tree(out)) == [f"{side}/clip/00000000.png" for side in ("blur", "sharp")]


def test_ctrl_c_leaves_nothing_half_done(cli: Any, tiny: Any, tmp_path: Path) -> None:
    clip, out = tiny.y4m(tmp_path / "clip.y4m", count=24), tmp_path / "out"
    command = ["synthesize-blur", clip, "-o", out, "--frames", 3, "--interpolate", 200]
    process = cli.start(*command)
    deadline = time.monotonic() + 30
    while not list(out.glob("blur/.clip.partial/*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "\nInterrupted. Finished work is kept; run the same command again to continue.\n"
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_a_killed_run_is_finished_by_the_next(cli: Any, tiny: Any, tmp_path: Path) -> None:
    clip, out = tiny.y4m(tmp_path / "clip.y4m", count=12), tmp_path / "out"
    command = ["synthesize-blur", clip, "-o", out, "--frames", 3, "--interpolate", 20]
    process = cli.start(*command)
    deadline = time.monotonic() + 30
    while not list(out.glob("blur/.clip.partial/*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (out / "blur" / "clip").exists()
    assert cli(*command).returncode == 0
    assert sorted(path.name for path in (out / "blur").iterdir()) == ["clip"]
    assert len(tree(out)) == 8


# ---- shake


def test_pictures_are_shaken_with_their_true_motion(cli: Any, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    how = ["--shake", "--size", "64x48", "--length", 2, "--speed", 4, "--exposure", "0.2-0.4", "--every", 4]
    done = cli("synthesize-blur", frames, "-o", out, *how)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        f"{out}/blur/clip_0",
        f"{out}/blur/clip_4",
    ]
    files = {"blur": ".png", "motion": ".npz", "sharp": ".png"}
    assert sorted(tree(out)) == [
        f"{side}/clip_{index}/0000000{number}{extension}"
        for side, extension in files.items()
        for index in (0, 4)
        for number in (0, 1)
    ]
    before, after = (cv2.imread(str(out / "sharp" / "clip_0" / name)) for name in FRAMES)
    motion = np.load(out / "motion" / "clip_0" / "00000001.npz")
    rows, cols = np.indices((48, 64), np.float32)
    warped = cv2.remap(before, np.stack([cols, rows], axis=-1) + motion["backward"], None, cv2.INTER_CUBIC)
    off, still_off = (np.abs(each.astype(float) - after)[motion["backward_valid"]].mean() for each in (before, warped))
    assert still_off < off / 4


def test_videos_and_single_pictures_are_shaken_too(cli: Any, tiny: Any, frames: Path, tmp_path: Path) -> None:
    how = ["--shake", "--size", "64x48", "--length", 1]
    video = tiny.mp4(tmp_path / "ride.mp4")
    planned = cli("synthesize-blur", video, "-o", tmp_path / "out", *how, "--dry-run").stdout
    assert planned == f"{video} -> {tmp_path}/out/{{blur,sharp,motion}}/ride_* (every 30)\n"
    assert cli("synthesize-blur", video, "-o", tmp_path / "out", *how, "--every", 4).returncode == 0
    assert cli("synthesize-blur", frames / "2.png", "-o", tmp_path / "out", *how).returncode == 0
    assert sorted(path.name for path in (tmp_path / "out" / "blur").iterdir()) == [
        "2",
        "ride_00000000",
        "ride_00000004",
    ]


def test_a_broken_picture_fails_alone(cli: Any, frames: Path, tmp_path: Path) -> None:
    (frames / "3.png").write_bytes(b"")
    done = cli("synthesize-blur", frames, "-o", tmp_path / "out", "--shake", "--size", "64x48", "--length", 1)
    assert done.returncode == 1
    assert f"Error: {frames}/3.png: is empty; replace or remove it\n" in done.stderr
    assert "1 of 6 sequences failed" in done.stderr
    assert len(list((tmp_path / "out" / "blur").iterdir())) == 5


# ---- what cannot be


def test_names_that_meet_are_refused(cli: Any, tiny: Any, tmp_path: Path) -> None:
    tiny.y4m(tmp_path / "data" / "a" / "b.y4m")
    tiny.y4m(tmp_path / "data" / "a_b.y4m")
    reason = cli.fails("synthesize-blur", tmp_path / "data", "-o", tmp_path / "out")
    assert reason.endswith("a_b.y4m would both be called a_b; rename one")


def test_an_output_in_the_input_is_refused(cli: Any, frames: Path) -> None:
    reason = cli.fails("synthesize-blur", frames, "-o", frames / "out")
    assert reason == f"{frames}/out: lies in the input {frames}; choose an output elsewhere"


def test_a_vvc_stream_is_refused(cli: Any, conformance_dir: Path, tmp_path: Path) -> None:
    reason = cli.fails("synthesize-blur", conformance_dir / "AMVR_A_HHI_3.bit", "-o", tmp_path / "out")
    assert "AMVR_A_HHI_3.bit: is a VVC stream" in reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--frames", 4], "frames 4: use an odd number from 3 on, so that one is in the middle, or a range"),
        (["--shake", "--exposure", 2], "exposure 2.0-2.0: use a range above 0 and up to 1"),
        (["--shake", "--zoom", 1], "zoom 1.0: use 0 or more and less than 1"),
    ],
)
def test_settings_that_cannot_be_give_one_line(
    cli: Any, frames: Path, tmp_path: Path, arguments: list[Any], reason: str
) -> None:
    assert cli.fails("synthesize-blur", frames, "-o", tmp_path / "out", *arguments) == reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--frames", "many"], "'many': give a number or a range, such as 7 or 7-13"),
        (["--frames", "3.5"], "'3.5': give a number or a range, such as 7 or 7-13"),
        (["--size", "64"], "'64': write it as WIDTHxHEIGHT"),
        (["--length", 3], "--length is for use with --shake"),
        (["--shake", "--stride", 3], "--stride is for use without --shake"),
        (["--shake", "--bit-depth", 8], "--bit-depth is for use without --shake"),
        (["--interpolate", 0], "0 is not in the range x>=1"),
    ],
)
def test_wrong_usage_exits_with_2(cli: Any, frames: Path, tmp_path: Path, arguments: list[Any], reason: str) -> None:
    done = cli("synthesize-blur", frames, "-o", tmp_path / "out", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
