import json

import numpy as np
import pytest
from click.testing import CliRunner

from codecprior.cli.export import _FORMATS
from codecprior.cli.main import main
from codecprior.core.arrays import CodingFlag, PictureType, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import Box, PictureInfo, StreamInfo
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
