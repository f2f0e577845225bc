"""Running programs: pipes in and out, the end of what they print, and no process left behind.

A :class:`Process` dies with its parent, however that one ends; it is killed when it is left, and when it is stalled.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import math
import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, TypeVar

import psutil

from codecprior.errors import ConfigError, ToolFailedError, ToolNotFoundError, ToolTimeoutError

__all__ = [
    "CHUNK_BYTES",
    "Buffer",
    "Feeder",
    "Process",
    "Watchdog",
    "capture",
    "closing_generator",
    "default_stall_seconds",
]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

Buffer = bytes | bytearray | memoryview
"""What can be written to a pipe without a copy."""

CHUNK_BYTES: Final = 1 << 20
"""Default size of a read."""

_STALL_SECONDS: Final = 20.0
_TICK_SECONDS: Final = 0.5  # between two looks at a silent process
_BUSY_CPU_SECONDS: Final = 0.1  # a process that uses this much CPU within the stall time is working
_TAIL_BYTES: Final = 16384
_PIPE_BYTES: Final = 1 << 20


def default_stall_seconds() -> float:
    """Return how long a program may do nothing: ``CODECPRIOR_STALL_SECONDS`` or 20 seconds.

    Returns
    -------
    float
        Seconds, above 0.

    Raises
    ------
    ConfigError
        If the variable holds no such number.
    """
    text = os.environ.get("CODECPRIOR_STALL_SECONDS", "")
    try:
        seconds = float(text) if text else _STALL_SECONDS
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"CODECPRIOR_STALL_SECONDS={text}: give a number of seconds above 0, or unset it")
    return seconds


class Watchdog:
    """Tells a stalled process from one that is at work.

    A process is stalled when it has used no CPU time, children included, while its caller waited ``stall_seconds`` for
    it without progress; or, if that is limited, so much of it that it must run in circles. Only waiting counts: create
    the watchdog, or call :meth:`progress`, when a wait begins.

    Parameters
    ----------
    pid : int
        The process.
    stall_seconds : float
        How long it may do nothing.
    cpu_seconds : float
        How much CPU time it may use without progress.

    Attributes
    ----------
    spins : bool
        Whether it is stalled because it has used too much CPU time.
    """

    def __init__(self, pid: int, stall_seconds: float, cpu_seconds: float = math.inf) -> None:
        self._pid = pid
        self._stall_seconds = stall_seconds
        self._most_cpu_seconds = cpu_seconds
        self.spins = False
        self.progress()

    def progress(self) -> None:
        """Start to count anew: something came, or the process has a reason to be idle."""
        self._looked_at: float | None = None
        self._cpu_seconds = self._first_cpu_seconds = 0.0
        self._idle_seconds = 0.0

    def stalled(self) -> bool:
        """Return whether the process is stalled; call it about twice a second while waiting.

        Returns
        -------
        bool
            False at the first call after a beginning or progress, from which time counts.
        """
        now, used = time.monotonic(), _cpu_seconds(self._pid)
        if self._looked_at is None:
            self._cpu_seconds = self._first_cpu_seconds = used
        elif abs(used - self._cpu_seconds) >= _BUSY_CPU_SECONDS:
            self._cpu_seconds = used
            self._idle_seconds = 0.0
        else:
            # A parent that was stopped itself (Ctrl-Z) comes back with a long gap, which says nothing about the child.
            self._idle_seconds += min(now - self._looked_at, 2 * _TICK_SECONDS)
        self._looked_at = now
        self.spins = used - self._first_cpu_seconds >= self._most_cpu_seconds
        return self._idle_seconds >= self._stall_seconds or self.spins


def _cpu_seconds(pid: int) -> float:
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(member.cpu_times()[:2])
    return total


class Process:
    """A running program whose output is read through a pipe.

    Used as a context manager: what still runs at the end is killed. The program has its own session, so that Ctrl-C in
    a terminal reaches only the parent, and a guardian kills it when the parent is gone.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    stdin : bool
        Whether to open a pipe to its standard input; otherwise it reads nothing.
    output_fd : int
        Descriptor on which the program writes its data. If it is not 1, standard output joins standard error.
    pass_fds : sequence of int
        Descriptors to hand down under the same numbers.
    stall_seconds : float, optional
        How long the program may do nothing while we wait for it; :func:`default_stall_seconds` by default.
    cpu_seconds : float
        How much CPU time the program may use while we wait for one read.

    Raises
    ------
    ToolNotFoundError
        If the program does not exist or cannot be executed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: bool = False,
        output_fd: int = 1,
        pass_fds: Sequence[int] = (),
        stall_seconds: float | None = None,
        cpu_seconds: float = math.inf,
    ) -> None:
        self.command = tuple(command)
        self._cpu_seconds = cpu_seconds
        self._stall_seconds = default_stall_seconds() if stall_seconds is None else stall_seconds
        self._popen = _start(_redirected(self.command, output_fd), stdin=stdin, pass_fds=pass_fds)
        self._parent = os.getpid()
        _guardian.watch(self.pid)
        assert self._popen.stdout is not None
        self._output_fd = self._popen.stdout.fileno()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                _widen(pipe.fileno())
        self._poller = select.poll()
        self._poller.register(self._output_fd, select.POLLIN)
        self._tail = bytearray()
        self._drain = threading.Thread(target=self._drain_messages, name=f"stderr of {self.pid}", daemon=True)
        self._drain.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        """Process id, which is also that of its process group."""
        return self._popen.pid

    @property
    def stdin(self) -> IO[bytes]:
        """The unbuffered pipe to the standard input of a process that was started with one."""
        assert self._popen.stdin is not None, "started without stdin=True"
        return self._popen.stdin

    @property
    def stderr_tail(self) -> str:
        """The last lines that the program printed, without its data."""
        return bytes(self._tail).decode(errors="replace").replace("\r", "\n").strip()

    def read(self, size: int = CHUNK_BYTES, *, excused: Callable[[], bool] = lambda: False) -> bytes:
        """Read what the program has written, waiting until there is something.

        Parameters
        ----------
        size : int
            Most bytes to return.
        excused : callable
            Returns True while the program has a reason to be idle, such as no input.

        Returns
        -------
        bytes
            At least one byte; none when the program has closed its output.

        Raises
        ------
        ToolTimeoutError
            If the program is stalled. It has been killed.
        """
        self._wait_until(lambda seconds: bool(self._poller.poll(seconds * 1000)), excused)
        return os.read(self._output_fd, size)

    def wait(self) -> int:
        """Wait until the program has ended.

        Returns
        -------
        int
            Exit status; negative for a signal.

        Raises
        ------
        ToolTimeoutError
            If the program is stalled. It has been killed.
        """
        self._wait_until(self._ended, lambda: False)
        return self._reap()

    def check(self) -> None:
        """Wait until the program has ended and insist that it succeeded.

        Raises
        ------
        ToolFailedError
            If its exit status is not 0.
        ToolTimeoutError
            If the program is stalled. It has been killed.
        """
        status = self.wait()
        if status:
            raise ToolFailedError(self.command, status, self.stderr_tail)

    def kill(self) -> None:
        """End the program and its children now, and collect what is left of them; does nothing where it has ended."""
        if os.getpid() != self._parent:
            return  # in a forked copy of the parent, which must not end what it did not start
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._reap()

    def _ended(self, seconds: float) -> bool:
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _reap(self) -> int:
        status = self._popen.wait()
        _guardian.release(self.pid)
        self._drain.join(timeout=_TICK_SECONDS)  # a child of the program may hold the pipe open
        return status

    def _wait_until(self, ready: Callable[[float], bool], excused: Callable[[], bool]) -> None:
        watchdog = Watchdog(self.pid, self._stall_seconds, self._cpu_seconds)
        while not ready(min(_TICK_SECONDS, self._stall_seconds)):
            if excused():
                watchdog.progress()
            elif watchdog.stalled():
                self.kill()
                idle, busy = f"did nothing for {self._stall_seconds:g}", f"gave nothing for {self._cpu_seconds:g} busy"
                raise ToolTimeoutError(
                    f"{Path(self.command[0]).name} {busy if watchdog.spins else idle} seconds and was killed; "
                    "set CODECPRIOR_STALL_SECONDS to wait longer"
                )

    def _drain_messages(self) -> None:
        assert self._popen.stderr is not None
        with self._popen.stderr as pipe:
            while data := os.read(pipe.fileno(), _TAIL_BYTES):
                self._tail += data
                del self._tail[:-_TAIL_BYTES]


class Feeder:
    """Writes to the standard input of a process from a thread, so that its output can be read at the same time.

    Used as a context manager. What the iterable raises kills the process and is raised again by :meth:`finish`.

    Parameters
    ----------
    process : Process
        Started with ``stdin=True``.
    pieces : iterable of Buffer
        What to write. It is advanced, and closed if it is a generator, in the thread.
    """

    def __init__(self, process: Process, pieces: Iterable[Buffer]) -> None:
        self._process = process
        self._pieces = pieces
        self._thread = threading.Thread(target=self._run, name=f"stdin of {process.pid}", daemon=True)
        self._waiting = True
        self._refused = False
        self._error: BaseException | None = None

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()  # which also ends a write that nobody reads
        self._thread.join()

    def is_waiting(self) -> bool:
        """Return whether there is nothing to write yet, so that the process may be idle."""
        return self._waiting

    def finish(self) -> None:
        """Wait until all is written and the process has ended well.

        Raises
        ------
        BaseException
            What the iterable raised.
        ToolFailedError
            If the process failed, or did not read everything.
        """
        self._process.wait()
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._process.check()
        if self._refused:
            raise ToolFailedError(self._process.command, 0, "it stopped reading before the end of its input")

    def _run(self) -> None:
        try:
            with self._process.stdin as pipe:
                self._write_all(pipe.fileno())
        finally:
            self._waiting = False

    def _write_all(self, pipe: int) -> None:
        try:
            with closing_generator(self._pieces) as pieces:
                for piece in pieces:
                    self._waiting = False
                    if not _write(pipe, piece):
                        self._refused = True
                        break
                    self._waiting = True
        except BaseException as error:  # whatever it is, it belongs to the thread that reads
            self._error = error
            self._process.kill()  # before the pipe is closed, which would look like the end of the input


@contextlib.contextmanager
def closing_generator(items: Iterable[_T]) -> Iterator[Iterable[_T]]:
    """Close an iterable at the end if it is a generator, so that the files it has open are closed now.

    Parameters
    ----------
    items : iterable
        What is iterated over.

    Yields
    ------
    iterable
        The same.
    """
    try:
        yield items
    finally:
        if isinstance(items, Generator):
            items.close()


def capture(command: Sequence[str], *, timeout_seconds: float = 30.0) -> str:
    """Run a short command and return all that it prints.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    timeout_seconds : float
        Seconds after which it is killed.

    Returns
    -------
    str
        Standard output and standard error.

    Raises
    ------
    ToolNotFoundError
        If the program does not exist or cannot be executed.
    ToolFailedError
        If its exit status is not 0.
    ToolTimeoutError
        If it takes too long.
    """
    logger.debug("RUN: %s", shlex.join(command))
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_seconds,
            check=False,
        )
    except OSError as error:
        raise _cannot_start(command, error) from error
    except subprocess.TimeoutExpired as error:
        raise ToolTimeoutError(f"{Path(command[0]).name} did not answer within {timeout_seconds:g} seconds") from error
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise ToolFailedError(command, done.returncode, text)
    return text


def _start(command: Sequence[str], *, stdin: bool, pass_fds: Sequence[int]) -> subprocess.Popen[bytes]:
    logger.debug("RUN: %s", shlex.join(command))
    try:
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    except OSError as error:
        raise _cannot_start(command, error) from error


def _redirected(command: Sequence[str], output_fd: int) -> Sequence[str]:
    if output_fd == 1:
        return command
    if shutil.which(command[0]) is None:
        raise ToolNotFoundError(f"cannot start {command[0]}: no such program")
    return ["/bin/sh", "-c", f'exec "$@" {output_fd}>&1 1>&2', "sh", *command]


def _cannot_start(command: Sequence[str], error: OSError) -> ToolNotFoundError:
    return ToolNotFoundError(f"cannot start {command[0]}: {error.strerror}")


def _widen(pipe: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # a user has only so much pipe memory; smaller pipes work too
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _write(pipe: int, piece: Buffer) -> bool:
    """Write everything; False if nobody reads any more."""
    view = memoryview(piece).cast("B")
    try:
        while view:
            view = view[os.write(pipe, view) :]
    except BrokenPipeError:
        return False
    return True


class _Guardian:
    """A shell that kills the process groups on its list when this process is gone.

    Linux could do it alone (PR_SET_PDEATHSIG), but it goes by the thread that started the child, so that a child dies
    with a worker thread. A list that ends with a pipe follows the process, and works wherever there is a shell.
    """

    _SCRIPT: Final = """
        trap '' HUP INT TERM
        while read -r change group; do
            case $change in
            +) groups="$groups $group " ;;
            -) groups="${groups%% $group *} ${groups#* $group }" ;;
            esac
        done
        for group in $groups; do kill -s KILL -- "-$group"; done
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._shell: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            if not self._tell(f"+ {group}\n"):
                self._shell = subprocess.Popen(
                    ["/bin/sh", "-c", self._SCRIPT],
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                self._tell("".join(f"+ {known}\n" for known in self._groups))

    def release(self, group: int) -> None:
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                self._tell(f"- {group}\n")

    def dismiss(self) -> None:
        """End the shell, and with it all that is still on its list."""
        with self._lock:
            shell, self._shell = self._shell, None
            if shell is not None and shell.stdin is not None:
                shell.stdin.close()
                shell.wait()

    def forget(self) -> None:
        """In a forked child: the programs, and the pipe whose end means death, are the parent's."""
        shell = self._shell
        self.__init__()  # type: ignore[misc]
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
            shell.returncode = 0  # not our child: nothing to wait for, nothing to warn of

    def _tell(self, line: str) -> bool:
        if self._shell is None or self._shell.stdin is None:
            return False
        try:
            self._shell.stdin.write(line.encode())
        except BrokenPipeError:
            self._shell.wait()
            return False
        return True


_guardian = _Guardian()
atexit.register(_guardian.dismiss)
os.register_at_fork(after_in_child=_guardian.forget)
