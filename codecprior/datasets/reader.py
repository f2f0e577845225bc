"""Clips of a prepared dataset in memory, without torch: frames, vectors between them, masks and residual.

Stores and frames are opened when a sequence is first read, in the process that reads it. A clip that runs backwards is
read from the pass over the time-reversed sequence: its vectors to the previous frame of the clip, its modes and its
residual are those of that pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from codecprior.core.arrays import CELL, PredMode
from codecprior.core.stream import Box
from codecprior.datasets.frames import (
    DecodedFrames,
    FrameReader,
    PackedPlane,
    PackedSide,
    PictureFiles,
    RawFrames,
    VideoFrames,
    slice_frames,
)
from codecprior.datasets.geometry import Clip, DirectionPriors
from codecprior.datasets.manifest import Manifest, ManifestEntry
from codecprior.datasets.motion import VectorLists, compose, vectors_to_previous
from codecprior.datasets.normalization import (
    ResidualNormalization,
    ResidualPlanes,
    normalized_residual,
    residual_arrays,
)
from codecprior.datasets.sampling import ClipRequest, Windows
from codecprior.errors import ConfigError, DatasetError, StoreError
from codecprior.media.ahead import map_ahead
from codecprior.media.files import kind_of
from codecprior.store.packed import open_packed
from codecprior.store.reader import ClipPriors, PriorsStore, open_store

__all__ = ["ClipReader", "ReaderConfig", "sequence_frames"]

_OPEN_SEQUENCES: Final = 256
"""Sequences that are kept open: some 0.4 MB each, where opening one again takes half as long as reading a clip."""

_WINDOW_FRAMES: Final = 8
"""Frames of one side that are read at a time, one after the other."""

_PRECOMPUTE: Final = "make it with 'codecprior precompute --latents'"


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """What to read of each clip.

    Parameters
    ----------
    blurry : {"source", "decoded"}, optional
        Degraded frames as they were encoded, or as they come out of the decoder; the latter needs stores that were
        extracted with ``--with-frames``. None reads none.
    sharp : bool
        Whether to read the other side.
    vectors : {"l0", "mean"}
        Vectors of list 0, or of both lists: their mean where both refer to the neighbouring frame.
    backward : bool
        Whether to read the pass over the time-reversed sequence, too; needs ``--directions both``.
    long_steps : {"compose", "refuse"}
        What to do for clips of every n-th frame: join vectors, or raise.
    residual : {"absolute", "signed", "cpgd-net", "frame-max"}, optional
        How to normalise the residual (see :data:`~codecprior.datasets.normalization.ResidualNormalization`); None
        reads none.
    residual_planes : {"luma", "all"}
        Planes of the residual.
    planes : tuple of str
        What else is packed with the frames to read, by name; crops must begin at multiples of 8 samples then.

    Raises
    ------
    ConfigError
        If a value is none of these.
    """

    blurry: Literal["source", "decoded"] | None = "source"
    sharp: bool = True
    vectors: VectorLists = "l0"
    backward: bool = False
    long_steps: Literal["compose", "refuse"] = "compose"
    residual: ResidualNormalization | None = "absolute"
    residual_planes: ResidualPlanes = "luma"
    planes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choices: dict[str, tuple[Any, ...]] = {
            "blurry": ("source", "decoded", None),
            "vectors": get_args(VectorLists),
            "long_steps": ("compose", "refuse"),
            "residual": (*get_args(ResidualNormalization), None),
            "residual_planes": get_args(ResidualPlanes),
        }
        for name, accepted in choices.items():
            if (value := getattr(self, name)) not in accepted:
                raise ConfigError(f"{name} {value!r}: use one of {', '.join(map(str, accepted))}")


class ClipReader:
    """Reads clips of the sequences of a manifest.

    Pickles as the manifest and the configuration: each process opens stores of its own. Workers must be started with
    spawn or forkserver.

    Parameters
    ----------
    manifest : Manifest
        The sequences.
    config : ReaderConfig
        What to read.
    """

    def __init__(self, manifest: Manifest, config: ReaderConfig | None = None) -> None:
        self.manifest = manifest
        self.config = config or ReaderConfig()
        self._process = os.getpid()
        self._open = lru_cache(_OPEN_SEQUENCES)(self._open_sequence)

    def __reduce__(self) -> tuple[type[ClipReader], tuple[Manifest, ReaderConfig]]:
        return ClipReader, (self.manifest, self.config)

    def read(self, request: ClipRequest) -> Clip:
        """Read a clip.

        Parameters
        ----------
        request : ClipRequest
            What to read; see :mod:`codecprior.datasets.sampling`.

        Returns
        -------
        Clip
            Frames, priors in the order of the clip.

        Raises
        ------
        ConfigError
            If the clip needs something that the store does not have, or does not fit into the picture.
        DatasetError
            If frames and priors do not belong together.
        StoreError
            If priors cannot be read, or in a forked process.
        MediaError
            If frames cannot be read.
        """
        if os.getpid() != self._process:
            raise StoreError("a forked process cannot read stores; give the DataLoader multiprocessing_context='spawn'")
        return self._open(request.sequence).read(request)

    def _open_sequence(self, index: int) -> _Sequence:
        return _Sequence(self.manifest, self.manifest.entries[index], self.config)


def sequence_frames(manifest: Manifest, sequence: int, side: Literal["blurry", "sharp"]) -> Iterator[NDArray[Any]]:
    """Read one side of a sequence as it is, a few frames at a time; the next ones are read meanwhile.

    Parameters
    ----------
    manifest : Manifest
        The sequences.
    sequence : int
        Position of the sequence.
    side : {"blurry", "sharp"}
        Which side.

    Yields
    ------
    ndarray, shape (H, W, 3), uint8 or uint16
        R'G'B' of each frame, full range.

    Raises
    ------
    CodecpriorError
        If frames cannot be read, or do not belong to the priors.
    """
    entries = manifest.entries[sequence : sequence + 1]
    config = ReaderConfig(blurry="source" if side == "blurry" else None, sharp=side == "sharp", residual=None)
    reader, windows = (
        ClipReader(replace(manifest, entries=entries), config),
        Windows(entries, num_frames=_WINDOW_FRAMES),
    )
    following = 0
    for clip in map_ahead(reader.read, map(windows.request, range(len(windows))), ahead=1):
        # The last window begins earlier where it would reach beyond the end.
        yield from getattr(clip, side)[following - clip.frame_indices[0] :]
        following = clip.frame_indices[-1] + 1


class _Sequence:
    """One sequence, opened."""

    def __init__(self, manifest: Manifest, entry: ManifestEntry, config: ReaderConfig) -> None:
        self._entry = entry
        self._config = config
        self._forward = open_store(manifest.resolve(entry.store), cached=False)
        where, coded = self._forward.location, self._forward.size
        if len(self._forward) != entry.num_frames:
            raise DatasetError(
                f"{where}: has {len(self._forward)} frames, the manifest says {entry.num_frames} for sequence "
                f"{entry.sequence}; prepare the dataset again"
            )
        # 4:2:0 coding needs an even size: the last row or column of an odd source is repeated, and cut off here.
        width, height = self._forward.attributes.get("source", {}).get("size", coded)
        if coded[0] - width not in (0, 1) or coded[1] - height not in (0, 1):
            raise DatasetError(
                f"{where}: is {coded[0]}x{coded[1]}, its source {width}x{height}; prepare the dataset again"
            )
        self._size = width, height
        self._blurry = self._side(manifest, "blurry") if config.blurry == "source" else None
        self._sharp = self._side(manifest, "sharp") if config.sharp and entry.sharp is not None else None
        self._planes = {name: self._plane(manifest, name) for name in config.planes}

    def _plane(self, manifest: Manifest, name: str) -> PackedPlane:
        if self._entry.frames is None:
            raise ConfigError(f"sequence {self._entry.sequence}: has no packed frames with {name}; {_PRECOMPUTE}")
        packed = open_packed(manifest.resolve(self._entry.frames))
        if name not in packed.planes:
            raise ConfigError(f"{packed.location}: has no {name}; {_PRECOMPUTE}")
        return PackedPlane(packed, name, self._entry.num_frames, self._size)

    def _side(self, manifest: Manifest, side: Literal["blurry", "sharp"]) -> FrameReader:
        entry = self._entry
        files = getattr(entry, side)
        if entry.frames is not None:
            return PackedSide(open_packed(manifest.resolve(entry.frames)), side, entry.num_frames, self._size)
        if isinstance(files, str) and kind_of(Path(files)) == "video":
            return VideoFrames(manifest.resolve(files), self._size)
        if isinstance(files, str):
            return RawFrames(manifest.resolve(files), entry.raw, self._size)
        return PictureFiles([manifest.resolve(file) for file in files], self._size)

    @cached_property
    def _backward(self) -> PriorsStore:
        reverse = self._forward.reverse
        if reverse is None:
            raise ConfigError(
                f"{self._forward.location}: has no vectors to the next frame, which clips that run backwards and "
                "backward vectors are made of; prepare with --directions both"
            )
        return reverse

    @cached_property
    def _decoded(self) -> DecodedFrames:
        return DecodedFrames(self._forward)

    @cached_property
    def _decoded_backward(self) -> DecodedFrames:
        return DecodedFrames(self._backward)

    def read(self, request: ClipRequest) -> Clip:
        """Read a clip of this sequence."""
        frames = request.frames
        if not frames or min(frames[0], frames[-1]) < 0 or max(frames[0], frames[-1]) >= self._entry.num_frames:
            raise ConfigError(f"{frames}: sequence {self._entry.sequence} has the frames 0 to {len(self._forward) - 1}")
        box = self._place(request)
        degraded = self._decoded_pass(frames) if self._config.blurry == "decoded" else self._blurry
        blurry = None if degraded is None else degraded.start(frames, box)
        sharp = None if self._sharp is None else self._sharp.start(frames, box)
        planes = {name: plane.start(frames, box) for name, plane in self._planes.items()}
        forward = self._direction(frames, box)
        backward = self._direction(frames[::-1], box).backwards() if self._config.backward else None
        clip = Clip(
            blurry=None if blurry is None else blurry(),
            sharp=None if sharp is None else sharp(),
            forward=forward,
            backward=backward,
            frame_indices=tuple(frames),
            planes={name: finish() for name, finish in planes.items()},
        )
        return clip.oriented(request.orientation)

    def _decoded_pass(self, frames: range) -> DecodedFrames:
        return self._decoded if frames.step > 0 else self._decoded_backward

    def _place(self, request: ClipRequest) -> Box:
        """Return what to read, relative to the output picture, so that it begins at a cell of the coded picture."""
        width, height = self._size
        left, _, top, _ = self._forward.stream.conformance_window
        x, y = -left % CELL, -top % CELL
        if request.crop is None:
            if x or y:
                raise ConfigError(
                    f"{self._forward.location}: its conformance window begins at ({left}, {top}), inside a 4x4 cell; "
                    "read crops, which begin at a cell"
                )
            return Box(0, 0, width, height)
        crop_width, crop_height = request.crop
        step = request.multiple
        places = (width - crop_width - x) // step + 1, (height - crop_height - y) // step + 1
        if min(places) < 1:
            raise ConfigError(
                f"crop {crop_width}x{crop_height} does not fit into sequence {self._entry.sequence} of {width}x{height}"
            )
        return Box(
            x + step * int(request.position[0] * places[0]),
            y + step * int(request.position[1] * places[1]),
            crop_width,
            crop_height,
        )

    def _direction(self, frames: range, box: Box) -> DirectionPriors:
        """Read the pass that predicts each frame from the one before it in ``frames``."""
        config, step = self._config, abs(frames.step)
        store = self._forward if frames.step > 0 else self._backward
        lists = ("l0", "l1") if config.vectors == "mean" else ("l0",)
        motion = [f"{kind}_{name}" for name in lists for kind in ("mv", "ref_poc_delta")]
        content = ["pred_mode"]
        if config.residual is not None:
            content += residual_arrays(store.stream, config.residual_planes)
        cropped = slice_frames(store, frames).crop(box.x, box.y, box.width, box.height)
        if step == 1 or len(frames) == 1:
            clip = cropped.select(*content, *motion).load()
            mv, valid = vectors_to_previous(clip, config.vectors)
        elif config.long_steps == "refuse":
            raise ConfigError(
                f"clips of every {step}th frame: vectors between their frames would have to be joined from several; "
                "use long_steps 'compose', or stride 1"
            )
        else:
            clip = cropped.select(*content).load()
            one = 1 if frames.step > 0 else -1
            chain = slice_frames(store.coded, range(frames[0], frames[-1] + one, one)).select(*motion).load()
            mv, valid = compose(*vectors_to_previous(chain, config.vectors), step, clip.box)
        return self._priors(clip, mv, valid)

    def _priors(self, clip: ClipPriors, mv: NDArray[np.float32], valid: NDArray[np.bool_]) -> DirectionPriors:
        config = self._config
        mode = clip.arrays["pred_mode"]
        residual = None
        if config.residual is not None:
            residual = normalized_residual(clip, config.residual_planes, config.residual)
        return DirectionPriors(
            # The first frame has none before it in the clip.
            mv=np.concatenate([np.zeros_like(mv, shape=(1, *mode.shape[1:], 2)), mv]),
            valid=np.concatenate([np.zeros_like(valid, shape=(1, *mode.shape[1:])), valid]),
            intra=(mode != PredMode.INTER) & (mode != PredMode.NONE),
            missing=mode == PredMode.NONE,
            residual=residual,
        )
