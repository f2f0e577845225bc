"""Frames of a clip as R'G'B', cropped, from wherever a sequence has them: pictures, a raw file, packed arrays, a store.

Reading starts at once and goes on while other parts of the clip are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from codecprior.core.arrays import FRAME_ARRAYS, PLANE_CELL
from codecprior.core.stream import Box
from codecprior.datasets.geometry import plane_slices
from codecprior.errors import ConfigError, DatasetError, MediaError
from codecprior.media.images import decode_picture, read_picture
from codecprior.media.opening import open_frames
from codecprior.media.raw import RawFormat
from codecprior.media.rgb import RGBFrame, rgb_frames, yuv_to_rgb
from codecprior.store.location import is_url
from codecprior.store.packed import PackedFrames
from codecprior.store.reader import PriorsStore

__all__ = [
    "DecodedFrames",
    "FrameReader",
    "PackedPlane",
    "PackedSide",
    "PictureFiles",
    "RawFrames",
    "VideoFrames",
    "slice_frames",
]

_MAX_THREADS: Final = 4
"""Pictures of a clip that are decoded side by side: a training has as many workers as it has CPUs for."""

_CHROMA_REACH: Final = 2
"""Luma samples around a crop that the interpolation of its chroma looks at."""

_TO_RGB: Final = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


class FrameReader(Protocol):
    """One side of a sequence."""

    def start(self, frames: range, box: Box) -> Callable[[], NDArray[Any]]:
        """Start reading a part of some frames.

        Parameters
        ----------
        frames : range
            Frames of the sequence, rising or falling.
        box : Box
            Part of the picture.

        Returns
        -------
        callable
            Waits for the frames and returns them: shape (T, H, W, 3), uint8 or uint16.
        """


class PictureFiles:
    """Frames from one picture each.

    Parameters
    ----------
    files : sequence of str
        Local paths or URLs in display order.
    size : tuple of int
        Width and height that they must have.
    """

    def __init__(self, files: Sequence[str], size: tuple[int, int]) -> None:
        self._files = files
        self._size = size

    def start(self, frames: range, box: Box) -> Callable[[], NDArray[Any]]:
        """Decode the pictures; see :class:`FrameReader`."""
        pending = [_decoders().submit(self._read, self._files[frame], box) for frame in frames]

        def finish() -> NDArray[Any]:
            pictures = [future.result() for future in pending]
            for frame, picture in zip(frames, pictures, strict=True):
                if picture.dtype != pictures[0].dtype:
                    raise DatasetError(
                        f"{self._files[frame]}: has {8 * picture.itemsize} bit, {self._files[frames[0]]} has "
                        f"{8 * pictures[0].itemsize}; all frames of a sequence need one bit depth"
                    )
            return np.stack(pictures)

        return finish

    def _read(self, file: str, box: Box) -> NDArray[Any]:
        picture = decode_picture(_fetch(file), file) if is_url(file) else read_picture(Path(file))
        _require_size(file, (picture.shape[1], picture.shape[0]), self._size)
        rows, cols = box.plane_slices()
        channels = picture.shape[2] if picture.ndim > 2 else 1
        rgb: NDArray[Any] = cv2.cvtColor(picture[rows, cols], _TO_RGB[channels])
        return rgb


class RawFrames:
    """Frames from a raw planar file.

    Parameters
    ----------
    path : str
        The ``.yuv`` or ``.y4m`` file.
    raw : mapping, optional
        Layout as a manifest has it.
    size : tuple of int
        Width and height that the frames must have.

    Raises
    ------
    MediaError
        If the file cannot be read.
    DatasetError
        If its frames have another size.
    """

    def __init__(self, path: str, raw: Mapping[str, Any] | None, size: tuple[int, int]) -> None:
        layout = dict(raw or {})
        if layout.get("frame_rate") is not None:
            layout["frame_rate"] = Fraction(layout["frame_rate"])
        self._source = open_frames(path, raw=RawFormat(**layout))
        _require_size(path, (self._source.info.width, self._source.info.height), size)

    def start(self, frames: range, box: Box) -> Callable[[], NDArray[Any]]:
        """Read and convert the frames; see :class:`FrameReader`."""
        return _decoders().submit(self._read, frames, box).result

    def _read(self, frames: range, box: Box) -> NDArray[Any]:
        rising = frames if frames.step > 0 else frames[::-1]
        rows, cols = box.plane_slices()
        pictures = rgb_frames(self._source, start=rising.start, stop=rising[-1] + 1)
        clip = np.stack([picture[rows, cols] for picture in islice(pictures, 0, None, rising.step)])
        return clip if rising is frames else clip[::-1]


class VideoFrames:
    """Frames from a video file, which is decoded once as long as each clip begins within the one before it or later.

    The frames of the last clip are kept. A clip that begins earlier lets the video be decoded from its beginning.

    Parameters
    ----------
    path : str
        The video.
    size : tuple of int
        Width and height that the frames must have.

    Raises
    ------
    MediaError
        If the file cannot be read.
    DatasetError
        If its frames have another size.
    """

    def __init__(self, path: str, size: tuple[int, int]) -> None:
        self._source = open_frames(path)
        _require_size(path, (self._source.info.width, self._source.info.height), size)
        self._decoded: Iterator[tuple[int, RGBFrame]] = iter(())
        self._following = 0
        self._recent: dict[int, RGBFrame] = {}

    def start(self, frames: range, box: Box) -> Callable[[], NDArray[Any]]:
        """Decode and convert the frames; see :class:`FrameReader`."""
        return _decoders().submit(self._read, frames, box).result

    def _read(self, frames: range, box: Box) -> NDArray[Any]:
        first, last = min(frames[0], frames[-1]), max(frames[0], frames[-1])
        if not self._following or first < min(self._recent, default=self._following):
            self._decoded, self._following = enumerate(rgb_frames(self._source)), 0
        self._recent = {index: picture for index, picture in self._recent.items() if index >= first}
        for index, picture in islice(self._decoded, max(0, last + 1 - self._following)):
            self._following = index + 1
            if index >= first:
                self._recent[index] = picture
        if self._following <= last:
            raise DatasetError(f"{self._source.info.path}: has {self._following} frames, the priors have more")
        rows, cols = box.plane_slices()
        return np.stack([self._recent[index][rows, cols] for index in frames])


class PackedSide:
    """Frames from one side of a packed group.

    Parameters
    ----------
    packed : PackedFrames
        The group.
    side : {"blurry", "sharp"}
        Name of the side.
    num_frames : int
        Frames that it must have.
    size : tuple of int
        Width and height that they must have.

    Raises
    ------
    DatasetError
        If it holds something else.
    """

    def __init__(self, packed: PackedFrames, side: str, num_frames: int, size: tuple[int, int]) -> None:
        _require_length(packed, num_frames)
        _require_size(f"{packed.location}/{side}", packed.frame_size(side), size)
        self._packed = packed
        self._side = side

    def start(self, frames: range, box: Box) -> Callable[[], NDArray[Any]]:
        """Read the part of the array; see :class:`FrameReader`."""
        return _start(self._packed, self._side, frames, box.plane_slices())


class PackedPlane:
    """What is packed with frames at one value for 8x8 samples.

    Parameters
    ----------
    packed : PackedFrames
        The group.
    name : str
        Name of the array.
    num_frames : int
        Frames that it must have.
    size : tuple of int
        Width and height that its frames must have.

    Raises
    ------
    DatasetError
        If it belongs to something else.
    """

    def __init__(self, packed: PackedFrames, name: str, num_frames: int, size: tuple[int, int]) -> None:
        _require_length(packed, num_frames)
        (columns, rows), (width, height) = packed.frame_size(name), size
        _require_size(f"{packed.location}/{name}", (columns, rows), (-(-width // PLANE_CELL), -(-height // PLANE_CELL)))
        self._packed = packed
        self._name = name

    def start(self, frames: range, box: Box) -> Callable[[], NDArray[Any]]:
        """Start reading a part of some frames.

        Parameters
        ----------
        frames : range
            Frames of the sequence, rising or falling.
        box : Box
            Part of the picture.

        Returns
        -------
        callable
            Waits for the values and returns them: shape (T, ceil(H/8), ceil(W/8), C).

        Raises
        ------
        ConfigError
            If the part does not begin at a multiple of 8.
        """
        if box.x % PLANE_CELL or box.y % PLANE_CELL:
            raise ConfigError(
                f"{self._packed.location}/{self._name}: a crop begins at ({box.x}, {box.y}); use multiples of "
                f"{PLANE_CELL}, one value stands for {PLANE_CELL}x{PLANE_CELL} samples"
            )
        return _start(self._packed, self._name, frames, plane_slices(box))


class DecodedFrames:
    """Frames that the decoder put out, from a store that has them.

    Parameters
    ----------
    store : PriorsStore
        All frames, cropped to the conformance window.

    Raises
    ------
    ConfigError
        If the store was extracted without them.
    """

    def __init__(self, store: PriorsStore) -> None:
        names = [spec.name for spec in FRAME_ARRAYS if spec.plane in store.stream.planes]
        if not set(names) <= set(store.names):
            raise ConfigError(f"{store.location}: has no decoded frames; prepare with --with-frames or read the source")
        self._store = store.select(*names)
        self._names = names
        source = store.attributes.get("source", {})
        self._colour = {
            "matrix": source.get("color_matrix") or "bt709",
            "color_range": source.get("color_range") or "limited",
        }

    def start(self, frames: range, box: Box) -> Callable[[], NDArray[Any]]:
        """Read the planes and convert them; see :class:`FrameReader`."""
        return _decoders().submit(self._read, frames, box).result

    def _read(self, frames: range, box: Box) -> NDArray[Any]:
        # Chroma at the edge of a crop comes out as it would in the middle of the picture.
        width, height = self._store.size
        left, top = max(0, box.x - _CHROMA_REACH), max(0, box.y - _CHROMA_REACH)
        right = min(width, box.x + box.width + _CHROMA_REACH)
        bottom = min(height, box.y + box.height + _CHROMA_REACH)
        clip = slice_frames(self._store, frames).crop(left, top, right - left, bottom - top).load()
        rows, cols = Box(box.x - left, box.y - top, box.width, box.height).plane_slices()
        planes = [clip.arrays[name] for name in self._names]
        return np.stack(
            [
                yuv_to_rgb([plane[t] for plane in planes], clip.stream.bit_depth, **self._colour)[rows, cols]
                for t in range(len(clip))
            ]
        )


def _start(packed: PackedFrames, name: str, frames: range, part: tuple[slice, slice]) -> Callable[[], NDArray[Any]]:
    rising = frames if frames.step > 0 else frames[::-1]
    wait = packed.start(name, (slice(rising.start, rising[-1] + 1, rising.step), *part))
    return wait if rising is frames else lambda: wait()[::-1]


def slice_frames(store: PriorsStore, frames: range) -> PriorsStore:
    """Restrict a store to frames, rising or falling."""
    rising = frames if frames.step > 0 else frames[::-1]
    sliced = store[rising.start : rising[-1] + 1 : rising.step]
    return sliced if rising is frames else sliced[::-1]


def _fetch(url: str) -> bytes:
    try:
        fs, path = url_to_fs(url)
        data: bytes = fs.cat_file(path)
    except Exception as error:  # each fsspec backend has its own exceptions
        raise MediaError(f"{url}: cannot be read ({error})") from error
    return data


def _require_length(packed: PackedFrames, num_frames: int) -> None:
    if len(packed) != num_frames:
        raise DatasetError(
            f"{packed.location}: has {len(packed)} frames, the priors {num_frames}; prepare the dataset again"
        )


def _require_size(where: str, found: tuple[int, int], size: tuple[int, int]) -> None:
    if found != size:
        raise DatasetError(
            f"{where}: is {found[0]}x{found[1]}, the priors are of {size[0]}x{size[1]}; prepare the dataset again"
        )


@cache
def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MAX_THREADS, len(os.sched_getaffinity(0))), "codecprior-frames")
