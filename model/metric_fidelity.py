"""PSNR and SSIM: how far samples are from those of the reference.

SSIM is that of Wang et al. [1]_: means, variances and covariance under a Gaussian window of 11x11 samples, sigma 1.5,
only where the window lies within the frame, each channel by itself, their maps averaged. BSSTNet's evaluation filters
the three-dimensional array of channels, rows and columns instead, so that its window reaches over channels and, by
reflection, beyond the frame; its numbers are not those of anyone else.

References
----------
.. [1] Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to
   structural similarity", IEEE Trans. Image Processing 13(4), 2004. DOI 10.1109/TIP.2003.819861
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from codecprior.errors import ConfigError

from .metric import Metric, Scorer
from .protocols import Protocol

__all__ = ["Psnr", "Ssim", "psnr", "ssim", "ssim_across_channels"]

_WINDOW: Final = 11
_SIGMA: Final = 1.5
_K1, _K2 = 0.01, 0.03


class Psnr(Metric):
    """Peak signal-to-noise ratio in dB."""

    name = "psnr"
    label = "PSNR"
    decimals = 2
    higher_is_better = True
    needs_sharp = True
    undefined = "identical to the reference: infinite"

    def start(self, protocol: Protocol) -> Scorer:
        """Begin a sequence; scores need no memory of frames before."""
        return lambda pair: psnr(protocol.samples(pair.output), protocol.samples(pair.reference))

    def convention(self, protocol: Protocol) -> str:
        """Say what exactly is computed."""
        return "10 log10(255^2 / MSE) in dB, the MSE over all samples and channels of a frame"


class Ssim(Metric):
    """Structural similarity."""

    name = "ssim"
    label = "SSIM"
    decimals = 4
    higher_is_better = True
    needs_sharp = True
    undefined = "none"

    def start(self, protocol: Protocol) -> Scorer:
        """Begin a sequence; scores need no memory of frames before."""
        function = ssim_across_channels if protocol.ssim == "across-channels" else ssim
        return lambda pair: function(protocol.samples(pair.output), protocol.samples(pair.reference))

    def convention(self, protocol: Protocol) -> str:
        """Say what exactly is computed."""
        if protocol.ssim == "across-channels":
            return "Gaussian of sigma 1.5 over channels, rows and columns with reflected borders, as in BSSTNet"
        return "11x11 Gaussian window of sigma 1.5 within the frame, mean over channels"


def psnr(output: NDArray[Any], reference: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio.

    Parameters
    ----------
    output, reference : ndarray, shape (H, W, C), uint8 or float64
        Samples, 0 to 255.

    Returns
    -------
    float
        In dB; infinite where both are the same.
    """
    error = np.subtract(output, reference, dtype=np.float64)
    mse = float(np.vdot(error, error)) / error.size
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ssim(output: NDArray[Any], reference: NDArray[Any]) -> float:
    """Structural similarity, each channel by itself.

    Parameters
    ----------
    output, reference : ndarray, shape (H, W, C), uint8 or float64
        Samples, 0 to 255; at least 11x11.

    Returns
    -------
    float
        -1 to 1, 1 where both are the same.

    Raises
    ------
    ConfigError
        If the window does not fit into the frame.
    """
    height, width = output.shape[:2]
    if min(height, width) < _WINDOW:
        raise ConfigError(f"frame of {width}x{height}: SSIM needs at least {_WINDOW}x{_WINDOW} samples")
    taps = cv2.getGaussianKernel(_WINDOW, _SIGMA)
    half = _WINDOW // 2

    def mean(samples: NDArray[np.float64]) -> NDArray[np.float64]:
        filtered: NDArray[Any] = cv2.sepFilter2D(samples, cv2.CV_64F, taps, taps)
        return filtered[half : height - half, half : width - half]

    return _similarity(output.astype(np.float64), reference.astype(np.float64), mean, peak=255)


def ssim_across_channels(output: NDArray[Any], reference: NDArray[Any]) -> float:
    """Structural similarity as BSSTNet's ``ssim_calculate`` has it.

    Parameters
    ----------
    output, reference : ndarray, shape (H, W, C), uint8 or float64
        Samples, 0 to 255.

    Returns
    -------
    float
        -1 to 1, 1 where both are the same.
    """

    def mean(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        filtered: NDArray[np.float32] = gaussian_filter(samples, _SIGMA)
        return filtered

    first, second = (np.divide(samples, 255, dtype=np.float32) for samples in (output, reference))
    return _similarity(first, second, mean, peak=1)


def _similarity(x: NDArray[Any], y: NDArray[Any], mean: Callable[[Any], NDArray[Any]], peak: float) -> float:
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean_x, mean_y = mean(x), mean(y)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = mean(x * y) - product
    variances = mean(x * x) + mean(y * y) - squares
    quality = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return float(quality.mean())
