"""Priors into what people look at: a labelled picture of one frame, a PNG of it, an H.264 clip of many."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from codecprior.core.arrays import FRAME_ARRAYS
from codecprior.core.priors import FramePriors
from codecprior.errors import ConfigError
from codecprior.media.files import written_whole
from codecprior.visualization.colormap import RGB
from codecprior.visualization.frames import BasePicture, Origin, frames_for
from codecprior.visualization.material import Material
from codecprior.visualization.options import RenderOptions
from codecprior.visualization.output import ClipWriter, write_png
from codecprior.visualization.panel import Caption, compose
from codecprior.visualization.ranges import Ranges
from codecprior.visualization.theme import Theme
from codecprior.visualization.tiles import KINDS, Scene, arrays_for, make_tile, needs_frame

if TYPE_CHECKING:
    from codecprior.store.reader import PriorsStore

__all__ = ["render_clip", "render_frame", "render_png"]

_LONGEST_STILL: Final = 960
_LONGEST_CLIP: Final = 640
_THEME_SIDE: Final = 720
_SAMPLED_FRAMES: Final = 12
_FRAME_RATE: Final = Fraction(25)


def render_frame(
    priors: FramePriors,
    frame_rgb: RGB | None = None,
    options: RenderOptions | None = None,
    *,
    name: str = "",
    num_frames: int | None = None,
    ranges: Ranges | None = None,
    longest: int = _LONGEST_STILL,
) -> RGB:
    """Show the priors of one frame, or of a crop, with titles and legends.

    Parameters
    ----------
    priors : FramePriors
        With the arrays that the kind of picture needs.
    frame_rgb : ndarray, shape (H, W, 3), uint8, optional
        The decoded picture to show and draw on; by default the one in the priors, else grey.
    options : RenderOptions, optional
        What to show.
    name : str
        Name of the sequence, for the heading.
    num_frames : int, optional
        Length of the sequence, for the heading.
    ranges : Ranges, optional
        Ends of the colour scales; by default what suits this frame.
    longest : int
        Longest side of each picture in pixels, where the options give no scale.

    Returns
    -------
    ndarray, shape (H', W', 3), uint8
        The panel.

    Raises
    ------
    ConfigError
        If the frame is not as large as the priors, or an array that is needed was not read.
    """
    options = options or RenderOptions()
    if frame_rgb is None:
        ((_, base),) = frames_for([priors])
    else:
        base = BasePicture(frame_rgb, Origin.DECODED)
    if base.rgb.shape != (priors.box.height, priors.box.width, 3):
        expected = (priors.box.height, priors.box.width, 3)
        raise ConfigError(f"frame of shape {base.rgb.shape}: the priors cover {expected}, give a frame of that shape")
    ranges = ranges or Ranges.measure([priors], options.ref_list, options.plane)
    return _panel(priors, base, options, ranges=ranges, caption=Caption.of(priors, name, num_frames), longest=longest)


def render_png(
    store: PriorsStore,
    path: str | Path,
    frame: int,
    options: RenderOptions | None = None,
    *,
    name: str = "",
    material: Material | None = None,
) -> None:
    """Write a PNG that shows the priors of one frame.

    Parameters
    ----------
    store : PriorsStore
        The priors.
    path : path-like
        File to write.
    frame : int
        Frame to show; negative numbers count from the end.
    options : RenderOptions, optional
        What to show.
    name : str
        Name of the sequence, for the heading.
    material : Material, optional
        Where to find the frame to draw on.

    Raises
    ------
    ConfigError
        If the store has no such frame, or not the arrays that are needed.
    MediaError
        If the file cannot be written.
    """
    options = options or RenderOptions()
    if not -len(store) <= frame < len(store):
        raise ConfigError(f"frame {frame}: {store.location} has the frames 0 to {len(store) - 1}")
    priors = _selected(store, options)[frame]
    ((_, base),) = frames_for([priors], _material_for(options, material))
    ranges = Ranges.measure([priors], options.ref_list, options.plane)
    caption = Caption.of(priors, name, store.attributes["num_frames"])
    write_png(path, _panel(priors, base, options, ranges=ranges, caption=caption, longest=_LONGEST_STILL))


def render_clip(
    store: PriorsStore,
    path: str | Path,
    options: RenderOptions | None = None,
    *,
    name: str = "",
    frame_rate: Fraction | None = None,
    material: Material | None = None,
    crf: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write an H.264 clip that shows the priors of frame after frame, all on the same colour scales.

    Memory does not grow with the length of the clip.

    Parameters
    ----------
    store : PriorsStore
        The priors; slice it to show a part.
    path : path-like
        File to write, in MP4.
    options : RenderOptions, optional
        What to show.
    name : str
        Name of the sequence, for the heading.
    frame_rate : fractions.Fraction, optional
        Frames per second; by default the stream's.
    material : Material, optional
        Where to find the frames to draw on.
    crf : int
        Quality of the clip, 0 (lossless) to 51.
    progress : callable, optional
        Called after each frame with the number of frames written so far and to write.

    Raises
    ------
    ConfigError
        If the store has no frames, or not the arrays that are needed.
    MediaError
        If the file cannot be written.
    """
    options = options or RenderOptions()
    if not len(store):
        raise ConfigError(f"{store.location}: no frames are selected; a clip needs at least one")
    store, num_frames = _selected(store, options), store.attributes["num_frames"]
    ranges = Ranges.measure(store[:: max(1, len(store) // _SAMPLED_FRAMES)], options.ref_list, options.plane)
    rate = frame_rate or store.stream.frame_rate or _FRAME_RATE
    with written_whole(Path(path)) as partial, ClipWriter(partial, rate, crf) as clip:
        for done, (priors, base) in enumerate(frames_for(store, _material_for(options, material)), 1):
            caption = Caption.of(priors, name, num_frames)
            clip.write(_panel(priors, base, options, ranges=ranges, caption=caption, longest=_LONGEST_CLIP))
            if progress:
                progress(done, len(store))


def _selected(store: PriorsStore, options: RenderOptions) -> PriorsStore:
    """Leave out the arrays that the picture does not show: most of the reading."""
    names = arrays_for(options.kind, options.ref_list, options.plane)
    pictures = [spec.name for spec in FRAME_ARRAYS if spec.name in store.names and needs_frame(options.kind)]
    return store.select(*names, *pictures)


def _material_for(options: RenderOptions, material: Material | None) -> Material:
    return material if material and needs_frame(options.kind) else Material()


def _panel(
    priors: FramePriors, base: BasePicture, options: RenderOptions, *, ranges: Ranges, caption: Caption, longest: int
) -> RGB:
    size = options.picture_size(priors.size, longest)
    theme = Theme(float(np.clip(max(size) / _THEME_SIDE, 1.0, 1.5)))
    scene = Scene(
        priors=priors,
        base=base,
        size=size,
        ranges=ranges,
        ref_list=options.ref_list,
        plane=options.plane,
        theme=theme,
    )
    rows = [[make_tile(tile, scene) for tile in row] for row in KINDS[options.kind]]
    if needs_frame(options.kind) and base.origin is not Origin.DECODED:
        caption = caption.with_remark(base.origin.value)
    return compose(caption, rows, theme)
