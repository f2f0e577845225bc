from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from codecprior.errors import MediaError
from codecprior.visualization.output import ClipWriter, write_png


def test_png_keeps_every_color(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    write_png(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "a.png"))[..., ::-1], picture)


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MediaError, match=r"file.a\.png: cannot be written .*choose another output"):
        write_png(tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.uint8))


def test_clips_are_h264_420_limited_bt709_with_even_size_and_the_colors_put_in(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    with ClipWriter(path, Fraction(30000, 1001), 10) as clip:
        for color in colors:
            clip.write(np.full((33, 47, 3), color, np.uint8))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 48, 34)
        assert (stream.average_rate, context.colorspace, context.color_range) == (Fraction(30000, 1001), 1, 1)
    assert len(frames) == 3
    for frame, color in zip(frames, colors, strict=True):
        rgb = frame.to_ndarray(format="rgb24")
        np.testing.assert_allclose(rgb[16, 20], color, atol=8)


def test_a_clip_begins_with_its_index_so_that_it_plays_while_it_loads(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with ClipWriter(path, Fraction(25), 20) as clip:
        clip.write(np.zeros((32, 32, 3), np.uint8))
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
