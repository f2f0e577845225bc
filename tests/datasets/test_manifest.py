from __future__ import annotations

import dataclasses
import json
import shutil
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.datasets.manifest import (
    GrowingManifest,
    Manifest,
    ManifestEntry,
    is_prepared,
    read_manifest,
    relative_path,
    write_manifest,
)
from codecprior.errors import ConfigError, DatasetError, MediaError

ENTRY = ManifestEntry(
    sequence="walk",
    split="train",
    num_frames=2,
    blurry=("walk/blur/0.png", "walk/blur/1.png"),
    sharp=("walk/sharp/0.png", "walk/sharp/1.png"),
    store="priors/walk.zarr",
    checks={"psnr_db": 38.5},
)
RAW = dataclasses.replace(
    ENTRY, sequence="raw", blurry="blur.yuv", sharp=None, frames="raw.frames.zarr", raw={"width": 64, "height": 48}
)


def line(**changes: Any) -> str:
    values = {**json.loads(json.dumps(dataclasses.asdict(ENTRY))), **changes}
    return json.dumps({name: value for name, value in values.items() if value != "absent"})


@pytest.mark.parametrize("target", ["{}/manifest.jsonl", "{}", "{}/other.jsonl", "memory://prepared{}/set"])
def test_what_is_written_is_read_back(tmp_path: Path, target: str) -> None:
    target = target.format(tmp_path)
    write_manifest(target, [ENTRY, RAW])
    manifest = read_manifest(target)
    assert manifest.entries == (ENTRY, RAW)
    assert manifest.root == target.removesuffix("/manifest.jsonl").removesuffix("/other.jsonl")


def test_a_manifest_grows_while_its_sequences_are_made(tmp_path: Path) -> None:
    ten = dataclasses.replace(ENTRY, sequence="walk10")
    assert not is_prepared(tmp_path)
    with suppress(KeyboardInterrupt), GrowingManifest(tmp_path) as growing:
        for entry in (ten, RAW, ENTRY):
            growing.put(entry.split, entry.sequence, entry)
        raise KeyboardInterrupt
    assert is_prepared(tmp_path)
    assert is_prepared(tmp_path / "manifest.jsonl")
    assert read_manifest(tmp_path).entries == (RAW, ENTRY, ten)
    with GrowingManifest(tmp_path) as growing:
        growing.put("train", "raw", None)
    assert read_manifest(tmp_path).entries == (ENTRY, ten)
    with pytest.raises(ConfigError, match=r"--split 'test': the manifest in .* has train"):
        read_manifest(tmp_path).of_split("test", "--split")


def test_a_line_is_one_sequence_and_leaves_out_what_is_absent(tmp_path: Path) -> None:
    write_manifest(tmp_path, [dataclasses.replace(RAW, checks=MappingProxyType({"a": (1, 2)}), frames=None, raw=None)])
    (text,) = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert json.loads(text) == {
        "sequence": "raw",
        "split": "train",
        "num_frames": 2,
        "blurry": "blur.yuv",
        "sharp": None,
        "store": "priors/walk.zarr",
        "checks": {"a": [1, 2]},
    }


@given(st.text(min_size=1))
def test_any_name_survives(name: str) -> None:
    entry = dataclasses.replace(ENTRY, sequence=name, store=f"\udce9/{name}")
    write_manifest("memory://any", [entry])
    assert read_manifest("memory://any").entries == (entry,)


def test_paths_lead_from_the_folder_of_the_manifest(tmp_path: Path) -> None:
    out, frame = tmp_path / "out", tmp_path / "data" / "a" / "0.png"
    assert relative_path(frame, out) == "../data/a/0.png"
    assert relative_path(out / "a.zarr", out / "manifest.jsonl") == "a.zarr"
    manifest = Manifest(root=str(out), entries=())
    assert manifest.resolve("../data/a/0.png") == str(frame)
    assert manifest.resolve(str(frame)) == str(frame)
    assert manifest.resolve("s3://bucket/a.zarr") == "s3://bucket/a.zarr"


def test_a_relative_target_gives_the_same_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative_path("data/0.png", "out") == "../data/0.png"
    write_manifest("out", [ENTRY])
    assert read_manifest("out").root == str(tmp_path / "out")
    assert read_manifest(Path("out/manifest.jsonl")).resolve("../data/0.png") == str(tmp_path / "data" / "0.png")


def test_remote_paths_stay_below_their_url_and_others_are_absolute(tmp_path: Path) -> None:
    assert relative_path("s3://bucket/set/a.zarr", "s3://bucket/set") == "a.zarr"
    assert relative_path("s3://other/a.zarr", "s3://bucket/set") == "s3://other/a.zarr"
    assert relative_path("s3://other/a.zarr", tmp_path) == "s3://other/a.zarr"
    assert relative_path(tmp_path / "0.png", "s3://bucket/set") == str(tmp_path / "0.png")
    remote = Manifest(root="s3://bucket/set", entries=())
    assert remote.resolve("a.zarr") == "s3://bucket/set/a.zarr"
    assert remote.resolve("../frames/0.png") == "s3://bucket/frames/0.png"
    assert remote.resolve("/data/0.png") == "/data/0.png"


def test_a_moved_dataset_is_read_where_it_is(tmp_path: Path) -> None:
    write_manifest(tmp_path / "old", [ENTRY])
    shutil.move(tmp_path / "old", tmp_path / "new")
    manifest = read_manifest(tmp_path / "new")
    assert manifest.resolve(manifest.entries[0].store) == str(tmp_path / "new" / "priors" / "walk.zarr")


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_manifest(tmp_path, [ENTRY])
    with pytest.raises(TypeError):
        write_manifest(tmp_path, [dataclasses.replace(ENTRY, checks={"bad": 1j})])
    assert read_manifest(tmp_path).entries == (ENTRY,)
    with pytest.raises(MediaError, match=r"manifest\.jsonl/manifest\.jsonl: cannot be written"):
        write_manifest(tmp_path / "manifest.jsonl" / "manifest.jsonl", [ENTRY])


def test_keys_of_later_versions_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text(f"{line(later=1)}\n\n")
    assert read_manifest(tmp_path).entries == (ENTRY,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no sequence"),
        ("{", "line 1: is no JSON"),
        ("[]", "line 1: is no JSON object"),
        (f"{line()}\n{line(store='absent', split='absent')}", "line 2: has no split, store; prepare the dataset again"),
        (f"{line()}\n{line()}", "line 2: split train has sequence walk already"),
        (line(num_frames=3), "line 1: blurry names 2 files for 3 frames"),
        (line(num_frames="2"), "line 1: num_frames '2': must be a number"),
        (line(sharp=["a", 1]), r"line 1: sharp \('a', 1\): must be a list of files"),
        (line(blurry=None), "line 1: blurry None: must be a list"),
        (line(split=""), "line 1: split '': must be a text"),
        (line(frames=1), "line 1: frames 1: must be a text"),
        (line(raw=[1]), "line 1: checks and raw: must be JSON objects"),
    ],
)
def test_a_damaged_manifest_is_one_message_with_the_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(text)
    with pytest.raises(DatasetError, match=rf"manifest\.jsonl: {reason}"):
        read_manifest(path)


@pytest.mark.parametrize("target", ["{}/gone", "memory://gone/{}"])
def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path, target: str) -> None:
    with pytest.raises(DatasetError, match=r"gone.*manifest\.jsonl: no such manifest; make one with 'codecprior prep"):
        read_manifest(target.format(tmp_path))


def test_an_object_store_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no access")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", refuse)
    with pytest.raises(DatasetError, match=r"memory://set/manifest\.jsonl: cannot be written \(no access\)"):
        write_manifest("memory://set", [ENTRY])
