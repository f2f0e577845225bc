"""The same few clips each time that a training is looked at, and pictures of what the network makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from codecprior.datasets.manifest import ManifestEntry
from codecprior.datasets.sampling import ClipRequest, Sampling
from codecprior.visualization.colormap import RGB
from codecprior.visualization.theme import Theme, blank

from .metric_fidelity import psnr

__all__ = ["FixedClips", "Shown", "sheet"]

_LEAST_WIDTH: Final = 256
_MARGIN: Final = 12
_LINE: Final = 22


class FixedClips(Sampling):
    """One clip from the middle of each of some sequences, in time and place.

    Parameters
    ----------
    entries : sequence of ManifestEntry
        Sequences to choose from, all over.
    num_clips : int
        Clips, if there are as many sequences.
    num_frames : int
        Frames of a clip, or all of a shorter sequence.
    crop : int
        Side of the square that is read.
    """

    def __init__(self, entries: Sequence[ManifestEntry], *, num_clips: int, num_frames: int, crop: int) -> None:
        count = min(num_clips, len(entries))
        self._crop = crop
        self._clips = []
        for sequence in (number * len(entries) // count for number in range(count)):
            length = entries[sequence].num_frames
            first = max(0, length - num_frames) // 2
            self._clips.append((sequence, range(first, min(length, first + num_frames))))

    def __len__(self) -> int:
        return len(self._clips)

    def identity(self) -> dict[str, Any]:
        """Return what decides the samples; see :class:`~codecprior.datasets.sampling.Sampling`."""
        return {
            "crop": self._crop,
            "clips": [[sequence, frames.start, frames.stop] for sequence, frames in self._clips],
        }

    def request(self, index: int, epoch: int = 0) -> ClipRequest:
        """Return a clip, the same one in each epoch; see :class:`~codecprior.datasets.sampling.Sampling`."""
        sequence, frames = self._clips[index]
        return ClipRequest(sequence=sequence, frames=frames, crop=(self._crop, self._crop), position=(0.5, 0.5))


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What became of a clip.

    Parameters
    ----------
    name : str
        Name of the sequence.
    frames : mapping of str to ndarray, shape (T, H, W, 3), uint8
        R'G'B' by what they are, in the order to show; one of them is ``"sharp"``.
    """

    name: str
    frames: Mapping[str, NDArray[np.uint8]]

    @classmethod
    def of(cls, name: str, frames: Mapping[str, Tensor]) -> Shown:
        """Take frames of shape (T, 3, H, W), 0 to 1, as 8-bit samples."""
        return cls(
            name=name,
            frames={
                title: (each.clamp(0, 1) * 255).round().byte().movedim(1, -1).cpu().numpy()
                for title, each in frames.items()
            },
        )

    def psnr(self, title: str) -> float:
        """Return the mean PSNR of frames against the sharp ones, in dB; 100 for frames that are equal."""
        pairs = zip(self.frames[title], self.frames["sharp"], strict=True)
        return float(np.mean([min(psnr(each, sharp), 100.0) for each, sharp in pairs]))


def sheet(clips: Sequence[Shown], heading: str) -> RGB:
    """Draw the middle frame of each clip, one row a clip.

    Parameters
    ----------
    clips : sequence of Shown
        Clips with the same kinds of frames.
    heading : str
        What stands above.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        The sheet.
    """
    theme = Theme()
    titles = list(clips[0].frames)
    rows = [[_large(clip.frames[title][len(clip.frames[title]) // 2]) for title in titles] for clip in clips]
    width = max(picture.shape[1] for row in rows for picture in row)
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    top = 2 * _MARGIN + 2 * _LINE
    result = blank(_MARGIN + len(titles) * (width + _MARGIN), top + sum(height + _LINE + _MARGIN for height in heights))
    theme.headline.draw(result, theme.headline.fit(heading, result.shape[1] - 2 * _MARGIN), _MARGIN, _MARGIN)
    for column, title in enumerate(titles):
        theme.title.draw(result, title, _MARGIN + column * (width + _MARGIN), _MARGIN + _LINE + 4)
    for clip, row, height in zip(clips, rows, heights, strict=True):
        for column, (title, picture) in enumerate(zip(titles, row, strict=True)):
            left = _MARGIN + column * (width + _MARGIN)
            result[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            label = clip.name if title == "sharp" else f"{clip.psnr(title):.2f} dB"
            theme.body.draw(result, theme.body.fit(label, width), left, top + height + 6)
        top += height + _LINE + _MARGIN
    return result


def _large(picture: RGB) -> RGB:
    factor = -(-_LEAST_WIDTH // picture.shape[1])
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)
