"""Steps of a recipe: operations with the distributions that their parameters are drawn from, once per clip."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from codecprior.datasets.degradation.operations import (
    RESIZE_MODES,
    Blur,
    GaussianNoise,
    Jpeg,
    Operation,
    PoissonNoise,
    Resize,
    Sharpen,
    Sinc,
)
from codecprior.errors import ConfigError

__all__ = [
    "STEPS",
    "BlurStep",
    "JpegStep",
    "NoiseStep",
    "ResizeStep",
    "SharpenStep",
    "ShuffleStep",
    "Size",
    "Step",
]

Size = tuple[int, int]
"""Width and height."""

_Range = tuple[float, float]

_KERNELS: Final = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
_DIRECTIONS: Final = ("up", "down", "keep")
_KERNEL_SIZES: Final = range(3, 102, 2)
_SMALL_KERNEL: Final = 13
"""Below this size, the cutoff of a sinc kernel is at least a third of pi, as the reference has it."""


class Step(ABC):
    """One step of a recipe, which gives operations when its parameters are drawn."""

    @abstractmethod
    def draw(self, random: np.random.Generator, whole: Size) -> list[Operation]:
        """Draw the parameters of a clip.

        Parameters
        ----------
        random : numpy.random.Generator
            Source of the parameters.
        whole : tuple of int
            Size of the clip, width and height.

        Returns
        -------
        list of Operation
            Empty if the step is left out.
        """


@dataclass(frozen=True, kw_only=True)
class BlurStep(Step):
    """Convolution with a random kernel.

    Parameters
    ----------
    sizes : sequence of int
        Kernel sizes to choose from, odd.
    kernels : mapping of str to float
        Weights of ``iso``, ``aniso``, ``generalized_iso``, ``generalized_aniso``, ``plateau_iso`` and
        ``plateau_aniso``.
    sigma : range
        Standard deviation in pixels, drawn for each axis of ``aniso`` kernels, which are turned by any angle.
    generalized_beta, plateau_beta : range
        Exponents; half of the clips get one between the lower end and 1, the others one above.
    sinc : float
        Probability of a sinc kernel instead.
    cutoff : range
        Its cutoff, in units of pi; at least 1/3 for kernels smaller than 13.
    probability : float
        Of blurring at all.
    """

    sizes: Sequence[int]
    kernels: Mapping[str, float] = field(default_factory=dict)
    sigma: _Range = (1.0, 1.0)
    generalized_beta: _Range = (1.0, 1.0)
    plateau_beta: _Range = (1.0, 1.0)
    sinc: float = 0.0
    cutoff: _Range = (1.0, 1.0)
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not _is_list(self.sizes) or any(size not in _KERNEL_SIZES for size in self.sizes):
            raise ConfigError(f"sizes {self.sizes}: give a list of odd numbers, 3 to {_KERNEL_SIZES[-1]}")
        _check_probability("sinc", self.sinc)
        _check_probability("probability", self.probability)
        if self.kernels or self.sinc < 1:
            _check_weights("kernels", self.kernels, _KERNELS)
        _set_range(self, "sigma", 0.01, 100)
        _set_range(self, "generalized_beta", 0.01, 100, around_one=True)
        _set_range(self, "plateau_beta", 0.01, 100, around_one=True)
        _set_range(self, "cutoff", 0.01, 1)

    def draw(self, random: np.random.Generator, whole: Size) -> list[Operation]:
        """Draw whether and how to blur."""
        if random.random() >= self.probability:
            return []
        size = int(random.choice(self.sizes))
        if random.random() < self.sinc:
            low, high = self.cutoff
            low = max(low, 1 / 3) if size < _SMALL_KERNEL else low
            return [Sinc(size=size, cutoff=random.uniform(low, max(low, high)) * math.pi)]
        kernel = _choose(random, self.kernels)
        sigma_x = sigma_y = random.uniform(*self.sigma)
        rotation = 0.0
        if kernel.endswith("aniso"):
            sigma_y, rotation = random.uniform(*self.sigma), random.uniform(-math.pi, math.pi)
        beta = 1.0
        if kernel.startswith(("generalized", "plateau")):
            low, high = self.generalized_beta if kernel.startswith("generalized") else self.plateau_beta
            beta = random.uniform(low, 1) if random.random() < 0.5 else random.uniform(1, high)
        return [
            Blur(
                shape="plateau" if kernel.startswith("plateau") else "gaussian",
                size=size,
                sigma_x=sigma_x,
                sigma_y=sigma_y,
                rotation=rotation,
                beta=beta,
            )
        ]


@dataclass(frozen=True, kw_only=True)
class ResizeStep(Step):
    """Interpolation to the size of the clip, divided by one number and times another, rounded down each time.

    Parameters
    ----------
    modes : sequence of str
        ``area``, ``bilinear`` and ``bicubic``, to choose from.
    divisor : range
        What the size of the clip is divided by.
    scale : range
        Factor on top; ``up`` draws from 1 to its upper end, ``down`` from its lower end to 1, ``keep`` is 1.
    directions : mapping of str to float
        Weights of ``up``, ``down`` and ``keep``.
    """

    modes: Sequence[str]
    divisor: _Range = (1.0, 1.0)
    scale: _Range = (1.0, 1.0)
    directions: Mapping[str, float] = field(default_factory=lambda: {"keep": 1.0})

    def __post_init__(self) -> None:
        if not _is_list(self.modes) or any(mode not in list(RESIZE_MODES) for mode in self.modes):
            raise ConfigError(f"modes {self.modes}: give a list of {', '.join(RESIZE_MODES)}")
        _check_weights("directions", self.directions, _DIRECTIONS)
        _set_range(self, "divisor", 1, 100)
        _set_range(self, "scale", 0.01, 4, around_one=True)

    def draw(self, random: np.random.Generator, whole: Size) -> list[Operation]:
        """Draw the new size and the interpolation."""
        divisor = random.uniform(*self.divisor)
        direction = _choose(random, self.directions)
        low, high = {"up": (1, self.scale[1]), "down": (self.scale[0], 1), "keep": (1, 1)}[direction]
        scale = random.uniform(low, high)
        width, height = (max(1, int(int(length / divisor) * scale)) for length in whole)
        return [Resize(width=width, height=height, mode=str(random.choice(self.modes)))]


@dataclass(frozen=True, kw_only=True)
class NoiseStep(Step):
    """Gaussian or Poisson noise, other noise in each frame.

    Parameters
    ----------
    gaussian : range
        Standard deviation in 255ths.
    poisson : range, optional
        Factor of the noise of a sensor that counts one photon per level.
    poisson_probability : float
        Probability of Poisson noise instead of Gaussian.
    grey : float
        Probability that all channels get the same noise.
    """

    gaussian: _Range
    poisson: _Range = (0.0, 0.0)
    poisson_probability: float = 0.0
    grey: float = 0.0

    def __post_init__(self) -> None:
        _set_range(self, "gaussian", 0, 255)
        _set_range(self, "poisson", 0, 100)
        _check_probability("poisson_probability", self.poisson_probability)
        _check_probability("grey", self.grey)

    def draw(self, random: np.random.Generator, whole: Size) -> list[Operation]:
        """Draw the kind of noise and its strength."""
        poisson, grey = random.random() < self.poisson_probability, random.random() < self.grey
        if poisson:
            return [PoissonNoise(scale=random.uniform(*self.poisson), grey=grey)]
        return [GaussianNoise(sigma=random.uniform(*self.gaussian), grey=grey)]


@dataclass(frozen=True, kw_only=True)
class JpegStep(Step):
    """JPEG compression.

    Parameters
    ----------
    quality : range
        Quality, 0 to 100; rounded down after it is drawn.
    """

    quality: _Range

    def __post_init__(self) -> None:
        _set_range(self, "quality", 0, 100)

    def draw(self, random: np.random.Generator, whole: Size) -> list[Operation]:
        """Draw the quality."""
        return [Jpeg(quality=int(random.uniform(*self.quality)))]


@dataclass(frozen=True, kw_only=True)
class SharpenStep(Step):
    """Unsharp masking with a Gaussian of 51 samples.

    Parameters
    ----------
    weight : range
        How much of the detail is added.
    """

    weight: _Range

    def __post_init__(self) -> None:
        _set_range(self, "weight", 0, 10)

    def draw(self, random: np.random.Generator, whole: Size) -> list[Operation]:
        """Draw the weight."""
        return [Sharpen(weight=random.uniform(*self.weight))]


@dataclass(frozen=True, kw_only=True)
class ShuffleStep(Step):
    """Groups of steps in random order.

    Parameters
    ----------
    groups : sequence of sequence of Step
        Each keeps its own order.
    """

    groups: Sequence[Sequence[Step]]

    def draw(self, random: np.random.Generator, whole: Size) -> list[Operation]:
        """Draw the order and the operations of all groups."""
        order = random.permutation(len(self.groups))
        return [operation for index in order for step in self.groups[index] for operation in step.draw(random, whole)]


STEPS: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {"blur": BlurStep, "resize": ResizeStep, "noise": NoiseStep, "jpeg": JpegStep, "sharpen": SharpenStep}
)
"""Steps by their names in recipes."""


def _choose(random: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names], float)
    return names[int(random.choice(len(names), p=shares / shares.sum()))]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _set_range(step: Step, name: str, lowest: float, highest: float, *, around_one: bool = False) -> None:
    """Check a range; a single number becomes a range of one."""
    value = getattr(step, name)
    ends = (value, value) if _is_number(value) else value
    if not (
        _is_list(ends)
        and len(ends) == 2
        and all(_is_number(end) for end in ends)
        and lowest <= ends[0] <= ends[1] <= highest
    ):
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(f"{name} {shown}: give a number or [low, high] within {lowest:g} to {highest:g}")
    if around_one and not ends[0] <= 1 <= ends[1]:
        raise ConfigError(f"{name} {value}: give a range that 1 lies in")
    object.__setattr__(step, name, (float(ends[0]), float(ends[1])))


def _check_probability(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ConfigError(f"{name} {value}: give a probability, 0 to 1")


def _check_weights(name: str, weights: Any, known: Sequence[str]) -> None:
    if (
        not isinstance(weights, Mapping)
        or any(key not in known or not _is_number(weight) or weight < 0 for key, weight in weights.items())
        or not sum(weights.values())
    ):
        raise ConfigError(f"{name} {weights}: give weights of 0 or more for some of {', '.join(known)}")
