"""Networks, or the blurry input itself, measured over a split of a prepared dataset; what is measured is kept.

Scores of each sequence lie in a file of their own, with all that they depend on: an interrupted evaluation goes on with
the sequences that are left, another network or protocol measures anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecprior.datasets.manifest import Manifest, ManifestEntry
from codecprior.datasets.reader import ClipReader, sequence_frames
from codecprior.errors import ConfigError, DatasetError
from codecprior.media.files import written_whole
from codecprior.store.reader import open_store

from .deblurrer import Deblurrer
from .metric_temporal import WarpError, store_motion
from .metrics import MetricsConfig, evaluate_sequence, open_metrics
from .protocols import Protocol
from .scores import SequenceScores

__all__ = ["Evaluation"]

_Frames = Iterable[NDArray[Any]]


class Evaluation:
    """Measures the sequences of a split.

    Parameters
    ----------
    manifest : Manifest
        The sequences: all with a sharp side, or all without, such as clips that were blurry when they were filmed. Then
        only metrics that need none are measured, and what metrics call the reference is the blurry input.
    protocol : Protocol
        How to measure.
    config : MetricsConfig
        What to measure.
    folder : pathlib.Path
        Where scores of single sequences are kept.
    device : str
        Where metrics run.

    Attributes
    ----------
    opened : OpenedMetrics
        Metrics that run, and why others do not.

    Raises
    ------
    ConfigError
        If a file that a metric needs is given and cannot be used, or no metric can run.
    DatasetError
        If some sequences have a sharp side and others have none.
    """

    def __init__(
        self, manifest: Manifest, protocol: Protocol, config: MetricsConfig, folder: Path, device: str = "cpu"
    ) -> None:
        without = [entry.sequence for entry in manifest.entries if entry.sharp is None]
        if 0 < len(without) < len(manifest.entries):
            raise DatasetError(
                f"sequence {without[0]}: has no sharp frames to compare with, others have; give it a split of its own"
            )
        self._sharp = not without
        self._manifest = manifest
        self._protocol = protocol
        self._folder = folder
        self._by_vectors = config.warp_motion == "mv" and WarpError.name in config.metrics
        self.opened = open_metrics(config, device, sharp=self._sharp)
        if not self.opened.metrics:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.opened.unavailable.items())
            raise ConfigError(f"there is nothing to measure ({reasons})")

    def scores(
        self, deblurrer: Deblurrer | None, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[SequenceScores]:
        """Measure every sequence, or read what was measured before.

        Parameters
        ----------
        deblurrer : Deblurrer, optional
            The networks; blurry frames are measured as they are without any.
        progress : callable, optional
            Called with the number of frames that are measured and of all of them.

        Yields
        ------
        SequenceScores
            In the order of the manifest.

        Raises
        ------
        CodecpriorError
            If a sequence cannot be read or measured. Those before it are kept.
        """
        method = "blurry" if deblurrer is None else "restored"
        done, total = 0, sum(entry.num_frames for entry in self._manifest.entries)
        for index, entry in enumerate(self._manifest.entries):
            file = self._folder / method / f"{entry.sequence}.json"
            identity = self._identity(entry, deblurrer)
            found = _read(file, identity)
            if found is None:
                count = None if progress is None else partial(_add, progress, done, total)
                found = self._measure(index, deblurrer, count)
                with written_whole(file) as unfinished:
                    unfinished.write_text(json.dumps({"identity": identity, **_plain(found)}) + "\n", encoding="utf-8")
            done += entry.num_frames
            yield found

    def _measure(
        self, index: int, deblurrer: Deblurrer | None, progress: Callable[[int], None] | None
    ) -> SequenceScores:
        manifest, entry = self._manifest, self._manifest.entries[index]
        outputs: _Frames = sequence_frames(manifest, index, "blurry")
        if deblurrer is not None:
            outputs = deblurrer.frames(ClipReader(manifest, deblurrer.reader_config()), index)
        return evaluate_sequence(
            outputs if progress is None else _counted(outputs, progress),
            sequence_frames(manifest, index, "sharp" if self._sharp else "blurry"),
            self._protocol,
            self.opened.metrics,
            name=entry.sequence,
            motion=store_motion(open_store(manifest.resolve(entry.store), cached=False)) if self._by_vectors else None,
        )

    def _identity(self, entry: ManifestEntry, deblurrer: Deblurrer | None) -> dict[str, Any]:
        """Return all that scores depend on, as JSON has it."""
        store = open_store(self._manifest.resolve(entry.store)).attributes
        metrics = {
            metric.name: {"convention": metric.convention(self._protocol), **metric.facts()}
            for metric in self.opened.metrics
        }
        identity = {
            "networks": None if deblurrer is None else dict(deblurrer.facts),
            "protocol": self._protocol.to_dict(),
            "metrics": metrics,
            "frames": [entry.num_frames, entry.blurry, entry.sharp, entry.frames],
            "priors": store.get("extraction_digest"),
        }
        plain: dict[str, Any] = json.loads(json.dumps(identity))
        return plain


def _counted(frames: _Frames, progress: Callable[[int], None]) -> Iterator[NDArray[Any]]:
    for done, frame in enumerate(frames, 1):
        yield frame
        progress(done)


def _add(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _plain(scores: SequenceScores) -> dict[str, Any]:
    """Return scores as JSON values; what is no finite number becomes a text that ``float`` reads."""
    return {
        "sequence": scores.sequence,
        "size": list(scores.size),
        "frames": [scores.frames.start, scores.frames.stop],
        "scores": {
            name: [score if math.isfinite(score) else str(score) for score in values.tolist()]
            for name, values in scores.scores.items()
        },
    }


def _read(file: Path, identity: Mapping[str, Any]) -> SequenceScores | None:
    """Return what was measured before, if it depends on the same."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["identity"] != identity:
            return None
        return SequenceScores(
            sequence=found["sequence"],
            size=(found["size"][0], found["size"][1]),
            frames=range(*found["frames"]),
            scores={name: np.array([float(score) for score in values]) for name, values in found["scores"].items()},
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
