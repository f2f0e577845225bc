from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codecprior.core.arrays import ARRAYS, PredMode
from codecprior.core.priors import FramePriors
from codecprior.core.stream import CHROMA_SUBSAMPLING
from codecprior.errors import SchemaError, StoreError
from codecprior.store import StoreWriter, is_complete, open_store
from codecprior.store.partial import partial_path
from codecprior.store.verify import verify


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    width=st.integers(1, 40).map(lambda n: 8 * n),
    height=st.integers(1, 20).map(lambda n: 8 * n),
    chroma=st.sampled_from(sorted(CHROMA_SUBSAMPLING)),
    bit_depth=st.sampled_from([8, 10]),
    count=st.integers(1, 35),
    with_frames=st.booleans(),
    mv_dtype=st.sampled_from(["int16", "int32"]),
)
def test_every_frame_comes_back_bit_by_bit(
    *, make: Any, width: int, height: int, chroma: str, bit_depth: int, count: int, with_frames: bool, mv_dtype: str
) -> None:
    stream = make.stream(width, height, chroma_format=chroma, bit_depth=bit_depth)
    kinds = {"with_frames": with_frames, "mv_dtype": mv_dtype}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.zarr"
        make.write(path, stream, count, **kinds)
        store = open_store(path)
        assert len(store) == count
        assert store.stream == stream
        for index in {0, count // 2, count - 1}:
            make.assert_same_frame(store[index], make.frame(stream, index, **kinds))
        assert verify(path).ok


def test_buffers_may_be_reused_once_append_returns(tmp_path: Path, make: Any) -> None:
    stream = make.stream(136, 72)
    slots = [make.arrays(stream, index) for index in range(2)]
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        clip = writer.begin(stream)
        for index in range(40):
            frame = make.frame(stream, index)
            for name, array in frame.arrays().items():
                slots[index % 2][name][...] = array
            clip.append(FramePriors(**{**vars(frame), **slots[index % 2]}))
        writer.finish()
    for index, found in enumerate(open_store(tmp_path / "clip.zarr")):
        make.assert_same_frame(found, make.frame(stream, index))


@pytest.mark.parametrize("chroma", sorted(CHROMA_SUBSAMPLING))
def test_zarr_python_reads_every_array_bit_by_bit(tmp_path: Path, make: Any, chroma: str) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    stream = make.stream(264, 136, chroma_format=chroma, bit_depth=10)
    make.write(tmp_path / "clip.zarr", stream, 19, with_frames=True)
    group = zarr.open_group(tmp_path / "clip.zarr", mode="r")
    wanted = [make.frame(stream, index, with_frames=True) for index in range(19)]
    maps = wanted[0].arrays()
    assert set(group.array_keys()) == {*maps, *(name for name, spec in ARRAYS.items() if spec.kind.value == "picture")}
    for name in maps:
        array = group[name]
        np.testing.assert_array_equal(array[:], np.stack([frame.require(name) for frame in wanted]))
    assert list(group["poc"][:]) == [frame.picture.poc for frame in wanted]
    assert list(group["pts_seconds"][:]) == [frame.picture.pts_seconds for frame in wanted]
    assert group.attrs["codecprior"]["complete"] is True


def test_xarray_opens_a_store_with_named_dimensions(stored: Path, make: Any) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("zarr", minversion="3")
    with xarray.open_zarr(stored) as dataset:
        assert dataset["mv_l0"].dims == ("frame", "grid_row", "grid_column", "component")
        assert dataset["residual_y"].dims == ("frame", "row", "column")
        assert dataset["residual_u"].dims == ("frame", "chroma_row", "chroma_column")
        assert dict(dataset.sizes)["frame"] == 37
        values = dataset["residual_y"].isel(frame=33).values
    np.testing.assert_array_equal(values, make.arrays(make.stream(), 33)["residual_y"])


def test_an_all_zero_shard_has_no_file_and_reads_as_zeros(tmp_path: Path, make: Any) -> None:
    stream = make.stream()
    zeros = {f"residual_{plane}": np.zeros(stream.plane_shape(plane), np.int16) for plane in "yuv"}
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        clip = writer.begin(stream)
        for index in range(20):
            clip.append(FramePriors(**{**vars(make.frame(stream, index)), **zeros}))
        writer.finish()
    assert [path.name for path in (tmp_path / "clip.zarr" / "residual_y").iterdir()] == ["zarr.json"]
    assert not open_store(tmp_path / "clip.zarr").select("residual_y").load().arrays["residual_y"].any()
    assert verify(tmp_path / "clip.zarr").ok


def test_a_concealed_picture_has_no_priors(tmp_path: Path, make: Any) -> None:
    stream = make.stream()
    with StoreWriter(tmp_path / "clip.zarr", digest="x", with_frames=True) as writer:
        clip = writer.begin(stream)
        for index in range(5):
            frame = make.frame(stream, index, with_frames=True)
            if index == 3:
                planes = {name: array for name, array in frame.arrays().items() if name.startswith("frame_")}
                picture = type(frame.picture)(**{**vars(frame.picture), "has_priors": False})
                frame = FramePriors(stream=stream, picture=picture, frame_index=3, box=frame.box, **planes)
            clip.append(frame)
        writer.finish()
    store = open_store(tmp_path / "clip.zarr")
    assert [picture.has_priors for picture in store.pictures] == [True, True, True, False, True]
    assert (store[3].require("pred_mode") == PredMode.NONE).all()
    assert not store[3].uses_list(0).any()
    np.testing.assert_array_equal(store[3].frame_y, make.arrays(stream, 3, with_frames=True)["frame_y"])
    assert verify(tmp_path / "clip.zarr").ok


@pytest.mark.parametrize("count", [1, 16, 37])
def test_a_reversed_pass_lies_at_the_frames_it_belongs_to(tmp_path: Path, make: Any, count: int) -> None:
    stream = make.stream()
    make.write(tmp_path / "clip.zarr", stream, count, reverse=True)
    store = open_store(tmp_path / "clip.zarr")
    backward = store.reverse
    assert backward is not None
    assert store.attributes["directions"] == ["forward", "reverse"]
    for frame in range(count):
        make.assert_same_frame(store[frame], make.frame(stream, frame))
        make.assert_same_frame(backward[frame], make.frame(stream, 1000 + count - 1 - frame))
    assert backward.reverse is None
    report = verify(tmp_path / "clip.zarr")
    assert report.ok
    assert report.num_frames == 2 * count


@pytest.mark.parametrize("appended", [5, 16, 40])
def test_a_pass_can_start_over_with_wide_vectors(tmp_path: Path, make: Any, appended: int) -> None:
    stream = make.stream()
    with StoreWriter(tmp_path / "clip.zarr", digest="made up", attributes=make.attributes) as writer:
        narrow = writer.begin(stream)
        make.append(narrow, stream, range(appended))
        wide = writer.begin(stream, mv_dtype="int32")
        assert wide.frames_done == 0
        with pytest.raises(StoreError, match="this pass is closed"):
            narrow.append(make.frame(stream, appended))
        make.append(wide, stream, range(20), mv_dtype="int32")
        writer.finish()
    make.write(tmp_path / "whole.zarr", stream, 20, mv_dtype="int32")
    assert make.file_bytes(tmp_path / "clip.zarr") == make.file_bytes(tmp_path / "whole.zarr")


def test_a_pass_that_starts_over_drops_the_reversed_one(tmp_path: Path, make: Any) -> None:
    stream = make.stream()
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        make.append(writer.begin(stream), stream, range(20))
        make.append(writer.begin_reverse(stream), stream, range(20))
        make.append(writer.begin(stream, mv_dtype="int32"), stream, range(20), mv_dtype="int32")
        writer.finish()
    assert open_store(tmp_path / "clip.zarr").reverse is None
    assert not (tmp_path / "clip.zarr" / "reverse").exists()
    assert verify(tmp_path / "clip.zarr").ok


def test_a_reversed_pass_can_start_over_with_wide_vectors(tmp_path: Path, make: Any) -> None:
    stream = make.stream()
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        make.append(writer.begin(stream), stream, range(20))
        make.append(writer.begin_reverse(stream), stream, range(10))
        wide = writer.begin_reverse(stream, mv_dtype="int32")
        make.append(wide, stream, range(20), mv_dtype="int32")
        writer.finish()
    store = open_store(tmp_path / "clip.zarr")
    assert store.reverse is not None
    assert store.select("mv_l0")[0].require("mv_l0").dtype == np.int16
    make.assert_same_frame(store.reverse[19], make.frame(stream, 0, mv_dtype="int32"))
    assert verify(tmp_path / "clip.zarr").ok


def test_a_reversed_pass_of_another_length_is_refused(tmp_path: Path, make: Any) -> None:
    stream = make.stream()
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        make.append(writer.begin(stream), stream, range(3))
        backward = writer.begin_reverse(stream)
        backward.append(make.frame(stream, 0))
        with pytest.raises(StoreError, match="has 1 frames, the clip 3"):
            writer.finish()
        make.append(backward, stream, range(1, 3))
        with pytest.raises(StoreError, match="more frames than the clip"):
            backward.append(make.frame(stream, 3))


def test_vectors_that_do_not_fit_are_refused_not_clipped(tmp_path: Path, make: Any) -> None:
    stream = make.stream()
    arrays = {"mv_l0": np.full((*stream.grid_shape, 2), 40000, np.int32)}
    writer = StoreWriter(tmp_path / "clip.zarr", digest="x")
    with writer, pytest.raises(SchemaError, match="40000"):
        writer.begin(stream).append(FramePriors(**{**vars(make.frame(stream, 0)), **arrays}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("array", [None, np.zeros((3, 3), np.int16)])
def test_missing_or_misshapen_arrays_are_refused(tmp_path: Path, make: Any, array: np.ndarray | None) -> None:
    stream = make.stream()
    writer = StoreWriter(tmp_path / "clip.zarr", digest="x")
    with writer, pytest.raises(SchemaError, match=r"residual_y is .* needs \(40, 48\)"):
        writer.begin(stream).append(FramePriors(**{**vars(make.frame(stream, 0)), "residual_y": array}))


def test_a_store_without_frames_is_refused(tmp_path: Path, make: Any) -> None:
    writer = StoreWriter(tmp_path / "clip.zarr", digest="x")
    with writer, pytest.raises(StoreError, match="no frames"):
        writer.finish()
    assert not list(tmp_path.iterdir())


_CHILD = """
import os, runpy, signal, sys
from pathlib import Path
from codecprior.store import StoreWriter
make = runpy.run_path(sys.argv[1])
stream = make["make_stream"]()
forward, backward = int(sys.argv[3]), int(sys.argv[4])
writer = StoreWriter(Path(sys.argv[2]), digest="made up", attributes=make["CREATED"])
(writer.scratch / "clip.266").write_bytes(b"stream")
make["append_frames"](writer.begin(stream), stream, range(forward))
if backward:
    make["append_frames"](writer.begin_reverse(stream), stream, range(1000, 1000 + backward))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("forward", "backward"), [(3, 0), (16, 0), (30, 0), (45, 0), (50, 1), (50, 30), (50, 50)])
def test_a_killed_run_is_resumed_to_the_same_bytes(tmp_path: Path, make: Any, forward: int, backward: int) -> None:
    path = tmp_path / "clip.zarr"
    arguments = [sys.executable, "-c", _CHILD, str(make.module), str(path), str(forward), str(backward)]
    child = subprocess.run(arguments, check=False)
    assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    assert partial_path(path).exists()
    with StoreWriter(path, digest="made up") as probe:
        done = probe.begin(make.stream()).frames_done
    # The shard in flight may or may not have made it.
    assert done % 16 == 0 or done == forward
    assert max(0, forward - 32) < done + 1
    make.write(path, make.stream(), 50, reverse=True)
    make.write(tmp_path / "whole.zarr", make.stream(), 50, reverse=True)
    assert make.file_bytes(path) == make.file_bytes(tmp_path / "whole.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.zarr", "whole.zarr"]


def interrupt(path: Path, make: Any, count: int, **options: Any) -> None:
    """Append frames and leave by an exception."""
    with suppress(KeyboardInterrupt), StoreWriter(path, digest="made up", **options) as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(count))
        raise KeyboardInterrupt


def test_an_interrupted_run_keeps_its_finished_shards(tmp_path: Path, make: Any) -> None:
    interrupt(tmp_path / "clip.zarr", make, 40)
    with StoreWriter(tmp_path / "clip.zarr", digest="made up") as writer:
        assert writer.begin(make.stream()).frames_done == 32


def test_scratch_files_outlive_a_killed_run_with_the_same_digest(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "clip.zarr"
    arguments = [sys.executable, "-c", _CHILD, str(make.module), str(path), "3", "0"]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    for _ in range(2):
        with StoreWriter(path, digest="made up") as writer:
            assert writer.resumed
            assert (writer.scratch / "clip.266").read_bytes() == b"stream"
    with StoreWriter(path, digest="other") as writer:
        assert not writer.resumed
        assert list(writer.scratch.iterdir()) == []
    assert not partial_path(path).exists()


def test_scratch_files_are_gone_once_the_store_is_finished(tmp_path: Path, make: Any) -> None:
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        (writer.scratch / "folder").mkdir()
        (writer.scratch / "folder" / "clip.266").write_bytes(b"stream")
        make.append(writer.begin(make.stream()), make.stream(), range(1))
        writer.finish()
        assert not writer.scratch.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["clip.zarr"]
    assert not [name for name in make.file_bytes(tmp_path / "clip.zarr") if "266" in name]


def test_a_run_that_finished_nothing_leaves_nothing(tmp_path: Path, make: Any) -> None:
    interrupt(tmp_path / "clip.zarr", make, 15)
    assert list(tmp_path.iterdir()) == []


def test_damaged_shards_of_an_interrupted_run_are_written_again(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "clip.zarr"
    interrupt(path, make, 40)
    shard = partial_path(path) / "store" / "residual_y" / "c.1.0.0"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    with StoreWriter(path, digest="made up") as writer:
        assert writer.begin(make.stream()).frames_done == 16
    make.write(path, make.stream(), 40)
    assert verify(path).ok


def test_a_torn_progress_line_is_ignored(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "clip.zarr"
    interrupt(path, make, 40)
    log = partial_path(path) / "progress.jsonl"
    log.write_bytes(log.read_bytes()[:-10])
    with StoreWriter(path, digest="made up") as writer:
        assert writer.begin(make.stream()).frames_done == 16


@pytest.mark.parametrize("change", [{"digest": "other"}, {"with_frames": True}])
def test_a_partial_of_other_input_or_settings_is_started_over(
    tmp_path: Path, make: Any, change: dict[str, Any]
) -> None:
    path = tmp_path / "clip.zarr"
    interrupt(path, make, 40)
    with StoreWriter(path, **{"digest": "made up", **change}) as writer:
        assert not writer.resumed
        assert writer.begin(make.stream()).frames_done == 0
    assert not partial_path(path).exists()


@pytest.mark.parametrize(("size", "mv_dtype"), [((48, 40), "int32"), ((64, 40), "int16")])
def test_a_partial_of_another_stream_or_vector_size_is_started_over(
    tmp_path: Path, make: Any, size: tuple[int, int], mv_dtype: str
) -> None:
    path = tmp_path / "clip.zarr"
    interrupt(path, make, 40)
    with StoreWriter(path, digest="made up") as writer:
        assert writer.resumed
        assert writer.begin(make.stream(*size), mv_dtype=mv_dtype).frames_done == 0
    assert not partial_path(path).exists()


def test_a_resumed_run_with_other_frames_is_refused(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "clip.zarr"
    interrupt(path, make, 40)
    writer = StoreWriter(path, digest="made up")
    with writer, pytest.raises(StoreError, match=r"frame 0 is not .* remove .*\.partial"):
        make.append(writer.begin(make.stream()), make.stream(), range(7, 8))


def test_a_resumed_run_that_ends_early_is_refused(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "clip.zarr"
    interrupt(path, make, 40)
    with StoreWriter(path, digest="made up") as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(1))
        with pytest.raises(StoreError, match="frame 1 is not"):
            writer.finish()
    assert not path.exists()


def test_leaving_without_finish_makes_no_store(tmp_path: Path, make: Any) -> None:
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(20))
    assert not (tmp_path / "clip.zarr").exists()


def test_two_writers_of_one_store_do_not_meet(tmp_path: Path, make: Any) -> None:
    first = StoreWriter(tmp_path / "clip.zarr", digest="x")
    with first, pytest.raises(StoreError, match="another process is writing"):
        StoreWriter(tmp_path / "clip.zarr", digest="x")
    make.write(tmp_path / "clip.zarr", make.stream(), 3)


def test_a_finished_store_is_not_written_over(stored: Path, make: Any) -> None:
    before = make.file_bytes(stored)
    with pytest.raises(StoreError, match="a finished store exists"):
        make.write(stored, make.stream(), 3)
    assert make.file_bytes(stored) == before


def test_overwriting_replaces_the_store_at_the_end_only(stored: Path, make: Any) -> None:
    before = make.file_bytes(stored)
    with StoreWriter(stored, digest="new", overwrite=True) as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(1))
        assert make.file_bytes(stored) == before
        writer.finish()
    assert len(open_store(stored)) == 1
    assert verify(stored).ok
    assert [path.name for path in stored.parent.iterdir()] == ["clip.zarr"]


def test_a_store_moved_aside_by_a_killed_run_comes_back(stored: Path, make: Any) -> None:
    interrupt(stored, make, 20, overwrite=True)
    stored.rename(partial_path(stored) / "replaced")
    assert not stored.exists()
    with StoreWriter(stored, digest="made up", overwrite=True):
        assert len(open_store(stored)) == 37


def test_a_store_moved_aside_is_not_replaced_unless_asked_for(stored: Path, make: Any) -> None:
    interrupt(stored, make, 20, overwrite=True)
    stored.rename(partial_path(stored) / "replaced")
    with pytest.raises(StoreError, match="a finished store exists"):
        StoreWriter(stored, digest="made up")
    assert len(open_store(stored)) == 37


def test_a_store_that_was_replaced_is_removed_if_the_run_was_killed_before_that(stored: Path, make: Any) -> None:
    interrupt(stored, make, 20, overwrite=True)
    shutil.copytree(stored, partial_path(stored) / "replaced")
    make.write(stored, make.stream(), 20, overwrite=True)
    assert len(open_store(stored)) == 20
    assert [path.name for path in stored.parent.iterdir()] == ["clip.zarr"]


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path: Path, make: Any) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(StoreError, match="is not a priors store"):
        StoreWriter(tmp_path / "holiday", digest="x", overwrite=True)


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path, make: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write: Not a directory"):
        StoreWriter(tmp_path / "file" / "clip.zarr", digest="x")


_FULL_DISK = """
import resource, runpy, sys
from codecprior.errors import StoreError
make = runpy.run_path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    make["write_store"](sys.argv[2], make["make_stream"](320, 192), 40)
except StoreError as error:
    print(error)
    sys.exit(1)
"""


@pytest.mark.parametrize("limit", [20, 3000, 60000])
def test_a_full_disk_is_one_clear_error_and_no_store(tmp_path: Path, make: Any, limit: int) -> None:
    # A limit on file sizes stands in for a full disk: both fail in write(2).
    path = tmp_path / "clip.zarr"
    arguments = [sys.executable, "-c", _FULL_DISK, str(make.module), str(path), str(limit)]
    child = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert child.returncode == 1, child.stderr
    assert child.stderr == ""
    assert len(child.stdout.splitlines()) == 1
    assert "cannot write" in child.stdout
    assert not is_complete(path)
    assert not path.exists()
    make.write(path, make.stream(320, 192), 40)
    assert verify(path).ok


_PEAK = """
import re, runpy, sys
make = runpy.run_path(sys.argv[1])
stream = make["make_stream"](320, 192)
frame = make["make_frame"](stream, 0)
from codecprior.store import StoreWriter
from codecprior.core.priors import FramePriors
with StoreWriter(sys.argv[2], digest="x") as writer:
    clip = writer.begin(stream)
    for index in range(int(sys.argv[3])):
        clip.append(FramePriors(**{**vars(frame), "picture": make["make_frame"](stream, 0).picture}))
    writer.finish()
# Not ru_maxrss, which begins with what the parent had.
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def test_peak_memory_does_not_grow_with_the_clip(tmp_path: Path, make: Any) -> None:
    def peak_kib(count: int) -> int:
        arguments = [sys.executable, "-c", _PEAK, str(make.module), str(tmp_path / f"{count}.zarr"), str(count)]
        return int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)

    # 240 more frames are 55 MiB of samples.
    assert peak_kib(304) - peak_kib(64) < 15 * 1024


def test_every_file_is_listed_with_its_digest(stored: Path, make: Any) -> None:
    lines = (stored / "checksums.sha256").read_text().splitlines()
    listed = {line.split("  ", 1)[1] for line in lines}
    assert listed == make.file_bytes(stored).keys() - {"checksums.sha256"}
    subprocess.run(["sha256sum", "--quiet", "--check", "checksums.sha256"], cwd=stored, check=True)


def test_facts_are_passed_through(tmp_path: Path, make: Any) -> None:
    with StoreWriter(tmp_path / "clip.zarr", digest="x", attributes={"source": {"kind": "video"}}) as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(1))
        writer.finish({"decoder": {"name": "vvdec"}})
    attributes = json.loads((tmp_path / "clip.zarr" / "zarr.json").read_text())["attributes"]
    assert set(attributes) == {"codecprior"}
    assert attributes["codecprior"]["source"] == {"kind": "video"}
    assert attributes["codecprior"]["decoder"] == {"name": "vvdec"}
    assert attributes["codecprior"]["created"].endswith("+00:00")


def test_append_after_finish_is_refused(tmp_path: Path, make: Any) -> None:
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        clip = writer.begin(make.stream())
        make.append(clip, make.stream(), range(1))
        writer.finish()
        with pytest.raises(StoreError, match="closed"):
            make.append(clip, make.stream(), range(1, 2))


def test_a_closed_writer_takes_nothing(tmp_path: Path, make: Any) -> None:
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(20))
    with pytest.raises(StoreError, match="this writer is closed"):
        writer.begin(make.stream())
    with pytest.raises(StoreError, match="this writer is closed"):
        writer.finish()
    assert not (tmp_path / "clip.zarr").exists()


def test_a_shard_that_could_not_be_written_stays_missing_and_so_does_the_store(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "clip.zarr"
    with StoreWriter(path, digest="made up") as writer:
        clip = writer.begin(make.stream())
        obstacle = partial_path(path) / "store" / "qp"
        obstacle.write_text("in the way of the first shard")
        make.append(clip, make.stream(), range(16))
        with pytest.raises(StoreError, match="cannot write"):
            make.append(clip, make.stream(), range(16, 32))
        obstacle.unlink()
        with suppress(StoreError):
            make.append(clip, make.stream(), range(clip.num_frames, 40))
        for _ in range(2):
            with pytest.raises(StoreError, match="cannot write"):
                writer.finish()
    assert not path.exists()
    make.write(path, make.stream(), 40)
    assert verify(path).ok
