from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest


class CommandLine:
    """Runs ``codecprior`` as a user does, in processes that can be told from all others."""

    command = (sys.executable, "-m", "codecprior.cli")

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self.environment = {**os.environ, "COLUMNS": "80", "CODECPRIOR_TEST_RUN": self._mark}

    def __call__(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        environment = {**self.environment, **options.pop("env", {})}
        command = [*self.command, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        command = [*self.command, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, env=self.environment, start_new_session=True, **pipes)

    def fails(self, *arguments: object, **options: Any) -> str:
        """Run a command that must fail and return its one line of error."""
        done = self(*arguments, **options)
        lines = done.stderr.splitlines()
        assert (done.returncode, len(lines)) == (1, 1), done.stderr
        assert lines[0].startswith("Error: ")
        return lines[0].removeprefix("Error: ")

    def processes(self) -> list[psutil.Process]:
        """Every living process that these runs have started, directly or not."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("CODECPRIOR_TEST_RUN") == self._mark:
                    found.append(process)
        return found


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    """Run ``codecprior``; fails the test if a process is left."""
    line = CommandLine()
    yield line
    _, left = psutil.wait_procs(line.processes(), timeout=5)
    commands = [" ".join(process.cmdline()) for process in left]
    for process in left:
        process.kill()
    assert not commands


@pytest.fixture
def frames(tiny: Any, tmp_path: Path) -> Path:
    """Six pictures, 176x144."""
    return tiny.pictures(tmp_path / "clip")


@pytest.fixture
def bucket(cli: Any, tmp_path: Path) -> Iterator[str]:
    """URL of a bucket on a server that the command line is told of."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with urlopen(Request(f"http://{host}:{port}/priors", method="PUT")):
        pass
    staging = tmp_path / "tmp"
    staging.mkdir()
    cli.environment |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TMPDIR": str(staging),
    }
    yield "s3://priors"
    server.stop()
