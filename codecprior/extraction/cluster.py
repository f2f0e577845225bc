"""The same function on many items, side by side on a Dask cluster; an item that is lost does not stop the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from codecprior.errors import ConfigError, ExtractionError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["each_on_cluster"]

_logger = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_CONNECT_SECONDS: Final = 10
_WORKERS: Final = {
    # Dask's nanny sets a low trim threshold, with which large buffers are faulted in anew at each use.
    "distributed.nanny.pre-spawn-environ": {
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    },
    "distributed.worker.preload": ["codecprior.extraction.worker"],
}


def each_on_cluster(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, workers: int = 0, scheduler: str | None = None
) -> Iterator[tuple[_Item, _Result | ExtractionError]]:
    """Apply a function to items on a Dask cluster.

    Parameters
    ----------
    function : callable
        Takes an item; it and the items are pickled.
    items : sequence
        What to work on.
    workers : int
        Number of worker processes, of one thread each, of a cluster on this machine.
    scheduler : str, optional
        Address of an existing cluster, such as ``tcp://host:8786``, instead.

    Yields
    ------
    item : object
        As they finish. One whose worker is killed is run again on another.
    result : object
        What the function returned; an ExtractionError where the cluster lost the item again and again.

    Raises
    ------
    ConfigError
        If the scheduler does not answer.
    """
    from distributed import as_completed

    with _client(min(workers, len(items)), scheduler) as client:
        items_by_future = {client.submit(function, item, pure=False): item for item in items}
        for future in as_completed(list(items_by_future), loop=client.loop):
            try:
                outcome = future.result()
            except (Exception, CancelledError) as error:  # its workers died, or the cluster went away
                outcome = ExtractionError(f"lost by the cluster ({type(error).__name__}: {error})")
            yield items_by_future[future], outcome


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
