from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.core.arrays import PictureType
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo
from codecprior.errors import (
    ConfigError,
    CorruptStoreError,
    IncompleteStoreError,
    SchemaError,
    StoreNotFoundError,
)
from codecprior.store import StoreWriter, open_store
from codecprior.store.partial import partial_path


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory, make: Any) -> Path:
    """37 frames of 272x144 with a conformance window of (2, 6, 4, 10): 264x130 are shown."""
    path: Path = tmp_path_factory.mktemp("windowed") / "clip.zarr"
    stream = make.stream(272, 144, conformance_window=(2, 6, 4, 10), bit_depth=10)
    make.write(path, stream, 37, with_frames=True)
    return path


def coded_frame(make: Any, path: Path, index: int) -> FramePriors:
    frame: FramePriors = make.frame(open_store(path).stream, index, with_frames=True)
    return frame


def test_the_conformance_window_is_cropped(windowed: Path, make: Any) -> None:
    store = open_store(windowed)
    assert store.size == (264, 130)
    make.assert_same_frame(store[20], coded_frame(make, windowed, 20).crop(2, 4, 264, 130))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_crop_reads_what_cropping_a_read_gives(windowed: Path, make: Any, data: st.DataObject) -> None:
    store = open_store(windowed)
    index = data.draw(st.integers(0, 36))
    x, y = 2 * data.draw(st.integers(0, 131)), 2 * data.draw(st.integers(0, 64))
    width, height = data.draw(st.integers(1, 264 - x)), data.draw(st.integers(1, 130 - y))
    found = store.crop(x, y, width, height)[index]
    wanted = coded_frame(make, windowed, index).crop(2 + x, 4 + y, width, height)
    make.assert_same_frame(found, wanted)
    assert found.box == wanted.box
    assert found.size == (width, height)


def test_crops_nest(windowed: Path, make: Any) -> None:
    store = open_store(windowed)
    make.assert_same_frame(store.crop(16, 8, 100, 90).crop(4, 2, 30, 20)[9], store.crop(20, 10, 30, 20)[9])


@pytest.mark.parametrize("crop", [(0, 0, 265, 130), (-2, 0, 10, 10), (0, 0, 0, 10), (1, 0, 10, 10)])
def test_crops_that_stick_out_or_split_chroma_are_refused(windowed: Path, crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError):
        open_store(windowed).crop(*crop)


@settings(max_examples=40, deadline=None)
@given(slices=st.lists(st.slices(37), min_size=1, max_size=2))
def test_slices_of_frames_behave_as_those_of_a_list(windowed: Path, slices: list[slice]) -> None:
    view = open_store(windowed).select("qp").crop(0, 0, 16, 16)
    wanted = list(range(37))
    for part in slices:
        view = view[part]
        wanted = wanted[part]
    assert len(view) == len(wanted)
    assert [frame.frame_index for frame in view] == wanted
    clip = view.load()
    assert clip.frame_indices == tuple(wanted)
    assert clip.arrays["qp"].shape == (len(wanted), 4, 5)


def test_frames_of_a_strided_or_turned_clip_are_the_right_ones(windowed: Path, make: Any) -> None:
    for part in (slice(30, 3, -5), slice(1, None, 3)):
        view = open_store(windowed)[part]
        for loaded, iterated in zip(view.load().frames, view, strict=True):
            wanted = coded_frame(make, windowed, loaded.frame_index).crop(2, 4, 264, 130)
            make.assert_same_frame(loaded, wanted)
            make.assert_same_frame(iterated, wanted)


def test_negative_indices_count_from_the_end(windowed: Path) -> None:
    store = open_store(windowed).select("qp")
    assert store[-1].frame_index == 36
    assert store[10:20][-1].frame_index == 19
    for index in (37, -38):
        with pytest.raises(IndexError, match="37 frames"):
            store[index]


def test_selected_arrays_are_the_only_ones_read(windowed: Path) -> None:
    frame = open_store(windowed).select("residual_y", "mv_l0")[0]
    assert list(frame.arrays()) == ["mv_l0", "residual_y"]
    with pytest.raises(ConfigError, match="read without 'qp'"):
        frame.require("qp")
    with pytest.raises(ConfigError, match="no array 'mv'"):
        open_store(windowed).select("mv")


def test_a_loaded_clip_has_a_leading_frame_axis(windowed: Path, make: Any) -> None:
    clip = open_store(windowed)[5:20].crop(8, 16, 64, 32).load()
    assert clip.arrays["mv_l0"].shape == (15, 8, 17, 2)
    assert clip.arrays["residual_y"].shape == (15, 32, 64)
    assert clip.arrays["frame_u"].shape == (15, 16, 32)
    assert "15 frames" in repr(clip)
    make.assert_same_frame(clip.frames[3], open_store(windowed).crop(8, 16, 64, 32)[8])


def test_references_are_found_within_their_coded_video_sequence(tmp_path: Path, make: Any) -> None:
    # POCs 0, 2, 1 of two sequences: the reference of POC 1 with delta +1 is the frame with POC 2 of its own sequence.
    stream = make.stream()
    pocs = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    delta = np.ones(stream.grid_shape, np.int16)
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        clip = writer.begin(stream)
        for index, (cvs, poc) in enumerate(pocs):
            picture = PictureInfo(poc=poc, decode_order=index, cvs=cvs, picture_type=PictureType.B, slice_qp=30)
            arrays = {"ref_poc_delta_l0": delta, "ref_poc_delta_l1": -5 * delta}
            clip.append(FramePriors(**{**vars(make.frame(stream, index)), "picture": picture, **arrays}))
        writer.finish()
    frames = list(open_store(tmp_path / "clip.zarr"))
    assert [int(frame.ref_frame_index(0)[0, 0]) for frame in frames] == [1, 2, -1, 4, 5, -1]
    assert {int(frame.ref_frame_index(1)[0, 0]) for frame in frames} == {-1}


def test_pictures_of_a_view_are_those_of_its_frames(windowed: Path, make: Any) -> None:
    view = open_store(windowed)[30:20:-4]
    assert view.pictures == tuple(make.frame(view.stream, index).picture for index in (30, 26, 22))


def test_repr_and_info_show_shapes(windowed: Path) -> None:
    store = open_store(windowed)
    assert "37 frames, 264x130, 10 bit, 4:2:0, mv_l0 int16[37, 33, 67, 2]" in repr(store)
    info = json.loads(json.dumps(store.info()))
    assert info["arrays"]["residual_y"]["shape"] == [37, 130, 264]
    assert info["arrays"]["frame_y"]["dtype"] == "uint16"
    total = sum(path.stat().st_size for path in windowed.rglob("*") if path.is_file())
    assert info["stored_bytes"] == total
    assert 0 < info["arrays"]["residual_y"]["stored_bytes"] < total


def test_a_pickled_store_reads_in_a_spawned_process(windowed: Path, tmp_path: Path) -> None:
    store = open_store(windowed)[3:9].crop(0, 0, 32, 32).select("residual_y")
    wanted = store.load().arrays["residual_y"]
    (tmp_path / "view.pickle").write_bytes(pickle.dumps(store))
    code = (
        "import pickle, sys; store = pickle.load(open(sys.argv[1], 'rb'));"
        "sys.stdout.buffer.write(store.load().arrays['residual_y'].tobytes())"
    )
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "view.pickle")], check=True, capture_output=True)
    assert child.stdout == wanted.tobytes()


_FORK = """
import os, sys, warnings
from codecprior.errors import StoreError
from codecprior.store import open_store
store = open_store(sys.argv[1]).select("qp")
store[0]
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    try:
        store[0]
    except StoreError as error:
        os._exit(7 if "spawn" in str(error) else 8)
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_gets_an_error_instead_of_a_hang(windowed: Path) -> None:
    arguments = [sys.executable, "-c", _FORK, str(windowed)]
    child = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
    assert child.stdout.strip() == "7"


def test_nothing_at_the_path_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        open_store(tmp_path / "clip.zarr")
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path)


def test_an_unfinished_store_is_named(tmp_path: Path, make: Any) -> None:
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(20))
    with pytest.raises(IncompleteStoreError, match=r"\.clip\.zarr\.partial.*run the same extract again"):
        open_store(tmp_path / "clip.zarr")
    with pytest.raises(StoreNotFoundError):
        open_store(partial_path(tmp_path / "clip.zarr") / "store")


def test_a_group_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(SchemaError, match="not written by codecprior"):
        open_store(tmp_path)


@pytest.mark.parametrize("name", ["zarr.json", "qp/zarr.json", "poc/zarr.json"])
def test_truncated_metadata_is_corrupt(stored: Path, name: str) -> None:
    path = stored / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptStoreError):
        open_store(stored)[0]


def test_missing_checksums_are_corrupt(stored: Path) -> None:
    (stored / "checksums.sha256").unlink()
    with pytest.raises(CorruptStoreError, match="is missing"):
        open_store(stored)


def test_metadata_that_contradicts_the_attributes_is_refused(stored: Path) -> None:
    path = stored / "qp" / "zarr.json"
    document = json.loads(path.read_text())
    document["shape"][0] = 36
    path.write_text(json.dumps(document))
    with pytest.raises(SchemaError, match="the attributes say"):
        open_store(stored)[0]


@pytest.mark.parametrize("name", ["residual_y/c.1.0.0", "mv_l0/c.0.0.0.0", "poc/c.0"])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_never_reads_as_samples(windowed: Path, name: str, data: st.DataObject) -> None:
    path = windowed / name
    original = path.read_bytes()
    damaged = bytearray(original)
    damaged[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    try:
        with pytest.raises(CorruptStoreError, match="damaged"):
            open_store(windowed).load()
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("size", [0, 20, 2000])
def test_a_truncated_shard_is_corrupt(stored: Path, size: int) -> None:
    path = stored / "residual_y" / "c.0.0.0"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CorruptStoreError, match="damaged"):
        open_store(stored)[0]


def test_a_missing_shard_does_not_read_as_zeros(stored: Path) -> None:
    (stored / "residual_y" / "c.1.0.0").unlink()
    with pytest.raises(CorruptStoreError, match=r"residual_y/c\.1\.0\.0 is missing"):
        open_store(stored)[0]
