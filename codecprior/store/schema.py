"""Store format 1: which arrays a stream has, how they are chunked and encoded, and what the attributes say.

Metadata follows the Zarr v3 core specification with the ``sharding_indexed``, ``blosc`` and ``crc32c`` codecs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import numpy as np

from codecprior.core.arrays import FRAME_ARRAYS, GRID_ARRAYS, PICTURE_ARRAYS, RESIDUAL_ARRAYS, ArrayKind, ArraySpec
from codecprior.core.stream import StreamInfo
from codecprior.errors import CodecpriorError, IncompleteStoreError, SchemaError

__all__ = [
    "ATTRIBUTES_KEY",
    "CHECKSUMS_FILE",
    "CHUNK_FRAMES",
    "FORMAT_VERSION",
    "METADATA_FILE",
    "REVERSE_GROUP",
    "SHARD_FRAMES",
    "ArrayLayout",
    "StoreAttributes",
    "array_metadata",
    "frame_layouts",
    "group_metadata",
    "picture_layouts",
    "sharding_codec",
]

FORMAT_VERSION: Final = 1
ATTRIBUTES_KEY: Final = "codecprior"
METADATA_FILE: Final = "zarr.json"
CHECKSUMS_FILE: Final = "checksums.sha256"
REVERSE_GROUP: Final = "reverse"

SHARD_FRAMES: Final = 16
"""Frames per shard: one file per array."""

CHUNK_FRAMES: Final = 8
"""Frames per inner chunk: what one read decompresses."""

_PLANE_TILE: Final = 128
_GRID_TILE: Final = 64
_BLOSC_BLOCK_BYTES: Final = 262144

_GRID_DIMENSIONS = ("grid_row", "grid_column", "component")
_LUMA_DIMENSIONS = ("row", "column")
_CHROMA_DIMENSIONS = ("chroma_row", "chroma_column")


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """How one array of a store is shaped and stored.

    Parameters
    ----------
    spec : ArraySpec
        The array of the format.
    dtype : numpy.dtype
        Element type in this store.
    frame_shape : tuple of int
        Shape of one frame's entry: (H, W), (Hg, Wg), (Hg, Wg, 2) or ().
    tile : tuple of int
        Shape of an inner chunk without its frame axis.
    """

    spec: ArraySpec
    dtype: np.dtype[Any]
    frame_shape: tuple[int, ...]
    tile: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the array."""
        return self.spec.name

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame's entry."""
        return int(np.prod(self.frame_shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """Name of every axis."""
        if self.spec.kind is ArrayKind.PICTURE:
            return ("frame",)
        if self.spec.kind is ArrayKind.GRID:
            return ("frame", *_GRID_DIMENSIONS[: len(self.frame_shape)])
        return ("frame", *(_LUMA_DIMENSIONS if self.spec.plane == "y" else _CHROMA_DIMENSIONS))

    def shard_file(self, shard: int) -> str:
        """Name of the file of a shard, relative to the store's group."""
        return f"{self.name}/c.{shard}{'.0' * len(self.frame_shape)}"

    def metadata(self, num_frames: int) -> dict[str, Any]:
        """Array metadata as of Zarr v3.

        Parameters
        ----------
        num_frames : int
            Length of the first axis.

        Returns
        -------
        dict
            Content of the array's ``zarr.json``.
        """
        fill = float(self.spec.fill) if self.dtype.kind == "f" else int(self.spec.fill)
        if self.spec.kind is ArrayKind.PICTURE:
            chunk: tuple[int, ...] = (num_frames,)
            codecs = [_bytes_codec(self.dtype), _CRC32C]
        else:
            tiles = (-(-size // tile) * tile for size, tile in zip(self.frame_shape, self.tile, strict=True))
            chunk = (SHARD_FRAMES, *tiles)
            codecs = [sharding_codec((CHUNK_FRAMES, *self.tile), self.dtype, compressor="zstd", level=1)]
        return array_metadata(
            shape=(num_frames, *self.frame_shape),
            dtype=self.dtype,
            chunk=chunk,
            codecs=codecs,
            fill=fill,
            dimension_names=self.dimension_names,
        )


_LITTLE_ENDIAN: Final[dict[str, Any]] = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC32C: Final[dict[str, Any]] = {"name": "crc32c"}


def array_metadata(
    *,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk: tuple[int, ...],
    codecs: list[dict[str, Any]],
    fill: float,
    dimension_names: tuple[str, ...],
) -> dict[str, Any]:
    """Array metadata as of Zarr v3.

    Parameters
    ----------
    shape : tuple of int
        Length of every axis.
    dtype : numpy.dtype
        Element type.
    chunk : tuple of int
        Shape of what one file holds.
    codecs : list of dict
        Chain that turns a chunk into bytes.
    fill : float
        Value of samples that no file holds.
    dimension_names : tuple of str
        Name of every axis.

    Returns
    -------
    dict
        Content of the array's ``zarr.json``.
    """
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        # One folder per array and no nested ones: a single listing tells whether shards are missing.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": list(dimension_names),
    }


def sharding_codec(
    inner_chunk: tuple[int, ...], dtype: np.dtype[Any], *, compressor: str, level: int, shuffle: str = "bitshuffle"
) -> dict[str, Any]:
    """Configure a shard of compressed and checksummed inner chunks.

    Parameters
    ----------
    inner_chunk : tuple of int
        What one read decompresses.
    dtype : numpy.dtype
        Element type.
    compressor : str
        What Blosc compresses with.
    level : int
        Its level.
    shuffle : {"bitshuffle", "noshuffle"}
        What Blosc does to the samples before.

    Returns
    -------
    dict
        Configuration of the ``sharding_indexed`` codec.
    """
    blosc = {
        "cname": compressor,
        "clevel": level,
        "shuffle": shuffle,
        "typesize": dtype.itemsize,
        "blocksize": _BLOSC_BLOCK_BYTES,
    }
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(inner_chunk),
            "codecs": [_bytes_codec(dtype), {"name": "blosc", "configuration": blosc}, _CRC32C],
            "index_codecs": [_LITTLE_ENDIAN, _CRC32C],
            "index_location": "end",
        },
    }


def _bytes_codec(dtype: np.dtype[Any]) -> dict[str, Any]:
    return _LITTLE_ENDIAN if dtype.itemsize > 1 else {"name": "bytes"}


def frame_layouts(stream: StreamInfo, *, with_frames: bool, mv_dtype: str = "int16") -> dict[str, ArrayLayout]:
    """Layouts of the arrays that hold maps and planes.

    Parameters
    ----------
    stream : StreamInfo
        Sizes, chroma format and bit depth.
    with_frames : bool
        Whether decoded pictures are stored.
    mv_dtype : {"int16", "int32"}
        Element type of motion vectors.

    Returns
    -------
    dict of str to ArrayLayout
        By name, in the order of the format.
    """
    layouts = {}
    rows, cols = stream.grid_shape
    grid_tile = (min(rows, _GRID_TILE), min(cols, _GRID_TILE))
    for spec in GRID_ARRAYS:
        vector = (spec.components,) if spec.components > 1 else ()
        dtype = np.dtype(mv_dtype) if spec.name.startswith("mv_") else spec.dtype
        layouts[spec.name] = ArrayLayout(
            spec=spec, dtype=dtype, frame_shape=(rows, cols, *vector), tile=(*grid_tile, *vector)
        )
    for spec in (*RESIDUAL_ARRAYS, *(FRAME_ARRAYS if with_frames else ())):
        if spec.plane in stream.planes:
            wide = spec in FRAME_ARRAYS and stream.bit_depth > 8
            shape = stream.plane_shape(spec.plane)
            layouts[spec.name] = ArrayLayout(
                spec=spec,
                dtype=np.dtype(np.uint16) if wide else spec.dtype,
                frame_shape=shape,
                tile=(min(shape[0], _PLANE_TILE), min(shape[1], _PLANE_TILE)),
            )
    return layouts


def picture_layouts() -> dict[str, ArrayLayout]:
    """Layouts of the arrays with one value per frame, by name."""
    return {spec.name: ArrayLayout(spec=spec, dtype=spec.dtype, frame_shape=(), tile=()) for spec in PICTURE_ARRAYS}


@dataclass(frozen=True, kw_only=True)
class StoreAttributes:
    """What the attributes of a store's group say.

    Parameters
    ----------
    stream : StreamInfo
        Facts of the stream.
    num_frames : int
        Length of every array's first axis.
    complete : bool
        Whether writing finished.
    directions : tuple of str
        ``("forward",)`` or ``("forward", "reverse")``.
    concealed_frames : tuple of int
        Frames without priors.
    facts : mapping
        All other attributes (encoder, decoder, source, created, ...), passed through unchanged.
    """

    stream: StreamInfo
    num_frames: int
    complete: bool = True
    directions: tuple[str, ...] = ("forward",)
    concealed_frames: tuple[int, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Attributes as plain JSON values, without the key that they are stored under."""
        stream = self.stream
        return {
            **self.facts,
            "format_version": FORMAT_VERSION,
            "complete": self.complete,
            "num_frames": self.num_frames,
            "codec": stream.codec,
            "coded_size": list(stream.coded_size),
            "conformance_window": list(stream.conformance_window),
            "output_size": list(stream.output_size),
            "bit_depth": stream.bit_depth,
            "chroma_format": stream.chroma_format,
            "frame_rate": None if stream.frame_rate is None else str(stream.frame_rate),
            "mv_scale": stream.mv_scale,
            "mv_sign": "reference = current + mv",
            "directions": list(self.directions),
            "concealed_frames": list(self.concealed_frames),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> StoreAttributes:
        """Read attributes back.

        Parameters
        ----------
        values : mapping
            What :meth:`to_dict` returned.
        where : str
            Name of the store, for messages.

        Returns
        -------
        StoreAttributes
            The attributes.

        Raises
        ------
        SchemaError
            If the format is newer than this version reads, or an attribute is missing or wrong.
        IncompleteStoreError
            If writing of the store never finished.
        """
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise SchemaError(
                f"{where}: format version {version!r}; this codecprior reads {FORMAT_VERSION}, install a newer one"
            )
        if values.get("complete") is not True:
            raise IncompleteStoreError(f"{where}: its writing never finished; run the same extract again")
        try:
            rate = values["frame_rate"]
            left, right, top, bottom = (int(samples) for samples in values["conformance_window"])
            width, height = (int(samples) for samples in values["coded_size"])
            stream = StreamInfo(
                codec=values["codec"],
                coded_size=(width, height),
                conformance_window=(left, right, top, bottom),
                bit_depth=int(values["bit_depth"]),
                chroma_format=values["chroma_format"],
                frame_rate=None if rate is None else Fraction(rate),
                mv_scale=int(values["mv_scale"]),
            )
            attributes = cls(
                stream=stream,
                num_frames=int(values["num_frames"]),
                directions=tuple(values["directions"]),
                concealed_frames=tuple(values.get("concealed_frames", ())),
            )
        except (KeyError, TypeError, ValueError, ArithmeticError, CodecpriorError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise SchemaError(f"{where}: attributes are not those of format {FORMAT_VERSION}: {reason}") from error
        known = attributes.to_dict()
        facts = {name: value for name, value in values.items() if name not in known}
        return cls(**{**vars(attributes), "facts": facts})


def group_metadata(attributes: StoreAttributes, members: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Group metadata as of Zarr v3, with that of everything below it.

    With the consolidated metadata, zarr-python opens a store with one read and does not list its folder, where it would
    warn about the file of checksums.

    Parameters
    ----------
    attributes : StoreAttributes
        Attributes of the group.
    members : mapping of str to dict
        Metadata of the arrays and groups below, by path.

    Returns
    -------
    dict
        Content of the group's ``zarr.json``.
    """
    flat: dict[str, Any] = {}
    for name, member in members.items():
        inner = member.get("consolidated_metadata", {}).get("metadata", {})
        flat[name] = {**member, **({"consolidated_metadata": _consolidated({})} if inner else {})}
        flat |= {f"{name}/{path}": metadata for path, metadata in inner.items()}
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {ATTRIBUTES_KEY: attributes.to_dict()},
        "consolidated_metadata": _consolidated(flat),
    }


def _consolidated(metadata: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "inline", "must_understand": False, "metadata": metadata}
