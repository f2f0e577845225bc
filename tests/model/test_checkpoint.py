from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from codecprior.errors import ConfigError
from codecprior.model.checkpoint import WEIGHTS_NAME, load_checkpoint, read_sections, save_checkpoint
from codecprior.model.config import CpfpConfig, load_preset
from codecprior.model.cpc import controlnet_from_unet
from codecprior.model.cpc_config import CpcConfig
from codecprior.model.cpfp import Cpfp
from codecprior.model.stable_diffusion import load_stable_diffusion

SECTIONS = {"cpfp": {**load_preset("cpfp-tiny")["cpfp"], "channels": 8, "fusion_blocks": 0}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_checkpoint(tmp_path / "run", Cpfp(CpfpConfig.from_dict(SECTIONS["cpfp"])), SECTIONS)
    return tmp_path / "run"


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_network_comes_back_with_its_configuration(run: Path) -> None:
    torch.manual_seed(1)
    saved = Cpfp(CpfpConfig.from_dict(SECTIONS["cpfp"]))
    for path in (run, str(run), run / WEIGHTS_NAME):
        sections, network = load_checkpoint(path)
        assert sections == read_sections(path) == yaml.safe_load((run / "config.yaml").read_text()) == SECTIONS
        assert isinstance(network, Cpfp)
        assert same(network, saved)
        assert not network.training
        assert all(value.requires_grad for value in network.parameters())
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "model.safetensors"]


def test_weights_alone_are_enough(run: Path) -> None:
    moved = (run / WEIGHTS_NAME).rename(run.parent / "cpfp.safetensors")
    assert load_checkpoint(moved)[0] == SECTIONS


def test_a_control_net_comes_back_with_the_sizes_of_its_base(tmp_path: Path) -> None:
    config = CpcConfig(base="tiny", init="unet")
    network = controlnet_from_unet(load_stable_diffusion(config).unet, config)
    sections = {"cpc": config.to_dict(), "denoising": {"prompt": "a street"}}
    save_checkpoint(tmp_path, network, sections)
    found, loaded = load_checkpoint(tmp_path, kind="cpc")
    assert found == sections
    assert same(loaded, network)
    with pytest.raises(ConfigError, match=r"is a checkpoint of stage 2 \(cpc\); give one of stage 1 \(cpfp\)$"):
        load_checkpoint(tmp_path, kind="cpfp")


def test_what_is_no_checkpoint_is_told_in_one_line(run: Path, tmp_path: Path) -> None:
    def message(path: Path, **options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            load_checkpoint(path, **options)
        (line,) = str(caught.value).splitlines()
        return line.removeprefix(f"{path}")

    assert message(tmp_path / "none").startswith(": no checkpoint here; give a folder that 'codecprior train' wrote")
    assert message(tmp_path).startswith("/model.safetensors: no checkpoint here")
    assert message(run / "config.yaml").startswith(": is no safetensors file (")
    assert "is a checkpoint of stage 1 (cpfp); give one of stage 2 (cpc)" in message(run, kind="cpc")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    assert message(foreign) == ": holds no configuration; give weights that 'codecprior train' wrote"
    other = Cpfp(CpfpConfig.from_dict({**SECTIONS["cpfp"], "channels": 4}))
    save_checkpoint(run, other, SECTIONS)
    assert "tensors do not fit its configuration, such as blocks.0.deform.bias; it was made by" in message(run)


def test_a_configuration_names_one_network(tmp_path: Path) -> None:
    network = Cpfp(CpfpConfig.from_dict(SECTIONS["cpfp"]))
    for sections in ({}, {**SECTIONS, "cpc": {}}):
        with pytest.raises(ConfigError, match="there must be one of cpfp and cpc"):
            save_checkpoint(tmp_path, network, sections)
