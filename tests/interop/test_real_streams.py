"""What a real stream has (affine, geometric, refined and combined blocks) survives the formats."""

import itertools

import numpy as np
import pytest

from codecprior.core.arrays import CodingFlag
from codecprior.interop.convert import export_store, open_import
from codecprior.store import StoreWriter, open_store
from vvc_wrappers.probe import Probe

GRIDS = ("mv_l0", "mv_l1", "ref_poc_delta_l0", "ref_poc_delta_l1", "pred_mode", "coding_flags", "cu_size", "qp")


@pytest.fixture(
    scope="module", params=[("PROF_A_Interdigital_3", CodingFlag.AFFINE), ("GPM_A_Alibaba_3", CodingFlag.GEO)]
)
def store(request, conformance_dir, tmp_path_factory):
    name, flag = request.param
    frames = itertools.islice(Probe().pictures(conformance_dir / f"{name}.bit"), 4)
    path = tmp_path_factory.mktemp("real") / f"{name}.zarr"
    first = next(frames)
    with StoreWriter(path, digest="test") as writer:
        forward = writer.begin(first.stream)
        for frame in itertools.chain([first], frames):
            forward.append(frame)
        writer.finish()
    opened = open_store(path)
    assert (opened.select("coding_flags").load().arrays["coding_flags"] & flag).any()
    return opened


def test_block_statistics_hold_every_map_of_a_real_stream(store, tmp_path):
    report = export_store(store, tmp_path / "clip.vtmbmsstats", "blockstat")
    for found, expected in zip(open_import(report.path, "blockstat"), store, strict=True):
        assert found.picture == expected.picture
        assert found.reference_frames == expected.reference_frames
        for name in GRIDS:
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def test_tables_hold_all_motion_of_a_real_stream(store, tmp_path):
    report = export_store(store, tmp_path / "tables", "mv-extractor")
    for found, expected in zip(open_import(report.path, "mv-extractor"), store, strict=True):
        for which in (0, 1):
            known = expected.ref_frame_index(which) >= 0
            motion = np.where(known[..., None], getattr(expected, f"mv_l{which}"), 0)
            assert np.array_equal(getattr(found, f"mv_l{which}"), motion)
            assert np.array_equal(found.ref_frame_index(which), expected.ref_frame_index(which))
