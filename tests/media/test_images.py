from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from codecprior.errors import MediaError
from codecprior.media.images import ImageFolder, picture_size, read_picture


def read_all(source: ImageFolder, **options: bool) -> list[bytes]:
    return [frame.to_bytes() for frame in source.frames(**options)]


def test_frames_come_in_natural_order_of_their_names(image_folder: Path) -> None:
    source = ImageFolder(image_folder)
    assert source.names == tuple(f"frame_{number}.png" for number in range(1, 13))
    levels = [int(frame.y[0, 0]) for frame in source]
    assert levels == sorted(levels)
    assert source.info.num_frames == len(levels) == 12


def test_reversed_frames_are_the_frames_backwards_with_their_times(image_folder: Path) -> None:
    source = ImageFolder(image_folder, frame_rate=Fraction(25))
    forward = [(frame.to_bytes(), frame.pts_seconds) for frame in source]
    assert [(frame.to_bytes(), frame.pts_seconds) for frame in source.frames(reverse=True)] == forward[::-1]
    assert next(source.frames(start=2)).pts_seconds == 0.08


@pytest.mark.parametrize("extension", ["png", "bmp", "tiff", "PNG"])
def test_lossless_formats_give_the_same_frames(tmp_path: Path, extension: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    frames = []
    for name in ("a.png", f"b.{extension}"):
        folder = tmp_path / name
        folder.mkdir()
        cv2.imwrite(str(folder / name), picture)
        frames += read_all(ImageFolder(folder))
    assert frames[0] == frames[1]


def test_16_bit_pictures_become_10_bit_frames(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((2, 4, 3), 65535, np.uint16))
    source = ImageFolder(tmp_path)
    (frame,) = source
    assert (source.info.bit_depth, source.info.frame_bit_depth) == (16, 10)
    assert (int(frame.y[0, 0]), int(frame.u[0, 0])) == (940, 512)
    assert "16 bit to 10 bit" in source.info.conversion


def test_grey_pictures_equal_coloured_ones_with_the_same_level(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    cv2.imwrite(str(tmp_path / "0.png"), grey)
    cv2.imwrite(str(tmp_path / "1.png"), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    first, second = read_all(ImageFolder(tmp_path))
    assert first == second


def test_alpha_is_dropped_and_said_to_be(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), picture)
    cv2.imwrite(str(tmp_path / "1.png"), picture[..., :3])
    source = ImageFolder(tmp_path)
    first, second = read_all(source)
    assert first == second
    assert "alpha dropped" in source.info.conversion


def test_odd_sizes_are_padded_and_the_padding_is_told(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    source = ImageFolder(tmp_path)
    (frame,) = source
    assert (source.info.width, source.info.height, source.info.padding, source.info.frame_size) == (
        7,
        5,
        (1, 1),
        (8, 6),
    )
    assert frame.y.shape == (6, 8)
    np.testing.assert_array_equal(frame.y[:, 7], frame.y[:, 6])
    np.testing.assert_array_equal(frame.y[5], frame.y[4])
    assert len(frame.to_bytes()) == source.info.frame_size_bytes


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
@pytest.mark.parametrize("extension", ["png", "jpg", "bmp"])
def test_a_truncated_picture_is_named(tmp_path: Path, extension: str, keep: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.{extension}"), picture)
    broken = tmp_path / f"1.{extension}"
    os.truncate(broken, int(broken.stat().st_size * keep))
    frames = ImageFolder(tmp_path).frames()
    next(frames)
    with pytest.raises(MediaError, match=rf"1\.{extension}: .*(truncated|no picture)"):
        next(frames)


def test_a_flipped_byte_in_a_png_is_noticed(image_folder: Path) -> None:
    broken = image_folder / "frame_2.png"
    data = bytearray(broken.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    with pytest.raises(MediaError, match=r"frame_2\.png: is truncated or damaged"):
        list(ImageFolder(image_folder))


def test_a_jpeg_with_a_thumbnail_and_bytes_behind_its_end_is_whole(tmp_path: Path) -> None:
    picture = np.full((16, 16, 3), 90, np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    thumbnail = b"\xff\xe1" + (len(jpeg) + 2).to_bytes(2, "big") + jpeg
    (tmp_path / "0.jpg").write_bytes(jpeg[:2] + thumbnail + jpeg[2:] + b"trailer")
    assert len(list(ImageFolder(tmp_path))) == 1
    (tmp_path / "0.jpg").write_bytes(jpeg[:2] + thumbnail + jpeg[2:-10])
    with pytest.raises(MediaError, match="truncated"):
        ImageFolder(tmp_path)


def test_a_size_that_changes_names_both_files(image_folder: Path) -> None:
    cv2.imwrite(str(image_folder / "frame_5.png"), np.zeros((32, 50, 3), np.uint8))
    with pytest.raises(MediaError, match=r"frame_5\.png: is 50x32 .* but frame_1\.png is 48x32"):
        list(ImageFolder(image_folder))


def test_a_bit_depth_that_changes_names_both_files(image_folder: Path) -> None:
    cv2.imwrite(str(image_folder / "frame_5.png"), np.zeros((32, 48, 3), np.uint16))
    with pytest.raises(MediaError, match=r"frame_5\.png: .*16 bit but frame_1\.png .*8 bit"):
        list(ImageFolder(image_folder))


def test_content_decides_over_a_wrong_extension(image_folder: Path) -> None:
    before = read_all(ImageFolder(image_folder))
    shutil.move(image_folder / "frame_3.png", image_folder / "frame_3.jpg")
    assert read_all(ImageFolder(image_folder)) == before


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"no picture at all", "no picture")])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(MediaError, match=rf"0\.png: .*{reason}"):
        ImageFolder(tmp_path)


def test_a_picture_of_floats_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.tiff"), np.zeros((4, 4), np.float32))
    with pytest.raises(MediaError, match="float32"):
        ImageFolder(tmp_path)


def test_a_picture_that_vanishes_is_named(image_folder: Path) -> None:
    source = ImageFolder(image_folder)
    (image_folder / "frame_2.png").unlink()
    with pytest.raises(MediaError, match=r"frame_2\.png: cannot be read"):
        list(source)


def test_two_pictures_with_one_name_are_ambiguous(image_folder: Path) -> None:
    shutil.copy(image_folder / "frame_1.png", image_folder / "frame_1.jpg")
    with pytest.raises(MediaError, match=r"frame_1\.jpg and frame_1\.png"):
        ImageFolder(image_folder)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(MediaError, match=r"holds no pictures.*\.png"):
        ImageFolder(tmp_path)


def test_digest_follows_names_and_contents(image_folder: Path) -> None:
    digest = ImageFolder(image_folder).digest()
    assert digest == ImageFolder(image_folder).digest()
    shutil.move(image_folder / "frame_12.png", image_folder / "frame_13.png")
    renamed = ImageFolder(image_folder).digest()
    shutil.copy(image_folder / "frame_1.png", image_folder / "frame_2.png")
    assert len({digest, renamed, ImageFolder(image_folder).digest()}) == 3


def test_a_pass_can_be_left_early_and_started_again(image_folder: Path) -> None:
    source = ImageFolder(image_folder)
    frames = source.frames()
    first = next(frames).to_bytes()
    del frames
    assert next(source.frames()).to_bytes() == first


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tiff"])
@pytest.mark.parametrize("shape", [(6, 300, 3), (7, 5)])
def test_the_size_of_a_picture_is_known_before_it_is_decoded(
    tmp_path: Path, extension: str, shape: tuple[int, ...]
) -> None:
    file = tmp_path / f"a.{extension}"
    cv2.imwrite(str(file), np.zeros(shape, np.uint8))
    assert picture_size(file) == (shape[1], shape[0]) == read_picture(file).shape[1::-1]
    if extension in ("png", "jpg"):
        file.write_bytes(file.read_bytes()[:-20])
        assert picture_size(file) == (shape[1], shape[0])


def test_the_size_of_a_turned_jpeg_is_that_of_the_turned_picture(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.zeros((6, 10, 3), np.uint8))[1].tobytes()
    orientation = b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"  # tag 0x0112, one SHORT: 6, a quarter turn
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + orientation + bytes(4)
    file = tmp_path / "a.jpg"
    file.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert picture_size(file) == (6, 10) == read_picture(file).shape[1::-1]


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "is empty"), (b"\x89PNG\r\n\x1a\n", "is truncated"), (b"no picture", "is no picture")]
)
def test_what_has_no_size_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(data)
    with pytest.raises(MediaError, match=rf"a\.png: {reason}"):
        picture_size(file)
    with pytest.raises(MediaError, match=r"b\.png: cannot be read"):
        picture_size(tmp_path / "b.png")
