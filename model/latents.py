"""Latents that stage 2 learns from, computed once: of restored and of sharp frames, packed beside them.

They are those of whole pictures: near the edges of a crop, and in what its normalisations see, they differ a little
from latents of the crop alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from codecprior.core.arrays import PLANE_CELL
from codecprior.datasets.manifest import Manifest
from codecprior.errors import ConfigError
from codecprior.store.packed import open_packed

if TYPE_CHECKING:
    from .stable_diffusion import StableDiffusion

__all__ = ["CONDITION_LATENTS", "SHARP_MOMENTS", "LatentEncoder", "vae_of"]

CONDITION_LATENTS: Final = "condition_latents"
"""Name of the mode of the posterior of restored frames, scaled: 4 channels."""

SHARP_MOMENTS: Final = "sharp_moments"
"""Name of mean and logarithm of the variance of the posterior of sharp frames: 2 x 4 channels."""


class LatentEncoder:
    """Frames to what is packed of them, in half precision: off by 2^-11 of each value at most.

    Parameters
    ----------
    base : StableDiffusion
        Whose VAE encodes.
    tile_size : int
        Side in samples of the tiles that a larger picture is encoded in; 0 encodes it as a whole.
    device : torch.device
        Where to; the VAE alone is moved there.

    Attributes
    ----------
    facts : dict
        What latents depend on besides frames, as JSON values.
    """

    def __init__(self, base: StableDiffusion, tile_size: int, device: torch.device) -> None:
        self.facts: dict[str, Any] = {"vae": base.vae_digest(), "tile_size": tile_size}
        self._base = base
        self._tile_size = tile_size
        self._device = device
        base.vae.to(device)

    def condition(self, frame: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return latents of a restored frame.

        Parameters
        ----------
        frame : ndarray, shape (H, W, 3), uint8
            R'G'B'.

        Returns
        -------
        ndarray, shape (ceil(H/8), ceil(W/8), 4), float16
            Mode of the posterior, scaled to a variance of about 1.

        Raises
        ------
        ConfigError
            If the VAE returns values that half precision does not hold.
        """
        return self._packed(self._base.latents(self._moments(frame), sample=False))

    def sharp(self, frame: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return what latents of a sharp frame are drawn from.

        Parameters
        ----------
        frame : ndarray, shape (H, W, 3), uint8
            R'G'B'.

        Returns
        -------
        ndarray, shape (ceil(H/8), ceil(W/8), 8), float16
            Mean and logarithm of the variance, not scaled.

        Raises
        ------
        ConfigError
            If the VAE returns values that half precision does not hold.
        """
        return self._packed(self._moments(frame))

    def _moments(self, frame: NDArray[np.uint8]) -> Tensor:
        height, width = frame.shape[:2]
        picture = torch.from_numpy(frame).to(self._device).movedim(-1, 0)[None] / 255
        whole = F.pad(picture, (0, -width % PLANE_CELL, 0, -height % PLANE_CELL), mode="replicate")
        return self._base.moments(whole, tile_size=self._tile_size)

    @staticmethod
    def _packed(latents: Tensor) -> NDArray[np.float16]:
        half = latents[0].movedim(0, -1).half()
        if not bool(torch.isfinite(half).all()):
            raise ConfigError("the VAE returns values that half precision does not hold; use another cpc.frozen_dtype")
        return np.ascontiguousarray(half.cpu().numpy())


def vae_of(manifest: Manifest) -> str:
    """Return whose latents a dataset has.

    Parameters
    ----------
    manifest : Manifest
        The dataset.

    Returns
    -------
    str
        Digest of the weights of the VAE.

    Raises
    ------
    ConfigError
        If a sequence has none, or they are of several VAEs.
    StoreError
        If packed frames cannot be read.
    """
    found: set[str] = set()
    for entry in manifest.entries:
        packed = None if entry.frames is None else open_packed(manifest.resolve(entry.frames))
        if packed is None or not {CONDITION_LATENTS, SHARP_MOMENTS} <= set(packed.planes):
            raise ConfigError(
                f"data.latents: sequence {entry.sequence} has none; make them with 'codecprior precompute --latents'"
            )
        found.add(packed.attributes["latents"]["vae"])
    if len(found) > 1:
        raise ConfigError("data.latents: they are of several VAEs; run 'codecprior precompute' with one base for all")
    return found.pop()
