"""Whether priors belong to the frames beside them: counts, sizes, names, and decoded against source samples."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from codecprior.datasets.pairing import FrameFiles, SequencePair
from codecprior.errors import DatasetError, StoreError
from codecprior.extraction.backend import Backend, Trace
from codecprior.extraction.kept import bitstream_beside
from codecprior.media.bitstream import BitstreamSource
from codecprior.media.opening import open_frames
from codecprior.store.location import is_url
from codecprior.store.reader import PriorsStore, open_store
from codecprior.store.schema import REVERSE_GROUP
from vvc_wrappers.process import closing_generator

__all__ = ["check_alignment", "least_psnr"]

_CLEARLY_BETTER_DB: Final = 1.0
"""A static scene's neighbours are as near as the frame itself; one that is nearer by this shows a shift."""

_PEAK: Final = 255.0
_Luma = NDArray[np.float32]


def check_alignment(pair: SequencePair, store: str, backend: Backend) -> dict[str, Any]:
    """Verify that a store holds the priors of the degraded side of a pair, frame by frame.

    The first, the middle and the last frame are compared with what the decoder put out in each direction, from the
    store where it holds decoded pictures, else from the bitstream beside it: near enough for their QP, and nearer than
    to the frames before and after them.

    Parameters
    ----------
    pair : SequencePair
        Both sides; the degraded one exists.
    store : str
        Path or URL of the finished store.
    backend : Backend
        What decodes the bitstream.

    Returns
    -------
    dict
        What was verified, as JSON values: ``num_frames``, ``size``, ``frame_names`` (whether there are names, which
        then agree), ``frames`` (compared ones), and ``psnr_db`` and ``least_psnr_db`` of each of them, by direction.

    Raises
    ------
    DatasetError
        If they do not belong together.
    """
    blurry = pair.blurry
    if blurry is None:
        raise DatasetError(f"{store}: sequence {pair.name} has no degraded side to compare with")
    priors = open_store(store)
    for side in pair.sides:
        if (len(priors), priors.size) != (side.num_frames, side.size):
            raise DatasetError(
                f"{side.path}: has {_extent(side.num_frames, side.size)}, {store} {_extent(len(priors), priors.size)}; "
                "prepare again with --overwrite"
            )
    names = priors.attributes["source"].get("frame_names")
    if blurry.files and list(names or ()) != [file.name for file in blurry.files]:
        raise DatasetError(f"{blurry.path}: its file names are not those that {store} was made from; use --overwrite")
    frames = sorted({0, (len(priors) - 1) // 2, len(priors) - 1})
    found: dict[str, list[float]] = {}
    least: dict[str, list[float]] = {}
    for direction in priors.attributes["directions"]:
        reverse = direction == REVERSE_GROUP
        for frame, decoded, qp in _decoded_luma(priors, frames, backend, reverse=reverse):
            psnr, needed = _compare(decoded, blurry, frame, len(priors)), least_psnr(qp)
            if psnr < needed:
                raise DatasetError(
                    f"{blurry.path}: frame {frame} is {psnr:.1f} dB from what {store} was made from, at its QP "
                    f"{needed:.1f} dB or more are expected; the frames have changed: prepare again with --overwrite"
                )
            found.setdefault(direction, []).append(round(psnr, 2))
            least.setdefault(direction, []).append(round(needed, 2))
    return {
        "num_frames": len(priors),
        "size": list(priors.size),
        "frame_names": bool(blurry.files),
        "frames": frames,
        "psnr_db": found,
        "least_psnr_db": least,
    }


def least_psnr(qp: int) -> float:
    """Luma PSNR that a coded picture has at least, whatever its content.

    No coefficient errs by more than one quantiser step, 2 ** ((QP - 4) / 6) at 8 bit (H.266, clause 8.7.3): those that
    become zero by less than a step, others by about half of one. Clips from clean video to noise, QP 10 to 51, were 4
    dB or more above it, although the encoder moves the QP of blocks around that of the slice.

    Parameters
    ----------
    qp : int
        QP of the picture's slices.

    Returns
    -------
    float
        In dB.
    """
    step = 2 ** ((qp - 4) / 6)
    return float(20 * np.log10(_PEAK / step))


def _compare(decoded: _Luma, side: FrameFiles, frame: int, num_frames: int) -> float:
    first = max(frame - 1, 0)
    source = open_frames(side.path, raw=side.raw)
    with closing_generator(source.frames(start=first)) as frames:
        near = [
            _psnr(decoded, _scaled(each.y, each.bit_depth))
            for each in islice(frames, min(frame + 2, num_frames) - first)
        ]
    psnr = near[frame - first]
    if max(near) > psnr + _CLEARLY_BETTER_DB:
        other = first + int(np.argmax(near))
        raise DatasetError(
            f"{side.path}: frame {other} is nearer to decoded frame {frame} than frame {frame} itself "
            f"({max(near):.1f} against {psnr:.1f} dB): the priors are shifted; prepare again with --overwrite"
        )
    return psnr


def _psnr(decoded: _Luma, source: _Luma) -> float:
    height, width = decoded.shape
    error = float(np.mean(np.square(decoded - source[:height, :width]), dtype=np.float64))
    return float(10 * np.log10(_PEAK**2 / max(error, 1e-4)))


def _scaled(luma: NDArray[Any], bit_depth: int) -> _Luma:
    return luma.astype(np.float32) / np.float32(1 << (bit_depth - 8))


def _decoded_luma(
    priors: PriorsStore, frames: list[int], backend: Backend, *, reverse: bool
) -> Iterator[tuple[int, _Luma, int]]:
    """Give frame index, samples and slice QP of what one pass was decoded to, in the order of that pass."""
    group = priors.reverse if reverse else priors
    if group is None:
        raise DatasetError(f"{priors.location}: has no reverse priors")
    depth, pictures = priors.stream.bit_depth, group.pictures
    if "frame_y" in group.names:
        for frame in frames:
            decoded = group.select("frame_y")[frame].require("frame_y")
            yield frame, _scaled(decoded, depth), pictures[frame].slice_qp
        return
    window = priors.box.plane_slices()
    order = range(len(priors))[::-1] if reverse else range(len(priors))
    with _local(bitstream_beside(priors.location, reverse=reverse)) as bitstream:
        trace = Trace(source=BitstreamSource(bitstream), bitstream=bitstream, with_frames=True)
        with closing_generator(backend.pictures(trace)) as decoded_pictures:
            for frame, picture in zip(order, decoded_pictures, strict=False):
                if frame in frames:
                    yield frame, _scaled(picture.require("frame_y")[window], depth), pictures[frame].slice_qp


@contextmanager
def _local(bitstream: str) -> Iterator[Path]:
    """Give a bitstream as a local file, which is a copy where it lies at a URL."""
    if not is_url(bitstream):
        yield Path(bitstream)
        return
    files, remote = url_to_fs(bitstream)
    with tempfile.NamedTemporaryFile(prefix="codecprior-", suffix=Path(remote).suffix) as copy:
        try:
            with files.open(remote, "rb") as stream:
                shutil.copyfileobj(stream, copy)
        except Exception as error:  # each fsspec backend has its own exceptions
            raise StoreError(f"{bitstream}: cannot be read ({error}); prepare again with --overwrite") from error
        copy.flush()
        yield Path(copy.name)


def _extent(num_frames: int, size: tuple[int, int]) -> str:
    return f"{num_frames} frames of {size[0]}x{size[1]}"
