"""Still pictures into blurry video of a shaken hand, with the true motion between its frames.

The camera wanders over a picture along smooth random paths of translation, rotation and zoom, objects cut from another
picture wander on their own, and the shutter is open for a part of each frame interval that differs from frame to frame,
so that sharp frames lie beside blurry ones. A frame is the mean light of many moments of its exposure; each moment is
sampled from the pictures once, through one composed transform. The sharp side is the moment in the middle of the
exposure. Motion leads from the middle of one exposure to that of the next and comes from the same transforms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.datasets.response import Light, Response, check_response, to_light, to_samples
from codecprior.errors import ConfigError

__all__ = ["ShakeFrame", "ShakeScene", "ShakeSettings", "render_shake"]

_BAND: Final = (0.02, 0.15)
"""Lowest and highest frequency of the wandering in cycles per frame: 0.6 and 4.5 Hz at 30 frames/s."""
_WAVES: Final = 8
_COVER: Final = 2
"""Width and height of a picture, in those of the frame, that a larger one is shrunk to."""
_OBJECT_SIZE: Final = (0.3, 0.6)
"""Least and greatest diameter of an object, in heights of the frame."""
_OUTLINE_SCALE: Final = 8
_MARGIN: Final = 2
"""Clear pixels around an object in its texture."""
_OPAQUE: Final = 254 / 255
_FRAME_STEPS: Final = 16
"""Moments in one frame interval at which the length of a path is measured."""

_Matrix = NDArray[np.float64]
"""Homogeneous transform of points (x, y, 1), shape (3, 3)."""
_Point = tuple[float, float]
_Flow = NDArray[np.float32]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ShakeSettings:
    """What moves how far, and for how long the shutter is open.

    Parameters
    ----------
    size : tuple of (int, int)
        Width and height of the frames.
    length : int
        Frames in a sequence.
    speed : tuple of (float, float)
        Least and greatest mean speed of translation in pixels per frame; each sequence and each object draws its own.
    rotation : float
        Greatest turn to either side in degrees.
    zoom : float
        Greatest change of scale in either direction, as a part of 1.
    objects : int
        Things that move on their own in front of the picture.
    exposure : tuple of (float, float)
        Least and greatest part of the frame interval in which the shutter is open; each frame draws its own.
    crf : Response
        Camera response.
    seed : int
        Of everything that is drawn.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    size: tuple[int, int] = (320, 192)
    length: int = 15
    speed: tuple[float, float] = (12.0, 28.0)
    rotation: float = 2.0
    zoom: float = 0.03
    objects: int = 0
    exposure: tuple[float, float] = (0.05, 0.95)
    crf: Response = "gamma2.2"
    seed: int = 0

    def __post_init__(self) -> None:
        width, height = self.size
        if min(self.size) < 16:
            raise ConfigError(f"size {width}x{height}: use 16 pixels or more a side")
        if self.length < 1:
            raise ConfigError(f"length {self.length}: use 1 frame or more")
        if not 0 <= self.speed[0] <= self.speed[1]:
            raise ConfigError(f"speed {self.speed[0]}-{self.speed[1]}: use a range of pixels per frame from 0 on")
        if not 0 < self.exposure[0] <= self.exposure[1] <= 1:
            raise ConfigError(f"exposure {self.exposure[0]}-{self.exposure[1]}: use a range above 0 and up to 1")
        if not 0 <= self.rotation <= 180:
            raise ConfigError(f"rotation {self.rotation}: use 0 to 180 degrees")
        if not 0 <= self.zoom < 1:
            raise ConfigError(f"zoom {self.zoom}: use 0 or more and less than 1")
        if self.objects < 0:
            raise ConfigError(f"objects {self.objects}: use 0 or more")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed}: use 0 or more")
        check_response(self.crf)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShakeFrame:
    """One frame with its true motion.

    Parameters
    ----------
    blur, sharp : ndarray, shape (H, W, 3), uint8 or uint16
        The whole exposure, and the moment in the middle of it; the type is that of the background.
    backward, forward : ndarray, shape (H, W, 2), float32
        Motion (x, y) in pixels to the frame before and to the one behind, signed as motion vectors are: what is at
        ``p`` here is at ``p + motion`` there. 0 where there is no such frame.
    backward_valid, forward_valid : ndarray, shape (H, W), bool
        Whether what a pixel shows is seen there, too: inside the frame, not hidden, and no mixture at the rim of an
        object on either side.
    exposure : float
        Part of the frame interval in which the shutter was open.
    """

    blur: NDArray[Any]
    sharp: NDArray[Any]
    backward: _Flow
    backward_valid: _Mask
    forward: _Flow
    forward_valid: _Mask
    exposure: float


class _Wave:
    """Smooth random function of time with a limited band, in which each frequency adds as much speed as any other."""

    def __init__(self, random: np.random.Generator) -> None:
        self._omega = 2 * np.pi * np.exp(random.uniform(np.log(_BAND[0]), np.log(_BAND[1]), _WAVES))
        self._phase = random.uniform(0, 2 * np.pi, _WAVES)

    def __call__(self, times: Any) -> NDArray[np.float64]:
        angles = np.multiply.outer(times, self._omega) + self._phase
        values: NDArray[np.float64] = (np.sin(angles) / self._omega).sum(axis=-1)
        return values


class _Path:
    """Where a layer is at any time: it turns and grows around a pivot, which wanders over the frame from a start."""

    def __init__(
        self,
        random: np.random.Generator,
        settings: ShakeSettings,
        pivot: tuple[float, float],
        start: tuple[float, float],
    ) -> None:
        times = np.linspace(-0.5, settings.length - 0.5, settings.length * _FRAME_STEPS + 1)
        self._pivot = pivot
        self._x, self._y, self._angle, self._zoom = (_Wave(random) for _ in range(4))
        x, y = self._x(times), self._y(times)
        distance = np.hypot(np.diff(x), np.diff(y)).sum() / settings.length
        self._scale = random.uniform(*settings.speed) / distance
        self._start = start[0] - self._scale * x.mean(), start[1] - self._scale * y.mean()
        self._turn = np.deg2rad(settings.rotation) / np.abs(self._angle(times)).max()
        self._growth = np.log1p(settings.zoom) / np.abs(self._zoom(times)).max()

    def at(self, time: float) -> _Matrix:
        """Return the transform from pixels of the frame to those of the layer."""
        angle, scale = self._turn * self._angle(time), np.exp(self._growth * self._zoom(time))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        x, y = self._start[0] + self._scale * self._x(time), self._start[1] + self._scale * self._y(time)
        left, top = self._pivot[0] - cos * x + sin * y, self._pivot[1] - sin * x - cos * y
        return np.array([[cos, -sin, left], [sin, cos, top], [0, 0, 1]])


@dataclass(frozen=True)
class _Layer:
    """A texture, float32 samples from 0 to 1, with its coverage (None: everywhere) and its path."""

    texture: NDArray[np.float32]
    coverage: NDArray[np.float32] | None
    path: _Path


class ShakeScene:
    """A background, objects in front of it, and how all of them move: everything that is drawn at random is drawn here.

    Parameters
    ----------
    pictures : sequence of ndarray, shape (H, W, 3), uint8 or uint16
        The background and, optionally, the picture that objects are cut from; else the background gives them, too.
        A background much larger than the frame is shrunk to twice its size; beyond its borders it is mirrored.
    settings : ShakeSettings
        What moves how far.
    """

    def __init__(self, pictures: Sequence[NDArray[Any]], settings: ShakeSettings) -> None:
        random = np.random.default_rng(settings.seed)
        width, height = settings.size
        self._settings = settings
        self._dtype = pictures[0].dtype
        self._exposures = random.uniform(*settings.exposure, settings.length)
        background = _shrunk(pictures[0], settings.size)
        rows, cols = background.shape[:2]
        path = _Path(random, settings, ((cols - 1) / 2, (rows - 1) / 2), ((width - 1) / 2, (height - 1) / 2))
        self._layers = [_Layer(background, None, path)]
        material = _shrunk(pictures[-1], settings.size)
        self._layers += [_cut_object(random, settings, material) for _ in range(settings.objects)]

    @property
    def num_layers(self) -> int:
        """The background, which is layer 0, and the objects from back to front."""
        return len(self._layers)

    def transform(self, layer: int, time: float) -> _Matrix:
        """Where a layer is.

        Parameters
        ----------
        layer : int
            0 for the background.
        time : float
            In frames: the exposure of frame t has its middle at t.

        Returns
        -------
        ndarray, shape (3, 3), float64
            Homogeneous transform from pixels (x, y) of the frame to pixels of the layer's texture.
        """
        return self._layers[layer].path.at(time)

    def frame(self, index: int) -> ShakeFrame:
        """Render a frame.

        Parameters
        ----------
        index : int
            From 0 to one below the length.

        Returns
        -------
        ShakeFrame
            Both sides and the motion to the neighbours.
        """
        settings = self._settings
        exposure = float(self._exposures[index])
        moments = self._moments(index, exposure)
        total = np.zeros((*settings.size[::-1], 3), np.float32)
        for moment in moments:
            total += self._light(moment)
        backward, backward_valid = self._motion(index, index - 1)
        forward, forward_valid = self._motion(index, index + 1)
        return ShakeFrame(
            blur=to_samples(total / np.float32(len(moments)), settings.crf, self._dtype),
            sharp=to_samples(self._light(index), settings.crf, self._dtype),
            backward=backward,
            backward_valid=backward_valid,
            forward=forward,
            forward_valid=forward_valid,
            exposure=exposure,
        )

    def _moments(self, index: int, exposure: float) -> NDArray[np.float64]:
        """Choose moments of an exposure, in the middle of equal parts so short that nothing moves a pixel in one."""
        width, height = self._settings.size
        corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]]).T
        times = index + exposure * np.linspace(-0.5, 0.5, _FRAME_STEPS + 1)
        longest = 0.0
        for layer in self._layers:
            steps = np.diff([layer.path.at(time)[:2] @ corners for time in times], axis=0)
            longest = max(longest, np.hypot(steps[:, 0], steps[:, 1]).sum(axis=0).max())
        parts = int(longest) + 1
        return index + exposure * ((np.arange(parts) + 0.5) / parts - 0.5)

    def _light(self, time: float) -> Light:
        """Render what the sensor sees at a moment."""
        crf = self._settings.crf
        background, *objects = self._layers
        light = to_light(self._sample(background.texture, background.path.at(time)), crf)
        for layer in objects:
            matrix = layer.path.at(time)
            share = self._coverage(layer, matrix)[..., None]
            light += share * (to_light(self._sample(layer.texture, matrix), crf) - light)
        return light

    def _motion(self, index: int, other: int) -> tuple[_Flow, _Mask]:
        width, height = self._settings.size
        flow, valid = np.zeros((height, width, 2), np.float32), np.zeros((height, width), np.bool_)
        if not 0 <= other < self._settings.length:
            return flow, valid
        rows, cols = np.indices((height, width), np.float64)
        here = np.stack([cols, rows], axis=-1)
        matrices = [(layer.path.at(index), layer.path.at(other)) for layer in self._layers]
        # How much of each pixel the layers in front cover, in this frame and in the other.
        hidden = np.zeros((2, height, width), np.float32)
        undecided = ~valid
        for layer, (now, then) in reversed(list(zip(self._layers, matrices, strict=True))):
            change = np.linalg.inv(then) @ now
            there = here @ change[:2, :2].T + change[:2, 2]
            inside = ((there >= 0) & (there <= (width - 1, height - 1))).all(axis=-1)
            behind = cv2.remap(hidden[1], there.astype(np.float32), None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
            share = self._coverage(layer, now)
            shown = undecided & (share > 0.5)
            flow[shown] = (there - here)[shown]
            whole = (share >= _OPAQUE) & (np.maximum(hidden[0], behind) <= 1 - _OPAQUE)
            valid[shown] = (inside & whole)[shown]
            undecided &= ~shown
            np.maximum(hidden, [share, self._coverage(layer, then)], out=hidden)
        return flow, valid

    def _coverage(self, layer: _Layer, matrix: _Matrix) -> NDArray[np.float32]:
        if layer.coverage is None:
            return np.ones(self._settings.size[::-1], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(layer.coverage, matrix[:2], self._settings.size, flags=flags), np.float32)

    def _sample(self, texture: NDArray[np.float32], matrix: _Matrix) -> NDArray[np.float32]:
        flags, border = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, cv2.BORDER_REFLECT_101
        sampled = cv2.warpAffine(texture, matrix[:2], self._settings.size, flags=flags, borderMode=border)
        return np.asarray(np.clip(sampled, 0, 1), np.float32)


def render_shake(pictures: Sequence[NDArray[Any]], settings: ShakeSettings) -> Iterator[ShakeFrame]:
    """Render a sequence.

    Parameters
    ----------
    pictures : sequence of ndarray, shape (H, W, 3), uint8 or uint16
        The background and, optionally, the picture that objects are cut from.
    settings : ShakeSettings
        What moves how far; the same settings give the same frames.

    Returns
    -------
    iterator of ShakeFrame
        Frames in display order, rendered when they are asked for.
    """
    return map(ShakeScene(pictures, settings).frame, range(settings.length))


def _shrunk(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Turn a picture into samples from 0 to 1, not much larger than the frame."""
    rows, cols = picture.shape[:2]
    scale = max(_COVER * size[0] / cols, _COVER * size[1] / rows)
    if scale < 1:
        picture = cv2.resize(picture, (round(cols * scale), round(rows * scale)), interpolation=cv2.INTER_AREA)
    samples: NDArray[np.float32] = np.divide(picture, np.iinfo(picture.dtype).max, dtype=np.float32)
    return samples


def _cut_object(random: np.random.Generator, settings: ShakeSettings, material: NDArray[np.float32]) -> _Layer:
    """Cut an ellipse or a polygon from anywhere in a picture, to wander around anywhere in the frame."""
    width, height = settings.size
    rows, cols = material.shape[:2]
    side = min(round(random.uniform(*_OBJECT_SIZE) * height), rows, cols)
    top, left = random.integers(rows - side + 1), random.integers(cols - side + 1)
    middle = (side - 1) / 2
    path = _Path(random, settings, (middle, middle), (random.uniform(0, width - 1), random.uniform(0, height - 1)))
    return _Layer(material[top : top + side, left : left + side], _outline(random, side), path)


def _outline(random: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Draw the coverage of a random shape with a smooth rim in a square texture, 0 at the borders."""
    if random.integers(2):
        angles, radii = np.linspace(0, 2 * np.pi, 64, endpoint=False), np.ones(64)
    else:
        corners = random.integers(5, 9)
        angles = 2 * np.pi * (np.arange(corners) + random.uniform(-0.3, 0.3, corners)) / corners
        radii = random.uniform(0.6, 1, corners)
    turn = random.uniform(0, np.pi)
    flat = np.stack([radii * np.cos(angles), random.uniform(0.6, 1) * radii * np.sin(angles)], axis=-1)
    points = flat @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    large = np.zeros((side * _OUTLINE_SCALE, side * _OUTLINE_SCALE), np.uint8)
    radius = (side / 2 - _MARGIN) * _OUTLINE_SCALE
    cv2.fillPoly(large, [np.rint(points * radius + large.shape[0] / 2).astype(np.int32)], 255)
    coverage = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)
    return np.divide(coverage, 255, dtype=np.float32)
