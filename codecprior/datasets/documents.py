"""YAML files that people write, or that come with the package, to plain values; what is wrong with one is one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from codecprior.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["NumberLoader", "load_named", "names_in", "parse_yaml", "read_yaml"]

_EXTENSION: Final = ".yaml"
_EXTENSIONS: Final = (_EXTENSION, ".yml", ".json")


class NumberLoader(yaml.SafeLoader):
    """Reads ``1e-4`` as the number that it is in YAML 1.2; PyYAML takes it for a text."""


NumberLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def names_in(folder: Traversable) -> tuple[str, ...]:
    """Return the names of the YAML files of a folder, without extension, sorted."""
    names = (file.name for file in folder.iterdir())
    return tuple(sorted(name.removesuffix(_EXTENSION) for name in names if name.endswith(_EXTENSION)))


def load_named(kind: str, given: str | Path, folder: Traversable) -> Any:
    """Read a document that comes with the package, or one from a file.

    Parameters
    ----------
    kind : str
        What it is, for messages.
    given : str or path
        One of :func:`names_in` of the folder, or a file ending in ``.yaml``, ``.yml`` or ``.json``.
    folder : Traversable
        Folder of the package.

    Returns
    -------
    object
        Plain values.

    Raises
    ------
    ConfigError
        If there is none of that name, or the file cannot be read or is no YAML.
    """
    path = Path(given)
    if path.suffix.lower() in _EXTENSIONS:
        return read_yaml(path)
    names = names_in(folder)
    if str(given) not in names:
        raise ConfigError(f"{kind} {str(given)!r}: use {', '.join(names)} or a .yaml file")
    return read_yaml(folder / f"{given}{_EXTENSION}")


def read_yaml(
    path: Path | Traversable,
    loader: type[yaml.SafeLoader | yaml.BaseLoader] = NumberLoader,
    error: type[ConfigError | DatasetError] = ConfigError,
) -> Any:
    """Read a YAML file.

    Parameters
    ----------
    path : path-like
        File.
    loader : type of loader
        What makes values of scalars.
    error : type of ConfigError or DatasetError
        What is raised.

    Returns
    -------
    object
        Plain values.

    Raises
    ------
    ConfigError, DatasetError
        If it cannot be read or is no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as failure:
        raise error(f"{path}: cannot be read ({failure.strerror})") from failure
    except UnicodeDecodeError as failure:
        raise error(f"{path}: is no YAML ({failure})") from failure
    return parse_yaml(text, str(path), loader, error)


def parse_yaml(
    text: str,
    where: str,
    loader: type[yaml.SafeLoader | yaml.BaseLoader] = NumberLoader,
    error: type[ConfigError | DatasetError] = ConfigError,
) -> Any:
    """Read YAML from a text; see :func:`read_yaml`.

    Parameters
    ----------
    text : str
        The YAML.
    where : str
        Where it comes from, for messages.
    loader : type of loader
        What makes values of scalars.
    error : type of ConfigError or DatasetError
        What is raised.

    Returns
    -------
    object
        Plain values.

    Raises
    ------
    ConfigError, DatasetError
        If it is no YAML.
    """
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as failure:
        raise error(f"{where}: is no YAML ({' '.join(str(failure).split())})") from failure
