"""Rows of ablations, such as the paper's Tables II to IV, to the trainings that they need, each of them once.

A document names tables, their rows, and what each row changes in the configurations of both stages; the one that comes
with the package has the rows of the paper::

    III:
      title: Coding priors in CPFP
      rows:
        w/o CRs: {stage1: [cpfp.residual_mask=false]}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from codecprior.datasets.manifest import Manifest
from codecprior.errors import ConfigError

from .config import AlignmentConfig, Config, CpfpConfig, load_preset
from .training_config import NO_STAGE1, Phase1Config, Phase2Config, training_config

__all__ = [
    "AblationRow",
    "AblationSettings",
    "AblationTable",
    "PlannedRow",
    "PlannedRun",
    "load_tables",
    "plan_rows",
]

_DOCUMENT: Final = "ablations.yaml"
_MAY_DIFFER: Final = ("run", "validation", "sampling")
"""Sections that do not decide what a training comes to."""
_DIGITS: Final = 8


@dataclass(frozen=True, kw_only=True)
class AblationRow(Config):
    """What a row changes.

    Parameters
    ----------
    stage1 : tuple of str, optional
        Assignments, such as ``"cpfp.residual_mask=false"``, to the configuration of stage 1; None for no stage 1.
    stage2 : tuple of str, optional
        The same for stage 2; None for no stage 2.
    additional : bool, optional
        Whether stage 2 is trained with the additional dataset; by default where there is one.

    Raises
    ------
    ConfigError
        If there is neither stage, or the additional dataset is set without stage 2.
    """

    stage1: tuple[str, ...] | None = ()
    stage2: tuple[str, ...] | None = None
    additional: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage1 is None and self.stage2 is None:
            raise ConfigError("stage1 null: write stage2: [] for a training of stage 2 on blurry frames")
        if self.additional is not None and self.stage2 is None:
            raise ConfigError(f"additional {self.additional}: only stage 2 is trained with it; write stage2: []")


@dataclass(frozen=True, kw_only=True)
class AblationTable:
    """Rows that are compared.

    Parameters
    ----------
    name : str
        Such as ``"III"``.
    title : str
        What they are about.
    rows : mapping of str to AblationRow
        By what they are called.
    """

    name: str
    title: str
    rows: Mapping[str, AblationRow]

    @property
    def heading(self) -> str:
        """What stands above it."""
        return f"Table {self.name}: {self.title}" if self.title else f"Table {self.name}"


@dataclass(frozen=True, kw_only=True)
class AblationSettings:
    """What all rows have in common.

    Parameters
    ----------
    folder : pathlib.Path
        Where trainings and results go.
    data : Manifest
        The dataset.
    additional : Manifest, optional
        The additional dataset.
    stage1, stage2 : str or path
        Presets or files of both stages.
    stage1_assignments, stage2_assignments : sequence of str
        Values in place of theirs.
    raft_weights : str, optional
        Weights of RAFT for rows that need them.
    """

    folder: Path
    data: Manifest
    additional: Manifest | None = None
    stage1: str | Path = "cpfp"
    stage2: str | Path = "cpc"
    stage1_assignments: Sequence[str] = ()
    stage2_assignments: Sequence[str] = ()
    raft_weights: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["folder"] = str(self.folder)
        for name in ("data", "additional"):
            values[name] = None if values[name] is None else values[name].root
        return values


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A training that one or more rows need.

    Parameters
    ----------
    folder : pathlib.Path
        Its folder. The name ends in a digest of all that decides what it comes to.
    config : Phase1Config or Phase2Config
        The training.
    additional : bool
        Whether it reads the additional dataset.
    stage1 : PlannedRun, optional
        The training of stage 1 that comes before.
    changes : tuple of str
        What one of the rows changes, for people.
    """

    folder: Path
    config: Phase1Config | Phase2Config
    additional: bool = False
    stage1: PlannedRun | None = None
    changes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def alignment(self) -> AlignmentConfig | None:
        """Where vectors of stage 1 come from; None without stage 1."""
        if isinstance(self.config, Phase1Config):
            return self.config.cpfp.alignment
        return None if self.stage1 is None else self.stage1.alignment

    def describe(self, max_steps: int | None) -> str:
        """Say in one line what it is."""
        steps = min(self.config.training.steps, max_steps or self.config.training.steps)
        if isinstance(self.config, Phase1Config):
            return f"stage 1, {steps} steps"
        before = "blurry frames" if self.stage1 is None else self.stage1.name
        return f"stage 2 on {before}, {steps} steps{', additional data' if self.additional else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "folder": str(self.folder),
            "stage1": None if self.stage1 is None else self.stage1.name,
            "additional": self.additional,
            "changes": list(self.changes),
            "config": self.config.to_dict(),
        }


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """A row and the training whose networks are measured for it.

    Parameters
    ----------
    table : str
        Name of its table.
    name : str
        What it is called.
    run : PlannedRun
        The last training that it needs.
    missing : str, optional
        Why it cannot be trained; None if nothing is known to be missing.
    """

    table: str
    name: str
    run: PlannedRun
    missing: str | None = None

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """All trainings that it needs, in order."""
        return (self.run,) if self.run.stage1 is None else (self.run.stage1, self.run)


def load_tables(file: str | Path | None = None) -> dict[str, AblationTable]:
    """Read a document of ablations.

    Parameters
    ----------
    file : path-like, optional
        A ``.yaml`` file; the paper's Tables II to IV if not given.

    Returns
    -------
    dict of str to AblationTable
        By name, in the order of the document.

    Raises
    ------
    ConfigError
        If the file cannot be read, or something in it is not accepted.
    """
    if file is None:
        with resources.as_file(resources.files(__package__) / "data" / _DOCUMENT) as path:
            return _tables(load_preset(path), _DOCUMENT)
    return _tables(load_preset(file), str(file))


def plan_rows(tables: Iterable[AblationTable], settings: AblationSettings) -> list[PlannedRow]:
    """Find the trainings that rows need; equal ones are one and the same.

    Parameters
    ----------
    tables : iterable of AblationTable
        The tables. Names of folders depend on all of them: plan those of a document together.
    settings : AblationSettings
        What the rows have in common.

    Returns
    -------
    list of PlannedRow
        In the order of the tables.

    Raises
    ------
    ConfigError
        If a configuration is not accepted.
    """
    drafts: dict[tuple[str, str], list[_Draft]] = {}
    for table in tables:
        for name, row in table.rows.items():
            try:
                drafts[table.name, name] = _drafts(row, settings)
            except ConfigError as error:
                raise ConfigError(f"table {table.name}, row {name}: {error}") from error
    folders = {draft.digest: f"stage1-{draft.digest}" for row in drafts.values() for draft in row}
    folders |= {row[-1].digest: f"{_slug(name)}-{row[-1].digest}" for (_, name), row in drafts.items()}
    return [
        PlannedRow(table=table, name=name, run=_run(row, folders, settings), missing=_missing(row, settings))
        for (table, name), row in drafts.items()
    ]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A training before it has a name."""

    config: Phase1Config | Phase2Config
    changes: tuple[str, ...]
    needs_additional: bool = False
    digest: str = ""


def _tables(document: Mapping[str, Any], where: str) -> dict[str, AblationTable]:
    if not document:
        raise ConfigError(f"{where}: has no tables; see 'codecprior ablate --help'")
    return {str(name): _table(str(name), found, where) for name, found in document.items()}


def _table(name: str, document: Any, where: str) -> AblationTable:
    rows = document.get("rows") if isinstance(document, Mapping) else None
    if not isinstance(rows, Mapping) or not rows:
        raise ConfigError(f"{where}: table {name} has no rows; write title: TEXT and rows: with one line each")
    if unknown := set(document) - {"title", "rows"}:
        raise ConfigError(f"{where}: table {name}: unknown key {min(map(str, unknown))!r}; use title, rows")
    found = {}
    for row, changes in rows.items():
        try:
            found[str(row)] = AblationRow.from_dict(changes)
        except ConfigError as error:
            raise ConfigError(f"{where}: table {name}, row {row}: {error}") from error
    return AblationTable(name=name, title=str(document.get("title", "")), rows=found)


def _drafts(row: AblationRow, settings: AblationSettings) -> list[_Draft]:
    """Return the trainings of a row in order, one or two."""
    found = []
    if row.stage1 is not None:
        config = training_config(settings.stage1, [*settings.stage1_assignments, *row.stage1])
        if not isinstance(config, Phase1Config):
            raise ConfigError(f"configuration {str(settings.stage1)!r}: is of stage 2; use one of stage 1")
        config = _with_weights(config, settings.raft_weights)
        found.append(_identified(_Draft(config=config, changes=row.stage1), settings, ""))
    if row.stage2 is not None:
        second = training_config(settings.stage2, [*settings.stage2_assignments, *row.stage2])
        if not isinstance(second, Phase2Config):
            raise ConfigError(f"configuration {str(settings.stage2)!r}: is of stage 1; use one of stage 2")
        second = replace(second, stage1=replace(second.stage1, checkpoint=None if found else NO_STAGE1))
        additional = settings.additional is not None if row.additional is None else row.additional
        draft = _Draft(config=second, changes=row.stage2, needs_additional=additional)
        found.append(_identified(draft, settings, found[0].digest if found else ""))
    return found


def _with_weights(config: Phase1Config, weights: str | None) -> Phase1Config:
    """Give RAFT its weights where it is used, so that other trainings do not depend on them."""
    alignment = config.cpfp.alignment
    if weights is None or not alignment.source.startswith("raft"):
        return config
    cpfp: CpfpConfig = replace(config.cpfp, alignment=replace(alignment, raft_weights=weights))
    return replace(config, cpfp=cpfp)


def _identified(draft: _Draft, settings: AblationSettings, stage1: str) -> _Draft:
    # Only what is not as it is by default: a setting that a later version brings changes no name.
    changed = _changed(draft.config.to_dict(), type(draft.config)().to_dict())
    sections = {name: value for name, value in changed.items() if name not in _MAY_DIFFER}
    data = [_sequences(settings.data, draft.config.data.split)]
    if draft.needs_additional and settings.additional is not None and isinstance(draft.config, Phase2Config):
        data.append(_sequences(settings.additional, draft.config.data.additional_split))
    text = json.dumps([type(draft.config).__name__, sections, data, stage1], sort_keys=True)
    return replace(draft, digest=hashlib.sha256(text.encode()).hexdigest()[:_DIGITS])


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _changed(value, defaults[name]) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value != defaults[name]
    }


def _sequences(manifest: Manifest, split: str) -> list[Any]:
    return [
        manifest.root,
        [[entry.sequence, entry.num_frames, entry.store] for entry in manifest.entries if entry.split == split],
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "row"


def _run(drafts: Sequence[_Draft], folders: Mapping[str, str], settings: AblationSettings) -> PlannedRun:
    *before, last = drafts
    config, stage1 = last.config, None
    if before:
        assert isinstance(config, Phase2Config)
        stage1 = _run(before, folders, settings)
        config = replace(config, stage1=replace(config.stage1, checkpoint=str(stage1.folder.absolute())))
    return PlannedRun(
        folder=settings.folder / "runs" / folders[last.digest],
        config=config,
        additional=last.needs_additional,
        stage1=stage1,
        changes=last.changes,
    )


def _missing(drafts: Sequence[_Draft], settings: AblationSettings) -> str | None:
    """Say what a row needs and does not have, as far as that can be told before anything is loaded."""
    for draft in drafts:
        if isinstance(draft.config, Phase1Config):
            alignment = draft.config.cpfp.alignment
            if alignment.source.startswith("raft") and alignment.raft_weights is None:
                return "needs --raft-weights FILE"
            continue
        cpc = draft.config.cpc
        if draft.needs_additional and settings.additional is None:
            return "needs --additional MANIFEST"
        if cpc.base != "tiny" and cpc.base_path is None:
            return "needs --stage2-set cpc.base_path=PATH"
        if cpc.init == "ircontrolnet" and cpc.ircontrolnet_path is None:
            return "needs --stage2-set cpc.ircontrolnet_path=FILE"
    return None
