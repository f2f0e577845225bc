"""Frames in: folders of pictures, videos, raw planar files, and VVC streams that are coded already.

:func:`open_source` turns a path into a :class:`FrameSource`, whose frames are planar 4:2:0 ready for the encoder, or
into a :class:`BitstreamSource`, whose bytes are ready for the decoder. :func:`open_frames` takes frames only.
"""

from __future__ import annotations

from codecprior.media.bitstream import BitstreamSource
from codecprior.media.frame import Frame
from codecprior.media.opening import open_frames, open_source
from codecprior.media.raw import RawFormat
from codecprior.media.source import FrameSource, SourceInfo

__all__ = ["BitstreamSource", "Frame", "FrameSource", "RawFormat", "SourceInfo", "open_frames", "open_source"]
