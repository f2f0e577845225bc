"""Configuration of networks: dataclasses that check their values, and YAML files as plain documents.

A file is a mapping of sections; each section belongs to one dataclass, such as ``cpfp`` to :class:`CpfpConfig`::

    cpfp:
      channels: 64
      alignment: {source: mv, hole_policy: zero}

>>> config = CpfpConfig.from_dict(load_preset("cpfp-tiny")["cpfp"])
>>> config.alignment.hole_policy
'neighbour'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from codecprior.datasets.documents import load_named, names_in, parse_yaml
from codecprior.datasets.holes import HolePolicy
from codecprior.errors import ConfigError

__all__ = ["PRESETS", "AlignmentConfig", "Config", "CpfpConfig", "load_preset", "overridden"]

_FOLDER: Final = resources.files(__package__) / "configs"

PRESETS: Final = names_in(_FOLDER)
"""Names of the configurations that come with the package."""

_C = TypeVar("_C", bound="Config")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of configurations: a value that does not fit the annotation of its field raises ConfigError.

    Fields have defaults. They are numbers, texts, literals, tuples of one type, other configurations, or None.
    """

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not _fits(value, hint):
                raise ConfigError(f"{name} {value!r}: use {_spoken(hint)}")

    @classmethod
    def from_dict(cls: type[_C], document: Any) -> _C:
        """Build a configuration from plain values.

        Parameters
        ----------
        document : mapping
            Values by field, as :meth:`to_dict` returns them; what is left out has its default.

        Returns
        -------
        Config
            The configuration.

        Raises
        ------
        ConfigError
            If a key is unknown or a value is not accepted.
        """
        if not isinstance(document, Mapping):
            raise ConfigError(f"{document!r} are no settings; write them as 'name: value'")
        hints = get_type_hints(cls)
        for key in document:
            if key not in hints:
                raise ConfigError(f"unknown key {key!r}; use {', '.join(hints)}")
        values = {}
        for key, value in document.items():
            try:
                values[key] = _parsed(value, hints[key])
            except ConfigError as error:
                raise ConfigError(f"{key}: {error}") from error
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them, from which :meth:`from_dict` builds the same configuration."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    def _require_at_least(self, least: int, *names: str) -> None:
        """Raise ConfigError if a field is less."""
        for name in names:
            if getattr(self, name) < least:
                raise ConfigError(f"{name} {getattr(self, name)}: use {least} or more")


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig(Config):
    """Where vectors from a frame to its neighbour come from.

    Parameters
    ----------
    source : {"mv", "raft", "raft_mv_init", "dis", "none"}
        Motion vectors of the codec; RAFT's flow between blurry frames; the same, started at the motion vectors;
        OpenCV's DIS flow, which needs no weights; or zeros.
    hole_policy : {"zero", "neighbour", "global"}
        Vectors of cells that have none, such as intra blocks; see :data:`codecprior.datasets.holes.HolePolicy`. Zero is
        the paper read literally.
    pooling : {"average", "valid"}
        Vector of a part of the picture larger than a cell, which RAFT is started at: mean over all of its cells, or
        over those that have one.
    raft_updates : int
        Iterations of RAFT; the paper compares 4 and 20.
    raft_weights : str, optional
        File with the state of torchvision's ``raft_large``; RAFT does not run without.
    dis_preset : {"ultrafast", "fast", "medium"}
        Effort of DIS.

    Raises
    ------
    ConfigError
        If a value is none of these.
    """

    source: Literal["mv", "raft", "raft_mv_init", "dis", "none"] = "mv"
    hole_policy: HolePolicy = "zero"
    pooling: Literal["average", "valid"] = "average"
    raft_updates: int = 20
    raft_weights: str | None = None
    dis_preset: Literal["ultrafast", "fast", "medium"] = "medium"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_at_least(1, "raft_updates")


@dataclass(frozen=True, kw_only=True)
class CpfpConfig(Config):
    """The network of stage 1. Defaults are the paper read literally, and BasicVSR++ where it says nothing.

    Parameters
    ----------
    branches : tuple of {"forward", "backward"}
        Direction of each CPFA block of the cascade, first one first. Forward blocks lead features from frame t - 1 to
        t. The paper shows one block; BasicVSR++, which it follows, and its release have these four.
    feature_stride : {2, 4}
        Samples from one feature to the next.
    channels : int
        Channels of features.
    deform_groups : int
        Groups of channels with offsets and masks of their own.
    encoder_blocks, fusion_blocks, reconstruction_blocks : int
        Residual blocks in the encoder, in the fusion of each CPFA block, and in the reconstruction.
    upsampling_channels : int
        Channels of the reconstruction at the size of the picture.
    alignment : AlignmentConfig
        Where V comes from.
    residual_mask : bool
        Whether R is used: as input of both convolution networks (Eqs. 2 and 3) and in the mask (Eq. 3). Without, this
        is "w/o CRs" of Table III.
    residual_channels : {1, 3}
        Planes of R as the data have it; the mask takes their mean.
    residual_gain : float
        Factor on R. In range of samples, R has a mean near 0.02, which hardly moves a mask.
    residual_activation : {"clamp", "tanh", "none"}
        What brings R times its gain into a range: cut to [0, 1], as the paper has it, tanh, or nothing.
    mask_mode : {"r_plus_sigmoid", "sigmoid_sum", "clamp", "raw"}
        The M of Eq. 3, whose activation the paper leaves open: R + sigmoid(C_m), sigmoid(R + C_m), R + C_m cut to
        [0, 1], or R + C_m. The last two begin with masks near zero.
    max_residue : float, optional
        Greatest part of C_o in an offset, in features, as m tanh(C_o); C_o itself if not given. BasicVSR++ has 10.
    use_current_feat : bool
        Whether both convolution networks also see the features of the present frame, as in BasicVSR++.
    second_order : bool
        Whether frame t - 2 is aligned too, along joined vectors, as in BasicVSR++.
    intra_mask : bool
        Whether both convolution networks also see which cells were predicted from their own frame.
    fuse_previous : bool
        What F* from the previous block is: features of earlier blocks at frame t, which are always fused, and with this
        also those of the same block at t - 1, not aligned.
    dcn_init : {"random", "identity"}
        First weights of the deformable convolution: as of any convolution, or twice the identity at the centre tap,
        which with masks of a half is the warp of Eq. 1.

    Raises
    ------
    ConfigError
        If a value is out of range, or two do not fit together.
    """

    branches: tuple[Literal["forward", "backward"], ...] = ("backward", "forward", "backward", "forward")
    feature_stride: Literal[2, 4] = 4
    channels: int = 64
    deform_groups: int = 16
    encoder_blocks: int = 5
    fusion_blocks: int = 7
    reconstruction_blocks: int = 5
    upsampling_channels: int = 64
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    residual_mask: bool = True
    residual_channels: Literal[1, 3] = 1
    residual_gain: float = 1.0
    residual_activation: Literal["clamp", "tanh", "none"] = "clamp"
    mask_mode: Literal["r_plus_sigmoid", "sigmoid_sum", "clamp", "raw"] = "r_plus_sigmoid"
    max_residue: float | None = None
    use_current_feat: bool = False
    second_order: bool = False
    intra_mask: bool = False
    fuse_previous: bool = False
    dcn_init: Literal["random", "identity"] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.branches:
            raise ConfigError("branches (): use one or more of forward, backward")
        self._require_at_least(1, "channels", "deform_groups", "upsampling_channels")
        self._require_at_least(0, "encoder_blocks", "fusion_blocks", "reconstruction_blocks")
        # Two frames are aligned as one picture with the channels of both: the groups must not mix them.
        if self.channels % self.deform_groups or (self.second_order and self.deform_groups % 2):
            kind = "an even" if self.second_order else "a"
            raise ConfigError(f"deform_groups {self.deform_groups}: use {kind} divisor of the {self.channels} channels")
        if self.max_residue is not None and self.max_residue <= 0:
            raise ConfigError(f"max_residue {self.max_residue}: use more than 0, or null for no limit")
        if self.residual_gain <= 0:
            raise ConfigError(f"residual_gain {self.residual_gain}: use more than 0")


def load_preset(preset: str | Path) -> dict[str, Any]:
    """Read a configuration that comes with the package, or one from a file.

    Parameters
    ----------
    preset : str or path
        One of :data:`PRESETS`, or a file ending in ``.yaml``, ``.yml`` or ``.json``.

    Returns
    -------
    dict
        Sections by name, as plain values.

    Raises
    ------
    ConfigError
        If there is none of that name, or the file cannot be read or has no sections.
    """
    document = load_named("configuration", preset, _FOLDER)
    if not isinstance(document, dict):
        raise ConfigError(f"{preset}: has no sections; see the presets {', '.join(PRESETS)}")
    return document


def overridden(sections: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """Replace one value of a configuration.

    >>> overridden({"cpfp": {"channels": 64}}, "cpfp.channels=32")
    {'cpfp': {'channels': 32}}

    Parameters
    ----------
    sections : mapping
        Sections by name, as plain values.
    assignment : str
        Names down to the value, joined by dots, ``=`` and the value as YAML has it.

    Returns
    -------
    dict
        The sections with this value; whether it is accepted is for :meth:`Config.from_dict` to say.

    Raises
    ------
    ConfigError
        If it is no assignment, or leads through something that is no section.
    """
    path, equals, text = assignment.partition("=")
    *parents, name = path.strip().split(".")
    if not equals or not parents or not all((*parents, name)):
        raise ConfigError(f"{assignment!r} sets nothing; write it as section.name=value, such as cpfp.channels=32")
    value = parse_yaml(text, repr(assignment))
    result = inner = dict(sections)
    for parent in parents:
        below = inner.get(parent, {})
        if not isinstance(below, Mapping):
            raise ConfigError(f"{assignment!r}: {parent} is a value, no section")
        inner[parent] = inner = dict(below)
    inner[name] = value
    return result


def _parsed(value: Any, hint: Any) -> Any:
    """Turn what YAML and JSON have into what a field takes: lists into tuples, mappings into configurations."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(hint, type) and issubclass(hint, Config) and not isinstance(value, hint):
        return hint.from_dict(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def _fits(value: Any, hint: Any) -> bool:
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if kind is Literal:
        return any(value == each and type(value) is type(each) for each in arguments)
    if kind is tuple:
        return isinstance(value, tuple) and all(_fits(each, arguments[0]) for each in value)
    if hint in (int, float):  # a bool is an int to Python
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _spoken(hint: Any) -> str:
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(map(_spoken, arguments))
    if kind is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if kind is tuple:
        return f"a list, each {_spoken(arguments[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "null"}
    return words.get(hint) or f"the settings of {hint.__name__}"
