"""Protocols: what of a frame counts, which frames count and how their scores are averaged.

Prior work measures in different ways, up to some tenths of a decibel apart; a number means something only beside the
name of its protocol. Colour, border and SSIM are those of PSNR and SSIM, for which prior work defines them; the other
metrics look at whole frames. Dropped frames and averages are those of every metric.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from codecprior.errors import ConfigError

__all__ = ["DEFAULT_PROTOCOL", "PROTOCOLS", "Protocol", "find_protocol", "luma"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How outputs are compared with references.

    Parameters
    ----------
    name : str
        Name in results.
    source : str
        Where the protocol comes from.
    colour : {"rgb", "y"}
        Samples that are compared: R'G'B' of 8 bit, or luma (see :func:`luma`), not rounded.
    size_multiple : int
        Frames are cut at the right and at the bottom to multiples of this, before the border.
    border : int
        Rows and columns that are left out on each side.
    drop_first, drop_last : int
        Frames at the ends of each sequence that are not looked at.
    group_frames : int, optional
        Consecutive frames whose scores are averaged first; the total is the mean of these means. 1 gives every frame
        the same weight, None every sequence.
    ssim : {"per-channel", "across-channels"}
        SSIM of each channel within the frame, as published, or with a window that reaches over the channels, too (see
        :mod:`codecprior.model.metric_fidelity`).
    """

    name: str
    source: str
    colour: Literal["rgb", "y"] = "rgb"
    size_multiple: int = 1
    border: int = 0
    drop_first: int = 0
    drop_last: int = 0
    group_frames: int | None = None
    ssim: Literal["per-channel", "across-channels"] = "per-channel"

    def samples(self, frame: NDArray[np.uint8]) -> NDArray[Any]:
        """Return what PSNR and SSIM compare.

        Parameters
        ----------
        frame : ndarray, shape (H, W, 3), uint8
            R'G'B'.

        Returns
        -------
        ndarray, shape (h, w, C), uint8 or float64
            0 to 255; C is 3, or 1 for luma.

        Raises
        ------
        ConfigError
            If nothing is left of the frame.
        """
        height, width = (side - side % self.size_multiple for side in frame.shape[:2])
        inner = frame[self.border : height - self.border, self.border : width - self.border]
        if min(height, width) <= 2 * self.border:
            raise ConfigError(
                f"frame of {frame.shape[1]}x{frame.shape[0]}: protocol {self.name} cuts {self.border} samples off each "
                "side, nothing is left; use larger frames or another protocol"
            )
        return inner if self.colour == "rgb" else luma(inner)[..., None]

    def describe(self) -> str:
        """Say in one line what the protocol is."""
        samples = "R'G'B' of 8 bit" if self.colour == "rgb" else "luma (BT.601)"
        border = f"without a border of {self.border} samples" if self.border else "whole frames"
        multiple = f", cut to multiples of {self.size_multiple}" if self.size_multiple > 1 else ""
        ends = self.drop_first, self.drop_last
        frames = f"without the first {ends[0]} and last {ends[1]} frames" if any(ends) else "all frames"
        over = {1: "frames", None: "sequences"}.get(self.group_frames, f"groups of {self.group_frames} frames")
        ssim = "SSIM across channels" if self.ssim == "across-channels" else "SSIM per channel"
        return f"{samples}, {border}{multiple}, {frames}, {ssim}, mean over {over}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def luma(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Luma as MATLAB's ``rgb2ycbcr`` defines it (Rec. ITU-R BT.601, limited range), not rounded.

    Parameters
    ----------
    frame : ndarray, shape (H, W, 3), uint8
        R'G'B'.

    Returns
    -------
    ndarray, shape (H, W), float64
        16 to 235.
    """
    weighted: NDArray[np.float64] = frame @ (np.array([65.481, 128.553, 24.966]) / 255)
    return weighted + 16


DEFAULT_PROTOCOL: Final = "plain"

PROTOCOLS: Final = {
    protocol.name: protocol
    for protocol in (
        Protocol(name="plain", source="codecprior", group_frames=1),
        Protocol(
            name="cdvd-tsp",
            source="github.com/csbhr/CDVD-TSP, code/inference.py without --border",
            size_multiple=4,
            border=4,
            drop_first=2,
            drop_last=2,
            group_frames=1,
        ),
        Protocol(name="rvrt", source="github.com/cszn/KAIR, main_test_rvrt.py"),
        Protocol(name="rvrt-y", source="github.com/cszn/KAIR, main_test_rvrt.py, PSNR_Y and SSIM_Y", colour="y"),
        # It runs on clips of 48 frames that share 4, leaves 2 out at both ends of each, and averages over clips: 44
        # frames each and what is left. For the sequences of GoPro and DVD (77, 100 and 134 frames) it cuts the last
        # clip so that no frame counts twice. CPGD-Net's repository has the same code.
        Protocol(
            name="bsstnet",
            source="github.com/huicongzhang/BSSTNet, basicsr/models/Video_BSST_model.py",
            drop_first=2,
            drop_last=2,
            group_frames=44,
            ssim="across-channels",
        ),
    )
}
"""Protocols by name."""


def find_protocol(name: str) -> Protocol:
    """Return a protocol.

    Parameters
    ----------
    name : str
        One of :data:`PROTOCOLS`.

    Returns
    -------
    Protocol
        The protocol.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol {name!r}: use one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
