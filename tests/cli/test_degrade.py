from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from codecprior.datasets.degradation.recipe import RECIPES
from codecprior.media import open_frames
from codecprior.media.rgb import rgb_frames


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_a_clip_becomes_a_folder_of_frames_and_is_skipped_the_next_time(cli: Any, tiny: Any, tmp_path: Path) -> None:
    clip, output = tiny.mp4(tmp_path / "clip.mp4"), tmp_path / "lq"
    planned = cli("degrade", clip, "-o", output, "--dry-run")
    assert planned.stdout.splitlines()[0] == f"{clip} -> {output}"
    assert planned.stdout.splitlines()[1].endswith("bilinear to 176x144")
    assert not output.exists()
    done = cli("degrade", clip, "-o", output)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{output}: 6 frames, ")
    assert [frame.shape for frame in rgb_frames(open_frames(output))] == [(144, 176, 3)] * 6
    assert cli("degrade", clip, "-o", output).stdout == f"{output}: finished before, 6 frames\n"
    assert "made with another seed; use --overwrite" in cli.fails("degrade", clip, "-o", output, "--seed", 1)
    assert cli("degrade", clip, "-o", output, "--seed", 1, "--overwrite").returncode == 0
    record = json.loads((output / "degradation.json").read_text())
    assert record["seed"] == 1
    assert record["command"][1:] == ["degrade", str(clip), "-o", str(output), "--seed", "1", "--overwrite"]


def test_a_dataset_keeps_its_shape_and_its_bytes_with_two_workers(cli: Any, tiny: Any, tmp_path: Path) -> None:
    tiny.pictures(tmp_path / "data" / "train" / "one", 4)
    tiny.y4m(tmp_path / "data" / "train" / "two.y4m", 3)
    raw = tiny.yuv(tmp_path / "data" / "three.yuv", 2)
    common = ("degrade", tmp_path / "data", "--recipe", "real-esrgan", "--size", "176x144", "--frame-rate", "25")
    alone = cli(*common, "-o", tmp_path / "a", "--json")
    results = {result["name"]: result for result in json.loads(alone.stdout)}
    assert {name: result["num_frames"] for name, result in results.items()} == {
        "train/one": 4,
        "train/two": 3,
        "three": 2,
    }
    assert cli(*common, "-o", tmp_path / "b", "--workers", 2).returncode == 0
    assert pictures(tmp_path / "a") == pictures(tmp_path / "b")
    assert sorted(pictures(tmp_path / "a"))[:3] == ["three/00000000.png", "three/00000001.png", "train/one/0.png"]
    assert json.loads((tmp_path / "a" / "three" / "degradation.json").read_text())["frame_rate"] == "25"
    raw.write_bytes(raw.read_bytes()[:-1])
    (tmp_path / "b" / "train" / "two" / "00000001.png").unlink()
    failed = cli(*common, "-o", tmp_path / "b", "--workers", 2)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-3:-2] == ["2 of 3 sequences failed:"]
    assert "one: finished before, 4 frames" in failed.stdout


def test_a_dry_run_says_everything_as_json(cli: Any, frames: Path, tmp_path: Path) -> None:
    (plan,) = json.loads(cli("degrade", frames, "-o", tmp_path / "lq", "--dry-run", "--json").stdout)
    assert (plan["input"], plan["output"], plan["name"]) == (str(frames), str(tmp_path / "lq"), "clip")
    assert [each["operation"] for each in plan["operations"]] == ["blur", "resize", "gaussian noise", "jpeg", "resize"]


def test_a_recipe_of_one_s_own_is_used_and_its_mistakes_are_one_line(cli: Any, frames: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps:\n- jpeg: {quality: 5}\n")
    command = ("degrade", frames, "-o", tmp_path / "lq", "--recipe", recipe)
    assert "JPEG 5, bilinear to 176x144" in cli(*command, "--dry-run").stdout
    recipe.write_text("steps:\n- jpeg: {quality: 5, speed: 9}\n")
    assert cli.fails(*command) == f"{recipe}: step 1 (jpeg): unknown key 'speed'; use quality"
    assert "use codeformer, " in cli.fails("degrade", frames, "-o", tmp_path / "lq", "--recipe", "mine")


def test_the_help_names_every_recipe(cli: Any) -> None:
    shown = " ".join(cli("degrade", "--help").stdout.split())
    assert f"{', '.join(RECIPES)}, or a file." in shown


def test_an_output_among_the_inputs_is_refused(cli: Any, frames: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for output in (frames, frames / "lq", tmp_path):
        assert "choose an output elsewhere" in cli.fails("degrade", frames, "-o", output, "--overwrite")
    assert "lies in the input" in cli.fails("degrade", tmp_path, "-o", tmp_path / "lq")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_degraded_is_one_line(cli: Any, tmp_path: Path) -> None:
    assert "no such file" in cli.fails("degrade", tmp_path / "none", "-o", tmp_path / "lq")
    assert "holds no sequence" in cli.fails("degrade", tmp_path, "-o", tmp_path.parent / f"{tmp_path.name}-lq")


def test_ctrl_c_leaves_no_process_and_no_half_folder_and_the_next_run_goes_on(
    cli: Any, tiny: Any, clips: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bikes.mp4").symlink_to(clips / "bikes.mp4")
    tiny.pictures(tmp_path / "data" / "short")
    command = ("degrade", tmp_path / "data", "-o", tmp_path / "lq", "--workers", 2)
    running = cli.start(*command)
    until = time.monotonic() + 60
    while not (tmp_path / "lq" / "short").exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.strip().splitlines() == [
        "Interrupted. Finished work is kept; run the same command again to continue."
    ]
    # A worker may finish what it has begun; what it has not, is not there.
    finished = (tmp_path / "lq" / "bikes").exists()
    done = cli(*command)
    assert "short: finished before, 6 frames" in done.stdout
    assert f"bikes: {'finished before, ' if finished else ''}250 frames" in done.stdout
    assert sorted(path.name for path in (tmp_path / "lq").iterdir()) == ["bikes", "short"]
