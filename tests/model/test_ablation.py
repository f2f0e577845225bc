from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torchvision.models.optical_flow import raft_large

from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.errors import ConfigError
from codecprior.model.ablation import AblationSettings, PlannedRow, load_tables, plan_rows
from codecprior.model.ablation_results import FLOPS_SIZE, AblationResults, alignment_cost
from codecprior.model.ablation_run import Ablation
from codecprior.model.metrics import MetricsConfig
from codecprior.model.paper import ablation_table
from codecprior.model.protocols import find_protocol
from codecprior.model.training_config import Phase1Config, Phase2Config

SMALL = (
    "cpfp.channels=8",
    "cpfp.fusion_blocks=0",
    "cpfp.upsampling_channels=4",
    "data.crop=32",
    "data.num_frames=2",
    "training.steps=2",
    "run.num_workers=0",
)
SMALL_STAGE2 = ("training.steps=1", "run.num_workers=0", "sampling.num_steps=2", "sampling.tile_size=0")


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    found = read_manifest(prepared)
    return replace(found, entries=tuple(entry for entry in found.entries if entry.sequence == "moving"))


@pytest.fixture
def settings(manifest: Manifest, tmp_path: Path) -> AblationSettings:
    return AblationSettings(
        folder=tmp_path / "out",
        data=manifest,
        stage1="cpfp-tiny",
        stage2="cpc-tiny",
        stage1_assignments=SMALL,
        stage2_assignments=SMALL_STAGE2,
    )


def planned(settings: AblationSettings) -> dict[tuple[str, str], PlannedRow]:
    return {(row.table, row.name): row for row in plan_rows(load_tables().values(), settings)}


def tables_of(tmp_path: Path, **rows: Any) -> Path:
    path = tmp_path / "rows.yaml"
    path.write_text(yaml.safe_dump({"mine": {"title": "My rows", "rows": rows}}, sort_keys=False))
    return path


def run(settings: AblationSettings, file: Path | None = None, *names: str, **options: Any) -> AblationResults:
    """Train and measure the rows of some tables."""

    @contextmanager
    def bar(title: str, unit: str) -> Any:
        yield lambda done, total: None

    tables = load_tables(file)
    ablation = Ablation(
        folder=settings.folder,
        manifest=settings.data,
        test=settings.data,
        additional=settings.additional,
        protocol=find_protocol("plain"),
        metrics=MetricsConfig(metrics=("psnr", "niqe")),
        max_steps=options.pop("max_steps", None),
        bar=bar,
        **options,
    )
    rows = [row for row in plan_rows(tables.values(), settings) if not names or row.table in names]
    return ablation.run(tables, rows, {"settings": settings.to_dict()}, lambda row: None)


def weights(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/model.safetensors")}


def test_the_rows_are_those_of_the_paper() -> None:
    tables = load_tables()
    assert list(tables) == ["II", "III", "IV"]
    for name, table in tables.items():
        assert list(table.rows) == list(ablation_table(name))


def test_rows_that_need_the_same_training_share_it(settings: AblationSettings, manifest: Manifest) -> None:
    rows = planned(settings)
    assert rows["II", "w/o CPC"].run == rows["III", "MVs"].run == rows["II", "CPGD-Net"].run.stage1
    assert rows["II", "CPGD-Net"].run == rows["IV", "w/o additional dataset"].run
    assert rows["II", "CPGD-Net"].run.folder.parent == settings.folder / "runs"
    assert len({each.name for row in rows.values() for each in row.runs if not row.missing}) == 5
    more = planned(replace(settings, additional=manifest))
    assert more["II", "CPGD-Net"].run == more["IV", "CPGD-Net"].run
    assert more["II", "CPGD-Net"].run.additional
    assert more["IV", "w/o additional dataset"].run.name == rows["II", "CPGD-Net"].run.name.replace(
        "cpgd-net", "w-o-additional-dataset"
    )


def test_a_row_is_what_the_paper_says(settings: AblationSettings) -> None:
    rows = planned(settings)
    blurry, full, plain = (rows["II", name].run for name in ("w/o CPFP", "CPGD-Net", "w IRControlNet"))
    assert blurry.stage1 is None
    for each in (blurry, full, plain):
        assert isinstance(each.config, Phase2Config)
    assert blurry.config.stage1.checkpoint == "none"
    assert full.config.stage1.checkpoint == str(full.stage1.folder.absolute())
    assert full.config.cpc.coding_priors
    assert not plain.config.cpc.coding_priors
    first = {name: row.run.config for (table, name), row in rows.items() if table == "III"}
    assert all(isinstance(each, Phase1Config) for each in first.values())
    assert [each.cpfp.residual_mask for each in first.values()] == [False, True, True, True, True]
    assert [(each.cpfp.alignment.source, each.cpfp.alignment.raft_updates) for each in first.values()][2:] == [
        *(("raft", 4), ("raft_mv_init", 4), ("raft", 20))
    ]


def test_a_folder_is_named_by_all_that_decides_a_training(settings: AblationSettings, manifest: Manifest) -> None:
    def names(changed: AblationSettings) -> set[str]:
        return {row.run.name for row in planned(changed).values()}

    def with_set(*assignments: str) -> AblationSettings:
        return replace(settings, stage1_assignments=(*SMALL, *assignments))

    assert names(with_set("run.log_every=7", "validation.split=train")) == names(settings)
    assert not names(with_set("training.seed=1")) & names(settings) - {planned(settings)["II", "w/o CPFP"].run.name}
    fewer = replace(
        manifest, entries=tuple(replace(entry, num_frames=7, blurry="x", sharp="y") for entry in manifest.entries)
    )
    assert not names(replace(settings, data=fewer)) & names(settings)
    raft = names(replace(settings, raft_weights="raft.pth")) ^ names(settings)
    assert {name.rpartition("-")[0] for name in raft} == {"raft-iter-4", "raft-iter-4-init-mvs", "raft-iter-20"}


def test_what_a_row_lacks_is_told_before_anything_is_trained(settings: AblationSettings, manifest: Manifest) -> None:
    rows = planned(replace(settings, stage2="cpc"))
    assert rows["III", "RAFT Iter:4"].missing == "needs --raft-weights FILE"
    assert rows["II", "CPGD-Net"].missing == "needs --stage2-set cpc.base_path=PATH"
    assert rows["IV", "CPGD-Net"].missing == "needs --additional MANIFEST"
    assert rows["II", "w/o CPC"].missing is None
    based = replace(settings, stage2="cpc", stage2_assignments=("cpc.base_path=x",), raft_weights="raft.pth")
    assert planned(based)["II", "w/o CPFP"].missing == "needs --stage2-set cpc.ircontrolnet_path=FILE"
    assert planned(replace(based, additional=manifest))["III", "RAFT Iter:20"].missing is None


def test_the_cost_of_alignment_is_counted_without_weights(settings: AblationSettings) -> None:
    rows = planned(settings)
    costs = [alignment_cost(row.run, FLOPS_SIZE) for (table, _), row in rows.items() if table == "III"]
    assert [round((cost.multiply_adds or 0) / 1e9) for cost in costs if cost] == [0, 0, 307, 307, 907]
    assert alignment_cost(rows["III", "RAFT Iter:4"].run, (128, 96)) is None
    assert alignment_cost(rows["II", "w/o CPFP"].run, FLOPS_SIZE) is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"mine": {"title": "x"}}, r"rows.yaml: table mine has no rows; write title: TEXT and rows:"),
        ({}, r"rows.yaml: has no tables; see"),
        ({"mine": {"rows": {}}}, r"table mine has no rows"),
        ({"mine": {"rows": {"a": {}}, "note": "x"}}, r"table mine: unknown key 'note'; use title, rows"),
        ({"mine": {"rows": {"a": {"stage3": []}}}}, r"table mine, row a: unknown key 'stage3'; use stage1, stage2,"),
        ({"mine": {"rows": {"a": {"stage1": None}}}}, r"row a: stage1 null: write stage2: \[\]"),
        ({"mine": {"rows": {"a": {"additional": True}}}}, r"row a: additional True: only stage 2 "),
        ({"mine": {"rows": {"a": {"stage1": ["cpfp.depth=1"]}}}}, r"table mine, row a: cpfp: unknown key 'depth'"),
        ({"mine": {"rows": {"a": {"stage1": "cpfp.channels=8"}}}}, r"row a: stage1 'cpfp.channels=8': use a list"),
    ],
)
def test_a_document_that_is_wrong_is_refused(
    document: Any, message: str, settings: AblationSettings, tmp_path: Path
) -> None:
    path = tmp_path / "rows.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=message):
        plan_rows(load_tables(path).values(), settings)


@pytest.mark.parametrize(("stage1", "stage2"), [("cpc-tiny", "cpc-tiny"), ("cpfp-tiny", "cpfp-tiny")])
def test_configurations_of_the_wrong_stage_are_refused(settings: AblationSettings, stage1: str, stage2: str) -> None:
    with pytest.raises(ConfigError, match=r"table II, row .*is of stage [12]; use one of stage [21]"):
        planned(replace(settings, stage1=stage1, stage2=stage2, stage1_assignments=(), stage2_assignments=()))


def test_rows_are_trained_and_measured_and_others_listed(settings: AblationSettings) -> None:
    results = run(settings, None, "III")
    (table,) = results.tables
    scores = {each.row.name: each.results.totals()["psnr"].value for each in table.rows if each.results}
    assert list(scores) == ["w/o CRs", "MVs"]
    assert {each.reason for each in table.rows if not each.results} == {"needs --raft-weights FILE"}
    heads, rows = table.columns()
    assert heads == ["Modification", "PSNR↑", "NIQE↓", "paper", "MUSIQ↑", "paper", "GMACs", "paper"]
    assert rows[0][0] == "Blurry input"
    assert rows[1] == ["w/o CRs", f"{scores['w/o CRs']:.2f}", "-", "5.110", "-", "53.972", "0", "-"]
    assert rows[3] == ["RAFT Iter:4", "-", "-", "5.005", "-", "54.434", "307", "307"]
    text = (settings.folder / "table_III.md").read_text()
    assert "| w/o CRs " in text
    assert "- Not measured: RAFT Iter:4, RAFT Iter:4 Init:MVs, RAFT Iter:20: needs --raft-weights FILE." in text
    assert "one pair of 1024x752 frames: multiply-adds of convolutions" in text
    found = json.loads((settings.folder / "ablation.json").read_text())
    row = found["tables"]["III"]["rows"][1]
    assert row["total"]["psnr"]["value"] == scores["MVs"]
    assert row["alignment_multiply_adds"] == {"128x96": 0, "1024x752": 0}
    assert row["paper"] == {"niqe": 4.8102, "musiq": 56.6301, "flops": 0}


def test_what_was_cut_goes_on_and_what_is_finished_is_left(settings: AblationSettings, tmp_path: Path) -> None:
    rows = tables_of(tmp_path, one={}, two={"stage1": ["cpfp.residual_mask=false"]})
    run(replace(settings, folder=tmp_path / "whole"), rows)
    for before in (8 + 2 + 3, 8):  # while the first row is measured, then after a step of the second one
        with pytest.raises(KeyboardInterrupt):
            run(settings, rows, should_stop=iter([*(False,) * before, True]).__next__)
    reports: list[Any] = []
    run(settings, rows, report=reports.append)
    assert [each.step for each in reports] == [2]
    assert weights(settings.folder) == weights(tmp_path / "whole")
    assert len(weights(settings.folder)) == 2
    run(settings, rows, report=reports.append)
    assert len(reports) == 1


def test_a_row_that_fails_does_not_keep_others_from_running(settings: AblationSettings, tmp_path: Path) -> None:
    rows = tables_of(tmp_path, large={"stage1": ["data.crop=512"]}, same={"stage1": ["data.crop=512"]}, small={})
    (table,) = run(settings, rows).tables
    assert [each.failed for each in table.rows] == [True, True, False]
    assert table.rows[0].reason == table.rows[1].reason
    assert "crop" in str(table.rows[0].reason)
    assert table.rows[2].results is not None
    assert [head for head in table.columns()[0] if head in ("paper", "GMACs")] == []


@pytest.mark.slow
def test_both_stages_of_all_tables(settings: AblationSettings, manifest: Manifest) -> None:
    both = run(replace(settings, additional=manifest), None, "II", "IV").tables
    scores = {
        (table.table.name, each.row.name): each.results.totals()["psnr"].value
        for table in both
        for each in table.rows
        if each.results
    }
    assert len(scores) == 6
    assert scores["II", "CPGD-Net"] == scores["IV", "CPGD-Net"]
    assert len(set(scores.values())) >= 3
    assert len(weights(settings.folder)) == 5


@pytest.mark.slow
def test_rows_with_raft_run_on_weights_that_are_given(
    settings: AblationSettings, prepared: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    torch.save(raft_large(weights=None, progress=False).state_dict(), tmp_path / "raft.pth")
    found = read_manifest(prepared)
    bikes = replace(found, entries=tuple(entry for entry in found.entries if entry.sequence == "bikes"))
    rows = tables_of(tmp_path, raft={"stage1": ["cpfp.alignment.source=raft_mv_init", "cpfp.alignment.raft_updates=1"]})
    (table,) = run(
        replace(
            settings,
            data=bikes,
            raft_weights=str(tmp_path / "raft.pth"),
            stage1_assignments=(*SMALL, "data.crop=128", "training.batch_size=1", "training.steps=1"),
        ),
        rows,
    ).tables
    assert table.rows[0].results is not None
    assert table.columns()[0][-1] == "GMACs"
    assert table.columns()[1][1][-1] == "194"
