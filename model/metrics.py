"""Metrics by name, and sequences of frames measured with them one frame at a time.

>>> protocol = find_protocol("plain")  # doctest: +SKIP
>>> opened = open_metrics(MetricsConfig(niqe_model_path="niqe_pris_params.npz"))  # doctest: +SKIP
>>> opened.unavailable  # doctest: +SKIP
{'lpips': 'no weights ...', 'musiq': 'no weights ...'}
>>> scores = evaluate_sequence(outputs, references, protocol, opened.metrics, name="walk")  # doctest: +SKIP
>>> scores.mean("psnr")  # doctest: +SKIP
Mean(value=31.2, num_frames=100, left_out=0)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from codecprior.core.priors import Flow
from codecprior.errors import ConfigError

from .config import Config
from .metric import FramePair, Metric
from .metric_fidelity import Psnr, Ssim
from .metric_niqe import Niqe, NiqeModel
from .metric_perceptual import Lpips, LpipsNet, Musiq, default_backbone
from .metric_temporal import MotionSource, WarpError
from .protocols import Protocol
from .scores import SequenceScores

__all__ = ["METRICS", "MetricsConfig", "OpenedMetrics", "evaluate_sequence", "open_metrics"]

MetricName = Literal["psnr", "ssim", "lpips", "niqe", "musiq", "warp_error"]

METRICS: Final[dict[str, type[Metric]]] = {
    metric.name: metric for metric in (Psnr, Ssim, Lpips, Niqe, Musiq, WarpError)
}
"""All metrics by name, in the order of the paper's Table I."""


@dataclass(frozen=True, kw_only=True)
class MetricsConfig(Config):
    """Which metrics, and the files that some of them need.

    Parameters
    ----------
    metrics : tuple of {"psnr", "ssim", "lpips", "niqe", "musiq", "warp_error"}
        Which ones.
    niqe_model_path : str, optional
        ``niqe_pris_params.npz`` (see :mod:`codecprior.model.metric_niqe`).
    lpips_backbone : {"alex", "vgg", "squeeze"}
        Backbone of LPIPS.
    lpips_backbone_path : str, optional
        Its weights as torchvision has them; by default those below ``TORCH_HOME``, if they are there.
    musiq_weights_path : str, optional
        Weights of MUSIQ as pyiqa has them.
    warp_motion : {"dis", "mv"}
        Motion of the warp error (see :mod:`codecprior.model.metric_temporal`).

    Raises
    ------
    ConfigError
        If a value is none of these.
    """

    metrics: tuple[MetricName, ...] = get_args(MetricName)
    niqe_model_path: str | None = None
    lpips_backbone: LpipsNet = "alex"
    lpips_backbone_path: str | None = None
    musiq_weights_path: str | None = None
    warp_motion: MotionSource = "dis"


@dataclass(frozen=True, kw_only=True)
class OpenedMetrics:
    """Metrics that can run, and why others cannot.

    Parameters
    ----------
    metrics : tuple of Metric
        Ready to use.
    unavailable : mapping of str to str
        Reason by name.
    sharp : bool
        Whether frames are compared with what they should be.
    """

    metrics: tuple[Metric, ...]
    unavailable: Mapping[str, str]
    sharp: bool = True


def open_metrics(config: MetricsConfig, device: str = "cpu", *, sharp: bool = True) -> OpenedMetrics:
    """Open metrics with their weights.

    Parameters
    ----------
    config : MetricsConfig
        Which ones.
    device : str
        Where networks run.
    sharp : bool
        Whether there are frames as they should be; without, only metrics that need none can run.

    Returns
    -------
    OpenedMetrics
        Those whose weights are given, and why the others cannot run.

    Raises
    ------
    ConfigError
        If a file that is given cannot be used.
    """
    metrics: list[Metric] = []
    unavailable: dict[str, str] = {}
    for name in config.metrics:
        found = _open(name, config, device, sharp=sharp)
        if isinstance(found, str):
            unavailable[name] = found
        else:
            metrics.append(found)
    return OpenedMetrics(metrics=tuple(metrics), unavailable=unavailable, sharp=sharp)


def _open(name: str, config: MetricsConfig, device: str, *, sharp: bool) -> Metric | str:
    """Return a metric, or why there is none."""
    if METRICS[name].needs_sharp and not sharp:
        return "no sharp frames"
    weighted = {"niqe": _niqe, "lpips": _lpips, "musiq": _musiq}
    if name in weighted:
        return weighted[name](config, device)
    if name == "warp_error":
        return WarpError(config.warp_motion, sharp=sharp)
    return Psnr() if name == "psnr" else Ssim()


def _niqe(config: MetricsConfig, device: str) -> Metric | str:
    if config.niqe_model_path is None:
        return "no model: give niqe_model_path, niqe_pris_params.npz of PyPI's basicsr 1.4.2 sdist"
    return Niqe(NiqeModel.load(config.niqe_model_path))


def _lpips(config: MetricsConfig, device: str) -> Metric | str:
    path = config.lpips_backbone_path
    if path is None:
        default = default_backbone(config.lpips_backbone)
        if not default.exists():
            return (
                f"no weights: give lpips_backbone_path, torchvision's {default.name}, or put it into {default.parent}"
            )
        path = str(default)
    return Lpips(path, config.lpips_backbone, device)


def _musiq(config: MetricsConfig, device: str) -> Metric | str:
    if config.musiq_weights_path is None:
        return "no weights: give musiq_weights_path, pyiqa's file for KonIQ-10k"
    if find_spec("pyiqa") is None:
        return "runs through the package pyiqa (noncommercial licence), which is not installed"
    return Musiq(config.musiq_weights_path, device)


def evaluate_sequence(
    outputs: Iterable[NDArray[Any]],
    references: Iterable[NDArray[Any]],
    protocol: Protocol,
    metrics: Sequence[Metric],
    *,
    name: str,
    motion: Iterable[Flow] | None = None,
) -> SequenceScores:
    """Measure a sequence; a few frames are in memory at a time.

    Parameters
    ----------
    outputs, references : iterable of ndarray, shape (H, W, 3)
        R'G'B': uint8 or uint16 in their whole range, or floating point from 0 to 1. What is not uint8 is rounded to
        it, floating point values clipped, as they would be in a file. For metrics that need no sharp frames,
        references are the blurry input.
    protocol : Protocol
        Frames and samples that count.
    metrics : sequence of Metric
        What to measure.
    name : str
        Name of the sequence, for messages and results.
    motion : iterable of Flow, optional
        Displacement from each frame to the one before it, as :func:`~codecprior.model.metric_temporal.store_motion`
        reads it.

    Returns
    -------
    SequenceScores
        Scores of each frame that counts.

    Raises
    ------
    ConfigError
        If outputs and references differ in number or size, a frame is none, or the protocol leaves none.
    """
    scorers = {metric.name: metric.start(protocol) for metric in metrics}
    scores: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    count, height, width = 0, 0, 0
    for pair in _counted(_pairs(outputs, references, motion, name), protocol):
        count += 1
        height, width = pair.output.shape[:2]
        for metric, score in scorers.items():
            scores[metric].append(score(pair))
    if not count:
        ends = f"protocol {protocol.name} leaves out the first {protocol.drop_first} and the last {protocol.drop_last}"
        raise ConfigError(f"sequence {name}: {ends} frames, none is left; use longer sequences or another protocol")
    return SequenceScores(
        sequence=name,
        size=(width, height),
        frames=range(protocol.drop_first, protocol.drop_first + count),
        scores={metric: np.array(values) for metric, values in scores.items()},
    )


def _counted(pairs: Iterator[FramePair], protocol: Protocol) -> Iterator[FramePair]:
    """Leave out the ends of a sequence whose length is not known."""
    held: deque[FramePair] = deque()
    for index, pair in enumerate(pairs):
        if index >= protocol.drop_first:
            held.append(pair)
        if len(held) > protocol.drop_last:
            yield held.popleft()


def _pairs(
    outputs: Iterable[NDArray[Any]], references: Iterable[NDArray[Any]], motion: Iterable[Flow] | None, name: str
) -> Iterator[FramePair]:
    sides: dict[str, Iterable[Any]] = {"outputs": outputs, "references": references}
    if motion is not None:
        sides["motion"] = motion
    end = object()
    for index, items in enumerate(zip_longest(*sides.values(), fillvalue=end)):
        ended = [side for side, item in zip(sides, items, strict=True) if item is end]
        if ended:
            raise ConfigError(f"sequence {name}: no more {' and '.join(ended)} at frame {index}; give as many of each")
        output, reference = (
            _eight_bit(frame, f"sequence {name}, frame {index}: {side[:-1]}")
            for frame, side in zip(items[:2], sides, strict=False)
        )
        if output.shape != reference.shape:
            sizes = [f"{frame.shape[1]}x{frame.shape[0]}" for frame in (output, reference)]
            raise ConfigError(f"sequence {name}, frame {index}: the output is {sizes[0]}, the reference {sizes[1]}")
        yield FramePair(output=output, reference=reference, motion=items[2] if motion is not None else None)


def _eight_bit(frame: NDArray[Any], what: str) -> NDArray[np.uint8]:
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ConfigError(f"{what} is an array of {list(frame.shape)}; give rows, columns and three colours")
    if frame.dtype == np.uint8:
        return frame
    if frame.dtype == np.uint16:
        return np.rint(frame / 257).astype(np.uint8)
    if not np.issubdtype(frame.dtype, np.floating):
        raise ConfigError(f"{what} is {frame.dtype}; give uint8, uint16 or floating point from 0 to 1")
    if not np.isfinite(frame).all():
        raise ConfigError(f"{what} has values that are no finite numbers; look at what made it")
    rounded: NDArray[np.uint8] = np.rint(frame.clip(0, 1) * 255).astype(np.uint8)
    return rounded
