from __future__ import annotations

import dataclasses

import pytest

from codecprior.visualization.options import RenderOptions
from codecprior.visualization.render import render_frame
from codecprior.visualization.tiles import KINDS, arrays_for, needs_frame


@pytest.mark.parametrize("ref_list", [0, 1, "mean"])
@pytest.mark.parametrize("plane", ["y", "v"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_from_the_arrays_it_names_and_from_no_others(make_priors, kind, plane, ref_list) -> None:
    priors = make_priors(64, 48)
    unused = {name: None for name in priors.arrays() if name not in arrays_for(kind, ref_list, plane)}
    options = RenderOptions(kind=kind, plane=plane, ref_list=ref_list)
    picture = render_frame(dataclasses.replace(priors, **unused), options=options)
    assert picture.std() > 5


def test_only_maps_do_without_the_frame() -> None:
    assert {kind for kind in KINDS if not needs_frame(kind)} == {"motion", "residual", "qp"}
