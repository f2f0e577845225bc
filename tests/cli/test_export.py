from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from codecprior.cli.export import _FORMATS
from codecprior.cli.main import main
from codecprior.core.arrays import CodingFlag, PictureType, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo, StreamInfo
from codecprior.datasets.manifest import read_manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.datasets.sampling import ClipRequest
from codecprior.interop.convert import FORMATS
from codecprior.store import StoreWriter, open_store


def frame(stream, t):
    """A picture of four 8x8 units that all move by (t, -t) in list 0."""
    first = t == 0
    rows, cols = stream.grid_shape
    flags = np.zeros((rows, cols), np.uint8)
    flags[:, ::2] |= np.uint8(CodingFlag.LEFT_EDGE)
    flags[::2] |= np.uint8(CodingFlag.TOP_EDGE)
    return FramePriors(
        stream=stream,
        picture=PictureInfo(poc=t, decode_order=t, picture_type=PictureType.I if first else PictureType.P, slice_qp=30),
        frame_index=t,
        box=Box(0, 0, *stream.coded_size),
        reference_frames={poc: poc for poc in range(5)},
        mv_l0=np.full((rows, cols, 2), (t, -t), np.int16),
        mv_l1=np.zeros((rows, cols, 2), np.int16),
        ref_poc_delta_l0=np.full((rows, cols), -32768 if first else -1, np.int16),
        ref_poc_delta_l1=np.full((rows, cols), -32768, np.int16),
        pred_mode=np.full((rows, cols), PredMode.INTRA if first else PredMode.INTER, np.uint8),
        coding_flags=flags,
        cu_size=np.full((rows, cols), 0x33, np.uint8),
        qp=np.full((rows, cols), 30, np.int8),
        **{f"residual_{plane}": np.full(stream.plane_shape(plane), t, np.int16) for plane in "yuv"},
    )


@pytest.fixture
def store(tmp_path):
    stream = StreamInfo(codec="vvc", coded_size=(16, 16), bit_depth=10, chroma_format="4:2:0")
    path = tmp_path / "clip.zarr"
    with StoreWriter(path, digest="test") as writer:
        forward = writer.begin(stream)
        for t in range(5):
            forward.append(frame(stream, t))
        writer.finish()
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_choices_are_the_formats_of_the_library():
    assert _FORMATS == FORMATS


@pytest.mark.parametrize("file_format", FORMATS)
def test_export_and_import_bring_vectors_back(store, tmp_path, file_format):
    out = tmp_path / "out"
    result = run("export", store, "-f", file_format, "-o", out)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"wrote {out}: 5 frames, ")
    result = run("import", out, "-f", file_format, "-o", tmp_path / "back.zarr")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"wrote {tmp_path / 'back.zarr'}: 5 frames, 16x16")
    back = open_store(tmp_path / "back.zarr")
    for t in range(1, 5):
        assert (back[t].mv_l0 == (t, -t)).all()
        assert (back[t].ref_frame_index(0) == t - 1).all()


def test_what_is_lost_and_not_known_is_printed(store, tmp_path):
    assert "note: BlockStat text has no samples" in run("export", store, "-f", "blockstat", "-o", tmp_path / "b").output
    assert "note: not known: samples" in run("import", tmp_path / "b", "-f", "blockstat", "-o", tmp_path / "c").output


def test_json_holds_the_same_facts(store, tmp_path):
    facts = json.loads(run("export", store, "-f", "mv-extractor", "-o", tmp_path / "tables", "--json").output)
    assert facts["num_frames"] == 5
    assert facts["size_bytes"] > 0
    assert facts["not_represented"]
    result = run("import", tmp_path / "tables", "-f", "mv-extractor", "-o", tmp_path / "back.zarr", "--json")
    assert json.loads(result.output)["output_size"] == [16, 16]
    assert "residual_y" in json.loads(result.output)["unknown_arrays"]


def test_a_dry_run_writes_nothing(store, tmp_path):
    before = sorted(tmp_path.iterdir())
    result = run("export", store, "-f", "cpgd-net", "-o", tmp_path / "data", "--dry-run")
    assert "5 frames, reading mv_l0, ref_poc_delta_l0, residual_y" in result.output
    assert sorted(tmp_path.iterdir()) == before
    run("export", store, "-f", "hdf5", "-o", tmp_path / "clip.h5")
    result = run("import", tmp_path / "clip.h5", "-f", "hdf5", "-o", tmp_path / "back.zarr", "--dry-run")
    assert result.output.startswith(f"would write {tmp_path / 'back.zarr'}: 5 frames, 16x16")
    assert not (tmp_path / "back.zarr").exists()


@pytest.mark.parametrize(("frames", "expected"), [("1:3", [1, 2]), ("3:", [3, 4]), (":1", [0]), ("-2:", [3, 4])])
def test_frames_are_chosen_as_python_slices_them(store, tmp_path, frames, expected):
    result = run("export", store, "-f", "mv-extractor", "-o", tmp_path / "out", f"--frames={frames}")
    assert result.exit_code == 0, result.output
    names = {file.name for file in (tmp_path / "out/motion_vectors").iterdir()}
    assert names == {f"mvs-{t}.npy" for t in expected}


@pytest.mark.parametrize("frames", ["5", "a:b", "1:2:3"])
def test_frames_that_are_no_slice_are_a_usage_error(store, tmp_path, frames):
    result = run("export", store, "-f", "hdf5", "-o", tmp_path / "out", f"--frames={frames}")
    assert result.exit_code == 2
    assert "such as 0:100" in result.output


def test_an_empty_range_is_one_clear_line(store, tmp_path):
    result = run("export", store, "-f", "hdf5", "-o", tmp_path / "out", "--frames", "7:9")
    assert result.exit_code == 1
    assert result.output == f"Error: {store} has 5 frames, none of them in the range 7:9\n"


def test_an_output_that_exists_is_one_clear_line_and_overwrite_replaces_it(store, tmp_path):
    out = tmp_path / "clip.h5"
    out.write_text("mine")
    result = run("export", store, "-f", "hdf5", "-o", out)
    assert result.exit_code == 1
    assert result.output == f"Error: {out} exists; choose another output or allow overwriting it (--overwrite)\n"
    assert run("export", store, "-f", "hdf5", "-o", out, "--overwrite").exit_code == 0


def test_clip_and_digits_name_the_files_of_a_cpgd_net_clip(store, tmp_path):
    run("export", store, "-f", "cpgd-net", "-o", tmp_path / "data", "--clip", "bikes", "--digits", "8")
    assert (tmp_path / "data/MVs/bikes/bikes_00000003_00000004.npy").exists()
    assert run("export", store, "-f", "cpgd-net", "-o", tmp_path / "data").exit_code == 0
    result = run("import", tmp_path / "data", "-f", "cpgd-net", "-o", tmp_path / "back.zarr")
    assert result.exit_code == 1
    assert "clips there: bikes, clip" in result.output
    assert (
        run("import", tmp_path / "data", "-f", "cpgd-net", "--clip", "bikes", "-o", tmp_path / "b.zarr").exit_code == 0
    )


def test_a_broken_input_is_one_clear_line(tmp_path):
    broken = tmp_path / "x.vtmbmsstats"
    broken.write_text("nothing\n")
    result = run("import", broken, "-f", "blockstat", "-o", tmp_path / "back.zarr")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {broken} has no '# Sequence size' line")
    assert result.output.count("\n") == 1


@pytest.fixture(scope="module")
def dataset(trees: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GoPro's layout, three sequences in two splits, as ``codecprior prepare`` leaves it, with packed frames."""
    root = tmp_path_factory.mktemp("dataset")
    trees.gopro(root / "GOPRO_Large")
    options = ("--frames", "pack", "--directions", "both", "--threads", 1, "--decoder-threads", 1)
    assert run("prepare", root / "GOPRO_Large", "-o", root / "prepared", *options).exit_code == 0
    return root / "prepared"


NAMES = ["test/GOPR0384_11_05", "train/GOPR0372_07_00", "train/GOPR0374_11_03"]


def test_a_prepared_dataset_becomes_one_tree_and_comes_back_clip_by_clip(dataset: Path, tmp_path: Path) -> None:
    result = run("export", dataset, "-f", "cpgd-net", "-o", tmp_path / "tree", "--with-frames", "link")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[:4] == [*(f"{name}: 4 frames" for name in NAMES), f"{tmp_path}/tree: 3 sequences, 12 frames"]
    assert lines.count("note: the pass over the time-reversed clip was left out") == 1
    assert any("do not use list 0" in line and line.endswith("of others, see --json)") for line in lines)
    assert (tmp_path / "tree/gt/GOPR0384_11_05/00000.png").resolve().name == "000047.png"
    again = run("export", dataset / "manifest.jsonl", "-f", "cpgd-net", "-o", tmp_path / "tree")
    assert f"{NAMES[0]}: finished before, 4 frames" in again.output
    result = run("import", tmp_path / "tree", "-f", "cpgd-net", "-o", tmp_path / "back")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[3] == f"{tmp_path}/back: 3 sequences, 12 frames"
    assert len(set(lines[4:])) == len(lines[4:]) == 4
    assert all(line.startswith("note: not known: ") for line in lines[4:])
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [
        f"{name.split('/')[1]}.zarr" for name in sorted(NAMES, key=lambda name: name.split("/")[1])
    ]


def test_a_prepared_dataset_goes_through_hdf5_and_can_be_trained_from(dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "gopro.h5"
    result = run("export", dataset, "-f", "hdf5", "-o", file, "--with-frames", "copy", "--json")
    assert result.exit_code == 0, result.output
    assert [(each["name"], each["status"]) for each in json.loads(result.output)] == [(n, "written") for n in NAMES]
    assert run("import", file, "-f", "hdf5", "-o", tmp_path / "back").exit_code == 0
    shutil.rmtree(tmp_path / "back/priors/train/GOPR0372_07_00.zarr")
    again = run("import", file, "-f", "hdf5", "-o", tmp_path / "back", "--json")
    assert [each["status"] for each in json.loads(again.output)] == ["skipped", "written", "skipped"]
    clips = [
        ClipReader(read_manifest(folder), ReaderConfig(backward=True)).read(
            ClipRequest(sequence=1, frames=range(4), crop=(64, 48))
        )
        for folder in (dataset, tmp_path / "back")
    ]
    assert np.array_equal(clips[0].blurry, clips[1].blurry)
    assert np.array_equal(clips[0].sharp, clips[1].sharp)
    for one, other in ((clips[0].forward, clips[1].forward), (clips[0].backward, clips[1].backward)):
        assert np.array_equal(one.mv, other.mv)
        assert np.array_equal(one.residual, other.residual)
    result = run("import", file, "-f", "hdf5", "--clip", NAMES[1], "-o", tmp_path / "one.zarr")
    assert result.output == f"wrote {tmp_path}/one.zarr: 4 frames, 176x144\n"


def test_an_import_adds_to_the_manifest_and_says_where_frames_are_missing(dataset: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(dataset, elsewhere / "prepared")
    for split in ("train", "test"):
        source = dataset if split == "train" else elsewhere / "prepared"
        run("export", source, "-f", "hdf5", "--split", split, "-o", tmp_path / f"{split}.h5")
    shutil.rmtree(elsewhere)
    assert run("import", tmp_path / "train.h5", "-f", "hdf5", "-o", tmp_path / "back").stderr == ""
    result = run("import", tmp_path / "test.h5", "-f", "hdf5", "-o", tmp_path / "back")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"Warning: frames of 1 sequence are not where the file says: {elsewhere}/GOPRO")
    manifest = read_manifest(tmp_path / "back")
    assert sorted(f"{entry.split}/{entry.sequence}" for entry in manifest.entries) == NAMES
    train = next(entry for entry in manifest.entries if entry.split == "train")
    assert Path(manifest.resolve(train.blurry[0])).exists()
    assert Path(manifest.resolve(train.frames)).exists()


def test_a_bad_clip_is_one_line_and_the_others_are_written(dataset: Path, tmp_path: Path) -> None:
    run("export", dataset, "-f", "cpgd-net", "-o", tmp_path / "tree")
    bad = tmp_path / "tree/resi/GOPR0374_11_03/GOPR0374_11_03_00001_00002.npy"
    bad.unlink()
    result = run("import", tmp_path / "tree", "-f", "cpgd-net", "-o", tmp_path / "back")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == f"Error: {bad} is missing; restore it or export the clip again"
    assert "1 of 3 sequences failed:" in result.stderr
    assert f"{tmp_path}/back: 2 sequences, 8 frames" in result.output


def test_a_dry_run_lists_sequences_and_writes_nothing(dataset: Path, tmp_path: Path) -> None:
    for file_format in ("cpgd-net", "hdf5"):
        out = tmp_path / file_format
        result = run("export", dataset, "-f", file_format, "-o", out, "--split", "train", "--dry-run")
        assert result.output == "".join(f"{name} -> {out}\n" for name in NAMES[1:])
        assert not out.exists()
    run("export", dataset, "-f", "hdf5", "-o", tmp_path / "d.h5")
    result = run("import", tmp_path / "d.h5", "-f", "hdf5", "-o", tmp_path / "back", "--dry-run", "--json")
    assert json.loads(result.output)[0] == {"name": NAMES[0], "output": f"{tmp_path}/back/priors/{NAMES[0]}.zarr"}
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-f", "hdf5", "--split", "val"), "no split 'val'; the dataset has test, train"),
        (("-f", "blockstat"), "holds one sequence"),
        (("-f", "hdf5", "--with-frames", "link"), "cannot link to frames"),
    ],
)
def test_options_that_do_not_fit_a_dataset_are_one_line(
    dataset: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    result = run("export", dataset, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_options_of_a_store_and_of_a_dataset_do_not_mix(dataset: Path, store: Path, tmp_path: Path) -> None:
    out = ("-f", "hdf5", "-o", tmp_path / "out")
    for source, options in ((dataset, ("--frames", "1:2")), (dataset, ("--clip", "a")), (store, ("--split", "a"))):
        assert run("export", source, *out, *options).exit_code == 2


def test_a_dataset_goes_into_no_single_store(dataset: Path, tmp_path: Path) -> None:
    run("export", dataset, "-f", "hdf5", "-o", tmp_path / "d.h5")
    result = run("import", tmp_path / "d.h5", "-f", "hdf5", "-o", tmp_path / "back.zarr")
    assert result.exit_code == 1
    assert "several sequences and none chosen; sequences there: test/GOPR0384_11_05, " in result.stderr


def test_a_dataset_goes_from_and_to_object_storage(cli: Any, bucket: str, dataset: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    run("export", dataset, "-f", "hdf5", "--split", "test", "--with-frames", "copy", "-o", first)
    done = cli("import", first, "-f", "hdf5", "-o", f"{bucket}/set")
    assert (done.returncode, done.stderr) == (0, "")
    assert "finished before" in cli("import", first, "-f", "hdf5", "-o", f"{bucket}/set").stdout
    done = cli("export", f"{bucket}/set", "-f", "hdf5", "--with-frames", "copy", "-o", second)
    assert (done.returncode, done.stderr) == (0, "")
    with h5py.File(first) as one, h5py.File(second) as other:
        names: list[str] = []
        one.visit(names.append)
        arrays = [name for name in names if isinstance(one[name], h5py.Dataset)]
        assert {name.split("/")[-1] for name in arrays} >= {"mv_l0", "residual_v", "blurry", "sharp", "poc"}
        assert all(np.array_equal(one[name], other[name]) for name in arrays)
