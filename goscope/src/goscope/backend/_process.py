"""Who holds a lease: enough of a process to tell later whether it is still there."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from typing import NamedTuple


class ProcessIdentity(NamedTuple):
    """A process of this machine.

    ``namespace`` and ``started`` are "" where unknown, and then nobody can tell whether it ended.
    """

    host: str
    pid: int
    namespace: str
    started: str

    def is_gone(self) -> bool:
        """Whether the process certainly ended; False whenever that cannot be told.

        Only a process of one's own pid namespace can be looked up by its id, and its start time
        tells it from a later process with the same id.
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
    """The namespace our pid belongs to; "" where /proc is missing or shows another one's pids."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Clock ticks from boot to the start of the process; "" if it ended or cannot be seen."""
    try:
        # Not open(), which costs more than all the rest: who waits for a lock looks often.
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
