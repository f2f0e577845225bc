"""Options that commands share: how to encode, how much at a time, and what raw files are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from codecprior.media.raw import RawFormat
    from vvc_wrappers.vvenc import VVencOptions

__all__ = [
    "cluster_options",
    "encoder_options",
    "encoder_settings",
    "frame_size",
    "raw_format",
    "raw_options",
    "require_one_cluster",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PREFIXES: Final = {"": 1, "k": 10**3, "M": 10**6}


def _frame_rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise click.BadParameter(f"{text!r}: give frames per second, such as 25, 29.97 or 30000/1001")
    return rate


def _bit_rate(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text)
    rate = round(float(found[1]) * _PREFIXES[found[2]]) if found else 0
    if rate <= 0:
        raise click.BadParameter(f"{text!r}: give bits per second, such as 800k, 2M or 1500000")
    return rate


def frame_size(text: str) -> tuple[int, int]:
    """Parse the value of an option that gives a size."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{text!r}: write it as WIDTHxHEIGHT, such as 1920x1080")
    return int(width), int(height)


def encoder_options(command: _Command) -> _Command:
    """Add the options of the encoder to a command."""
    options = (
        click.option(
            "--qp", metavar="N", type=click.IntRange(0, 63), help="Base quantisation parameter.  [default: 27]"
        ),
        click.option(
            "--bitrate", metavar="RATE", type=_bit_rate, help="Bits per second, such as 800k or 2M, instead of --qp."
        ),
        click.option(
            "--preset",
            type=click.Choice(["faster", "fast", "medium", "slow", "slower"]),
            default="faster",
            show_default=True,
            help="VVenC's speed against compression.",
        ),
        click.option(
            "--gop",
            type=click.Choice(["low-delay", "random-access"]),
            default="low-delay",
            show_default=True,
            help="'low-delay': every frame refers to the one before it and to no other.",
        ),
        click.option(
            "--threads",
            metavar="N",
            type=click.IntRange(1),
            help="Threads of the encoder; more than 4 change the stream.  [default: one per CPU, up to 4]",
        ),
        click.option(
            "--vvenc", "extra", multiple=True, metavar="KEY=VALUE", help="Any other VVenC option; repeatable."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def encoder_settings(options: dict[str, Any], workers: int | None = None) -> VVencOptions:
    """Take the encoder's options out of the command's, as what the library wants.

    Parameters
    ----------
    options : dict
        Values by parameter name; those of the encoder are removed.
    workers : int, optional
        How many encoders will share the processors.

    Returns
    -------
    VVencOptions
        Checked options.
    """
    from vvc_wrappers.vvenc import VVencOptions, default_threads, parse_extra

    threads = options.pop("threads")
    if threads is None:
        threads = max(1, min(default_threads(), len(os.sched_getaffinity(0)) // (workers or 1)))
    return VVencOptions(
        qp=options.pop("qp"),
        bitrate=options.pop("bitrate"),
        preset=options.pop("preset"),
        gop=options.pop("gop"),
        threads=threads,
        extra=parse_extra(options.pop("extra")),
    )


def cluster_options(command: _Command) -> _Command:
    """Add the options that say how much runs at a time to a command."""
    options = (
        click.option(
            "--decoder-threads",
            metavar="N",
            type=click.IntRange(0, 64),
            help="Threads of the decoder.  [default: one per CPU]",
        ),
        click.option(
            "--workers", metavar="N", type=click.IntRange(1), help="Take N sequences at a time, in processes."
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Work on the Dask cluster at this tcp://HOST:PORT; it must see the paths.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def require_one_cluster(options: dict[str, Any]) -> tuple[int | None, str | None]:
    """Take what :func:`cluster_options` says of the cluster out of a command's options.

    Parameters
    ----------
    options : dict
        Values by parameter name; those of the cluster are removed.

    Returns
    -------
    workers : int or None
        Processes to start.
    scheduler : str or None
        Address of an existing cluster.
    """
    workers, scheduler = options.pop("workers"), options.pop("scheduler")
    if workers and scheduler:
        raise click.UsageError("--workers starts a cluster, --scheduler uses an existing one: give one of the two")
    return workers, scheduler


def raw_options(command: _Command) -> _Command:
    """Add the options that describe raw files, and the frame rate, to a command."""
    options = (
        click.option(
            "--size", metavar="WxH", type=frame_size, help="Frame size of .yuv files whose names do not tell."
        ),
        click.option("--bit-depth", metavar="N", type=click.IntRange(8, 16), help="Bits per sample of .yuv files."),
        click.option(
            "--chroma-format",
            metavar="FORMAT",
            type=click.Choice(["4:0:0", "4:2:0", "4:2:2", "4:4:4"]),
            help="Chroma format of .yuv files: 4:0:0, 4:2:0, 4:2:2 or 4:4:4.",
        ),
        click.option(
            "--frame-rate", metavar="RATE", type=_frame_rate, help="Frames per second of inputs that state none."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def raw_format(options: dict[str, Any]) -> tuple[RawFormat | None, Fraction | None]:
    """Take what :func:`raw_options` added out of a command's options.

    Parameters
    ----------
    options : dict
        Values by parameter name; those about raw files and the frame rate are removed.

    Returns
    -------
    raw : RawFormat or None
        What is stated of raw files, None where nothing is.
    frame_rate : fractions.Fraction or None
        Frames per second.
    """
    from codecprior.media.raw import RawFormat

    size, bit_depth = options.pop("size"), options.pop("bit_depth")
    chroma_format, frame_rate = options.pop("chroma_format"), options.pop("frame_rate")
    if size is None and bit_depth is None and chroma_format is None:
        return None, frame_rate
    width, height = size or (None, None)
    raw = RawFormat(width=width, height=height, bit_depth=bit_depth, chroma_format=chroma_format, frame_rate=frame_rate)
    return raw, frame_rate
