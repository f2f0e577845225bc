from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import av
import numpy as np
import pytest

from codecprior.errors import ConfigError
from codecprior.visualization.colormap import MID_GREY
from codecprior.visualization.frames import Origin, frames_for
from codecprior.visualization.material import Material


def decoded_luma(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]


def as_luma(rgb: np.ndarray, bit_depth: int = 10) -> np.ndarray:
    """Limited-range BT.709 luma of colours."""
    return (16 + 219 / 255 * (rgb @ np.array([0.2126, 0.7152, 0.0722]))) * 2 ** (bit_depth - 8)


def test_pictures_in_the_priors_come_first(make_priors, vvc_clip: Path) -> None:
    priors = make_priors(64, 48)
    priors = dataclasses.replace(
        priors,
        frame_y=np.full((48, 64), 235, np.uint8),
        frame_u=np.full((24, 32), 128, np.uint8),
        frame_v=np.full((24, 32), 128, np.uint8),
    )
    ((_, base),) = frames_for([priors], Material(bitstream=vvc_clip))
    assert base.origin is Origin.DECODED
    assert (base.rgb == 255).all()


@pytest.mark.parametrize("indices", [range(6), range(2, 6, 2), [5], [0]])
def test_each_frame_gets_the_picture_of_the_bitstream_that_its_priors_belong_to(
    make_priors, vvc_clip: Path, indices
) -> None:
    luma = decoded_luma(vvc_clip)
    assert len({picture.tobytes() for picture in luma}) == 6, "the pictures must differ for this test to mean something"
    asked = [make_priors(64, 48, frame_index=index, bit_depth=10) for index in indices]
    found = list(frames_for(asked, Material(bitstream=vvc_clip)))
    assert [priors.frame_index for priors, _ in found] == list(indices)
    for priors, base in found:
        assert base.origin is Origin.DECODED
        errors = [np.abs(as_luma(base.rgb) - picture).mean() for picture in luma]
        assert int(np.argmin(errors)) == priors.frame_index


def test_a_crop_gets_its_part_of_the_picture(make_priors, vvc_clip: Path) -> None:
    whole = make_priors(64, 48, frame_index=2)
    material = Material(bitstream=vvc_clip)
    ((_, picture),), ((_, part),) = frames_for([whole], material), frames_for([whole.crop(10, 6, 30, 20)], material)
    np.testing.assert_array_equal(part.rgb, picture.rgb[6:26, 10:40])


def test_frames_beyond_the_end_of_the_bitstream_are_grey(make_priors, vvc_clip: Path) -> None:
    asked = [make_priors(64, 48, frame_index=index) for index in (5, 6, 7)]
    origins = [base.origin for _, base in frames_for(asked, Material(bitstream=vvc_clip))]
    assert origins == [Origin.DECODED, Origin.NONE, Origin.NONE]


def test_without_any_material_the_canvas_is_neutral_grey(make_priors) -> None:
    ((_, base),) = frames_for([make_priors(30, 20)])
    assert base.origin is Origin.NONE
    assert base.rgb.shape == (20, 30, 3)
    assert (base.rgb == MID_GREY).all()


def test_a_broken_bitstream_is_reported_once_and_replaced_by_grey(make_priors, tmp_path: Path, caplog) -> None:
    broken = tmp_path / "broken.266"
    broken.write_bytes(b"\0\0\0\1 this is no stream" * 9)
    with caplog.at_level(logging.WARNING):
        found = list(frames_for([make_priors(frame_index=i) for i in range(3)], Material(bitstream=broken)))
    assert [base.origin for _, base in found] == [Origin.NONE] * 3
    assert len(caplog.records) == 1
    assert str(broken) in caplog.text


def test_a_bitstream_of_another_size_is_not_shown(make_priors, vvc_clip: Path, caplog) -> None:
    ((_, base),) = frames_for([make_priors(128, 96, frame_index=0)], Material(bitstream=vvc_clip))
    assert base.origin is Origin.NONE
    assert "64x48" in caplog.text


def test_frames_are_decoded_only_as_they_are_asked_for(make_priors, vvc_clip: Path) -> None:
    def endless():
        index = 0
        while True:
            yield make_priors(64, 48, frame_index=index)
            index += 1

    pairs = frames_for(endless(), Material(bitstream=vvc_clip))
    assert [next(pairs)[1].origin for _ in range(3)] == [Origin.DECODED] * 3
    pairs.close()


def test_frames_in_falling_order_are_refused(make_priors, vvc_clip: Path) -> None:
    asked = [make_priors(64, 48, frame_index=index) for index in (3, 2)]
    with pytest.raises(ConfigError, match="frame 2 asked for after 3"):
        list(frames_for(asked, Material(bitstream=vvc_clip)))
