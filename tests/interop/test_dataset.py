"""Whole datasets through other tools' formats and back, from priors of real video."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from codecprior.datasets.manifest import read_manifest
from codecprior.errors import ConfigError, DatasetError
from codecprior.interop.dataset import SequenceOutcome, export_dataset, import_dataset
from codecprior.store import open_store
from codecprior.store.packed import open_packed, pack_frames
from codecprior.store.verify import verify

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def lines(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """Sequences of a prepared dataset with paths that need no folder; ``plain`` is of another split and packed."""
    manifest = read_manifest(prepared)
    found = []
    for entry in manifest.entries:
        sides = {side: tuple(manifest.resolve(file) for file in getattr(entry, side)) for side in ("blurry", "sharp")}
        found.append({**vars(entry), **sides, "store": manifest.resolve(entry.store)})
    (plain,) = (line for line in found if line["sequence"] == "plain")
    packed = tmp_path_factory.mktemp("packed") / "plain.zarr"
    pictures = {side: [cv2.imread(file)[..., ::-1] for file in plain[side]] for side in ("blurry", "sharp")}
    pack_frames(packed, pictures, num_frames=plain["num_frames"])
    plain |= {"split": "test", "frames": str(packed)}
    return found


def by_name(outcomes: list[SequenceOutcome]) -> dict[str, str]:
    return {outcome.name: outcome.status for outcome in outcomes}


def assert_same_priors(found: str, expected: str) -> None:
    assert verify(found).problems == ()
    ours, theirs = open_store(expected), open_store(found)
    for one, other in ((ours, theirs), (ours.reverse, theirs.reverse)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            first, second = one.coded.load(), other.coded.load()
            assert first.pictures == second.pictures
            assert first.reference_frames == second.reference_frames
            assert first.arrays.keys() == second.arrays.keys()
            assert all(np.array_equal(array, second.arrays[name]) for name, array in first.arrays.items())


def test_hdf5_brings_a_dataset_back_whole(lines: Lines, tmp_path: Path) -> None:
    packed = [line for line in lines if line["frames"]]
    for frames, some in ((None, lines), ("copy", packed)):
        file, folder = tmp_path / f"{frames}.h5", tmp_path / f"{frames}"
        outcomes = list(export_dataset(some, file, "hdf5", frames=frames))
        assert by_name(outcomes) == {f"{line['split']}/{line['sequence']}": "written" for line in some}
        back = {outcome.name: outcome for outcome in import_dataset(file, str(folder), "hdf5")}
        for line in some:
            outcome = back[f"{line['split']}/{line['sequence']}"]
            assert outcome.output == f"{folder}/priors/{outcome.name}.zarr"
            assert_same_priors(outcome.output, line["store"])
            assert outcome.line is not None
            same = ("sequence", "split", "num_frames", "checks", "raw")
            assert {name: outcome.line[name] for name in same} == {name: line[name] for name in same}
            assert tuple(outcome.line["sharp"]) == line["sharp"]
    packs = open_packed(packed[0]["frames"]), open_packed(f"{folder}/frames/test/plain.zarr")
    width, height = packs[0].frame_size("blurry")
    for side in ("blurry", "sharp"):
        expected, found = (pack.start(side, (slice(0, 5), slice(0, height), slice(0, width)))() for pack in packs)
        assert np.array_equal(found, expected)


def test_groups_of_hdf5_are_chunked_like_the_store_and_have_units(lines: Lines, tmp_path: Path) -> None:
    list(export_dataset(lines[-1:], tmp_path / "d.h5", "hdf5", frames="copy"))
    with h5py.File(tmp_path / "d.h5") as file:
        assert json.loads(file.attrs["codecprior"])["sequences"] == ["test/plain"]
        group = file["test/plain"]
        assert json.loads(group.attrs["codecprior"])["mv_scale"] == 16
        assert json.loads(group.attrs["manifest"])["store"] == lines[-1]["store"]
        assert group["mv_l0"].attrs["unit"] == "1/16 luma sample, x before y; reference = current + mv"
        assert group["residual_y"].attrs["unit"] == "sample value at 10 bit"
        chunks = {name: group[name].chunks for name in ("mv_l0", "residual_y", "blurry")}
    # 8 frames, or all 5; 64 x 64 cells, 128 x 128 samples and 64 x 64 pixels, or the whole picture
    assert chunks == {"mv_l0": (5, 16, 16, 2), "residual_y": (5, 64, 64), "blurry": (5, 64, 64, 3)}


def test_a_sequence_that_fails_is_left_out_of_hdf5_alone(lines: Lines, tmp_path: Path) -> None:
    some = [lines[-1], {**lines[-1], "sequence": "gone", "store": "gone.zarr"}]
    good, bad = export_dataset(some, tmp_path / "d.h5", "hdf5")
    assert (good.status, bad.status) == ("written", "failed")
    assert bad.error is not None
    assert "gone.zarr" in bad.error
    assert [outcome.name for outcome in import_dataset(tmp_path / "d.h5", str(tmp_path), "hdf5")] == ["test/plain"]


def test_a_file_without_any_sequence_is_not_written(lines: Lines, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of the sequences"):
        list(export_dataset([{**lines[-1], "store": "gone.zarr"}], tmp_path / "d.h5", "hdf5"))
    assert list(tmp_path.iterdir()) == []


def test_a_tree_has_every_clip_with_units_and_its_list(lines: Lines, tmp_path: Path) -> None:
    outcomes = list(export_dataset(lines, tmp_path, "cpgd-net", frames="link"))
    assert set(by_name(outcomes).values()) == {"written"}
    assert any("test loader takes every clip" in note for note in outcomes[0].notes)
    rows = [line.split(" ") for line in (tmp_path / "meta_info.txt").read_text().splitlines()]
    assert {clip: (int(frames), shape) for clip, frames, shape in rows} == {
        line["sequence"]: (line["num_frames"], "({1},{0},3)".format(*open_store(line["store"]).size)) for line in lines
    }
    for line in lines:
        clip, store = line["sequence"], open_store(line["store"])
        facts = json.loads((tmp_path / f"{clip}.json").read_text())
        assert facts["MVs"]["unit"] == "1/16 luma sample"
        assert facts["facts"]["split"] == line["split"]
        for t in range(1, len(store)):
            name = f"{clip}_{t - 1:05d}_{t:05d}.npy"
            frame = store[t]
            previous = frame.uses_list(0) & (frame.ref_frame_index(0) == t - 1)
            expected = np.where(previous[..., None], frame.mv_l0, 0)
            assert np.array_equal(np.moveaxis(np.load(tmp_path / "MVs" / clip / name), 0, -1), expected)
            assert np.array_equal(np.load(tmp_path / "resi" / clip / name), frame.residual_y)
        for side, folder in (("blurry", "lq"), ("sharp", "gt")):
            links = sorted((tmp_path / folder / clip).iterdir())
            assert [link.name for link in links] == [f"{t:05d}.png" for t in range(len(store))]
            assert [str(link.readlink()) for link in links] == list(line[side])


def test_what_a_run_finished_is_skipped_and_what_changed_is_refused(lines: Lines, tmp_path: Path) -> None:
    list(export_dataset(lines[2:3], tmp_path, "cpgd-net"))
    outcomes = list(export_dataset(lines[2:], tmp_path, "cpgd-net"))
    assert [outcome.status for outcome in outcomes] == ["skipped", "written"]
    (refused,) = export_dataset(lines[2:3], tmp_path, "cpgd-net", digits=8)
    assert refused.error is not None
    assert "--overwrite" in refused.error
    (done,) = export_dataset(lines[2:3], tmp_path, "cpgd-net", digits=8, overwrite=True)
    assert done.status == "written"
    assert (tmp_path / "MVs" / "odd" / "odd_00000000_00000001.npy").exists()
    assert not (tmp_path / "MVs" / "odd" / "odd_00000_00001.npy").exists()


def test_copied_frames_are_the_files_of_the_dataset(lines: Lines, tmp_path: Path) -> None:
    list(export_dataset(lines[-1:], tmp_path, "cpgd-net"))
    (outcome,) = export_dataset(lines[-1:], tmp_path, "cpgd-net", frames="copy")
    assert outcome.status == "skipped"  # the priors; the frames are new
    for t, file in enumerate(lines[-1]["sharp"]):
        copy = tmp_path / "gt" / "plain" / f"{t:05d}.png"
        assert not copy.is_symlink()
        assert copy.read_bytes() == Path(file).read_bytes()


def test_one_name_in_two_splits_is_refused_until_one_split_is_chosen(lines: Lines, tmp_path: Path) -> None:
    both = [lines[-1], {**lines[-1], "split": "train"}]
    with pytest.raises(DatasetError, match="plain is in the splits test and train"):
        list(export_dataset(both, tmp_path, "cpgd-net"))
    assert len(list(export_dataset(both, tmp_path, "cpgd-net", split="train"))) == 1
    assert len(list(export_dataset(both, tmp_path / "d.h5", "hdf5"))) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"file_format": "blockstat"}, "holds one sequence"),
        ({"file_format": "hdf5", "split": "val"}, "no split 'val'; the dataset has test, train"),
        ({"file_format": "hdf5", "frames": "link"}, "cannot link"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    lines: Lines, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        list(export_dataset(lines, tmp_path / "out", **options))
    assert list(tmp_path.iterdir()) == []


def test_frames_that_cannot_be_put_there_are_named(lines: Lines, tmp_path: Path) -> None:
    plain = lines[-1]
    cases: list[tuple[str, dict[str, Any], Any, str]] = [
        ("hdf5", {"frames": None}, "copy", "no packed frames"),
        ("cpgd-net", {"sharp": "/data/all.yuv"}, "link", "/data/all.yuv: holds all frames in one file"),
        ("cpgd-net", {"sharp": (*plain["sharp"][:-1], "/data/x.jpg")}, "link", "plain: has frames with .jpg and .png"),
        ("cpgd-net", {"sharp": (*plain["sharp"][:-1], "/data/x.png")}, "link", "/data/x.png is missing"),
        ("cpgd-net", {"sharp": (*plain["sharp"][:-1], "/data/x.png")}, "copy", "/data/x.png cannot be read"),
        ("cpgd-net", {"sharp": ("s3://b/0.png",) * 5}, "link", "s3://b/0.png: a URL cannot be linked to"),
    ]
    for number, (file_format, changed, frames, reason) in enumerate(cases):
        some = [{**plain, "sequence": "good"}, {**plain, **changed}]
        outcomes = list(export_dataset(some, tmp_path / str(number), file_format, frames=frames))
        assert [outcome.status for outcome in outcomes] == ["written", "failed"]
        assert reason in str(outcomes[1].error)


class TheirTree:
    """Writes a tree so that what their training loader makes of it is known.

    It repeats vectors 4 x 4 and divides by 16, takes (residual + 1) / 512, and calls the result displacement in samples
    and residual: see ``load_as_their_loader`` in test_cpgdnet.py. Nothing of the exporter is used.
    """

    def __init__(self, root: Path, clips: dict[str, int], size: tuple[int, int] = (24, 16)) -> None:
        self.root = root
        self.displacement: dict[str, np.ndarray] = {}
        self.residual: dict[str, np.ndarray] = {}
        rng = np.random.default_rng(3)
        width, height = size
        for clip, pairs in clips.items():
            self.displacement[clip] = rng.integers(-400, 400, (pairs, height // 4, width // 4, 2)) / 16
            self.residual[clip] = rng.integers(-512, 512, (pairs, height, width)) / 512
            for kind in ("MVs", "resi"):
                (root / kind / clip).mkdir(parents=True)
            for t in range(pairs):
                name = f"{clip}_{t:05d}_{t + 1:05d}.npy"
                x, y = self.displacement[clip][t, ..., 0], self.displacement[clip][t, ..., 1]
                np.save(root / "MVs" / clip / name, np.stack([x, y]).astype(np.float32) * 16)
                np.save(root / "resi" / clip / name, (self.residual[clip][t] * 512 - 1).astype(np.int16))


def test_a_tree_of_theirs_means_in_a_store_what_their_loader_makes_of_it(tmp_path: Path) -> None:
    tree = TheirTree(tmp_path / "tree", {"001": 3, "GOPR0384_11_00": 2})
    outcomes = list(import_dataset(tree.root, str(tmp_path / "priors"), "cpgd-net"))
    assert by_name(outcomes) == {"001": "written", "GOPR0384_11_00": "written"}
    for outcome in outcomes:
        assert verify(outcome.output).problems == ()
        store = open_store(outcome.output)
        assert store.size == (24, 16)
        for frame, displacement, residual in zip(
            store[1:], tree.displacement[outcome.name], tree.residual[outcome.name], strict=True
        ):
            expected = np.repeat(np.repeat(displacement, 4, axis=0), 4, axis=1)
            assert np.array_equal(frame.flow(0).displacement, expected)
            assert (frame.ref_frame_index(0) == frame.frame_index - 1).all()
            assert np.array_equal((frame.residual_y + 1) / 512, residual)
        assert any("1/16 sample and 10 bit are assumed" in note for note in outcome.notes)


def remove(kind: str) -> Callable[[Path], None]:
    return lambda root: (root / kind / "b" / "b_00001_00002.npy").unlink()


def change(kind: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        file = root / kind / "b" / "b_00001_00002.npy"
        np.save(file, make(np.load(file)))

    return damage


def shorten(root: Path) -> None:
    file = root / "resi" / "b" / "b_00001_00002.npy"
    file.write_bytes(file.read_bytes()[:-1])


def coarsen(root: Path) -> None:
    for file in (root / "MVs" / "b").iterdir():
        np.save(file, np.load(file)[:, ::2, ::2])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove("resi"), "resi/b/b_00001_00002.npy is missing"),
        (remove("MVs"), "MVs/b/b_00001_00002.npy is missing"),
        (lambda root: shutil.rmtree(root / "resi" / "b"), "resi/b/b_00000_00001.npy is missing"),
        (change("MVs", lambda array: array[:, 1:]), "MVs/b/b_00001_00002.npy has shape (2, 3, 6); (2, 4, 6) fits"),
        (coarsen, "MVs/b/b_00000_00001.npy has shape (2, 2, 3); (2, 4, 6) fits the residual (16, 24); cells of 8"),
        (change("resi", lambda array: array[1:]), "resi/b/b_00001_00002.npy has shape (15, 24); (16, 24) is accepted"),
        (change("resi", lambda array: array[None]), "resi/b/b_00001_00002.npy has shape (1, 16, 24)"),
        (change("resi", lambda array: array / 512), "resi/b/b_00001_00002.npy holds float64 values that are not whole"),
        (change("resi", lambda array: array > 0), "resi/b/b_00001_00002.npy holds bool; numbers are accepted"),
        (shorten, "resi/b/b_00001_00002.npy is not a readable .npy file"),
    ],
)
def test_a_clip_that_is_wrong_fails_alone_and_the_file_is_named(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    tree = TheirTree(tmp_path / "tree", {"a": 2, "b": 3, "c": 2})
    damage(tree.root)
    outcomes = list(import_dataset(tree.root, str(tmp_path / "priors"), "cpgd-net"))
    assert by_name(outcomes) == {"a": "written", "b": "failed", "c": "written"}
    assert f"{tree.root}/{reason}" in str(outcomes[1].error)
    assert sorted(path.name for path in (tmp_path / "priors").iterdir()) == ["a.zarr", "c.zarr"]


def test_a_clip_shorter_than_its_metadata_says_is_refused(lines: Lines, tmp_path: Path) -> None:
    list(export_dataset(lines[-1:], tmp_path, "cpgd-net"))
    for kind in ("MVs", "resi"):
        (tmp_path / kind / "plain" / "plain_00003_00004.npy").unlink()
    (outcome,) = import_dataset(tmp_path, str(tmp_path / "priors"), "cpgd-net")
    assert "MVs/plain/plain_00003_00004.npy is missing" in str(outcome.error)


def test_imported_stores_are_skipped_until_the_files_change(tmp_path: Path) -> None:
    tree = TheirTree(tmp_path / "tree", {"a": 2, "b": 2})
    folder = str(tmp_path / "priors")
    assert set(by_name(list(import_dataset(tree.root, folder, "cpgd-net"))).values()) == {"written"}
    file = tree.root / "resi" / "a" / "a_00000_00001.npy"
    np.save(file, np.load(file) // 2)
    first, second = import_dataset(tree.root, folder, "cpgd-net")
    assert (first.status, second.status) == ("failed", "skipped")
    assert "exists" in str(first.error)
    first, second = import_dataset(tree.root, folder, "cpgd-net", overwrite=True)
    assert (first.status, second.status) == ("written", "written")


def test_progress_goes_up_to_the_total_of_all_passes(lines: Lines, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def begin(name: str) -> Callable[[int, int], None]:
        shown = seen.setdefault(name, [])
        return lambda done, total: shown.append((done, total))

    both = [line for line in lines if line["sequence"] == "odd"]
    list(export_dataset(both, tmp_path / "d.h5", "hdf5", progress=begin))
    assert seen.pop("train/odd") == [(done, 12) for done in range(1, 13)]
    list(import_dataset(tmp_path / "d.h5", str(tmp_path / "back"), "hdf5", progress=begin))
    assert seen["train/odd"] == [(done, 12) for done in range(1, 13)]


def test_what_a_killed_run_left_is_removed_and_an_old_clip_put_back(lines: Lines, tmp_path: Path) -> None:
    left = tmp_path / ".d.h5.partial"
    left.mkdir()
    (left / "new").write_bytes(b"half a file")
    list(export_dataset(lines[-1:], tmp_path / "d.h5", "hdf5"))
    assert not left.exists()
    list(export_dataset(lines[-1:], tmp_path / "tree", "cpgd-net"))
    vectors = tmp_path / "tree" / "MVs" / "plain"
    aside = vectors.with_name(".plain.partial")
    aside.mkdir()
    vectors.rename(aside / "old")
    (tmp_path / "tree" / "plain.json").unlink()
    (outcome,) = export_dataset(lines[-1:], tmp_path / "tree", "cpgd-net")
    assert "exists" in str(outcome.error)
    shutil.rmtree(tmp_path / "tree" / "resi")
    (outcome,) = export_dataset(lines[-1:], tmp_path / "tree", "cpgd-net")
    assert f"{vectors} exists" in str(outcome.error)
    assert vectors.exists()
    assert not aside.exists()


def test_an_error_in_the_middle_leaves_neither_clip_nor_file(lines: Lines, tmp_path: Path) -> None:
    done = export_dataset([lines[-1], {**lines[-1], "sequence": "next"}], tmp_path / "d.h5", "hdf5")
    next(done)
    done.close()  # what Ctrl-C does
    assert list(tmp_path.iterdir()) == []


def test_the_outcome_of_a_changed_store_names_it(lines: Lines, tmp_path: Path) -> None:
    (outcome,) = export_dataset([{**lines[-1], "num_frames": 4}], tmp_path / "tree", "cpgd-net")
    assert outcome == replace(outcome, status="failed", num_frames=0)
    assert "has 5 frames, the manifest says 4 for test/plain" in str(outcome.error)
