"""Finding the programs that this package runs: VVenC, an FFmpeg that carries it, VVdeC and the tracing decoder.

For each, a path in an environment variable comes first and alone; then what is bundled; then ``PATH``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from codecprior.errors import ToolError, ToolNotFoundError, ToolVersionError
from vvc_wrappers.process import capture

__all__ = [
    "Program",
    "ToolReport",
    "find_all",
    "find_ffmpeg_vvenc",
    "find_probe",
    "find_vvdecapp",
    "find_vvenc",
    "find_vvencapp",
    "parse_ffmpeg_version",
    "parse_version",
]

_REINSTALL: Final = "it is built when this package is installed; in the source folder run: pip install ."
_FRAME_OF_64X64: Final = ("-f", "rawvideo", "-pixel_format", "gray", "-video_size", "64x64", "-i", "/dev/zero")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that was found and has told its version.

    Parameters
    ----------
    name : str
        ``"vvencapp"``, ``"ffmpeg"``, ``"vvdecapp"`` or ``"codecprior-probe"``.
    path : pathlib.Path
        Executable file.
    version : str
        What it says, such as ``"3.0.0"``; for FFmpeg the version of its VVenC, then its own.
    """

    name: str
    path: Path
    version: str


@dataclass(frozen=True, kw_only=True)
class ToolReport:
    """What :func:`find_all` says about one program.

    Parameters
    ----------
    name : str
        As in :class:`Program`.
    path : pathlib.Path or None
        Executable file, None where none is found or it does not work.
    version : str or None
        Its version.
    problem : str or None
        One line on what is missing and how to get it.
    needed : bool
        Whether anything fails without it. Of ``vvencapp`` and ``ffmpeg`` one is enough.
    """

    name: str
    path: Path | None
    version: str | None
    problem: str | None
    needed: bool


def find_vvencapp() -> Program:
    """Find VVenC's own program: ``CODECPRIOR_VVENCAPP``, then ``PATH``.

    Returns
    -------
    Program
        The encoder.

    Raises
    ------
    ToolNotFoundError
        If there is none.
    ToolVersionError
        If it does not tell a version.
    """
    hint = "install VVenC, or use the FFmpeg of: pip install 'imageio-ffmpeg>=0.8'"
    return _find("vvencapp", "CODECPRIOR_VVENCAPP", [], hint)


def find_vvdecapp() -> Program:
    """Find VVdeC's own program: ``CODECPRIOR_VVDECAPP``, then the bundled one, then ``PATH``.

    Returns
    -------
    Program
        The decoder.

    Raises
    ------
    ToolNotFoundError
        If there is none.
    ToolVersionError
        If it does not tell a version.
    """
    return _find("vvdecapp", "CODECPRIOR_VVDECAPP", _bundled_folders(), _REINSTALL)


def find_probe() -> Program:
    """Find the tracing decoder: ``CODECPRIOR_PROBE``, then the bundled one, then ``PATH``.

    Returns
    -------
    Program
        The tracing decoder; its version is VVdeC's.

    Raises
    ------
    ToolNotFoundError
        If there is none.
    ToolVersionError
        If it does not tell a version.
    """
    return _find("codecprior-probe", "CODECPRIOR_PROBE", _bundled_folders(), _REINSTALL)


def find_ffmpeg_vvenc() -> Program:
    """Find an FFmpeg with libvvenc: ``CODECPRIOR_FFMPEG``, then the one that imageio-ffmpeg carries.

    One grey picture is coded, so that what is found also works on this machine.

    Returns
    -------
    Program
        FFmpeg; its version begins with VVenC's.

    Raises
    ------
    ToolNotFoundError
        If there is none.
    ToolVersionError
        If it has no libvvenc.
    """
    path = _overridden("CODECPRIOR_FFMPEG") or _imageio_ffmpeg()
    coding = ["-frames:v", "1", "-pix_fmt", "yuv420p10le", "-c:v", "libvvenc", "-f", "null", "-"]
    try:
        banner = capture([str(path), "-version"])
        log = capture([str(path), "-nostdin", "-hide_banner", "-loglevel", "info", *_FRAME_OF_64X64, *coding])
        version = parse_ffmpeg_version(banner, log)
    except ToolError as error:
        raise ToolVersionError(
            f"{path} cannot encode VVC ({error}); use an FFmpeg with libvvenc: pip install 'imageio-ffmpeg>=0.8'"
        ) from error
    return Program(name="ffmpeg", path=path, version=version)


def find_vvenc() -> Program:
    """Find an encoder: ``vvencapp`` where it is installed, else an FFmpeg with libvvenc.

    Returns
    -------
    Program
        Named ``"vvencapp"`` or ``"ffmpeg"``.

    Raises
    ------
    ToolNotFoundError
        If there is neither.
    ToolVersionError
        If the one that is there is unsuitable.
    """
    if os.environ.get("CODECPRIOR_VVENCAPP") or shutil.which("vvencapp"):
        return find_vvencapp()
    return find_ffmpeg_vvenc()


def find_all() -> list[ToolReport]:
    """Report on every program, found or not.

    Returns
    -------
    list of ToolReport
        vvencapp, ffmpeg, vvdecapp, codecprior-probe.
    """
    encoders = [_report("vvencapp", find_vvencapp), _report("ffmpeg", find_ffmpeg_vvenc)]
    if not all(report.problem for report in encoders):
        encoders = [replace(report, needed=False) for report in encoders]
    return [*encoders, _report("vvdecapp", find_vvdecapp), _report("codecprior-probe", find_probe)]


def parse_version(text: str) -> str:
    """Read the version that a program of the VVenC and VVdeC family prints.

    Parameters
    ----------
    text : str
        Its output, such as ``vvdecapp version 3.0.0`` or ``codecprior-probe (VVdeC 3.0.0)``.

    Returns
    -------
    str
        The version.

    Raises
    ------
    ToolVersionError
        If there is none.
    """
    found = re.search(r"(?:version|VVdeC):?\s+v?(\d[\w.+-]*)", text)
    if found is None:
        raise ToolVersionError(f"expected a version, got {text.strip()[:80]!r}")
    return found[1]


def parse_ffmpeg_version(banner: str, log: str) -> str:
    """Read the versions of FFmpeg and of the VVenC in it.

    Parameters
    ----------
    banner : str
        Output of ``ffmpeg -version``.
    log : str
        Output of an encode with libvvenc at log level info.

    Returns
    -------
    str
        Such as ``1.15.0 (FFmpeg 8.0)``.

    Raises
    ------
    ToolVersionError
        If the encode was not made by libvvenc.
    """
    vvenc = re.search(r"libvvenc version: (\S+)", log)
    if vvenc is None:
        raise ToolVersionError("libvvenc did not report itself")
    ffmpeg = re.search(r"ffmpeg version (\S+)", banner)
    return f"{vvenc[1]} (FFmpeg {ffmpeg[1] if ffmpeg else 'of unknown version'})"


def _find(name: str, variable: str, folders: Iterable[Path], hint: str) -> Program:
    path = _overridden(variable) or _search(name, variable, list(folders), hint)
    try:
        return Program(name=name, path=path, version=parse_version(capture([str(path), "--version"])))
    except ToolError as error:
        raise ToolVersionError(f"{path} is no working {name} ({error}); {hint}") from error


def _overridden(variable: str) -> Path | None:
    text = os.environ.get(variable)
    if not text:
        return None
    found = shutil.which(text)
    if found is None:
        raise ToolNotFoundError(f"{variable}={text}: no such program; set it to an executable file, or unset it")
    return Path(found)


def _search(name: str, variable: str, folders: list[Path], hint: str) -> Path:
    for folder in folders:
        if os.access(folder / name, os.X_OK):
            return folder / name
    on_path = shutil.which(name)
    if on_path is None:
        places = ", ".join([f"${variable} (not set)", *map(str, folders), "PATH"])
        raise ToolNotFoundError(f"{name} not found in {places}; {hint}")
    return Path(on_path)


def _bundled_folders() -> list[Path]:
    """Where an installation puts programs: beside this file, or beside the metadata where sources are used in place."""
    folders = [Path(__file__).parent / "bin"]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        folders.append(Path(str(importlib.metadata.distribution("codecprior").locate_file("vvc_wrappers/bin"))))
    return list(dict.fromkeys(folders))


def _imageio_ffmpeg() -> Path:
    try:
        import imageio_ffmpeg  # may be absent where CODECPRIOR_FFMPEG is set

        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise ToolNotFoundError(
            "no FFmpeg with libvvenc: $CODECPRIOR_FFMPEG is not set and imageio-ffmpeg has none; "
            "install it with: pip install 'imageio-ffmpeg>=0.8'"
        ) from error


def _report(name: str, find: Callable[[], Program]) -> ToolReport:
    try:
        program = find()
    except ToolError as error:
        return ToolReport(name=name, path=None, version=None, problem=str(error), needed=True)
    return ToolReport(name=name, path=program.path, version=program.version, problem=None, needed=True)
