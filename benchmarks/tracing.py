"""What tracing and storing cost on top of plain decoding and encoding."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

from benchmarks.material import BUILD, frame_folder, stream
from benchmarks.measure import Comparison, compare, machine, write
from codecprior.extraction.discover import SequenceInput
from codecprior.extraction.sequence import ExtractionSettings, extract_sequence
from codecprior.extraction.vvc import VvcBackend, encode_file
from codecprior.media.source import SourceKind
from vvc_wrappers.probe import Probe, ProbeOptions
from vvc_wrappers.tools import find_vvdecapp
from vvc_wrappers.vvenc import VVencOptions

__all__ = ["extract_stream", "run", "show"]

_THREADS = 2
_REPEAT = 3


def run() -> None:
    """Measure and write ``tracing.json``."""
    before = machine()
    results = {}
    folder = BUILD / "stores"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stores = (folder / f"{number}.zarr" for number in count())
    for qp in (22, 32):
        coded = stream("bigbuckbunny", qp, repeat=_REPEAT)
        results[f"720p, QP {qp}"] = compare(
            "vvdecapp",
            {
                "vvdecapp": lambda coded=coded: _plain(coded),
                "probe": lambda coded=coded: _probe(coded, ProbeOptions(threads=_THREADS)),
                "probe with frames": lambda coded=coded: _probe(
                    coded, ProbeOptions(threads=_THREADS, with_frames=True)
                ),
                "stream to store": lambda coded=coded: extract_stream(coded, next(stores)),
                "codecprior extract": lambda coded=coded: _command(coded, next(stores)),
            },
            turns=5,
        )
        show(f"720p, QP {qp}", results[f"720p, QP {qp}"])
    frames = frame_folder("bigbuckbunny", 48)
    target = folder / "encoded.266"
    results["48 PNG frames, 720p"] = compare(
        "bare encode",
        {
            "bare encode": lambda: encode_file(frames, target, VVencOptions(threads=_THREADS)),
            "frames to store": lambda: extract_stream(frames, next(stores), "images"),
        },
        turns=5,
    )
    show("48 PNG frames, 720p", results["48 PNG frames, 720p"])
    shutil.rmtree(folder)
    write("tracing", before, results)


def _plain(coded: Path) -> None:
    program = str(find_vvdecapp().path)
    subprocess.run([program, "-b", str(coded), "-t", str(_THREADS), "-v", "1"], check=True, stdout=subprocess.DEVNULL)


def _probe(coded: Path, options: ProbeOptions) -> None:
    for _ in Probe(options).pictures(coded):
        pass


def extract_stream(source: Path, store: Path, kind: SourceKind = "bitstream") -> None:
    """Extract with the default settings into a new store."""
    backend = VvcBackend(encoder=VVencOptions(threads=_THREADS), decoder_threads=_THREADS)
    sequence = SequenceInput(name="benchmark", path=source, kind=kind)
    extract_sequence(sequence, str(store), ExtractionSettings(backend=backend))


def _command(coded: Path, store: Path) -> None:
    command = [sys.executable, "-m", "codecprior.cli", "extract", str(coded), "-o", str(store)]
    subprocess.run(
        [*command, "--decoder-threads", str(_THREADS)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def show(title: str, comparison: Comparison) -> None:
    """Print ratios."""
    print(f"{title} (wall time over {comparison.baseline}, median of {comparison.turns}, least to greatest)")
    for name, ratio in comparison.ratio.items():
        least, greatest = comparison.ratio_range[name]
        print(f"  {name:20s} {ratio:5.2f}  ({least:.2f} to {greatest:.2f}), CPU time {comparison.cpu_ratio[name]:.2f}")
