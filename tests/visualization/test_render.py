from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from codecprior.errors import ConfigError
from codecprior.store.reader import open_store
from codecprior.visualization.material import Material
from codecprior.visualization.options import RenderOptions
from codecprior.visualization.ranges import Ranges
from codecprior.visualization.render import render_clip, render_frame, render_png


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("width", "height", "chroma_format", "bit_depth"),
    [(64, 64, "4:2:0", 8), (8, 8, "4:2:0", 8), (48, 320, "4:4:4", 10), (640, 272, "4:2:2", 10), (200, 40, "4:0:0", 8)],
)
def test_every_size_and_format_gives_a_panel(make_priors, width, height, chroma_format, bit_depth) -> None:
    priors = make_priors(width, height, chroma_format=chroma_format, bit_depth=bit_depth)
    panel = render_frame(priors, options=RenderOptions(kind="all"), name="clip", num_frames=9)
    assert panel.dtype == np.uint8
    assert panel.shape[1] > 3 * 340


def test_the_frame_is_shown_unchanged_at_scale_one(make_priors) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (272, 640, 3)).astype(np.uint8)
    panel = render_frame(make_priors(640, 272), frame, RenderOptions(kind="frame"))
    corner = np.argwhere((panel == frame[0, 0]).all(axis=-1))
    assert any(np.array_equal(panel[y : y + 272, x : x + 640], frame) for y, x in corner)


def test_given_ranges_are_used(make_priors) -> None:
    priors, options = make_priors(64, 48), RenderOptions(kind="residual")
    wide, own = (
        render_frame(priors, options=options, ranges=Ranges(residual=1000)),
        render_frame(priors, options=options),
    )
    assert wide.std() < own.std()


def test_a_frame_of_another_size_is_refused(make_priors) -> None:
    with pytest.raises(ConfigError, match=r"\(48, 64, 3\)"):
        render_frame(make_priors(64, 48), np.zeros((64, 48, 3), np.uint8))


def test_png_of_a_store_is_drawn_on_its_bitstream(tmp_path: Path, store_path: Path) -> None:
    store, material = open_store(store_path), Material(bitstream=store_path.with_suffix(".266"))
    options = RenderOptions(kind="partition")
    render_png(store, tmp_path / "a.png", 2, options, material=material)
    render_png(store, tmp_path / "b.png", -4, options, material=material)
    render_png(store, tmp_path / "grey.png", 2, options)
    drawn, again, grey = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("a", "b", "grey"))
    np.testing.assert_array_equal(drawn, again)
    assert drawn.shape == grey.shape
    assert (drawn != grey).any()


@pytest.mark.parametrize("frame", [6, -7])
def test_a_frame_that_does_not_exist_is_refused(tmp_path: Path, store_path: Path, frame: int) -> None:
    with pytest.raises(ConfigError, match=f"frame {frame}.*0 to 5"):
        render_png(open_store(store_path), tmp_path / "a.png", frame)


def test_clips_have_a_frame_for_each_of_the_slice_and_the_rate_of_the_stream(tmp_path: Path, store_path: Path) -> None:
    path, seen = tmp_path / "clip.mp4", []
    render_clip(open_store(store_path)[1:5], path, name="clip", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(frames_of(path)) == 4
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 30


def test_frame_rate_and_kind_of_a_clip_can_be_chosen(tmp_path: Path, store_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    options = RenderOptions(kind="motion", scale=4)
    render_clip(open_store(store_path), path, options, frame_rate=Fraction(5))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.frames) == (5, 6)
        assert stream.width < 500


def test_all_frames_of_a_clip_share_one_color_scale(tmp_path: Path, store_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    render_clip(open_store(store_path), path, RenderOptions(kind="residual"), crf=0)
    frames = frames_of(path)
    legend = [frame[-40:, :300].astype(int) for frame in frames]
    assert all(np.abs(each - legend[0]).max() <= 2 for each in legend)
    assert any((frame != frames[0]).any() for frame in frames)


def test_an_empty_selection_is_refused_and_leaves_no_file(tmp_path: Path, store_path: Path) -> None:
    with pytest.raises(ConfigError, match="no frames"):
        render_clip(open_store(store_path)[4:4], tmp_path / "clip.mp4")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_clip_leaves_nothing_behind(tmp_path: Path, store_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_clip(open_store(store_path), tmp_path / "clip.mp4", progress=interrupt)
    assert not list(tmp_path.iterdir())
