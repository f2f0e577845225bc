"""``python -m benchmarks [NAME ...]``: run all benchmarks, or those named."""

from __future__ import annotations

import sys

from benchmarks import evidence, footprint, loading, model, preparation, storage, tracing

BENCHMARKS = {
    "tracing": tracing.run,
    "storage": storage.run,
    "preparation": preparation.run,
    "loading": loading.run,
    "footprint": footprint.run,
    "model": model.run,
    "evidence": evidence.run,
}


def main(names: list[str]) -> int:
    """Run benchmarks; returns the exit status."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        print(f"== {name}")
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
