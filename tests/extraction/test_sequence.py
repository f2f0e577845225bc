from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from codecprior.core.arrays import GRID_ARRAYS, RESIDUAL_ARRAYS, PictureType
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.errors import BitstreamError, ConfigError, MediaError, StoreError, UnsupportedStreamError
from codecprior.extraction.backend import Backend, Trace
from codecprior.extraction.sequence import SequenceResult
from codecprior.media.raw import RawFormat
from codecprior.store import open_store
from codecprior.store.verify import verify
from vvc_wrappers.trace_format import MvRangeError
from vvc_wrappers.vvdec import VVdeC
from vvc_wrappers.vvenc import VVencOptions

Extract = Callable[..., SequenceResult]


def decoded(stream: Path) -> bytes:
    return b"".join(VVdeC(threads=1).decode(stream))


def frames_of(store: Any) -> bytes:
    planes = (np.ascontiguousarray(frame.require(f"frame_{plane}")) for frame in store for plane in "yuv")
    return b"".join(plane.tobytes() for plane in planes)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class Interrupted(Exception):
    """Stands for whatever ends a run from outside."""


def interrupt_at(frame: int) -> Callable[[int, int | None], None]:
    def progress(done: int, total: int | None) -> None:
        if done == frame:
            raise Interrupted

    return progress


# ---- inputs


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda tiny, path: tiny.pictures(path), ("images", 8, "rgb", "30")),
        (lambda tiny, path: tiny.pictures(path, extension="jpg"), ("images", 8, "rgb", "30")),
        (lambda tiny, path: tiny.pictures(path, extension="bmp"), ("images", 8, "rgb", "30")),
        (lambda tiny, path: tiny.pictures(path, extension="tiff", depth=16), ("images", 16, "rgb", "30")),
        (lambda tiny, path: tiny.pictures(path, depth=16), ("images", 16, "rgb", "30")),
        (lambda tiny, path: tiny.yuv(path / "Car_176x144_50_8bit_420.yuv"), ("raw", 8, "4:2:0", "50")),
        (lambda tiny, path: tiny.y4m(path / "clip.y4m"), ("raw", 8, "4:2:0", "24")),
        (lambda tiny, path: tiny.mp4(path / "clip.mp4"), ("video", 8, "4:2:0", "25")),
    ],
    ids=["png", "jpg", "bmp", "tiff 16 bit", "png 16 bit", "yuv", "y4m", "mp4"],
)
def test_every_kind_of_frames_becomes_a_sound_store(
    tiny: Any, tmp_path: Path, extract: Extract, make: Any, expected: tuple[object, ...]
) -> None:
    result = extract(make(tiny, tmp_path / "clip"))
    store = open_store(result.store)
    source = store.attributes["source"]
    assert (source["kind"], source["bit_depth"], source["chroma_format"], store.attributes["frame_rate"]) == expected
    assert (len(store), store.size, store.stream.bit_depth, store.stream.chroma_format) == (6, (176, 144), 10, "4:2:0")
    rate = Fraction(str(expected[3]))
    assert [picture.pts_seconds for picture in store.pictures] == [float(t / rate) for t in range(6)]
    assert verify(result.store).problems == ()
    assert (result.status, result.num_frames, result.error) == ("extracted", 6, None)
    assert result.stored_bytes == store.info()["stored_bytes"] > 0


def test_raw_video_takes_its_layout_from_options(tiny: Any, tmp_path: Path, extract: Extract) -> None:
    layout = RawFormat(width=176, height=144, frame_rate=Fraction(30000, 1001))
    result = extract(tiny.yuv(tmp_path / "plain.yuv"), raw=layout)
    assert open_store(result.store).attributes["frame_rate"] == "30000/1001"


def test_odd_sizes_are_padded_for_coding_and_cropped_when_read(tiny: Any, tmp_path: Path, extract: Extract) -> None:
    result = extract(tiny.pictures(tmp_path / "odd", size=(175, 143)), with_frames=True)
    store = open_store(result.store)
    assert (store.stream.coded_size, store.stream.output_size, store.size) == ((176, 144), (175, 143), (175, 143))
    frame = store[2]
    assert frame.require("residual_y").shape == frame.require("frame_y").shape == (143, 175)
    assert frame.require("residual_u").shape == frame.require("frame_v").shape == (72, 88)
    assert frame.require("mv_l0").shape == (36, 44, 2)
    assert frames_of(store.coded) == decoded(Path(result.bitstreams[0]))


def test_times_of_a_video_with_variable_frame_rate_are_kept(tiny: Any, tmp_path: Path, extract: Extract) -> None:
    store = open_store(extract(tiny.mp4(tmp_path / "clip.mp4", times=[0, 1, 2, 6, 7, 20])).store)
    assert store.attributes["source"]["variable_frame_rate"] is True
    assert [picture.pts_seconds for picture in store.pictures] == [t / 25 for t in (0, 1, 2, 6, 7, 20)]


def test_frame_names_are_those_of_the_pictures(tiny: Any, tmp_path: Path, extract: Extract) -> None:
    store = open_store(extract(tiny.pictures(tmp_path / "clip", count=12)).store)
    assert store.attributes["source"]["frame_names"] == [f"{t}.png" for t in range(12)]


@pytest.mark.parametrize("extension", ["266", "mp4", "mkv", "ts"])
def test_a_coded_stream_is_traced_as_it_is(
    tiny: Any, tmp_path: Path, extract: Extract, y4m: Path, extension: str
) -> None:
    first = extract(y4m)
    bitstream = Path(first.bitstreams[0])
    coded = tmp_path / "coded" / f"clip.{extension}"
    coded.parent.mkdir()
    coded.write_bytes(bitstream.read_bytes()) if extension == "266" else tiny.remux(bitstream, coded)
    result = extract(coded, store=tmp_path / "again.zarr", frame_rate=Fraction(24))
    store, wanted = open_store(result.store), open_store(first.store)
    assert (result.bitstreams, store.attributes["encoder"]) == ((), None)
    assert store.attributes["source"]["kind"] == "bitstream"
    for name in (*(spec.name for spec in GRID_ARRAYS), *(spec.name for spec in RESIDUAL_ARRAYS)):
        np.testing.assert_array_equal(store.load().arrays[name], wanted.load().arrays[name], err_msg=name)
    start = store.pictures[0].pts_seconds  # containers may begin later than at 0
    found = [picture.pts_seconds - start for picture in store.pictures]
    assert found == pytest.approx([t / 24 for t in range(6)], abs=2e-3)


@pytest.mark.parametrize(
    ("name", "chroma_format", "bit_depth", "chroma_shape"),
    [
        ("8b400_A_Bytedance_2", "4:0:0", 8, None),
        ("8b420_A_Bytedance_2", "4:2:0", 8, (240, 416)),
        ("10b422_B_Sony_5", "4:2:2", 10, (1080, 960)),
    ],
)
def test_conformance_streams_keep_their_format(
    conformance_dir: Path, extract: Extract, *, name: str, chroma_format: str, bit_depth: int, chroma_shape: object
) -> None:
    store = open_store(extract(conformance_dir / f"{name}.bit").store)
    assert (store.stream.chroma_format, store.stream.bit_depth) == (chroma_format, bit_depth)
    assert ("residual_u" in store.names) == (chroma_shape is not None)
    if chroma_shape:
        assert store[0].require("residual_v").shape == chroma_shape
    assert store.pictures[1].pts_seconds == pytest.approx(1 / 30)  # where nothing tells the rate


# ---- what is stored


def test_the_default_refers_from_each_frame_to_the_one_before(extract: Extract, y4m: Path) -> None:
    store = open_store(extract(y4m).store)
    assert store.pictures[0].picture_type is PictureType.I
    assert not store[0].uses_list(0).any()
    for t in range(1, 6):
        for ref_list in (0, 1):
            assert set(np.unique(store[t].ref_frame_index(ref_list))) <= {-1, t - 1}
        assert store[t].uses_list(0).mean() > 0.5


def test_vectors_follow_what_moves_in_both_directions(extract: Extract, moving: Path) -> None:
    store = open_store(extract(moving, directions="both").store)
    reverse = store.reverse
    assert reverse is not None
    for t in range(1, 6):
        flow = store[t].flow(0)
        np.testing.assert_allclose(np.median(flow.displacement[flow.valid], axis=0), (-4, 0), atol=0.1)
        flow = reverse[t - 1].flow(0)
        np.testing.assert_allclose(np.median(flow.displacement[flow.valid], axis=0), (4, 0), atol=0.1)


def test_entry_t_of_the_reversed_pass_belongs_to_frame_t(extract: Extract, y4m: Path) -> None:
    result = extract(y4m, directions="both", with_frames=True)
    store = open_store(result.store)
    reverse = store.reverse
    assert reverse is not None
    assert [picture.poc for picture in reverse.pictures] == [5, 4, 3, 2, 1, 0]
    assert [p.pts_seconds for p in reverse.pictures] == [p.pts_seconds for p in store.pictures]
    for t in range(5):
        assert set(np.unique(reverse[t].ref_frame_index(0))) <= {-1, t + 1}
        assert reverse[t].uses_list(0).mean() > 0.5
    assert not reverse[5].uses_list(0).any()
    forward_stream, reverse_stream = map(Path, result.bitstreams)
    assert (forward_stream.name, reverse_stream.name) == ("clip.266", "clip.reverse.266")
    assert frames_of(store) == decoded(forward_stream)
    assert frames_of(reverse[::-1]) == decoded(reverse_stream)
    # Both passes code the same frame, so that they differ by no more than coding noise.
    difference = store[1].require("frame_y").astype(int) - reverse[1].require("frame_y")
    assert np.abs(difference).mean() < 20


def test_random_access_is_stored_in_display_order(tiny: Any, tmp_path: Path, extract: Extract) -> None:
    clip = tiny.y4m(tmp_path / "clip.y4m", count=10)
    result = extract(clip, encoder=VVencOptions(gop="random-access", threads=1), with_frames=True)
    store = open_store(result.store)
    assert [picture.poc for picture in store.pictures] == list(range(10))
    assert [picture.pts_seconds for picture in store.pictures] == [t / 24 for t in range(10)]
    assert sorted(order := [picture.decode_order for picture in store.pictures]) == list(range(10)) != order
    assert any((store[t].ref_frame_index(1) > t).any() for t in range(1, 9))
    assert frames_of(store) == decoded(Path(result.bitstreams[0]))


def test_decoded_frames_are_stored_only_on_request(extract: Extract, y4m: Path, tmp_path: Path) -> None:
    result = extract(y4m, with_frames=True)
    assert frames_of(open_store(result.store)) == decoded(Path(result.bitstreams[0]))
    assert "frame_y" not in open_store(extract(y4m, store=tmp_path / "without.zarr").store).names


def test_the_store_says_how_it_was_made(extract: Extract, y4m: Path) -> None:
    result = extract(y4m, encoder=VVencOptions(qp=33, threads=1, extra={"sao": "0"}), command=("codecprior", "extract"))
    attributes = open_store(result.store).attributes
    arguments = attributes["encoder"]["arguments"]
    assert arguments[arguments.index("-qp") + 1] == "33"
    assert "sao=0" in arguments[arguments.index("-vvenc-params") + 1]
    assert attributes["encoder"]["version"]
    assert attributes["decoder"]["name"].startswith("VVdeC")
    assert attributes["extractor"]["command"] == ["codecprior", "extract"]
    assert (attributes["source"]["name"], attributes["source"]["path"]) == ("clip", "clip.y4m")


def test_the_bitstream_is_not_kept_where_it_is_refused(extract: Extract, y4m: Path, tmp_path: Path) -> None:
    result = extract(y4m, keep_bitstream=False)
    assert result.bitstreams == ()
    assert files_in(tmp_path / "out") == ["clip.zarr"]


def test_progress_counts_frames_of_all_passes(extract: Extract, y4m: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    extract(y4m, directions="both", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in range(1, 13)]


# ---- again


def test_what_is_finished_is_not_touched(extract: Extract, y4m: Path, tmp_path: Path) -> None:
    first = extract(y4m)
    before = {path: path.stat() for path in (tmp_path / "out").rglob("*")}
    again = extract(y4m)
    assert again == replace(first, status="skipped", seconds=again.seconds)
    assert {path: path.stat() for path in (tmp_path / "out").rglob("*")} == before


def test_what_a_killed_run_left_beside_its_finished_store_is_removed(
    extract: Extract, y4m: Path, tmp_path: Path
) -> None:
    extract(y4m)
    left = tmp_path / "out" / ".clip.zarr.partial" / "scratch"
    left.mkdir(parents=True)
    (left / "forward.266").write_bytes(b"kept already")
    assert extract(y4m).status == "skipped"
    assert files_in(tmp_path / "out") == ["clip.266", "clip.zarr"]


def test_the_number_of_threads_is_no_other_setting_unless_it_changes_the_stream(extract: Extract, y4m: Path) -> None:
    extract(y4m, encoder=VVencOptions(threads=1))
    assert extract(y4m, encoder=VVencOptions(threads=4)).status == "skipped"
    with pytest.raises(StoreError, match="with other settings"):
        extract(y4m, encoder=VVencOptions(threads=5))


@pytest.mark.parametrize(
    "other",
    [
        {"encoder": VVencOptions(qp=28, threads=1)},
        {"directions": "both"},
        {"with_frames": True},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_settings_are_refused_until_overwriting_is_allowed(extract: Extract, y4m: Path, other: Any) -> None:
    first = extract(y4m)
    created = open_store(first.store).attributes["extraction_digest"]
    with pytest.raises(StoreError, match="use --overwrite to replace it, or another -o") as caught:
        extract(y4m, **other)
    assert "\n" not in str(caught.value)
    assert open_store(first.store).attributes["extraction_digest"] == created
    assert extract(y4m, overwrite=True, **other).status == "extracted"
    assert extract(y4m, **other).status == "skipped"


def test_another_input_is_refused(extract: Extract, y4m: Path, tiny: Any) -> None:
    extract(y4m)
    tiny.y4m(y4m, count=5)
    with pytest.raises(StoreError, match="made from another input"):
        extract(y4m)


def test_encoder_settings_do_not_matter_to_a_coded_stream(extract: Extract, y4m: Path, tmp_path: Path) -> None:
    coded = Path(extract(y4m).bitstreams[0]).rename(tmp_path / "coded.266")
    extract(coded, store=tmp_path / "coded.zarr")
    assert extract(coded, store=tmp_path / "coded.zarr", encoder=VVencOptions(qp=40)).status == "skipped"


def test_a_bitstream_of_something_else_is_not_replaced(extract: Extract, y4m: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "clip.266"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(StoreError, match=r"clip\.266: exists, but not the store that it would belong to"):
        extract(y4m)
    assert (mine.read_bytes(), files_in(mine.parent)) == (b"mine", ["clip.266"])
    assert extract(y4m, keep_bitstream=False).status == "extracted"
    assert mine.read_bytes() == b"mine"


def test_a_damaged_store_can_be_overwritten(extract: Extract, y4m: Path, tiny: Any) -> None:
    result = extract(y4m)
    whole = tiny.content(result.store)
    next((Path(result.store) / "residual_y").glob("c*")).unlink()
    with pytest.raises(StoreError, match=r"is missing; .*use --overwrite to replace it"):
        extract(y4m)
    assert extract(y4m, overwrite=True).status == "extracted"
    assert tiny.content(result.store) == whole


# ---- interrupted


@pytest.fixture(scope="module")
def long_clip(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames: one whole shard and a part of one."""
    return tiny.y4m(tmp_path_factory.mktemp("long") / "clip.y4m", count=20)


@pytest.fixture(scope="module")
def uninterrupted(long_clip: Path, extract_to: Extract, tmp_path_factory: pytest.TempPathFactory) -> SequenceResult:
    return extract_to(long_clip, tmp_path_factory.mktemp("whole") / "clip.zarr", directions="both")


@pytest.mark.parametrize("frame", [1, 18, 21, 39])
def test_an_interrupted_run_is_continued_to_the_same_store(
    *, long_clip: Path, uninterrupted: SequenceResult, extract_to: Extract, tiny: Any, tmp_path: Path, frame: int
) -> None:
    store = tmp_path / "out" / "clip.zarr"
    with pytest.raises(Interrupted):
        extract_to(long_clip, store, directions="both", progress=interrupt_at(frame))
    assert not store.exists()
    result = extract_to(long_clip, store, directions="both")
    assert tiny.content(result.store) == tiny.content(uninterrupted.store)
    for found, wanted in zip(result.bitstreams, uninterrupted.bitstreams, strict=True):
        assert Path(found).read_bytes() == Path(wanted).read_bytes()
    assert files_in(store.parent) == ["clip.266", "clip.reverse.266", "clip.zarr"]


def test_a_finished_bitstream_is_decoded_again_and_not_encoded_again(
    long_clip: Path, extract_to: Extract, tmp_path: Path
) -> None:
    store = tmp_path / "out" / "clip.zarr"
    with pytest.raises(Interrupted):
        extract_to(long_clip, store, directions="both", progress=interrupt_at(25))
    same = (tmp_path / "out" / ".clip.zarr.partial" / "scratch" / "forward.266").stat().st_ino
    result = extract_to(long_clip, store, directions="both")
    assert Path(result.bitstreams[0]).stat().st_ino == same
    assert [p.pts_seconds for p in open_store(result.store).pictures] == [t / 24 for t in range(20)]


def test_what_other_tools_began_is_not_continued(long_clip: Path, extract_to: Extract, tmp_path: Path) -> None:
    store = tmp_path / "out" / "clip.zarr"
    with pytest.raises(Interrupted):
        extract_to(long_clip, store, directions="both", progress=interrupt_at(25))
    before = (tmp_path / "out" / ".clip.zarr.partial" / "scratch" / "forward.266").stat()
    result = extract_to(long_clip, store, directions="both", encoder=VVencOptions(threads=2))
    assert Path(result.bitstreams[0]).stat().st_mtime_ns != before.st_mtime_ns
    arguments = open_store(result.store).attributes["encoder"]["arguments"]
    assert arguments[arguments.index("-threads") + 1] == "2"


def test_a_bitstream_that_cannot_be_kept_leaves_no_store(extract: Extract, y4m: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "clip.266").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"clip\.266: cannot write the bitstream"):
        extract(y4m, overwrite=True)
    assert not (tmp_path / "out" / "clip.zarr").exists()
    (tmp_path / "out" / "clip.266").rmdir()
    assert extract(y4m).status == "extracted"
    assert files_in(tmp_path / "out") == ["clip.266", "clip.zarr"]


# ---- refused


@pytest.mark.parametrize("name", ["RPR_A_Alibaba_4", "8b444_A_Kwai_2"])
def test_streams_that_cannot_be_traced_leave_nothing(
    conformance_dir: Path, extract: Extract, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UnsupportedStreamError, match=f"{name}.bit: ") as caught:
        extract(conformance_dir / f"{name}.bit")
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path / "out") == []


def test_a_coded_stream_cannot_be_reversed(conformance_dir: Path, extract: Extract) -> None:
    with pytest.raises(ConfigError, match="cannot be reversed; use --directions forward"):
        extract(conformance_dir / "AMVR_A_HHI_3.bit", directions="both")


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_truncated_stream_leaves_no_store(
    conformance_dir: Path, extract: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: float
) -> None:
    monkeypatch.setenv("CODECPRIOR_STALL_SECONDS", "1")
    data = (conformance_dir / "AMVR_A_HHI_3.bit").read_bytes()
    broken = tmp_path / "broken.266"
    broken.write_bytes(data[: int(len(data) * cut) + 17])
    with pytest.raises(BitstreamError, match=r"broken\.266: ") as caught:
        extract(broken)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "clip.zarr").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:5000]), "4.png: is truncated or damaged"),
        (lambda file: file.write_bytes(b""), "4.png: is empty"),
        (lambda file: file.write_text("no picture"), "4.png: is no picture that can be decoded"),
        (
            lambda file: cv2.imwrite(str(file), np.zeros((143, 175, 3), np.uint8)),
            "4.png: is 175x143 with 8 bit but 0.png",
        ),
    ],
    ids=["truncated", "empty", "text", "another size"],
)
def test_a_bad_frame_leaves_nothing(
    tiny: Any, tmp_path: Path, extract: Extract, damage: Callable[[Path], object], message: str
) -> None:
    folder = tiny.pictures(tmp_path / "clip")
    damage(folder / "4.png")
    with pytest.raises(MediaError, match=message) as caught:
        extract(folder)
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path / "out") == []


def test_frames_too_small_for_the_encoder_are_named(tmp_path: Path, extract: Extract, tiny: Any) -> None:
    folder = tiny.pictures(tmp_path / "small", size=(16, 16))
    with pytest.raises(ConfigError, match="small: frame size 16x16: VVenC takes"):
        extract(folder)


# ---- vectors beyond 16 bits


@dataclass(frozen=True)
class FarVectors(Backend):
    """A codec whose third picture has vectors that do not fit into 16 bits."""

    def pictures(self, trace: Trace) -> Iterator[FramePriors]:
        stream = StreamInfo(codec="made up", coded_size=(16, 16), bit_depth=8, chroma_format="4:0:0")
        for index in range(4):
            reach = 40_000 if index == 2 else 5
            if index == 2 and not trace.wide_mv:
                raise MvRangeError("a vector of 40000")
            vectors = np.full((4, 4, 2), reach, np.int32 if trace.wide_mv else np.int16)
            deltas = np.full((4, 4), -1, np.int16)
            cells = {name: np.zeros((4, 4), np.uint8) for name in ("pred_mode", "coding_flags", "cu_size")}
            yield FramePriors(
                stream=stream,
                picture=PictureInfo(poc=index, decode_order=index, picture_type=PictureType.P, slice_qp=30),
                frame_index=index,
                box=stream.output_box,
                mv_l0=vectors,
                mv_l1=vectors,
                ref_poc_delta_l0=deltas,
                ref_poc_delta_l1=deltas,
                **cells,
                qp=np.zeros((4, 4), np.int8),
                residual_y=np.zeros((16, 16), np.int16),
            )

    def facts(self, source: object) -> dict[str, Any]:
        return {"encoder": None, "decoder": None}

    def identity(self, source: object) -> dict[str, Any]:
        return {}


def test_vectors_beyond_16_bits_make_the_pass_start_over_with_32(extract: Extract, y4m: Path) -> None:
    seen: list[int] = []
    result = extract(y4m, backend=FarVectors(), keep_bitstream=False, progress=lambda done, total: seen.append(done))
    store = open_store(result.store)
    assert (len(store), store[2].require("mv_l0").dtype, store[2].require("mv_l0").max()) == (4, np.int32, 40_000)
    assert seen == [1, 2, 1, 2, 3, 4]
    assert verify(result.store).problems == ()
