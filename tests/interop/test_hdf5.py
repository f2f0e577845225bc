import dataclasses
import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.core.arrays import CodingFlag
from codecprior.errors import ConfigError, CorruptStoreError, SchemaError
from codecprior.interop.hdf5 import export_hdf5, read_hdf5


def with_pictures(frames):
    """Add decoded pictures to frames."""
    rng = np.random.default_rng(1)
    return [
        dataclasses.replace(
            frame,
            **{
                f"frame_{plane}": rng.integers(0, 1024, frame.stream.plane_shape(plane), np.uint16)
                for plane in frame.stream.planes
            },
        )
        for frame in frames
    ]


def assert_same(found, expected):
    assert (found.frame_index, found.picture, found.box) == (expected.frame_index, expected.picture, expected.box)
    assert found.reference_frames == expected.reference_frames
    arrays = expected.arrays()
    assert found.arrays().keys() == arrays.keys()
    for name, array in arrays.items():
        assert getattr(found, name).dtype == array.dtype
        assert np.array_equal(getattr(found, name), array), name


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 1000),
    num_frames=st.sampled_from([1, 8, 16, 19]),
    chroma_format=st.sampled_from(["4:0:0", "4:2:0", "4:2:2", "4:4:4"]),
    mv_dtype=st.sampled_from(["int16", "int32"]),
    pictures=st.booleans(),
)
def test_every_array_comes_back_bit_exact(
    *, make_clip, tmp_path_factory, seed, num_frames, chroma_format, mv_dtype, pictures
):
    clip = make_clip(num_frames, seed=seed, chroma_format=chroma_format, mv_dtype=mv_dtype, concealed=0)
    clip = with_pictures(clip) if pictures else clip
    path = tmp_path_factory.mktemp("hdf5") / "clip.h5"
    report = export_hdf5(clip, path)
    imported = read_hdf5(path)
    assert report.num_frames == len(imported) == num_frames
    assert report.not_represented == imported.unknown_arrays == ()
    assert imported.stream == clip[0].stream
    for found, expected in zip(imported, clip, strict=True):
        assert_same(found, expected)


def test_the_visible_part_is_written_into_the_coded_picture(make_clip, visible_part, tmp_path):
    clip = make_clip(3, seed=6, conformance_window=(8, 4, 0, 8))
    report = export_hdf5(map(visible_part, clip), tmp_path / "clip.h5")
    assert any("conformance window" in sentence for sentence in report.not_represented)
    for found, expected in zip(read_hdf5(tmp_path / "clip.h5"), clip, strict=True):
        assert found.box == expected.box
        assert_same(visible_part(found), visible_part(expected))
        assert (found.residual_y[:, :8] == 0).all()


def test_names_chunks_and_labels_are_those_of_the_store(make_clip, tmp_path):
    export_hdf5(make_clip(20, coded_size=(136, 136)), tmp_path / "clip.h5")
    with h5py.File(tmp_path / "clip.h5") as file:
        assert file["residual_y"].shape == (20, 136, 136)
        assert file["residual_y"].chunks == (8, 128, 128)
        assert file["mv_l0"].chunks == (8, 34, 34, 2)
        assert [axis.label for axis in file["mv_l0"].dims] == ["frame", "grid_row", "grid_column", "component"]
        assert [axis.label for axis in file["residual_u"].dims] == ["frame", "chroma_row", "chroma_column"]
        assert file["residual_y"].fletcher32
        assert "32001" in file["residual_y"]._filters  # Blosc's registered number
        assert file["ref_poc_delta_l0"].fillvalue == -32768
        attributes = json.loads(file.attrs["codecprior"])
    assert attributes["num_frames"] == 20
    assert attributes["coded_size"] == [136, 136]
    assert attributes["mv_sign"] == "reference = current + mv"


def test_facts_are_kept(make_clip, tmp_path):
    export_hdf5(make_clip(2)[1:], tmp_path / "clip.h5", facts={"encoder": {"name": "vvenc"}})
    assert read_hdf5(tmp_path / "clip.h5").attributes == {"encoder": {"name": "vvenc"}, "first_frame": 1}


def test_at_most_a_shard_of_frames_is_alive_at_a_time(make_clip, tmp_path):
    import weakref

    alive = []

    def frames():
        for frame in make_clip(40, coded_size=(8, 8)):
            copy = dataclasses.replace(frame, qp=frame.qp.copy())
            alive.append(weakref.ref(copy.qp))
            yield copy

    peak = []
    export_hdf5(frames(), tmp_path / "clip.h5", progress=lambda _: peak.append(sum(r() is not None for r in alive)))
    assert max(peak) <= 2


def test_arrays_that_are_absent_are_named(make_clip, tmp_path):
    frames = [dataclasses.replace(f, residual_u=None, residual_v=None) for f in make_clip(2)]
    export_hdf5(frames, tmp_path / "clip.h5")
    imported = read_hdf5(tmp_path / "clip.h5")
    assert imported.unknown_arrays == ("residual_u", "residual_v")
    assert next(iter(imported)).residual_u is None


def test_frames_that_differ_in_arrays_or_types_are_refused_and_nothing_is_left(make_clip, tmp_path):
    first, second = make_clip(2)
    with pytest.raises(ConfigError, match="having qp"):
        export_hdf5([first, dataclasses.replace(second, qp=None)], tmp_path / "clip.h5")
    wide = dataclasses.replace(second, mv_l0=second.mv_l0.astype(np.int32))
    with pytest.raises(ConfigError, match="mv_l0 as int32"):
        export_hdf5([first, wide], tmp_path / "clip.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_crop_is_refused(make_clip, tmp_path):
    with pytest.raises(ConfigError, match="whole pictures"):
        export_hdf5([make_clip(1)[0].crop(8, 8, 32, 32)], tmp_path / "clip.h5")


def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(make_clip, tmp_path):
    export_hdf5(make_clip(1), tmp_path / "clip.h5")
    with pytest.raises(ConfigError, match="exists"):
        export_hdf5(make_clip(2), tmp_path / "clip.h5")
    assert len(read_hdf5(tmp_path / "clip.h5")) == 1
    export_hdf5(make_clip(2), tmp_path / "clip.h5", overwrite=True)
    assert len(read_hdf5(tmp_path / "clip.h5")) == 2


def test_a_flipped_byte_is_an_error(make_clip, tmp_path):
    path = tmp_path / "clip.h5"
    export_hdf5(make_clip(2), path)
    with h5py.File(path) as file:
        chunk = file["residual_y"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptStoreError, match=r"clip\.h5: frames 0 to 1"):
        list(read_hdf5(path))


def test_something_else_is_refused(tmp_path):
    path = tmp_path / "clip.h5"
    path.write_text("no HDF5")
    with pytest.raises(SchemaError, match="no HDF5 file"):
        read_hdf5(path)
    with h5py.File(path, "w") as file:
        file["x"] = [1]
    with pytest.raises(SchemaError, match="codecprior"):
        read_hdf5(path)


def test_a_file_with_an_array_of_another_shape_is_refused(make_clip, tmp_path):
    path = tmp_path / "clip.h5"
    export_hdf5(make_clip(2), path)
    with h5py.File(path, "r+") as file:
        del file["qp"]
        file["qp"] = np.full((2, 3, 3), CodingFlag.SKIP, np.int8)
    with pytest.raises(SchemaError, match="qp"):
        read_hdf5(path)
