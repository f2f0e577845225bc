import dataclasses
import json
import math
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.core.arrays import REF_NONE, PictureType, PredMode
from codecprior.errors import ConfigError, DatasetError
from codecprior.interop.mvextractor import COLUMNS, export_mv_extractor, motion_vector_table, read_mv_extractor

MOTION = ("mv_l0", "mv_l1", "ref_poc_delta_l0", "ref_poc_delta_l1")


def test_each_row_describes_its_block(make_clip):
    clip = make_clip(6, seed=5)
    for frame in clip:
        table = motion_vector_table(frame)
        assert table.dtype == np.int32
        assert table.shape[1] == len(COLUMNS) == 10
        for source, w, h, src_x, src_y, dst_x, dst_y, motion_x, motion_y, scale in table.tolist():
            row, col = (dst_y - h // 2) // 4, (dst_x - w // 2) // 4
            candidates = [
                (frame.ref_frame_index(which)[row, col] - frame.frame_index, *getattr(frame, f"mv_l{which}")[row, col])
                for which in (0, 1)
                if frame.uses_list(which)[row, col]
            ]
            assert (source, motion_x, motion_y) in candidates
            assert scale == 16
            assert src_x == dst_x + math.trunc(motion_x / scale)  # C division, as FFmpeg has it
            assert src_y == dst_y + math.trunc(motion_y / scale)


def test_rows_cover_the_cells_of_each_list_exactly(make_clip):
    frame = make_clip(3, seed=5)[2]
    for which in (0, 1):
        other = f"ref_poc_delta_l{1 - which}"
        alone = dataclasses.replace(frame, **{other: np.full_like(getattr(frame, other), REF_NONE)})
        covered = np.zeros(frame.pred_mode.shape, int)
        for _, w, h, _, _, dst_x, dst_y, *_ in motion_vector_table(alone).tolist():
            covered[(dst_y - h // 2) // 4 : (dst_y + h // 2) // 4, (dst_x - w // 2) // 4 : (dst_x + w // 2) // 4] += 1
        assert np.array_equal(covered, frame.uses_list(which))


def test_source_is_the_distance_in_frames_and_not_in_pocs(make_clip):
    clip = make_clip(6, seed=1, intra_period=6)  # POC counts by 2
    sources = {int(source) for frame in clip for source in motion_vector_table(frame)[:, 0]}
    assert sources <= set(range(-5, 6)) - {0}
    assert {-1, 1} <= sources
    assert any(source % 2 for source in sources)


def test_a_frame_without_motion_has_an_empty_table(make_clip):
    table = motion_vector_table(make_clip(1)[0])
    assert table.shape == (0, 10)
    assert table.dtype == np.int32


def test_blocks_whose_reference_was_never_output_are_left_out_and_counted(make_clip, tmp_path):
    frame = dataclasses.replace(make_clip(2, seed=2)[1], reference_frames={})
    assert len(motion_vector_table(frame)) == 0
    report = export_mv_extractor([frame], tmp_path / "out")
    assert any("never output" in sentence for sentence in report.not_represented)


def test_the_folder_is_that_of_extract_mvs_dump(make_clip, tmp_path):
    clip = make_clip(4, concealed=3)
    report = export_mv_extractor(clip, tmp_path / "out")
    names = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.*"))
    tables = [f"motion_vectors/mvs-{t}.npy" for t in range(4)]
    assert names == ["frame_types.txt", "metadata.json", *tables, "timestamps.txt"]
    assert (tmp_path / "out/frame_types.txt").read_text().split() == ["I", "B", "B", "?"]
    assert [float(line) for line in (tmp_path / "out/timestamps.txt").read_text().split()] == [
        frame.picture.pts_seconds for frame in clip
    ]
    assert np.array_equal(np.load(tmp_path / "out/motion_vectors/mvs-1.npy"), motion_vector_table(clip[1]))
    assert json.loads((tmp_path / "out/metadata.json").read_text())["columns"] == list(COLUMNS)
    assert report.size_bytes == sum(file.stat().st_size for file in (tmp_path / "out").rglob("*.*"))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), window=st.sampled_from([(0, 0, 0, 0), (2, 6, 4, 2), (0, 0, 0, 7)]))
def test_motion_of_an_export_comes_back_exactly(make_clip, visible_part, tmp_path_factory, seed, window):
    clip = make_clip(4, seed=seed, conformance_window=window)
    folder = tmp_path_factory.mktemp("mvs") / "out"
    export_mv_extractor(clip, folder)
    imported = read_mv_extractor(folder)
    assert imported.stream == clip[0].stream
    for coded, found in zip(clip, imported, strict=True):
        expected = visible_part(coded)
        assert found.frame_index == expected.frame_index
        assert found.picture.picture_type == expected.picture.picture_type
        for which in (0, 1):
            assert np.array_equal(getattr(found, f"mv_l{which}"), getattr(expected, f"mv_l{which}"))
            assert np.array_equal(found.ref_frame_index(which), expected.ref_frame_index(which))
        inter = expected.uses_list(0) | expected.uses_list(1)
        assert np.array_equal(found.pred_mode, np.where(inter, PredMode.INTER, PredMode.INTRA))


def test_what_a_table_cannot_know_is_said(make_clip, tmp_path):
    export_mv_extractor(make_clip(2), tmp_path / "out")
    imported = read_mv_extractor(tmp_path / "out")
    assert imported.unknown_arrays == (
        "coding_flags",
        "cu_size",
        "qp",
        "residual_y",
        "residual_u",
        "residual_v",
    )
    assert all(getattr(frame, name) is None for frame in imported for name in imported.unknown_arrays)


def foreign(tmp_path, tables):
    """Write a folder as mv-extractor itself writes it, for a 64x48 video."""
    for child in ("frames", "motion_vectors"):
        (tmp_path / child).mkdir()
    for t, table in enumerate(tables):
        np.save(tmp_path / "motion_vectors" / f"mvs-{t}.npy", table)
        cv2.imwrite(str(tmp_path / "frames" / f"frame-{t}.jpg"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "frame_types.txt").write_text("I\nB\n")
    return tmp_path


def test_a_dump_of_mv_extractor_itself_is_read(tmp_path):
    row = [[-1, 16, 16, 6, 7, 8, 8, -9, -5, 4], [1, 8, 8, 45, 20, 44, 20, 7, 0, 4]]
    imported = read_mv_extractor(foreign(tmp_path, [np.zeros((0, 10), np.int64), np.array(row, np.int64)]))
    assert imported.stream.coded_size == (64, 48)
    assert imported.stream.mv_scale == 4
    first, second = imported
    assert (first.pred_mode == PredMode.INTRA).all()
    assert second.picture.picture_type is PictureType.B
    assert (second.mv_l0[:4, :4] == [-9, -5]).all()
    assert (second.mv_l1[4:6, 10:12] == [7, 0]).all()
    assert second.uses_list(0).sum() == 16
    assert second.uses_list(1).sum() == 4
    assert (second.ref_frame_index(0)[:4, :4] == 0).all()
    assert any("-1 or +1" in sentence for sentence in imported.unknown)


def test_a_dump_without_pictures_has_no_size_and_is_refused(tmp_path):
    folder = foreign(tmp_path, [np.zeros((0, 10), np.int64)])
    shutil.rmtree(folder / "frames")
    with pytest.raises(DatasetError, match="size"):
        read_mv_extractor(folder)


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"mvs-0\.npy"):
        read_mv_extractor(tmp_path)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (np.zeros((3, 9), np.int32), r"shape \[N, 10\]"),
        (np.zeros((3, 10), np.float32), r"shape \[N, 10\]"),
        (np.array([[-1, 16, 16, 0, 0, 200, 8, 0, 0, 16]]), "outside 72x40"),
        (np.array([[-1, 16, 16, 0, 0, 8, 8, 0, 0, 4]]), "motion scales"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_by_name(make_clip, tmp_path, table, reason):
    export_mv_extractor(make_clip(2), tmp_path / "out")
    np.save(tmp_path / "out/motion_vectors/mvs-1.npy", table)
    with pytest.raises(DatasetError, match=rf"mvs-1\.npy.*{reason}"):
        list(read_mv_extractor(tmp_path / "out"))


def test_a_missing_table_is_refused(make_clip, tmp_path):
    export_mv_extractor(make_clip(3), tmp_path / "out")
    (tmp_path / "out/motion_vectors/mvs-1.npy").unlink()
    with pytest.raises(DatasetError, match="2 tables"):
        read_mv_extractor(tmp_path / "out")


def test_an_existing_folder_is_replaced_as_a_whole_when_asked_for(make_clip, tmp_path):
    export_mv_extractor(make_clip(4), tmp_path / "out")
    with pytest.raises(ConfigError, match="exists"):
        export_mv_extractor(make_clip(2), tmp_path / "out")
    export_mv_extractor(make_clip(2), tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out/motion_vectors").iterdir())) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
