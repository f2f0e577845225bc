"""A dataset in any known layout to priors stores of its degraded side and a manifest that a training reads."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fsspec.core import url_to_fs

from codecprior.datasets.degradation.recipe import Recipe
from codecprior.datasets.degradation.run import DegradationJob, DegradationSettings, degrade_sequence
from codecprior.datasets.layouts import Dataset
from codecprior.datasets.manifest import GrowingManifest, ManifestEntry, relative_path
from codecprior.datasets.pairing import FrameFiles, SequencePair
from codecprior.errors import ConfigError, DatasetError, ExtractionError, MediaError, failure_reason
from codecprior.extraction.cluster import each_on_cluster
from codecprior.extraction.discover import SequenceInput
from codecprior.extraction.sequence import ExtractionSettings, Progress, extract_sequence
from codecprior.media.folders import folder_written_whole
from codecprior.media.images import list_images
from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames
from codecprior.store.location import is_complete, is_url
from codecprior.store.packed import open_packed, pack_frames
from codecprior.store.reader import open_store

__all__ = ["FramesPolicy", "PrepareJob", "PrepareResult", "PrepareSettings", "plan_preparation", "prepare"]

FramesPolicy = Literal["reference", "copy", "pack"]
"""Where a training finds frames: where they are, copied beside the stores, or as packed arrays beside them."""


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """How to prepare.

    Parameters
    ----------
    extraction : ExtractionSettings
        How to extract. Some frames are always compared with what they were decoded to.
    frames : {"reference", "copy", "pack"}
        What to do with the frames.
    recipe : Recipe, optional
        How to degrade sequences that have no degraded side.
    seed : int
        Seed of that.
    """

    extraction: ExtractionSettings
    frames: FramesPolicy = "reference"
    recipe: Recipe | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PrepareJob:
    """A sequence and where it goes.

    Parameters
    ----------
    pair : SequencePair
        The sequence.
    output : str
        Folder or URL of the prepared dataset.
    previous : ManifestEntry, optional
        What an earlier run wrote about it.
    """

    pair: SequencePair
    output: str
    previous: ManifestEntry | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Split and name."""
        return self.pair.split, self.pair.name

    @property
    def path(self) -> Path:
        """What it is made from."""
        return self.pair.sides[0].path

    def place(self, kind: str, suffix: str = "") -> str:
        """Where what is made of the sequence lies."""
        return f"{self.output}/{kind}/{self.pair.split}/{self.pair.name}{suffix}"


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What became of one sequence.

    Parameters
    ----------
    name, split : str
        The sequence.
    status : {"prepared", "skipped", "failed"}
        ``"skipped"``: everything was there already.
    entry : ManifestEntry, optional
        Its line of the manifest, where it has one.
    num_frames : int
        Frames.
    stored_bytes : int
        Size of the store.
    seconds : float
        Time it took.
    error : str, optional
        Why it failed, one line.
    cause : str, optional
        Kind of failure: the name of the error, or of the dataset's problem.
    """

    name: str
    split: str
    status: Literal["prepared", "skipped", "failed"]
    entry: ManifestEntry | None = None
    num_frames: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    error: str | None = None
    cause: str | None = None


def plan_preparation(dataset: Dataset, output: str, settings: PrepareSettings) -> list[PrepareJob]:
    """Say what is to be done.

    Parameters
    ----------
    dataset : Dataset
        The sequences.
    output : str
        Folder or URL of the prepared dataset.
    settings : PrepareSettings
        How.

    Returns
    -------
    list of PrepareJob
        One for each sequence, in the order of the dataset.

    Raises
    ------
    ConfigError
        If sequences have no degraded side and cannot get one.
    DatasetError
        If the output lies in the dataset's own folders of frames, or its manifest is damaged.
    """
    output = output.rstrip("/")
    to_degrade = [pair for pair in dataset.pairs if pair.blurry is None]
    if to_degrade and settings.recipe is None:
        raise ConfigError(f"{to_degrade[0].name}: has no degraded side; say how to make one with --recipe")
    if to_degrade and is_url(output):
        raise ConfigError(f"{output}: degraded frames are written to a local folder; give one, and upload it")
    if not is_url(output):
        resolved = Path(output).resolve()
        for pair in dataset.pairs:
            for side in pair.sides:
                if side.path.resolve() in (resolved, *resolved.parents):
                    raise DatasetError(f"{output}: lies in {side.path}, a sequence of the dataset; choose another -o")
    previous = GrowingManifest(output).entries
    return [
        PrepareJob(pair=pair, output=output, previous=previous.get((pair.split, pair.name))) for pair in dataset.pairs
    ]


def prepare(
    jobs: Sequence[PrepareJob],
    settings: PrepareSettings,
    *,
    workers: int = 0,
    scheduler: str | None = None,
    progress: Callable[[PrepareJob], Progress] | None = None,
) -> Iterator[PrepareResult]:
    """Prepare sequences, here or on a Dask cluster, and keep the manifest up to date.

    Sequences that the manifest names already and that are not among the jobs stay in it.

    Parameters
    ----------
    jobs : sequence of PrepareJob
        From :func:`plan_preparation`.
    settings : PrepareSettings
        How.
    workers : int
        Worker processes on this machine; 0 prepares in this process.
    scheduler : str, optional
        Address of a cluster to use instead; its workers must see the same paths.
    progress : callable, optional
        Gives for a job what is told about each frame; not used on a cluster.

    Yields
    ------
    PrepareResult
        As they finish; one that fails does not stop the others.

    Raises
    ------
    ConfigError
        If the scheduler does not answer.
    DatasetError
        If the manifest cannot be written.
    """
    if not jobs:
        return
    with GrowingManifest(jobs[0].output) as manifest:
        for result in _run(jobs, settings, workers, scheduler, progress):
            manifest.put(result.split, result.name, result.entry)
            yield result


def _run(
    jobs: Sequence[PrepareJob],
    settings: PrepareSettings,
    workers: int,
    scheduler: str | None,
    progress: Callable[[PrepareJob], Progress] | None,
) -> Iterator[PrepareResult]:
    if not (workers or scheduler):
        for job in jobs:
            yield _prepare_here(job, settings, progress(job) if progress else None)
        return
    if scheduler is not None:
        jobs = [_absolute(job) for job in jobs]
    for job, outcome in each_on_cluster(
        partial(_prepare_here, settings=settings), jobs, workers=workers, scheduler=scheduler
    ):
        yield _failed(job, outcome, f"{job.path}: {outcome}") if isinstance(outcome, ExtractionError) else outcome


def _prepare_here(job: PrepareJob, settings: PrepareSettings, progress: Progress | None = None) -> PrepareResult:
    try:
        return _prepare(job, settings, progress)
    except Exception as error:  # one sequence must not take the others with it
        return _failed(job, error, failure_reason(error, job.path))


def _failed(job: PrepareJob, error: Exception, reason: str) -> PrepareResult:
    split, name = job.key
    return PrepareResult(name=name, split=split, status="failed", error=reason, cause=type(error).__name__)


def _prepare(job: PrepareJob, settings: PrepareSettings, progress: Progress | None) -> PrepareResult:
    started = time.monotonic()
    pair = job.pair if job.pair.blurry else replace(job.pair, blurry=_degraded(job, settings))
    blurry = pair.blurry
    if blurry is None:
        raise DatasetError(f"{pair.name}: has no frames")
    name = f"{pair.split}/{pair.name}"
    extracted = extract_sequence(
        SequenceInput(name=name, path=blurry.path, kind=blurry.kind),
        job.place("priors", ".zarr"),
        replace(settings.extraction, raw=blurry.raw, check_frames=True),
        progress,
    )
    checks = _checked(pair, extracted.store)
    packed = _packed(job, pair, extracted.store) if settings.frames == "pack" else None
    if settings.frames == "copy":
        sides = {side: _copied(job, side, files) for side, files in _sides(pair)}
    else:
        sides = {side: _referenced(job, files) for side, files in _sides(pair)}
    entry = ManifestEntry(
        sequence=pair.name,
        split=pair.split,
        num_frames=extracted.num_frames,
        blurry=sides["blurry"],
        sharp=sides.get("sharp"),
        store=relative_path(extracted.store, job.output),
        checks=checks,
        frames=None if packed is None else relative_path(packed, job.output),
        raw=_layout(pair),
    )
    return PrepareResult(
        name=pair.name,
        split=pair.split,
        status="skipped" if extracted.status == "skipped" and entry == job.previous else "prepared",
        entry=entry,
        num_frames=extracted.num_frames,
        stored_bytes=extracted.stored_bytes,
        seconds=round(time.monotonic() - started, 3),
    )


def _checked(pair: SequencePair, store: str) -> dict[str, Any]:
    """Compare a store with both sides of its pair, and return what is known to agree."""
    priors = open_store(store)
    for side in pair.sides:
        if (len(priors), priors.size) != (side.num_frames, side.size):
            raise DatasetError(
                f"{side.path}: has {side.num_frames} frames of {_by(side.size)}, {store} {len(priors)} of "
                f"{_by(priors.size)}; prepare again with --overwrite"
            )
    names = priors.attributes["source"].get("frame_names") or ()
    if pair.blurry and pair.blurry.files and list(names) != [file.name for file in pair.blurry.files]:
        raise DatasetError(f"{pair.blurry.path}: {store} was made from files of other names; use --overwrite")
    if "checks" not in priors.attributes:
        raise DatasetError(f"{store}: was not made by 'prepare', which compares it with the frames; use --overwrite")
    facts = {"num_frames": len(priors), "size": list(priors.size), "frame_names": bool(names)}
    return {**facts, **priors.attributes["checks"]}


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _degraded(job: PrepareJob, settings: PrepareSettings) -> FrameFiles:
    """Make the degraded side; what an earlier run made in the same way is used again."""
    sharp = job.pair.sharp
    if sharp is None or settings.recipe is None:
        raise ConfigError(f"{job.pair.name}: has no degraded side; say how to make one with --recipe")
    folder = Path(job.place("degraded"))
    degrade_sequence(
        DegradationJob(name=job.pair.name, path=sharp.path, output=folder),
        DegradationSettings(
            recipe=settings.recipe,
            seed=settings.seed,
            raw=sharp.raw,
            overwrite=settings.extraction.overwrite,
            command=settings.extraction.command,
        ),
    )
    files = tuple(list_images(folder))
    return FrameFiles(path=folder, kind="images", num_frames=len(files), size=sharp.size, files=files)


def _sides(pair: SequencePair) -> Iterator[tuple[str, FrameFiles]]:
    for side, files in (("blurry", pair.blurry), ("sharp", pair.sharp)):
        if files is not None:
            yield side, files


def _referenced(job: PrepareJob, side: FrameFiles) -> tuple[str, ...] | str:
    if side.kind == "raw":
        return relative_path(side.path, job.output)
    return tuple(relative_path(file, job.output) for file in side.files)


def _copied(job: PrepareJob, name: str, side: FrameFiles) -> tuple[str, ...] | str:
    """Copy files that are not there already, as their names, sizes and times tell; a URL keeps no times."""
    folder = f"{job.place('frames')}/{name}"
    files = side.files or (side.path,)
    fs, remote = url_to_fs(folder)
    if is_url(folder):
        try:
            present = {info["name"]: info["size"] for info in fs.ls(remote, detail=True)} if fs.exists(remote) else {}
            new = [file for file in files if present.get(f"{remote}/{file.name}") != file.stat().st_size]
            if new:
                fs.put([str(file) for file in new], [f"{remote}/{file.name}" for file in new])
        except Exception as error:  # each fsspec backend has its own exceptions
            raise MediaError(
                f"{folder}: frames cannot be copied there ({error}); run the same command again"
            ) from error
    elif _listing(Path(folder).glob("*")) != _listing(files):
        with folder_written_whole(Path(folder), overwrite=True) as partial_folder:
            for file in files:
                shutil.copy2(file, partial_folder / file.name)
    copies = tuple(relative_path(f"{folder}/{file.name}", job.output) for file in files)
    return copies if side.files else copies[0]


def _listing(files: Iterable[Path]) -> set[tuple[str, int, int]]:
    facts = ((file.name, file.stat()) for file in files)
    return {(name, stat.st_size, stat.st_mtime_ns) for name, stat in facts}


def _packed(job: PrepareJob, pair: SequencePair, store: str) -> str:
    """Pack frames unless they are packed already; the store has the digest of the degraded side."""
    target = job.place("frames", ".zarr")
    sources = {"blurry": open_store(store).attributes["source"]["sha256"]}
    if pair.sharp is not None:
        sources["sharp"] = open_frames(pair.sharp.path, raw=pair.sharp.raw).digest()
    if not is_complete(target) or open_packed(target).attributes.get("sources") != sources:
        frames = {side: _eight_bit(files) for side, files in _sides(pair)}
        facts = {"sequence": pair.name, "sources": sources}
        pack_frames(target, frames, num_frames=pair.num_frames, facts=facts, overwrite=True)
    return target


def _eight_bit(side: FrameFiles) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    frames = rgb_frames(open_frames(side.path, raw=side.raw))
    first = next(frames)
    if first.dtype != np.uint8:
        raise ConfigError(f"{side.path}: has more than 8 bit, packed frames have 8; use --frames reference")
    return chain([first], frames)


def _layout(pair: SequencePair) -> dict[str, Any] | None:
    """Layout of the raw files of a pair as JSON values; both sides of one have the same."""
    raw = next((side.raw for side in pair.sides if side.raw), None)
    if raw is None:
        return None
    values = {name: value for name, value in vars(raw).items() if value is not None}
    return {name: value if isinstance(value, int) else str(value) for name, value in values.items()}


def _absolute(job: PrepareJob) -> PrepareJob:
    """Return the job as a process in another working directory must have it."""
    pair = replace(job.pair, blurry=_absolute_side(job.pair.blurry), sharp=_absolute_side(job.pair.sharp))
    output = job.output if is_url(job.output) else str(Path(job.output).absolute())
    return replace(job, pair=pair, output=output)


def _absolute_side(side: FrameFiles | None) -> FrameFiles | None:
    if side is None:
        return None
    return replace(side, path=side.path.absolute(), files=tuple(file.absolute() for file in side.files))
