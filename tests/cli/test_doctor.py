from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from codecprior.cli.main import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_every_tool_is_shown_with_path_and_version() -> None:
    result = run("--json")
    assert result.exit_code == 0
    facts = json.loads(result.output)
    tools = {tool["name"]: tool for tool in facts["tools"]}
    assert set(tools) == {"vvencapp", "ffmpeg", "vvdecapp", "codecprior-probe"}
    for name in ("vvdecapp", "codecprior-probe"):
        assert Path(tools[name]["path"]).is_file()
        assert tools[name]["version"] == "3.0.0"
    assert facts["libraries"]["numpy"]
    lines = run().output.splitlines()
    assert any(line.split() == ["codecprior-probe", "3.0.0"] for line in lines)
    assert any(line.strip() == tools["codecprior-probe"]["path"] for line in lines)


def test_a_missing_tool_that_is_needed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECPRIOR_PROBE", "/nothing/here")
    result = run()
    assert result.exit_code == 1
    assert "codecprior-probe (missing): CODECPRIOR_PROBE=/nothing/here: no such program" in result.output


def test_one_encoder_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODECPRIOR_VVENCAPP", raising=False)
    monkeypatch.setenv("PATH", "/nothing")
    facts = json.loads(run("--json").output)
    missing = {tool["name"] for tool in facts["tools"] if tool["problem"]}
    assert missing == {"vvencapp"}
    assert run("--json").exit_code == 0
    monkeypatch.setenv("CODECPRIOR_FFMPEG", "/nothing/here")
    assert run("--json").exit_code == 1
