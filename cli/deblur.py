"""``codecprior deblur``: blurry videos, frame folders, datasets and stores to sharp ones, by trained networks."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .encoding import encoder_options, encoder_settings, raw_format, raw_options
from .networks import load_networks, network_options
from .output import count, report
from .progress import echo, progress_bar

if TYPE_CHECKING:
    from codecprior.datasets.manifest import Manifest
    from codecprior.datasets.reader import ClipReader
    from codecprior.extraction.discover import SequenceInput
    from codecprior.extraction.sequence import ExtractionSettings

__all__ = ["deblur"]


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A sequence, a store with its frames or a sequence of a prepared dataset, and its output."""

    name: str
    path: str
    output: Path
    sequence: SequenceInput | None = None
    place: int | None = None
    """Position in the manifest."""


@dataclass(frozen=True, kw_only=True)
class _Result:
    name: str
    output: str
    status: Literal["deblurred", "skipped", "failed"]
    num_frames: int = 0
    seconds: float = 0.0
    error: str | None = None


@click.command(short_help="Make blurry video sharp with trained networks.")
@click.argument("source", metavar="INPUT")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    required=True,
    help="A .mp4, or a folder: for PNG frames, or for one output for each sequence of a dataset.",
)
@network_options
@click.option("--split", metavar="NAME", help="Only this split of a prepared dataset.")
@click.option("--frames", metavar="PATH", type=click.Path(exists=True), help="Blurry frames of a store.")
@click.option("--keep-priors", metavar="DIR", type=click.Path(path_type=Path), help="Keep extracted stores here.")
@click.option("--video", is_flag=True, help="Write a .mp4 for each sequence of a dataset, not a folder.")
@click.option("--crf", type=click.IntRange(0, 51), default=14, show_default=True, help="Quality of videos; 0 is best.")
@encoder_options
@raw_options
@click.option("--overwrite", is_flag=True, help="Replace outputs that were made from something else.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def deblur(
    ctx: click.Context,
    /,
    source: str,
    output: Path,
    *,
    split: str | None,
    video: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make INPUT sharp.

    INPUT is a video, a folder of frames, a raw .yuv or .y4m file, a VVC stream, a dataset (a folder with any of these
    at any depth), a dataset that 'codecprior prepare' made, or a priors store with --frames. Priors are extracted first
    where there are none. Clips of any length are restored in chunks, large frames in tiles. What is finished is
    skipped, and a sequence that fails does not stop the others. OUT gets one output for each sequence of a dataset:
    OUT/SPLIT/SEQUENCE for a prepared one.

    \b
    codecprior deblur clip.mp4 -o sharp.mp4 --checkpoint runs/cpfp
    codecprior deblur frames/ -o sharp/ --checkpoint runs/cpc --stage1 runs/cpfp
    codecprior deblur dataset/ -o sharp/ --checkpoint runs/cpfp --video
    codecprior deblur prepared/ --split test -o sharp/ --checkpoint runs/cpfp
    codecprior deblur clip.zarr --frames clip.mp4 -o sharp.mp4 --checkpoint run
    """
    manifest, tasks = _plan(source, output, split, video=video)
    if dry_run:
        for task in [] if as_json else tasks:
            click.echo(f"{task.path} -> {task.output}")
        if as_json:
            click.echo(json.dumps([{"input": task.path, "output": str(task.output)} for task in tasks], indent=2))
        return
    work = _Work(source, manifest, options)
    ctx.exit(report(map(work.run, tasks), _print, as_json=as_json))


def _plan(source: str, output: Path, split: str | None, *, video: bool) -> tuple[Manifest | None, list[_Task]]:
    """Return the manifest of a prepared dataset, and what is to be done."""
    from codecprior.datasets.manifest import is_prepared
    from codecprior.errors import ConfigError
    from codecprior.extraction.discover import discover
    from codecprior.model.deblurring import VIDEO_EXTENSION

    suffix, is_store = VIDEO_EXTENSION if video else "", _is_store(source)
    prepared = not is_store and is_prepared(source)
    if split is not None and not prepared:
        raise ConfigError(f"{source}: --split is for prepared datasets; leave it out")
    if is_store:
        return None, [_Task(name=Path(source).stem, path=source, output=output)]
    root = Path(source)
    sequences = [] if prepared else discover(root)
    for sequence in sequences:
        if sequence.path.resolve() in (output.resolve(), *output.resolve().parents):
            raise ConfigError(f"{output}: lies in {sequence.path}, which is an input; choose another -o")
    if len(sequences) == 1 and sequences[0].path == root:
        return None, [_Task(name=sequences[0].name, path=source, output=output, sequence=sequences[0])]
    if output.suffix.lower() == VIDEO_EXTENSION:
        raise ConfigError(f"{output}: {source} is a dataset; give a folder, and --video for one .mp4 per sequence")
    if prepared:
        return _plan_prepared(source, output, split, suffix)
    return None, [
        _Task(name=each.name, path=str(each.path), output=output / f"{each.name}{suffix}", sequence=each)
        for each in sequences
    ]


def _plan_prepared(source: str, output: Path, split: str | None, suffix: str) -> tuple[Manifest, list[_Task]]:
    from codecprior.datasets.manifest import read_manifest

    manifest = read_manifest(source)
    if split is not None:
        manifest = manifest.of_split(split, "--split")
    tasks = [
        _Task(
            name=f"{entry.split}/{entry.sequence}",
            path=manifest.resolve(entry.store),
            output=output / entry.split / f"{entry.sequence}{suffix}",
            place=place,
        )
        for place, entry in enumerate(manifest.entries)
    ]
    return manifest, tasks


def _is_store(source: str) -> bool:
    return source.rstrip("/").endswith(".zarr")


class _Work:
    """Networks and settings, loaded once for all sequences."""

    def __init__(self, source: str, manifest: Manifest | None, options: dict[str, Any]) -> None:
        from codecprior.extraction.vvc import VvcBackend

        self._source, self._manifest = source, manifest
        self._frames, self._keep = options.pop("frames"), options.pop("keep_priors")
        self._crf, self._overwrite = options.pop("crf"), options.pop("overwrite")
        self._backend = VvcBackend(encoder=encoder_settings(options))
        self._raw, self._frame_rate = raw_format(options)
        self._deblurrer = load_networks(options)

    def run(self, task: _Task) -> _Result:
        """Make one sequence sharp; an error becomes part of the result."""
        from codecprior.errors import failure_reason

        begin = time.monotonic()
        result = _Result(name=task.name, output=str(task.output), status="deblurred")
        try:
            num_frames = self._deblurred(task)
        except Exception as error:  # one sequence must not take the others with it
            return replace(result, status="failed", error=failure_reason(error, task.path))
        if num_frames is None:
            return replace(result, status="skipped")
        return replace(result, num_frames=num_frames, seconds=round(time.monotonic() - begin, 3))

    def _deblurred(self, task: _Task) -> int | None:
        """Return the number of frames, None if they are there already."""
        from codecprior.model.deblurring import DeblurJob, is_finished
        from codecprior.model.deblurring import deblur as deblur_sequence

        identity, opened = self._input(task)
        job = DeblurJob(output=task.output, identity=identity, crf=self._crf, overwrite=self._overwrite)
        if is_finished(job, self._deblurrer):
            return None
        with opened as reader, progress_bar(f"{task.name}: deblur", "frame") as progress:
            return deblur_sequence(self._deblurrer, job, reader, task.place or 0, progress=progress)

    def _input(self, task: _Task) -> tuple[dict[str, Any], AbstractContextManager[ClipReader]]:
        """Return what the output depends on, and what reads the sequence once it is entered."""
        from codecprior.errors import ConfigError

        if task.sequence is None and task.place is None:
            return self._stored(task)
        if self._frames is not None:
            raise ConfigError(f"{task.path}: --frames is for priors stores; give a .zarr, or leave it out")
        return self._prepared(task) if task.sequence is None else self._extracted(task, task.sequence)

    def _stored(self, task: _Task) -> tuple[dict[str, Any], AbstractContextManager[ClipReader]]:
        from codecprior.media.opening import open_frames
        from codecprior.store.reader import open_store

        identity = {"store": open_store(task.path).attributes.get("extraction_digest")}
        if self._frames is not None:
            identity["frames"] = open_frames(self._frames, raw=self._raw).digest()
        return identity, nullcontext(self._reader(task, task.path, self._frames))

    def _prepared(self, task: _Task) -> tuple[dict[str, Any], AbstractContextManager[ClipReader]]:
        from codecprior.datasets.reader import ClipReader
        from codecprior.model.deblurring import prepared_identity

        assert self._manifest is not None
        assert task.place is not None
        config = self._deblurrer.reader_config()
        identity = prepared_identity(self._manifest, self._manifest.entries[task.place])
        return {**identity, "blurry": config.blurry}, nullcontext(ClipReader(self._manifest, config))

    def _extracted(
        self, task: _Task, sequence: SequenceInput
    ) -> tuple[dict[str, Any], AbstractContextManager[ClipReader]]:
        from codecprior.errors import ConfigError
        from codecprior.extraction.sequence import ExtractionSettings
        from codecprior.media.bitstream import BitstreamSource
        from codecprior.media.opening import open_source

        source = open_source(sequence.path, raw=self._raw, frame_rate=self._frame_rate)
        coded = isinstance(source, BitstreamSource)
        if coded and self._deblurrer.backward:
            raise ConfigError(
                f"{task.path}: the network has backward blocks, whose vectors a coded stream does not have; decode it "
                "and give its frames"
            )
        decoded = coded or self._deblurrer.reader_config().blurry == "decoded"
        settings = ExtractionSettings(
            backend=self._backend,
            directions="both" if self._deblurrer.backward else "forward",
            with_frames=decoded,
            keep_bitstream=False,
            overwrite=self._overwrite,
            raw=self._raw,
            frame_rate=self._frame_rate,
        )
        identity = {
            "sha256": source.digest(),
            "priors": self._backend.identity(source),
            "directions": settings.directions,
            "blurry": "decoded" if decoded else "source",
        }
        return identity, self._extraction(task, sequence, settings, None if decoded else task.path)

    @contextmanager
    def _extraction(
        self, task: _Task, sequence: SequenceInput, settings: ExtractionSettings, frames: str | None
    ) -> Iterator[ClipReader]:
        """Extract priors to where they are kept, or for as long as the block lasts."""
        from codecprior.extraction.sequence import extract_sequence

        with tempfile.TemporaryDirectory(prefix="codecprior-") as temporary:
            store = str((self._keep or Path(temporary)) / f"{task.name}.zarr")
            with progress_bar(f"{task.name}: extract", "frame") as progress:
                extract_sequence(sequence, store, settings, progress)
            yield self._reader(task, store, frames)

    def _reader(self, task: _Task, store: str, frames: str | None) -> ClipReader:
        from codecprior.model.deblurring import store_reader

        raw = None if self._raw is None else asdict(self._raw)
        return store_reader(self._deblurrer, task.name, store, frames, raw=raw)


def _print(result: _Result) -> None:
    if result.status == "skipped":
        echo(f"{result.output}: finished before")
        return
    rate = result.num_frames / max(result.seconds, 1e-9)
    echo(f"{result.output}: {count(result.num_frames, 'frame')}, {result.seconds:.1f} s ({rate:.2f} frames/s)")
