"""``codecprior render``: pictures and clips of a store's priors."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Final

import click

from .output import count
from .progress import progress_bar

__all__ = ["render"]

_KINDS: Final = ("overview", "all", "frame", "motion", "arrows", "residual", "partition", "modes", "qp")


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> Fraction | None:
    try:
        rate = None if value is None else Fraction(value)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate is not None and rate <= 0:
        raise click.BadParameter(f"{value!r} is no frame rate; give a number above 0 such as 25 or 30000/1001.")
    return rate


def _wants_png(output: Path | None, frame: int | None, start: int | None, stop: int | None) -> bool:
    """Tell a picture from a clip and refuse what contradicts itself."""
    suffix = output.suffix.lower() if output else ""
    if output and suffix not in (".png", ".mp4"):
        raise click.UsageError(f"{output}: the extension says what to write; use .png or .mp4.")
    png = suffix == ".png" or (frame is not None and not suffix)
    if frame is not None and not png:
        raise click.UsageError(f"{output}: --frame makes one picture; name a .png, or use --start and --stop.")
    if png and (start, stop) != (None, None):
        raise click.UsageError("--start and --stop are for clips; use --frame for one picture.")
    return png


@click.command(short_help="Draw priors: a PNG of one frame or an MP4 of a clip.")
@click.argument("store")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write, .png or .mp4.  [default: beside STORE]"
)
@click.option(
    "-k", "--kind", type=click.Choice(_KINDS), default="overview", show_default=True, help="What to show; see above."
)
@click.option("-n", "--frame", type=int, help="Frame of a PNG; -1 is the last.  [default: the middle one]")
@click.option("--start", type=click.IntRange(min=0), help="First frame of a clip.")
@click.option("--stop", type=click.IntRange(min=0), help="Frame after the last of a clip.")
@click.option(
    "--ref-list",
    type=click.Choice(["0", "1", "mean"]),
    default="0",
    show_default=True,
    help="Reference list whose vectors to show, or the mean of both where they share a reference.",
)
@click.option(
    "--plane", type=click.Choice(["y", "u", "v"]), default="y", show_default=True, help="Residual plane to show."
)
@click.option("--reverse", is_flag=True, help="Show the pass over the time-reversed clip.")
@click.option("--scale", type=float, help="Pixels per luma sample.  [default: what suits a screen]")
@click.option("--fps", callback=_rate, help="Frames per second of a clip.  [default: that of the stream]")
@click.option(
    "--source",
    type=click.Path(exists=True, path_type=Path),
    help="Bitstream, video or folder of frames to draw on.  [default: found by itself]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written and stop.")
def render(
    *,
    store: str,
    output: Path | None,
    kind: str,
    frame: int | None,
    start: int | None,
    stop: int | None,
    ref_list: str,
    plane: str,
    reverse: bool,
    scale: float | None,
    fps: Fraction | None,
    source: Path | None,
    dry_run: bool,
) -> None:
    """Draw the priors of STORE: a PNG of one frame, or an H.264 clip.

    A PNG is made when --frame is given or the output ends with .png, a clip otherwise.

    \b
    overview   frame, motion vectors, residual, coding units with modes
    all        the same with arrows and QP
    frame      the decoded frame
    motion     direction as hue, length as saturation, from block to reference
    arrows     motion vectors on the frame, thinned
    residual   signed, zero is mid-grey
    partition  coding units on the frame
    modes      intra, skip, merge, AMVP, affine, GEO, CIIP, IBC
    qp         luma QP

    Frames are taken from the store, else decoded from the .266 file beside it, else read from the source; without any
    of these, maps are drawn on grey.

    \b
    codecprior render clip.zarr --frame 10
    codecprior render clip.zarr -k motion --start 0 --stop 100 -o motion.mp4
    codecprior render clip.zarr -k residual --plane u -n -1 --scale 2
    """
    png = _wants_png(output, frame, start, stop)
    if png and fps is not None:
        raise click.UsageError("--fps is for clips; leave it out for one picture.")

    from codecprior.errors import ConfigError
    from codecprior.store.reader import open_store
    from codecprior.visualization.material import Material, find_material
    from codecprior.visualization.options import RenderOptions
    from codecprior.visualization.render import render_clip, render_png

    options = RenderOptions(
        kind=kind, scale=scale, ref_list=ref_list if ref_list == "mean" else int(ref_list), plane=plane
    )
    priors = open_store(store)
    name = PurePosixPath(priors.location).stem
    material = Material.at(source) if source else find_material(priors.location, priors.attributes)
    if reverse:
        backward = priors.reverse
        if backward is None:
            raise ConfigError(f"{store}: holds no reversed pass; extract with --directions both")
        priors = backward
    if png and frame is None:
        frame = len(priors) // 2
    which = kind + ("-reverse" if reverse else "")
    if output is None:
        folder = Path() if "://" in store else Path(store).parent
        output = folder / (f"{name}-{which}-{frame}.png" if png else f"{name}-{which}.mp4")
    if png and frame is not None:
        shown = f"frame {frame}"
    else:
        priors = priors[start:stop]
        shown = count(len(priors), "frame")
    if dry_run:
        click.echo(f"would write {output}: {kind}, {shown} of {name}")
        return
    if png and frame is not None:
        render_png(priors, output, frame, options, name=name, material=material)
    else:
        with progress_bar(name, "frame") as show:
            render_clip(priors, output, options, name=name, frame_rate=fps, material=material, progress=show)
    click.echo(f"wrote {output}: {kind}, {shown} of {name}")
