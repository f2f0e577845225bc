"""What value gets the last colour: measured once, so that all frames of a clip share one scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from codecprior.core.priors import FramePriors
from codecprior.errors import ConfigError

__all__ = ["Ranges"]

# Most values stay inside the scale, while a few stray vectors or residual spikes cannot flatten the rest. Vectors to
# far references have the longer tail.
_MOTION_PERCENTILE: Final = 95.0
_RESIDUAL_PERCENTILE: Final = 99.0
_ROUND_STEPS: Final = np.array([1, 1.5, 2, 3, 4, 5, 6, 8, 10])
_SAMPLE_STEP: Final = 3
_MIN_QP_SPAN: Final = 4


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Ends of the colour scales.

    Parameters
    ----------
    motion_px : float
        Length of a vector of full colour, in luma samples.
    residual : int
        Magnitude of a residual of full colour, in sample values of the stream's bit depth.
    qp : tuple of int
        Quantisation parameters of the first and last colour.
    """

    motion_px: float = 1.0
    residual: int = 8
    qp: tuple[int, int] = (0, 63)

    def __post_init__(self) -> None:
        if not (self.motion_px > 0 and self.residual > 0 and self.qp[0] < self.qp[1]):
            raise ConfigError(f"colour ranges {self}: motion and residual must be above 0 and QP in rising order")

    @classmethod
    def measure(cls, frames: Iterable[FramePriors], ref_list: int | str = 0, plane: str = "y") -> Ranges:
        """Find scales that suit some frames; arrays that were not read leave the default.

        Parameters
        ----------
        frames : iterable of FramePriors
            A sample of the clip, taken one at a time.
        ref_list : {0, 1, "mean"}
            Vectors to measure, as for :meth:`~codecprior.core.priors.FramePriors.flow`.
        plane : {"y", "u", "v"}
            Residual plane to measure.

        Returns
        -------
        Ranges
            Motion up to the 95th and residual up to the 99th percentile of what is not zero, rounded up to numbers that
            read well.
        """
        lengths: list[NDArray[Any]] = []
        magnitudes: list[NDArray[Any]] = []
        qps: list[int] = []
        for priors in frames:
            present = priors.arrays()
            if "mv_l0" in present or "mv_l1" in present:
                motion = priors.flow_grid(ref_list)
                length = np.hypot(motion.displacement[..., 0], motion.displacement[..., 1])[motion.valid]
                lengths.append(length[length > 0])
            if f"residual_{plane}" in present:
                magnitude = np.abs(present[f"residual_{plane}"][::_SAMPLE_STEP, ::_SAMPLE_STEP].astype(np.int32))
                magnitudes.append(magnitude[magnitude > 0])
            if "qp" in present and priors.picture.has_priors:
                qps += [int(present["qp"].min()), int(present["qp"].max())]
        return cls(
            motion_px=max(cls.motion_px, _round_up(lengths, _MOTION_PERCENTILE)),
            residual=max(cls.residual, int(_round_up(magnitudes, _RESIDUAL_PERCENTILE))),
            qp=_span(min(qps), max(qps)) if qps else cls.qp,
        )


def _round_up(values: list[NDArray[Any]], percentile: float) -> float:
    pooled = np.concatenate(values) if values else np.zeros(0)
    if not pooled.size:
        return 0.0
    top = float(np.percentile(pooled, percentile))
    power = 10.0 ** np.floor(np.log10(top))
    return float(power * _ROUND_STEPS[np.searchsorted(_ROUND_STEPS, min(top / power, 10.0))])


def _span(low: int, high: int) -> tuple[int, int]:
    missing = max(0, _MIN_QP_SPAN - (high - low))
    return low - missing // 2, high + missing - missing // 2
