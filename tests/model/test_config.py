from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.errors import ConfigError
from codecprior.model.config import PRESETS, AlignmentConfig, CpfpConfig, load_preset

configs = st.builds(
    CpfpConfig,
    branches=st.lists(st.sampled_from(["forward", "backward"]), min_size=1, max_size=4).map(tuple),
    feature_stride=st.sampled_from([2, 4]),
    alignment=st.builds(
        AlignmentConfig,
        source=st.sampled_from(["mv", "raft", "raft_mv_init", "dis", "none"]),
        hole_policy=st.sampled_from(["zero", "neighbour", "global"]),
        raft_weights=st.none() | st.just("raft.pth"),
    ),
    max_residue=st.none() | st.floats(0.1, 20),
    mask_mode=st.sampled_from(["r_plus_sigmoid", "sigmoid_sum", "clamp", "raw"]),
    second_order=st.booleans(),
)


@given(configs)
def test_a_configuration_survives_json(config: CpfpConfig) -> None:
    assert CpfpConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_preset_cpfp_is_the_defaults() -> None:
    assert CpfpConfig.from_dict(load_preset("cpfp")["cpfp"]) == CpfpConfig()


def test_the_preset_for_a_cpu_differs_where_its_file_says() -> None:
    tiny = CpfpConfig.from_dict(load_preset("cpfp-tiny")["cpfp"])
    differing = {name for name, value in CpfpConfig().to_dict().items() if tiny.to_dict()[name] != value}
    assert differing == load_preset("cpfp-tiny")["cpfp"].keys()
    assert {"cpfp", "cpfp-tiny"} <= {*PRESETS}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"mask": 1}, "unknown key 'mask'; use branches, feature_stride, channels, .*"),
        ({"alignment": {"sources": "mv"}}, "alignment: unknown key 'sources'; use source, hole_policy, .*"),
        ({"alignment": {"source": "MV"}}, "alignment: source 'MV': use one of mv, raft, raft_mv_init, dis, none"),
        ({"alignment": "mv"}, "alignment: 'mv' are no settings; write them as 'name: value'"),
        ({"alignment": {"raft_updates": 0}}, "alignment: raft_updates 0: use 1 or more"),
        ({"branches": "forward"}, "branches 'forward': use a list, each one of forward, backward"),
        ({"branches": ["up"]}, r"branches \('up',\): use a list, each one of forward, backward"),
        ({"branches": []}, r"branches \(\): use one or more of forward, backward"),
        ({"feature_stride": 8}, "feature_stride 8: use one of 2, 4"),
        ({"channels": 64.0}, "channels 64.0: use a whole number"),
        ({"channels": True}, "channels True: use a whole number"),
        ({"channels": 0}, "channels 0: use 1 or more"),
        ({"fusion_blocks": -1}, "fusion_blocks -1: use 0 or more"),
        ({"deform_groups": 12}, "deform_groups 12: use a divisor of the 64 channels"),
        ({"deform_groups": 1, "second_order": True}, "deform_groups 1: use an even divisor of the 64 channels"),
        ({"residual_mask": 1}, "residual_mask 1: use true or false"),
        ({"residual_gain": "high"}, "residual_gain 'high': use a number"),
        ({"residual_gain": 0}, "residual_gain 0: use more than 0"),
        ({"max_residue": "none"}, "max_residue 'none': use a number or null"),
        ({"max_residue": -1}, "max_residue -1: use more than 0, or null for no limit"),
        (["channels"], r"\['channels'\] are no settings; write them as 'name: value'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(document: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        CpfpConfig.from_dict(document)


def test_values_are_checked_when_a_configuration_is_changed() -> None:
    with pytest.raises(ConfigError, match="mask_mode 'none': use one of r_plus_sigmoid"):
        replace(CpfpConfig(), mask_mode="none")  # type: ignore[arg-type]


def test_a_file_is_read_as_a_preset_is(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("cpfp: {residual_gain: 1e1, max_residue: 5}\n")
    assert CpfpConfig.from_dict(load_preset(tmp_path / "mine.yaml")["cpfp"]) == CpfpConfig(
        residual_gain=10.0, max_residue=5
    )
    (tmp_path / "mine.json").write_text(json.dumps({"cpfp": CpfpConfig(channels=32).to_dict()}))
    assert CpfpConfig.from_dict(load_preset(tmp_path / "mine.json")["cpfp"]).channels == 32


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cpfq", None, "configuration 'cpfq': use .*cpfp, cpfp-tiny.* or a .yaml file"),
        ("absent.yaml", None, "absent.yaml: cannot be read .No such file"),
        ("broken.yaml", "cpfp: [", "broken.yaml: is no YAML"),
        ("list.yaml", "- cpfp", "list.yaml: has no sections; see the presets"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_preset(path if path.suffix else name)
