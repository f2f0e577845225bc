"""Stored residuals as what networks take: a range that does not depend on the bit depth, planes of one size."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codecprior.core.stream import StreamInfo
from codecprior.errors import ConfigError
from codecprior.store.reader import ClipPriors

__all__ = ["ResidualNormalization", "ResidualPlanes", "normalized_residual", "residual_arrays"]

ResidualNormalization = Literal["absolute", "signed", "cpgd-net", "frame-max"]
"""How a residual r becomes a number, with h half the range of samples, 2^(bit depth - 1):

- ``"absolute"``: |r| / h, 0 to below 2;
- ``"signed"``: r / h, above -2 to below 2;
- ``"cpgd-net"``: (r + 1) / 512, as CPGD-Net's loader has it, made for 10 bit;
- ``"frame-max"``: |r| over its greatest value in the part of the frame that is read, 0 to 1; 0 where all is 0.
"""

ResidualPlanes = Literal["luma", "all"]
"""Luma, or luma and both chroma planes, each chroma sample repeated over the luma samples that it stands for."""


def residual_arrays(stream: StreamInfo, planes: ResidualPlanes) -> tuple[str, ...]:
    """Name the arrays that hold the planes.

    Parameters
    ----------
    stream : StreamInfo
        Facts of the stream.
    planes : {"luma", "all"}
        Planes wanted.

    Returns
    -------
    tuple of str
        Names in a store.

    Raises
    ------
    ConfigError
        If a monochrome stream should give chroma.
    """
    if planes == "luma":
        return ("residual_y",)
    if stream.planes == "y":
        raise ConfigError("residual planes 'all': a 4:0:0 stream has no chroma; use 'luma'")
    return tuple(f"residual_{plane}" for plane in stream.planes)


def normalized_residual(
    clip: ClipPriors, planes: ResidualPlanes, normalization: ResidualNormalization
) -> NDArray[np.float32]:
    """Normalise the residual of a clip.

    Parameters
    ----------
    clip : ClipPriors
        Frames with the arrays that :func:`residual_arrays` names.
    planes : {"luma", "all"}
        Planes to return.
    normalization : {"absolute", "signed", "cpgd-net", "frame-max"}
        How; see :data:`ResidualNormalization`.

    Returns
    -------
    ndarray, shape (T, H, W, C), float32
        C is 1 or 3.
    """
    box, stream = clip.box, clip.stream
    names = residual_arrays(stream, planes)
    residual = np.empty((len(clip), box.height, box.width, len(names)), np.float32)
    for channel, name in enumerate(names):
        sx, sy = stream.subsampling(name[-1])
        plane: NDArray[Any] = clip.arrays[name]
        for axis, factor in ((1, sy), (2, sx)):
            if factor > 1:
                plane = plane.repeat(factor, axis=axis)
        residual[..., channel] = plane[:, : box.height, : box.width]
    if normalization == "cpgd-net":
        residual += 1
        residual /= 512
        return residual
    if normalization != "signed":
        np.abs(residual, out=residual)
    if normalization == "frame-max":
        peak = residual.max(axis=(1, 2, 3), keepdims=True)
        residual /= np.where(peak > 0, peak, 1)
    else:
        residual *= np.float32(2.0 ** (1 - stream.bit_depth))
    return residual
