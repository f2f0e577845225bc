from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from codecprior.errors import CorruptStoreError, SchemaError, StoreError
from codecprior.store.location import is_complete
from codecprior.store.packed import open_packed, pack_frames
from codecprior.store.partial import partial_path


@pytest.fixture
def pictures(clips: Path) -> list[NDArray[np.uint8]]:
    """The first 20 frames of carphone, 176x144, R'G'B'."""
    video = cv2.VideoCapture(str(clips / "carphone_pristine.mp4"))
    return [np.ascontiguousarray(video.read()[1][..., ::-1]) for _ in range(20)]


def test_frames_come_back_as_they_went_in(pictures: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    steps: list[int] = []
    sides = {"blurry": iter(pictures), "sharp": iter(pictures[::-1])}
    pack_frames(tmp_path / "clip.zarr", sides, num_frames=20, facts={"sequence": "clip"}, progress=steps.append)
    packed = pickle.loads(pickle.dumps(open_packed(tmp_path / "clip.zarr")))
    assert len(packed) == 20
    assert packed.attributes["sequence"] == "clip"
    crop = packed.start("blurry", (slice(3, 19, 2), slice(10, 140), slice(5, 100)))()
    assert np.array_equal(crop, np.stack(pictures)[3:19:2, 10:140, 5:100])
    assert np.array_equal(
        packed.start("sharp", (slice(0, 20), slice(0, 144), slice(0, 176)))(), np.stack(pictures)[::-1]
    )
    assert steps == [16, 32, 36, 40]


def test_zarr_python_opens_them(pictures: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    pack_frames(tmp_path / "clip.zarr", {"blurry": pictures}, num_frames=20)
    group = zarr.open_group(tmp_path / "clip.zarr", mode="r")
    assert np.array_equal(group["blurry"][17], pictures[17])


def test_planes_of_an_eighth_of_the_size_come_back(pictures: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    odd = [picture[:91, :65] for picture in pictures]
    planes = np.random.default_rng(1).normal(size=(20, 12, 9, 4)).astype(np.float16)
    pack_frames(tmp_path / "clip.zarr", {"blurry": odd}, num_frames=20, planes={"latents": planes})
    packed = open_packed(tmp_path / "clip.zarr")
    assert (packed.planes, packed.frame_size("latents")) == (("latents",), (9, 12))
    part = packed.start("latents", (slice(14, 19, 2), slice(3, 12), slice(0, 9)))()
    assert np.array_equal(part, planes[14:19:2, 3:])
    message = r"latents: frame 17 is float32\[12, 9, 4\]; all must be float16\[12, 9, 4\]"
    several = [*planes[:17], *planes[17:].astype(np.float32)]
    with pytest.raises(SchemaError, match=message):
        pack_frames(tmp_path / "two.zarr", {"blurry": odd}, num_frames=20, planes={"latents": several})
    with pytest.raises(SchemaError, match=r"latents: frame 0 is float16\[11, 9, 4\]; all must be float16\[12, 9, 4\]"):
        pack_frames(tmp_path / "two.zarr", {"blurry": odd}, num_frames=20, planes={"latents": planes[:, 1:]})


@pytest.mark.parametrize(("count", "message"), [(21, "has 20 frames, not the 21"), (19, "has more frames than the 19")])
def test_another_number_of_frames_than_announced_leaves_nothing(
    pictures: list[NDArray[np.uint8]], tmp_path: Path, count: int, message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        pack_frames(tmp_path / "clip.zarr", {"blurry": pictures}, num_frames=count)
    assert not list(tmp_path.iterdir())


def test_a_frame_of_another_size_is_named(pictures: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    pictures[7] = pictures[7][:100]
    with pytest.raises(SchemaError, match=r"sharp: frame 7 is uint8\[100, 176, 3\]; all must be uint8\[144, 176, 3\]"):
        pack_frames(tmp_path / "clip.zarr", {"sharp": pictures}, num_frames=20)


def test_a_source_that_breaks_leaves_nothing_that_looks_whole(
    pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    def broken() -> object:
        yield from pictures[:18]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        pack_frames(tmp_path / "clip.zarr", {"blurry": broken()}, num_frames=20)  # type: ignore[dict-item]
    assert not is_complete(tmp_path / "clip.zarr")
    assert not partial_path(tmp_path / "clip.zarr").exists()


def test_what_is_there_is_replaced_only_on_request(pictures: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    pack_frames(tmp_path / "clip.zarr", {"blurry": pictures[:4]}, num_frames=4)
    with pytest.raises(StoreError, match="exists"):
        pack_frames(tmp_path / "clip.zarr", {"blurry": pictures}, num_frames=20)
    pack_frames(tmp_path / "clip.zarr", {"blurry": pictures}, num_frames=20, overwrite=True)
    assert len(open_packed(tmp_path / "clip.zarr")) == 20


def test_a_flipped_byte_is_an_error_and_no_picture(pictures: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    pack_frames(tmp_path / "clip.zarr", {"blurry": pictures}, num_frames=20)
    shard = next((tmp_path / "clip.zarr" / "blurry").glob("c.0*"))
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptStoreError, match="damaged"):
        open_packed(tmp_path / "clip.zarr").start("blurry", (slice(0, 8), slice(0, 144), slice(0, 176)))()


def test_something_else_is_not_taken_for_packed_frames(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no priors store here"):
        open_packed(tmp_path / "nothing.zarr")
