"""The command line as a user runs it: real clips through the real encoder and decoder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

import codecprior

CLI = [sys.executable, "-m", "codecprior.cli"]
WIDTH, HEIGHT, FRAMES = 96, 64, 6


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def one_error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    write_frames(folder, FRAMES)
    return folder


def write_frames(folder: Path, count: int) -> None:
    """A texture that moves right by two samples a frame."""
    folder.mkdir(parents=True)
    texture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (HEIGHT, 400, 3), np.uint8), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    for index in range(count):
        assert cv2.imwrite(str(folder / f"{index:04d}.png"), texture[:, 200 - 2 * index : 200 - 2 * index + WIDTH])


def test_extract_prints_where_to_before_and_facts_after(frames: Path) -> None:
    done = run("extract", frames)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first == f"{frames} -> {frames}.zarr"
    assert last.startswith(f"{frames}.zarr: {FRAMES} frames, ")
    assert done.stderr == ""
    assert Path(f"{frames}.266").exists()
    assert len(codecprior.open_store(f"{frames}.zarr")) == FRAMES


def test_l0_refers_to_the_previous_frame_and_follows_the_motion(frames: Path) -> None:
    assert run("extract", frames, "--qp", 20).returncode == 0
    store = codecprior.open_store(f"{frames}.zarr")
    for t in range(1, FRAMES):
        used = store[t].uses_list(0)
        assert used.mean() > 0.5
        assert (store[t].ref_frame_index(0)[used] == t - 1).all()
        x = np.median(store[t].mv_pixels(0)[used][:, 0])
        assert x == pytest.approx(-2, abs=0.25)  # the texture came from two samples to the left


def test_both_directions_refer_to_the_neighbours_on_either_side(frames: Path) -> None:
    assert run("extract", frames, "--qp", 20, "--directions", "both").returncode == 0
    store = codecprior.open_store(f"{frames}.zarr")
    assert store.reverse is not None
    for t in range(FRAMES - 1):
        backward = store.reverse[t]
        used = backward.uses_list(0)
        assert (backward.ref_frame_index(0)[used] == t + 1).all()
        assert np.median(backward.mv_pixels(0)[used][:, 0]) == pytest.approx(2, abs=0.25)
    assert not store.reverse[FRAMES - 1].uses_list(0).any()
    assert Path(f"{frames}.reverse.266").exists()


def test_a_second_run_skips_and_other_settings_are_refused(frames: Path) -> None:
    assert run("extract", frames).returncode == 0
    made = codecprior.open_store(f"{frames}.zarr").attributes["created"]
    again = run("extract", frames)
    assert again.returncode == 0
    assert "finished before" in again.stdout
    assert "--overwrite" in one_error_line(run("extract", frames, "--qp", 40))
    assert codecprior.open_store(f"{frames}.zarr").attributes["created"] == made
    assert run("extract", frames, "--qp", 40, "--overwrite").returncode == 0
    assert "40" in codecprior.open_store(f"{frames}.zarr").attributes["encoder"]["arguments"]


def test_a_coded_stream_is_not_encoded_again(frames: Path, tmp_path: Path) -> None:
    assert run("extract", frames).returncode == 0
    coded = tmp_path / "coded" / "stream.266"
    coded.parent.mkdir()
    coded.write_bytes(Path(f"{frames}.266").read_bytes())
    assert run("extract", coded).returncode == 0
    direct, decoded = (codecprior.open_store(path) for path in (f"{frames}.zarr", coded.with_suffix(".zarr")))
    assert decoded.attributes["encoder"] is None
    for name in ("mv_l0", "residual_y", "qp"):
        np.testing.assert_array_equal(direct.load().arrays[name], decoded.load().arrays[name])


def test_dry_run_writes_nothing(frames: Path) -> None:
    done = run("extract", frames, "--dry-run", "--json")
    assert json.loads(done.stdout) == [{"input": str(frames), "store": f"{frames}.zarr"}]
    assert sorted(path.name for path in frames.parent.iterdir()) == ["clip"]


def test_one_bad_sequence_fails_alone_and_is_named(tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    write_frames(dataset / "good", 3)
    write_frames(dataset / "bad", 3)
    broken = dataset / "bad" / "0001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    done = run("extract", dataset, "-o", tmp_path / "out", "--json")
    assert done.returncode == 1
    bad, good = json.loads(done.stdout)
    assert (good["name"], good["status"], good["num_frames"]) == ("good", "extracted", 3)
    assert bad["status"] == "failed"
    assert "0001.png" in bad["error"]
    assert not (tmp_path / "out" / "bad.zarr").exists()


def test_workers_share_a_dataset(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_frames(tmp_path / "dataset" / name, 3)
    done = run("extract", tmp_path / "dataset", "-o", tmp_path / "out", "--workers", 2)
    assert done.returncode == 0, done.stderr
    for name in ("a", "b", "c"):
        assert run("verify", tmp_path / "out" / f"{name}.zarr").returncode == 0


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.266", b"", "empty"),
        ("text.266", b"hello world, this is no video", "annex b"),
        ("clip.docx", b"x", ".docx"),
        ("clip.mp4", b"not a video at all", "clip.mp4"),
    ],
)
def test_bad_input_gives_one_line(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert reason in one_error_line(run("extract", path)).lower()
    assert not path.with_suffix(".zarr").exists()


def test_output_below_a_file_gives_one_line(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path / "file") in one_error_line(run("extract", frames, "-o", tmp_path / "file" / "clip.zarr"))


def test_a_size_that_changes_inside_a_folder_is_refused(frames: Path) -> None:
    assert cv2.imwrite(str(frames / "0003.png"), np.zeros((HEIGHT, WIDTH + 32, 3), np.uint8))
    line = one_error_line(run("extract", frames))
    assert "0003.png" in line
    assert not Path(f"{frames}.zarr").exists()


def test_interrupt_leaves_no_process_and_a_second_run_finishes(tmp_path: Path) -> None:
    folder = tmp_path / "long"
    write_frames(folder, 60)
    process = psutil.Popen([*CLI, "extract", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = time.monotonic()
    while len(process.children(recursive=True)) < 3 and time.monotonic() < started + 20:  # encoder, decoder, guardian
        time.sleep(0.01)
    family = process.children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted" in messages
    assert "Traceback" not in messages
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert not Path(f"{folder}.zarr").exists()
    assert run("extract", folder).returncode == 0
    assert len(codecprior.open_store(f"{folder}.zarr")) == 60
