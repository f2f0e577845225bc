"""The ``codecprior`` command: finds the verbs, attaches logging, turns errors into one line and an exit status."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Final

import click

from codecprior import __version__
from codecprior.errors import CodecpriorError

__all__ = ["main"]

_COMMANDS: Final = {
    "extract": "extract:extract",
    "encode": "encode:encode",
    "inspect": "inspect:inspect",
    "verify": "verify:verify",
    "render": "render:render",
    "export": "export:export",
    "import": "export:import_",
    "dataset": "dataset:dataset",
    "prepare": "prepare:prepare",
    "degrade": "degrade:degrade",
    "synthesize-blur": "synthesize_blur:synthesize_blur",
    "train": "train:train",
    "precompute": "precompute:precompute",
    "deblur": "deblur:deblur",
    "evaluate": "evaluate:evaluate",
    "ablate": "ablate:ablate",
    "compare": "compare:compare",
    "doctor": "doctor:doctor",
}

_MODEL_EXTRA: Final = (
    "accelerate",
    "diffusers",
    "lpips",
    "safetensors",
    "tensorboard",
    "torch",
    "torchvision",
    "transformers",
)

_LOG_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)


class _Commands(click.Group):
    """Imports a verb's module only when the verb is used or listed; none of them imports numpy at its top."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f".{module}", __package__), attribute)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CodecpriorError as error:
            reason = str(error)
        except BrokenPipeError:  # whoever reads our output has seen enough; click ends quietly
            raise
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _MODEL_EXTRA:
                raise
            reason = f"{error.name} is not installed, which networks need: pip install 'codecprior[model]'"
        except KeyboardInterrupt as interrupt:
            again = str(interrupt) or "run the same command again to continue"
            click.echo(f"\nInterrupted. Finished work is kept; {again}.", err=True)
            ctx.exit(130)
        logging.getLogger(__name__).debug("traceback", exc_info=True)
        click.echo(f"Error: {reason}", err=True)
        ctx.exit(1)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Run 'codecprior COMMAND --help' for options and examples.",
)
@click.version_option(__version__, "-V", "--version", prog_name="codecprior")
@click.option("-v", "--verbose", count=True, help="Log what is done; -vv also every external command.")
def main(verbose: int) -> None:
    """Exact coding priors of video as arrays.

    Motion vectors, reference pictures, block modes, QP and residual samples that the VVC decoder really used, in one
    Zarr store per sequence, aligned with the frames.

    \b
    codecprior extract clip.mp4             -> clip.zarr and clip.266
    codecprior inspect clip.zarr
    codecprior render clip.zarr --frame 10 -o overview.png
    """
    logging.basicConfig(
        level=_LOG_LEVELS[min(verbose, len(_LOG_LEVELS) - 1)], format="%(levelname)s: %(message)s", stream=sys.stderr
    )
