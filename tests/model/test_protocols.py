from __future__ import annotations

import numpy as np
import pytest

from codecprior.errors import ConfigError
from codecprior.model.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol, find_protocol, luma


def test_a_protocol_is_found_by_its_name() -> None:
    for name in PROTOCOLS:
        assert find_protocol(name).name == name
    assert DEFAULT_PROTOCOL in PROTOCOLS
    with pytest.raises(ConfigError, match="protocol 'vrt': use one of plain, cdvd-tsp, rvrt, rvrt-y, bsstnet"):
        find_protocol("vrt")


def test_luma_runs_from_16_to_235_and_is_not_rounded() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 0, 0]]], np.uint8)
    expected = [16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966, 16 + 65.481 / 255]
    assert luma(colours)[0] == pytest.approx(expected)


def test_samples_are_cut_to_the_multiple_first_and_to_the_border_then() -> None:
    frame = np.arange(22 * 19 * 3, dtype=np.uint32).astype(np.uint8).reshape(22, 19, 3)
    assert np.array_equal(find_protocol("plain").samples(frame), frame)
    assert np.array_equal(find_protocol("cdvd-tsp").samples(frame), frame[4:16, 4:12])
    y = find_protocol("rvrt-y").samples(frame)
    assert y.shape == (22, 19, 1)
    assert np.array_equal(y[..., 0], luma(frame))


def test_a_frame_that_the_border_uses_up_is_refused() -> None:
    with pytest.raises(ConfigError, match="frame of 40x8: protocol cdvd-tsp cuts 4 samples off each side"):
        find_protocol("cdvd-tsp").samples(np.zeros((8, 40, 3), np.uint8))


def test_protocols_say_what_they_are() -> None:
    said = {name: protocol.describe() for name, protocol in PROTOCOLS.items()}
    assert said["plain"] == "R'G'B' of 8 bit, whole frames, all frames, SSIM per channel, mean over frames"
    assert said["cdvd-tsp"] == (
        "R'G'B' of 8 bit, without a border of 4 samples, cut to multiples of 4, "
        "without the first 2 and last 2 frames, SSIM per channel, mean over frames"
    )
    assert said["bsstnet"].endswith("SSIM across channels, mean over groups of 44 frames")
    assert said["rvrt-y"].startswith("luma (BT.601), whole frames, all frames")
    assert len(set(said.values())) == len(said)
    assert Protocol(name="own", source="here").describe().endswith("mean over sequences")
