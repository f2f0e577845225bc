"""``codecprior compare``: one frame by several methods, side by side, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from .networks import data_option
from .output import count
from .progress import progress_bar

__all__ = ["compare"]


def _methods(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    found = [value.partition("=") for value in values]
    for value, (name, equals, path) in zip(values, found, strict=True):
        if not (name and equals and path):
            raise click.BadParameter(f"{value!r}: write NAME=PATH, such as ours=runs/cpc.")
    return [(name, path) for name, _, path in found]


def _boxes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[int, int, int, int]]:
    found = []
    for value in values:
        try:
            x, y, width, height = map(int, value.split(","))
        except ValueError:
            raise click.BadParameter(
                f"{value!r}: write X,Y,WIDTH,HEIGHT in samples, such as 320,180,200,150."
            ) from None
        found.append((x, y, width, height))
    return found


@click.command(short_help="Draw one frame by several methods, side by side.")
@data_option
@click.option("-o", "--output", metavar="PNG", type=click.Path(path_type=Path), required=True, help="Picture to write.")
@click.option(
    "--method",
    "methods",
    metavar="NAME=PATH",
    multiple=True,
    callback=_methods,
    help="A method and its checkpoint, or its outputs for the sequence; as often as needed.",
)
@click.option("--split", default="test", show_default=True, help="Split of the manifest.")
@click.option("--sequence", metavar="NAME", help="Sequence of it.  [default: the first one]")
@click.option("-n", "--frame", type=int, help="Frame; -1 is the last.  [default: the middle one]")
@click.option(
    "--box",
    "boxes",
    metavar="X,Y,W,H",
    multiple=True,
    callback=_boxes,
    help="Part to enlarge, in samples; as often as needed.  [default: where input and sharp differ most]",
)
@click.option("--attention", is_flag=True, help="Show where stage 2 looks; it runs on the whole frame, without tiles.")
@click.option("--base", metavar="PATH", help="Frozen base of stage 2, if not where it was in training.")
@click.option("--device", metavar="NAME", help="Such as cpu or cuda:1.  [default: the first GPU, or cpu]")
@click.option("--dry-run", is_flag=True, help="Say what would be written and stop.")
def compare(
    *,
    data: str,
    output: Path,
    methods: list[tuple[str, str]],
    split: str,
    sequence: str | None,
    frame: int | None,
    boxes: list[tuple[int, int, int, int]],
    attention: bool,
    base: str | None,
    device: str | None,
    dry_run: bool,
) -> None:
    """Draw a frame as the input, as each method has it, and sharp, with enlarged parts and PSNR.

    PATH is a checkpoint, which then runs on the frames up to this one, or a folder of pictures or a video with all
    frames of the sequence, such as 'codecprior deblur' or another program wrote. PSNR in dB is of the whole frame below
    the name, and of each part below it.

    --attention also shows, for checkpoints of stage 2, how much attention each place receives from all others in the
    ControlNet, over its layers and all steps: with coding priors and without, if both kinds are given.

    \b
    codecprior compare --data gopro -o frame.png \\
      --method BSST=outputs/bsst --method ours=runs/cpc
    codecprior compare --data dvd --sequence IMG_0003 -n 50 -o heat.png \\
      --method CPC=ablations/runs/cpgd-net-5f0c1d2e --attention \\
      --method IRControlNet=ablations/runs/w-ircontrolnet-0a1b2c3d
    """
    if output.suffix.lower() != ".png":
        raise click.UsageError(f"{output}: what is written is a picture; use .png.")
    from codecprior.core.stream import Box
    from codecprior.datasets.manifest import read_manifest
    from codecprior.errors import ConfigError
    from codecprior.model.comparison import Method, compare_frame
    from codecprior.visualization.output import write_png

    manifest = read_manifest(data).of_split(split, "--split")
    names = [entry.sequence for entry in manifest.entries]
    if sequence is not None and sequence not in names:
        raise ConfigError(f"--sequence {sequence!r}: split {split} has {', '.join(names)}")
    index = 0 if sequence is None else names.index(sequence)
    if frame is None:
        frame = manifest.entries[index].num_frames // 2
    shown = f"frame {frame} of {names[index]}, {count(len(methods), 'method')}"
    if dry_run:
        click.echo(f"would write {output}: {shown}")
        return
    loading = {name: value for name, value in (("base", base), ("device", device)) if value is not None}
    with progress_bar(names[index], "method") as progress:
        sheet = compare_frame(
            manifest,
            index,
            frame,
            [Method(name=name, path=path) for name, path in methods],
            boxes=[Box(*box) for box in boxes],
            attention=attention,
            loading=loading,
            progress=progress,
        )
    write_png(output, sheet)
    click.echo(f"wrote {output}: {shown}")
