from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from codecprior.extraction.discover import discover
from codecprior.extraction.sequence import ExtractionSettings, Progress, SequenceResult, extract_sequence
from codecprior.extraction.vvc import VvcBackend
from vvc_wrappers.vvenc import VVencOptions


@pytest.fixture
def y4m(tmp_path: Path, tiny: Any) -> Path:
    """Six frames, 24 frames/s."""
    return tiny.y4m(tmp_path / "in" / "clip.y4m")


@pytest.fixture(scope="session")
def moving(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    """Six frames of one texture that moves by 4 samples to the right from each frame to the next."""
    noise = np.random.default_rng(1).integers(0, 256, (tiny.height, tiny.width + 64), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 16, 235, cv2.NORM_MINMAX)
    chroma = np.full((tiny.height // 2, tiny.width), 128, np.uint8)
    windows = [texture[:, 32 - 4 * t : 32 - 4 * t + tiny.width] for t in range(6)]
    return tiny.y4m(
        tmp_path_factory.mktemp("moving") / "moving.y4m", frames=[np.vstack([window, chroma]) for window in windows]
    )


@pytest.fixture(scope="session")
def extract_to() -> Callable[..., SequenceResult]:
    """Return a function that extracts the only sequence of a path into a store."""

    def run(
        path: Path,
        store: Path,
        progress: Progress | None = None,
        encoder: VVencOptions | None = None,
        **settings: Any,
    ) -> SequenceResult:
        (sequence,) = discover(path)
        backend = VvcBackend(encoder=encoder or VVencOptions(threads=1), decoder_threads=1)
        chosen = ExtractionSettings(**{"backend": backend, "command": ("codecprior",), **settings})
        return extract_sequence(sequence, str(store), chosen, progress)

    return run


@pytest.fixture
def extract(extract_to: Callable[..., SequenceResult], tmp_path: Path) -> Callable[..., SequenceResult]:
    """Return a function that extracts the only sequence of a path into ``out/clip.zarr``."""
    return partial(extract_to, store=tmp_path / "out" / "clip.zarr")
