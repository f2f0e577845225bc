"""LPIPS and MUSIQ: learned measures, with weights that the user brings; there are no random ones.

LPIPS [1]_ is the ``lpips`` package with its own linear heads over a torchvision backbone. MUSIQ [2]_ is run through
``pyiqa``, if the user has installed it: its licence is not a free one, so that nothing here depends on it.

References
----------
.. [1] R. Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
   DOI 10.1109/CVPR.2018.00068
.. [2] J. Ke et al., "MUSIQ: multi-scale image quality transformer", ICCV 2021. DOI 10.1109/ICCV48922.2021.00510
"""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import pickle
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from codecprior.errors import ConfigError
from codecprior.media.files import sha256_file

from .metric import FramePair, Metric, Scorer
from .protocols import Protocol

__all__ = ["BACKBONES", "Lpips", "LpipsNet", "Musiq", "default_backbone"]

LpipsNet = Literal["alex", "vgg", "squeeze"]
"""Backbones; prior work reports ``alex`` where it says nothing."""

BACKBONES: Final[dict[LpipsNet, str]] = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""Files of torchvision's weights trained on ImageNet."""


def default_backbone(net: LpipsNet) -> Path:
    """Return where torchvision keeps a backbone: below ``TORCH_HOME``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / BACKBONES[net]


class Lpips(Metric):
    """Learned perceptual image patch similarity, version 0.1.

    Parameters
    ----------
    path : path-like
        Weights of the backbone as torchvision has them.
    net : {"alex", "vgg", "squeeze"}
        Backbone.
    device : str
        Where it runs.

    Raises
    ------
    ConfigError
        If the weights cannot be read or are those of something else.
    """

    name = "lpips"
    label = "LPIPS"
    decimals = 4
    higher_is_better = False
    needs_sharp = True
    undefined = "none"

    def __init__(self, path: str | Path, net: LpipsNet = "alex", device: str = "cpu") -> None:
        import lpips

        self._net = net
        self._device = device
        self._sha256 = sha256_file(_existing(path))
        with warnings.catch_warnings():
            # lpips asks torchvision for networks in a way of before torchvision 0.13.
            warnings.filterwarnings("ignore", message=".*(deprecated|'weights')", category=UserWarning)
            self._model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        _load_backbone(self._model.net, Path(path), net)
        self._model.to(device)

    def start(self, protocol: Protocol) -> Scorer:
        """Begin a sequence; scores need no memory of frames before."""
        return self._score

    @torch.inference_mode()
    def _score(self, pair: FramePair) -> float:
        output, reference = (_tensor(frame, self._device) * 2 - 1 for frame in (pair.output, pair.reference))
        return float(self._model(output, reference))

    def convention(self, protocol: Protocol) -> str:
        """Say what exactly is computed."""
        return f"version 0.1, backbone {self._net}, whole frames, R'G'B' from -1 to 1"

    def facts(self) -> Mapping[str, Any]:
        """Return the version of the package and the checksum of the weights."""
        return {"lpips": importlib.metadata.version("lpips"), "weights_sha256": self._sha256}


class Musiq(Metric):
    """Multi-scale image quality transformer.

    Parameters
    ----------
    path : path-like
        Weights as pyiqa has them; those for KonIQ-10k are what prior work reports.
    device : str
        Where it runs.

    Raises
    ------
    ConfigError
        If pyiqa is not installed, or the weights cannot be read or are those of something else.
    """

    name = "musiq"
    label = "MUSIQ"
    decimals = 3
    higher_is_better = True
    needs_sharp = False
    undefined = "none"

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        self._device = device
        self._sha256 = sha256_file(_existing(path))
        try:
            pyiqa = importlib.import_module("pyiqa")
        except ImportError as error:
            raise ConfigError(
                f"MUSIQ runs through pyiqa, which cannot be imported ({error}); pip install pyiqa"
            ) from error
        try:
            with redirect_stdout(io.StringIO()):  # it prints what it loads
                self._model = pyiqa.create_metric("musiq", pretrained_model_path=str(path), device=torch.device(device))
        except (RuntimeError, KeyError, pickle.UnpicklingError, EOFError) as error:
            raise ConfigError(f"{path}: is no weights of MUSIQ with one output; give pyiqa's for KonIQ-10k") from error

    def start(self, protocol: Protocol) -> Scorer:
        """Begin a sequence; scores need no memory of frames before."""
        return self._score

    @torch.inference_mode()
    def _score(self, pair: FramePair) -> float:
        return float(self._model(_tensor(pair.output, self._device)))

    def convention(self, protocol: Protocol) -> str:
        """Say what exactly is computed."""
        return "whole frames, R'G'B', through pyiqa"

    def facts(self) -> Mapping[str, Any]:
        """Return the version of the package and the checksum of the weights."""
        return {"pyiqa": importlib.metadata.version("pyiqa"), "weights_sha256": self._sha256}


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the weights of the network")
    return path


def _load_backbone(backbone: torch.nn.Module, path: Path, net: LpipsNet) -> None:
    """Put weights into a backbone, whose layers lpips sorts into slices but numbers as torchvision does."""
    what = f"give torchvision's {BACKBONES[net]}"
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        renamed = {name: weights[f"features.{name.partition('.')[2]}"] for name in backbone.state_dict()}
        backbone.load_state_dict(renamed)
    except (RuntimeError, KeyError, TypeError, pickle.UnpicklingError, EOFError) as error:
        raise ConfigError(f"{path}: is no weights of the LPIPS backbone {net}; {what}") from error


def _tensor(frame: NDArray[np.uint8], device: str) -> torch.Tensor:
    planes = torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1)[None]
    return planes.float() / 255
