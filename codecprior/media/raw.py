"""Headerless planar video (``.yuv``), whose layout is in the file's name or stated by the caller."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from codecprior.core.stream import CHROMA_SUBSAMPLING
from codecprior.errors import ConfigError, MediaError
from codecprior.media.planar import PlanarFile, PlanarLayout
from codecprior.media.source import DEFAULT_FRAME_RATE, Provenance

__all__ = ["RawFormat", "RawVideo"]

_MIN_DEPTH: Final = 8
_MAX_DEPTH: Final = 16
_NTSC_TOLERANCE: Final = Fraction(1, 100)
_CHROMA_DIGITS: Final = {name.replace(":", ""): name for name in CHROMA_SUBSAMPLING}

_SIZE_TOKEN = re.compile(r"(\d+)x(\d+)[pi]?")
_RATE_TOKEN = re.compile(r"(\d+(?:\.\d+)?)(?:fps|hz)?")
_DEPTH_TOKEN = re.compile(r"(\d+)bits?")
_CHROMA_TOKEN = re.compile(r"(?:yuv)?(4[024][024])(?:p(\d+)?(?:le)?)?")


@dataclass(frozen=True, kw_only=True)
class RawFormat:
    """Layout of a headerless planar file, as far as the caller states it; the rest is taken from the file's name.

    Parameters
    ----------
    width, height : int, optional
        Size in luma samples; given together.
    bit_depth : int, optional
        Bits per sample, 8 to 16; samples above 8 bit are 16 bit little endian words. 8 if nothing says otherwise.
    chroma_format : str, optional
        ``"4:0:0"``, ``"4:2:0"``, ``"4:2:2"`` or ``"4:4:4"``. 4:2:0 if nothing says otherwise.
    frame_rate : fractions.Fraction, optional
        Frames per second. 30 is assumed if nothing says otherwise.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    width: int | None = None
    height: int | None = None
    bit_depth: int | None = None
    chroma_format: str | None = None
    frame_rate: Fraction | None = None

    def __post_init__(self) -> None:
        size = self.width, self.height
        if size != (None, None) and not all(length is not None and length > 0 for length in size):
            raise ConfigError(f"raw size {self.width}x{self.height}: give a width and a height of 1 or more")
        if self.bit_depth is not None and not _MIN_DEPTH <= self.bit_depth <= _MAX_DEPTH:
            raise ConfigError(f"raw bit depth {self.bit_depth}: use {_MIN_DEPTH} to {_MAX_DEPTH}")
        if self.chroma_format is not None and self.chroma_format not in CHROMA_SUBSAMPLING:
            raise ConfigError(f"raw chroma format {self.chroma_format!r}: use one of {', '.join(CHROMA_SUBSAMPLING)}")
        if self.frame_rate is not None and self.frame_rate <= 0:
            raise ConfigError(f"raw frame rate {self.frame_rate}: use a positive number of frames per second")

    @classmethod
    def from_name(cls, name: str) -> RawFormat:
        """Read the layout from a file name in the style of the common test conditions.

        Parameters
        ----------
        name : str
            File name such as ``Kimono1_1920x1080_24.yuv`` or ``Tango2_3840x2160_60fps_10bit_420_jvet.yuv``.

        Returns
        -------
        RawFormat
            What the name says; None for what it does not say.

        Raises
        ------
        ConfigError
            If the name states a size, depth or rate that is out of range.
        """
        tokens = Path(name).stem.lower().split("_")
        sizes = [(at, found) for at, token in enumerate(tokens) if (found := _SIZE_TOKEN.fullmatch(token))]
        if not sizes:
            return cls()
        at, size = sizes[0]
        rate: Fraction | None = None
        depth: int | None = None
        chroma: str | None = None
        for token in tokens[at + 1 :]:
            if found := _CHROMA_TOKEN.fullmatch(token):
                chroma, depth = _CHROMA_DIGITS.get(found[1]), int(found[2]) if found[2] else depth
            elif found := _DEPTH_TOKEN.fullmatch(token):
                depth = int(found[1])
            elif found := _RATE_TOKEN.fullmatch(token):
                if rate is None:
                    rate = _parse_rate(found[1])
                elif depth is None and found[1].isdecimal() and _MIN_DEPTH <= int(found[1]) <= _MAX_DEPTH:
                    depth = int(found[1])  # as in CatRobot1_3840x2160p_60_10_709_420.yuv
        return cls(width=int(size[1]), height=int(size[2]), bit_depth=depth, chroma_format=chroma, frame_rate=rate)

    def or_else(self, other: RawFormat) -> RawFormat:
        """Fill what is not stated here from another format.

        Parameters
        ----------
        other : RawFormat
            Second choice.

        Returns
        -------
        RawFormat
            Union of both.
        """
        stated = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return dataclasses.replace(other, **stated)


class RawVideo(PlanarFile):
    """Frames of a headerless planar file.

    Parameters
    ----------
    path : path-like
        File.
    raw : RawFormat, optional
        What is known about the layout; the rest comes from the file's name.
    frame_rate : fractions.Fraction, optional
        Frames per second if neither ``raw`` nor the name state them.

    Raises
    ------
    MediaError
        If the size is not known or the file is no whole number of frames.
    """

    def __init__(self, path: str | Path, raw: RawFormat | None = None, *, frame_rate: Fraction | None = None) -> None:
        path = Path(path)
        try:
            named = RawFormat.from_name(path.name)
        except ConfigError as error:
            raise MediaError(f"{path}: the layout in its name makes no sense ({error}); rename the file") from error
        stated = raw or RawFormat()
        known = stated.or_else(named)
        if known.width is None or known.height is None:
            raise MediaError(
                f"{path}: the name does not tell the size; state width and height, "
                "or name the file like Name_1920x1080_60fps_10bit_420.yuv"
            )
        layout = PlanarLayout(
            width=known.width,
            height=known.height,
            bit_depth=known.bit_depth or _MIN_DEPTH,
            chroma_format=known.chroma_format or "4:2:0",
        )
        size_bytes = path.stat().st_size
        num_frames, rest = divmod(size_bytes, layout.frame_size_bytes)
        if rest or not num_frames:
            raise MediaError(
                f"{path}: {size_bytes} bytes are no whole number of {layout} frames of {layout.frame_size_bytes} bytes "
                f"({num_frames} and {rest} bytes more); state the right size, bit depth and chroma format"
            )
        origin: Provenance = "option" if stated.frame_rate else "file name" if named.frame_rate else "assumed"
        if origin == "assumed" and frame_rate:
            origin = "option"
        super().__init__(
            path,
            layout,
            range(0, size_bytes, layout.frame_size_bytes),
            frame_rate=known.frame_rate or frame_rate or DEFAULT_FRAME_RATE,
            frame_rate_from=origin,
        )


def _parse_rate(text: str) -> Fraction:
    """Frames per second from a name; 23.976, 29.97 and 59.94 stand for multiples of 1000/1001."""
    value = Fraction(text)
    ntsc = Fraction(round(value) * 1000, 1001)
    return ntsc if value.denominator != 1 and abs(value - ntsc) < _NTSC_TOLERANCE else value
