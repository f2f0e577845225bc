"""What exporters and importers share: reports, atomic output, and facts of streams and pictures as JSON."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from codecprior.core.arrays import GRID_ARRAYS, PictureType
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.errors import ConfigError
from codecprior.media.folders import empty_folder, held_folder
from codecprior.store.partial import os_errors

__all__ = [
    "DAMAGED_JSON",
    "REVERSE_LEFT_OUT",
    "ExportReport",
    "ImportedPriors",
    "Progress",
    "check_same_stream",
    "picture_from_json",
    "picture_to_json",
    "reference_frames",
    "staged",
    "stream_from_json",
    "stream_to_json",
    "unknown_arrays",
    "visible",
]

DAMAGED_JSON: Final = (ArithmeticError, AttributeError, KeyError, TypeError, ValueError)
"""What reading JSON of unexpected content can raise."""

REVERSE_LEFT_OUT: Final = "the pass over the time-reversed clip was left out"
"""What an exporter says of a format that has no place for it."""

Progress = Callable[[int], object]
"""Called after each frame with the number of frames done."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an exporter wrote.

    Parameters
    ----------
    path : Path
        The file or folder that was written.
    num_frames : int
        Frames read.
    size_bytes : int
        Bytes of all files written.
    not_represented : tuple of str
        What the frames hold and the format cannot say, one sentence each.
    """

    path: Path
    num_frames: int
    size_bytes: int
    not_represented: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImportedPriors:
    """Priors found in another tool's files; iterating reads them, one frame at a time, as often as wanted.

    Parameters
    ----------
    stream : StreamInfo
        Facts of the stream, as far as the files tell.
    num_frames : int
        Number of frames.
    read : callable
        Returns a fresh iterator over the frames in display order.
    attributes : mapping
        Provenance to keep with the priors.
    unknown : tuple of str
        What the format cannot know, one sentence each.
    unknown_arrays : tuple of str
        Names of arrays that are None in every frame although a store has them.
    reverse : ImportedPriors, optional
        The pass over the time-reversed clip; iterating begins with the last frame.
    """

    stream: StreamInfo
    num_frames: int
    read: Callable[[], Iterator[FramePriors]] = field(repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    unknown_arrays: tuple[str, ...] = ()
    reverse: ImportedPriors | None = None

    def __len__(self) -> int:
        return self.num_frames

    def __iter__(self) -> Iterator[FramePriors]:
        return self.read()


@contextmanager
def staged(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary name for a file or folder and rename it to ``path`` when the block ends without error.

    ``.name.partial`` lies beside ``name`` meanwhile and is held by one process; what a killed one leaves, the next one
    that writes the same output removes.

    Parameters
    ----------
    path : path-like
        Final name. Its parent is created.
    overwrite : bool
        Whether something at ``path`` may be replaced.

    Yields
    ------
    Path
        A name in the same file system at which nothing exists yet.

    Raises
    ------
    ConfigError
        If ``path`` exists and may not be replaced.
    MediaError
        If another process is writing the same output.
    StoreError
        If the file system refuses: a full disk, a folder that is not writable.
    """
    final = Path(path)
    with os_errors(final):
        partial = final.with_name(f".{final.name}.partial")
        with held_folder(partial):
            try:
                _restore(partial / "old", final)
                if final.exists() and not overwrite:
                    raise ConfigError(f"{final} exists; choose another output or allow overwriting it (--overwrite)")
                empty_folder(partial)
                yield partial / "new"
                if final.is_dir():  # a folder cannot be renamed over another: move the old one aside first
                    final.rename(partial / "old")
                (partial / "new").replace(final)
            finally:
                _restore(partial / "old", final)
                shutil.rmtree(partial, ignore_errors=True)


def _restore(old: Path, final: Path) -> None:
    """Move a folder back where something stopped a run between moving it aside and putting another in its place."""
    if old.exists() and not final.exists():
        old.rename(final)


def visible(frame: FramePriors) -> FramePriors:
    """Return the part of a whole picture that the conformance window shows.

    Parameters
    ----------
    frame : FramePriors
        The coded picture or its visible part.

    Returns
    -------
    FramePriors
        Views on the same memory.

    Raises
    ------
    ConfigError
        If the frame is a crop of the visible picture.
    """
    shown, box = frame.stream.output_box, frame.box
    if box == shown:
        return frame
    x, y = shown.x - box.x, shown.y - box.y
    if x < 0 or y < 0 or x + shown.width > box.width or y + shown.height > box.height:
        raise ConfigError(
            f"frame {frame.frame_index} is a {box.width}x{box.height} crop of a {shown.width}x{shown.height} picture; "
            "export whole pictures"
        )
    return frame.crop(x, y, shown.width, shown.height)


def check_same_stream(frame: FramePriors, stream: StreamInfo) -> None:
    """Refuse a frame of another stream than the first one.

    Parameters
    ----------
    frame : FramePriors
        The next frame.
    stream : StreamInfo
        Stream of the first frame.

    Raises
    ------
    ConfigError
        If they differ.
    """
    if frame.stream != stream:
        raise ConfigError(
            f"frame {frame.frame_index} is of {frame.stream}, the first one of {stream}; export one stream"
        )


def stream_to_json(stream: StreamInfo) -> dict[str, Any]:
    """Return the facts of a stream as plain JSON values.

    Parameters
    ----------
    stream : StreamInfo
        The stream.

    Returns
    -------
    dict
        Field values; the frame rate as ``"30000/1001"``.
    """
    facts = dataclasses.asdict(stream)
    facts["frame_rate"] = None if stream.frame_rate is None else str(stream.frame_rate)
    return facts


def stream_from_json(facts: Mapping[str, Any]) -> StreamInfo:
    """Undo :func:`stream_to_json`.

    Parameters
    ----------
    facts : mapping
        Values as read from JSON; unknown keys are ignored.

    Returns
    -------
    StreamInfo
        The stream.

    Raises
    ------
    DAMAGED_JSON
        If a value is missing or of the wrong kind.
    """
    width, height = (int(value) for value in facts["coded_size"])
    left, right, top, bottom = (int(value) for value in facts["conformance_window"])
    return StreamInfo(
        codec=str(facts["codec"]),
        coded_size=(width, height),
        conformance_window=(left, right, top, bottom),
        bit_depth=int(facts["bit_depth"]),
        chroma_format=str(facts["chroma_format"]),
        frame_rate=None if facts["frame_rate"] is None else Fraction(facts["frame_rate"]),
        mv_scale=int(facts["mv_scale"]),
    )


def picture_to_json(picture: PictureInfo) -> dict[str, Any]:
    """Return the facts of a picture as plain JSON values.

    Parameters
    ----------
    picture : PictureInfo
        The picture.

    Returns
    -------
    dict
        Field values; the picture type as its letter.
    """
    return {**dataclasses.asdict(picture), "picture_type": picture.picture_type.name}


def picture_from_json(facts: Mapping[str, Any]) -> PictureInfo:
    """Undo :func:`picture_to_json`.

    Parameters
    ----------
    facts : mapping
        Values as read from JSON; unknown keys are ignored.

    Returns
    -------
    PictureInfo
        The picture.

    Raises
    ------
    DAMAGED_JSON
        If a value is missing or of the wrong kind.
    """
    names = [item.name for item in dataclasses.fields(PictureInfo)]
    return PictureInfo(**{**{name: facts[name] for name in names}, "picture_type": PictureType[facts["picture_type"]]})


def reference_frames(pictures: Iterable[PictureInfo]) -> list[dict[int, int]]:
    """Map picture order counts to frame indices, for each frame within its own coded video sequence.

    Parameters
    ----------
    pictures : iterable of PictureInfo
        All pictures in display order.

    Returns
    -------
    list of dict
        For each frame, frame index by POC. Frames of one sequence share one dict.
    """
    by_sequence: dict[int, dict[int, int]] = {}
    result = []
    for index, picture in enumerate(pictures):
        mapping = by_sequence.setdefault(picture.cvs, {})
        mapping[picture.poc] = index
        result.append(mapping)
    return result


def unknown_arrays(stream: StreamInfo, known: Iterable[str]) -> tuple[str, ...]:
    """Name the arrays of a store that a format does not give.

    Parameters
    ----------
    stream : StreamInfo
        The stream; a monochrome one has no chroma residual.
    known : iterable of str
        Names that the format gives.

    Returns
    -------
    tuple of str
        Names in the order of the store format; decoded pictures, which a store need not have, are left out.
    """
    names = [spec.name for spec in GRID_ARRAYS] + [f"residual_{plane}" for plane in stream.planes]
    present = set(known)
    return tuple(name for name in names if name not in present)
