"""``codecprior encode``: the encoder alone, with the settings that extraction uses."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from codecprior.cli.encoding import encoder_options, encoder_settings, raw_format, raw_options
from codecprior.cli.output import count, size
from codecprior.cli.progress import progress_bar

__all__ = ["encode"]


@click.command(short_help="Encode INPUT to a VVC stream, as 'extract' does.")
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), help="[default: INPUT with .266]")
@encoder_options
@raw_options
@click.option("--reverse", is_flag=True, help="Encode the frames in reversed order.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--dry-run", is_flag=True, help="Print what would be encoded to where, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def encode(
    *, source: Path, output: Path | None, reverse: bool, overwrite: bool, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Encode INPUT (a video, a folder of frames, .yuv or .y4m) to a VVC stream, as 'extract' does.

    \b
    codecprior encode clip.mp4 -o clip.266 --qp 22
    codecprior encode frames/ --gop random-access --vvenc intraperiod=32
    """
    from codecprior.errors import ConfigError
    from codecprior.extraction.vvc import encode_file

    if output is None:
        named = source.resolve() if source.name in ("", "..") else source
        output = named.with_suffix(".266") if named.is_file() else named.with_name(f"{named.name}.266")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: exists; give --overwrite or another -o")
    raw, frame_rate = raw_format(options)
    settings = encoder_settings(options)
    if not as_json:
        click.echo(f"{source} -> {output}")
    if dry_run:
        if as_json:
            click.echo(json.dumps({"input": str(source), "output": str(output)}, indent=2))
        return
    with progress_bar(f"encode {source.name}", "frame") as progress:
        result = encode_file(
            source, output, settings, raw=raw, frame_rate=frame_rate, reverse=reverse, progress=progress
        )
    if as_json:
        click.echo(json.dumps({"output": str(output), **asdict(result)}, indent=2))
        return
    rate = result.num_frames / max(result.seconds, 1e-9)
    click.echo(
        f"{output}: {count(result.num_frames, 'frame')}, {size(result.size_bytes)}, "
        f"{result.seconds:.1f} s ({rate:.1f} frames/s)"
    )
