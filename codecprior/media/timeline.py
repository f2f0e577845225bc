"""Times of the coded frames of a video, read from its packets without decoding them."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple, cast

from codecprior.errors import MediaError
from codecprior.media.container import opened_track

__all__ = ["Timeline", "Window", "read_timeline"]

_JITTER_TICKS: Final = 2
"""Difference between frame distances that rounding to the time base explains."""
_RATE_DENOMINATOR: Final = 1001
_UNTIMED_FORMATS: Final = frozenset({"avi"})
"""Containers whose times are made up by the reader and wrong for reordered frames."""


class Window(NamedTuple):
    """Frames with ``first <= pts < end``, decodable from the frame at ``keyframe`` on; None for no limit."""

    keyframe: int
    first: int | None
    end: int | None


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Times of the coded frames.

    Parameters
    ----------
    pts : list of int
        Presentation times in display order, in units of ``time_base``; empty where the file does not give every frame a
        time of its own.
    coded_pts : list of int
        Times of all coded frames in decoding order, those that are not to be shown included; empty as ``pts``.
    keyframes : list of int
        Times of the frames where decoding can start, ascending.
    num_packets : int
        Coded frames that are to be shown.
    time_base : fractions.Fraction
        Seconds per unit.
    header_rate : fractions.Fraction, optional
        Frames per second that the container or codec states.
    """

    pts: list[int]
    coded_pts: list[int]
    keyframes: list[int]
    num_packets: int
    time_base: Fraction
    header_rate: Fraction | None

    @property
    def is_variable(self) -> bool:
        """Whether the time between frames differs by more than rounding."""
        steps = [later - earlier for earlier, later in pairwise(self.pts)]
        return bool(steps) and max(steps) - min(steps) > _JITTER_TICKS

    @property
    def mean_rate(self) -> Fraction | None:
        """Mean frames per second, None for less than two frames with times."""
        if len(self.pts) < 2:
            return None
        seconds = (self.pts[-1] - self.pts[0]) * self.time_base
        return ((len(self.pts) - 1) / seconds).limit_denominator(_RATE_DENOMINATOR)

    def windows(self, limit: int) -> list[Window]:
        """Cut the clip at its key frames, and further where more than ``limit`` frames follow one.

        Parameters
        ----------
        limit : int
            Frames per window.

        Returns
        -------
        list of Window
            In display order, every frame in exactly one of them.
        """
        starts = list(self._window_starts(limit))
        ends = [*(first for _, first in starts[1:]), None]
        return [
            Window(keyframe, None if number == 0 else first, end)
            for number, ((keyframe, first), end) in enumerate(zip(starts, ends, strict=True))
        ]

    def keyframe_before(self, pts: int) -> int | None:
        """Return the last key frame before a time.

        Parameters
        ----------
        pts : int
            Time in units of ``time_base``.

        Returns
        -------
        int or None
            Its time, None if there is none.
        """
        at = bisect.bisect_left(self.keyframes, pts)
        return self.keyframes[at - 1] if at else None

    def _window_starts(self, limit: int) -> Iterator[tuple[int, int]]:
        cuts = [0, *(bisect.bisect_left(self.pts, keyframe) for keyframe in self.keyframes[1:]), len(self.pts)]
        for keyframe, (first, end) in zip(self.keyframes, pairwise(cuts), strict=True):
            for at in range(first, end, limit):
                yield keyframe, self.pts[at]


def read_timeline(path: Path) -> Timeline:
    """Read the times of all frames of a video's main track.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    Timeline
        Times, key frames and frame rate.

    Raises
    ------
    MediaError
        If the file cannot be read to its end.
    """
    pts: list[int] = []
    coded_pts: list[int | None] = []
    keyframes: list[int] = []
    num_packets = 0
    with opened_track(path) as (container, stream):
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise MediaError(f"{path}: coded frame {num_packets} is truncated or damaged; copy the file again")
            if packet.size:
                coded_pts.append(packet.pts)
            if packet.size and not packet.is_discard:
                num_packets += 1
                if packet.pts is not None:
                    pts.append(packet.pts)
                    if packet.is_keyframe:
                        keyframes.append(packet.pts)
        time_base = stream.time_base or Fraction(1)
        header_rate = stream.guessed_rate or stream.average_rate
        untimed = container.format.name in _UNTIMED_FORMATS
    # Time that runs backwards between key frames comes from files that were joined.
    if untimed or len(set(pts)) != num_packets or keyframes != sorted(keyframes) or not keyframes:
        pts, coded_pts, keyframes = [], [], []
    return Timeline(
        pts=sorted(pts),
        coded_pts=[] if None in coded_pts else cast("list[int]", coded_pts),
        keyframes=keyframes,
        num_packets=num_packets,
        time_base=time_base,
        header_rate=header_rate,
    )
