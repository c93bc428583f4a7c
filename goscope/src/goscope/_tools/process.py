"""Identifying a process, well enough to tell later whether it still exists."""

from __future__ import annotations

import itertools
import os
import socket
from functools import lru_cache
from typing import NamedTuple

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

    ``namespace`` and ``started`` are "" where unknown; whether it ended is then unknown as well.
    """

    host: str
    pid: int
    namespace: str
    started: str

    def is_gone(self) -> bool:
        """Whether the process has certainly ended; False while that is unknown.

        Only a process of our own pid namespace can be looked up by its id. The start time
        distinguishes it from a later process with the same id.
        """
        mine = this_process()
        if not (self.started and self.namespace):
            return False
        if self.namespace != mine.namespace or self.host != mine.host:
            return False
        return _start_time(self.pid) != self.started


def this_process() -> ProcessIdentity:
    """The identity of the running process, also right after a fork."""
    return _identity(os.getpid())


@lru_cache(maxsize=4)
def _identity(pid: int) -> ProcessIdentity:
    return ProcessIdentity(socket.gethostname(), pid, _pid_namespace(), _start_time(pid))


def _pid_namespace() -> str:
    """The namespace our pid belongs to; "" where /proc is missing or shows other pids."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Clock ticks from boot to the start of the process; "" if it ended or is not visible."""
    try:
        # Not open(), which costs more than all the rest: lock waiters poll often.
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    # The second field is the program's name in parentheses and may contain anything.
    state, *fields = stat.rpartition(b")")[2].decode().split()
    return "" if state in "ZX" else fields[18]
