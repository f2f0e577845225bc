"""Options that commands share: what is measured, how, and on which sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from codecprior.model.metrics import MetricsConfig

__all__ = ["metric_options", "metrics_config"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_NAMES = ("niqe_model_path", "lpips_backbone", "lpips_backbone_path", "musiq_weights_path", "warp_motion")


def metric_options(default: str) -> Callable[[_Command], _Command]:
    """Add the options of measuring to a command.

    Parameters
    ----------
    default : str
        Metrics if none are named, as the help says it.

    Returns
    -------
    callable
        Decorator.
    """
    options = (
        click.option("--split", default="test", show_default=True, help="Split of the manifest to measure."),
        click.option("--protocol", default="plain", show_default=True, help="plain, cdvd-tsp, rvrt, rvrt-y, bsstnet."),
        click.option("--metrics", metavar="NAMES", help=f"Such as psnr,ssim.  [default: {default}]"),
        click.option("--niqe-model-path", metavar="FILE", help="niqe_pris_params.npz, which NIQE needs."),
        click.option(
            "--lpips-backbone", type=click.Choice(["alex", "vgg", "squeeze"]), help="Of LPIPS.  [default: alex]"
        ),
        click.option("--lpips-backbone-path", metavar="FILE", help="Its weights as torchvision has them."),
        click.option("--musiq-weights-path", metavar="FILE", help="Weights of MUSIQ as pyiqa has them."),
        click.option(
            "--warp-motion",
            type=click.Choice(["dis", "mv"]),
            help="Motion of the warp error: flow or vectors.  [default: dis]",
        ),
    )

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def metrics_config(options: dict[str, Any], default: str | None = None) -> MetricsConfig:
    """Take what :func:`metric_options` added, but split and protocol, out of a command's options.

    Parameters
    ----------
    options : dict
        Values by parameter name; those of the metrics are removed.
    default : str, optional
        Metrics if none are named; all if not given.

    Returns
    -------
    MetricsConfig
        Which metrics, with their files.

    Raises
    ------
    ConfigError
        If a metric is unknown.
    """
    from codecprior.model.metrics import MetricsConfig

    given = {name: value for name in _NAMES if (value := options.pop(name)) is not None}
    if (metrics := options.pop("metrics") or default) is not None:
        given["metrics"] = metrics.split(",")
    return MetricsConfig.from_dict(given)
