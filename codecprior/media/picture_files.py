"""RGB frames into a folder of picture files, which appears under its name only when it is whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

import cv2
import numpy as np

from codecprior.errors import ConfigError
from codecprior.media.folders import folder_written_whole
from codecprior.media.rgb import RGBFrame

__all__ = ["PICTURE_EXTENSIONS", "PictureWriter"]

PICTURE_EXTENSIONS: Final = ("png", "jpg")
"""Formats that frames are written in: without loss, or JPEG of quality 95 whose chroma is not subsampled."""

_ENCODER_OPTIONS: Final[dict[str, list[int]]] = {
    "png": [],
    "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
}


class PictureWriter:
    """A folder of pictures in the making, for use in a ``with`` block.

    The folder gets its name when the block ends without error; for what happens else, see
    :func:`~codecprior.media.folders.folder_written_whole`.

    Parameters
    ----------
    folder : path-like
        Folder to write; missing parents are made.
    extension : {"png", "jpg"}
        Format of the files.
    digits : int
        Digits of the numbers, from 0 on, that name frames without names.
    threads : int
        Pictures that are encoded side by side; twice as many wait in memory at most.
    overwrite : bool
        Whether an existing folder gives way to the finished one.

    Attributes
    ----------
    partial : pathlib.Path
        Where the files are within the block, for others that shall lie beside the pictures.

    Raises
    ------
    ConfigError
        If the format is another one.
    MediaError
        On entering the block, if the name is taken, another process is writing the same folder, or it cannot be
        written.
    """

    partial: Path

    def __init__(
        self,
        folder: str | Path,
        extension: str = "png",
        digits: int = 8,
        *,
        threads: int = 1,
        overwrite: bool = False,
    ) -> None:
        if extension not in PICTURE_EXTENSIONS:
            raise ConfigError(f"picture extension {extension!r}: use {' or '.join(PICTURE_EXTENSIONS)}")
        self._extension = extension
        self._digits = digits
        self._threads = threads
        self._stems: set[str] = set()
        self._pending: deque[Future[None]] = deque()
        self._opened = self._open(Path(folder), overwrite)

    def __enter__(self) -> PictureWriter:
        self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, traceback)

    def write(self, picture: RGBFrame, name: str | None = None) -> None:
        """Append a picture.

        Parameters
        ----------
        picture : ndarray, shape (H, W, 3), uint8 or uint16
            Colours, red first; not to be changed afterwards.
        name : str, optional
            Name that the frame has at its source; its extension is replaced.

        Raises
        ------
        ConfigError
            If 16 bit samples shall become JPEG or the name was there before.
        OSError
            If an earlier picture could not be written; the block turns it into a MediaError.
        """
        if self._extension == "jpg" and picture.dtype != np.uint8:
            raise ConfigError("jpg holds 8 bit and these frames have 16; use png")
        stem = f"{len(self._stems):0{self._digits}d}" if name is None else Path(name).stem
        if stem in self._stems:
            raise ConfigError(f"two frames are called {stem}; give each a name of its own")
        self._stems.add(stem)
        self._pending.append(self._pool.submit(self._write, picture, self.partial / f"{stem}.{self._extension}"))
        while len(self._pending) > 2 * self._threads:
            self._pending.popleft().result()

    @contextmanager
    def _open(self, folder: Path, overwrite: bool) -> Iterator[None]:
        with (
            folder_written_whole(folder, overwrite=overwrite) as self.partial,
            ThreadPoolExecutor(self._threads, thread_name_prefix="codecprior-pictures") as self._pool,
        ):
            yield
            while self._pending:
                self._pending.popleft().result()

    def _write(self, picture: RGBFrame, path: Path) -> None:
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        data = cv2.imencode(path.suffix, bgr, _ENCODER_OPTIONS[self._extension])[1]
        path.write_bytes(data.tobytes())
