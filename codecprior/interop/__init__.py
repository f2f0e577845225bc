"""Coding priors in the formats of other tools: VTM BlockStat text, mv-extractor columns, CPGD-Net files and HDF5.

Exporters take any iterable of :class:`~codecprior.core.priors.FramePriors` of whole pictures, such as an open store,
and hold one frame or one chunk of frames at a time. Each writes to a temporary name and renames at the end. Importers
return :class:`~codecprior.interop.common.ImportedPriors`, which reads lazily and says what the format cannot know.
:mod:`codecprior.interop.dataset` takes whole prepared datasets through them, one sequence after the other.
"""
