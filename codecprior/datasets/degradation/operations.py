"""What is done to each frame of a clip: operations whose parameters are drawn already, noise aside.

Pictures are float32 R'G'B', 0 to 1. As in the implementations that restoration networks were trained with, nothing is
rounded between operations but by JPEG, and only noise and JPEG clip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.datasets.degradation.kernels import KernelShape, bivariate_kernel, sinc_kernel

__all__ = [
    "RESIZE_MODES",
    "Blur",
    "GaussianNoise",
    "Jpeg",
    "Operation",
    "Picture",
    "PoissonNoise",
    "Resize",
    "Sharpen",
    "Sinc",
]

Picture = NDArray[Any]
"""R'G'B', shape (H, W, 3), float32, 0 to 1."""

RESIZE_MODES: Final = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
"""Interpolations by name; only ``"area"`` takes all pixels into account when it makes a picture smaller."""

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_GREY: Final = " in grey"
_PHOTONS: Final = 256
_STRIP_ROWS: Final = 64
_SHARPEN_SIZE: Final = 51
_SHARPEN_THRESHOLD: Final = 10 / 255


@dataclass(frozen=True, kw_only=True)
class Operation(ABC):
    """One step with fixed parameters."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Return the degraded picture.

        Parameters
        ----------
        picture : ndarray, shape (H, W, 3), float32
            R'G'B'; not changed.
        random : numpy.random.Generator
            Source of noise, one for each frame.

        Returns
        -------
        ndarray, shape (H', W', 3), float32
            R'G'B'.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the parameters as JSON values."""
        return {"operation": self.name, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Blur(Operation):
    """Convolution with an elliptic kernel; see :func:`~codecprior.datasets.degradation.kernels.bivariate_kernel`."""

    name: ClassVar[str] = "blur"
    shape: KernelShape
    size: int
    sigma_x: float
    sigma_y: float
    rotation: float
    beta: float

    @cached_property
    def _kernel(self) -> NDArray[np.float32]:
        return bivariate_kernel(
            self.shape,
            self.size,
            sigma_x=self.sigma_x,
            sigma_y=self.sigma_y,
            rotation=self.rotation,
            beta=self.beta,
        )

    def __str__(self) -> str:
        sigma = f"{self.sigma_x:.1f}" if self.sigma_x == self.sigma_y else f"{self.sigma_x:.1f} x {self.sigma_y:.1f}"
        return f"{self.shape} blur {sigma}" + ("" if self.beta == 1 else f" beta {self.beta:.1f}")

    def __call__(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Convolve the picture."""
        if self.shape == "gaussian" and self.beta == 1 and self.sigma_x == self.sigma_y:
            row = np.sqrt(self._kernel.diagonal())  # the kernel is the product of a column and this row
            return cv2.sepFilter2D(picture, -1, row / row.sum(), row / row.sum())
        return cv2.filter2D(picture, -1, self._kernel)


@dataclass(frozen=True, kw_only=True)
class Sinc(Operation):
    """Ideal low pass; see :func:`~codecprior.datasets.degradation.kernels.sinc_kernel`."""

    name: ClassVar[str] = "sinc"
    size: int
    cutoff: float

    @cached_property
    def _kernel(self) -> NDArray[np.float32]:
        return sinc_kernel(self.size, self.cutoff)

    def __str__(self) -> str:
        return f"sinc {self.cutoff / np.pi:.2f} pi"

    def __call__(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Convolve the picture."""
        return cv2.filter2D(picture, -1, self._kernel)


@dataclass(frozen=True, kw_only=True)
class Resize(Operation):
    """Interpolation to another size."""

    name: ClassVar[str] = "resize"
    width: int
    height: int
    mode: str

    def __str__(self) -> str:
        return f"{self.mode} to {self.width}x{self.height}"

    def __call__(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Interpolate the picture."""
        if picture.shape[:2] == (self.height, self.width):
            return picture
        return cv2.resize(picture, (self.width, self.height), interpolation=RESIZE_MODES[self.mode])


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Operation):
    """Additive white noise; ``sigma`` counts in 255ths, ``grey`` means the same noise in all channels."""

    name: ClassVar[str] = "gaussian noise"
    sigma: float
    grey: bool

    def __str__(self) -> str:
        return f"Gaussian noise {self.sigma:.1f}{_GREY * self.grey}"

    def __call__(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Add noise to the picture."""
        shape = (*picture.shape[:2], 1) if self.grey else picture.shape
        noise: Picture = random.standard_normal(shape, np.float32)
        noise *= np.float32(self.sigma / 255)
        return _clipped(picture + noise)


@dataclass(frozen=True, kw_only=True)
class PoissonNoise(Operation):
    """Shot noise of a sensor that counts one photon per level of 8 bit, times ``scale``.

    The reference counts as many photons as the picture has levels, rounded up to a power of two. That is 256 in all
    pictures but nearly flat ones, whose noise would become stronger from one frame of a clip to the next.
    """

    name: ClassVar[str] = "poisson noise"
    scale: float
    grey: bool

    def __str__(self) -> str:
        return f"Poisson noise {self.scale:.2f}{_GREY * self.grey}"

    def __call__(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Add noise to the picture."""
        ideal = (picture @ _LUMA)[..., None] if self.grey else picture
        ideal = np.rint(_clipped(ideal) * np.float32(255)) / np.float32(255)
        noise = np.empty_like(ideal)
        for rows in (slice(top, top + _STRIP_ROWS) for top in range(0, len(ideal), _STRIP_ROWS)):
            photons = random.poisson(ideal[rows] * np.float32(_PHOTONS))  # in 64 bit, too much for all rows at once
            noise[rows] = photons.astype(np.float32) / np.float32(_PHOTONS) - ideal[rows]
        noise *= np.float32(self.scale)
        return _clipped(picture + noise)


@dataclass(frozen=True, kw_only=True)
class Jpeg(Operation):
    """JPEG with subsampled chroma and back."""

    name: ClassVar[str] = "jpeg"
    quality: int

    def __str__(self) -> str:
        return f"JPEG {self.quality}"

    def __call__(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Code and decode the picture."""
        levels = np.rint(_clipped(picture) * np.float32(255)).astype(np.uint8)
        coded = cv2.imencode(".jpg", cv2.cvtColor(levels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        decoded: Picture = cv2.cvtColor(np.asarray(cv2.imdecode(coded[1], cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
        restored: Picture = decoded.astype(np.float32)
        restored /= np.float32(255)
        return restored


@dataclass(frozen=True, kw_only=True)
class Sharpen(Operation):
    """Unsharp masking where a picture differs from its blurred self by more than ten levels."""

    name: ClassVar[str] = "sharpen"
    weight: float

    def __str__(self) -> str:
        return f"sharpen {self.weight:.2f}"

    def __call__(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Sharpen the picture."""
        residual = picture - _soft(picture)
        where = _soft((np.abs(residual) > _SHARPEN_THRESHOLD).astype(np.float32))
        sharp = _clipped(picture + np.float32(self.weight) * residual)
        sharpened: Picture = picture + where * (sharp - picture)
        return sharpened


def _soft(picture: Picture) -> Picture:
    return cv2.GaussianBlur(picture, (_SHARPEN_SIZE, _SHARPEN_SIZE), 0)


def _clipped(picture: Picture) -> Picture:
    clipped: Picture = np.clip(picture, 0, 1)
    return clipped
