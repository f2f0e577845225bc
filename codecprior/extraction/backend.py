"""What a codec must do to be extracted from: turn a source into pictures with priors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecprior.core.priors import FramePriors
from codecprior.media.bitstream import BitstreamSource
from codecprior.media.source import FrameSource

__all__ = ["Backend", "Trace"]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One pass to trace.

    Parameters
    ----------
    source : FrameSource or BitstreamSource
        Frames, which are encoded first, or a stream that is coded already.
    bitstream : Path
        File that keeps what the encoder writes, complete once the pass is; where it exists already, it is decoded
        instead of encoding again. Not used for a coded source.
    reverse : bool
        Whether to encode the frames in reversed order.
    with_frames : bool
        Whether to deliver decoded pictures, too.
    wide_mv : bool
        Whether to deliver motion vectors as int32.
    """

    source: FrameSource | BitstreamSource
    bitstream: Path
    reverse: bool = False
    with_frames: bool = False
    wide_mv: bool = False


class Backend(ABC):
    """Encodes and traces with one codec. Pickled to the workers of a cluster, so it holds options only."""

    @abstractmethod
    def pictures(self, trace: Trace) -> Iterator[FramePriors]:
        """Trace one pass.

        Parameters
        ----------
        trace : Trace
            What to trace.

        Yields
        ------
        FramePriors
            Whole coded pictures in display order of the pass, with presentation times; arrays are valid until the next
            one is asked for.

        Raises
        ------
        ExtractionError
            If the stream cannot be decoded.
        ToolError
            If an external program fails.
        MediaError
            If a frame cannot be read.
        """

    @abstractmethod
    def facts(self, source: FrameSource | BitstreamSource) -> dict[str, Any]:
        """Describe the encoder and the decoder for the store's attributes.

        Parameters
        ----------
        source : FrameSource or BitstreamSource
            What is extracted.

        Returns
        -------
        dict
            ``encoder`` (None for a coded source) and ``decoder``, each with name, version and arguments.
        """

    @abstractmethod
    def identity(self, source: FrameSource | BitstreamSource) -> dict[str, Any]:
        """Return the settings that decide what the priors of a source are.

        Parameters
        ----------
        source : FrameSource or BitstreamSource
            What is extracted.

        Returns
        -------
        dict
            JSON values; the same for all settings that give the same priors.
        """
