from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codecprior
from codecprior.core.arrays import PredMode
from codecprior.datasets.geometry import Clip, Orientation
from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.datasets.sampling import ClipRequest, RandomClips
from codecprior.errors import CodecpriorError, ConfigError, DatasetError, MediaError, StoreError
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames
from codecprior.store.packed import pack_frames
from codecprior.store.writer import StoreWriter
from codecprior.visualization.output import ClipWriter

MOVING, BIKES, ODD, PLAIN = range(4)


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    return read_manifest(prepared)


@pytest.fixture(scope="session")
def reader(manifest: Manifest) -> ClipReader:
    return ClipReader(manifest, ReaderConfig(backward=True, residual="signed", residual_planes="all"))


def entry_changed(manifest: Manifest, index: int, **changes: Any) -> Manifest:
    entries = list(manifest.entries)
    entries[index] = replace(entries[index], **changes)
    return replace(manifest, entries=tuple(entries))


def arrays(clip: Clip) -> dict[str, Any]:
    flat: dict[str, Any] = {"blurry": clip.blurry, "sharp": clip.sharp}
    for direction in ("forward", "backward"):
        flat |= {f"{direction} {name}": value for name, value in vars(getattr(clip, direction)).items()}
    return flat


@settings(max_examples=60, deadline=None)
@given(
    sequence=st.sampled_from([MOVING, BIKES, ODD]),
    start=st.integers(0, 1),
    stride=st.sampled_from([1, 2, -1, -2]),
    position=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    orientation=st.builds(Orientation, transpose=st.booleans(), hflip=st.booleans(), vflip=st.booleans()),
)
def test_a_clip_is_read_as_the_whole_is_read_and_then_transformed(
    reader: ClipReader,
    *,
    sequence: int,
    start: int,
    stride: int,
    position: tuple[float, float],
    orientation: Orientation,
) -> None:
    frames = range(start, start + 2 * abs(stride) + 1, abs(stride))
    part = reader.read(
        ClipRequest(
            sequence=sequence,
            frames=frames if stride > 0 else frames[::-1],
            crop=(44, 32),
            position=position,
            orientation=orientation,
        )
    )
    whole = reader.read(ClipRequest(sequence=sequence, frames=frames))
    height, width = whole.blurry.shape[1:3]
    x, y = (
        4 * int(place * ((side - size) // 4 + 1))
        for place, side, size in zip(position, (width, height), (44, 32), strict=True)
    )
    expected = (whole if stride > 0 else whole.time_reversed()).crop(x, y, 44, 32).oriented(orientation)
    assert part.frame_indices == expected.frame_indices
    for name, array in arrays(expected).items():
        np.testing.assert_array_equal(arrays(part)[name], array, err_msg=name)


def test_frames_are_the_pictures_in_red_green_blue(reader: ClipReader, prepared: Path) -> None:
    clip = reader.read(ClipRequest(sequence=BIKES, frames=range(3, 7)))
    for side, frames in (("blurry", clip.blurry), ("sharp", clip.sharp)):
        for t in range(4):
            picture = cv2.imread(str(prepared / side / "bikes" / f"{t + 10:05d}.png"))
            np.testing.assert_array_equal(frames[t], picture[..., ::-1])  # type: ignore[index]


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_vectors_are_those_of_the_store_that_refer_to_the_neighbour(
    reader: ClipReader, prepared: Path, direction: str
) -> None:
    step = -1 if direction == "forward" else 1
    clip = reader.read(ClipRequest(sequence=BIKES, frames=range(2, 8)))
    whole = codecprior.open_store(prepared / "priors" / "bikes.zarr")
    store = whole if direction == "forward" else whole.reverse
    assert store is not None
    priors = getattr(clip, direction)
    for t in range(6):
        frame = store[t + 2]
        neighbour = (frame.ref_frame_index(0) == t + 2 + step) & (0 <= t + step < 6)
        np.testing.assert_array_equal(priors.valid[t], neighbour)
        np.testing.assert_array_equal(priors.mv[t], np.where(neighbour[..., None], frame.mv_pixels(0), 0))
        np.testing.assert_array_equal(priors.intra[t], frame.require("pred_mode") == PredMode.INTRA)
        np.testing.assert_array_equal(priors.residual[t, ..., 0], frame.require("residual_y") / np.float32(512))
    assert priors.valid.any()
    assert not priors.missing.any()


def test_the_mean_of_both_lists_is_taken_where_both_refer_to_the_neighbour(manifest: Manifest, prepared: Path) -> None:
    clip = ClipReader(manifest, ReaderConfig(vectors="mean")).read(ClipRequest(sequence=BIKES, frames=range(12)))
    store = codecprior.open_store(prepared / "priors" / "bikes.zarr")
    different = 0
    for t in range(1, 12):
        l0, l1 = store[t].mv_pixels(0), store[t].mv_pixels(1)
        first, second = store[t].uses_list(0)[..., None], store[t].uses_list(1)[..., None]
        expected = np.where(first & second, (l0 + l1) / 2, np.where(first, l0, np.where(second, l1, 0)))
        np.testing.assert_array_equal(clip.forward.mv[t], expected)
        different += int((expected != l0).any(axis=-1).sum())
    assert different


def test_composed_vectors_follow_the_chain_cell_by_cell(reader: ClipReader, prepared: Path) -> None:
    frames = range(1, 11, 3)
    clip = reader.read(ClipRequest(sequence=BIKES, frames=frames, crop=(96, 64), position=(0.5, 0.5)))
    store = codecprior.open_store(prepared / "priors" / "bikes.zarr")
    left, top = 4 * int(0.5 * 17) // 4, 4 * int(0.5 * 17) // 4
    for k in range(1, 4):
        links = [store[frame] for frame in range(frames[k], frames[k - 1], -1)]
        for row in range(16):
            for col in range(24):
                path, landed = np.zeros(2), (col + left, row + top)
                for link in links:
                    inside = 0 <= landed[0] < 40 and 0 <= landed[1] < 32
                    if not inside or link.ref_frame_index(0)[landed[::-1]] != link.frame_index - 1:
                        break
                    path += link.mv_pixels(0)[landed[::-1]]
                    x, y = 4 * (col + left) + 2 + path[0], 4 * (row + top) + 2 + path[1]
                    landed = (int(x // 4), int(y // 4))
                else:
                    assert clip.forward.valid[k, row, col]
                    np.testing.assert_array_equal(clip.forward.mv[k, row, col], path)
                    continue
                assert not clip.forward.valid[k, row, col]
                assert not clip.forward.mv[k, row, col].any()


def test_long_steps_are_refused_where_that_is_wanted(manifest: Manifest) -> None:
    reader = ClipReader(manifest, ReaderConfig(long_steps="refuse"))
    reader.read(ClipRequest(sequence=BIKES, frames=range(4)))
    with pytest.raises(ConfigError, match="every 2th frame"):
        reader.read(ClipRequest(sequence=BIKES, frames=range(0, 8, 2)))


@pytest.mark.parametrize(
    ("normalization", "formula"),
    [
        ("absolute", lambda r: np.abs(r) / 512),
        ("signed", lambda r: r / 512),
        ("cpgd-net", lambda r: (r + 1) / 512),
        ("frame-max", lambda r: np.abs(r) / np.abs(r).max(axis=(1, 2, 3), keepdims=True)),
    ],
)
@pytest.mark.parametrize("planes", ["luma", "all"])
def test_residuals_are_normalised_as_configured(
    manifest: Manifest, prepared: Path, normalization: Any, formula: Callable[[Any], Any], planes: Any
) -> None:
    config = ReaderConfig(residual=normalization, residual_planes=planes)
    found = ClipReader(manifest, config).read(ClipRequest(sequence=ODD, frames=range(6))).forward.residual
    clip = codecprior.open_store(prepared / "priors" / "odd.zarr").crop(0, 0, 93, 71).load()
    stored = [clip.arrays["residual_y"]]
    if planes == "all":
        for plane in "uv":
            stored.append(clip.arrays[f"residual_{plane}"].repeat(2, axis=1).repeat(2, axis=2)[:, :71, :93])
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, formula(np.stack(stored, axis=-1).astype(np.float64)), rtol=1e-6, atol=1e-7)


def test_no_residual_is_read_where_none_is_wanted(manifest: Manifest) -> None:
    clip = ClipReader(manifest, ReaderConfig(residual=None, sharp=False)).read(
        ClipRequest(sequence=BIKES, frames=range(3))
    )
    assert clip.forward.residual is None
    assert clip.sharp is None
    assert clip.backward is None


def test_decoded_frames_are_close_to_the_source_and_do_not_depend_on_the_crop(manifest: Manifest) -> None:
    reader = ClipReader(manifest, ReaderConfig(blurry="decoded"))
    whole = reader.read(ClipRequest(sequence=BIKES, frames=range(2, 5)))
    source = ClipReader(manifest).read(ClipRequest(sequence=BIKES, frames=range(2, 5)))
    assert whole.blurry.dtype == np.uint16  # 10 bit
    difference = whole.blurry / 65535 - source.blurry / 255
    assert -10 * np.log10(np.mean(difference**2)) > 33
    part = reader.read(ClipRequest(sequence=BIKES, frames=range(2, 5), crop=(44, 32), position=(0.5, 0.5)))
    np.testing.assert_array_equal(part.blurry, whole.crop(60, 48, 44, 32).blurry)
    backwards = reader.read(ClipRequest(sequence=BIKES, frames=range(4, 1, -1)))
    difference = backwards.blurry[::-1] / 65535 - source.blurry / 255
    assert -10 * np.log10(np.mean(difference**2)) > 33
    assert (backwards.blurry[::-1] != whole.blurry).any()  # decoded in the other direction


def test_raw_files_and_packed_frames_give_the_same_clips(manifest: Manifest, tmp_path: Path) -> None:
    request = ClipRequest(sequence=BIKES, frames=range(9, 1, -3), crop=(44, 32), position=(0.3, 0.7))
    expected = ClipReader(manifest).read(request)
    whole = ClipReader(manifest).read(ClipRequest(sequence=BIKES, frames=range(12)))
    assert whole.sharp is not None
    pack_frames(tmp_path / "frames.zarr", {"blurry": whole.blurry, "sharp": whole.sharp}, num_frames=12)
    packed = entry_changed(manifest, BIKES, frames=str(tmp_path / "frames.zarr"), blurry="none.yuv", sharp="none.yuv")
    found = ClipReader(packed).read(request)
    np.testing.assert_array_equal(found.blurry, expected.blurry)
    np.testing.assert_array_equal(found.sharp, expected.sharp)  # type: ignore[arg-type]

    planar = [cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420) for frame in whole.blurry]
    (tmp_path / "bikes.yuv").write_bytes(b"".join(frame.tobytes() for frame in planar))
    raw = entry_changed(
        manifest,
        BIKES,
        blurry=str(tmp_path / "bikes.yuv"),
        raw={"width": 160, "height": 128, "frame_rate": "25"},
    )
    found = ClipReader(raw).read(request)
    assert np.abs(found.blurry.astype(int) - expected.blurry).mean() < 8  # chroma is halved, and the matrix is BT.709
    assert found.blurry.shape == expected.blurry.shape


def test_a_video_is_read_in_windows_that_overlap_and_again_from_its_beginning(
    manifest: Manifest, tmp_path: Path
) -> None:
    video = tmp_path / "bikes.mp4"
    whole = ClipReader(manifest).read(ClipRequest(sequence=BIKES, frames=range(12))).blurry
    for count in (12, 9):
        with ClipWriter(video, Fraction(25), crf=12) as writer:
            for picture in whole[:count]:
                writer.write(picture)
        changed = entry_changed(manifest, BIKES, blurry=str(video))
        reader = ClipReader(changed)
        expected = np.stack(list(rgb_frames(open_frames(video))))
        for frames in (range(5), range(3, 9), range(8, 9), range(1, 4)):
            found = reader.read(ClipRequest(sequence=BIKES, frames=frames, crop=(64, 32))).blurry
            assert np.array_equal(found, expected[frames.start : frames.stop, :32, :64]), frames
    with pytest.raises(DatasetError, match="has 9 frames, the priors have more"):
        reader.read(ClipRequest(sequence=BIKES, frames=range(8, 12)))


def test_frames_that_do_not_go_with_the_priors_are_named(manifest: Manifest, tmp_path: Path) -> None:
    request = ClipRequest(sequence=MOVING, frames=range(8))
    bikes, moving = manifest.entries[BIKES], manifest.entries[MOVING]
    cases: list[tuple[dict[str, Any], type[CodecpriorError], str]] = [
        ({"blurry": bikes.blurry[:8]}, DatasetError, "00007.png: is 160x128, the priors are of 128x96"),
        ({"store": bikes.store}, DatasetError, "has 12 frames, the manifest says 8 for sequence moving"),
        ({"blurry": ("gone.png", *moving.blurry[1:])}, MediaError, "gone.png: cannot be read"),
        ({"store": "gone.zarr"}, StoreError, "gone.zarr: no priors store here"),
    ]
    for name, size, message in (
        ("narrow", (8, 96, 64), "narrow.zarr/blurry: is 64x96, the priors are of 128x96"),
        ("short", (7, 96, 128), "short.zarr: has 7 frames, the priors 8"),
    ):
        pack_frames(tmp_path / f"{name}.zarr", {"blurry": np.ones((*size, 3), np.uint8)}, num_frames=size[0])
        cases.append(({"frames": str(tmp_path / f"{name}.zarr")}, DatasetError, message))
    for changes, kind, message in cases:
        with pytest.raises(kind, match=message):
            ClipReader(entry_changed(manifest, MOVING, **changes)).read(request)
    deep = cv2.imread(manifest.resolve(moving.blurry[3])).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    mixed = (*moving.blurry[:3], str(tmp_path / "deep.png"), *moving.blurry[4:])
    with pytest.raises(DatasetError, match=r"deep.png: has 16 bit, .*00007.png has 8"):
        ClipReader(entry_changed(manifest, MOVING, blurry=mixed)).read(request)


def test_what_a_store_does_not_have_is_refused_with_what_to_do(manifest: Manifest) -> None:
    forwards, backwards = range(4), range(3, -1, -1)
    ClipReader(manifest).read(ClipRequest(sequence=PLAIN, frames=forwards))
    with pytest.raises(ConfigError, match=r"plain.zarr: .* prepare with --directions both"):
        ClipReader(manifest).read(ClipRequest(sequence=PLAIN, frames=backwards))
    with pytest.raises(ConfigError, match="prepare with --directions both"):
        ClipReader(manifest, ReaderConfig(backward=True)).read(ClipRequest(sequence=PLAIN, frames=forwards))
    with pytest.raises(ConfigError, match=r"plain.zarr: .* prepare with --with-frames"):
        ClipReader(manifest, ReaderConfig(blurry="decoded")).read(ClipRequest(sequence=PLAIN, frames=forwards))


def test_frames_without_priors_and_other_coded_video_sequences_give_no_vectors(
    manifest: Manifest, tmp_path: Path
) -> None:
    stored = codecprior.open_store(manifest.resolve(manifest.entries[BIKES].store)).coded
    concealed, second = 4, 8
    with StoreWriter(tmp_path / "changed.zarr", digest="changed", with_frames=True) as writer:
        clip = writer.begin(stored.stream)
        for index, frame in enumerate(stored):
            picture = replace(frame.picture, has_priors=index != concealed, cvs=int(index >= second))
            absent = dict.fromkeys(frame.arrays()) if index == concealed else {}
            clip.append(replace(frame, picture=picture, **absent))
        writer.finish()
    changed = entry_changed(manifest, BIKES, store=str(tmp_path / "changed.zarr"))
    request = ClipRequest(sequence=BIKES, frames=range(12))
    found, before = ClipReader(changed).read(request).forward, ClipReader(manifest).read(request).forward
    for t in range(12):
        assert found.missing[t].all() == found.missing[t].any() == (t == concealed)
        if t in (concealed, second):
            assert not found.valid[t].any()
            assert not found.mv[t].any()
            assert before.valid[t].any()
        else:
            np.testing.assert_array_equal(found.mv[t], before.mv[t])
    assert not found.intra[concealed].any()
    composed = ClipReader(changed).read(replace(request, frames=range(0, 12, 2))).forward
    assert [bool(valid.any()) for valid in composed.valid] == [False, True, False, True, False, True]


def test_requests_beyond_the_sequence_or_the_picture_are_refused(reader: ClipReader) -> None:
    for frames in (range(5, 9), range(0), range(8, 3, -1), range(-1, 3)):
        with pytest.raises(ConfigError, match="sequence moving has the frames 0 to 7"):
            reader.read(ClipRequest(sequence=MOVING, frames=frames))
    with pytest.raises(ConfigError, match="crop 96x72 does not fit into sequence odd of 93x71"):
        reader.read(ClipRequest(sequence=ODD, frames=range(2), crop=(96, 72)))


@pytest.mark.parametrize("name", ["blurry", "vectors", "long_steps", "residual", "residual_planes"])
def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} 'nonsense': use one of"):
        ReaderConfig(**{name: "nonsense"})


def test_crops_begin_at_cells_of_the_coded_picture_where_the_window_does_not(
    manifest: Manifest, tmp_path: Path
) -> None:
    # The stored picture of 128x96, of which the window now hides 2 columns and 6 rows.
    store = tmp_path / "moving.zarr"
    shutil.copytree(Path(manifest.root) / "priors" / "moving.zarr", store)
    for group in (store, store / "reverse"):
        document = json.loads((group / "zarr.json").read_text())
        facts = document["attributes"]["codecprior"]
        facts |= {"conformance_window": [2, 0, 6, 0], "output_size": [126, 90]}
        del facts["source"]
        (group / "zarr.json").write_text(json.dumps(document))
    moved = tmp_path / "blurry"
    moved.mkdir()
    names = []
    for file in manifest.entries[MOVING].blurry:
        names.append(str(moved / Path(file).name))
        cv2.imwrite(names[-1], cv2.imread(manifest.resolve(file))[6:, 2:])
    windowed = ClipReader(entry_changed(manifest, MOVING, store=str(store), blurry=tuple(names), sharp=None))
    with pytest.raises(ConfigError, match=r"window begins at \(2, 6\), inside a 4x4 cell"):
        windowed.read(ClipRequest(sequence=MOVING, frames=range(4)))
    part = windowed.read(ClipRequest(sequence=MOVING, frames=range(4), crop=(64, 48), position=(0.0, 0.999)))
    whole = ClipReader(manifest).read(ClipRequest(sequence=MOVING, frames=range(4))).crop(4, 48, 64, 48)
    np.testing.assert_array_equal(part.blurry, whole.blurry)
    np.testing.assert_array_equal(part.forward.mv, whole.forward.mv)
    np.testing.assert_array_equal(part.forward.residual, whole.forward.residual)  # type: ignore[arg-type]


def test_a_reader_travels_to_other_processes_as_manifest_and_settings(reader: ClipReader) -> None:
    request = ClipRequest(sequence=BIKES, frames=range(3))
    expected = reader.read(request)
    other = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(other.read(request).forward.mv, expected.forward.mv)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_is_told_how_workers_start(reader: ClipReader) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child() -> None:
        try:
            reader.read(ClipRequest(sequence=BIKES, frames=range(3)))
        except StoreError as error:
            queue.put(str(error))

    process = context.Process(target=child)
    process.start()
    assert "multiprocessing_context='spawn'" in queue.get(timeout=30)
    process.join()


def test_the_first_sample_of_a_thousand_sequences_comes_at_once(manifest: Manifest, tmp_path: Path) -> None:
    from codecprior.datasets.manifest import write_manifest

    template = replace(
        manifest.entries[BIKES],
        **{
            name: tuple(manifest.resolve(file) for file in getattr(manifest.entries[BIKES], name))
            for name in ("blurry", "sharp")
        },
        store=manifest.resolve(manifest.entries[BIKES].store),
    )
    write_manifest(tmp_path, [replace(template, sequence=f"bikes-{number}") for number in range(1000)])
    begin = time.perf_counter()
    many = read_manifest(tmp_path)
    clips = RandomClips(many.entries, num_frames=5, crop=64)
    clip = ClipReader(many).read(clips.request(0))
    assert time.perf_counter() - begin < 1
    assert clip.blurry.shape == (5, 64, 64, 3)


def test_a_dataset_at_a_url_is_read_like_a_local_one(prepared: Path, manifest: Manifest) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(prepared), "/read-from-memory", recursive=True)
    request = ClipRequest(sequence=BIKES, frames=range(8, 2, -2), crop=(44, 32), position=(0.3, 0.7))
    found = ClipReader(read_manifest("memory://read-from-memory")).read(request)
    expected = ClipReader(manifest).read(request)
    np.testing.assert_array_equal(found.blurry, expected.blurry)
    np.testing.assert_array_equal(found.forward.mv, expected.forward.mv)
    gone = ClipReader(
        entry_changed(read_manifest("memory://read-from-memory"), MOVING, blurry=("blurry/gone.png",) * 8)
    )
    with pytest.raises(MediaError, match=r"memory://.*gone.png: cannot be read"):
        gone.read(ClipRequest(sequence=MOVING, frames=range(2)))
    memory.rm("/read-from-memory", recursive=True)
