"""What a worker process of a cluster on this machine does first; Dask calls it a preload."""

from __future__ import annotations

import signal

__all__ = ["dask_setup"]


def dask_setup(_worker: object) -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes: the one that started the cluster ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
