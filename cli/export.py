"""``codecprior export`` and ``codecprior import``: priors in the formats of other tools, and back."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Final

import click

from codecprior.cli.output import count, size
from codecprior.cli.progress import progress_bar
from codecprior.errors import ConfigError

__all__ = ["export", "import_"]

# The names of codecprior.interop.convert.FORMATS, which --help must not wait for.
_FORMATS: Final = ("blockstat", "mv-extractor", "cpgd-net", "hdf5")

_format_option = click.option(
    "-f", "--format", "file_format", type=click.Choice(_FORMATS), required=True, help="The other tool's format."
)
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is at the output.")
_dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done and write nothing.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def _parse_frames(_ctx: click.Context, _param: click.Parameter, value: str | None) -> slice:
    """Read a slice of frames as Python writes one."""
    if value is None:
        return slice(None)
    first, colon, last = value.partition(":")
    with contextlib.suppress(ValueError):
        if colon:
            return slice(int(first) if first else None, int(last) if last else None)
    raise click.BadParameter(f"{value!r}: give first:last, such as 0:100, 50: or :8; the last one is not included")


@click.command()
@click.argument("store", metavar="STORE")
@_format_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File or folder to write.")
@click.option("--frames", metavar="A:B", callback=_parse_frames, help="Frames to write, B not included. Default: all.")
@click.option("--clip", help="cpgd-net: name of the clip. Default: name of the store.")
@click.option(
    "--digits",
    type=click.IntRange(1, 12),
    default=5,
    show_default=True,
    help="cpgd-net: digits of frame numbers; 8 for its BSD variant.",
)
@_overwrite_option
@_dry_run_option
@_json_option
def export(
    *,
    store: str,
    file_format: str,
    output: Path,
    frames: slice,
    clip: str | None,
    digits: int,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write a store in another tool's format.

    \b
    blockstat     block statistics text of the VVC reference software; YUView
                  shows it over the video (name it .vtmbmsstats)
    mv-extractor  the N x 10 tables of mv-extractor, one .npy per frame
    cpgd-net      MVs/ and resi/ .npy files of one clip in a CPGD-Net data set
    hdf5          all arrays in one file

    What the format cannot say is listed at the end.

    \b
    codecprior export bikes.zarr -f blockstat -o bikes.vtmbmsstats
    codecprior export bikes.zarr -f cpgd-net -o dataset/ --clip bikes
    """
    from codecprior.interop.convert import arrays_for, export_store
    from codecprior.store import open_store

    whole = open_store(store)
    chosen = whole[frames]
    if not len(chosen):
        asked = ":".join("" if end is None else str(end) for end in (frames.start, frames.stop))
        raise ConfigError(f"{store} has {count(len(whole), 'frame')}, none of them in the range {asked}")
    if dry_run:
        names = arrays_for(chosen, file_format)
        _print(
            {"output": str(output), "num_frames": len(chosen), "arrays": list(names)},
            f"would write {output}: {count(len(chosen), 'frame')}, reading {', '.join(names)}",
            as_json=as_json,
        )
        return
    with progress_bar(f"export {output.name}", "frame") as show:
        report = export_store(
            chosen,
            output,
            file_format,
            clip=clip,
            digits=digits,
            overwrite=overwrite,
            progress=lambda done: show(done, len(chosen)),
        )
    _print(
        {
            "output": str(report.path),
            "num_frames": report.num_frames,
            "size_bytes": report.size_bytes,
            "not_represented": list(report.not_represented),
        },
        f"wrote {report.path}: {count(report.num_frames, 'frame')}, {size(report.size_bytes)}",
        *(f"note: {sentence}" for sentence in report.not_represented),
        as_json=as_json,
    )


@click.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@_format_option
@click.option("-o", "--output", metavar="STORE", required=True, help="Store to write, such as clip.zarr.")
@click.option("--clip", help="cpgd-net: name of the clip, where the data set has several.")
@_overwrite_option
@_dry_run_option
@_json_option
def import_(
    *, path: Path, file_format: str, output: str, clip: str | None, overwrite: bool, dry_run: bool, as_json: bool
) -> None:
    """Write another tool's files as a store.

    Formats are those of 'codecprior export'. Arrays that the files do not have are filled and named in the store's
    attribute unknown_arrays. Block statistics that the VVC reference software itself printed cannot
    become a store: they do not say which pictures the vectors refer to.

    \b
    codecprior import bikes.h5 -f hdf5 -o bikes.zarr
    codecprior import dataset/ -f cpgd-net --clip bikes -o bikes.zarr
    """
    from codecprior.interop.convert import import_store, open_import

    imported = open_import(path, file_format, clip=clip)
    width, height = imported.stream.output_size
    facts = {
        "output": output,
        "num_frames": len(imported),
        "output_size": [width, height],
        "unknown": list(imported.unknown),
        "unknown_arrays": list(imported.unknown_arrays),
    }
    what = f"{output}: {count(len(imported), 'frame')}, {width}x{height}"
    notes = [f"note: not known: {sentence}" for sentence in imported.unknown]
    if dry_run:
        _print(facts, f"would write {what}", *notes, as_json=as_json)
        return
    with progress_bar(f"import {path.name}", "frame") as show:
        import_store(imported, output, overwrite=overwrite, progress=lambda done: show(done, len(imported)))
    _print(facts, f"wrote {what}", *notes, as_json=as_json)


def _print(facts: dict[str, object], *lines: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(lines))
