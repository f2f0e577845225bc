"""Sharp video of a high frame rate into blurry frames: averages of neighbours, as a longer exposure would have seen.

This is how GoPro was made (Nah et al., "Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring",
CVPR 2017, DOI 10.1109/CVPR.2017.35): 7 to 13 frames of 240 frames/s are averaged, the one in the middle is the sharp
side, and each blurry frame begins where the one before ended. Frames of a lower rate are too far apart for that, which
shows as ghosts; interpolated frames between them (as in REDS, Nah et al., CVPRW 2019) close the gaps.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecprior.datasets.interpolation import Between
from codecprior.datasets.response import Light, Response, check_response, to_light, to_samples
from codecprior.datasets.synthesis import Progress, SequenceFolders, SynthesisResult, sequence_seed
from codecprior.errors import ConfigError, MediaError
from codecprior.media.opening import open_frames
from codecprior.media.raw import RawFormat
from codecprior.media.rgb import rgb_frames
from codecprior.store.bulk import keep_freed_memory

__all__ = ["BlurSettings", "BlurryFrame", "blurry_frames", "synthesize_blur"]


@dataclass(frozen=True, kw_only=True)
class BlurSettings:
    """How frames are averaged.

    Parameters
    ----------
    frames : tuple of (int, int)
        Fewest and most source frames in one blurry frame, both odd; each sequence draws one odd number for all of its
        frames.
    stride : int, optional
        Source frames from one blurry frame to the next; by default as many as are averaged, as in GoPro, where no
        source frame is in two blurry ones.
    crf : Response
        Camera response: ``"gamma2.2"`` averages light, ``"linear"`` the samples as they are.
    interpolate : int
        Steps from one source frame to the next: 1 averages the source frames alone, 8 puts 7 interpolated frames
        between any two.
    seed : int
        Of what is drawn.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    frames: tuple[int, int] = (7, 13)
    stride: int | None = None
    crf: Response = "gamma2.2"
    interpolate: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        fewest, most = self.frames
        if not 3 <= fewest <= most or fewest % 2 == 0 or most % 2 == 0:
            shown = fewest if fewest == most else f"{fewest}-{most}"
            raise ConfigError(f"frames {shown}: use an odd number from 3 on, so that one is in the middle, or a range")
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"stride {self.stride}: use 1 or more source frames")
        if self.interpolate < 1:
            raise ConfigError(f"interpolate {self.interpolate}: use 1 for no interpolation, or more steps")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed}: use 0 or more")
        check_response(self.crf)

    def drawn(self, name: str) -> BlurSettings:
        """Make the settings of one sequence, in which nothing is left to be drawn.

        Parameters
        ----------
        name : str
            Name of the sequence.

        Returns
        -------
        BlurSettings
            With one number of frames and a stride.
        """
        fewest, most = self.frames
        random = np.random.default_rng(sequence_seed(self.seed, name))
        count = fewest + 2 * int(random.integers((most - fewest) // 2 + 1))
        return replace(self, frames=(count, count), stride=self.stride or count)


@dataclass(frozen=True, kw_only=True, eq=False)
class BlurryFrame:
    """One blurry frame with its sharp side.

    Parameters
    ----------
    blur, sharp : ndarray, shape (H, W, 3), uint8 or uint16
        The average, and the frame in the middle of it.
    source_frames : range
        Indices of the averaged frames.
    """

    blur: NDArray[Any]
    sharp: NDArray[Any]
    source_frames: range


@dataclass
class _Window:
    """An average in the making: the light of its frames so far, and the one in the middle once that came."""

    source_frames: range
    light: Light
    sharp: NDArray[Any]


def blurry_frames(
    frames: Iterable[NDArray[Any]], count: int, stride: int, *, crf: Response = "gamma2.2", interpolate: int = 1
) -> Iterator[BlurryFrame]:
    """Average neighbouring frames; windows that the clip does not fill are left out.

    Parameters
    ----------
    frames : iterable of ndarray, shape (H, W, 3), uint8 or uint16
        Sharp frames in display order.
    count : int
        Frames in an average, odd.
    stride : int
        Frames from the beginning of one average to that of the next.
    crf : Response
        Camera response.
    interpolate : int
        Steps from one frame to the next.

    Yields
    ------
    BlurryFrame
        ``(T - count) // stride + 1`` of them for T frames. Memory holds ``ceil(count / stride)`` averages.
    """
    windows: deque[_Window] = deque()
    last: tuple[NDArray[Any], Light] | None = None
    for index, frame in enumerate(frames):
        begins = index % stride == 0
        if not windows and not begins:
            continue
        light = to_light(frame, crf)
        if windows and last is not None and interpolate > 1:
            between = _between(*last, frame, light, interpolate)
            for window in windows:
                window.light += between
        last = frame, light
        if begins:
            windows.append(_Window(range(index, index + count), np.zeros_like(light), frame))
        for window in windows:
            window.light += light
            if index == window.source_frames[count // 2]:
                window.sharp = frame
        if index == windows[0].source_frames[-1]:
            window = windows.popleft()
            average = window.light / np.float32((count - 1) * interpolate + 1)
            blur = to_samples(average, crf, frame.dtype)
            yield BlurryFrame(blur=blur, sharp=window.sharp, source_frames=window.source_frames)


def _between(first: NDArray[Any], first_light: Light, second: NDArray[Any], second_light: Light, steps: int) -> Light:
    """Add up the light of the frames between two."""
    motion = Between(first, second)
    total = np.zeros_like(first_light)
    for step in range(1, steps):
        total += motion.at(step / steps, first_light, second_light)
    return total


def synthesize_blur(
    path: str | Path,
    folders: SequenceFolders,
    settings: BlurSettings,
    *,
    raw: RawFormat | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SynthesisResult:
    """Make the blurry and the sharp side of one sequence.

    Parameters
    ----------
    path : path-like
        Video, folder of pictures, or raw planar file.
    folders : SequenceFolders
        Where to.
    settings : BlurSettings
        How.
    raw : RawFormat, optional
        Layout of a ``.yuv`` file whose name does not tell.
    overwrite : bool
        Whether a sequence that was made from something else gives way.
    progress : callable, optional
        Told about each blurry frame.

    Returns
    -------
    SynthesisResult
        ``"synthesized"`` or ``"skipped"``; failures raise.

    Raises
    ------
    MediaError
        If the source cannot be read or is too short, or something cannot be written.
    DatasetError
        If something else is in the place of the sequence.
    """
    begin = time.monotonic()
    keep_freed_memory()
    source = open_frames(path, raw=raw)
    settings = settings.drawn(folders.name)
    count, stride = settings.frames[0], settings.stride or settings.frames[0]
    made_from = {"sha256": source.digest(), "averaging": asdict(settings)}
    if done := folders.finished_frames(made_from, overwrite=overwrite):
        return folders.result("skipped", num_frames=done)
    length = source.info.num_frames
    total = None if length is None else max(0, (length - count) // stride + 1)
    frames: list[dict[str, Any]] = []
    averages = blurry_frames(rgb_frames(source), count, stride, crf=settings.crf, interpolate=settings.interpolate)
    with folders.writing(made_from, path, frames) as (blur, sharp):
        for frame in averages:
            blur.write(frame.blur)
            sharp.write(frame.sharp)
            used = frame.source_frames
            frames.append({"source_frames": [used[0], used[-1]], "sharp": used[count // 2]})
            if progress:
                progress(len(frames), total)
        if not frames:
            raise MediaError(f"{path}: is shorter than one average of {count} frames; average fewer")
    return folders.result("synthesized", num_frames=len(frames), seconds=time.monotonic() - begin)
