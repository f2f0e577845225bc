"""Through a store and back: every format, with the store's own verification as the judge."""

import dataclasses
import errno

import numpy as np
import pytest

from codecprior.core.arrays import ARRAYS
from codecprior.errors import ConfigError, StoreError
from codecprior.interop.convert import FORMATS, arrays_for, export_store, import_store, open_import
from codecprior.store import StoreWriter, open_store
from codecprior.store.verify import verify

SUFFIXES = {"blockstat": ".vtmbmsstats", "mv-extractor": "", "cpgd-net": "", "hdf5": ".h5"}
GRIDS = ("mv_l0", "mv_l1", "ref_poc_delta_l0", "ref_poc_delta_l1", "pred_mode", "coding_flags", "cu_size", "qp")
RESIDUAL = ("residual_y", "residual_u", "residual_v")
KEPT = {
    "blockstat": GRIDS,
    "mv-extractor": ("mv_l0", "mv_l1"),
    "cpgd-net": ("residual_y",),
    "hdf5": GRIDS + RESIDUAL,
}


@pytest.fixture
def make_store(make_clip, tmp_path):
    """Write a synthetic clip as a store."""

    def make(name="clip.zarr", **options):
        frames = make_clip(**options)
        path = tmp_path / name
        facts = {"encoder": {"name": "vvenc"}}
        mv_dtype = str(frames[0].mv_l0.dtype)
        with StoreWriter(path, digest="test", attributes=facts) as writer:
            forward = writer.begin(frames[0].stream, mv_dtype=mv_dtype)
            for frame in frames:
                forward.append(frame)
            writer.finish()
        assert verify(path).ok
        return open_store(path)

    return make


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("window", [(0, 0, 0, 0), (0, 0, 0, 8)])
def test_what_a_format_keeps_survives_the_way_through_it(make_store, tmp_path, file_format, window):
    store = make_store(num_frames=20, seed=7, conformance_window=window)
    done = []
    report = export_store(store, tmp_path / f"out{SUFFIXES[file_format]}", file_format, progress=done.append)
    assert report.num_frames == done[-1] == 20
    imported = open_import(report.path, file_format)
    import_store(imported, tmp_path / "back.zarr")
    assert verify(tmp_path / "back.zarr").problems == ()
    back = open_store(tmp_path / "back.zarr")
    assert back.size == store.size
    frames = slice(1, None) if file_format == "cpgd-net" else slice(None)
    for found, expected in zip(back[frames], store[frames], strict=True):
        for name in KEPT[file_format]:
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert back.attributes["unknown_arrays"] == list(imported.unknown_arrays)
    assert not set(KEPT[file_format]) & set(imported.unknown_arrays)


def test_vectors_beyond_16_bit_survive(make_store, tmp_path):
    store = make_store(num_frames=4, seed=1, mv_dtype="int32")
    for file_format in ("blockstat", "mv-extractor", "hdf5"):
        path = tmp_path / file_format
        export_store(store, path, file_format)
        import_store(open_import(path, file_format), tmp_path / f"{file_format}.zarr")
        back = open_store(tmp_path / f"{file_format}.zarr")
        assert np.array_equal(back.load().arrays["mv_l0"], store.load().arrays["mv_l0"])
        assert back.load().arrays["mv_l0"].dtype == np.int32


def test_vectors_are_stored_as_narrow_as_they_are(make_store, tmp_path):
    export_store(make_store(num_frames=3), tmp_path / "tables", "mv-extractor")
    import_store(open_import(tmp_path / "tables", "mv-extractor"), tmp_path / "back.zarr")
    assert open_store(tmp_path / "back.zarr").load().arrays["mv_l0"].dtype == np.int16


def test_a_slice_keeps_its_frame_numbers(make_store, tmp_path):
    store = make_store(num_frames=6)
    report = export_store(store[2:5], tmp_path, "cpgd-net")
    assert report.num_frames == 3
    names = sorted(file.name for file in (tmp_path / "MVs/clip").iterdir())
    assert names == ["clip_00002_00003.npy", "clip_00003_00004.npy"]


def test_only_the_arrays_that_a_format_holds_are_read(make_store):
    store = make_store(num_frames=1)
    assert arrays_for(store, "blockstat") == GRIDS
    assert arrays_for(store, "cpgd-net") == ("mv_l0", "ref_poc_delta_l0", "residual_y")
    assert arrays_for(store, "hdf5") == store.names == GRIDS + RESIDUAL
    assert set(arrays_for(store, "mv-extractor")) < set(GRIDS)


def test_facts_of_the_store_go_along_in_hdf5(make_store, tmp_path):
    export_store(make_store(num_frames=1), tmp_path / "clip.h5", "hdf5")
    assert open_import(tmp_path / "clip.h5", "hdf5").attributes["encoder"] == {"name": "vvenc"}


def test_hdf5_keeps_what_the_conformance_window_hides(make_store, tmp_path):
    store = make_store(num_frames=2, conformance_window=(0, 8, 0, 8))
    report = export_store(store, tmp_path / "clip.h5", "hdf5")
    assert report.not_represented == ()
    for found, expected in zip(open_import(tmp_path / "clip.h5", "hdf5"), store.coded, strict=True):
        assert found.box == expected.box
        assert np.array_equal(found.residual_y, expected.residual_y)
        assert found.residual_y[:, -8:].any()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_crop_is_refused(make_store, tmp_path, file_format):
    store = make_store(num_frames=2).crop(8, 8, 32, 24)
    with pytest.raises(ConfigError, match="whole pictures"):
        export_store(store, tmp_path / "out", file_format)


@pytest.fixture
def store_of_both_directions(make_clip, tmp_path):
    clips = make_clip(20, seed=1), make_clip(20, seed=2, mv_dtype="int32")
    with StoreWriter(tmp_path / "clip.zarr", digest="test") as writer:
        forward = writer.begin(clips[0][0].stream)
        for frame in clips[0]:
            forward.append(frame)
        backward = writer.begin_reverse(clips[1][0].stream, mv_dtype="int32")
        for frame in reversed(clips[1]):
            backward.append(frame)
        writer.finish()
    return open_store(tmp_path / "clip.zarr")


def test_a_reversed_pass_goes_through_hdf5(store_of_both_directions, tmp_path):
    report = export_store(store_of_both_directions, tmp_path / "clip.h5", "hdf5")
    assert report.not_represented == ()
    imported = open_import(tmp_path / "clip.h5", "hdf5")
    assert [frame.frame_index for frame in imported.reverse] == list(range(19, -1, -1))
    import_store(imported, tmp_path / "back.zarr")
    assert verify(tmp_path / "back.zarr").problems == ()
    back, expected = open_store(tmp_path / "back.zarr").reverse.load(), store_of_both_directions.reverse.load()
    assert back.pictures == expected.pictures
    for name, array in expected.arrays.items():
        assert back.arrays[name].dtype == array.dtype
        assert np.array_equal(back.arrays[name], array), name


def test_a_reversed_pass_that_is_left_out_is_named(store_of_both_directions, tmp_path):
    report = export_store(store_of_both_directions, tmp_path / "tables", "mv-extractor")
    assert any("time-reversed" in sentence for sentence in report.not_represented)


def test_a_store_that_exists_is_kept_unless_overwriting_is_asked_for(make_store, tmp_path):
    store = make_store(num_frames=2)
    export_store(store, tmp_path / "clip.h5", "hdf5")
    imported = open_import(tmp_path / "clip.h5", "hdf5")
    with pytest.raises(StoreError, match="exists"):
        import_store(imported, tmp_path / "clip.zarr")
    import_store(imported, tmp_path / "clip.zarr", overwrite=True)
    assert "unknown" in open_store(tmp_path / "clip.zarr").attributes


def test_priors_of_unknown_references_cannot_become_a_store(make_store, tmp_path):
    export_store(make_store(num_frames=2), tmp_path / "clip.h5", "hdf5")
    imported = open_import(tmp_path / "clip.h5", "hdf5")
    for name in ("ref_poc_delta_l0", "pred_mode"):
        with pytest.raises(ConfigError, match="which pictures"):
            import_store(dataclasses.replace(imported, unknown_arrays=(name,)), tmp_path / "back.zarr")
    assert not (tmp_path / "back.zarr").exists()


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_output_that_cannot_be_written_is_named(make_store, tmp_path, file_format):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"file/out.*cannot write"):
        export_store(make_store(num_frames=2), tmp_path / "file" / "out", file_format)


def test_a_disk_that_fills_up_is_one_clear_error_and_leaves_nothing(make_store, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = make_store(num_frames=2)
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StoreError, match=r"out: cannot write: No space left"):
        export_store(store, tmp_path / "out", "mv-extractor")
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.zarr"]


def test_unknown_formats_and_missing_files_are_refused(make_store, tmp_path):
    with pytest.raises(ConfigError, match="blockstat, mv-extractor, cpgd-net, hdf5"):
        export_store(make_store(num_frames=1), tmp_path / "x", "avi")
    with pytest.raises(ConfigError, match="does not exist"):
        open_import(tmp_path / "nothing", "hdf5")


def test_every_grid_array_of_the_format_table_is_covered_here():
    assert {name for name, spec in ARRAYS.items() if spec.kind.value == "grid"} == set(GRIDS)
