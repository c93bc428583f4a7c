"""Telling from a record whether the process that wrote it is still there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goscope.backend import ProcessIdentity, this_process

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/ns/pid").exists(), reason="only Linux tells one process from a later one"
)

TELL = "import sys; from goscope.backend import this_process; print(*this_process(), sep='\\n')"
STAY = TELL + "; sys.stdout.flush(); sys.stdin.read()"


@contextmanager
def child() -> Generator[tuple[subprocess.Popen[str], ProcessIdentity]]:
    """Run a process that tells who it is and stays until it is killed."""
    command = [sys.executable, "-c", STAY]
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


def test_the_running_process_is_there() -> None:
    assert this_process().pid == os.getpid()
    assert not this_process().is_gone()


def test_a_child_is_there_until_it_is_reaped_or_not() -> None:
    """A zombie is gone: it holds nothing any more, even while its parent does not reap it."""
    with child() as (process, who):
        assert who.pid == process.pid
        assert who != this_process()
        assert not who.is_gone(), "a running process was declared gone"
        process.send_signal(signal.SIGSTOP)
        assert not who.is_gone(), "a stopped process was declared gone"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
        assert Path(f"/proc/{process.pid}").exists(), "it is no zombie"
        assert who.is_gone(), "a zombie was taken for a running process"
        process.wait()
        assert who.is_gone(), "a process that was reaped was taken for a running one"


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    me = this_process()
    assert me._replace(started=str(int(me.started) - 1)).is_gone()


NOBODY = this_process()._replace(pid=2**22 + 1)


def test_an_id_that_no_process_has_is_gone() -> None:
    assert NOBODY.is_gone()


@pytest.mark.parametrize(
    "unknown",
    [
        NOBODY._replace(started=""),
        NOBODY._replace(namespace=""),
        NOBODY._replace(namespace="pid:[1]"),
        NOBODY._replace(host="elsewhere"),
    ],
)
def test_whatever_cannot_be_told_is_not_gone(unknown: ProcessIdentity) -> None:
    """It may be a process of another machine or namespace."""
    assert not unknown.is_gone()


def test_a_forked_child_has_an_identity_of_its_own() -> None:
    code = (
        "import os; from goscope.backend import this_process; mine = this_process()\n"
        "if pid := os.fork(): raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "os._exit(0 if this_process().pid == os.getpid() != mine.pid else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def in_another_namespace(*options: str) -> ProcessIdentity:
    """Ask a process of another pid namespace who it is."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare to make a pid namespace with")
    for privilege in ([], ["--user", "--map-root-user"]):
        command = [unshare, *privilege, "--pid", "--fork", *options, sys.executable, "-c", TELL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return identity(done.stdout.split("\n")[:4])
    pytest.skip(f"this machine does not let us make a pid namespace: {done.stderr}")


def test_a_process_of_another_namespace_is_never_declared_gone() -> None:
    """Its id means another process here, and it may be running."""
    other = in_another_namespace("--mount-proc")
    assert other.pid == 1
    assert other.namespace != this_process().namespace
    assert not other.is_gone()


def test_where_proc_shows_another_namespace_nothing_is_told() -> None:
    """There /proc/1 is some other process, whose end would be taken for this one's."""
    other = in_another_namespace()
    assert other.pid == 1
    assert other.namespace == ""
    assert not other.is_gone()
