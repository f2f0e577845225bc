"""Progress on standard error: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Final, TypeVar

import click

__all__ = ["counted", "echo", "next_bar", "progress_bar"]

_LOG_INTERVAL_SECONDS: Final = 10.0
_logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far something is.

    Parameters
    ----------
    title : str
        What is done.
    unit : str
        What is counted, in singular.

    Yields
    ------
    callable
        To be called with the number done and the total, None where it is unknown.
    """
    if not sys.stderr.isatty():
        yield _log_now_and_then(title, unit)
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with (
        logging_redirect_tqdm(),
        tqdm(desc=title, unit=f" {unit}s", leave=False, dynamic_ncols=True, mininterval=0.2) as bar,
    ):

        def show(done: int, total: int | None) -> None:
            if total != bar.total:
                bar.total = total
                bar.refresh()
            bar.update(done - bar.n)

        yield show


def next_bar(bars: ExitStack, title: str) -> Callable[[int, int | None], None]:
    """Show how far the next of several sequences is, instead of the one before.

    Parameters
    ----------
    bars : contextlib.ExitStack
        Holds the bar that is shown, and no others.
    title : str
        The sequence.

    Returns
    -------
    callable
        What :func:`progress_bar` gives, for frames.
    """
    bars.pop_all().close()
    return bars.enter_context(progress_bar(title, "frame"))


def counted(results: Iterable[_Result], total: int, progress: Callable[[int, int | None], None]) -> Iterator[_Result]:
    """Pass results on and count them.

    Parameters
    ----------
    results : iterable
        What is counted.
    total : int
        How many there will be.
    progress : callable
        What :func:`progress_bar` gave.

    Yields
    ------
    result
        Each of them.
    """
    progress(0, total)
    for done, result in enumerate(results, 1):
        progress(done, total)
        yield result


def echo(message: str, *, err: bool = False) -> None:
    """Print a line above the progress bars that are shown.

    Parameters
    ----------
    message : str
        What to print.
    err : bool
        Whether to print to standard error.
    """
    tqdm = sys.modules.get("tqdm")  # without it, there is no bar
    with tqdm.tqdm.external_write_mode() if tqdm else nullcontext():
        click.echo(message, err=err)


def _log_now_and_then(title: str, unit: str) -> Callable[[int, int | None], None]:
    last = time.monotonic()

    def log(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_INTERVAL_SECONDS:
            last = time.monotonic()
            _logger.info("%s: %s %ss", title, done if total is None else f"{done} of {total}", unit)

    return log
