"""Memory over the length of a clip, and how fast the command line answers."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import psutil

from benchmarks.material import BUILD, stream
from benchmarks.measure import machine, write

__all__ = ["run"]


def run() -> None:
    """Measure and write ``footprint.json``."""
    before = machine()
    results: dict[str, Any] = {"peak_memory_mb": {}}
    for repeat in (1, 4, 16, 64):
        peak = _peak_megabytes(str(stream("bigbuckbunny", 32, repeat=repeat)))
        results["peak_memory_mb"][f"{132 * repeat} frames, 720p"] = peak
        print(f"peak memory of extract, {132 * repeat:5d} frames of 720p: {peak} MB")
    seconds = []
    for _ in range(11):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "codecprior.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(round(time.perf_counter() - started, 4))
    results["help_seconds"] = {"median": statistics.median(seconds), "all": seconds}
    print(f"codecprior --help: {statistics.median(seconds):.3f} s")
    write("footprint", before, results)


def _peak_megabytes(source: str) -> int:
    """Greatest sum of the proportional set sizes of the command and its children: shared slots count once."""
    store = BUILD / "footprint.zarr"
    shutil.rmtree(store, ignore_errors=True)
    command = [sys.executable, "-m", "codecprior.cli", "extract", source, "-o", str(store)]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            try:
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(member.memory_full_info().pss for member in family))
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    done.set()
    watcher.join()
    if status:
        raise RuntimeError(f"{' '.join(command)} exited with {status}")
    return round(peak / 1e6)
