from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

RunFFmpeg = Callable[..., bytes]


@pytest.fixture(scope="session")
def ffmpeg() -> RunFFmpeg:
    """Run FFmpeg with arguments and return what it wrote to stdout."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> bytes:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *map(str, arguments)]
        return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True).stdout

    return run


@pytest.fixture(scope="session")
def carphone(clips: Path) -> Path:
    return clips / "carphone_pristine.mp4"


@pytest.fixture(scope="session")
def vvc_files(tmp_path_factory: pytest.TempPathFactory, ffmpeg: RunFFmpeg, carphone: Path) -> Path:
    """Folder with ten frames of carphone as VVC: clip.266, clip.mp4, clip.mkv and clip.ts."""
    folder = tmp_path_factory.mktemp("vvc")
    encode = ["-i", carphone, "-frames:v", "10", "-r", "30", "-c:v", "libvvenc", "-preset", "faster"]
    ffmpeg(*encode, "-f", "vvc", folder / "clip.266")
    for extension in ("mp4", "mkv", "ts"):
        ffmpeg(*encode, folder / f"clip.{extension}")
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Folder with twelve 48x32 PNG files, frame_1.png to frame_12.png, each of another colour."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(1, 13):
        picture = np.full((32, 48, 3), number * 20, np.uint8)
        picture[:, number:, 0] = 10
        cv2.imwrite(str(folder / f"frame_{number}.png"), picture)
    return folder
