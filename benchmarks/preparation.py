"""What preparing a dataset costs on top of encoding its degraded side, and what a second worker brings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.material import BUILD, frame_folder
from benchmarks.measure import compare, machine, write
from benchmarks.tracing import show
from codecprior.datasets.layouts import recognise
from codecprior.extraction.prepare import PrepareSettings, plan_preparation, prepare
from codecprior.extraction.sequence import ExtractionSettings
from codecprior.extraction.vvc import VvcBackend, encode_file
from vvc_wrappers.vvenc import VVencOptions

__all__ = ["run"]

_FRAMES, _SEQUENCES, _THREADS = 48, 2, 2


def run() -> None:
    """Measure and write ``preparation.json``."""
    before = machine()
    dataset = _dataset()
    folder = BUILD / "prepared"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    places = (folder / str(number) for number in count())
    results: dict[str, Any] = {
        "prepare": compare(
            "bare encode",
            {
                "bare encode": lambda: _encode(dataset, next(places), _THREADS),
                "prepare": lambda: _prepare(dataset, next(places), _THREADS),
            },
            turns=5,
        ),
        "workers": compare(
            "one worker",
            {
                "one worker": lambda: _prepare(dataset, next(places), 1, workers=1),
                "two workers": lambda: _prepare(dataset, next(places), 1, workers=2),
            },
            turns=3,
        ),
    }
    shutil.rmtree(folder)
    for name, comparison in results.items():
        show(f"{name}: {_SEQUENCES} sequences of {_FRAMES} PNG frames, 720p", comparison)
    write("preparation", before, results)


def _dataset() -> Path:
    """Sequences with different frames; both sides show the same, which changes nothing here."""
    root = BUILD / "pairs"
    if not root.exists():
        frames = sorted(frame_folder("bigbuckbunny", _FRAMES * _SEQUENCES).iterdir())
        for side in ("blur", "sharp"):
            for number in range(_SEQUENCES):
                sequence = root / side / f"seq{number}"
                sequence.mkdir(parents=True)
                for file in frames[number * _FRAMES : (number + 1) * _FRAMES]:
                    (sequence / file.name).hardlink_to(file)
    return root


def _sequences(dataset: Path) -> Iterator[Path]:
    yield from sorted((dataset / "blur").iterdir())


def _encode(dataset: Path, output: Path, threads: int) -> None:
    output.mkdir()
    for sequence in _sequences(dataset):
        encode_file(sequence, output / f"{sequence.name}.266", VVencOptions(threads=threads))


def _prepare(dataset: Path, output: Path, threads: int, workers: int = 0) -> None:
    backend = VvcBackend(encoder=VVencOptions(threads=threads), decoder_threads=threads)
    settings = PrepareSettings(extraction=ExtractionSettings(backend=backend))
    jobs = plan_preparation(recognise(dataset), str(output), settings)
    for result in prepare(jobs, settings, workers=workers):
        if result.error is not None:
            raise RuntimeError(result.error)
