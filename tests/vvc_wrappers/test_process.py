from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codecprior.errors import ConfigError, ToolFailedError, ToolNotFoundError, ToolTimeoutError
from vvc_wrappers.process import Feeder, Process, Watchdog, capture, default_stall_seconds

BUSY = """
import time
end = time.process_time() + 1.5
while time.process_time() < end:
    pass
print("done")
"""


def sh(code: str) -> list[str]:
    return ["/bin/sh", "-c", code]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def read_all(process: Process) -> bytes:
    return b"".join(iter(process.read, b""))


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while runs(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.01)


def test_output_larger_than_a_pipe_is_read_whole() -> None:
    with Process(sh("head -c 3000000 /dev/zero")) as process:
        assert len(read_all(process)) == 3_000_000
        process.check()


def test_failed_program_is_reported_with_its_last_line() -> None:
    with Process(sh("echo first >&2; echo last >&2; exit 7")) as process:
        assert process.read() == b""
        with pytest.raises(ToolFailedError, match="exited with 7: last") as caught:
            process.check()
    assert caught.value.stderr_tail == "first\nlast"


def test_program_killed_by_a_signal_is_reported_as_such() -> None:
    with Process(sh("kill -s SEGV $$")) as process, pytest.raises(ToolFailedError, match="killed by signal 11"):
        process.check()


def test_messages_are_kept_from_their_end_and_never_block_the_program() -> None:
    with Process(sh("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done")) as process:
        process.check()
        assert process.stderr_tail.endswith("line 19999")
        assert len(process.stderr_tail) <= 16384


def test_data_on_its_own_descriptor_is_kept_apart_from_both_standard_streams() -> None:
    with Process(sh("echo noise; echo more >&2; echo data >&3"), output_fd=3) as process:
        assert read_all(process) == b"data\n"
        process.check()
        assert sorted(process.stderr_tail.split()) == ["more", "noise"]


@pytest.mark.parametrize("output_fd", [1, 3])
def test_missing_program_is_named(output_fd: int) -> None:
    with pytest.raises(ToolNotFoundError, match="no-such-program"):
        Process(["/nowhere/no-such-program"], output_fd=output_fd)


def test_descriptors_are_handed_down() -> None:
    reading, writing = os.pipe()
    try:
        with Process(python(f"import os; os.write({writing}, b'hello')"), pass_fds=[writing]) as process:
            process.check()
        assert os.read(reading, 100) == b"hello"
    finally:
        os.close(reading)
        os.close(writing)


def test_leaving_kills_a_program_that_ignores_sigterm_and_its_children() -> None:
    with Process(sh("trap '' TERM INT; sleep 100 & echo $!; wait; sleep 100")) as process:
        child = int(process.read())
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)
    wait_until_gone(child)


def test_an_exception_inside_leaves_no_process() -> None:
    with pytest.raises(KeyError), Process(sh("sleep 100")) as process:
        raise KeyError
    assert not psutil.pid_exists(process.pid)


def test_program_is_out_of_reach_of_ctrl_c_in_the_terminal() -> None:
    with Process(sh("sleep 100")) as process:
        assert os.getsid(process.pid) == process.pid != os.getsid(0)


def start_parent(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True)


def test_children_die_when_the_parent_is_killed() -> None:
    parent = start_parent(
        """
        import sys, time
        from vvc_wrappers.process import Process
        done = Process(["/bin/true"]); done.check()
        alive = [Process(["/bin/sh", "-c", "trap '' TERM HUP; sleep 100 & echo $!; wait"]) for _ in range(2)]
        print(*[process.pid for process in alive], *[int(process.read()) for process in alive], flush=True)
        time.sleep(100)
        """
    )
    assert parent.stdout is not None
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 4
        assert all(map(runs, pids))
        parent.kill()
    for pid in pids:
        wait_until_gone(pid)


def test_children_outlive_the_thread_that_started_them() -> None:
    parent = start_parent(
        """
        import threading
        from vvc_wrappers.process import Process
        started = []
        thread = threading.Thread(target=lambda: started.append(Process(["/bin/sh", "-c", "sleep 0.3; echo alive"])))
        thread.start(); thread.join()
        with started[0] as process:
            print(process.read().decode(), end="")
        """
    )
    assert parent.communicate(timeout=20)[0] == "alive\n"


def test_children_die_when_the_parent_leaves_them_behind() -> None:
    parent = start_parent(
        """
        from vvc_wrappers.process import Process
        process = Process(["/bin/sh", "-c", "trap '' TERM HUP; sleep 100"])
        print(process.pid)
        """
    )
    output, _ = parent.communicate(timeout=20)
    wait_until_gone(int(output))


def test_children_outlive_a_fork_of_the_parent() -> None:
    parent = start_parent(
        """
        import os, warnings
        from vvc_wrappers.process import Process
        warnings.simplefilter("ignore")  # forking with threads is what users' libraries do
        with Process(["/bin/sh", "-c", "sleep 0.5; echo alive"]) as process:
            if (fork := os.fork()) == 0:
                raise SystemExit
            os.waitpid(fork, 0)
            print(process.read().decode(), end="")
        """
    )
    assert parent.communicate(timeout=20)[0] == "alive\n"


def test_children_die_with_the_parent_though_a_fork_of_it_lives_on() -> None:
    parent = start_parent(
        """
        import os, time, warnings
        from vvc_wrappers.process import Process
        warnings.simplefilter("ignore")
        with Process(["sleep", "100"]) as process:
            fork = os.fork()
            if fork:
                print(process.pid, fork, flush=True)
            time.sleep(100)
        """
    )
    assert parent.stdout is not None
    program, fork = map(int, parent.stdout.readline().split())
    try:
        parent.kill()
        wait_until_gone(program)
        assert runs(fork)
    finally:
        os.kill(fork, signal.SIGKILL)
        parent.communicate()


def test_sleeping_program_is_stalled_and_killed() -> None:
    with Process(sh("echo start; sleep 100"), stall_seconds=0.4) as process:
        assert process.read() == b"start\n"
        with pytest.raises(ToolTimeoutError, match=r"sh did nothing for 0\.4 seconds.*CODECPRIOR_STALL_SECONDS"):
            process.read()
    assert not psutil.pid_exists(process.pid)


def test_program_that_hangs_after_its_output_is_stalled() -> None:
    with Process(sh("exec 1>&-; sleep 100"), stall_seconds=0.4) as process:
        assert process.read() == b""
        with pytest.raises(ToolTimeoutError):
            process.check()


def test_busy_program_is_not_stalled() -> None:
    with Process(python(BUSY), stall_seconds=0.7) as process:
        assert read_all(process) == b"done\n"


def test_program_that_runs_in_circles_is_stalled() -> None:
    endless = python("while True: pass")
    reason = r"gave nothing for 0\.5 busy seconds and was killed"
    with Process(endless, stall_seconds=5, cpu_seconds=0.5) as process, pytest.raises(ToolTimeoutError, match=reason):
        process.read()


def test_program_with_a_busy_child_is_not_stalled() -> None:
    with Process([*sh('"$@"; true'), "sh", *python(BUSY)], stall_seconds=0.7) as process:
        assert read_all(process) == b"done\n"


def test_program_that_waits_for_a_slow_reader_is_not_stalled() -> None:
    with Process(sh("head -c 4000000 /dev/zero; sleep 0.1"), stall_seconds=0.4) as process:
        total = len(process.read())
        time.sleep(1)
        total += len(read_all(process))
        process.check()
    assert total == 4_000_000


def test_program_without_input_is_excused() -> None:
    def late() -> Iterator[bytes]:
        time.sleep(1.2)
        yield b"late"

    with Process(["cat"], stdin=True, stall_seconds=0.4) as process, Feeder(process, late()) as feeder:
        assert process.read(excused=feeder.is_waiting) == b"late"
        feeder.finish()


def test_program_that_does_not_read_its_input_is_stalled() -> None:
    pieces = (bytes(1 << 20) for _ in range(8))
    with (
        Process(sh("sleep 100"), stdin=True, stall_seconds=0.4) as process,
        Feeder(process, pieces) as feeder,
        pytest.raises(ToolTimeoutError),
    ):
        process.read(excused=feeder.is_waiting)


def test_time_in_which_the_parent_was_suspended_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watchdog = Watchdog(os.getpid(), stall_seconds=5)
    assert not watchdog.stalled()
    now = 3600.0
    for _ in range(8):
        assert not watchdog.stalled()
        now += 0.5
    assert watchdog.stalled()


def test_fed_bytes_come_back_in_order() -> None:
    pieces = [bytes([value]) * 300_000 for value in range(20)]
    with Process(["cat"], stdin=True) as process, Feeder(process, pieces) as feeder:
        output = read_all(process)
        feeder.finish()
    assert output == b"".join(pieces)


def test_what_the_producer_raises_comes_through_and_kills_the_program() -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise LookupError("frame 1 is unreadable")

    with Process(["cat"], stdin=True) as process, Feeder(process, broken()) as feeder:
        read_all(process)
        with pytest.raises(LookupError, match="frame 1"):
            feeder.finish()
    assert not psutil.pid_exists(process.pid)


def test_program_that_stops_reading_early_has_failed() -> None:
    pieces = (bytes(1 << 20) for _ in range(8))
    with Process(["head", "-c", "10"], stdin=True) as process, Feeder(process, pieces) as feeder:
        assert read_all(process) == bytes(10)
        with pytest.raises(ToolFailedError, match="before the end of its input"):
            feeder.finish()


def test_producer_is_closed_when_the_reader_leaves() -> None:
    closed = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            closed.append(True)

    pieces = endless()

    def reader_that_fails() -> None:
        with Process(["cat"], stdin=True) as process, Feeder(process, pieces):
            process.read()
            raise KeyError

    with pytest.raises(KeyError):
        reader_that_fails()
    assert closed == [True]


def test_capture_returns_both_streams() -> None:
    assert sorted(capture(sh("echo out; echo err >&2")).split()) == ["err", "out"]


def test_capture_reports_failure_slowness_and_absence() -> None:
    with pytest.raises(ToolFailedError, match="exited with 3: reason"):
        capture(sh("echo reason; exit 3"))
    with pytest.raises(ToolTimeoutError, match=r"within 0\.2 seconds"):
        capture(["sleep", "100"], timeout_seconds=0.2)
    with pytest.raises(ToolNotFoundError, match="no-such-program"):
        capture(["/nowhere/no-such-program"])


def test_program_that_cannot_be_executed_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(ToolNotFoundError, match="plain: Permission denied"):
        Process([str(tmp_path / "plain")])


def test_stall_time_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODECPRIOR_STALL_SECONDS", raising=False)
    assert default_stall_seconds() == 20
    monkeypatch.setenv("CODECPRIOR_STALL_SECONDS", "2.5")
    assert default_stall_seconds() == 2.5


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_senseless_stall_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CODECPRIOR_STALL_SECONDS", text)
    with pytest.raises(ConfigError, match=text):
        default_stall_seconds()
