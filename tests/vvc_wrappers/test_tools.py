from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from codecprior.errors import ToolNotFoundError, ToolVersionError
from vvc_wrappers import tools
from vvc_wrappers.tools import find_all, find_vvenc, parse_ffmpeg_version, parse_version

Script = Callable[[str, str], Path]

FFMPEG_BANNER = """\
ffmpeg version n9.0.2-17-g2a571b6068-20260930 Copyright (c) 2000-2026 the FFmpeg developers
built with gcc 16.2.0 (crosstool-NG 1.29.0.7_b1a94f6)
libavutil      61.  1.102 / 61.  1.102
"""
FFMPEG_LOG = """\
Stream mapping:
  Stream #0:0 -> #0:0 (rawvideo (native) -> vvc (libvvenc))
[libvvenc @ 0x55e28684e740] libvvenc version: 1.15.0-dev
Output #0, null, to 'pipe:':
"""


@pytest.fixture(autouse=True)
def no_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VVENCAPP", "FFMPEG", "VVDECAPP", "PROBE"):
        monkeypatch.delenv(f"CODECPRIOR_{name}", raising=False)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("vvdecapp version 3.0.0\n", "3.0.0"),
        ("vvencapp version 1.12.0-rc1\n", "1.12.0-rc1"),
        ("codecprior-probe (VVdeC 3.0.0)\n", "3.0.0"),
        ("VVdeC, the Fraunhofer VVC/H.266 decoder, version 2.1.3 [THREADS=2; SIMD=AVX2]", "2.1.3"),
    ],
)
def test_version_is_read_from_recorded_output(text: str, version: str) -> None:
    assert parse_version(text) == version


def test_output_without_a_version_is_refused() -> None:
    with pytest.raises(ToolVersionError, match="expected a version, got 'hello'"):
        parse_version("hello\n")


def test_ffmpeg_version_names_its_vvenc_first() -> None:
    assert parse_ffmpeg_version(FFMPEG_BANNER, FFMPEG_LOG) == "1.15.0-dev (FFmpeg n9.0.2-17-g2a571b6068-20260930)"


def test_encode_by_another_encoder_is_refused() -> None:
    with pytest.raises(ToolVersionError, match="libvvenc did not report itself"):
        parse_ffmpeg_version(FFMPEG_BANNER, "[libx264 @ 0x1] profile High")


@pytest.mark.parametrize(
    ("variable", "name", "find"),
    [
        ("CODECPRIOR_VVENCAPP", "vvencapp", tools.find_vvencapp),
        ("CODECPRIOR_VVDECAPP", "vvdecapp", tools.find_vvdecapp),
        ("CODECPRIOR_PROBE", "codecprior-probe", tools.find_probe),
    ],
)
class TestEachProgram:
    def test_is_taken_from_its_variable(
        self,
        variable: str,
        name: str,
        find: Callable[[], tools.Program],
        script: Script,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = script("renamed", 'test "$1" = --version && echo version 9.8.7')
        monkeypatch.setenv(variable, str(path))
        assert find() == tools.Program(name=name, path=path, version="9.8.7")

    def test_named_by_a_variable_but_absent_is_not_searched_elsewhere(
        self, variable: str, name: str, find: Callable[[], tools.Program], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(variable, f"/nowhere/{name}")
        with pytest.raises(ToolNotFoundError, match=f"{variable}=/nowhere/{name}: no such program"):
            find()

    def test_that_does_not_start_is_reported_with_its_reason(
        self,
        variable: str,
        name: str,
        find: Callable[[], tools.Program],
        script: Script,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv(variable, str(script("broken", "echo libfoo.so missing >&2; exit 127")))
        with pytest.raises(ToolVersionError, match=f"no working {name}.*libfoo.so missing"):
            find()

    def test_is_found_on_path(
        self,
        variable: str,
        name: str,
        find: Callable[[], tools.Program],
        script: Script,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = script(name, "echo version 1.2.3")
        monkeypatch.setenv("PATH", str(path.parent))
        monkeypatch.setattr(tools, "_bundled_folders", list)
        assert find().path == path

    def test_that_is_nowhere_is_named_with_what_was_searched_and_how_to_get_it(
        self, variable: str, name: str, find: Callable[[], tools.Program], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setattr(tools, "_bundled_folders", list)
        with pytest.raises(
            ToolNotFoundError, match=rf"{name} not found in \${variable} \(not set\), PATH; .*pip install"
        ):
            find()


def test_bundled_decoder_is_preferred_to_path(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    bundled = script("bin/vvdecapp", "echo version 3.0.0")
    monkeypatch.setenv("PATH", str(script("vvdecapp", "echo version 1.0.0").parent))
    monkeypatch.setattr(tools, "_bundled_folders", lambda: [tmp_path / "absent", tmp_path / "bin"])
    assert tools.find_vvdecapp().path == bundled


def test_ffmpeg_of_imageio_encodes_vvc() -> None:
    program = tools.find_ffmpeg_vvenc()
    assert program.name == "ffmpeg"
    assert "(FFmpeg " in program.version


def test_ffmpeg_without_libvvenc_is_refused(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"test \"$1\" = -version && echo '{FFMPEG_BANNER}' && exit; echo \"Unknown encoder 'libvvenc'\" >&2; exit 8"
    monkeypatch.setenv("CODECPRIOR_FFMPEG", str(script("ffmpeg", body)))
    with pytest.raises(ToolVersionError, match=r"cannot encode VVC .*Unknown encoder 'libvvenc'.*pip install"):
        tools.find_ffmpeg_vvenc()


def test_vvencapp_is_preferred_where_it_is_installed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECPRIOR_VVENCAPP", str(script("vvencapp", "echo vvencapp version 1.12.0")))
    assert find_vvenc().name == "vvencapp"


def test_ffmpeg_is_taken_without_vvencapp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_vvenc().name == "ffmpeg"


def test_report_lists_all_programs_and_says_which_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECPRIOR_VVENCAPP", "/nowhere/vvencapp")
    monkeypatch.setenv("CODECPRIOR_PROBE", "/nowhere/probe")
    reports = {report.name: report for report in find_all()}
    assert list(reports) == ["vvencapp", "ffmpeg", "vvdecapp", "codecprior-probe"]
    assert reports["ffmpeg"].problem is None
    assert reports["vvencapp"].problem is not None
    assert not reports["vvencapp"].needed
    assert reports["codecprior-probe"].problem is not None
    assert reports["codecprior-probe"].needed
    assert reports["codecprior-probe"].path is None


def test_some_encoder_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECPRIOR_VVENCAPP", "/nowhere/vvencapp")
    monkeypatch.setenv("CODECPRIOR_FFMPEG", "/nowhere/ffmpeg")
    assert all(report.needed for report in find_all())
