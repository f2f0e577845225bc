"""``codecprior deblur``: blurry videos, frame folders, datasets and stores to sharp ones, by trained networks."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .encoding import encoder_options, encoder_settings, raw_format, raw_options
from .networks import load_networks, network_options
from .output import count, report
from .progress import echo, progress_bar

if TYPE_CHECKING:
    from codecprior.extraction.discover import SequenceInput
    from codecprior.extraction.sequence import ExtractionSettings

__all__ = ["deblur"]


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A sequence, or a store with its frames, and its output."""

    name: str
    path: Path
    output: Path
    sequence: SequenceInput | None = None


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
    ctx: click.Context, /, source: str, output: Path, *, video: bool, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Make INPUT sharp.

    INPUT is a video, a folder of frames, a raw .yuv or .y4m file, a VVC stream, a dataset (a folder with any of these
    at any depth), or a priors store with --frames. Priors are extracted first where there is no store. Clips of any
    length are restored in chunks, large frames in tiles. What is finished is skipped, and a sequence that fails does
    not stop the others.

    \b
    codecprior deblur clip.mp4 -o sharp.mp4 --checkpoint runs/cpfp
    codecprior deblur frames/ -o sharp/ --checkpoint runs/cpc --stage1 runs/cpfp
    codecprior deblur dataset/ -o sharp/ --checkpoint runs/cpfp --video
    codecprior deblur clip.zarr --frames clip.mp4 -o sharp.mp4 --checkpoint run
    """
    tasks = _plan(source, output, video)
    if dry_run:
        for task in [] if as_json else tasks:
            click.echo(f"{task.path} -> {task.output}")
        if as_json:
            click.echo(json.dumps([{"input": str(task.path), "output": str(task.output)} for task in tasks], indent=2))
        return
    work = _Work(source, options)
    ctx.exit(report(map(work.run, tasks), _print, as_json=as_json))


def _plan(source: str, output: Path, video: bool) -> list[_Task]:
    from codecprior.errors import ConfigError
    from codecprior.extraction.discover import discover
    from codecprior.model.deblurring import VIDEO_EXTENSION

    if _is_store(source):
        return [_Task(name=Path(source).stem, path=Path(source), output=output)]
    root = Path(source)
    sequences = discover(root)
    for sequence in sequences:
        if sequence.path.resolve() in (output.resolve(), *output.resolve().parents):
            raise ConfigError(f"{output}: lies in {sequence.path}, which is an input; choose another -o")
    if len(sequences) == 1 and sequences[0].path == root:
        return [_Task(name=sequences[0].name, path=root, output=output, sequence=sequences[0])]
    if output.suffix.lower() == VIDEO_EXTENSION:
        raise ConfigError(f"{output}: {source} is a dataset; give a folder, and --video for one .mp4 per sequence")
    suffix = VIDEO_EXTENSION if video else ""
    return [
        _Task(name=each.name, path=each.path, output=output / f"{each.name}{suffix}", sequence=each)
        for each in sequences
    ]


def _is_store(source: str) -> bool:
    return source.rstrip("/").endswith(".zarr")


class _Work:
    """Networks and settings, loaded once for all sequences."""

    def __init__(self, source: str, options: dict[str, Any]) -> None:
        from codecprior.extraction.vvc import VvcBackend

        self._source = source
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

        frames, identity, extraction = self._input(task)
        job = DeblurJob(name=task.name, output=task.output, identity=identity, crf=self._crf, overwrite=self._overwrite)
        if is_finished(job, self._deblurrer):
            return None
        raw = None if self._raw is None else asdict(self._raw)
        with self._store(task, extraction) as store, progress_bar(f"{task.name}: deblur", "frame") as progress:
            return deblur_sequence(self._deblurrer, job, store, frames, raw=raw, progress=progress)

    def _input(self, task: _Task) -> tuple[str | None, dict[str, Any], ExtractionSettings | None]:
        """Return where blurry frames are, what input and priors depend on, and how the latter are extracted."""
        from codecprior.errors import ConfigError
        from codecprior.extraction.sequence import ExtractionSettings
        from codecprior.media.bitstream import BitstreamSource
        from codecprior.media.opening import open_frames, open_source
        from codecprior.store.reader import open_store

        if task.sequence is None:
            identity = {"store": open_store(self._source).attributes.get("extraction_digest")}
            if self._frames is not None:
                identity["frames"] = open_frames(self._frames, raw=self._raw).digest()
            return self._frames, identity, None
        path = task.path
        if self._frames is not None:
            raise ConfigError(f"{path}: --frames is for priors stores; give a .zarr, or leave it out")
        source = open_source(path, raw=self._raw, frame_rate=self._frame_rate)
        coded = isinstance(source, BitstreamSource)
        if coded and self._deblurrer.backward:
            raise ConfigError(
                f"{path}: the network has backward blocks, whose vectors a coded stream does not have; decode it and "
                "give its frames"
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
        return None if decoded else str(path), identity, settings

    @contextmanager
    def _store(self, task: _Task, extraction: ExtractionSettings | None) -> Iterator[str]:
        """Give the priors of a sequence, extracted to where they are kept or for as long as the block lasts."""
        from codecprior.extraction.sequence import extract_sequence

        if task.sequence is None or extraction is None:
            yield self._source
            return
        with tempfile.TemporaryDirectory(prefix="codecprior-") as temporary:
            store = str((self._keep or Path(temporary)) / f"{task.name}.zarr")
            with progress_bar(f"{task.name}: extract", "frame") as progress:
                extract_sequence(task.sequence, store, extraction, progress)
            yield store


def _print(result: _Result) -> None:
    if result.status == "skipped":
        echo(f"{result.output}: finished before")
        return
    rate = result.num_frames / max(result.seconds, 1e-9)
    echo(f"{result.output}: {count(result.num_frames, 'frame')}, {result.seconds:.1f} s ({rate:.2f} frames/s)")
