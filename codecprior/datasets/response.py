"""Samples as they are displayed into the light that made them, and back: the camera response function.

A camera sums light over the exposure and applies its response afterwards. The response of most is not known; a power
function with the exponent 1/2.2 comes near it (Nah et al., CVPR 2017, DOI 10.1109/CVPR.2017.35).
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from codecprior.errors import ConfigError

__all__ = ["RESPONSES", "Light", "Response", "check_response", "to_light", "to_samples"]

Response = Literal["gamma2.2", "linear"]
"""``"gamma2.2"``: sample = light^(1/2.2), GoPro's ``blur_gamma``. ``"linear"``: sample = light, GoPro's ``blur``."""
RESPONSES: Final[tuple[Response, ...]] = get_args(Response)

Light = NDArray[np.float32]
"""Amount of light, shape (H, W, 3), 0 to 1."""

_GAMMA: Final = 2.2


def check_response(response: str) -> None:
    """Refuse what is no response.

    Parameters
    ----------
    response : str
        Name.

    Raises
    ------
    ConfigError
        If it is none of :data:`RESPONSES`.
    """
    if response not in RESPONSES:
        raise ConfigError(f"camera response {response!r}: use {' or '.join(RESPONSES)}")


def to_light(picture: NDArray[Any], response: Response) -> Light:
    """Undo the camera response.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8, uint16 or float32
        Samples that use the whole range of an integer, or floats from 0 to 1.
    response : Response
        What the camera did.

    Returns
    -------
    ndarray, shape (H, W, 3), float32
        Light, 0 to 1.
    """
    peak = 1 if picture.dtype == np.float32 else np.iinfo(picture.dtype).max
    samples = np.divide(picture, peak, dtype=np.float32)
    return samples if response == "linear" else np.asarray(cv2.pow(samples, _GAMMA), np.float32)


def to_samples(light: Light, response: Response, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Apply the camera response.

    Parameters
    ----------
    light : ndarray, shape (H, W, 3), float32
        Light; what is outside of 0 to 1 is clipped.
    response : Response
        What the camera does.
    dtype : numpy.dtype
        uint8 or uint16.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8 or uint16
        Samples that use their whole range, rounded half to even.
    """
    clipped = np.clip(light, 0, 1)
    samples = clipped if response == "linear" else np.asarray(cv2.pow(clipped, 1 / _GAMMA), np.float32)
    picture: NDArray[Any] = np.rint(samples * np.float32(np.iinfo(dtype).max)).astype(dtype)
    return picture
