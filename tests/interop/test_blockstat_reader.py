import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.core.arrays import CodingFlag, PictureType
from codecprior.errors import TraceError
from codecprior.interop.blockstat import export_blockstat
from codecprior.interop.blockstat_reader import read_blockstat

GRIDS = ("mv_l0", "mv_l1", "ref_poc_delta_l0", "ref_poc_delta_l1", "pred_mode", "coding_flags", "cu_size", "qp")

# A trace as VTM's format strings print it: decoding order 0, 2, 1, then an IDR with POC 0 again.
VTM = """\
# VTMBMS Block Statistics
# Sequence size: [16x 8]
# Block Statistic Type: PredMode; Integer; [0, 4]
# Block Statistic Type: Depth; Integer; [0, 7]
# Block Statistic Type: QP; Integer; [0, 51]
# Block Statistic Type: SkipFlag; Flag;\x20
# Block Statistic Type: MVL0; Vector; Scale: 4
# Block Statistic Type: MVL1; Vector; Scale: 4
# Block Statistic Type: MotionBufL0; Vector; Scale: 16
# Block Statistic Type: MotionBufL1; Vector; Scale: 16
# Block Statistic Type: GeoPartitioning; Line;\x20
# Block Statistic Type: GeoMVL0; VectorPolygon; Scale: 4
BlockStat: POC 0 @(   0,   0) [16x 8] PredMode=1
BlockStat: POC 0 @(   0,   0) [16x 8] QP=30
BlockStat: POC 2 @(   0,   0) [ 8x 8] PredMode=0
BlockStat: POC 2 @(   0,   0) [ 8x 8] QP=32
BlockStat: POC 2 @(   0,   0) [ 8x 8] SkipFlag=1
BlockStat: POC 2 @(   0,   0) [ 8x 8] InterDir=1
BlockStat: POC 2 @(   0,   0) [ 8x 8] RefIdxL0=0
BlockStat: POC 2 @(   0,   0) [ 8x 8] MVL0={ -70,  18}
BlockStat: POC 2 @(   8,   0) [ 8x 8] PredMode=0
BlockStat: POC 2 @(   8,   0) [ 8x 8] QP=-3
BlockStat: POC 2 @(   8,   0) [ 8x 8] SkipFlag=0
BlockStat: POC 2 @(   8,   0) [ 8x 8] Cbf_Y=1
BlockStat: POC 2 @(   8,   0) [ 8x 8] GeoPartitioning={   1,   0,   8,   5}
BlockStat: POC 2 @[(8, 0)--(16, 0)--(8, 8)--] GeoMVL0={ 152,  24}
BlockStat: POC 1 @(   0,   0) [16x 8] PredMode=0
BlockStat: POC 1 @(   0,   0) [16x 8] InterDir=3
BlockStat: POC 1 @(   0,   0) [16x 8] MVL0={   1,  -1}
BlockStat: POC 1 @(   0,   0) [16x 8] MVL1={  -1,   1}
BlockStat: POC 0 @(   0,   0) [16x 8] PredMode=1
"""


def round_trip(tmp_path, frames):
    path = tmp_path / "clip.vtmbmsstats"
    export_blockstat(frames, path, overwrite=True)
    return read_blockstat(path)


def vtm(tmp_path, text=VTM):
    path = tmp_path / "trace.vtmbmsstats"
    path.write_text(text)
    return read_blockstat(path)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    window=st.sampled_from([(0, 0, 0, 0), (0, 0, 0, 8), (2, 6, 4, 2), (12, 0, 0, 1)]),
    concealed=st.sampled_from([None, 0, 2]),
    mv_dtype=st.sampled_from(["int16", "int32"]),
)
def test_every_map_comes_back_exactly(*, make_clip, visible_part, tmp_path_factory, seed, window, concealed, mv_dtype):
    clip = make_clip(4, seed=seed, conformance_window=window, concealed=concealed, mv_dtype=mv_dtype)
    imported = round_trip(tmp_path_factory.mktemp("round"), clip)
    assert imported.stream == clip[0].stream
    for coded, found in zip(clip, imported, strict=True):
        expected = visible_part(coded)
        assert (found.frame_index, found.picture, found.box) == (expected.frame_index, expected.picture, expected.box)
        assert found.reference_frames == expected.reference_frames
        for name in GRIDS:
            assert getattr(found, name).dtype == getattr(expected, name).dtype
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def test_the_import_can_be_read_again_and_knows_its_length(make_clip, tmp_path):
    imported = round_trip(tmp_path, make_clip(3))
    assert len(imported) == len(list(imported)) == len(list(imported)) == 3


def test_maps_that_were_not_written_stay_unknown(make_clip, tmp_path):
    frames = [dataclasses.replace(frame, qp=None, mv_l1=None, ref_poc_delta_l1=None) for frame in make_clip(2)]
    imported = round_trip(tmp_path, frames)
    assert imported.unknown_arrays == (
        "mv_l1",
        "ref_poc_delta_l1",
        "qp",
        "residual_y",
        "residual_u",
        "residual_v",
    )
    assert all(frame.qp is None and frame.mv_l1 is None for frame in imported)


def test_pictures_of_vtm_are_sorted_into_display_order(tmp_path):
    imported = vtm(tmp_path)
    pictures = [frame.picture for frame in imported]
    assert [picture.poc for picture in pictures] == [0, 1, 2, 0]
    assert [picture.cvs for picture in pictures] == [0, 0, 0, 1]
    assert [picture.decode_order for picture in pictures] == [0, 2, 1, 3]
    kinds = [PictureType.I, PictureType.B, PictureType.B, PictureType.I]
    assert [picture.picture_type for picture in pictures] == kinds
    assert [frame.frame_index for frame in imported] == [0, 1, 2, 3]


def test_vectors_of_vtm_keep_the_scale_of_its_header(tmp_path):
    imported = vtm(tmp_path)
    assert imported.stream.mv_scale == 4
    assert imported.stream.coded_size == (16, 8)
    _, middle, last, _ = imported
    assert last.mv_l0[0, 0].tolist() == [-70, 18]
    assert last.mv_pixels(0)[1, 1].tolist() == [-17.5, 4.5]
    assert (middle.mv_l1 == [-1, 1]).all()
    assert (last.mv_l0[:, 2:] == 0).all()


def test_motion_buffers_of_vtm_are_preferred_for_their_precision(tmp_path):
    exact = "BlockStat: POC 2 @(   4,   4) [ 4x 4] MotionBufL0={-281,  71}\n"
    imported = vtm(tmp_path, VTM.replace("BlockStat: POC 1 @", exact + "BlockStat: POC 1 @", 1))
    assert imported.stream.mv_scale == 16
    frame = list(imported)[2]
    assert frame.mv_l0[1, 1].tolist() == [-281, 71]
    assert (frame.mv_l0[0] == 0).all()


def test_flags_and_units_of_vtm_fill_the_maps(tmp_path):
    frame = list(vtm(tmp_path))[2]
    assert frame.qp.tolist() == [[32, 32, -3, -3]] * 2
    assert (frame.cu_size == 0x33).all()
    left, right = frame.coding_flags[0, 0], frame.coding_flags[0, 2]
    edges = CodingFlag.LEFT_EDGE | CodingFlag.TOP_EDGE
    assert left == CodingFlag.SKIP | CodingFlag.MERGE | edges
    assert right == CodingFlag.GEO | CodingFlag.RESIDUAL | edges
    assert frame.coding_flags[1, 3] == CodingFlag.GEO | CodingFlag.RESIDUAL


def test_references_of_vtm_stay_unknown_and_this_is_said(tmp_path):
    imported = vtm(tmp_path)
    assert {"ref_poc_delta_l0", "ref_poc_delta_l1"} <= set(imported.unknown_arrays)
    assert any(sentence.startswith("reference pictures") for sentence in imported.unknown)
    assert all(frame.ref_poc_delta_l0 is None for frame in imported)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Sequence size"),
        ("# Sequence size: [16x 8]\n", "BlockStat: POC"),
        ("BlockStat;16; 112;   0; 8; 8;MVL0; -70;  18\n", "Sequence size"),
        ("# Sequence size: [16x 8]\nBlockStat: POC 0 @(   0,   0) [ 8x 8] MVL0={1, 1}\n", "scale of MVL0"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path, text, reason):
    with pytest.raises(TraceError, match=reason):
        vtm(tmp_path, text)


@pytest.mark.parametrize(
    "line",
    [
        "BlockStat: POC 1 @(   8,   0) [16x 8] QP=3",
        "BlockStat: POC 1 @(   0,   0) [16x 8] QP=3000",
        "BlockStat: POC 1 @(   0,   0) [16x 8] MVL0={1,2,3}",
        "BlockStat: POC 1 @(   0,   0) [16x",
    ],
)
def test_a_block_that_makes_no_sense_is_refused_with_file_and_frame(tmp_path, line):
    imported = vtm(tmp_path, VTM.replace("BlockStat: POC 1 @", f"{line}\nBlockStat: POC 1 @", 1))
    with pytest.raises(TraceError, match=r"trace\.vtmbmsstats, frame 1"):
        list(imported)


def test_a_file_of_ours_that_was_cut_off_is_refused(make_clip, tmp_path):
    path = tmp_path / "clip.vtmbmsstats"
    export_blockstat(make_clip(3), path)
    text = path.read_bytes()
    path.write_bytes(text[: len(text) * 2 // 3])
    with pytest.raises(TraceError, match="cut off"):
        read_blockstat(path)


@pytest.mark.parametrize(
    ("old", "new"), [('"version": 1', '"version": 2'), ('"bit_depth"', '"depth"'), ('{"frame', "{")]
)
def test_damaged_or_newer_comments_are_refused(make_clip, tmp_path, old, new):
    path = tmp_path / "clip.vtmbmsstats"
    export_blockstat(make_clip(2), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(TraceError, match=r"clip\.vtmbmsstats"):
        read_blockstat(path)
