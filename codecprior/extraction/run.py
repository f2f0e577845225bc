"""Many sequences: one after the other here, or side by side on a Dask cluster; one that fails does not stop the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from codecprior.errors import CodecpriorError, ConfigError
from codecprior.extraction.discover import SequenceInput, discover
from codecprior.extraction.sequence import ExtractionSettings, Progress, SequenceResult, extract_sequence
from codecprior.store.location import is_url

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Job", "extract_here", "extract_on_cluster", "plan"]

_logger = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 10
_KEEP_FREED_MEMORY: Final = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
"""Dask's nanny sets a low trim threshold, with which large buffers are faulted in anew at each use."""


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
    if single and (output is None or output.endswith(".zarr")):
        return [Job(sequences[0], output or str(root.parent / f"{sequences[0].name}.zarr"))]
    if output is None:
        output = str(root.resolve().parent / f"{root.resolve().name}-priors")
    if output.endswith(".zarr"):
        raise ConfigError(f"{output}: {root} holds {len(sequences)} sequences; give a folder, each gets a store in it")
    return [Job(sequence, f"{output.rstrip('/')}/{sequence.name}.zarr") for sequence in sequences]


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
        if not is_url(job.store):
            Path(job.store).parent.mkdir(parents=True, exist_ok=True)
        return extract_sequence(job.sequence, job.store, settings, progress)
    except CodecpriorError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or job.sequence.path}: {error.strerror or error}"
    except Exception as error:  # a bug in one sequence must not take the others with it
        _logger.exception("%s", job.sequence.name)
        reason = f"{job.sequence.path}: unexpected {type(error).__name__}: {error}; please report it"
    return SequenceResult(name=job.sequence.name, store=job.store, status="failed", error=reason)


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
    from distributed import as_completed

    with _client(workers, scheduler) as client:
        jobs_by_future = {client.submit(extract_here, job, settings, pure=False): job for job in jobs}
        for future in as_completed(list(jobs_by_future)):
            yield _outcome(future, jobs_by_future[future])


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{scheduler}: no Dask scheduler answers there ({error}); give tcp://HOST:PORT") from error
        with client:
            yield client
        return
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": _KEEP_FREED_MEMORY}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,  # frames and shards lie in shared memory and in tensorstore, which Dask cannot spill
            dashboard_address=None,
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _outcome(future: Any, job: Job) -> SequenceResult:
    try:
        result: SequenceResult = future.result()
    except (Exception, CancelledError) as error:  # the worker died with it again and again, or the cluster went away
        reason = f"{job.sequence.path}: lost by the cluster ({type(error).__name__}: {error})"
        return SequenceResult(name=job.sequence.name, store=job.store, status="failed", error=reason)
    return result
