"""Degradation of a clip: parameters drawn once, noise anew for each frame, nothing that depends on who does the work.

Randomness comes from :class:`numpy.random.SeedSequence` over the seed, the name of the sequence and the number of the
frame, so that the same seed gives the same frames with any number of threads and processes, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from codecprior.datasets.degradation.operations import Operation, Resize
from codecprior.datasets.degradation.recipe import Recipe
from codecprior.datasets.degradation.steps import Size
from codecprior.errors import ConfigError
from codecprior.media.ahead import map_ahead
from codecprior.media.rgb import RGBFrame

__all__ = ["ClipParameters", "degrade_frame", "degrade_frames", "draw"]


@dataclass(frozen=True, kw_only=True)
class ClipParameters:
    """What is done to all frames of a clip.

    Parameters
    ----------
    seed : int
        Seed of the run.
    name : str
        Name of the sequence.
    size : tuple of int
        Width and height of the frames.
    operations : tuple of Operation
        In order; the last one gives frames their size again where an earlier one changed it.
    """

    seed: int
    name: str
    size: Size
    operations: tuple[Operation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "seed": self.seed,
            "name": self.name,
            "size": list(self.size),
            "operations": [operation.to_dict() for operation in self.operations],
        }


def draw(recipe: Recipe, seed: int, name: str, size: Size) -> ClipParameters:
    """Draw the parameters of a clip.

    Parameters
    ----------
    recipe : Recipe
        What to draw from.
    seed : int
        Seed of the run, 0 or more.
    name : str
        Name of the sequence; each one gets parameters of its own.
    size : tuple of int
        Width and height of its frames.

    Returns
    -------
    ClipParameters
        The same for the same arguments.

    Raises
    ------
    ConfigError
        If the seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed {seed}: give 0 or more")
    random = _random(seed, name)
    operations = [operation for step in recipe.steps for operation in step.draw(random, size)]
    operations.append(Resize(width=size[0], height=size[1], mode=recipe.resize_back))
    return ClipParameters(seed=seed, name=name, size=size, operations=tuple(operations))


def degrade_frame(frame: RGBFrame, parameters: ClipParameters, index: int) -> RGBFrame:
    """Degrade one frame of a clip.

    Parameters
    ----------
    frame : ndarray, shape (H, W, 3), uint8 or uint16
        R'G'B', full range.
    parameters : ClipParameters
        What is done to the clip.
    index : int
        Number of the frame in the clip, 0 or more, which its noise depends on.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        R'G'B'; 8 bit whatever the input has, as JPEG leaves no more.

    Raises
    ------
    ConfigError
        If the frame is not as large as the parameters say.
    """
    height, width = frame.shape[:2]
    if (width, height) != parameters.size:
        expected = "x".join(map(str, parameters.size))
        raise ConfigError(f"{parameters.name}: frame {index} is {width}x{height}, the clip {expected}")
    random = _random(parameters.seed, parameters.name, index)
    picture = frame.astype(np.float32)
    picture /= np.float32(np.iinfo(frame.dtype).max)
    for operation in parameters.operations:
        picture = operation(picture, random)
    degraded: RGBFrame = np.rint(np.clip(picture, 0, 1) * np.float32(255)).astype(np.uint8)
    return degraded


def degrade_frames(frames: Iterable[RGBFrame], parameters: ClipParameters, *, threads: int = 1) -> Iterator[RGBFrame]:
    """Degrade the frames of a clip from its first one on.

    Parameters
    ----------
    frames : iterable of ndarray, shape (H, W, 3), uint8 or uint16
        Taken one at a time.
    parameters : ClipParameters
        What is done to the clip.
    threads : int
        Frames that are worked on side by side; the result does not depend on it, memory does.

    Returns
    -------
    iterator of ndarray, shape (H, W, 3), uint8
        In the same order.

    Raises
    ------
    ConfigError
        While iterating, if a frame is not as large as the parameters say.
    """
    return map_ahead(
        lambda numbered: degrade_frame(numbered[1], parameters, numbered[0]),
        enumerate(frames),
        threads=threads,
        ahead=threads,
    )


def _random(seed: int, name: str, *index: int) -> np.random.Generator:
    digest = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest(), "big")
    return np.random.default_rng(np.random.SeedSequence([seed, digest], spawn_key=index))
