"""Frames packed for training: pictures of a sequence as chunked arrays, so that a crop reads little more than itself.

A Zarr v3 group of its own with one array (T, H, W, 3), uint8 R'G'B', for each side of a pair, such as ``blurry`` and
``sharp``, and perhaps planes (T, ceil(H/8), ceil(W/8), C), one value for 8x8 samples, such as latents. It appears whole
under its name, has checksums like a priors store, and opens in zarr-python. An inner chunk of a side is 8 x 64 x 64
pixels, compressed with LZ4 by Blosc without a shuffle, which bytes do not profit from: a crop of 15 x 256 x 256 costs
1/75 of the time that PNG files take, for 1.3 to 1.6 times their bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import islice, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import PLANE_CELL
from codecprior.errors import SchemaError, StoreError
from codecprior.store.bulk import ArrayReader, open_array, open_shards, reading
from codecprior.store.location import Location
from codecprior.store.partial import Partial, os_errors
from codecprior.store.schema import (
    ATTRIBUTES_KEY,
    CHUNK_FRAMES,
    FORMAT_VERSION,
    METADATA_FILE,
    SHARD_FRAMES,
    array_metadata,
    sharding_codec,
)

__all__ = ["PackedFrames", "open_packed", "pack_frames"]

_KIND: Final = "packed frames"
_TILE: Final = 64
_PLANE_TILE: Final = 32
_LEVEL: Final = 9

RGB = NDArray[np.uint8]


def pack_frames(
    target: str | os.PathLike[str],
    sides: Mapping[str, Iterable[RGB]],
    *,
    num_frames: int,
    planes: Mapping[str, Iterable[NDArray[Any]]] | None = None,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a group of packed frames.

    Parameters
    ----------
    target : str or path
        Final folder, ending in ``.zarr``, or an fsspec URL.
    sides : mapping of str to iterable of ndarray, shape (H, W, 3), uint8
        Frames in display order by name of the array; all of one size. They are taken 16 at a time from each.
    num_frames : int
        How many each side has.
    planes : mapping of str to iterable of ndarray, shape (ceil(H/8), ceil(W/8), C)
        What else belongs to each frame, by name of the array; each of one type and number of channels.
    facts : mapping, optional
        Further attributes, as JSON values.
    overwrite : bool
        Replace what is there.
    progress : callable, optional
        Called with the number of frames written, over all arrays.

    Raises
    ------
    StoreError
        If the target is taken or cannot be written.
    SchemaError
        If frames differ in size or type, or there are not as many as announced.
    """
    partial = Partial(target, {"kind": _KIND, "facts": dict(facts or {})}, overwrite=overwrite)
    try:
        partial.forget(0)
        iterators = {name: iter(frames) for name, frames in {**sides, **(planes or {})}.items()}
        members: dict[str, dict[str, Any]] = {}
        arrays, like, size, done = {}, {}, None, 0
        # Shard by shard, not array by array: what two of them are made from need not be kept for longer than that.
        for first, (name, frames) in product(range(0, num_frames, SHARD_FRAMES), iterators.items()):
            where = f"{partial.name}/{name}"
            shard = list(islice(frames, min(SHARD_FRAMES, num_frames - first)))
            found = first + len(shard)
            if found < min(first + SHARD_FRAMES, num_frames):
                raise SchemaError(f"{where}: has {found} frames, not the {num_frames} of the sequence")
            size = size or shard[0].shape[:2]
            if name not in like:
                like[name] = _like(shard[0], size, is_side=name in sides)
            _require_alike(where, shard, like[name], first)
            if name not in arrays:
                members[name] = _metadata(num_frames, like[name], is_side=name in sides)
                arrays[name] = open_shards(partial.store / name, members[name])
            try:
                arrays[name][first : first + len(shard)].write(np.stack(shard)).result()
            except ValueError as error:
                raise StoreError(f"{where}: cannot write ({str(error).splitlines()[0]})") from error
            done += len(shard)
            if progress is not None:
                progress(done)
        for name, frames in iterators.items():
            if next(frames, None) is not None:
                raise SchemaError(f"{partial.name}/{name}: has more frames than the {num_frames} of the sequence")
        with os_errors(partial.target):
            for name, document in members.items():
                (partial.store / name / METADATA_FILE).write_text(json.dumps(document, indent=2))
            attributes = {
                **(facts or {}),
                "kind": _KIND,
                "format_version": FORMAT_VERSION,
                "complete": True,
                "num_frames": num_frames,
                "planes": list(planes or ()),
            }
            group = {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTES_KEY: attributes}}
            consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
            partial.complete(json.dumps({**group, "consolidated_metadata": consolidated}, indent=2).encode())
        partial.publish()
    finally:
        partial.release()


class PackedFrames:
    """Packed frames of a sequence, read piece by piece; made by :func:`open_packed`. Can be pickled.

    Parameters
    ----------
    location : Location
        The group.
    attributes : mapping
        What its metadata says.
    """

    def __init__(self, location: Location, attributes: Mapping[str, Any]) -> None:
        self.location = location
        self.attributes = attributes

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("location", "attributes")}

    def __len__(self) -> int:
        return int(self.attributes["num_frames"])

    @cached_property
    def _arrays(self) -> dict[str, ArrayReader]:
        return {}

    def _array(self, name: str) -> ArrayReader:
        if name not in self._arrays:
            self._arrays[name] = open_array(self.location, name, cached=False)
        return self._arrays[name]

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of what is packed with the frames."""
        return tuple(self.attributes.get("planes", ()))

    def frame_size(self, name: str) -> tuple[int, int]:
        """Return width and height of what an array has for each frame."""
        _, height, width, _ = self._array(name).shape
        return width, height

    def start(self, name: str, selection: tuple[slice, slice, slice]) -> Callable[[], NDArray[Any]]:
        """Start reading.

        Parameters
        ----------
        name : str
            Side or plane, such as ``"blurry"``.
        selection : tuple of slice
            Frames, rows and columns, with positive steps.

        Returns
        -------
        callable
            Waits for the pixels, (T, H, W, 3) uint8, or the values of a plane, and returns them; raises StoreError
            where they cannot be read.
        """
        return reading(f"{self.location}/{name}", self._array(name).start(selection))


def open_packed(target: str | os.PathLike[str]) -> PackedFrames:
    """Open packed frames.

    Parameters
    ----------
    target : str or path
        Local folder or fsspec URL.

    Returns
    -------
    PackedFrames
        Nothing of them is read yet.

    Raises
    ------
    StoreError
        If there are none, or they are something else.
    """
    location = Location(target)
    attributes = location.group_attributes()
    if attributes.get("kind") != _KIND or attributes.get("complete") is not True:
        raise SchemaError(f"{location}: holds no packed frames; give what `codecprior prepare --frames pack` wrote")
    return PackedFrames(location, attributes)


def _like(frame: NDArray[Any], size: tuple[int, ...], *, is_side: bool) -> NDArray[Any]:
    """Return an array of the type and shape that all frames of one array must have."""
    if is_side:
        return np.empty((*size, 3), np.uint8)
    return np.empty((*(-(-side // PLANE_CELL) for side in size), frame.shape[-1]), frame.dtype)


def _require_alike(where: str, shard: list[NDArray[Any]], like: NDArray[Any], first: int) -> None:
    for index, frame in enumerate(shard, first):
        if (frame.dtype, frame.shape) != (like.dtype, like.shape):
            found, expected = (f"{each.dtype}{list(each.shape)}" for each in (frame, like))
            raise SchemaError(f"{where}: frame {index} is {found}; all must be {expected}")


def _metadata(num_frames: int, like: NDArray[Any], *, is_side: bool) -> dict[str, Any]:
    largest, frames, shuffle = (_TILE, CHUNK_FRAMES, "noshuffle") if is_side else (_PLANE_TILE, 1, "bitshuffle")
    height, width, channels = like.shape
    tile = (min(height, largest), min(width, largest))
    chunk = (SHARD_FRAMES, -(-height // tile[0]) * tile[0], -(-width // tile[1]) * tile[1], channels)
    inner = (frames, *tile, channels)
    return array_metadata(
        shape=(num_frames, *like.shape),
        dtype=like.dtype,
        chunk=chunk,
        codecs=[sharding_codec(inner, like.dtype, compressor="lz4", level=_LEVEL, shuffle=shuffle)],
        fill=0,
        dimension_names=("frame", "row", "column", "channel"),
    )
