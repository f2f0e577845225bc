"""Exact coding priors of video: motion vectors, references, modes, QP and residuals as arrays.

>>> import codecprior
>>> store = codecprior.open_store("bikes.zarr")  # doctest: +SKIP
>>> store[10].flow().displacement.shape  # doctest: +SKIP
(272, 640, 2)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codecprior.core.arrays import CodingFlag, PictureType, PredMode
    from codecprior.core.priors import Flow, FramePriors
    from codecprior.core.stream import Box, PictureInfo, StreamInfo
    from codecprior.store.reader import PriorsStore, open_store

__all__ = [
    "Box",
    "CodingFlag",
    "Flow",
    "FramePriors",
    "PictureInfo",
    "PictureType",
    "PredMode",
    "PriorsStore",
    "StreamInfo",
    "__version__",
    "open_store",
]

__version__ = "0.1.0"

_HOME = {
    "Box": "core.stream",
    "CodingFlag": "core.arrays",
    "Flow": "core.priors",
    "FramePriors": "core.priors",
    "PictureInfo": "core.stream",
    "PictureType": "core.arrays",
    "PredMode": "core.arrays",
    "PriorsStore": "store.reader",
    "StreamInfo": "core.stream",
    "open_store": "store.reader",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that ``codecprior --help`` loads neither numpy nor tensorstore."""
    if name not in _HOME:
        raise AttributeError(f"module 'codecprior' has no attribute {name!r}")
    return getattr(importlib.import_module(f"codecprior.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
