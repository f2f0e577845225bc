"""Datasets for restoration: layouts and pairs, degradation, blur synthesis, manifests, and reading clips with priors.

>>> from codecprior.datasets import ClipReader, RandomClips, read_manifest
>>> manifest = read_manifest("prepared")  # doctest: +SKIP
>>> clip = ClipReader(manifest).read(RandomClips(manifest.entries).request(0))  # doctest: +SKIP
>>> clip.blurry.shape, clip.forward.mv.shape  # doctest: +SKIP
((15, 256, 256, 3), (15, 64, 64, 2))
"""

from __future__ import annotations

from codecprior.datasets.layouts import Dataset, recognise
from codecprior.datasets.manifest import Manifest, ManifestEntry, read_manifest, write_manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.datasets.sampling import ClipRequest, RandomClips, Windows

__all__ = [
    "ClipReader",
    "ClipRequest",
    "Dataset",
    "Manifest",
    "ManifestEntry",
    "RandomClips",
    "ReaderConfig",
    "Windows",
    "read_manifest",
    "recognise",
    "write_manifest",
]
