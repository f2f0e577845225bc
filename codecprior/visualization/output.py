"""Finished pictures into PNG and MP4 files, which appear under their names only when they are whole."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from codecprior.media.files import written_whole
from codecprior.visualization.colormap import RGB
from codecprior.visualization.theme import blank

__all__ = ["ClipWriter", "write_png"]

_BT709: Final = 1
"""ITU-T H.273 code of the BT.709 primaries and transfer characteristics."""


def write_png(path: str | Path, picture: RGB) -> None:
    """Write a picture.

    Parameters
    ----------
    path : path-like
        File to write.
    picture : ndarray, shape (H, W, 3), uint8
        Colours.

    Raises
    ------
    MediaError
        If the file cannot be written.
    """
    data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1]
    with written_whole(Path(path)) as partial:
        partial.write_bytes(data.tobytes())


class ClipWriter:
    """An H.264 clip in the making: 4:2:0, limited-range BT.709, playable from its first bytes.

    Parameters
    ----------
    path : pathlib.Path
        File to write, in MP4 whatever its extension.
    frame_rate : fractions.Fraction
        Frames per second.
    crf : int
        Quality, 0 (lossless) to 51.
    """

    def __init__(self, path: Path, frame_rate: Fraction, crf: int) -> None:
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        options = {"crf": str(crf), "preset": "veryfast"}
        self._stream = self._container.add_stream("libx264", rate=frame_rate, options=options)
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries = context.color_trc = _BT709
        self._written = 0

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def write(self, picture: RGB) -> None:
        """Append a picture.

        Parameters
        ----------
        picture : ndarray, shape (H, W, 3), uint8
            Colours; every picture as large as the first. Odd sizes get a row or column of background.
        """
        height, width = picture.shape[:2]
        sheet = blank(width + width % 2, height + height % 2)
        sheet[:height, :width] = picture
        if not self._written:
            self._stream.width, self._stream.height = sheet.shape[1], sheet.shape[0]
        frame = av.VideoFrame.from_ndarray(sheet, format="rgb24").reformat(
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts = self._written
        self._written += 1
        self._container.mux(self._stream.encode(frame))
