"""Whether priors belong to the frames that they were made from: decoded against source samples, on a few frames."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from codecprior.core.priors import FramePriors
from codecprior.errors import ExtractionError
from codecprior.media.source import FrameSource
from vvc_wrappers.process import closing_generator

__all__ = ["AlignmentCheck", "least_psnr"]

_CLEARLY_BETTER_DB: Final = 1.0
"""A static scene's neighbours are as near as the frame itself; one that is nearer by this shows a shift."""

_PEAK: Final = 255.0
_Luma = NDArray[np.float32]


class AlignmentCheck:
    """Compares the first, the middle and the last frame of one pass with the source.

    Each must be near enough for its QP, and nearer than to the frames before and after it.

    Parameters
    ----------
    source : FrameSource
        What was encoded; its number of frames is known.
    reverse : bool
        Whether the pass runs backwards.
    """

    def __init__(self, source: FrameSource, *, reverse: bool = False) -> None:
        num_frames = source.info.num_frames or 1
        self._source = source
        self._order = range(num_frames)[::-1] if reverse else range(num_frames)
        self._frames = sorted({0, (num_frames - 1) // 2, num_frames - 1})
        self._decoded: dict[int, tuple[_Luma, int]] = {}

    def take(self, picture: FramePriors) -> None:
        """Look at the next picture of the pass, which has its decoded samples.

        Parameters
        ----------
        picture : FramePriors
            Copied where it is one of those to compare.
        """
        index = picture.frame_index
        if index < len(self._order) and self._order[index] in self._frames:
            luma = _scaled(picture.require("frame_y"), picture.stream.bit_depth)
            self._decoded[self._order[index]] = luma, picture.picture.slice_qp

    def finish(self) -> dict[str, Any]:
        """Compare what was taken with the source.

        Returns
        -------
        dict
            ``frames`` (those compared), ``psnr_db`` and ``least_psnr_db`` of each, as JSON values.

        Raises
        ------
        ExtractionError
            If a frame is not what was decoded.
        """
        found, least = [], []
        path = self._source.info.path
        for frame, (decoded, qp) in sorted(self._decoded.items()):
            near = self._near(frame, decoded)
            psnr, best = near[frame], max(near, key=lambda other: near[other])
            if near[best] > psnr + _CLEARLY_BETTER_DB:
                raise ExtractionError(
                    f"{path}: frame {best} is nearer to what frame {frame} was decoded to than frame {frame} itself "
                    f"({near[best]:.1f} against {psnr:.1f} dB): the priors are shifted; please report it"
                )
            if psnr < least_psnr(qp):
                raise ExtractionError(
                    f"{path}: frame {frame} is {psnr:.1f} dB from what it was decoded to, at QP {qp} "
                    f"{least_psnr(qp):.1f} dB or more are expected; do not change frames while they are encoded"
                )
            found.append(round(psnr, 2))
            least.append(round(least_psnr(qp), 2))
        return {"frames": sorted(self._decoded), "psnr_db": found, "least_psnr_db": least}

    def _near(self, frame: int, decoded: _Luma) -> dict[int, float]:
        """PSNR of a decoded frame against the frame of the source, the one before and the one after."""
        first = max(frame - 1, 0)
        with closing_generator(self._source.frames(start=first)) as frames:
            return {
                index: _psnr(decoded, _scaled(each.y, each.bit_depth))
                for index, each in enumerate(islice(frames, frame + 2 - first), first)
            }


def least_psnr(qp: int) -> float:
    """Luma PSNR that a coded picture has at least, whatever its content.

    No coefficient errs by more than one quantiser step, 2 ** ((QP - 4) / 6) at 8 bit (H.266, clause 8.7.3): those that
    become zero by less than a step, others by about half of one. Clips from clean video to noise, QP 10 to 51, were 4
    dB or more above it, although the encoder moves the QP of blocks around that of the slice.

    Parameters
    ----------
    qp : int
        QP of the picture's slices.

    Returns
    -------
    float
        In dB.
    """
    step = 2 ** ((qp - 4) / 6)
    return float(20 * np.log10(_PEAK / step))


def _psnr(decoded: _Luma, source: _Luma) -> float:
    height, width = source.shape  # the coded picture may be larger, on the right and below
    error = float(np.mean(np.square(decoded[:height, :width] - source), dtype=np.float64))
    return float(20 * np.log10(_PEAK / max(error**0.5, 1e-2)))


def _scaled(luma: NDArray[Any], bit_depth: int) -> _Luma:
    return luma.astype(np.float32) / np.float32(1 << (bit_depth - 8))
