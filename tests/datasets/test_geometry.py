from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.datasets.geometry import Clip, DirectionPriors, Orientation
from codecprior.datasets.manifest import read_manifest
from codecprior.datasets.reader import ClipReader, ReaderConfig
from codecprior.datasets.sampling import ClipRequest
from codecprior.errors import ConfigError

EIGHT = [
    Orientation(transpose=transpose, hflip=hflip, vflip=vflip)
    for transpose in (False, True)
    for hflip in (False, True)
    for vflip in (False, True)
]
orientations = st.sampled_from(EIGHT)


def warped(picture: np.ndarray, displacement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sample a picture bilinearly at position + displacement; False where a sample would lie outside."""
    height, width = displacement.shape[:2]
    x, y = np.moveaxis(displacement.astype(np.float64), -1, 0) + np.meshgrid(np.arange(width), np.arange(height))
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    picture = picture.astype(np.float64)
    upper = picture[top, left] * (1 - fx) + picture[top, right] * fx
    lower = picture[bottom, left] * (1 - fx) + picture[bottom, right] * fx
    return upper * (1 - fy) + lower * fy, inside


def errors(clip: Clip, priors: DirectionPriors, step: int, *, motion: bool = True) -> np.ndarray:
    """What warping the neighbouring frames leaves of each frame, (T, H, W, 3); NaN where there is nothing to warp."""
    frames = clip.blurry.astype(np.float64)
    result = np.full(frames.shape, np.nan)
    for t in range(len(clip)):
        if 0 <= t + step < len(clip):
            dense = priors.mv[t].repeat(4, axis=0).repeat(4, axis=1) * motion
            predicted, inside = warped(frames[t + step], dense)
            usable = inside & priors.valid[t].repeat(4, axis=0).repeat(4, axis=1)
            result[t] = np.where(usable[..., None], frames[t] - predicted, np.nan)
    return result


def forward_errors(clip: Clip) -> np.ndarray:
    return errors(clip, clip.forward, -1)


def backward_errors(clip: Clip) -> np.ndarray:
    assert clip.backward is not None
    return errors(clip, clip.backward, +1)


def assert_equally_good(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal where the reference can be seen, which a crop may hide; nothing is seen that was not before."""
    seen = ~np.isnan(found)
    assert not np.isnan(expected[seen]).any()
    np.testing.assert_allclose(found[seen], expected[seen], atol=1e-9)


@dataclass(frozen=True)
class Step:
    """A transform of clips, and what it does to maps in the frame order of the clip."""

    kind: str
    arguments: Any = None

    def apply(self, clip: Clip) -> Clip:
        if self.kind == "reverse":
            return clip.time_reversed()
        if self.kind == "turn":
            return clip.oriented(self.arguments)
        return clip.crop(*self.box(clip))

    def box(self, clip: Clip) -> tuple[int, int, int, int]:
        height, width = clip.blurry.shape[1:3]
        x, y, right, bottom = self.arguments
        cells = width // 4, height // 4
        left, top = int(x * cells[0]), int(y * cells[1])
        return 4 * left, 4 * top, 4 * (1 + int(right * (cells[0] - left))), 4 * (1 + int(bottom * (cells[1] - top)))

    def apply_to_maps(self, clip: Clip, forward: np.ndarray, backward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.kind == "reverse":
            return backward[::-1], forward[::-1]
        if self.kind == "turn":
            return self.arguments.planes(forward), self.arguments.planes(backward)
        x, y, width, height = self.box(clip)
        return forward[:, y : y + height, x : x + width], backward[:, y : y + height, x : x + width]


fraction = st.floats(0, 0.999)
steps = st.one_of(
    st.just(Step("reverse")),
    orientations.map(lambda orientation: Step("turn", orientation)),
    st.tuples(st.floats(0, 0.4), st.floats(0, 0.4), fraction, fraction).map(lambda box: Step("crop", box)),
)


@pytest.fixture(scope="session")
def clips_read(prepared: Path) -> dict[tuple[str, int], Clip]:
    """Each sequence, at strides 1, 2 and 3, with both directions."""
    manifest = read_manifest(prepared)
    reader = ClipReader(manifest, ReaderConfig(backward=True, residual="signed", residual_planes="all"))
    sizes = {"moving": (128, 96), "bikes": (160, 128), "odd": (92, 68)}
    return {
        (entry.sequence, stride): reader.read(
            ClipRequest(sequence=number, frames=range(0, entry.num_frames, stride), crop=sizes[entry.sequence])
        )
        for number, entry in enumerate(manifest.entries[:3])
        for stride in (1, 2, 3)
    }


@settings(max_examples=60, deadline=None)
@given(
    sequence=st.sampled_from(["moving", "bikes", "odd"]),
    stride=st.sampled_from([1, 2, 3]),
    transforms=st.lists(steps, max_size=5),
)
def test_any_transforms_leave_prediction_as_good_as_before(
    clips_read: dict[tuple[str, int], Clip], sequence: str, stride: int, transforms: list[Step]
) -> None:
    clip = clips_read[sequence, stride]
    forward, backward = forward_errors(clip), backward_errors(clip)
    for transform in transforms:
        forward, backward = transform.apply_to_maps(clip, forward, backward)
        clip = transform.apply(clip)
    assert_equally_good(forward_errors(clip), forward)
    assert_equally_good(backward_errors(clip), backward)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("sequence", ["moving", "bikes"])
def test_warping_by_the_vectors_predicts_far_better_than_standing_still(
    clips_read: dict[tuple[str, int], Clip], sequence: str, stride: int
) -> None:
    clip = clips_read[sequence, stride]
    assert clip.backward is not None
    for priors, step in ((clip.forward, -1), (clip.backward, +1)):
        moved, still = errors(clip, priors, step), errors(clip, priors, step, motion=False)
        seen = ~np.isnan(moved) & ~np.isnan(still)
        assert seen.mean() > 0.25
        assert np.abs(moved[seen]).mean() < 0.5 * np.abs(still[seen]).mean()


@pytest.mark.parametrize("stride", [1, 2])
def test_vectors_of_a_shifted_texture_are_the_shift(clips_read: dict[tuple[str, int], Clip], stride: int) -> None:
    clip = clips_read["moving", stride]
    assert clip.backward is not None
    # The texture moves by (4, -2): the same point lies at (-4, 2) in the frame before.
    np.testing.assert_array_equal(np.median(clip.forward.mv[clip.forward.valid], axis=0), [-4 * stride, 2 * stride])
    np.testing.assert_array_equal(np.median(clip.backward.mv[clip.backward.valid], axis=0), [4 * stride, -2 * stride])


@given(first=orientations, second=orientations)
def test_orientations_form_the_group_of_the_square(first: Orientation, second: Orientation) -> None:
    picture = np.arange(3 * 5).reshape(1, 3, 5)
    np.testing.assert_array_equal(first.then(second).planes(picture), second.planes(first.planes(picture)))
    np.testing.assert_array_equal(first.inverse.planes(first.planes(picture)), picture)
    vectors = np.arange(3 * 5 * 2, dtype=np.float32).reshape(1, 3, 5, 2)
    np.testing.assert_array_equal(first.then(second).vectors(vectors), second.vectors(first.vectors(vectors)))
    np.testing.assert_array_equal(first.inverse.vectors(first.vectors(vectors)), vectors)


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
def test_rotations_turn_clockwise(turns: int) -> None:
    picture = np.arange(3 * 5).reshape(1, 3, 5)
    np.testing.assert_array_equal(Orientation.rotation(turns).planes(picture)[0], np.rot90(picture[0], -turns))


def test_eight_orientations_differ() -> None:
    pictures = {orientation.planes(np.arange(6).reshape(1, 2, 3)).tobytes() for orientation in EIGHT}
    assert len(pictures) == 8


def test_a_vector_turns_with_the_picture() -> None:
    right = np.array([[[[3.0, 1.0]]]], np.float32)
    assert Orientation(hflip=True).vectors(right).ravel().tolist() == [-3, 1]
    assert Orientation(vflip=True).vectors(right).ravel().tolist() == [3, -1]
    assert Orientation(transpose=True).vectors(right).ravel().tolist() == [1, 3]
    # Clockwise, what pointed right and a little down points down and a little left.
    assert Orientation.rotation(1).vectors(right).ravel().tolist() == [-1, 3]


@settings(max_examples=20, deadline=None)
@given(orientation=orientations, reverse=st.booleans())
def test_transforms_can_be_undone(
    clips_read: dict[tuple[str, int], Clip], orientation: Orientation, reverse: bool
) -> None:
    clip = clips_read["bikes", 1]
    there = clip.oriented(orientation)
    if reverse:
        there = there.time_reversed().time_reversed()
    assert_same(there.oriented(orientation.inverse), clip)


def assert_same(found: Clip, expected: Clip) -> None:
    assert found.frame_indices == expected.frame_indices
    for name in ("blurry", "sharp"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for direction in ("forward", "backward"):
        one, other = getattr(found, direction), getattr(expected, direction)
        assert (one is None) == (other is None)
        if one is not None:
            for name in ("mv", "valid", "intra", "missing", "residual"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=f"{direction} {name}")


def test_masks_and_residual_move_with_the_frames(clips_read: dict[tuple[str, int], Clip]) -> None:
    clip = clips_read["bikes", 1]
    mark = np.zeros_like(clip.forward.intra)
    mark[:, 3, 5] = True
    frames = np.zeros_like(clip.blurry)
    frames[:, 12:16, 20:24] = 255
    residual = frames.astype(np.float32)
    priors = replace(clip.forward, valid=mark, intra=mark, missing=mark, residual=residual)
    for orientation in EIGHT:
        turned = replace(clip, blurry=frames, sharp=frames, forward=priors).oriented(orientation).crop(8, 8, 100, 100)
        for mask in (turned.forward.valid, turned.forward.intra, turned.forward.missing):
            dense = mask.repeat(4, axis=1).repeat(4, axis=2)[..., None] * 255
            np.testing.assert_array_equal(turned.blurry, dense.repeat(3, axis=-1))
        np.testing.assert_array_equal(turned.forward.residual, turned.blurry)
        np.testing.assert_array_equal(turned.sharp, turned.blurry)


def test_a_clip_without_backward_vectors_is_not_reversed(clips_read: dict[tuple[str, int], Clip]) -> None:
    with pytest.raises(ConfigError, match="backward=True"):
        replace(clips_read["bikes", 1], backward=None).time_reversed()


def test_crops_begin_at_cells(clips_read: dict[tuple[str, int], Clip]) -> None:
    with pytest.raises(ConfigError, match=r"crop origin \(2, 0\) lies inside a cell; use multiples of 4"):
        clips_read["bikes", 1].crop(2, 0, 64, 64)
    with pytest.raises(ConfigError, match="does not fit into 160x128"):
        clips_read["bikes", 1].crop(100, 0, 64, 64)


def test_a_clip_whose_cells_stick_out_is_not_turned(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    whole = ClipReader(manifest).read(ClipRequest(sequence=2, frames=range(2)))
    assert whole.blurry.shape == (2, 71, 93, 3)
    assert whole.forward.mv.shape == (2, 18, 24, 2)
    with pytest.raises(ConfigError, match="93x71 cannot be turned; crop it to multiples of 4"):
        whole.oriented(Orientation(hflip=True))
