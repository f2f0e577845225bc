"""Measuring side by side: contestants take turns, ratios are formed turn by turn, medians are reported."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import codecprior

__all__ = ["RESULTS", "Comparison", "compare", "cpu_seconds", "machine", "write"]

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("numpy", "tensorstore", "zarr", "h5py", "imageio-ffmpeg", "torch", "torchvision", "diffusers")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Wall and CPU times of contestants that took turns.

    Parameters
    ----------
    baseline : str
        The contestant that ratios refer to.
    turns : int
        How often each ran.
    wall_seconds, cpu_seconds : mapping of str to list of float
        Every measurement, by contestant. CPU time includes child processes.
    ratio : mapping of str to float
        Median over the turns of wall time divided by the baseline's in the same turn.
    ratio_range : mapping of str to list of float
        Least and greatest of these.
    cpu_ratio : mapping of str to float
        The same for CPU time.
    """

    baseline: str
    turns: int
    wall_seconds: Mapping[str, list[float]]
    cpu_seconds: Mapping[str, list[float]]
    ratio: Mapping[str, float]
    ratio_range: Mapping[str, list[float]]
    cpu_ratio: Mapping[str, float]


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(baseline: str, contestants: Mapping[str, Callable[[], Any]], *, turns: int = 7) -> Comparison:
    """Let contestants take turns and form ratios.

    Parameters
    ----------
    baseline : str
        Name of the one that the others are compared with.
    contestants : mapping of str to callable
        What to time; each is run once before the first turn.
    turns : int
        How often.

    Returns
    -------
    Comparison
        Times and ratios.
    """
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        # Back and forth: what a contestant leaves in caches meets each of its neighbours.
        for name, run in list(contestants.items())[:: 1 if turn % 2 else -1]:
            used, started = cpu_seconds(), time.perf_counter()
            run()
            if turn:
                wall[name].append(round(time.perf_counter() - started, 4))
                cpu[name].append(round(cpu_seconds() - used, 4))
    ratios = {name: [a / b for a, b in zip(times, wall[baseline], strict=True)] for name, times in wall.items()}
    cpu_ratios = {name: [a / b for a, b in zip(times, cpu[baseline], strict=True)] for name, times in cpu.items()}
    return Comparison(
        baseline=baseline,
        turns=turns,
        wall_seconds=wall,
        cpu_seconds=cpu,
        ratio={name: round(statistics.median(values), 3) for name, values in ratios.items()},
        ratio_range={name: [round(min(values), 3), round(max(values), 3)] for name, values in ratios.items()},
        cpu_ratio={name: round(statistics.median(values), 3) for name, values in cpu_ratios.items()},
    )


def machine() -> dict[str, Any]:
    """Describe this machine and the versions of what is measured."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES if _installed(name)},
        "codecprior": codecprior.__version__,
        "commit": commit.stdout.strip() or None,
        "load_before": os.getloadavg()[0],
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _installed(package: str) -> bool:
    return any(metadata.Distribution.discover(name=package))


def write(name: str, before: dict[str, Any], results: Mapping[str, Any]) -> None:
    """Write results as JSON and say where.

    Parameters
    ----------
    name : str
        Name of the benchmark.
    before : dict
        :func:`machine` from before the measurements.
    results : mapping
        What was measured; comparisons are written with all their fields.
    """
    plain = {key: asdict(value) if isinstance(value, Comparison) else value for key, value in results.items()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"benchmark": name, "machine": before, "results": plain}, indent=2) + "\n")
    print(f"  -> {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}", file=sys.stderr)
