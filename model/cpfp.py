"""Stage 1: blurry clips to sharper ones by Coding-Prior Feature Propagation (CPFP, Eqs. 1 to 4).

Features of each frame are led to the next one along motion vectors and refined by a deformable convolution, whose
offsets start at the vectors and whose masks are raised by the residual. Where the paper says nothing, the network is
BasicVSR++ (Chan et al., CVPR 2022), which it follows: encoder, recurrent branches in both directions, fusion by
residual blocks, reconstruction by sub-pixel convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from codecprior.core.arrays import CELL
from codecprior.errors import ConfigError

from .alignment import Guidance, on_grid, warp
from .config import CpfpConfig
from .deformable import TAPS, DeformableConvolution

__all__ = ["CpfaBlock", "Cpfp", "CpfpOutput", "Past"]

_SLOPE: Final = 0.1
"""Of leaky rectifiers."""
_RESIDUAL_INIT: Final = 0.1
"""Factor on first weights within residual blocks, which then begin near the identity."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Past:
    """What a block remembers of the frames that it has come through.

    Parameters
    ----------
    features : Tensor, shape (B, C, h, w)
        Its features F* at the last frame.
    before : Tensor, shape (B, C, h, w), optional
        Those at the frame before that one, in networks of second order.
    vectors : Tensor, shape (B, 2, h, w), optional
        (x, y) in features from the last frame to the one before.
    """

    features: Tensor
    before: Tensor | None = None
    vectors: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CpfpOutput:
    """Restored frames, and where to go on from.

    Parameters
    ----------
    frames : Tensor, shape (B, T, 3, H, W)
        R'G'B', not cut to 0 to 1.
    state : tuple of Past or None
        For each block of the cascade what it remembers at the last of these frames; None for backward blocks.
    """

    frames: Tensor
    state: tuple[Past | None, ...]


class CpfaBlock(nn.Module):
    """One Coding-Prior Feature Alignment block: Eqs. 1 to 4 and the fusion behind them.

    Parameters
    ----------
    config : CpfpConfig
        The network.
    earlier : int
        Blocks before this one, whose features are fused too.
    """

    def __init__(self, config: CpfpConfig, earlier: int) -> None:
        super().__init__()
        self.config = config
        channels, orders = config.channels, 1 + config.second_order
        seen = orders * (channels + 2) + config.intra_mask + channels * config.use_current_feat
        seen += config.residual_channels * config.residual_mask
        self.offset_network = _parameter_network(seen, channels, 2 * TAPS * config.deform_groups)
        self.mask_network = _parameter_network(seen, channels, TAPS * config.deform_groups)
        self.deform = DeformableConvolution(orders * channels, channels, config.deform_groups, config.dcn_init)
        fused = 2 + earlier + config.fuse_previous
        self.fusion = _residual_blocks(fused * channels, channels, config.fusion_blocks)

    def forward(
        self,
        current: Tensor,
        earlier: Sequence[Tensor],
        past: Past | None,
        vectors: Tensor,
        *,
        residual: Tensor | None,
        intra: Tensor | None,
    ) -> Tensor:
        """Go one frame further.

        Parameters
        ----------
        current : Tensor, shape (B, C, h, w)
            F_t, features of this frame as the encoder gives them.
        earlier : sequence of Tensor, shape (B, C, h, w)
            F*_t of the blocks before this one.
        past : Past, optional
            F_{t-1}, what this block made of the neighbouring frame; None at the first frame, where nothing is aligned.
        vectors : Tensor, shape (B, 2, h, w)
            V, (x, y) in features from this frame to its neighbour.
        residual : Tensor, shape (B, 1 or 3, h, w), optional
            R, in the range that the configuration gives it.
        intra : Tensor, shape (B, 1, h, w), optional
            Share of samples that were predicted from their own frame.

        Returns
        -------
        Tensor, shape (B, C, h, w), float32
            F*_t.
        """
        config = self.config
        if past is None:
            aligned = previous = torch.zeros_like(current)
        else:
            previous = past.features
            warped = warp(previous, vectors)  # Eq. 1
            seen, sampled, motion = [vectors, warped], [previous], [vectors]
            if config.second_order:
                before, joined = torch.zeros_like(previous), torch.zeros_like(vectors)
                if past.before is not None and past.vectors is not None:
                    before, joined = past.before, vectors + warp(past.vectors, vectors)
                seen += [joined, warp(before, joined)]
                sampled.append(before)
                motion.append(joined)
            seen += [each for each in (residual, intra) if each is not None]
            if config.use_current_feat:
                seen.append(current)
            known = torch.cat(seen, dim=1)
            offsets = self._offsets(motion, self.offset_network(known))  # Eq. 2
            masks = self._masks(residual, self.mask_network(known))  # Eq. 3
            aligned = self.deform(torch.cat(sampled, dim=1), offsets, masks)  # Eq. 4
        fused = [current, *earlier, aligned]
        if config.fuse_previous:
            fused.append(previous)
        result: Tensor = aligned + self.fusion(torch.cat(fused, dim=1))
        return result

    def _offsets(self, motion: Sequence[Tensor], residue: Tensor) -> Tensor:
        """O = V + C_o (Eq. 2) for each tap of each group, as (dy, dx)."""
        residue = residue.float()
        if self.config.max_residue is not None:
            residue = self.config.max_residue * residue.tanh()
        pairs = residue.shape[1] // (2 * len(motion))
        return residue + torch.cat([vectors.flip(1).repeat(1, pairs, 1, 1) for vectors in motion], dim=1)

    def _masks(self, residual: Tensor | None, learnt: Tensor) -> Tensor:
        """M = R + C_m (Eq. 3) for each tap of each group."""
        learnt = learnt.float()
        raised = 0.0 if residual is None else residual.mean(dim=1, keepdim=True)
        if self.config.mask_mode == "r_plus_sigmoid":
            return learnt.sigmoid() + raised
        total = learnt + raised
        if self.config.mask_mode == "sigmoid_sum":
            return total.sigmoid()
        return total.clamp(0, 1) if self.config.mask_mode == "clamp" else total


class Cpfp(nn.Module):
    """The network of stage 1.

    >>> aligner, network = Aligner(config), Cpfp(config)  # doctest: +SKIP
    >>> network(batch["blurry"], **aligner(batch)).frames.shape  # doctest: +SKIP
    torch.Size([8, 15, 3, 256, 256])

    Parameters
    ----------
    config : CpfpConfig
        What it is made of.

    Attributes
    ----------
    gradient_checkpointing : bool
        Whether activations within blocks are computed again for gradients instead of kept.
    """

    def __init__(self, config: CpfpConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        channels, wide = config.channels, config.upsampling_channels
        self.encoder = nn.Sequential(
            nn.Conv2d(3, channels, 3, 2, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(channels, channels, 3, config.feature_stride // 2, 1),
            nn.LeakyReLU(_SLOPE),
            _residual_blocks(channels, channels, config.encoder_blocks),
        )
        self.blocks = nn.ModuleList(CpfaBlock(config, earlier) for earlier in range(len(config.branches)))
        doublings = (channels,) if config.feature_stride == 2 else (channels, wide)
        self.reconstruction = nn.Sequential(
            _residual_blocks((1 + len(self.blocks)) * channels, channels, config.reconstruction_blocks),
            *(_doubling(width, wide) for width in doublings),
            nn.Conv2d(wide, wide, 3, 1, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(wide, 3, 3, 1, 1),
        )

    def forward(
        self,
        blurry: Tensor,
        forward: Guidance | None = None,
        backward: Guidance | None = None,
        *,
        state: Sequence[Past | None] | None = None,
        keep: int | None = None,
    ) -> CpfpOutput:
        """Restore a clip, or a part of a longer one.

        A long clip is restored in parts that overlap: each reads some frames more than it keeps, for the backward
        blocks, and the next one goes on with the state at the last frame that was kept. Forward blocks never notice the
        cut; backward blocks begin anew at the end of each part.

        Parameters
        ----------
        blurry : Tensor, shape (B, T, 3, H, W)
            R'G'B', 0 to 1; H and W are multiples of 4.
        forward, backward : Guidance, optional
            What leads to each frame from the one before it, and from the one behind; needed where there are such
            blocks.
        state : sequence of Past or None, optional
            State of the output for the frames just before these.
        keep : int, optional
            Number of frames at the beginning to return; all if not given.

        Returns
        -------
        CpfpOutput
            Restored frames, and the state at the last of them.

        Raises
        ------
        ConfigError
            If sizes do not fit or something is missing.
        """
        length, _, height, width = blurry.shape[1:]
        if height % CELL or width % CELL:
            raise ConfigError(f"frames of {width}x{height}: CPFP takes multiples of {CELL}; crop or pad them")
        kept = length if keep is None else keep
        if not 1 <= kept <= length:
            raise ConfigError(f"keep {keep} of {length} frames: use 1 to {length}")
        guides = {"forward": forward, "backward": backward}
        paths = {direction: self._path(direction, guides[direction], blurry) for direction in set(self.config.branches)}
        repeat = self.gradient_checkpointing and torch.is_grad_enabled()
        features = [{t: self.encoder(blurry[:, t]) for t in range(length)}]
        states: list[Past | None] = []
        for number, direction in enumerate(self.config.branches):
            order = range(length) if direction == "forward" else range(length - 1, -1, -1)
            past = state[number] if state is not None and direction == "forward" else None
            found: dict[int, Tensor] = {}
            remembered = None
            for t in order:
                current, *earlier = (each[t] for each in features)
                vectors, residual, intra = (each if each is None else each[:, t] for each in paths[direction])
                step = partial(self.blocks[number], current, earlier, past, vectors, residual=residual, intra=intra)
                found[t] = checkpoint(step, use_reentrant=False) if repeat else step()
                past = self._remember(found[t], past, vectors)
                if direction == "forward" and t == kept - 1:
                    remembered = past
            features.append(found)
            states.append(remembered)
        restored = [
            blurry[:, t] + self.reconstruction(torch.cat([each[t] for each in features], dim=1)) for t in range(kept)
        ]
        return CpfpOutput(frames=torch.stack(restored, dim=1), state=tuple(states))

    def _path(
        self, direction: str, guidance: Guidance | None, blurry: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Bring vectors, residual and intra mask to the grid of the features: (B, T, channels, h, w)."""
        config = self.config
        if guidance is None:
            raise ConfigError(f"the network has {direction} blocks: give their guidance")
        if guidance.vectors.shape[:2] != blurry.shape[:2]:
            theirs, ours = (" clips of ".join(map(str, each.shape[:2])) for each in (guidance.vectors, blurry))
            raise ConfigError(f"{direction} guidance of {theirs} frames does not fit to {ours} frames")
        size = blurry.shape[3] // config.feature_stride, blurry.shape[4] // config.feature_stride
        vectors = on_grid(guidance.vectors, size) / config.feature_stride
        residual = intra = None
        if config.residual_mask:
            if guidance.residual is None or guidance.residual.shape[2] != config.residual_channels:
                given = "none" if guidance.residual is None else f"one of {guidance.residual.shape[2]} planes"
                raise ConfigError(
                    f"the network needs a residual of {config.residual_channels} planes; there is {given}"
                )
            residual = config.residual_gain * guidance.residual.float()
            if config.residual_activation == "clamp":
                residual = residual.clamp(0, 1)
            elif config.residual_activation == "tanh":
                residual = residual.tanh()
            residual = on_grid(residual, size)
        if config.intra_mask:
            if guidance.intra is None:
                raise ConfigError("the network needs the intra mask; there is none")
            intra = on_grid(guidance.intra, size)
        return vectors, residual, intra

    def _remember(self, features: Tensor, past: Past | None, vectors: Tensor | None) -> Past:
        if past is None or not self.config.second_order:
            return Past(features=features)
        return Past(features=features, before=past.features, vectors=vectors)


class _ResidualBlock(nn.Module):
    """Two convolutions beside the identity, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight)
            with torch.no_grad():
                layer.weight.mul_(_RESIDUAL_INIT)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        change: Tensor = self.second(torch.relu(self.first(features)))
        return features + change


def _residual_blocks(in_channels: int, channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, 1, 1),
        nn.LeakyReLU(_SLOPE),
        *(_ResidualBlock(channels) for _ in range(count)),
    )


def _parameter_network(seen: int, channels: int, parameters: int) -> nn.Sequential:
    """C_o or C_m: four convolutions, the last of which begins at 0."""
    last = nn.Conv2d(channels, parameters, 3, 1, 1)
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Conv2d(seen, channels, 3, 1, 1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(channels, channels, 3, 1, 1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(channels, channels, 3, 1, 1),
        nn.LeakyReLU(_SLOPE),
        last,
    )


def _doubling(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, 4 * channels, 3, 1, 1), nn.PixelShuffle(2), nn.LeakyReLU(_SLOPE))
