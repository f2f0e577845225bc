"""A store read to its last byte: file digests, chunk checksums, and whether the values agree with each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from codecprior.core.arrays import PredMode
from codecprior.core.priors import FramePriors
from codecprior.errors import CorruptStoreError, SchemaError, StoreError
from codecprior.store.location import Location, sha256_of
from codecprior.store.reader import PriorsStore, open_store
from codecprior.store.schema import CHECKSUMS_FILE, SHARD_FRAMES

__all__ = ["VerifyReport", "verify"]


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What :func:`verify` found.

    Parameters
    ----------
    location : str
        Path or URL of the store.
    num_frames : int
        Frames whose values were read, in both directions.
    num_files : int
        Files in the store.
    size_bytes : int
        Bytes of all files.
    problems : tuple of str
        One line each; empty for a sound store.
    """

    location: str
    num_frames: int
    num_files: int
    size_bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(target: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Check every byte of a finished store.

    Parameters
    ----------
    target : str or path
        Local folder or fsspec URL.
    progress : callable, optional
        Called with the number of checks done and of all checks.

    Returns
    -------
    VerifyReport
        What is wrong, if anything.

    Raises
    ------
    StoreNotFoundError
        If there is no store.
    IncompleteStoreError
        If its writing never finished.
    """
    location = Location(target)
    problems: list[str] = []
    groups: list[PriorsStore] = []
    listed: dict[str, str] = {}
    try:
        groups.append(open_store(target))
        listed = location.checksums()
    except (CorruptStoreError, SchemaError) as error:
        problems.append(str(error))
    try:
        groups += [reverse for group in groups if (reverse := group.reverse) is not None]
    except StoreError as error:
        problems.append(str(error))

    present = location.files()
    if listed:
        unlisted = sorted(present.keys() - listed.keys() - {CHECKSUMS_FILE})
        problems += [f"{name}: not in {CHECKSUMS_FILE}" for name in unlisted]
    shards = [group[first : first + SHARD_FRAMES] for group in groups for first in range(0, len(group), SHARD_FRAMES)]
    total = len(listed) + len(shards)
    for done, (name, digest) in enumerate(listed.items(), 1):
        problems += _file_problems(location, name, digest)
        if progress is not None:
            progress(done, total)
    for done, clip in enumerate(shards, len(listed) + 1):
        problems += _value_problems(clip)
        if progress is not None:
            progress(done, total)
    return VerifyReport(
        location=str(location),
        num_frames=sum(len(group) for group in groups),
        num_files=len(present),
        size_bytes=sum(present.values()),
        problems=tuple(dict.fromkeys(problems)),
    )


def _file_problems(location: Location, name: str, digest: str) -> Iterator[str]:
    try:
        with location.open(name) as stream:
            if sha256_of(stream) != digest:
                yield f"{name}: content differs from its digest in {CHECKSUMS_FILE}"
    except FileNotFoundError:
        yield f"{name}: missing"
    except OSError as error:
        yield f"{name}: cannot be read ({error.strerror or error})"


def _value_problems(clip: PriorsStore) -> Iterator[str]:
    for name in clip.names:
        try:
            clip.select(name).load()
        except StoreError as error:
            yield str(error)
            return
    for frame in clip:
        yield from (f"{clip.location}: frame {frame.frame_index}: {reason}" for reason in _contradictions(frame))


def _contradictions(frame: FramePriors) -> Iterator[str]:
    mode = frame.require("pred_mode")
    if not np.isin(mode, [int(value) for value in PredMode]).all():
        yield "pred_mode has values that no mode has"
    if frame.picture.has_priors == bool((mode == PredMode.NONE).any()):
        yield "pred_mode and concealed_frames disagree on whether there are priors"
    for ref_list in (0, 1):
        used = frame.uses_list(ref_list)
        if frame.require(f"mv_l{ref_list}")[~used].any():
            yield f"mv_l{ref_list} is not 0 where the list is unused"
        if (used & (mode != PredMode.INTER)).any():
            yield f"ref_poc_delta_l{ref_list} is set outside inter blocks"
    peak = 1 << frame.stream.bit_depth
    for name, array in frame.arrays().items():
        if name.startswith("frame_") and array.dtype.itemsize > 1 and (array >= peak).any():
            yield f"{name} exceeds {frame.stream.bit_depth} bit"
