"""Where the frames are that a store was made from: the bitstream beside it, or the source."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecprior.errors import BitstreamError, MediaError
from codecprior.media.bitstream import BitstreamSource
from codecprior.media.opening import open_source
from codecprior.media.source import FrameSource

__all__ = ["Material", "find_material"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Where to find frames that a store does not hold.

    Parameters
    ----------
    bitstream : pathlib.Path, optional
        The coded stream, bare or in a container.
    source : FrameSource, optional
        What was encoded.
    """

    bitstream: Path | None = None
    source: FrameSource | None = None

    @classmethod
    def at(cls, path: Path) -> Material:
        """Take a path for what it is.

        Parameters
        ----------
        path : pathlib.Path
            VVC stream, video, raw file or folder of pictures.

        Returns
        -------
        Material
            The stream or the source.

        Raises
        ------
        MediaError, BitstreamError
            If there is nothing to read at the path.
        """
        source = open_source(path)
        return cls(bitstream=path) if isinstance(source, BitstreamSource) else cls(source=source)


def find_material(location: str, attributes: Mapping[str, Any]) -> Material:
    """Find the frames of a store without being told.

    Parameters
    ----------
    location : str
        Path or URL of the store.
    attributes : mapping
        Attributes of the store; ``source["path"]`` is looked for from the store's folder.

    Returns
    -------
    Material
        The ``.266`` file with the store's name, else the source if it is still there, else nothing.
    """
    if (bitstream := Path(location.removesuffix(".zarr") + ".266")).is_file():
        return Material(bitstream=bitstream)
    source = attributes.get("source")
    named = source.get("path") if isinstance(source, Mapping) else None
    # The path is relative to the dataset's folder, which a store may lie in, at the same depth or at its top.
    folder = Path(location).parent
    for path in (folder / named, folder / Path(named).name) if named else ():
        if path.exists():
            try:
                return Material.at(path)
            except (MediaError, BitstreamError) as error:
                _LOGGER.warning("source cannot be shown: %s", error)
    return Material()
