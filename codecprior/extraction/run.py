"""Many sequences: one by one here, or side by side on a Dask cluster; one that fails does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fsspec.core import url_to_fs

from codecprior.errors import ConfigError, ExtractionError, failure_reason
from codecprior.extraction.cluster import each_on_cluster
from codecprior.extraction.discover import SequenceInput, discover
from codecprior.extraction.sequence import ExtractionSettings, Progress, SequenceResult, extract_sequence
from codecprior.store.location import is_url

__all__ = ["Job", "extract_here", "extract_on_cluster", "plan"]


@dataclass(frozen=True)
class Job:
    """A sequence and where its store will be.

    Parameters
    ----------
    sequence : SequenceInput
        The input.
    store : str
        Path or URL of the store.
    """

    sequence: SequenceInput
    store: str


def plan(path: str | Path, output: str | None = None) -> list[Job]:
    """Find the sequences at a path and say where their stores will be.

    Parameters
    ----------
    path : path-like
        One file, one folder of frames, or a dataset.
    output : str, optional
        For one sequence the store, ending in ``.zarr``; otherwise a folder or URL, in which each sequence of a dataset
        keeps its name. By default ``clip.zarr`` beside ``clip.mp4``, and ``dataset-priors`` beside ``dataset``.

    Returns
    -------
    list of Job
        In natural order of the names.

    Raises
    ------
    DatasetError
        If there is no sequence.
    ConfigError
        If a dataset shall go into one ``.zarr``.
    """
    root = Path(path)
    sequences = discover(root)
    single = len(sequences) == 1 and sequences[0].path == root
    if output is None:
        beside = _named(root).parent
        output = str(beside / f"{sequences[0].name}.zarr" if single else beside / f"{_named(root).name}-priors")
    output = _location(output)
    if not output.endswith(".zarr"):
        return [Job(sequence, f"{output}/{sequence.name}.zarr") for sequence in sequences]
    if single:
        return [Job(sequences[0], output)]
    raise ConfigError(f"{output}: {root} is a dataset; give a folder, in which each sequence gets a store")


def _named(path: Path) -> Path:
    """Return a path whose last part is a name, as that of ``.`` is not."""
    return path.resolve() if path.name in ("", "..") else path


def _location(output: str) -> str:
    if not output:
        raise ConfigError("output '': give a .zarr, a folder or a URL")
    path = output if is_url(output) or "://" not in output else url_to_fs(output)[1]
    return str(path).rstrip("/")


def extract_here(job: Job, settings: ExtractionSettings, progress: Progress | None = None) -> SequenceResult:
    """Extract one sequence in this process; an error becomes part of the result.

    Parameters
    ----------
    job : Job
        What to extract and where to.
    settings : ExtractionSettings
        How.
    progress : callable, optional
        Told about each frame.

    Returns
    -------
    SequenceResult
        ``"failed"`` with the reason where it failed.
    """
    try:
        return extract_sequence(job.sequence, job.store, settings, progress)
    except Exception as error:  # one sequence must not take the others with it
        return _failed(job, failure_reason(error, job.sequence.path))


def extract_on_cluster(
    jobs: Sequence[Job], settings: ExtractionSettings, *, workers: int = 0, scheduler: str | None = None
) -> Iterator[SequenceResult]:
    """Extract sequences on a Dask cluster.

    Parameters
    ----------
    jobs : sequence of Job
        What to extract and where to. Workers must see the same paths.
    settings : ExtractionSettings
        How.
    workers : int
        Number of worker processes of a cluster on this machine.
    scheduler : str, optional
        Address of an existing cluster, such as ``tcp://host:8786``, instead.

    Yields
    ------
    SequenceResult
        As they finish. A sequence whose worker is killed is run again on another.

    Raises
    ------
    ConfigError
        If the scheduler does not answer.
    """
    if scheduler is not None:
        jobs = [_absolute(job) for job in jobs]
    extract = partial(extract_here, settings=settings)
    for job, outcome in each_on_cluster(extract, jobs, workers=workers, scheduler=scheduler):
        if isinstance(outcome, ExtractionError):
            yield _failed(job, f"{job.sequence.path}: {outcome}")
        else:
            yield outcome


def _failed(job: Job, reason: str) -> SequenceResult:
    return SequenceResult(name=job.sequence.name, store=job.store, status="failed", error=reason)


def _absolute(job: Job) -> Job:
    """Return the job as a process in another working directory must have it."""
    path = job.sequence.path.absolute()
    store = job.store if is_url(job.store) else str(Path(job.store).absolute())
    return Job(replace(job.sequence, path=path), store)
