"""A blurry sequence and its priors to a sharp video or folder of pictures, whole or not at all, and a record of it.

The record, ``deblur.json`` in a folder or ``clip.mp4.json`` beside ``clip.mp4``, says what the output was made from, so
that a second run knows what is finished.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

import codecprior
from codecprior.datasets.manifest import Manifest, ManifestEntry
from codecprior.datasets.reader import ClipReader
from codecprior.errors import MediaError
from codecprior.media.files import written_whole
from codecprior.media.picture_files import PictureWriter
from codecprior.media.source import DEFAULT_FRAME_RATE
from codecprior.store.location import is_url
from codecprior.store.packed import open_packed
from codecprior.store.reader import PriorsStore, open_store
from codecprior.visualization.output import ClipWriter

from .deblurrer import Deblurrer

__all__ = ["VIDEO_EXTENSION", "DeblurJob", "deblur", "is_finished", "prepared_identity", "store_reader"]

VIDEO_EXTENSION: Final = ".mp4"
"""What tells a video to write from a folder of pictures."""

_RECORD: Final = "deblur.json"
_DIGITS: Final = 6
_PICTURE_THREADS: Final = 2

_Write = Callable[[NDArray[np.uint8]], None]


@dataclass(frozen=True, kw_only=True)
class DeblurJob:
    """A sequence and where its sharp frames go.

    Parameters
    ----------
    output : pathlib.Path
        A ``.mp4``, or a folder for one PNG for each frame.
    identity : mapping
        What the output depends on besides the networks, as JSON values.
    crf : int
        Quality of a video, 0 (lossless) to 51.
    overwrite : bool
        Whether an output that was made from something else is replaced.
    """

    output: Path
    identity: Mapping[str, Any]
    crf: int = 14
    overwrite: bool = False

    @property
    def is_video(self) -> bool:
        """Whether the output is a video."""
        return self.output.suffix.lower() == VIDEO_EXTENSION

    @property
    def record(self) -> Path:
        """The record of a finished output."""
        return self.output.with_name(f"{self.output.name}.json") if self.is_video else self.output / _RECORD

    def facts(self, deblurrer: Deblurrer) -> dict[str, Any]:
        """Return everything that the output depends on, as JSON values."""
        video = {"crf": self.crf} if self.is_video else {}
        facts = {"input": dict(self.identity), "networks": dict(deblurrer.facts), **video}
        plain: dict[str, Any] = json.loads(json.dumps(facts))  # as it will be read again: lists for tuples
        return plain


def is_finished(job: DeblurJob, deblurrer: Deblurrer) -> bool:
    """Tell whether the output of a job is there already.

    Parameters
    ----------
    job : DeblurJob
        The job.
    deblurrer : Deblurrer
        The networks.

    Returns
    -------
    bool
        Whether the same networks made it from the same input.

    Raises
    ------
    MediaError
        If there is another output that must not be replaced.
    """
    if not job.output.exists() or (job.output.is_dir() and not any(job.output.iterdir())):
        return False
    try:
        found = json.loads(job.record.read_text(encoding="utf-8"))["facts"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found == job.facts(deblurrer):
        return True
    if not job.overwrite:
        raise MediaError(
            f"{job.output}: exists and was made from something else; use --overwrite to replace it, or another -o"
        )
    return False


def store_reader(
    deblurrer: Deblurrer, name: str, store: str, frames: str | None, *, raw: Mapping[str, Any] | None = None
) -> ClipReader:
    """Return what reads a sequence that no manifest names.

    Parameters
    ----------
    deblurrer : Deblurrer
        The networks.
    name : str
        Name of the sequence.
    store : str
        Path or URL of the priors.
    frames : str, optional
        The blurry frames: video, raw planar file or folder of pictures; those in the store if not given.
    raw : mapping, optional
        Layout of a raw file as a manifest has it.

    Returns
    -------
    ClipReader
        Its manifest has this one sequence.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    entry = ManifestEntry(
        sequence=name,
        split="deblur",
        num_frames=len(open_store(store)),
        blurry=store if frames is None else str(Path(frames).absolute()),
        sharp=None,
        store=store if is_url(store) else str(Path(store).absolute()),
        raw=raw,
    )
    config = deblurrer.reader_config("decoded" if frames is None else "source")
    return ClipReader(Manifest(root="/", entries=(entry,)), config)


def prepared_identity(manifest: Manifest, entry: ManifestEntry, sides: Sequence[str] = ("blurry",)) -> dict[str, Any]:
    """Return what the output of a sequence of a prepared dataset depends on.

    Parameters
    ----------
    manifest : Manifest
        The dataset.
    entry : ManifestEntry
        The sequence.
    sides : sequence of str
        Sides that are read.

    Returns
    -------
    dict
        JSON values: what priors were made of, and where frames are or what they were packed from.

    Raises
    ------
    StoreError
        If priors or packed frames cannot be read.
    """
    packed = None if entry.frames is None else open_packed(manifest.resolve(entry.frames)).attributes
    return {
        "priors": open_store(manifest.resolve(entry.store)).attributes.get("extraction_digest"),
        "frames": {side: getattr(entry, side) for side in sides} if packed is None else packed.get("sources"),
    }


def deblur(
    deblurrer: Deblurrer,
    job: DeblurJob,
    reader: ClipReader,
    sequence: int = 0,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Make one sequence sharp; a few frames are in memory at a time.

    Parameters
    ----------
    deblurrer : Deblurrer
        The networks.
    job : DeblurJob
        Where to.
    reader : ClipReader
        Reads what the networks take: see :meth:`Deblurrer.reader_config` and :func:`store_reader`.
    sequence : int
        Position of the sequence in the reader's manifest.
    progress : callable, optional
        Called with the number of frames done and of all frames.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    CodecpriorError
        If something cannot be read or written, or the networks need what is not there. No output is left then.
    """
    begin = time.monotonic()
    entry = reader.manifest.entries[sequence]
    priors, count = open_store(reader.manifest.resolve(entry.store)), entry.num_frames
    with _opened(job, priors, lambda: _record(job, deblurrer, count, begin)) as write:
        for done, frame in enumerate(deblurrer.frames(reader, sequence), 1):
            write(frame)
            if progress is not None:
                progress(done, count)
    return count


@contextmanager
def _opened(job: DeblurJob, priors: PriorsStore, record: Callable[[], str]) -> Iterator[_Write]:
    """Give what appends a frame; the output gets its name, and its record, when the block ends without error."""
    if job.is_video:
        rate = priors.stream.frame_rate or DEFAULT_FRAME_RATE
        with written_whole(job.output) as partial, ClipWriter(partial, rate, job.crf) as clip:
            yield lambda frame: clip.write(_even(frame))
        with written_whole(job.record) as partial:
            partial.write_text(record(), encoding="utf-8")
        return
    names = iter(priors.attributes.get("source", {}).get("frame_names") or ())
    with PictureWriter(job.output, digits=_DIGITS, threads=_PICTURE_THREADS, overwrite=job.overwrite) as pictures:
        yield lambda frame: pictures.write(frame, next(names, None))
        (pictures.partial / _RECORD).write_text(record(), encoding="utf-8")


def _even(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row or column of an odd size, which 4:2:0 does not have."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame


def _record(job: DeblurJob, deblurrer: Deblurrer, num_frames: int, begin: float) -> str:
    facts = {
        "codecprior_version": codecprior.__version__,
        "torch_version": torch.__version__,
        "command": sys.argv,
        "num_frames": num_frames,
        "seconds": round(time.monotonic() - begin, 3),
        "facts": job.facts(deblurrer),
    }
    return json.dumps(facts, indent=2) + "\n"
