"""Work on a stream of items in threads, a few items ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_ahead"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int = 1, ahead: int = 2
) -> Iterator[_Result]:
    """Apply a function to each item in threads.

    Parameters
    ----------
    function : callable
        Called with each item in one of the threads.
    items : iterable
        Taken one at a time, in the consumer's thread.
    threads : int
        Number of threads.
    ahead : int
        Results that may be finished, or in the making, before the consumer asks for them.

    Yields
    ------
    result
        In the order of the items.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="codecprior-ahead") as pool:
        pending: deque[Future[_Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
