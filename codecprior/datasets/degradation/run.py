"""Degraded sequences on disk: a folder of frames for each, with ``degradation.json``, which says how they were made."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np

from codecprior import __version__
from codecprior.datasets.degradation.clip import ClipParameters, degrade_frames, draw
from codecprior.datasets.degradation.recipe import Recipe
from codecprior.errors import DatasetError, failure_reason
from codecprior.media.images import list_images
from codecprior.media.opening import open_frames
from codecprior.media.picture_files import PictureWriter
from codecprior.media.raw import RawFormat
from codecprior.media.rgb import rgb_frames
from codecprior.media.source import FrameSource

__all__ = [
    "RECORD_NAME",
    "DegradationJob",
    "DegradationResult",
    "DegradationSettings",
    "check_outputs",
    "clip_parameters",
    "degrade_here",
    "degrade_sequence",
]

RECORD_NAME: Final = "degradation.json"
"""File beside the frames with the recipe, the seed, the drawn parameters and the digest of the source."""

_IDENTITY: Final = ("source", "recipe", "seed", "name", "extension", "size", "operations")
"""What must be the same for frames to be the same."""

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done and the total, None where it is unknown."""


@dataclass(frozen=True, kw_only=True)
class DegradationJob:
    """A sequence and where its degraded frames will be.

    Parameters
    ----------
    name : str
        Name of the sequence, which its parameters and its noise depend on.
    path : pathlib.Path
        Folder of pictures, video or raw planar file.
    output : pathlib.Path
        Folder to write.
    """

    name: str
    path: Path
    output: Path


@dataclass(frozen=True, kw_only=True)
class DegradationSettings:
    """How to degrade.

    Parameters
    ----------
    recipe : Recipe
        What to draw the parameters of each clip from.
    seed : int
        Seed, 0 or more.
    extension : {"png", "jpg"}
        Format of the frames.
    overwrite : bool
        Whether to replace folders that hold something else.
    raw : RawFormat, optional
        Layout of ``.yuv`` files whose names do not tell.
    frame_rate : fractions.Fraction, optional
        Frames per second of inputs that state none, for the record.
    threads : int
        Frames of a sequence that are worked on side by side.
    command : tuple of str
        The command line that the record names, that of this process by default.
    """

    recipe: Recipe
    seed: int = 0
    extension: str = "png"
    overwrite: bool = False
    raw: RawFormat | None = None
    frame_rate: Fraction | None = None
    threads: int = 1
    command: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))


@dataclass(frozen=True, kw_only=True)
class DegradationResult:
    """What became of one sequence.

    Parameters
    ----------
    name : str
        Name of the sequence.
    output : str
        Folder of the frames.
    status : {"degraded", "skipped", "failed"}
        ``"skipped"``: the same frames were there already.
    num_frames : int
        Frames in the folder.
    seconds : float
        Time it took.
    error : str, optional
        Why it failed, one line.
    """

    name: str
    output: str
    status: Literal["degraded", "skipped", "failed"]
    num_frames: int = 0
    seconds: float = 0.0
    error: str | None = None


def check_outputs(jobs: Sequence[DegradationJob], root: Path) -> None:
    """Refuse to write where inputs are, or one output into another.

    Parameters
    ----------
    jobs : sequence of DegradationJob
        What is to be done.
    root : pathlib.Path
        Where the inputs were found.

    Raises
    ------
    DatasetError
        If an output lies in the root or in an input, or around one, or in another output.
    """
    inputs = {path.resolve() for path in (root, *(job.path for job in jobs))}
    outputs = {job.output.resolve(): job for job in jobs}
    for output, job in outputs.items():
        for path in inputs & {output, *output.parents}:
            raise DatasetError(f"{job.output}: lies in the input {path}; choose an output elsewhere")
        for path in (path for path in inputs if output in path.parents):
            raise DatasetError(f"{job.output}: holds the input {path}; choose an output elsewhere")
        for other in outputs.keys() & set(output.parents):
            raise DatasetError(
                f"{job.path} lies in {outputs[other].path}, and so would their outputs; degrade them one by one"
            )


def clip_parameters(job: DegradationJob, settings: DegradationSettings) -> ClipParameters:
    """Draw the parameters of a sequence without reading its frames.

    Parameters
    ----------
    job : DegradationJob
        The sequence.
    settings : DegradationSettings
        Recipe and seed.

    Returns
    -------
    ClipParameters
        Its parameters.

    Raises
    ------
    CodecpriorError
        If the sequence cannot be opened or the seed is negative.
    """
    return _draw(open_frames(job.path, raw=settings.raw, frame_rate=settings.frame_rate), job, settings)


def degrade_sequence(
    job: DegradationJob, settings: DegradationSettings, progress: Progress | None = None
) -> DegradationResult:
    """Degrade one sequence into a folder that appears when it is whole.

    Frames keep the names of their source, or are called ``00000000.png`` and so on. A folder that holds the same frames
    already is left as it is.

    Parameters
    ----------
    job : DegradationJob
        What to degrade and where to.
    settings : DegradationSettings
        How.
    progress : callable, optional
        Told about each frame.

    Returns
    -------
    DegradationResult
        ``"degraded"`` or ``"skipped"``; failures raise.

    Raises
    ------
    CodecpriorError
        If the sequence cannot be read or the folder not be written, or if it holds something else.
    """
    started = time.perf_counter()
    check_outputs([job], job.path)
    source = open_frames(job.path, raw=settings.raw, frame_rate=settings.frame_rate)
    parameters = _draw(source, job, settings)
    record = _record(source, parameters, settings)
    if not settings.overwrite and (found := _finished(job.output, record)) is not None:
        return DegradationResult(name=job.name, output=str(job.output), status="skipped", num_frames=found)
    with PictureWriter(
        job.output, settings.extension, threads=settings.threads, overwrite=settings.overwrite
    ) as writer:
        done = 0
        degraded = degrade_frames(rgb_frames(source), parameters, threads=settings.threads)
        for frame, name in zip(degraded, source.names or repeat(None), strict=False):
            writer.write(frame, name)
            done += 1
            if progress:
                progress(done, source.info.num_frames)
        text = json.dumps({**record, "num_frames": done}, indent=2)
        (writer.partial / RECORD_NAME).write_text(text + "\n", encoding="utf-8")
    seconds = time.perf_counter() - started
    return DegradationResult(name=job.name, output=str(job.output), status="degraded", num_frames=done, seconds=seconds)


def degrade_here(
    job: DegradationJob, settings: DegradationSettings, progress: Progress | None = None
) -> DegradationResult:
    """Degrade one sequence in this process; an error becomes part of the result.

    Parameters
    ----------
    job : DegradationJob
        What to degrade and where to.
    settings : DegradationSettings
        How.
    progress : callable, optional
        Told about each frame.

    Returns
    -------
    DegradationResult
        ``"failed"`` with the reason where it failed.
    """
    try:
        return degrade_sequence(job, settings, progress)
    except Exception as error:  # one sequence must not take the others with it
        return DegradationResult(
            name=job.name, output=str(job.output), status="failed", error=failure_reason(error, job.path)
        )


def _draw(source: FrameSource, job: DegradationJob, settings: DegradationSettings) -> ClipParameters:
    return draw(settings.recipe, settings.seed, job.name, (source.info.width, source.info.height))


def _record(source: FrameSource, parameters: ClipParameters, settings: DegradationSettings) -> dict[str, Any]:
    info = source.info
    return {
        "recipe": {"name": settings.recipe.name, **settings.recipe.document},
        **parameters.to_dict(),
        "source": {
            "kind": info.kind,
            "sha256": source.digest(),
            "bit_depth": info.bit_depth,
            "chroma_format": info.chroma_format,
        },
        "extension": settings.extension,
        "path": str(info.path),
        "frame_rate": str(info.frame_rate),
        "versions": {"codecprior": __version__, "numpy": np.__version__, "opencv": cv2.__version__},
        "command": list(settings.command),
    }


def _finished(output: Path, record: dict[str, Any]) -> int | None:
    """Return the number of frames of a folder that holds those of a record, None where there is nothing yet."""
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return None
    try:
        found = json.loads((output / RECORD_NAME).read_text(encoding="utf-8"))
        differing = next((key for key in _IDENTITY if found[key] != record[key]), None)
        num_frames = int(found["num_frames"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DatasetError(
            f"{output}: exists and was not made here; use --overwrite to replace it, or another -o"
        ) from None
    if differing:
        raise DatasetError(f"{output}: holds frames made with another {differing}; use --overwrite or another -o")
    if (there := len(list_images(output))) != num_frames:
        raise DatasetError(f"{output}: holds {there} of {num_frames} frames; use --overwrite to make them again")
    return num_frames
