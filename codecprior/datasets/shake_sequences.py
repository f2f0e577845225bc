"""Pictures, or every K-th frame of a video, into sequences of a shaken hand on disk.

``motion/<sequence>/NNNNNNNN.npz`` beside the frames of the same number holds what :class:`ShakeFrame` says of motion:
``backward`` and ``forward``, (H, W, 2) float32, with ``backward_valid`` and ``forward_valid``, (H, W) bool.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.datasets.shake import ShakeScene, ShakeSettings
from codecprior.datasets.synthesis import Progress, SequenceFolders, SynthesisResult, sequence_seed
from codecprior.media.files import kind_of
from codecprior.media.images import list_images, read_picture
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames
from codecprior.store.bulk import keep_freed_memory

__all__ = ["SHAKE_SIDES", "Background", "Backgrounds", "find_backgrounds", "read_backgrounds", "synthesize_shake"]

SHAKE_SIDES: Final = ("blur", "sharp", "motion")
"""Folders in which a shaken sequence has one of its own."""


@dataclass(frozen=True, kw_only=True)
class Backgrounds:
    """Where backgrounds come from: one picture, or a video.

    Parameters
    ----------
    name : str
        Name of the sequence that a picture becomes, or what those of a video begin with.
    path : pathlib.Path
        Picture, video or raw planar file.
    material : pathlib.Path, optional
        Picture that objects are cut from, if not this one. A background from a video has the next one of it.
    every : int, optional
        Frames from one background to the next in a video; None for a picture.
    """

    name: str
    path: Path
    material: Path | None = None
    every: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Background:
    """A picture to be shaken.

    Parameters
    ----------
    name : str
        Name of the sequence.
    source : str
        What it was read from.
    pictures : tuple of ndarray, shape (H, W, 3), uint8 or uint16
        The picture and, if it is another, the one that objects are cut from.
    """

    name: str
    source: str
    pictures: tuple[NDArray[Any], ...]


def find_backgrounds(
    path: Path, name: str, every: int | None = None, *, with_material: bool = True
) -> list[Backgrounds]:
    """List what can be shaken.

    Parameters
    ----------
    path : pathlib.Path
        A picture, a folder of pictures of any sizes, a video or a raw planar file.
    name : str
        What the names of sequences begin with.
    every : int, optional
        Take every K-th picture or frame; by default every picture, and every 30th frame of a video.
    with_material : bool
        Whether objects shall be cut from the picture that follows in a folder.

    Returns
    -------
    list of Backgrounds
        One for each picture, or one for the video.
    """
    if path.is_dir():
        files = list_images(path)[:: every or 1]
        return [
            Backgrounds(name=f"{name}_{file.stem}", path=file, material=following if with_material else None)
            for file, following in pairwise([*files, *files[:1]])
        ]
    if kind_of(path) == "images":
        return [Backgrounds(name=name, path=path)]
    return [Backgrounds(name=name, path=path, every=every or 30)]


def read_backgrounds(backgrounds: Backgrounds) -> Iterator[Background]:
    """Read the pictures to be shaken, two of which are in memory.

    Parameters
    ----------
    backgrounds : Backgrounds
        Where they come from.

    Yields
    ------
    Background
        One for a picture, else as many as the video has.

    Raises
    ------
    MediaError
        If something cannot be read.
    """
    path, every = backgrounds.path, backgrounds.every
    if every is None:
        files = [path, backgrounds.material] if backgrounds.material else [path]
        yield Background(name=backgrounds.name, source=str(path), pictures=tuple(map(_read_rgb, files)))
        return
    frames = islice(rgb_frames(open_frames(path)), 0, None, every)
    first = next(frames)
    for number, pictures in enumerate(pairwise(chain([first], frames, [first]))):
        index = number * every
        yield Background(name=f"{backgrounds.name}_{index:08d}", source=f"{path}, frame {index}", pictures=pictures)


def synthesize_shake(
    background: Background,
    folders: SequenceFolders,
    settings: ShakeSettings,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SynthesisResult:
    """Render one sequence to disk.

    Parameters
    ----------
    background : Background
        What to shake.
    folders : SequenceFolders
        Where to, with :data:`SHAKE_SIDES`.
    settings : ShakeSettings
        How, with the seed of the run: each sequence gets one of its own.
    overwrite : bool
        Whether a sequence that was made from something else gives way.
    progress : callable, optional
        Told about each frame.

    Returns
    -------
    SynthesisResult
        ``"synthesized"`` or ``"skipped"``; failures raise.

    Raises
    ------
    MediaError
        If something cannot be written.
    DatasetError
        If something else is in the place of the sequence.
    """
    begin = time.monotonic()
    keep_freed_memory()
    pictures = background.pictures if settings.objects else background.pictures[:1]
    made_from = {"sha256": _digest(pictures), "shake": asdict(settings)}
    if done := folders.finished_frames(made_from, overwrite=overwrite):
        return folders.result("skipped", num_frames=done)
    scene = ShakeScene(pictures, replace(settings, seed=sequence_seed(settings.seed, folders.name)))
    frames: list[dict[str, Any]] = []
    with folders.writing(made_from, background.source, frames) as (blur, sharp, motion):
        for index in range(settings.length):
            frame = scene.frame(index)
            blur.write(frame.blur)
            sharp.write(frame.sharp)
            np.savez(
                motion.partial / f"{index:08d}.npz",
                backward=frame.backward,
                backward_valid=frame.backward_valid,
                forward=frame.forward,
                forward_valid=frame.forward_valid,
            )
            transforms = [scene.transform(layer, index)[:2].tolist() for layer in range(scene.num_layers)]
            frames.append({"exposure": frame.exposure, "transforms": transforms})
            if progress:
                progress(index + 1, settings.length)
    return folders.result("synthesized", num_frames=settings.length, seconds=time.monotonic() - begin)


def _read_rgb(path: Path) -> NDArray[Any]:
    picture = read_picture(path)
    codes = {2: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    return cv2.cvtColor(picture, codes[2 if picture.ndim == 2 else picture.shape[2]])


def _digest(pictures: tuple[NDArray[Any], ...]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(f"{picture.dtype}{picture.shape}".encode())
        digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()
