"""Options that commands share: which data and settings, which trained networks, and how they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from codecprior.model.deblurrer import Deblurrer

__all__ = ["data_option", "load_networks", "network_options", "set_option", "stage1_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_LOADING = ("checkpoint", "stage1", "base", "device")
_CHUNKS = ("chunk_frames", "overlap_frames", "tile_size")
_SAMPLING = ("num_steps", "noise", "seed", "color_fix")


data_option: Final = click.option(
    "--data", metavar="MANIFEST", required=True, help="manifest.jsonl of 'codecprior prepare', or its folder."
)
"""The option of the prepared dataset that a command reads."""

set_option: Final = click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Value in place of the configuration's; as often as needed.",
)
"""The option that changes single values of ``--config``."""

_CHECKPOINT: Final = click.option(
    "--checkpoint", metavar="RUN", required=True, help="Folder that 'codecprior train' wrote, or its weights."
)
_RESTORATION: Final = (
    click.option("--device", metavar="NAME", help="Such as cpu or cuda:1.  [default: the first GPU, or cpu]"),
    click.option(
        "--chunk",
        "chunk_frames",
        metavar="N",
        type=click.IntRange(1),
        help="Frames that are restored at a time.  [default: 16]",
    ),
    click.option(
        "--overlap",
        "overlap_frames",
        metavar="N",
        type=click.IntRange(0),
        help="Frames behind them that backward blocks begin at.  [default: 8]",
    ),
    click.option(
        "--tile",
        "tile_size",
        metavar="N",
        type=click.IntRange(0),
        help="Longest side of tiles in stage 1; 0 for whole frames.  [default: 1280]",
    ),
)


def network_options(command: _Command) -> _Command:
    """Add the options of trained networks to a command."""
    options = (
        _CHECKPOINT,
        click.option("--stage", type=click.Choice(["1", "2"]), help="Last stage that runs.  [default: that of RUN]"),
        click.option("--stage1", metavar="RUN", help="Checkpoint of stage 1, where RUN is one of stage 2."),
        click.option("--base", metavar="PATH", help="Frozen base of stage 2, if not where it was in training."),
        *_RESTORATION,
        click.option(
            "--steps",
            "num_steps",
            metavar="N",
            type=click.IntRange(2, 1000),
            help="Steps of stage 2.  [default: as in training, 50]",
        ),
        click.option(
            "--noise", type=click.Choice(["frame", "clip"]), help="'clip': all frames begin with the same noise."
        ),
        click.option("--seed", metavar="N", type=click.IntRange(0), help="Seed of the noise of stage 2.  [default: 0]"),
        click.option(
            "--color-fix/--no-color-fix", default=None, help="Low frequencies of stage 1 in stage 2.  [default: on]"
        ),
    )
    return _added(command, options)


def stage1_options(command: _Command) -> _Command:
    """Add the options of a trained network of stage 1, which runs alone, to a command."""
    return _added(command, (_CHECKPOINT, *_RESTORATION))


def _added(command: _Command, options: Sequence[Callable[[_Command], _Command]]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def load_networks(options: dict[str, Any]) -> Deblurrer:
    """Take what :func:`network_options` or :func:`stage1_options` added out of a command's options and load it.

    Parameters
    ----------
    options : dict
        Values by parameter name; those of the networks are removed.

    Returns
    -------
    Deblurrer
        On its device.
    """
    from codecprior.model.deblurrer import load_deblurrer
    from codecprior.model.inference import ChunkConfig

    def given(*names: str) -> dict[str, Any]:
        values = {name: options.pop(name, None) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    stage = options.pop("stage", "1")  # without a choice, it is stage 1 that runs
    return load_deblurrer(
        **given(*_LOADING),
        stage=None if stage is None else 1 if stage == "1" else 2,
        chunks=ChunkConfig(**given(*_CHUNKS)),
        sampling=given(*_SAMPLING),
    )
