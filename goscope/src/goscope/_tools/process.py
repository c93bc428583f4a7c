"""Identifying a process, well enough to tell later whether it still exists."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final, NamedTuple

_serial = itertools.count(1)
_process_name = ""


def _name_process() -> None:
    """Name this process once: asking for its id costs as much as the rest of a lock in memory."""
    global _process_name  # the child of a fork gets another one
    _process_name = f"{os.getpid()}-{os.urandom(4).hex()}"


_name_process()
if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_name_process)


def unique_name() -> str:
    """A name that no other call returns, in this process or in others; it contains the pid."""
    return f"{_process_name}-{next(_serial)}"


class ProcessIdentity(NamedTuple):
    """A process of this machine.

    ``namespace`` names its pid namespace and its time namespace. It and ``started`` are "" where
    unknown; whether the process ended is then unknown as well.
    """

    host: str
    pid: int
    namespace: str
    started: str

    def is_gone(self) -> bool:
        """Whether there is proof that the process has ended; False where there is any doubt.

        Only a process of our own pid namespace can be looked up by its id. The start time
        distinguishes it from a later process with the same id; each time namespace counts it from
        another moment. A process that cannot be looked at, since it belongs to another user or no
        file descriptor is left, may still run.
        """
        mine = this_process()
        if not (self.started and self.namespace):
            return False
        if self.namespace != mine.namespace or self.host != mine.host:
            return False
        if not _exists(self.pid):
            return True
        state, started = _read_stat(self.pid)
        return state in _ENDED or started not in ("", self.started)


def is_running(host: str, pid: int) -> bool:
    """Whether a process of this machine is known to run; False where that is unknown.

    A process that is suspended, as by SIGSTOP, does not run. Without the start time it may be a
    later process with the same id.
    """
    mine = this_process()
    if host != mine.host:
        return False
    return pid == mine.pid or _read_stat(pid)[0] not in _SUSPENDED_OR_GONE


def is_alive(process: ProcessIdentity) -> bool | None:
    """Whether the process exists; None where that is unknown."""
    mine = this_process()
    if process == mine:
        return True
    if process.is_gone():
        return False
    if not process.started or (process.host, process.namespace) != (mine.host, mine.namespace):
        return None
    return True if _read_stat(process.pid)[1] == process.started else None


_this_process: ProcessIdentity | None = None


def this_process() -> ProcessIdentity:
    """The identity of the running process, also right after a fork."""
    global _this_process
    pid = os.getpid()
    if _this_process is None or _this_process.pid != pid:
        identity = ProcessIdentity(socket.gethostname(), pid, _namespaces(), _read_stat(pid)[1])
        if not (identity.namespace and identity.started):
            return identity  # for now: without a file descriptor, /proc cannot be read
        _this_process = identity
    return _this_process


def _namespaces() -> str:
    """The namespaces of our pid and our clocks; "" where /proc is missing or shows other pids."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""
        pid_namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    try:
        return f"{pid_namespace} {os.readlink('/proc/self/ns/time')}"
    except FileNotFoundError:  # before Linux 5.6
        return pid_namespace
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    """Whether a process may have this id. Needs no file descriptor, and no right to look at it."""
    if pid <= 0:  # would mean a group of processes
        return True
    try:
        os.kill(pid, 0)  # signal 0 is not sent
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to another user, or no process has such an id
        pass
    return True


_ENDED: Final = ("Z", "X")
_SUSPENDED_OR_GONE: Final = ("", *_ENDED, "T", "t")


def _read_stat(pid: int) -> tuple[str, str]:
    """The state of a process and the clock ticks from boot to its start; "" if not visible."""
    try:
        # Not open(), which costs more than all the rest: lock waiters poll often.
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except OSError:
        return "", ""
    # The second field is the program's name in parentheses and may contain anything.
    state, *fields = stat.rpartition(b")")[2].decode().split()
    threads, started = int(fields[16]), fields[18]
    # A main thread that has ended shows as a zombie, while other threads of the process run on.
    return "S" if state in _ENDED and threads > 1 else state, started
