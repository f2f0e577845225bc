"""``codecprior precompute``: outputs of stage 1, and latents, once for all steps of a training of stage 2."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from .networks import data_option, load_networks, set_option, stage1_options
from .output import count, report
from .progress import echo, next_bar

if TYPE_CHECKING:
    from codecprior.model.deblurrer import Deblurrer
    from codecprior.model.latents import LatentEncoder
    from codecprior.model.precompute import PrecomputeJob, PrecomputeResult

__all__ = ["precompute"]


@click.command(short_help="Run stage 1 once, for training stage 2.")
@data_option
@click.option("-o", "--output", metavar="OUT", required=True, help="Folder or URL of the new dataset.")
@click.option("--split", metavar="NAME", help="Only this split.")
@stage1_options
@click.option("--latents", is_flag=True, help="Latents of both sides, too, which the VAE of --config makes.")
@click.option("--config", "preset", metavar="PRESET|FILE", help="Configuration of that training.  [default: cpc]")
@set_option
@click.option("--overwrite", is_flag=True, help="Replace frames that were made from something else.")
@click.option("--dry-run", is_flag=True, help="Print what would be made, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def precompute(
    ctx: click.Context,
    /,
    data: str,
    output: str,
    *,
    split: str | None,
    latents: bool,
    preset: str | None,
    assignments: tuple[str, ...],
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Restore a prepared dataset by stage 1, so that trainings of stage 2 need not run it in each step.

    OUT/frames gets what stage 1 makes of every sequence, beside its sharp frames, OUT/manifest.jsonl names both and the
    priors, which stay where they are. What is finished is skipped, and a sequence that fails does not stop the others.
    Latents are of whole pictures; a training that reads them (data.latents) neither flips nor transposes.

    \b
    codecprior precompute --checkpoint runs/cpfp --data gopro -o gopro-stage1
    codecprior train --config cpc --data gopro-stage1 -o runs/cpc \\
      --set stage1.checkpoint=runs/cpfp --set data.num_frames=2 ...
    codecprior precompute --checkpoint runs/cpfp --data gopro -o gopro-latents \\
      --latents --config cpc --set cpc.base_path=sd21
    """
    from codecprior.datasets.manifest import read_manifest
    from codecprior.errors import ConfigError
    from codecprior.model.precompute import plan_precomputation
    from codecprior.model.precompute import precompute as run

    if not latents and (preset is not None or assignments):
        raise ConfigError("--config and --set say whose latents to make; give --latents, too, or leave them out")
    manifest = read_manifest(data)
    if split is not None:
        manifest = manifest.of_split(split, "--split")
    if dry_run:
        _print_plan(plan_precomputation(manifest, output), as_json=as_json)
        return
    deblurrer = load_networks(options)
    encoder = _encoder(preset or "cpc", assignments, deblurrer) if latents else None
    with ExitStack() as bars:
        results = run(
            deblurrer,
            manifest,
            output,
            latents=encoder,
            overwrite=overwrite,
            progress=lambda job: next_bar(bars, f"{job.entry.split}/{job.entry.sequence}"),
        )
        ctx.exit(report(results, _print, as_json=as_json))


def _encoder(preset: str, assignments: tuple[str, ...], deblurrer: Deblurrer) -> LatentEncoder:
    from codecprior.errors import ConfigError
    from codecprior.model.latents import LatentEncoder
    from codecprior.model.training_config import Phase2Config, training_config

    config = training_config(preset, assignments)
    if not isinstance(config, Phase2Config):
        raise ConfigError(f"--config {preset}: is for stage 1, which has no latents; give one of stage 2 (cpc)")
    from codecprior.model.stable_diffusion import load_stable_diffusion  # diffusers takes seconds to import

    return LatentEncoder(load_stable_diffusion(config.cpc), config.sampling.tile_size, deblurrer.device)


def _print_plan(jobs: list[PrecomputeJob], *, as_json: bool) -> None:
    planned = [{"sequence": job.entry.sequence, "split": job.entry.split, "frames": job.target} for job in jobs]
    if as_json:
        click.echo(json.dumps(planned, indent=2))
        return
    for each in planned:
        click.echo(f"{each['split']}/{each['sequence']} -> {each['frames']}")


def _print(result: PrecomputeResult) -> None:
    frames = count(result.num_frames, "frame")
    if result.status == "skipped":
        echo(f"{result.split}/{result.name}: finished before, {frames}")
        return
    rate = result.num_frames / max(result.seconds, 1e-9)
    echo(f"{result.split}/{result.name}: {frames}, {result.seconds:.1f} s ({rate:.2f} frames/s)")
