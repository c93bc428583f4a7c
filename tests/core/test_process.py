"""ProcessIdentity: whether the process that it names has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from goscope.backend import ProcessIdentity, is_alive, this_process

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/ns/pid").exists(),
    reason="only Linux distinguishes a process from a later one",
)

PRINT_IDENTITY = (
    "import sys; from goscope.backend import this_process; print(*this_process(), sep='\\n')"
)
PRINT_AND_WAIT = PRINT_IDENTITY + "; sys.stdout.flush(); sys.stdin.read()"


@contextmanager
def child() -> Generator[tuple[subprocess.Popen[str], ProcessIdentity]]:
    """A process that prints its identity and waits until it is killed."""
    command = [sys.executable, "-c", PRINT_AND_WAIT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().removesuffix("\n") for _ in range(4)]
            yield process, identity(lines)
        finally:
            process.kill()


def identity(lines: list[str]) -> ProcessIdentity:
    host, pid, namespace, started = lines
    return ProcessIdentity(host, int(pid), namespace, started)


def test_the_running_process_is_not_gone() -> None:
    assert this_process().pid == os.getpid()
    assert not this_process().is_gone()


def test_a_child_is_gone_when_it_has_ended() -> None:
    """A zombie is gone, too: it holds nothing, even if its parent has not reaped it."""
    with child() as (process, named):
        assert named.pid == process.pid
        assert named != this_process()
        assert not named.is_gone(), "a running process was declared gone"
        process.send_signal(signal.SIGSTOP)
        assert not named.is_gone(), "a stopped process was declared gone"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not reaped
        assert Path(f"/proc/{process.pid}").exists(), "it is not a zombie"
        assert named.is_gone(), "a zombie was taken for a running process"
        process.wait()
        assert named.is_gone(), "a process that was reaped was taken for a running one"


def test_a_process_whose_main_thread_has_ended_is_not_gone() -> None:
    """Its state is that of a zombie, while its other threads run."""
    code = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        f"{PRINT_IDENTITY}; sys.stdout.flush()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            named = identity([process.stdout.readline().removesuffix("\n") for _ in range(4)])
            stat = Path(f"/proc/{process.pid}/stat")
            while stat.read_text().rpartition(") ")[2][0] != "Z":
                time.sleep(0.01)
            assert not named.is_gone()
        finally:
            process.kill()
    assert named.is_gone()


@pytest.mark.parametrize("pid", [0, -1, -(2**22), 2**70])
def test_a_number_that_is_not_a_process_id_proves_nothing(pid: int) -> None:
    """Another program may write anything into the row of a lease."""
    assert not this_process()._replace(pid=pid).is_gone()


def test_a_later_process_with_the_same_id_is_another_process() -> None:
    me = this_process()
    assert me._replace(started=str(int(me.started) - 1)).is_gone()


NO_PROCESS = this_process()._replace(pid=2**22 + 1)


def test_an_unused_id_is_gone() -> None:
    assert NO_PROCESS.is_gone()


@pytest.mark.parametrize(
    "unknown",
    [
        NO_PROCESS._replace(started=""),
        NO_PROCESS._replace(namespace=""),
        NO_PROCESS._replace(namespace="pid:[1]"),
        NO_PROCESS._replace(host="elsewhere"),
    ],
)
def test_a_process_whose_end_is_unknown_is_not_gone(unknown: ProcessIdentity) -> None:
    """It may belong to another machine or namespace."""
    assert not unknown.is_gone()


def test_a_forked_child_has_its_own_identity() -> None:
    code = (
        "import os; from goscope.backend import this_process; mine = this_process()\n"
        "if pid := os.fork(): raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "os._exit(0 if this_process().pid == os.getpid() != mine.pid else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def identity_within(command: list[str]) -> ProcessIdentity:
    """The identity of a process that the command runs."""
    whole = [*command, sys.executable, "-c", PRINT_IDENTITY]
    done = subprocess.run(whole, stdout=subprocess.PIPE, text=True, check=True)
    return identity(done.stdout.split("\n")[:4])


def test_a_process_of_another_namespace_is_never_declared_gone(unshare: list[str]) -> None:
    """Here its id is that of another process, and it may still run."""
    other = identity_within([*unshare, "--mount-proc"])
    assert other.pid == 1
    assert other.namespace != this_process().namespace
    assert not other.is_gone()


def test_where_proc_shows_another_namespace_the_namespace_is_unknown(unshare: list[str]) -> None:
    """There /proc/1 is another process, whose end would be taken for this one's."""
    other = identity_within(unshare)
    assert other.pid == 1
    assert other.namespace == ""
    assert not other.is_gone()


def test_a_process_is_alive_until_it_has_ended_and_unknown_elsewhere() -> None:
    assert is_alive(this_process()) is True
    with child() as (process, named):
        assert is_alive(named) is True
        process.send_signal(signal.SIGSTOP)
        assert is_alive(named) is True, "a stopped process still holds what it holds"
        assert is_alive(named._replace(started="1")) is False, "it is a later process"
        assert is_alive(named._replace(host="elsewhere")) is None
        assert is_alive(named._replace(namespace="pid:[1]")) is None
        assert is_alive(named._replace(started="")) is None
        process.kill()
        process.wait()
        assert is_alive(named) is False
