"""One training of stage 1 with one kind of vectors and residual, and what it gains on clips that it has not seen."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

__all__ = ["VARIANTS", "Variant", "run_unit"]

_PRESET: Final = "cpfp-tiny"
_PLAIN: Final = ("cpfp.residual_mask=false", "cpfp.intra_mask=false")
_LITERAL: Final = (
    "cpfp.alignment.hole_policy=zero",
    "cpfp.intra_mask=false",
    "cpfp.use_current_feat=false",
    "cpfp.max_residue=null",
    "cpfp.dcn_init=random",
)
"""Undoes what the preset changes of the paper's alignment; size, loss and H/2 features stay."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a network is given.

    Parameters
    ----------
    meaning : str
        A few words for the table.
    settings : tuple of str
        Differences from the preset with vectors of list 0, as ``codecprior train --set`` takes them.
    base : str
        The variant that lacks just what is new in this one.
    vectors : {"codec", "true", "dis"}
        Whose vectors the stores hold; see :mod:`benchmarks.evidence_data`.
    """

    meaning: str
    settings: tuple[str, ...]
    base: str = "none"
    vectors: Literal["codec", "true", "dis"] = "codec"


_NO_R: Final = "cpfp.residual_mask=false"
_NO_V: Final = "cpfp.alignment.source=none"
_NEIGHBOUR: Final = "cpfp.alignment.hole_policy=neighbour"
_GLOBAL: Final = "cpfp.alignment.hole_policy=global"
_TANH: Final = ("cpfp.residual_gain=16.0", "cpfp.residual_activation=tanh")

VARIANTS: Final = {
    "none": Variant(meaning="no vectors, no R", settings=(_NO_V, *_PLAIN)),
    "true": Variant(meaning="true motion", settings=_PLAIN, vectors="true"),
    "dis": Variant(meaning="DIS flow between blurry frames", settings=_PLAIN, vectors="dis"),
    "v-zero": Variant(meaning="V, holes 0", settings=("cpfp.alignment.hole_policy=zero", *_PLAIN)),
    "v-neighbour": Variant(meaning="V, holes from neighbours", settings=(_NEIGHBOUR, *_PLAIN), base="v-zero"),
    "v-neighbour-intra": Variant(
        meaning="V, holes from neighbours, intra mask", settings=(_NEIGHBOUR, _NO_R), base="v-neighbour"
    ),
    "v-global": Variant(meaning="V, holes from global motion", settings=(_GLOBAL, *_PLAIN), base="v-zero"),
    "v-global-intra": Variant(
        meaning="V, holes from global motion, intra mask", settings=(_GLOBAL, _NO_R), base="v-global"
    ),
    "v-global-mean": Variant(
        meaning="mean of both lists, holes from global motion, intra mask",
        settings=(_GLOBAL, _NO_R, "data.vectors=mean"),
        base="v-global-intra",
    ),
    "vr-neighbour": Variant(
        meaning="V, holes from neighbours, intra mask, R", settings=(_NEIGHBOUR,), base="v-neighbour-intra"
    ),
    "vr-global": Variant(
        meaning="V, holes from global motion, intra mask, R", settings=(_GLOBAL,), base="v-global-intra"
    ),
    "vr-global-tanh": Variant(meaning="the same, tanh(16 R)", settings=(_GLOBAL, *_TANH), base="v-global-intra"),
    "vr-global-sigmoid": Variant(
        meaning="the same, tanh(16 R), M = sigmoid(R + C_m)",
        settings=(_GLOBAL, *_TANH, "cpfp.mask_mode=sigmoid_sum"),
        base="v-global-intra",
    ),
    "vr-neighbour-mean": Variant(
        meaning="mean of both lists, holes from neighbours, intra mask, R (preset)",
        settings=(_NEIGHBOUR, "data.vectors=mean"),
        base="vr-neighbour",
    ),
    "paper-none": Variant(meaning="paper read literally, without V and R", settings=(*_LITERAL, _NO_V, _NO_R)),
    "paper": Variant(meaning="paper read literally: V, holes 0, R", settings=_LITERAL, base="paper-none"),
}
"""What is compared, by name."""


def run_unit(
    variant: str,
    seed: int,
    data: Path,
    *,
    steps: int,
    common: Sequence[str] = (),
    device: Literal["cpu", "cuda"] = "cpu",
    threads: int = 1,
) -> dict[str, Any]:
    """Train a network and restore the test clips.

    Parameters
    ----------
    variant : str
        One of :data:`VARIANTS`.
    seed : int
        Of first weights and clips.
    data : pathlib.Path
        What :func:`benchmarks.evidence_data.make_data` made.
    steps : int
        Steps of training.
    common : sequence of str
        Differences from the preset that all variants share.
    device : {"cpu", "cuda"}
        Where to train.
    threads : int
        Of torch on the CPU.

    Returns
    -------
    dict
        JSON values: what was done, and for each test clip the mean squared error of each frame, before and after.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # accelerate would take a GPU that is there
    import torch

    from codecprior.datasets.manifest import read_manifest
    from codecprior.model.checkpoint import load_checkpoint
    from codecprior.model.training import train
    from codecprior.model.training_config import Phase1Config, training_config

    torch.set_num_threads(threads)
    chosen = VARIANTS[variant]
    settings = (
        "data.vectors=l0",
        *chosen.settings,
        *common,
        f"training.seed={seed}",
        f"training.steps={steps}",
        "run.num_workers=0",
        f"run.log_every={steps}",
        f"run.save_every={steps}",
    )
    config = training_config(_PRESET, settings)
    assert isinstance(config, Phase1Config)
    manifest = read_manifest(data / chosen.vectors)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, manifest, Path(folder) / "run")
        _, network = load_checkpoint(Path(folder) / "run", kind="cpfp")
    return {
        "variant": variant,
        "meaning": chosen.meaning,
        "settings": list(chosen.settings),
        "seed": seed,
        "steps": steps,
        "common": list(common),
        "loss": result.loss,
        "seconds": round(time.monotonic() - begun, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "clips": _scores(network, config, manifest, device),
    }


def _scores(network: Any, config: Any, manifest: Any, device: str) -> dict[str, dict[str, list[float]]]:
    """Restore whole pictures in windows as long as the clips of the training, each beginning where one has ended."""
    import torch

    from codecprior.datasets.reader import ClipReader
    from codecprior.datasets.sampling import Windows
    from codecprior.model.dataset import ClipDataset, ClipLoader
    from codecprior.model.phase1 import Phase1
    from codecprior.model.training_data import split_of

    unseen, length = split_of(manifest, "test", "split"), config.data.num_frames
    windows = Windows(unseen.entries, num_frames=length, step=length - 1)
    phase, network = Phase1(config, torch.device(device)), network.to(device)
    scores: dict[str, dict[str, list[float]]] = {}
    for batch in ClipLoader(ClipDataset(ClipReader(unseen, config.reader()), windows), batch_size=1):
        moved = {key: each.to(device) if isinstance(each, torch.Tensor) else each for key, each in batch.items()}
        with torch.no_grad():
            frames = phase.restore(network, moved)
        of_clip = scores.setdefault(batch["sequence"][0], {"blurry": [], "restored": []})
        for side, errors in of_clip.items():
            known = len(errors) - int(batch["frame_indices"][0, 0])  # from the window before
            errors.extend(_squared_error(frames[side], frames["sharp"])[known:])
    return scores


def _squared_error(frames: Any, sharp: Any) -> list[float]:
    """Mean squared error of each frame, of samples from 0 to 255."""
    errors = (255 * (frames.clamp(0, 1) - sharp)).square().mean(dim=(1, 2, 3))
    return [round(value, 4) for value in errors.tolist()]
