"""Numbers into colours: motion vectors by direction and length, signed residuals, quantisation parameters.

The motion wheel is the one of Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 92 (2011),
DOI 10.1007/s11263-010-0390-2: no motion is white, direction is hue, length is saturation.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MID_GREY", "RGB", "heat_colors", "motion_colors", "qp_colors", "residual_colors", "wheel_picture"]

RGB = NDArray[np.uint8]
"""Colours, shape (..., 3), red first."""

MID_GREY: Final = 128
"""Level of all three channels where a residual is zero."""

# The wheel's hues in twelve-o'clock order of the paper: 55 steps, unevenly shared because the eye splits red to yellow
# more finely than yellow to green.
_HUE_STEPS: Final = np.array([0, 15, 21, 25, 36, 49, 55], float)
_HUE_COLORS: Final = np.array(
    [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0)], float
)

# Blue below and orange above zero stay apart under every common colour-vision deficiency, and lightness rises all the
# way from most negative to most positive, so that the map also survives a black-and-white print.
_RESIDUAL_LEVELS: Final = np.array([-127, -64, 0, 64, 127], float)
_RESIDUAL_COLORS: Final = np.array(
    [(8, 32, 120), (48, 92, 178), (MID_GREY,) * 3, (232, 152, 64), (255, 234, 168)], float
)


def _interpolate(
    position: NDArray[Any], positions: NDArray[np.float64], colors: NDArray[np.float64]
) -> NDArray[np.float64]:
    channels = [np.interp(position, positions, channel) for channel in colors.T]
    return np.stack(channels, axis=-1)


_RESIDUAL_TABLE: Final = np.rint(_interpolate(np.arange(-127, 128), _RESIDUAL_LEVELS, _RESIDUAL_COLORS)).astype(
    np.uint8
)


def motion_colors(vectors: NDArray[Any], full_scale: float) -> RGB:
    """Colour motion vectors with the wheel of Baker et al.

    Parameters
    ----------
    vectors : ndarray, shape (..., 2)
        (x, y), x to the right and y down.
    full_scale : float
        Length at which a colour is fully saturated, above 0, in the unit of ``vectors``. Longer vectors look like it.

    Returns
    -------
    ndarray, shape (..., 3), uint8
        White for no motion; red to the right, yellow down, cyan to the left, violet up.
    """
    x, y = vectors[..., 0].astype(np.float32), vectors[..., 1].astype(np.float32)
    hue = np.arctan2(y, x) / (2 * np.pi) % 1 * _HUE_STEPS[-1]
    saturation = np.minimum(np.hypot(x, y) / np.float32(full_scale), 1)[..., None]
    colors: RGB = np.rint(255 - saturation * (255 - _interpolate(hue, _HUE_STEPS, _HUE_COLORS))).astype(np.uint8)
    return colors


def wheel_picture(diameter: int, background: tuple[int, int, int]) -> RGB:
    """Draw the motion wheel: the colour of every vector up to full scale, at the place the vector points to.

    Parameters
    ----------
    diameter : int
        Side of the picture in pixels.
    background : tuple of int
        Colour outside the disc.

    Returns
    -------
    ndarray, shape (diameter, diameter, 3), uint8
        The wheel with a smooth rim.
    """
    radius = diameter / 2
    offset = np.arange(diameter) + 0.5 - radius
    vectors = np.stack(np.broadcast_arrays(offset[None, :], offset[:, None]), axis=-1)
    inside = np.clip(radius - np.hypot(vectors[..., 0], vectors[..., 1]), 0, 1)[..., None]
    blended = inside * motion_colors(vectors, radius) + (1 - inside) * np.array(background)
    wheel: RGB = np.rint(blended).astype(np.uint8)
    return wheel


def residual_colors(residual: NDArray[Any], full_scale: int) -> RGB:
    """Colour signed residuals.

    Parameters
    ----------
    residual : ndarray, shape (...)
        Signed sample values.
    full_scale : int
        Magnitude that gets the last colour, above 0. Larger ones look like it.

    Returns
    -------
    ndarray, shape (..., 3), uint8
        Exactly (128, 128, 128) at zero, blue below, orange above; lightness rises with the value.
    """
    level = np.rint(residual * np.float32(127 / full_scale))
    index: NDArray[np.intp] = (np.clip(level, -127, 127) + 127).astype(np.intp)
    colors: RGB = _RESIDUAL_TABLE[index]
    return colors


def qp_colors(qp: NDArray[Any], low: int, high: int) -> RGB:
    """Colour quantisation parameters with viridis, which is perceptually uniform.

    Parameters
    ----------
    qp : ndarray, shape (...)
        Quantisation parameters.
    low, high : int
        Values of the first and last colour, ``low < high``. Values outside look like the nearer end.

    Returns
    -------
    ndarray, shape (..., 3), uint8
        Dark violet for fine quantisation to yellow for coarse.
    """
    return _from_table(cv2.COLORMAP_VIRIDIS, (qp.astype(np.float32) - low) / (high - low))


def heat_colors(values: NDArray[Any], low: float, high: float) -> RGB:
    """Colour values with inferno, which is perceptually uniform.

    Parameters
    ----------
    values : ndarray, shape (...)
        Values.
    low, high : float
        Values of the first and last colour, ``low < high``. Values outside look like the nearer end.

    Returns
    -------
    ndarray, shape (..., 3), uint8
        Black, over red, to light yellow.
    """
    return _from_table(cv2.COLORMAP_INFERNO, (values.astype(np.float32) - low) / (high - low))


def _from_table(colormap: int, position: NDArray[Any]) -> RGB:
    """Take colours of one of OpenCV's maps at positions from 0 to 1; those outside look like the nearer end."""
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], colormap)[:, 0, ::-1]
    colors: RGB = np.ascontiguousarray(table[np.rint(np.clip(position, 0, 1) * 255).astype(np.intp)], dtype=np.uint8)
    return colors
