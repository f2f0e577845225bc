import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.errors import ConfigError, DatasetError
from codecprior.interop.cpgdnet import export_cpgd_net, read_cpgd_net


def load_as_their_loader(root, clip, t):
    """What VideoDeblur_dataset.py of CPGD-Net does with the files of the pair (t, t + 1), in numpy."""
    name = f"{clip}_{t:05d}_{t + 1:05d}.npy"
    vectors = np.load(root / "MVs" / clip / name).astype("float32")
    vectors = np.repeat(np.repeat(vectors, 4, axis=1), 4, axis=2) / 16
    residual = (np.load(root / "resi" / clip / name).astype("float32") + 1) / 512.0
    return vectors, residual


def to_previous(frame):
    return frame.uses_list(0) & (frame.ref_frame_index(0) == frame.frame_index - 1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), window=st.sampled_from([(0, 0, 0, 0), (0, 0, 0, 8), (2, 6, 4, 4)]))
def test_their_loader_gets_displacement_to_the_previous_frame_and_residual(
    make_clip, visible_part, tmp_path_factory, seed, window
):
    root = tmp_path_factory.mktemp("cpgd")
    clip = make_clip(4, seed=seed, conformance_window=window)
    export_cpgd_net(clip, root, clip="c")
    for coded in clip[1:]:
        frame = visible_part(coded)
        vectors, residual = load_as_their_loader(root, "c", frame.frame_index - 1)
        assert vectors.shape == (2, *residual.shape) == (2, frame.box.height, frame.box.width)
        assert np.array_equal(residual * 512 - 1, frame.residual_y)
        if not (frame.box.x % 4 or frame.box.y % 4):
            valid = frame.expand(to_previous(frame))
            expected = np.where(valid[..., None], frame.flow(0).displacement, 0)
            assert np.array_equal(np.moveaxis(vectors, 0, -1), expected)


def test_a_window_off_the_grid_takes_the_cell_of_each_tile_corner(make_clip, visible_part, tmp_path):
    clip = make_clip(2, seed=4, conformance_window=(2, 6, 2, 6))
    export_cpgd_net(clip, tmp_path, clip="c")
    frame = visible_part(clip[1])
    dense = frame.expand(np.where(to_previous(frame)[..., None], frame.mv_l0, 0))
    found = np.load(tmp_path / "MVs/c/c_00000_00001.npy")
    assert np.array_equal(np.moveaxis(found, 0, -1), dense[::4, ::4])


def test_a_clip_of_n_frames_has_n_minus_1_pairs_of_int16_files(make_clip, tmp_path):
    report = export_cpgd_net(make_clip(4), tmp_path, clip="c")
    names = [f"c_{t:05d}_{t + 1:05d}.npy" for t in range(3)]
    for kind in ("MVs", "resi"):
        assert sorted(file.name for file in (tmp_path / kind / "c").iterdir()) == names
        assert np.load(tmp_path / kind / "c" / names[0]).dtype == np.int16
    assert report.num_frames == 4
    assert report.size_bytes == sum(file.stat().st_size for file in tmp_path.rglob("*.*"))


def test_nothing_but_arrays_lies_where_their_test_loader_lists_files(make_clip, tmp_path):
    export_cpgd_net(make_clip(3), tmp_path, clip="c")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["MVs", "c.json", "resi"]
    assert [entry.name for entry in (tmp_path / "MVs").iterdir()] == ["c"]
    assert all(file.suffix == ".npy" for file in (tmp_path / "MVs/c").iterdir())


def test_eight_digits_serve_their_bsd_variant(make_clip, tmp_path):
    export_cpgd_net(make_clip(2), tmp_path, clip="c", digits=8)
    assert (tmp_path / "MVs/c/c_00000000_00000001.npy").exists()
    assert len(read_cpgd_net(tmp_path)) == 2


def test_cells_without_a_vector_to_the_previous_frame_are_zero_and_counted(make_clip, tmp_path):
    clip = make_clip(4, seed=1)
    report = export_cpgd_net(clip, tmp_path, clip="c")
    facts = json.loads((tmp_path / "c.json").read_text())
    previous = [to_previous(frame) for frame in clip[1:]]
    used = sum(int(frame.uses_list(0).sum()) for frame in clip[1:])
    assert facts["MVs"]["cells"] == {
        "previous_frame": sum(int(mask.sum()) for mask in previous),
        "other_frame": used - sum(int(mask.sum()) for mask in previous),
        "no_list_0": sum(mask.size for mask in previous) - used,
    }
    assert min(facts["MVs"]["cells"].values()) > 0
    for t, mask in enumerate(previous):
        vectors = np.load(tmp_path / f"MVs/c/c_{t:05d}_{t + 1:05d}.npy")
        assert (vectors[:, ~mask] == 0).all()
    assert any("do not use list 0" in sentence for sentence in report.not_represented)
    assert any("another frame" in sentence for sentence in report.not_represented)


def test_units_stand_in_the_metadata(make_clip, tmp_path):
    export_cpgd_net(make_clip(2), tmp_path, clip="c")
    facts = json.loads((tmp_path / "c.json").read_text())
    assert facts["MVs"]["unit"] == "1/16 luma sample"
    assert facts["resi"]["unit"] == "luma sample value at 10 bit"


def test_motion_and_residual_come_back_exactly(make_clip, tmp_path):
    clip = make_clip(4, seed=9)
    export_cpgd_net(clip, tmp_path, clip="c")
    imported = read_cpgd_net(tmp_path, clip="c")
    assert imported.stream == clip[0].stream
    first, *others = imported
    assert not first.picture.has_priors
    assert not first.uses_list(0).any()
    for expected, found in zip(clip[1:], others, strict=True):
        assert found.frame_index == expected.frame_index
        assert np.array_equal(found.residual_y, expected.residual_y)
        assert np.array_equal(found.mv_l0, np.where(to_previous(expected)[..., None], expected.mv_l0, 0))
        assert (found.ref_frame_index(0) == found.frame_index - 1).all()


def test_files_without_metadata_are_taken_as_theirs(make_clip, tmp_path):
    export_cpgd_net(make_clip(3), tmp_path, clip="c")
    (tmp_path / "c.json").unlink()
    imported = read_cpgd_net(tmp_path)
    assert (imported.stream.coded_size, imported.stream.bit_depth, imported.stream.mv_scale) == ((72, 40), 10, 16)


def test_what_the_files_cannot_know_is_said(make_clip, tmp_path):
    export_cpgd_net(make_clip(2), tmp_path, clip="c")
    imported = read_cpgd_net(tmp_path)
    assert "coding_flags" in imported.unknown_arrays
    assert "mv_l1" in imported.unknown_arrays
    assert "residual_y" not in imported.unknown_arrays
    assert all(getattr(frame, name) is None for frame in imported for name in imported.unknown_arrays)
    assert any("zero vectors" in sentence for sentence in imported.unknown)


def test_whole_numbers_stored_as_floats_are_read(make_clip, tmp_path):
    clip = make_clip(2, seed=2)
    export_cpgd_net(clip, tmp_path, clip="c")
    file = tmp_path / "resi/c/c_00000_00001.npy"
    np.save(file, np.load(file).astype(np.float32))
    assert np.array_equal(list(read_cpgd_net(tmp_path))[1].residual_y, clip[1].residual_y)
    np.save(file, np.load(file) / 512)
    with pytest.raises(DatasetError, match="units"):
        list(read_cpgd_net(tmp_path))


def test_other_clips_in_the_root_stay(make_clip, tmp_path):
    export_cpgd_net(make_clip(2), tmp_path, clip="a")
    export_cpgd_net(make_clip(3), tmp_path, clip="b")
    assert len(read_cpgd_net(tmp_path, clip="a")) == 2
    assert len(read_cpgd_net(tmp_path, clip="b")) == 3
    with pytest.raises(DatasetError, match=r"several clips.*a, b"):
        read_cpgd_net(tmp_path)
    with pytest.raises(ConfigError, match="exists"):
        export_cpgd_net(make_clip(3), tmp_path, clip="a")
    export_cpgd_net(make_clip(3), tmp_path, clip="a", overwrite=True)
    assert len(read_cpgd_net(tmp_path, clip="a")) == 3


@pytest.mark.parametrize("clip", ["", "a/b", "..", ".hidden"])
def test_a_clip_name_that_is_no_folder_name_is_refused(make_clip, tmp_path, clip):
    with pytest.raises(ConfigError, match="clip name"):
        export_cpgd_net(make_clip(2), tmp_path, clip=clip)


def test_a_single_frame_and_gaps_are_refused_and_leave_nothing(make_clip, tmp_path):
    clip = make_clip(4)
    with pytest.raises(ConfigError, match="fewer than two"):
        export_cpgd_net(clip[:1], tmp_path, clip="c")
    with pytest.raises(ConfigError, match="every frame"):
        export_cpgd_net(clip[::2], tmp_path, clip="c")
    assert not [entry for entry in tmp_path.rglob("*") if entry.is_file()]


def test_frames_without_residual_are_refused(make_clip, tmp_path):
    frames = [dataclasses.replace(frame, residual_y=None) for frame in make_clip(2)]
    with pytest.raises(ConfigError, match="residual_y"):
        export_cpgd_net(frames, tmp_path, clip="c")


def remove_residual(root):
    (root / "resi/c/c_00001_00002.npy").unlink()


def remove_pair(root):
    (root / "resi/c/c_00001_00002.npy").unlink()
    (root / "MVs/c/c_00001_00002.npy").unlink()


def rename(root):
    (root / "MVs/c/c_00001_00002.npy").rename(root / "MVs/c/c_00001_00003.npy")


def reshape(root):
    file = root / "MVs/c/c_00001_00002.npy"
    np.save(file, np.moveaxis(np.load(file), 0, -1))


def truncate(root):
    (root / "resi/c/c_00001_00002.npy").write_bytes(b"\x93NUMPY")


def remove_folder(root):
    (root / "resi").rename(root / "residual")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_residual, r"resi/c/\S+ is missing"),
        (remove_pair, r"MVs/c/c_00001_00002\.npy is missing"),
        (rename, "not named"),
        (reshape, "fits the residual"),
        (truncate, "not a readable"),
        (remove_folder, "no folder resi"),
    ],
)
def test_a_damaged_tree_is_refused_before_reading(make_clip, tmp_path, damage, reason):
    export_cpgd_net(make_clip(4), tmp_path, clip="c")
    damage(tmp_path)
    with pytest.raises(DatasetError, match=reason):
        read_cpgd_net(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [("[]", "damaged"), ('{"version": 1, "first_frame": "a"}', "damaged"), ('{"version": 2}', "reads 1")],
)
def test_metadata_of_something_else_is_refused(make_clip, tmp_path, metadata, reason):
    export_cpgd_net(make_clip(3), tmp_path, clip="c")
    (tmp_path / "c.json").write_text(metadata)
    with pytest.raises(DatasetError, match=reason):
        read_cpgd_net(tmp_path)


def test_a_clip_of_more_files_than_can_be_open_at_once_is_read(make_clip, tmp_path):
    export_cpgd_net(make_clip(2, coded_size=(8, 8)), tmp_path, clip="c")
    (tmp_path / "c.json").unlink()
    for kind in ("MVs", "resi"):
        for t in range(1, 700):
            (tmp_path / kind / "c" / f"c_{t:05d}_{t + 1:05d}.npy").hardlink_to(tmp_path / kind / "c/c_00000_00001.npy")
    assert len(read_cpgd_net(tmp_path)) == 701
