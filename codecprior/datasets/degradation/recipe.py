"""Recipes: which operations are done in which order, and how their parameters are drawn.

A recipe is a YAML file::

    description: what it is good for, one line
    resize_back: bilinear            # how the result gets the size of the input again
    steps:
    - blur: {sizes: [41], kernels: {iso: 0.5, aniso: 0.5}, sigma: [0.1, 12]}
    - resize: {divisor: [1, 12], modes: [bilinear]}
    - noise: {gaussian: [0, 15]}
    - jpeg: {quality: [30, 100]}

``[a, b]`` is drawn uniformly, a single number stands for itself, names with numbers are drawn with these weights.
``shuffle`` puts groups of steps, lists themselves, in random order. The settings of the steps are the fields of the
classes in :mod:`codecprior.datasets.degradation.steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Final

from codecprior.datasets.degradation.operations import RESIZE_MODES
from codecprior.datasets.degradation.steps import STEPS, ShuffleStep, Step
from codecprior.datasets.documents import load_named, names_in
from codecprior.errors import ConfigError

__all__ = ["DEFAULT_RECIPE", "RECIPES", "Recipe", "load_recipe"]

_FOLDER: Final = resources.files(__package__) / "recipes"

RECIPES: Final = names_in(_FOLDER)
"""Names of the recipes that come with the package."""

DEFAULT_RECIPE: Final = "codeformer"
"""What DiffBIR's IRControlNet was trained with."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A degradation whose parameters are not drawn yet.

    Parameters
    ----------
    name : str
        Name of the recipe, or of its file without the extension.
    description : str
        One line.
    steps : tuple of Step
        In the order in which they are done.
    resize_back : str
        Interpolation to the size of the input at the end: ``"area"``, ``"bilinear"`` or ``"bicubic"``.
    document : mapping
        What the YAML file says, for the record.
    """

    name: str
    description: str
    steps: tuple[Step, ...]
    resize_back: str
    document: Mapping[str, Any]

    @classmethod
    def from_dict(cls, name: str, document: Any) -> Recipe:
        """Check what a YAML file says.

        Parameters
        ----------
        name : str
            Name of the recipe.
        document : mapping
            ``steps``, and ``description`` and ``resize_back`` if wanted.

        Returns
        -------
        Recipe
            The recipe.

        Raises
        ------
        ConfigError
            If a key is unknown or missing or a value is out of range.
        """
        known = ("description", "resize_back", "steps")
        if not isinstance(document, Mapping) or "steps" not in document:
            raise ConfigError("is no recipe; it needs a list called steps")
        _refuse_unknown(document, known)
        mode = document.get("resize_back", "bilinear")
        if mode not in list(RESIZE_MODES):  # which takes a value of any type
            raise ConfigError(f"resize_back {mode!r}: use one of {', '.join(RESIZE_MODES)}")
        return cls(
            name=name,
            description=str(document.get("description", "")),
            steps=_parse_steps(document["steps"], "step"),
            resize_back=mode,
            document=document,
        )


def load_recipe(recipe: str | Path) -> Recipe:
    """Read a recipe that comes with the package, or one from a file.

    Parameters
    ----------
    recipe : str or path
        One of :data:`RECIPES`, or a file ending in ``.yaml``, ``.yml`` or ``.json``.

    Returns
    -------
    Recipe
        The recipe.

    Raises
    ------
    ConfigError
        If there is none of that name, or the file cannot be read or says something that is not understood.
    """
    document = load_named("recipe", recipe, _FOLDER)
    try:
        return Recipe.from_dict(Path(recipe).stem, document)
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}") from error


def _parse_steps(document: Any, where: str) -> tuple[Step, ...]:
    if not isinstance(document, Sequence) or isinstance(document, str) or not document:
        raise ConfigError(f"{where}s {document!r}: give a list of steps")
    return tuple(_parse_step(each, f"{where} {number}") for number, each in enumerate(document, 1))


def _parse_step(document: Any, where: str) -> Step:
    if not isinstance(document, Mapping) or len(document) != 1 or not document.keys() <= {*STEPS, "shuffle"}:
        raise ConfigError(f"{where}: {document!r} is no step; use one of {', '.join(STEPS)}, shuffle with its settings")
    ((name, settings),) = document.items()
    if name == "shuffle":
        if not isinstance(settings, Sequence) or isinstance(settings, str):
            raise ConfigError(f"{where} (shuffle): {settings!r} is no list of lists of steps")
        return ShuffleStep(
            groups=tuple(_parse_steps(group, f"{where}.{number}") for number, group in enumerate(settings, 1))
        )
    kind = STEPS[name]
    try:
        if not isinstance(settings, Mapping):
            raise ConfigError(f"{settings!r} are no settings; write them as {{name: value}}")
        known = fields(kind)
        _refuse_unknown(settings, [each.name for each in known])
        for each in known:
            if each.name not in settings and each.default is MISSING and each.default_factory is MISSING:
                raise ConfigError(f"{each.name} is missing")
        step: Step = kind(**settings)
    except ConfigError as error:
        raise ConfigError(f"{where} ({name}): {error}") from error
    return step


def _refuse_unknown(document: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in document:
        if key not in known:
            raise ConfigError(f"unknown key {key!r}; use {', '.join(known)}")
