"""Blur kernels of Real-ESRGAN (Wang et al., ICCVW 2021): Gaussians, their generalised and plateau forms, sinc.

All but the last are functions of the squared Mahalanobis distance q of a sample to the centre under the covariance
R diag(sigma_x^2, sigma_y^2) R^T, where R turns by an angle: exp(-q^beta / 2) and 1 / (1 + q^beta).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["KernelShape", "bivariate_kernel", "sinc_kernel"]

KernelShape = Literal["gaussian", "plateau"]


def bivariate_kernel(
    shape: KernelShape, size: int, *, sigma_x: float, sigma_y: float, rotation: float = 0.0, beta: float = 1.0
) -> NDArray[np.float32]:
    """Return a kernel with elliptic contours.

    Parameters
    ----------
    shape : {"gaussian", "plateau"}
        exp(-q^beta / 2) or 1 / (1 + q^beta).
    size : int
        Rows and columns, odd.
    sigma_x, sigma_y : float
        Standard deviations along the axes before rotation, in pixels, above 0.
    rotation : float
        Angle in radians.
    beta : float
        Exponent, above 0; 1 makes a plain Gaussian.

    Returns
    -------
    ndarray, shape (size, size), float32
        Sums to 1.

    References
    ----------
    .. [1] Pascal et al., "Parameter Estimation For Multivariate Generalized Gaussian Distributions", IEEE Transactions
       on Signal Processing 61 (2013), DOI 10.1109/TSP.2013.2282909.
    """
    x, y = _coordinates(size)
    along = x * np.cos(rotation) + y * np.sin(rotation)
    across = y * np.cos(rotation) - x * np.sin(rotation)
    distance = ((along / sigma_x) ** 2 + (across / sigma_y) ** 2) ** beta
    return _normalised(np.exp(-distance / 2) if shape == "gaussian" else 1 / (1 + distance))


def sinc_kernel(size: int, cutoff: float) -> NDArray[np.float32]:
    """Return the circularly symmetric ideal low pass, cut to a square, which makes edges ring.

    Parameters
    ----------
    size : int
        Rows and columns, odd.
    cutoff : float
        Angular frequency in radians per pixel, above 0; at most pi.

    Returns
    -------
    ndarray, shape (size, size), float32
        cutoff J1(cutoff r) / (2 pi r), cutoff^2 / (4 pi) in the middle, brought to a sum of 1.
    """
    from scipy.special import j1

    x, y = _coordinates(size)
    radius = np.hypot(x, y)
    radius[size // 2, size // 2] = 1
    kernel = cutoff * j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return _normalised(kernel)


def _coordinates(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis = np.arange(size, dtype=float) - size // 2
    x, y = np.meshgrid(axis, axis)
    return x, y


def _normalised(kernel: NDArray[np.float64]) -> NDArray[np.float32]:
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised
