from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from codecprior.errors import ConfigError, MediaError
from codecprior.media import FrameSource, open_source
from codecprior.media.picture_files import PictureWriter
from codecprior.media.rgb import rgb_frames


def noise(count: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, (count, 24, 36, 3), endpoint=True).astype(dtype)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(folder: Path) -> list[np.ndarray]:
    source = open_source(folder)
    assert isinstance(source, FrameSource)
    return list(rgb_frames(source))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_written_is_what_is_read(tmp_path: Path, dtype: Any, threads: int) -> None:
    pictures = noise(20, dtype)
    with PictureWriter(tmp_path / "new" / "frames", threads=threads) as writer:
        for picture in pictures:
            writer.write(picture)
    np.testing.assert_array_equal(read(tmp_path / "new" / "frames"), pictures)
    assert names(tmp_path / "new" / "frames") == [f"{index:08d}.png" for index in range(20)]
    assert names(tmp_path / "new") == ["frames"]


def test_frames_keep_the_names_of_their_source(tmp_path: Path) -> None:
    with PictureWriter(tmp_path / "frames", extension="jpg", digits=3) as writer:
        writer.write(noise()[0], "000047.PNG")
        writer.write(noise()[1], "a.b.tif")
        writer.write(noise()[2])
    assert names(tmp_path / "frames") == ["000047.jpg", "002.jpg", "a.b.jpg"]


def test_jpeg_is_close_in_every_channel(tmp_path: Path) -> None:
    smooth = cv2.resize(noise()[0], (144, 96), interpolation=cv2.INTER_CUBIC)
    with PictureWriter(tmp_path / "frames", extension="jpg") as writer:
        writer.write(smooth)
    (found,) = read(tmp_path / "frames")
    assert np.abs(found.astype(int) - smooth).mean() < 3


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), ConfigError("bad")])
def test_an_error_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), PictureWriter(tmp_path / "frames") as writer:  # noqa: PT012 - begins to write
        writer.write(noise()[0])
        raise error
    assert names(tmp_path) == []


def test_a_folder_with_files_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    with PictureWriter(folder) as writer:  # an empty one is as good as none
        writer.write(noise()[0])
    with pytest.raises(MediaError, match=r"frames: exists; allow overwriting"), PictureWriter(folder):
        pass
    with pytest.raises(RuntimeError), PictureWriter(folder, overwrite=True) as writer:  # noqa: PT012
        writer.write(noise()[1])
        raise RuntimeError
    np.testing.assert_array_equal(read(folder), noise(1))
    with PictureWriter(folder, overwrite=True) as writer:
        writer.write(noise()[1], "other.png")
    assert names(folder) == ["other.png"]
    assert names(tmp_path) == ["frames"]


def test_a_file_in_the_way_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "frames").write_bytes(b"precious")
    with pytest.raises(MediaError, match="exists and is no folder"), PictureWriter(tmp_path / "frames", overwrite=True):
        pass
    assert (tmp_path / "frames").read_bytes() == b"precious"


def _write_and_wait(folder: Path, ready: Any) -> None:
    with PictureWriter(folder) as writer:
        for picture in noise(8):
            writer.write(picture)
        ready.set()
        signal.pause()


def test_a_killed_writer_leaves_no_folder_and_the_next_one_removes_its_traces(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=_write_and_wait, args=(folder, ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(MediaError, match="another process is writing there"), PictureWriter(folder):
        pass
    process.kill()
    process.join()
    assert names(tmp_path) == [".frames.partial"]
    with PictureWriter(folder) as writer:
        writer.write(noise()[2])
    assert names(tmp_path) == ["frames"]
    assert names(folder) == ["00000000.png"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(MediaError, match=r"file.frames: cannot be written"),
        PictureWriter(tmp_path / "file" / "frames"),
    ):
        pass


def test_a_picture_that_cannot_be_written_is_an_error_of_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(MediaError, match="frames: cannot be written"),
        PictureWriter(tmp_path / "frames") as writer,
    ):
        writer.write(noise()[0], "x" * 300)
    assert names(tmp_path) == []


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="picture extension 'webp': use png or jpg"):
        PictureWriter(tmp_path / "frames", extension="webp")
    with pytest.raises(ConfigError, match="jpg holds 8 bit"), PictureWriter(tmp_path / "a", extension="jpg") as writer:
        writer.write(noise(dtype=np.uint16)[0])
    with pytest.raises(ConfigError, match="two frames are called 7"), PictureWriter(tmp_path / "b") as writer:  # noqa: PT012
        writer.write(noise()[0], "7.png")
        writer.write(noise()[1], "7.jpg")
