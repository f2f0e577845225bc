"""``codecprior prepare`` from datasets as people have them to manifests that a training reads."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codecprior
from codecprior.datasets.manifest import read_manifest
from codecprior.media.images import read_picture
from codecprior.store.packed import open_packed
from codecprior.store.verify import verify

FAST = ("--threads", 1, "--decoder-threads", 1)


def untouched(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_gopro_becomes_stores_and_a_manifest(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.gopro(tmp_path / "GOPRO_Large")
    before = untouched(dataset)
    done = cli("prepare", dataset, "-o", tmp_path / "out", *FAST)
    assert done.returncode == 0, done.stderr
    assert "train  2          8" in done.stdout
    assert "test   1          4" in done.stdout
    manifest = read_manifest(tmp_path / "out")
    assert [(entry.split, entry.sequence) for entry in manifest.entries] == [
        ("test", "GOPR0384_11_05"),
        ("train", "GOPR0372_07_00"),
        ("train", "GOPR0374_11_03"),
    ]
    entry = manifest.entries[0]
    assert entry.blurry[0] == "../GOPRO_Large/test/GOPR0384_11_05/blur/000047.png"
    assert entry.sharp is not None
    assert entry.sharp[3] == "../GOPRO_Large/test/GOPR0384_11_05/sharp/000050.png"
    assert entry.checks["forward"]["frames"] == [0, 1, 3]
    store = codecprior.open_store(manifest.resolve(entry.store))
    assert (len(store), store.size) == (4, (176, 144))
    assert untouched(dataset) == before
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert list(json.loads(lines[0])) == ["sequence", "split", "num_frames", "blurry", "sharp", "store", "checks"]


def test_a_second_run_does_nothing_and_says_so(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.generic(tmp_path / "pairs")
    arguments = ("prepare", dataset, "-o", tmp_path / "out", "--frames", "pack", *FAST)
    assert cli(*arguments).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json*")}
    again = cli(*arguments, "--json")
    assert [each["status"] for each in json.loads(again.stdout)] == ["skipped", "skipped"]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json*")}
    assert {path for path in after if after[path] != before[path]} == {tmp_path / "out" / "manifest.jsonl"}


def test_one_bad_sequence_fails_alone_and_is_counted_by_cause(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.generic(tmp_path / "pairs", sequences=4)
    (dataset / "sharp" / "seq1" / "000002.png").unlink()
    broken = dataset / "blur" / "seq2" / "000001.png"
    broken.write_bytes(broken.read_bytes()[:-40])
    done = cli("prepare", dataset, "-o", tmp_path / "out", *FAST)
    assert done.returncode == 1
    assert "failed: 1 by unpaired-frame\nfailed: 1 by MediaError\n" in done.stdout
    assert "2 of 4 sequences failed:" in done.stderr
    assert str(broken) in done.stderr
    assert [entry.sequence for entry in read_manifest(tmp_path / "out").entries] == ["seq0", "seq3"]
    shutil.copy(dataset / "blur" / "seq2" / "000000.png", broken)
    again = json.loads(cli("prepare", dataset, "-o", tmp_path / "out", "--json", *FAST).stdout)
    assert [(each["name"], each["status"]) for each in again] == [
        ("seq1", "failed"),
        ("seq0", "skipped"),
        ("seq2", "prepared"),
        ("seq3", "skipped"),
    ]


def test_packed_and_copied_frames_are_those_of_the_dataset(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.generic(tmp_path / "pairs", sequences=1)
    for policy in ("pack", "copy"):
        assert cli("prepare", dataset, "-o", tmp_path / policy, "--frames", policy, *FAST).returncode == 0
    manifest = read_manifest(tmp_path / "pack")
    assert manifest.entries[0].frames == "frames/train/seq0.zarr"
    packed = open_packed(manifest.resolve(manifest.entries[0].frames))
    everything = (slice(0, 4), slice(0, 144), slice(0, 176))
    for side, folder in (("blurry", "blur"), ("sharp", "sharp")):
        pictures = [read_picture(file)[..., ::-1] for file in sorted((dataset / folder / "seq0").iterdir())]
        assert np.array_equal(packed.start(side, everything)(), np.stack(pictures))
    copied = read_manifest(tmp_path / "copy").entries[0]
    assert copied.blurry == tuple(f"frames/train/seq0/blurry/{index:06d}.png" for index in range(4))
    for index, name in enumerate(copied.blurry):
        assert (tmp_path / "copy" / name).read_bytes() == (dataset / f"blur/seq0/{index:06d}.png").read_bytes()


@pytest.mark.parametrize("policy", ["pack", "copy"])
def test_frames_are_packed_or_copied_again_where_the_sharp_side_changed(
    cli: Any, trees: Any, tmp_path: Path, policy: str
) -> None:
    dataset = trees.generic(tmp_path / "pairs", sequences=1)
    arguments = ("prepare", dataset, "-o", tmp_path / "out", "--frames", policy, *FAST)
    assert cli(*arguments).returncode == 0
    shutil.copyfile(dataset / "sharp/seq0/000003.png", dataset / "sharp/seq0/000001.png")
    assert cli(*arguments).returncode == 0
    wanted = read_picture(dataset / "sharp/seq0/000003.png")[..., ::-1]
    if policy == "pack":
        packed = open_packed(tmp_path / "out/frames/train/seq0.zarr")
        (found,) = packed.start("sharp", (slice(1, 2), slice(0, 144), slice(0, 176)))()
    else:
        found = read_picture(tmp_path / "out/frames/train/seq0/sharp/000001.png")[..., ::-1]
    assert np.array_equal(found, wanted)


def test_hq_sequences_are_degraded_with_a_seed_and_paired_with_the_raw_file(
    cli: Any, trees: Any, tmp_path: Path
) -> None:
    dataset = trees.hq(tmp_path / "hq")
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = cli("prepare", dataset, "-o", tmp_path / out, "--seed", seed, *FAST)
        assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "a")
    walk = next(entry for entry in manifest.entries if "walk" in entry.sequence.lower())
    assert walk.sharp == "../hq/Walk_176x144_24.yuv"
    assert walk.raw is not None
    assert (walk.raw["width"], walk.raw["height"]) == (176, 144)
    first = [(tmp_path / out / walk.blurry[0]).read_bytes() for out in ("a", "b", "c")]
    assert first[0] == first[1] != first[2]
    assert verify(manifest.resolve(walk.store)).ok


def test_both_directions_and_decoded_frames_on_a_cluster(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.generic(tmp_path / "pairs", sequences=3, splits=("train", "val"))
    done = cli(
        *("prepare", dataset, "-o", tmp_path / "out", "--directions", "both", "--with-frames", "--workers", 2),
        *FAST,
    )
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "out")
    assert [entry.split for entry in manifest.entries] == ["train"] * 3 + ["val"] * 3
    for entry in manifest.entries:
        store = codecprior.open_store(manifest.resolve(entry.store))
        assert store.reverse is not None
        assert "frame_y" in store.names
        assert {"forward", "reverse"} <= set(entry.checks)


def test_a_killed_run_is_continued(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.generic(tmp_path / "pairs", sequences=3, frames=12)
    process = cli.start("prepare", dataset, "-o", tmp_path / "out", *FAST)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "priors" / "train" / "seq0.zarr").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = cli("prepare", dataset, "-o", tmp_path / "out", *FAST)
    assert done.returncode == 0, done.stderr
    assert len(read_manifest(tmp_path / "out").entries) == 3
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_sequences_of_other_runs_stay_in_the_manifest(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.gopro(tmp_path / "GOPRO_Large")
    assert cli("prepare", dataset / "train", "-o", tmp_path / "out", *FAST).returncode == 0
    assert cli("prepare", dataset / "test", "-o", tmp_path / "out", *FAST).returncode == 0
    assert [entry.split for entry in read_manifest(tmp_path / "out").entries] == ["test", "train", "train"]


def test_changed_frames_are_refused_until_overwritten(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.generic(tmp_path / "pairs", sequences=1)
    assert cli("prepare", dataset, "-o", tmp_path / "out", *FAST).returncode == 0
    shutil.copy(dataset / "blur/seq0/000000.png", dataset / "blur/seq0/000001.png")
    done = cli("prepare", dataset, "-o", tmp_path / "out", *FAST)
    assert done.returncode == 1
    assert "use --overwrite to replace it" in done.stderr
    assert cli("prepare", dataset, "-o", tmp_path / "out", "--overwrite", *FAST).returncode == 0


def test_dry_run_writes_nothing(cli: Any, trees: Any, tmp_path: Path) -> None:
    dataset = trees.generic(tmp_path / "pairs")
    done = cli("prepare", dataset, "-o", tmp_path / "out", "--dry-run", "--json")
    assert [each["store"] for each in json.loads(done.stdout)] == [
        f"{tmp_path}/out/priors/train/seq{number}.zarr" for number in range(2)
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", ["blur/seq0", "blur/seq0/out"])
def test_an_output_among_the_frames_is_refused(cli: Any, trees: Any, tmp_path: Path, inside: str) -> None:
    dataset = trees.generic(tmp_path / "pairs")
    assert "lies in" in cli.fails("prepare", dataset, "-o", dataset / inside)


def test_a_dataset_goes_to_object_storage(cli: Any, bucket: str, trees: Any, tmp_path: Path) -> None:
    dataset = trees.generic(tmp_path / "pairs")
    arguments = ("prepare", dataset, "-o", f"{bucket}/set", "--frames", "copy", *FAST)
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    again = json.loads(cli(*arguments, "--json").stdout)
    assert [each["error"] for each in again] == [None, None]
    assert [each["status"] for each in again] == ["skipped", "skipped"]
    assert again[0]["store"] == "priors/train/seq0.zarr"
    assert again[0]["checks"]["num_frames"] == 4
