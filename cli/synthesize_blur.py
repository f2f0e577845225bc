"""``codecprior synthesize-blur``: sharp video or still pictures to blurry frames with their sharp side."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from codecprior.cli.encoding import frame_size, raw_format
from codecprior.cli.output import count, report
from codecprior.cli.progress import counted, echo, progress_bar
from codecprior.errors import DatasetError, ExtractionError, failure_reason

if TYPE_CHECKING:
    from codecprior.datasets.blur import BlurSettings
    from codecprior.datasets.shake import ShakeSettings
    from codecprior.datasets.shake_sequences import Backgrounds
    from codecprior.datasets.synthesis import Progress, SequenceFolders, SynthesisResult
    from codecprior.extraction.discover import SequenceInput
    from codecprior.media.raw import RawFormat

__all__ = ["synthesize_blur"]

_Job = TypeVar("_Job", "SequenceInput", "Backgrounds")

_OF_AVERAGING: Final = ("frames", "stride", "interpolate", "bit_depth", "chroma_format")
_OF_SHAKE: Final = ("length", "speed", "rotation", "zoom", "objects", "exposure", "every")


def _range(text: str, number: Callable[[str], Any]) -> tuple[Any, Any]:
    found = re.fullmatch(r"([0-9.]+)(?:-([0-9.]+))?", text)
    try:
        if found:
            return number(found[1]), number(found[2] or found[1])
    except ValueError:
        pass
    raise click.BadParameter(f"{text!r}: give a number or a range, such as 7 or 7-13")


def _integers(text: str) -> tuple[int, int]:
    return _range(text, int)


def _numbers(text: str) -> tuple[float, float]:
    return _range(text, float)


@click.command("synthesize-blur", short_help="Make blurry frames with their sharp side from sharp material.")
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="OUT", type=click.Path(path_type=Path), required=True, help="Folder of the two sides."
)
@click.option("--split", type=click.Choice(["train", "test", "val"]), help="Put both sides into OUT/SPLIT.")
@click.option(
    "--crf",
    type=click.Choice(["gamma2.2", "linear"]),
    default="gamma2.2",
    show_default=True,
    help="Camera response. gamma2.2: samples are turned into light, averaged, and turned back, as in GoPro's "
    "blur_gamma. linear: samples are averaged as they are, as in GoPro's blur.",
)
@click.option("--seed", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn.")
@click.option(
    "--frames",
    metavar="N|A-B",
    type=_integers,
    default="7-13",
    show_default=True,
    help="Source frames in a blurry one: odd, or a range of which each sequence draws an odd number.",
)
@click.option(
    "--stride",
    metavar="N",
    type=click.IntRange(1),
    help="Source frames from one blurry frame to the next.  [default: as many as are averaged, as in GoPro]",
)
@click.option(
    "--interpolate",
    metavar="K",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Put K-1 frames between any two along their motion, so that slow video gives no ghosts.",
)
@click.option(
    "--size",
    metavar="WxH",
    type=frame_size,
    help="Frame size of .yuv files whose names do not tell; with --shake, of the output.  [default there: 320x192]",
)
@click.option("--bit-depth", metavar="N", type=click.IntRange(8, 16), help="Bits per sample of .yuv files.")
@click.option(
    "--chroma-format",
    metavar="FORMAT",
    type=click.Choice(["4:0:0", "4:2:0", "4:2:2", "4:4:4"]),
    help="Chroma format of .yuv files: 4:0:0, 4:2:0, 4:2:2 or 4:4:4.",
)
@click.option("--shake", is_flag=True, help="Move still pictures as a hand would; save the true motion, too.")
@click.option(
    "--length", metavar="T", type=click.IntRange(1), default=15, show_default=True, help="Shake: frames of a sequence."
)
@click.option(
    "--speed",
    metavar="A-B",
    type=_numbers,
    default="12-28",
    show_default=True,
    help="Shake: mean pixels per frame; each sequence and each object draws its own.",
)
@click.option(
    "--rotation", metavar="DEGREES", type=float, default=2, show_default=True, help="Shake: greatest turn either way."
)
@click.option(
    "--zoom", metavar="PART", type=float, default=0.03, show_default=True, help="Shake: greatest change of scale."
)
@click.option(
    "--objects",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Shake: things that move apart.",
)
@click.option(
    "--exposure",
    metavar="A-B",
    type=_numbers,
    default="0.05-0.95",
    show_default=True,
    help="Shake: part of the frame interval with an open shutter; each frame draws its own.",
)
@click.option(
    "--every",
    metavar="K",
    type=click.IntRange(1),
    help="Shake: take every K-th picture or frame.  [default: 1 of pictures, 30 of video]",
)
@click.option("--workers", metavar="N", type=click.IntRange(1), help="Work on N sequences at a time, in processes.")
@click.option("--overwrite", is_flag=True, help="Replace sequences that have another source or other settings.")
@click.option("--dry-run", is_flag=True, help="Print what would be made of what, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def synthesize_blur(
    ctx: click.Context,
    /,
    source: Path,
    output: Path,
    *,
    split: str | None,
    workers: int | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make blurry frames with their sharp side from INPUT.

    INPUT is sharp video of a high frame rate: a video, a folder of frames, a raw .yuv or .y4m file, or a dataset, a
    folder with any of these at any depth. Neighbouring frames are averaged as a longer exposure would have seen them,
    and the one in the middle is the sharp side. OUT gets blur/SEQUENCE, sharp/SEQUENCE, and synthesis/SEQUENCE.json,
    which says how they were made.

    With --shake, each picture of INPUT, or every 30th frame of a video, is moved along random paths. Then OUT gets
    motion/SEQUENCE, too: for each frame an .npz file with 'backward' and 'forward', the true motion in pixels to the
    frames before and behind it, signed as motion vectors are, and with masks of where it is valid.

    What is finished is skipped, and a sequence that fails does not stop the others.

    \b
    codecprior synthesize-blur clips240/ -o data --split train --workers 4
    codecprior synthesize-blur clip30.mp4 -o data --frames 3 --interpolate 16
    codecprior synthesize-blur clips240/ -o data --frames 11 --crf linear
    codecprior synthesize-blur pictures/ -o shaken --shake --objects 2
    codecprior synthesize-blur clip.mp4 -o shaken --shake --every 10 --length 30
    """
    shake = options.pop("shake")
    for name in _OF_AVERAGING if shake else _OF_SHAKE:
        if ctx.get_parameter_source(name) != ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} is for use {'without' if shake else 'with'} --shake")
    root = output / split if split else output
    if source.is_dir() and source.resolve() in (output.resolve(), *output.resolve().parents):
        raise DatasetError(f"{output}: lies in the input {source}; choose an output elsewhere")
    task = _Shaking.from_options(root, options) if shake else _Averaging.from_options(root, options)
    jobs: list[Any] = list(task.plan(source))
    if dry_run:
        planned = [{"input": str(job.path), **task.outcome(job)} for job in jobs]
        click.echo(json.dumps(planned, indent=2) if as_json else "\n".join(map(_line, planned)))
        return
    ctx.exit(report(_run(task, jobs, workers), _print, as_json=as_json))


@dataclass(frozen=True)
class _Averaging:
    """Makes one sequence of averages out of one of frames."""

    root: Path
    settings: BlurSettings
    raw: RawFormat | None
    overwrite: bool

    @classmethod
    def from_options(cls, root: Path, options: dict[str, Any]) -> _Averaging:
        from codecprior.datasets.blur import BlurSettings

        raw, _ = raw_format({**options, "frame_rate": None})
        settings = BlurSettings(**{name: options[name] for name in ("frames", "stride", "interpolate", "crf", "seed")})
        return cls(root, settings, raw, options["overwrite"])

    def plan(self, source: Path) -> list[SequenceInput]:
        from codecprior.extraction.discover import discover

        # One level of folders, as the layouts of deblurring datasets have it.
        return _unique([replace(found, name=found.name.replace("/", "_")) for found in discover(source)])

    def outcome(self, job: SequenceInput) -> dict[str, Any]:
        drawn = self.settings.drawn(job.name)
        return {"output": f"{self.root}/{{blur,sharp}}/{job.name}", "frames": drawn.frames[0], "stride": drawn.stride}

    def results(self, job: SequenceInput, progress: Progress | None = None) -> Iterator[SynthesisResult]:
        from codecprior.datasets.blur import synthesize_blur
        from codecprior.datasets.synthesis import SequenceFolders

        folders = SequenceFolders(root=self.root, name=job.name)
        facts: dict[str, Any] = {"raw": self.raw, "overwrite": self.overwrite, "progress": progress}
        yield _attempted(folders, job.path, partial(synthesize_blur, job.path, folders, self.settings, **facts))


@dataclass(frozen=True)
class _Shaking:
    """Shakes one picture, or those of one video."""

    root: Path
    settings: ShakeSettings
    every: int | None
    overwrite: bool

    @classmethod
    def from_options(cls, root: Path, options: dict[str, Any]) -> _Shaking:
        from codecprior.datasets.shake import ShakeSettings

        names = ("size", "length", "speed", "rotation", "zoom", "objects", "exposure", "crf", "seed")
        settings = ShakeSettings(**{name: options[name] for name in names if options[name] is not None})
        return cls(root, settings, options["every"], options["overwrite"])

    def plan(self, source: Path) -> list[Backgrounds]:
        from codecprior.datasets.shake_sequences import find_backgrounds
        from codecprior.extraction.discover import discover
        from codecprior.media.files import kind_of

        if source.is_file() and kind_of(source) == "images":
            return find_backgrounds(source, source.stem)
        find = partial(find_backgrounds, every=self.every, with_material=self.settings.objects > 0)
        return _unique([job for each in discover(source) for job in find(each.path, each.name.replace("/", "_"))])

    def outcome(self, job: Backgrounds) -> dict[str, Any]:
        every = {"every": job.every} if job.every else {}
        return {"output": f"{self.root}/{{blur,sharp,motion}}/{job.name}{'_*' if every else ''}", **every}

    def results(self, job: Backgrounds, progress: Progress | None = None) -> Iterator[SynthesisResult]:
        from codecprior.datasets.shake_sequences import SHAKE_SIDES, read_backgrounds, synthesize_shake
        from codecprior.datasets.synthesis import SequenceFolders

        facts: dict[str, Any] = {"overwrite": self.overwrite, "progress": progress}
        try:
            for background in read_backgrounds(job):
                folders = SequenceFolders(root=self.root, name=background.name, sides=SHAKE_SIDES)
                work = partial(synthesize_shake, background, folders, self.settings, **facts)
                yield _attempted(folders, job.path, work)
        except Exception as error:  # a picture or the rest of a video cannot be read
            yield _failed(SequenceFolders(root=self.root, name=job.name, sides=SHAKE_SIDES), job.path, error)


def _attempted(folders: SequenceFolders, path: Path, work: Callable[[], SynthesisResult]) -> SynthesisResult:
    try:
        return work()
    except Exception as error:  # one sequence must not take the others with it
        return _failed(folders, path, error)


def _failed(folders: SequenceFolders, path: Path, error: Exception) -> SynthesisResult:
    return folders.result("failed", error=failure_reason(error, path))


def _unique(jobs: list[_Job]) -> list[_Job]:
    paths: dict[str, Path] = {}
    for job in jobs:
        other = paths.setdefault(job.name, job.path)
        if other != job.path:
            raise DatasetError(f"{other} and {job.path} would both be called {job.name}; rename one")
    return jobs


def _run(task: _Averaging | _Shaking, jobs: Sequence[Any], workers: int | None) -> Iterator[SynthesisResult]:
    if not workers:
        for job in jobs:
            with progress_bar(job.name, "frame") as progress:
                yield from task.results(job, progress)
        return
    from codecprior.datasets.synthesis import SequenceFolders
    from codecprior.extraction.cluster import each_on_cluster

    with progress_bar("synthesize", "input") as progress:
        outcomes = each_on_cluster(partial(_all_results, task), jobs, workers=workers)
        for job, outcome in counted(outcomes, len(jobs), progress):
            if isinstance(outcome, ExtractionError):
                yield _failed(SequenceFolders(root=task.root, name=job.name), job.path, outcome)
            else:
                yield from outcome


def _all_results(task: _Averaging | _Shaking, job: Any) -> list[SynthesisResult]:
    return list(task.results(job))


def _line(planned: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in planned.items() if name not in ("input", "output"))
    return f"{planned['input']} -> {planned['output']}{facts and f' ({facts})'}"


def _print(result: SynthesisResult) -> None:
    frames = count(result.num_frames, "frame")
    if result.status == "skipped":
        echo(f"{result.folders[0]}: finished before, {frames}")
        return
    rate = result.num_frames / max(result.seconds, 1e-9)
    echo(f"{result.folders[0]}: {frames}, {result.seconds:.1f} s ({rate:.1f} frames/s)")
