"""A prepared dataset to one whose blurry frames are the outputs of stage 1, for training stage 2.

Each sequence is restored as a whole, as ``codecprior deblur`` does, and packed beside its sharp frames in 8 bit; the
manifest names them, the same priors and the weights, so that a training knows that stage 1 has run. Latents of both can
be packed with them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count, tee
from typing import Any, Literal, TypeVar

import numpy as np
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from codecprior.datasets.manifest import GrowingManifest, Manifest, ManifestEntry, relative_path
from codecprior.datasets.reader import ClipReader, sequence_frames
from codecprior.errors import ConfigError, StoreError, failure_reason
from codecprior.store.location import is_complete, is_url
from codecprior.store.packed import open_packed, pack_frames

from .deblurrer import Deblurrer
from .deblurring import prepared_identity
from .latents import CONDITION_LATENTS, SHARP_MOMENTS, LatentEncoder

__all__ = ["PrecomputeJob", "PrecomputeResult", "plan_precomputation", "precompute"]

_Progress = Callable[[int, int], None]
_Array = TypeVar("_Array")


@dataclass(frozen=True, kw_only=True)
class PrecomputeJob:
    """A sequence and where its frames go.

    Parameters
    ----------
    place : int
        Position in the manifest.
    entry : ManifestEntry
        The sequence.
    target : str
        The packed frames, local path or URL.
    """

    place: int
    entry: ManifestEntry
    target: str


@dataclass(frozen=True, kw_only=True)
class PrecomputeResult:
    """What became of one sequence.

    Parameters
    ----------
    name, split : str
        The sequence.
    frames : str
        Where its packed frames are.
    status : {"precomputed", "skipped", "failed"}
        ``"skipped"``: everything was there already.
    num_frames : int
        Frames.
    seconds : float
        Time it took.
    error : str, optional
        Why it failed, one line.
    """

    name: str
    split: str
    frames: str
    status: Literal["precomputed", "skipped", "failed"]
    num_frames: int = 0
    seconds: float = 0.0
    error: str | None = None


def plan_precomputation(manifest: Manifest, output: str) -> list[PrecomputeJob]:
    """Say what is to be done.

    Parameters
    ----------
    manifest : Manifest
        The prepared dataset.
    output : str
        Folder or URL of the new one.

    Returns
    -------
    list of PrecomputeJob
        One for each sequence, in the order of the manifest.

    Raises
    ------
    ConfigError
        If the output is the dataset itself.
    """
    output = output.rstrip("/")
    if (output if is_url(output) else str(url_to_fs(output)[1])) == manifest.root:
        raise ConfigError(f"{output}: is the dataset itself, whose manifest would be lost; choose another -o")
    return [
        PrecomputeJob(place=place, entry=entry, target=f"{output}/frames/{entry.split}/{entry.sequence}.zarr")
        for place, entry in enumerate(manifest.entries)
    ]


def precompute(
    deblurrer: Deblurrer,
    manifest: Manifest,
    output: str,
    *,
    latents: LatentEncoder | None = None,
    overwrite: bool = False,
    progress: Callable[[PrecomputeJob], _Progress] | None = None,
) -> Iterator[PrecomputeResult]:
    """Restore the sequences of a prepared dataset by stage 1, and keep the new manifest up to date.

    Parameters
    ----------
    deblurrer : Deblurrer
        Stage 1 alone.
    manifest : Manifest
        The prepared dataset.
    output : str
        Folder or URL of the new one. Sequences that its manifest names already and that are not made here stay in it.
    latents : LatentEncoder, optional
        Makes latents of both sides, to be packed with them.
    overwrite : bool
        Whether frames that were made from something else are replaced.
    progress : callable, optional
        Gives for a job what is called with the number of frames done and of all frames.

    Yields
    ------
    PrecomputeResult
        One after the other; one that fails does not stop the others.

    Raises
    ------
    ConfigError
        If the output is the dataset itself.
    DatasetError
        If the new manifest cannot be written.
    """
    reader = ClipReader(manifest, deblurrer.reader_config())
    jobs = plan_precomputation(manifest, output)
    with GrowingManifest(output) as made:
        for job in jobs:
            entry = job.entry
            result = PrecomputeResult(name=entry.sequence, split=entry.split, frames=job.target, status="precomputed")
            begin = time.monotonic()
            try:
                new = _precompute(
                    deblurrer, latents, reader, job, overwrite=overwrite, progress=progress(job) if progress else None
                )
            except Exception as error:  # one sequence must not take the others with it
                reason = failure_reason(error, manifest.resolve(entry.store))
                yield replace(result, status="failed", error=reason)
                continue
            moved = entry.with_paths(lambda path: relative_path(manifest.resolve(path), output))
            restored_by = deblurrer.facts["stage1"]
            frames = relative_path(job.target, output)
            made.put(entry.split, entry.sequence, replace(moved, frames=frames, restored_by=restored_by))
            seconds = round(time.monotonic() - begin, 3)
            yield replace(
                result, status="precomputed" if new else "skipped", num_frames=entry.num_frames, seconds=seconds
            )


def _precompute(
    deblurrer: Deblurrer,
    latents: LatentEncoder | None,
    reader: ClipReader,
    job: PrecomputeJob,
    *,
    overwrite: bool,
    progress: _Progress | None,
) -> bool:
    """Pack the frames of one sequence; return whether they were not there already."""
    manifest, entry = reader.manifest, job.entry
    facts = {"latents": None if latents is None else latents.facts}
    sources = {
        **prepared_identity(manifest, entry, ("blurry", "sharp")),
        "blurry": reader.config.blurry,
        "networks": dict(deblurrer.facts),
        **facts,
    }
    if is_complete(job.target):
        found = open_packed(job.target).attributes.get("sources")
        if found == json.loads(json.dumps(sources)):  # as it was written: lists for tuples
            return False
        if not overwrite:
            raise StoreError(
                f"{job.target}: exists and was made from something else; use --overwrite to replace it, or another -o"
            )
    sides: dict[str, Iterator[NDArray[np.uint8]]] = {"blurry": deblurrer.frames(reader, job.place)}
    if entry.sharp is not None:
        sides["sharp"] = _eight_bit(sequence_frames(manifest, job.place, "sharp"))
    planes: dict[str, Iterator[NDArray[np.float16]]] = {}
    if latents is not None:
        # Shards of all arrays are written in turn: no more frames than those of one wait for their latents.
        sides["blurry"], restored = tee(sides["blurry"])
        planes[CONDITION_LATENTS] = map(latents.condition, restored)
        if "sharp" in sides:
            sides["sharp"], sharp = tee(sides["sharp"])
            planes[SHARP_MOMENTS] = map(latents.sharp, sharp)
    done = count(1)

    def noted(array: _Array) -> _Array:
        if progress is not None:
            progress(next(done) // (len(sides) + len(planes)), entry.num_frames)
        return array

    pack_frames(
        job.target,
        {name: map(noted, frames) for name, frames in sides.items()},
        num_frames=entry.num_frames,
        planes={name: map(noted, each) for name, each in planes.items()},
        facts={"sequence": entry.sequence, "sources": sources, **facts},
        overwrite=overwrite,
    )
    return True


def _eight_bit(frames: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.uint8]]:
    """Round what has more bit: packed frames have 8."""
    for frame in frames:
        yield frame if frame.dtype == np.uint8 else np.rint(frame / 257).astype(np.uint8)
