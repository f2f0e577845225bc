"""Trained networks as files: weights in safetensors that hold their configuration, and the same as YAML for people.

>>> save_checkpoint(run, network, sections)  # doctest: +SKIP
>>> sections, network = load_checkpoint("runs/cpfp", kind="cpfp")  # doctest: +SKIP
>>> sections["cpfp"]["channels"]  # doctest: +SKIP
64
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from codecprior import __version__
from codecprior.errors import ConfigError
from codecprior.media.files import written_whole

from .config import CpfpConfig
from .cpfp import Cpfp

__all__ = [
    "CONFIG_NAME",
    "STAGE1_NAME",
    "WEIGHTS_NAME",
    "NetworkKind",
    "kind_of",
    "load_checkpoint",
    "read_sections",
    "save_checkpoint",
    "weights_file",
]

WEIGHTS_NAME: Final = "model.safetensors"
"""Name of the weights in the folder of a training."""
CONFIG_NAME: Final = "config.yaml"
"""Name of the configuration beside them, for people; the weights hold the same."""

STAGE1_NAME: Final = "stage1.safetensors"
"""Name of the weights of stage 1 in the folder of a training of stage 2, which belong together."""

NetworkKind = Literal["cpfp", "cpc"]
"""What is trained: the network of stage 1 or the ControlNet of stage 2; its section in a configuration is named so."""

_ENTRY: Final = "codecprior"
"""Name of the metadata in a file of weights: JSON of the version, the configuration and, in stage 2, sizes."""
_STAGES: Final[dict[NetworkKind, str]] = {"cpfp": "stage 1 (cpfp)", "cpc": "stage 2 (cpc)"}


def kind_of(sections: Mapping[str, Any]) -> NetworkKind:
    """Return what a configuration is for.

    Parameters
    ----------
    sections : mapping
        Sections by name.

    Returns
    -------
    {"cpfp", "cpc"}
        The only one of them that is a section.

    Raises
    ------
    ConfigError
        If none or both are.
    """
    found = [kind for kind in _STAGES if kind in sections]
    if len(found) != 1:
        raise ConfigError(f"sections {', '.join(sections) or 'none'}: there must be one of cpfp and cpc")
    return found[0]


def save_checkpoint(run: Path, network: nn.Module, sections: Mapping[str, Any]) -> None:
    """Write the weights of a network in place of those that are there, whole or not at all.

    Parameters
    ----------
    run : pathlib.Path
        Folder of the training, for :data:`WEIGHTS_NAME` and :data:`CONFIG_NAME`.
    network : Cpfp or CodingPriorControlNet
        The network, not wrapped.
    sections : mapping
        Its configuration as JSON values; one section is named like its kind.

    Raises
    ------
    MediaError
        If the files cannot be written.
    """
    facts = {"version": __version__, "config": sections}
    if kind_of(sections) == "cpc":  # sizes come from the base, which a configuration only names
        facts["network"] = json.loads(cast(Any, network).to_json_string())
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with written_whole(run / WEIGHTS_NAME) as partial:
        # One entry: safetensors writes several in an order that changes, and equal weights should be equal files.
        save_file(weights, partial, {_ENTRY: json.dumps(facts)})
    with written_whole(run / CONFIG_NAME) as partial:
        partial.write_text(yaml.safe_dump(dict(sections), sort_keys=False), encoding="utf-8")


def read_sections(path: Path | str) -> dict[str, Any]:
    """Read the configuration of a checkpoint without its weights.

    Parameters
    ----------
    path : path-like
        Folder of a training, or a file of weights.

    Returns
    -------
    dict
        Sections by name, as JSON values.

    Raises
    ------
    ConfigError
        If there is no checkpoint.
    """
    return cast("dict[str, Any]", _facts(weights_file(path))["config"])


def load_checkpoint(path: Path | str, kind: NetworkKind | None = None) -> tuple[dict[str, Any], nn.Module]:
    """Load a trained network.

    Parameters
    ----------
    path : path-like
        Folder of a training, or a file of weights.
    kind : {"cpfp", "cpc"}, optional
        What it must be.

    Returns
    -------
    sections : dict
        The configuration that it was trained with, sections by name, as JSON values.
    network : Cpfp or CodingPriorControlNet
        On the CPU, in float32, in evaluation mode.

    Raises
    ------
    ConfigError
        If there is no checkpoint, it is of another kind, or weights and configuration do not belong together.
    """
    file = weights_file(path)
    facts = _facts(file)
    sections: dict[str, Any] = facts["config"]
    found = kind_of(sections)
    if kind not in (None, found):
        raise ConfigError(f"{file}: is a checkpoint of {_STAGES[found]}; give one of {_STAGES[kind]}")
    weights = load_file(file)
    with torch.device("meta"):
        network = _network(found, facts)
    expected = {name: value.shape for name, value in network.state_dict().items()}
    wrong = sorted(
        name for name in {*expected, *weights} if name not in weights or expected.get(name) != weights[name].shape
    )
    if wrong:
        raise ConfigError(
            f"{file}: {len(wrong)} tensors do not fit its configuration, such as {wrong[0]}; it was made by codecprior "
            f"{facts['version']}, this is {__version__}"
        )
    network.load_state_dict(weights, assign=True)
    return sections, network.eval()


def _network(kind: NetworkKind, facts: Mapping[str, Any]) -> nn.Module:
    if kind == "cpfp":
        return Cpfp(CpfpConfig.from_dict(facts["config"]["cpfp"]))
    from .cpc import CodingPriorControlNet  # diffusers takes seconds to import

    return cast(nn.Module, CodingPriorControlNet.from_config(facts["network"]))


def weights_file(path: Path | str) -> Path:
    """Find the weights of a checkpoint.

    Parameters
    ----------
    path : path-like
        Folder of a training, or a file of weights.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ConfigError
        If there is none.
    """
    file = Path(path)
    if file.is_dir():
        file /= WEIGHTS_NAME
    if not file.is_file():
        raise ConfigError(f"{file}: no checkpoint here; give a folder that 'codecprior train' wrote, or its weights")
    return file


def _facts(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{file}: is no safetensors file ({error})") from error
    if _ENTRY not in metadata:
        raise ConfigError(f"{file}: holds no configuration; give weights that 'codecprior train' wrote")
    return cast("dict[str, Any]", json.loads(metadata[_ENTRY]))
