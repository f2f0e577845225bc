"""The priors of a frame as pictures: motion, residual, QP and mode maps, and what is drawn on the frame.

Every picture is RGB uint8 of shape (H, W, 3). ``size`` is its (width, height) in pixels and defaults to one pixel per
luma sample; lines, arrows and hatching are drawn at that size, so that they stay thin and crisp whatever the stream's.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL, CodingFlag
from codecprior.core.priors import FramePriors
from codecprior.visualization.colormap import RGB, motion_colors, qp_colors, residual_colors
from codecprior.visualization.modes import MODE_COLORS, BlockMode, block_modes

__all__ = [
    "ARROW_COLOR",
    "LEAST_ARROW",
    "arrow_overlay",
    "cu_edges",
    "draw_arrow",
    "hatch",
    "mode_map",
    "mode_overlay",
    "motion_map",
    "partition_overlay",
    "qp_map",
    "residual_map",
    "resize",
]

ARROW_COLOR: Final = (255, 214, 64)
"""Colour of motion arrows, which have a dark rim."""

LEAST_ARROW: Final = 3.0
"""Shortest arrow in pixels; what is shorter is a dot, because its head would hide where it points."""

_ARROW_RIM: Final = (16, 16, 20)
_ARROW_HEAD: Final = 5.0
_HATCH: Final = ((50, 52, 58), (74, 77, 84))
_HATCH_PERIOD: Final = 6
_EDGE_COLOR: Final = (255, 176, 0)
_EDGE_OPACITY: Final = 0.8
_DIM: Final = 0.7
_TINT: Final = 0.72
_TINT_EDGE: Final = 0.35
_SUBPIXEL_BITS: Final = 4


def resize(picture: RGB, size: tuple[int, int]) -> RGB:
    """Scale a picture: averages where it shrinks, repeats pixels where it grows.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        Colours.
    size : tuple of int
        Width and height to reach.

    Returns
    -------
    ndarray, shape (height, width, 3), uint8
        The scaled picture; the same array if nothing changes.
    """
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    method = cv2.INTER_AREA if size[0] <= width and size[1] <= height else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(picture), size, interpolation=method).astype(np.uint8, copy=False)


def hatch(picture: RGB, where: NDArray[np.bool_]) -> RGB:
    """Cover a part of a picture with the dark hatching that means "no value here".

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        Colours.
    where : ndarray, shape (H, W), bool
        Pixels to cover.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        A new picture.
    """
    height, width = where.shape
    stripe = (np.arange(height)[:, None] + np.arange(width)[None, :]) % _HATCH_PERIOD < _HATCH_PERIOD // 3
    pattern = np.array(_HATCH, np.uint8)[stripe.astype(np.intp)]
    return np.where(where[..., None], pattern, picture)


def motion_map(
    priors: FramePriors, full_scale: float, *, ref_list: int | str = 0, size: tuple[int, int] | None = None
) -> RGB:
    """Colour each block by its motion vector; blocks without one are hatched.

    Parameters
    ----------
    priors : FramePriors
        With motion vectors and references.
    full_scale : float
        Length of a fully saturated vector in luma samples.
    ref_list : {0, 1, "mean"}
        Vectors to show, as for :meth:`~codecprior.core.priors.FramePriors.flow`.
    size : tuple of int, optional
        Width and height of the picture.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        Hue is the direction from the block to its reference.
    """
    motion = priors.flow_grid(ref_list)
    size = size or priors.size
    return hatch(
        _scaled(priors, motion_colors(motion.displacement, full_scale), size), _mask(priors, ~motion.valid, size)
    )


def residual_map(priors: FramePriors, full_scale: int, *, plane: str = "y", size: tuple[int, int] | None = None) -> RGB:
    """Colour the residual samples by sign and magnitude.

    Parameters
    ----------
    priors : FramePriors
        With the residual of ``plane``.
    full_scale : int
        Magnitude of the last colour, in sample values.
    plane : {"y", "u", "v"}
        Colour plane; chroma planes are shown at luma size.
    size : tuple of int, optional
        Width and height of the picture.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        Exactly (128, 128, 128) where the residual is zero.
    """
    priors.stream.subsampling(plane)
    residual = priors.require(f"residual_{plane}")
    width, height = size or priors.size
    # Where the picture shrinks, single samples stand for their neighbours: averages of signed noise would all be grey.
    rows = np.arange(height) * residual.shape[0] // height
    cols = np.arange(width) * residual.shape[1] // width
    return residual_colors(residual[rows][:, cols], full_scale)


def qp_map(priors: FramePriors, low: int, high: int, *, size: tuple[int, int] | None = None) -> RGB:
    """Colour each coding unit by its quantisation parameter.

    Parameters
    ----------
    priors : FramePriors
        With ``qp`` and ``pred_mode``.
    low, high : int
        Values of the first and last colour.
    size : tuple of int, optional
        Width and height of the picture.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        Cells without priors are hatched.
    """
    size = size or priors.size
    return hatch(_scaled(priors, qp_colors(priors.require("qp"), low, high), size), _unknown(priors, size))


def mode_map(priors: FramePriors, *, size: tuple[int, int] | None = None) -> RGB:
    """Colour each block by how it was predicted.

    Parameters
    ----------
    priors : FramePriors
        With ``pred_mode`` and ``coding_flags``.
    size : tuple of int, optional
        Width and height of the picture.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        Colours of :data:`~codecprior.visualization.modes.MODE_COLORS`; cells without priors are hatched.
    """
    size = size or priors.size
    return hatch(_scaled(priors, MODE_COLORS[block_modes(priors)], size), _unknown(priors, size))


def mode_overlay(picture: RGB, priors: FramePriors) -> RGB:
    """Tint a frame by block mode and draw the coding units.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        The frame, at any scale.
    priors : FramePriors
        With ``pred_mode`` and ``coding_flags``.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        A new picture.
    """
    size = _size(picture)
    modes = mode_map(priors, size=size).astype(np.float32)
    tinted = _TINT * modes + (1 - _TINT) * _grey(picture)
    tinted[cu_edges(priors, size)] *= _TINT_EDGE
    return np.where(_unknown(priors, size)[..., None], modes, tinted).astype(np.uint8)


def cu_edges(priors: FramePriors, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """Find the pixels on the left and top edges of coding units.

    Parameters
    ----------
    priors : FramePriors
        With ``coding_flags``.
    size : tuple of int, optional
        Width and height of the picture to draw on.

    Returns
    -------
    ndarray, shape (H, W), bool
        Lines one pixel wide, at any size.
    """
    flags = priors.require("coding_flags")
    width, height = size or priors.size
    rows, cols = _cell_of_pixel(priors, (width, height))
    vertical, horizontal = (flags & CodingFlag.LEFT_EDGE) != 0, (flags & CodingFlag.TOP_EDGE) != 0
    # An edge sits in the first pixel of its cell. Where cells are smaller than a pixel, a pixel shows the edges of all.
    first_col, first_row = _first_pixel(cols, flags.shape[1]), _first_pixel(rows, flags.shape[0])
    edges = np.zeros((height, width), bool)
    pixel_row, cell_col = np.nonzero(vertical[rows])
    edges[pixel_row, first_col[cell_col]] = True
    cell_row, pixel_col = np.nonzero(horizontal[:, cols])
    edges[first_row[cell_row], pixel_col] = True
    return edges


def partition_overlay(picture: RGB, priors: FramePriors) -> RGB:
    """Draw the coding units on a slightly dimmed frame.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        The frame, at any scale.
    priors : FramePriors
        With ``coding_flags``.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        A new picture with lines one pixel wide.
    """
    drawn = picture * np.float32(_DIM)
    edges = cu_edges(priors, _size(picture))
    drawn[edges] = (1 - _EDGE_OPACITY) * drawn[edges] + _EDGE_OPACITY * np.array(_EDGE_COLOR, np.float32)
    return drawn.astype(np.uint8)


def arrow_overlay(picture: RGB, priors: FramePriors, gain: float, *, ref_list: int | str = 0, spacing: int = 20) -> RGB:
    """Draw motion vectors on a dimmed frame, from the centre of a coding unit towards its reference.

    Where units lie closer than ``spacing``, the largest speaks for its neighbours. Very little motion is a dot.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        The frame, at any scale.
    priors : FramePriors
        With all grid arrays.
    gain : float
        Pixels of arrow per luma sample of motion.
    ref_list : {0, 1, "mean"}
        Vectors to show, as for :meth:`~codecprior.core.priors.FramePriors.flow`; the one at the centre of each unit.
    spacing : int
        Least distance of arrows, in pixels.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        A new picture.
    """
    motion = priors.flow_grid(ref_list)
    units = priors.coding_units()
    x, y = units["x"] + units["width"] / 2, units["y"] + units["height"] / 2
    inside = (x < priors.box.width) & (y < priors.box.height)
    units, x, y = units[inside], x[inside], y[inside]
    cells = (y + priors.box.y % CELL).astype(np.intp) // CELL, (x + priors.box.x % CELL).astype(np.intp) // CELL
    moving = motion.valid[cells]
    vectors = motion.displacement[cells][moving] * np.float32(gain)
    centres = np.stack([x, y], axis=-1)[moving] * (_size(picture)[0] / priors.box.width)
    areas = (units["width"].astype(np.int64) * units["height"])[moving]
    drawn = (picture * np.float32(_DIM)).astype(np.uint8)
    for index in _thin(centres, areas, spacing):
        draw_arrow(drawn, centres[index], centres[index] + vectors[index])
    return drawn


def draw_arrow(picture: RGB, start: NDArray[Any], end: NDArray[Any]) -> None:
    """Draw one arrow into a picture, or a dot where it would be shorter than :data:`LEAST_ARROW`.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        Changed in place.
    start, end : ndarray, shape (2,)
        (x, y) in pixels.
    """
    length = float(np.hypot(*(end - start)))
    first, last = (tuple(int(v) for v in np.rint(point * (1 << _SUBPIXEL_BITS))) for point in (start, end))
    for color, thickness in ((_ARROW_RIM, 3), (ARROW_COLOR, 1)):
        if length < LEAST_ARROW:
            radius = (thickness << _SUBPIXEL_BITS) // 2
            cv2.circle(picture, first, radius, color, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
        else:
            head = min(_ARROW_HEAD / length, 0.5)
            cv2.arrowedLine(picture, first, last, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS, head)


def _thin(centres: NDArray[np.float64], areas: NDArray[np.int64], spacing: int) -> NDArray[np.intp]:
    bins = (centres // spacing).astype(np.int64)
    largest_first = np.argsort(-areas, kind="stable")
    _, first = np.unique(bins[largest_first], axis=0, return_index=True)
    return np.sort(largest_first[first])


def _size(picture: RGB) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


def _grey(picture: RGB) -> NDArray[np.float32]:
    luma: NDArray[np.float32] = picture.astype(np.float32) @ np.array((0.2126, 0.7152, 0.0722), np.float32)
    return luma[..., None]


def _scaled(priors: FramePriors, colors: RGB, size: tuple[int, int]) -> RGB:
    return resize(priors.expand(colors), size)


def _unknown(priors: FramePriors, size: tuple[int, int]) -> NDArray[np.bool_]:
    return _mask(priors, block_modes(priors) == BlockMode.NONE, size)


def _mask(priors: FramePriors, grid: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    rows, cols = _cell_of_pixel(priors, size)
    return grid[rows][:, cols]


def _cell_of_pixel(priors: FramePriors, size: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row of the grid for each pixel row, and column for each pixel column."""
    box, (width, height) = priors.box, size
    rows = (np.arange(height) * box.height // height + box.y % CELL) // CELL
    cols = (np.arange(width) * box.width // width + box.x % CELL) // CELL
    return rows, cols


def _first_pixel(cells: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """First pixel of each of ``count`` cells, given the cell of each pixel; the last pixel before it if it has none."""
    return np.minimum(np.searchsorted(cells, np.arange(count)), len(cells) - 1)
