"""Many sequences: one by one here, or side by side on a Dask cluster; one that fails does not stop the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fsspec.core import url_to_fs

from codecprior.errors import CodecpriorError, ConfigError, ToolError
from codecprior.extraction.discover import SequenceInput, discover
from codecprior.extraction.sequence import ExtractionSettings, Progress, SequenceResult, extract_sequence
from codecprior.store.location import is_url

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Job", "extract_here", "extract_on_cluster", "plan"]

_logger = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 10
_WORKERS: Final = {
    # Dask's nanny sets a low trim threshold, with which large buffers are faulted in anew at each use.
    "distributed.nanny.pre-spawn-environ": {
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    },
    "distributed.worker.preload": ["codecprior.extraction.worker"],
}


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
    except ToolError as error:  # names the program, but not what it was run on
        reason = f"{job.sequence.path}: {error}"
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

    if scheduler is not None:
        jobs = [_absolute(job) for job in jobs]
    with _client(min(workers, len(jobs)), scheduler) as client:
        jobs_by_future = {client.submit(extract_here, job, settings, pure=False): job for job in jobs}
        for future in as_completed(list(jobs_by_future), loop=client.loop):
            yield _outcome(future, jobs_by_future[future])


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters comes back as a result
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # each transport has its own exceptions
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"{scheduler}: no Dask scheduler there ({reason}); give tcp://HOST:PORT") from error
        with client:
            if not client.scheduler_info()["workers"]:
                _logger.warning("%s has no workers; waiting for the first", scheduler)
            yield client
        return
    with (
        dask.config.set(_WORKERS),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,  # frames and shards lie in shared memory and in tensorstore, which Dask cannot spill
            dashboard_address="127.0.0.1:0",  # without an address, it takes the port of another's dashboard
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _absolute(job: Job) -> Job:
    """Return the job as a process in another working directory must have it."""
    path = job.sequence.path.absolute()
    store = job.store if is_url(job.store) else str(Path(job.store).absolute())
    return Job(replace(job.sequence, path=path), store)


def _outcome(future: Any, job: Job) -> SequenceResult:
    try:
        result: SequenceResult = future.result()
    except (Exception, CancelledError) as error:  # the worker died with it again and again, or the cluster went away
        reason = f"{job.sequence.path}: lost by the cluster ({type(error).__name__}: {error})"
        return SequenceResult(name=job.sequence.name, store=job.store, status="failed", error=reason)
    return result
