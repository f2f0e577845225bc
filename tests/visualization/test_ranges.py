from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from codecprior.errors import ConfigError
from codecprior.visualization.ranges import Ranges


def test_ranges_cover_nearly_all_values_and_round_up_to_readable_numbers(make_priors) -> None:
    priors = make_priors(256, 192, zoom=0.05)
    ranges = Ranges.measure([priors])
    motion = priors.flow_grid()
    lengths = np.hypot(*np.moveaxis(motion.displacement, -1, 0))[motion.valid]
    assert 0.94 < (lengths <= ranges.motion_px).mean() <= 1
    assert ranges.motion_px < 2 * lengths.max()
    assert ranges.motion_px == float(f"{ranges.motion_px:.2g}")
    magnitude = np.abs(priors.residual_y)[priors.residual_y != 0]
    assert 0.97 < (magnitude <= ranges.residual).mean() <= 1
    assert ranges.qp == (28, 36)


def test_a_few_stray_values_do_not_flatten_the_rest(make_priors) -> None:
    priors = make_priors(256, 192)
    before = Ranges.measure([priors])
    residual = priors.residual_y.copy()
    residual[0, 0] = 30000
    assert Ranges.measure([dataclasses.replace(priors, residual_y=residual)]) == before


def test_frames_without_motion_or_residual_keep_a_usable_scale(make_priors) -> None:
    concealed = make_priors(has_priors=False)
    assert Ranges.measure([concealed]) == Ranges() == Ranges.measure([])


def test_one_qp_for_all_blocks_still_has_a_scale_around_it(make_priors) -> None:
    priors = make_priors()
    low, high = Ranges.measure([dataclasses.replace(priors, qp=np.full_like(priors.qp, 32))]).qp
    assert low < 32 < high


def test_arrays_that_were_not_read_are_left_out(make_priors) -> None:
    priors = make_priors()
    only_qp = dataclasses.replace(priors, **{name: None for name in priors.arrays() if name != "qp"})
    assert Ranges.measure([only_qp]) == Ranges(qp=(28, 36))


def test_frames_are_taken_one_at_a_time(make_priors) -> None:
    first, second = make_priors(zoom=0.01), make_priors(zoom=0.2)
    assert Ranges.measure(iter([first, second])).motion_px > Ranges.measure(iter([first])).motion_px


@pytest.mark.parametrize("values", [{"motion_px": 0.0}, {"residual": 0}, {"qp": (30, 30)}])
def test_empty_scales_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Ranges(**values)  # type: ignore[arg-type]
