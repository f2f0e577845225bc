"""The priors store, format 1: one Zarr v3 group per sequence, written whole or not at all, read lazily.

>>> from codecprior.store import open_store
>>> store = open_store("bikes.zarr")  # doctest: +SKIP
>>> store[100:115].crop(128, 0, 256, 256).load().arrays["residual_y"].shape  # doctest: +SKIP
(15, 256, 256)
"""

from __future__ import annotations

from codecprior.store.location import is_complete
from codecprior.store.partial import sweep
from codecprior.store.reader import ClipPriors, PriorsStore, open_store
from codecprior.store.writer import StoreWriter

__all__ = ["ClipPriors", "PriorsStore", "StoreWriter", "is_complete", "open_store", "sweep"]
