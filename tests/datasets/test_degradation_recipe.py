from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from codecprior.datasets.degradation.clip import draw
from codecprior.datasets.degradation.operations import (
    Blur,
    GaussianNoise,
    Jpeg,
    Operation,
    PoissonNoise,
    Resize,
    Sinc,
)
from codecprior.datasets.degradation.recipe import DEFAULT_RECIPE, RECIPES, Recipe, load_recipe
from codecprior.errors import ConfigError

SIZE = (1280, 720)
CODEFORMER = {  # blur, divisor, noise, JPEG
    "codeformer": ((0.1, 12), (1, 12), (0, 15), (30, 100)),
    "codeformer-stage2": ((1, 15), (4, 30), (0, 20), (30, 80)),
    "codeformer-stage3": ((0.1, 10), (1, 12), (0, 15), (60, 100)),
}


def draws(recipe: str, count: int = 600) -> list[tuple[Operation, ...]]:
    loaded = load_recipe(recipe)
    return [draw(loaded, seed, "clip", SIZE).operations for seed in range(count)]


def fills(values: list[float], low: float, high: float) -> bool:
    """Whether values lie in a range and come near both of its ends."""
    margin = 0.03 * (high - low)
    return low <= min(values) < low + margin and high - margin < max(values) <= high


def test_the_recipes_of_the_package() -> None:
    assert RECIPES == ("codeformer", "codeformer-stage2", "codeformer-stage3", "real-esrgan")
    assert DEFAULT_RECIPE in RECIPES
    assert all(load_recipe(name).description for name in RECIPES)


@pytest.mark.parametrize("name", CODEFORMER)
def test_codeformer_recipes_draw_from_their_ranges(name: str) -> None:
    sigma, divisor, noise, quality = CODEFORMER[name]
    found = draws(name)
    assert {tuple(type(each) for each in operations) for operations in found} == {
        (Blur, Resize, GaussianNoise, Jpeg, Resize)
    }
    blurs, downs, noises, jpegs, backs = (list(each) for each in zip(*found, strict=True))
    assert {(blur.size, blur.shape, blur.beta) for blur in blurs} == {(41, "gaussian", 1)}
    isotropic = [blur for blur in blurs if blur.sigma_x == blur.sigma_y]
    assert 0.43 < len(isotropic) / len(blurs) < 0.57
    turned = [blur for blur in blurs if blur.sigma_x != blur.sigma_y]
    assert fills([blur.rotation for blur in turned], -math.pi, math.pi)
    for values in ([blur.sigma_x for blur in blurs], [blur.sigma_y for blur in turned]):
        assert fills(values, *sigma)
    assert fills([SIZE[0] / down.width for down in downs], divisor[0], 1.02 * divisor[1])  # sizes are rounded down
    assert all(abs(down.width / down.height - 16 / 9) < 0.12 for down in downs)
    assert fills([each.sigma for each in noises], *noise)
    assert fills([each.quality for each in jpegs], *quality)
    assert not any(each.grey for each in noises)
    assert {(back.width, back.height, back.mode) for back in backs} == {(*SIZE, "bilinear")}


def test_real_esrgan_is_of_second_order_with_the_shares_of_the_reference() -> None:
    found = draws("real-esrgan", 2000)
    assert all((last.width, last.height, last.mode) == (*SIZE, "bicubic") for *_, last in found)

    def kinds(operations: tuple[Operation, ...]) -> str:
        return "".join(
            {Blur: "b", Sinc: "b", Resize: "r", GaussianNoise: "n", PoissonNoise: "n", Jpeg: "j"}[type(each)]
            for each in operations
        )

    orders = Counter(kinds(operations) for operations in found)
    assert set(orders) == {
        first + second + last
        for first in ("brnj",)
        for second in ("brn", "rn")
        for last in ("rbjr", "jrbr", "rjr", "jrr")
    }
    share = {key: count / len(found) for key, count in orders.items()}
    assert sum(value for key, value in share.items() if key.startswith("brnjb")) == pytest.approx(0.8, abs=0.04)
    assert sum(value for key, value in share.items() if key.endswith(("rbjr", "rjr"))) == pytest.approx(0.5, abs=0.05)

    firsts = [operations[0] for operations in found]
    assert sum(isinstance(first, Sinc) for first in firsts) / len(found) == pytest.approx(0.1, abs=0.03)
    blurs = [first for first in firsts if isinstance(first, Blur)]
    assert {blur.size for blur in blurs} == set(range(7, 22, 2))
    assert fills([blur.sigma_x for blur in blurs], 0.2, 3)
    plain = [blur for blur in blurs if blur.beta == 1 and blur.shape == "gaussian"]
    assert len(plain) / len(blurs) == pytest.approx(0.7, abs=0.05)
    generalised = [blur.beta for blur in blurs if blur.beta != 1 and blur.shape == "gaussian"]
    assert 0.5 <= min(generalised) < 0.6
    assert 3.7 < max(generalised) <= 4
    assert sum(blur.shape == "plateau" for blur in blurs) / len(blurs) == pytest.approx(0.15, abs=0.04)
    for first in firsts:
        if isinstance(first, Sinc):
            assert math.pi / (3 if first.size < 13 else 5) <= first.cutoff <= math.pi

    widths = np.array([operations[1].width / SIZE[0] for operations in found])
    assert widths.min() >= 0.149
    assert widths.max() <= 1.5
    for part, expected in (((widths > 1), 0.2), ((widths < 1), 0.7), ((widths == 1), 0.1)):
        assert part.mean() == pytest.approx(expected, abs=0.04)
    assert {operations[1].mode for operations in found} == {"area", "bilinear", "bicubic"}
    noises = [operations[2] for operations in found]
    assert sum(isinstance(noise, PoissonNoise) for noise in noises) / len(found) == pytest.approx(0.5, abs=0.05)
    assert sum(noise.grey for noise in noises) / len(found) == pytest.approx(0.4, abs=0.05)
    assert fills([noise.sigma for noise in noises if isinstance(noise, GaussianNoise)], 1, 30)
    assert fills([noise.scale for noise in noises if isinstance(noise, PoissonNoise)], 0.05, 3)


def test_the_smallest_pictures_survive_the_strongest_recipe() -> None:
    operations = [draw(load_recipe("codeformer-stage2"), seed, "clip", (3, 5)).operations for seed in range(40)]
    assert {(each[1].width, each[1].height) for each in operations} == {(1, 1)}


def test_what_is_drawn_is_json() -> None:
    for name in RECIPES:
        parameters = draw(load_recipe(name), 3, "clip", SIZE).to_dict()
        assert json.loads(json.dumps(parameters)) == parameters


def test_a_recipe_survives_the_way_to_another_process() -> None:
    for name in RECIPES:
        assert pickle.loads(pickle.dumps(load_recipe(name))) == load_recipe(name)


def test_a_copy_of_a_recipe_can_be_changed(tmp_path: Path) -> None:
    document = dict(load_recipe("codeformer").document)
    document["steps"] = [{"jpeg": {"quality": 17}}, {"sharpen": {"weight": [0.5, 0.5]}}]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    recipe = load_recipe(path)
    assert recipe.name == "mine"
    assert [str(each) for each in draw(recipe, 0, "x", (8, 8)).operations] == [
        "JPEG 17",
        "sharpen 0.50",
        "bilinear to 8x8",
    ]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"blurred": {}}, r"step 1: .* is no step; use one of blur, resize, noise, jpeg, sharpen, shuffle"),
        ("jpeg", r"step 1: 'jpeg' is no step"),
        ({"jpeg": {}, "noise": {}}, r"step 1: .* is no step"),
        ({"jpeg": [30, 95]}, r"step 1 \(jpeg\): \[30, 95\] are no settings"),
        ({"jpeg": {"qualty": 30}}, r"step 1 \(jpeg\): unknown key 'qualty'; use quality"),
        ({"jpeg": {}}, r"step 1 \(jpeg\): quality is missing"),
        ({"jpeg": {"quality": [30, 101]}}, r"quality \[30, 101\]: give a number or \[low, high\] within 0 to 100"),
        ({"jpeg": {"quality": [95, 30]}}, r"quality \[95, 30\]"),
        ({"jpeg": {"quality": [1, 2, 3]}}, r"quality \[1, 2, 3\]"),
        ({"jpeg": {"quality": "high"}}, r"quality high"),
        ({"jpeg": {"quality": True}}, r"quality True"),
        ({"jpeg": {"quality": math.nan}}, r"quality nan"),
        ({"noise": {"gaussian": [-1, 5]}}, r"gaussian \[-1, 5\]: .* within 0 to 255"),
        ({"noise": {"gaussian": 5, "grey": 1.5}}, r"grey 1.5: give a probability, 0 to 1"),
        ({"blur": {"sizes": [40], "kernels": {"iso": 1}}}, r"sizes \[40\]: give a list of odd numbers, 3 to 101"),
        ({"blur": {"sizes": 41, "kernels": {"iso": 1}}}, r"sizes 41: give a list"),
        ({"blur": {"sizes": [41], "kernels": {"box": 1}}}, r"kernels .*box.*: give weights .* iso, aniso"),
        ({"blur": {"sizes": [41], "kernels": {"iso": 0}}}, r"kernels .*: give weights"),
        ({"blur": {"sizes": [41]}}, r"kernels {}: give weights"),
        ({"blur": {"sizes": [41], "kernels": {"iso": 1}, "sigma": 0}}, r"sigma 0: .* within 0.01 to 100"),
        (
            {"blur": {"sizes": [41], "kernels": {"iso": 1}, "plateau_beta": [2, 3]}},
            r"plateau_beta \[2, 3\]: give a range that 1 lies in",
        ),
        ({"blur": {"sizes": [[41]], "kernels": {"iso": 1}}}, r"sizes \[\[41\]\]: give a list"),
        ({"resize": {"modes": [["area"]]}}, r"modes \[\['area'\]\]: give a list"),
        ({"resize": {"modes": ["nearest"]}}, r"modes \['nearest'\]: give a list of area, bilinear, bicubic"),
        ({"resize": {"modes": ["area"], "divisor": [0.5, 2]}}, r"divisor \[0.5, 2\]: .* within 1 to 100"),
        ({"resize": {"modes": ["area"], "scale": [0.2, 0.8]}}, r"scale \[0.2, 0.8\]: give a range that 1 lies in"),
        ({"resize": {"modes": ["area"], "directions": {"left": 1}}}, r"directions .*: give weights .* up, down, keep"),
        ({"shuffle": {"jpeg": {}}}, r"step 1 \(shuffle\): .* is no list of lists"),
        ({"shuffle": [[{"jpeg": {"quality": 30}}], [{"jpeg": {"quality": 300}}]]}, r"step 1.2 1 \(jpeg\): quality 300"),
    ],
)
def test_what_a_recipe_says_wrongly_is_named(tmp_path: Path, step: Any, reason: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"steps": [step]}))
    with pytest.raises(ConfigError, match=rf"mine.yaml: .*{reason}") as found:
        load_recipe(path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no recipe; it needs a list called steps"),
        ("[1, 2]", "is no recipe"),
        ("steps: []", r"steps \[\]: give a list"),
        ("steps: [{jpeg: {quality: 30}}]\nstep: 1", "unknown key 'step'; use description, resize_back, steps"),
        ("steps: [{jpeg: {quality: 30}}]\nresize_back: nearest", "resize_back 'nearest': use one of area"),
        ("steps: [{jpeg: {quality: 30}}]\nresize_back: [area]", r"resize_back \['area'\]: use one of area"),
        ("steps: [}", "is no YAML"),
        ("steps: !!python/object/apply:os.system [ls]", "is no YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"mine.yaml: {reason}") as found:
        load_recipe(path)
    assert "\n" not in str(found.value)


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe 'codeformer2': use codeformer, .*real-esrgan or a \.yaml file"):
        load_recipe("codeformer2")
    with pytest.raises(ConfigError, match=r"mine.yml: cannot be read \(No such file"):
        load_recipe(tmp_path / "mine.yml")


def test_a_recipe_can_come_from_a_program() -> None:
    recipe = Recipe.from_dict("mine", {"steps": [{"jpeg": {"quality": [1, 2]}}]})
    assert recipe.resize_back == "bilinear"
