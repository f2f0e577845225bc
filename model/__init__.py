"""Networks that take coding priors, and how stores reach them; imported as ``codecprior.model``, needs torch."""

from __future__ import annotations

from .dataset import ClipDataset, ClipLoader

__all__ = ["ClipDataset", "ClipLoader"]
