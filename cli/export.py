"""``codecprior export`` and ``codecprior import``: priors in the formats of other tools, and back."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from codecprior.cli.output import count, report, size
from codecprior.cli.progress import echo, progress_bar
from codecprior.errors import ConfigError

if TYPE_CHECKING:
    from codecprior.interop.dataset import SequenceOutcome

__all__ = ["export", "import_"]

# The names of codecprior.interop.convert.FORMATS, which --help must not wait for.
_FORMATS: Final = ("blockstat", "mv-extractor", "cpgd-net", "hdf5")

_PATHS: Final = ("blurry", "sharp", "store", "frames")
"""What names files in a line of a manifest."""

_format_option = click.option(
    "-f", "--format", "file_format", type=click.Choice(_FORMATS), required=True, help="The other tool's format."
)
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is at the output.")
_dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done and write nothing.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def _parse_frames(_ctx: click.Context, _param: click.Parameter, value: str | None) -> slice | None:
    """Read a slice of frames as Python writes one."""
    if value is None:
        return None
    first, colon, last = value.partition(":")
    with contextlib.suppress(ValueError):
        if colon:
            return slice(int(first) if first else None, int(last) if last else None)
    raise click.BadParameter(f"{value!r}: give first:last, such as 0:100, 50: or :8; the last one is not included")


@click.command()
@click.argument("source", metavar="STORE|DATASET")
@_format_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File or folder to write.")
@click.option("--frames", metavar="A:B", callback=_parse_frames, help="Frames to write, B not included. Default: all.")
@click.option("--clip", help="cpgd-net: name of the clip. Default: name of the store.")
@click.option(
    "--digits",
    type=click.IntRange(5, 12),
    default=5,
    show_default=True,
    help="cpgd-net: digits of frame numbers; 8 for its BSD variant.",
)
@click.option("--split", help="Dataset: only this split. Default: all.")
@click.option(
    "--with-frames",
    type=click.Choice(["link", "copy"]),
    help="Dataset: put blurry and sharp frames there, too; into hdf5, packed ones are copied.",
)
@_overwrite_option
@_dry_run_option
@_json_option
@click.pass_context
def export(
    ctx: click.Context,
    /,
    *,
    source: str,
    file_format: str,
    output: Path,
    frames: slice | None,
    clip: str | None,
    digits: int,
    split: str | None,
    with_frames: str | None,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write a store or a dataset in another tool's format.

    \b
    blockstat     block statistics text of the VVC reference software; YUView
                  shows it over the video (name it .vtmbmsstats)
    mv-extractor  the N x 10 tables of mv-extractor, one .npy per frame
    cpgd-net      MVs/ and resi/ .npy files of a clip in a CPGD-Net data set
    hdf5          all arrays in one file

    What the format cannot say is listed at the end. DATASET is a manifest.jsonl of 'codecprior prepare' or its folder:
    into cpgd-net, each sequence becomes a clip of one tree, into hdf5, a group of one file. Clips that an earlier run
    finished are skipped, and a sequence that fails does not stop the others.

    \b
    codecprior export bikes.zarr -f blockstat -o bikes.vtmbmsstats
    codecprior export bikes.zarr -f cpgd-net -o dataset/ --clip bikes
    codecprior export gopro-priors -f cpgd-net --split train -o tree/
    codecprior export gopro-priors -f hdf5 -o gopro.h5 --with-frames copy
    """
    if _is_dataset(source):
        if frames is not None or clip is not None:
            raise click.UsageError("--frames and --clip are for a single store; a dataset is exported whole")
        lines = _manifest_lines(source)
        options = {"split": split, "digits": digits, "frames": with_frames, "overwrite": overwrite}
        ctx.exit(_export_dataset(lines, output, file_format, options, dry_run=dry_run, as_json=as_json))
    if split is not None or with_frames is not None:
        raise click.UsageError("--split and --with-frames are for a dataset; give the folder of its manifest.jsonl")
    options = {"clip": clip, "digits": digits, "overwrite": overwrite}
    _export_store(source, output, file_format, frames or slice(None), options, dry_run=dry_run, as_json=as_json)


def _export_store(
    store: str,
    output: Path,
    file_format: str,
    frames: slice,
    options: dict[str, Any],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from codecprior.interop.convert import arrays_for, export_store, num_passes
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
    total = len(chosen) * num_passes(chosen, file_format)
    with progress_bar(f"export {output.name}", "frame") as show:
        report = export_store(chosen, output, file_format, progress=lambda done: show(done, total), **options)
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


def _export_dataset(
    lines: list[dict[str, Any]],
    output: Path,
    file_format: str,
    options: dict[str, Any],
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    from codecprior.interop.dataset import chosen_sequences, export_dataset

    if dry_run:
        chosen = chosen_sequences(lines, file_format, split=options["split"])
        names = [f"{line['split']}/{line['sequence']}" for line in chosen]
        _print_plan({name: str(output) for name in names}, as_json=as_json)
        return 0
    with contextlib.ExitStack() as bars:
        done = export_dataset(lines, output, file_format, progress=_bars(bars), **options)
        return _report(done, str(output), "note: ", as_json=as_json)


def _is_dataset(source: str) -> bool:
    """Whether a source is a manifest or a folder with one, and not a store."""
    from codecprior.store.location import Location

    if source.endswith(".jsonl"):
        return True
    try:
        Location(source).read_bytes("manifest.jsonl")
    except FileNotFoundError:
        return False
    return True


def _manifest_lines(source: str) -> list[dict[str, Any]]:
    from codecprior.datasets.manifest import read_manifest

    manifest = read_manifest(source)
    return [_placed(vars(entry), manifest.resolve) for entry in manifest.entries]


def _placed(line: Mapping[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
    """Return a line of a manifest with other paths."""

    def paths(value: Any) -> Any:
        if isinstance(value, str):
            return place(value)
        return value and tuple(place(path) for path in value)

    return {name: paths(value) if name in _PATHS else value for name, value in line.items()}


@click.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@_format_option
@click.option(
    "-o", "--output", metavar="STORE|FOLDER", required=True, help="Store to write, such as clip.zarr, or a folder."
)
@click.option("--clip", help="cpgd-net, hdf5: name of one clip or sequence, where there are several.")
@_overwrite_option
@_dry_run_option
@_json_option
@click.pass_context
def import_(
    ctx: click.Context,
    /,
    *,
    path: Path,
    file_format: str,
    output: str,
    clip: str | None,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write another tool's files as stores.

    Formats are those of 'codecprior export'. Arrays that the files do not have are filled and named in the store's
    attribute unknown_arrays. Block statistics that the VVC reference software itself printed cannot
    become a store: they do not say which pictures the vectors refer to.

    If the output is no .zarr, every clip of a CPGD-Net tree becomes FOLDER/CLIP.zarr, and the HDF5 file of a dataset a
    prepared dataset with its manifest. What an earlier run finished is skipped, and a clip that is wrong does not stop
    the others.

    \b
    codecprior import bikes.h5 -f hdf5 -o bikes.zarr
    codecprior import tree/ -f cpgd-net --clip bikes -o bikes.zarr
    codecprior import tree/ -f cpgd-net -o priors/
    codecprior import gopro.h5 -f hdf5 -o gopro-priors/
    """
    from codecprior.interop.dataset import import_target, sequences_of

    names = () if clip is not None or output.rstrip("/").endswith(".zarr") else sequences_of(path, file_format)
    if not names:
        _import_store(path, output, file_format, clip, overwrite=overwrite, dry_run=dry_run, as_json=as_json)
    elif dry_run:
        _print_plan({name: import_target(output, name, file_format) for name in names}, as_json=as_json)
    else:
        ctx.exit(_import_dataset(path, output, file_format, overwrite=overwrite, as_json=as_json))


def _import_store(
    path: Path, output: str, file_format: str, clip: str | None, *, overwrite: bool, dry_run: bool, as_json: bool
) -> None:
    from codecprior.interop.convert import import_store, num_passes, open_import

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
    total = len(imported) * num_passes(imported, file_format)
    with progress_bar(f"import {path.name}", "frame") as show:
        import_store(imported, output, overwrite=overwrite, progress=lambda done: show(done, total))
    _print(facts, f"wrote {what}", *notes, as_json=as_json)


def _import_dataset(path: Path, output: str, file_format: str, *, overwrite: bool, as_json: bool) -> int:
    from codecprior.interop.dataset import import_dataset

    with contextlib.ExitStack() as bars:
        done = import_dataset(path, output, file_format, overwrite=overwrite, progress=_bars(bars))
        return _report(_listed(done, output), output, "note: not known: ", as_json=as_json)


def _listed(done: Iterable[SequenceOutcome], output: str) -> Iterator[SequenceOutcome]:
    """Add what came in to the manifest when all of it has."""
    lines = []
    for outcome in done:
        if outcome.line is not None:
            lines.append(outcome.line)
        yield outcome
    _add_to_manifest(output, lines)


def _add_to_manifest(output: str, lines: list[Mapping[str, Any]]) -> None:
    from codecprior.datasets.manifest import ManifestEntry, read_manifest, relative_path, write_manifest
    from codecprior.store.location import is_url

    if not lines:
        return
    known = read_manifest(output).entries if _is_dataset(output) else ()
    entries = {(entry.split, entry.sequence): entry for entry in known}
    absent = []
    for line in lines:
        placed = _placed(line, lambda path: relative_path(path, output))
        entry = ManifestEntry(**{name: placed[name] for name in ManifestEntry.__dataclass_fields__ if name in placed})
        entries[entry.split, entry.sequence] = entry
        first = line["blurry"] if isinstance(line["blurry"], str) else line["blurry"][0]
        if entry.frames is None and not is_url(first) and not Path(first).exists():
            absent.append(first)
    write_manifest(output, entries.values())
    if absent:
        echo(f"Warning: frames of {count(len(absent), 'sequence')} are not where the file says: {absent[0]}", err=True)


def _bars(bars: contextlib.ExitStack) -> Callable[[str], Callable[[int, int], None]]:
    def begin(name: str) -> Callable[[int, int], None]:
        bars.pop_all().close()  # that of the sequence before
        return bars.enter_context(progress_bar(name, "frame"))

    return begin


def _report(done: Iterable[SequenceOutcome], output: str, note: str, *, as_json: bool) -> int:
    """Print results, and what was written and what all sequences lack, and return the exit status."""

    def show(outcome: SequenceOutcome) -> None:
        before = "finished before, " if outcome.status == "skipped" else ""
        echo(f"{outcome.name}: {before}{count(outcome.num_frames, 'frame')}")

    def summary(outcomes: Sequence[SequenceOutcome]) -> Iterator[str]:
        good = [outcome for outcome in outcomes if outcome.error is None]
        frames = count(sum(outcome.num_frames for outcome in good), "frame")
        yield f"{output}: {count(len(good), 'sequence')}, {frames}"
        yield from (f"{note}{sentence}" for sentence in _common_notes(outcomes))

    return report(
        done, show, as_json=as_json, plain=lambda outcome: asdict(replace(outcome, line=None)), summary=summary
    )


def _common_notes(outcomes: Iterable[SequenceOutcome]) -> Iterator[str]:
    """Give each note once; of those that differ in numbers, the first."""
    found: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for outcome in outcomes:
        for sentence in outcome.notes:
            words = re.sub(r"[0-9.]+", "#", sentence)
            found.setdefault(words, []).append(sentence)
            first.setdefault(words, outcome.name)
    for words, sentences in found.items():
        alike = len(set(sentences)) == 1
        yield sentences[0] if alike else f"{sentences[0]} (in {first[words]}; of others, see --json)"


def _print_plan(outputs: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        plan = [{"name": name, "output": output} for name, output in outputs.items()]
        click.echo(json.dumps(plan, indent=2))
        return
    for name, output in outputs.items():
        click.echo(f"{name} -> {output}")


def _print(facts: dict[str, object], *lines: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(lines))
