from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.datasets.geometry import Orientation
from codecprior.datasets.manifest import ManifestEntry
from codecprior.datasets.sampling import ClipSampler, RandomClips, Windows
from codecprior.errors import ConfigError


def entry(num_frames: int, name: str = "clip") -> ManifestEntry:
    return ManifestEntry(
        sequence=name, split="train", num_frames=num_frames, blurry="blurry.yuv", sharp=None, store="priors.zarr"
    )


ENTRIES = [entry(20), entry(7), entry(11)]


@given(
    lengths=st.lists(st.integers(5, 60), min_size=1, max_size=8),
    seed=st.integers(0, 1 << 40),
    epoch=st.integers(0, 1000),
    strides=st.sets(st.integers(1, 6), min_size=1).map(lambda strides: {1, *strides}),
)
def test_clips_lie_within_their_sequence(lengths: list[int], seed: int, epoch: int, strides: set[int]) -> None:
    clips = RandomClips(
        [entry(length) for length in lengths], num_frames=5, strides=sorted(strides), time_reversal=True, seed=seed
    )
    for index in range(len(clips)):
        request = clips.request(index, epoch)
        assert len(request.frames) == 5
        assert abs(request.frames.step) in strides
        assert 0 <= min(request.frames) <= max(request.frames) < lengths[request.sequence]
        assert all(0 <= place < 1 for place in request.position)


@given(epoch=st.integers(0, 50))
def test_an_epoch_begins_a_clip_at_every_frame_once(epoch: int) -> None:
    clips = RandomClips(ENTRIES, num_frames=5)
    starts = [(request.sequence, request.frames[0]) for request in (clips.request(i, epoch) for i in range(len(clips)))]
    assert sorted(starts) == [(s, start) for s, length in enumerate((20, 7, 11)) for start in range(length - 4)]
    assert starts != sorted(starts)


def test_a_sample_depends_on_seed_epoch_and_number_alone() -> None:
    options: dict[str, Any] = {"num_frames": 5, "time_reversal": True, "strides": (1, 2)}
    clips = [RandomClips(ENTRIES, seed=3, **options) for _ in range(2)]
    requests = [clips[0].request(i, 2) for i in range(len(clips[0]))]
    assert [clips[1].request(i, 2) for i in reversed(range(len(clips[1])))] == requests[::-1]
    assert [clips[0].request(i, 3) for i in range(len(clips[0]))] != requests
    assert [RandomClips(ENTRIES, seed=4, **options).request(i, 2) for i in range(len(clips[0]))] != requests


def test_all_orientations_and_both_directions_are_drawn() -> None:
    clips = RandomClips([entry(2000)], num_frames=2, time_reversal=True)
    drawn = Counter((r.orientation, r.frames.step > 0) for r in (clips.request(i) for i in range(len(clips))))
    assert len(drawn) == 16
    assert min(drawn.values()) > 60


def test_what_is_switched_off_is_not_drawn() -> None:
    clips = RandomClips([entry(100)], num_frames=2, flips=False, transpose=False)
    requests = [clips.request(i) for i in range(len(clips))]
    assert {request.orientation for request in requests} == {Orientation()}
    assert {request.frames.step for request in requests} == {1}


def test_crops_are_read_so_that_they_come_out_in_one_shape() -> None:
    clips = RandomClips([entry(100)], num_frames=2, crop=(320, 192))
    read = {clips.request(i).orientation.transpose: clips.request(i).crop for i in range(len(clips))}
    assert read == {False: (320, 192), True: (192, 320)}


def test_a_stride_that_does_not_fit_is_not_drawn() -> None:
    clips = RandomClips([entry(7), entry(30)], num_frames=5, strides=(1, 5))
    drawn = {(r.sequence, r.frames.step) for r in (clips.request(i) for i in range(len(clips)))}
    assert drawn == {(0, 1), (1, 1), (1, 5)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 8}, "sequence clip has 7 frames and a clip needs 8"),
        ({"num_frames": 5, "strides": (2,)}, "sequence clip has 7 frames and a clip needs 9"),
        ({"num_frames": 0}, "clips of 0 frames"),
        ({"num_frames": 5, "strides": (0,)}, r"strides \(0,\)"),
        ({"num_frames": 5, "strides": ()}, r"strides \(\)"),
        ({"num_frames": 5, "crop": 250}, "crop 250x250: give multiples of 4"),
        ({"num_frames": 5, "crop": (0, 64)}, "crop 0x64"),
        ({"num_frames": 5, "seed": -1}, "seed -1"),
        ({"multiple": 6}, "multiple 6: give a multiple of 4"),
    ],
)
def test_settings_that_make_no_clips_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RandomClips(ENTRIES, **options)


def test_nothing_to_sample_from_is_refused() -> None:
    for sampling in (RandomClips, Windows):
        with pytest.raises(ConfigError, match="no sequences"):
            sampling([])


def test_windows_are_whole_sequences_in_order() -> None:
    windows = Windows(ENTRIES)
    assert [(r.sequence, r.frames) for r in map(windows.request, range(len(windows)))] == [
        (0, range(20)),
        (1, range(7)),
        (2, range(11)),
    ]


@given(length=st.integers(1, 40), num_frames=st.integers(1, 12), step=st.one_of(st.none(), st.integers(1, 12)))
def test_windows_hold_every_frame(length: int, num_frames: int, step: int | None) -> None:
    if step is not None and step > num_frames:
        with pytest.raises(ConfigError, match="give a step from 1 to"):
            Windows([entry(length)], num_frames=num_frames, step=step)
        return
    windows = Windows([entry(length)], num_frames=num_frames, step=step)
    frames = [windows.request(i).frames for i in range(len(windows))]
    assert {frame for window in frames for frame in window} == set(range(length))
    assert {len(window) for window in frames} == {min(num_frames, length)}
    assert [window.start for window in frames] == sorted({window.start for window in frames})
    assert windows.request(0, epoch=5) == windows.request(0)


def test_a_resumed_sampler_gives_exactly_what_was_left() -> None:
    clips = RandomClips(ENTRIES, num_frames=5, seed=9)
    sampler = ClipSampler(clips)
    sampler.advance(len(clips))
    keys = list(sampler)
    assert keys == [(1, index) for index in range(len(clips))]
    sampler.advance(7)
    state = json.loads(json.dumps(sampler.state_dict()))
    other = ClipSampler(RandomClips(ENTRIES, num_frames=5, seed=9))
    other.load_state_dict(state)
    assert list(other) == keys[7:]
    assert len(other) == len(keys) - 7
    other.advance(len(other))
    assert next(iter(other)) == (2, 0)


def test_a_state_of_other_samples_is_refused() -> None:
    state = ClipSampler(RandomClips(ENTRIES, num_frames=5, seed=9)).state_dict()
    with pytest.raises(ConfigError, match="saved sampler has other num_frames, seed;"):
        ClipSampler(RandomClips(ENTRIES, num_frames=4, seed=8)).load_state_dict(state)
    with pytest.raises(ConfigError, match="windows"):
        ClipSampler(Windows(ENTRIES)).load_state_dict(state)
