"""Which processes have been reading for long, and so keep the WAL from being emptied."""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Iterable
from typing import Final

# As https://sqlite.org/walformat.html has it: two copies of a header of 48 bytes, in which the
# number of frames is at 16, then how many were checkpointed, and the five read marks.
_HEADER: Final = struct.Struct("=16xI28x")
_MARKS: Final = struct.Struct("=5I")
_MARKS_AT: Final = 100
_FIRST_LOCK: Final = 123
"""The byte that is locked for the first read mark; the others follow."""

_FLOCK: Final = struct.Struct("hhqqi4x")
"""``struct flock`` of Linux on machines of 64 bits."""


def wal_readers(path: str, seconds: float) -> list[int]:
    """The processes that have read for so long at a mark below the last frame. Blocks for as long.

    Call it only while this process has no connection to the file: closing a descriptor drops the
    locks of its connections. Empty where this cannot be known, as on other systems than Linux.
    """
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return []
    first = _readers(f"{path}-shm")
    if not first:
        return []
    time.sleep(seconds)
    second = _readers(f"{path}-shm")
    return sorted({pid for (pid, mark) in first if (pid, mark) in second})


def _readers(shm: str) -> set[tuple[int, int]]:
    """The readers that need frames of the WAL, without those that read its last state."""
    try:
        descriptor = os.open(shm, os.O_RDWR)
    except OSError:
        return set()
    try:
        index = os.pread(descriptor, _MARKS_AT + _MARKS.size, 0)
        if len(index) < _MARKS_AT + _MARKS.size:
            return set()
        (frames,) = _HEADER.unpack_from(index)
        marks = _MARKS.unpack_from(index, _MARKS_AT)
        return set(_locked(descriptor, enumerate(marks), frames))
    finally:
        os.close(descriptor)


def _locked(
    descriptor: int, marks: Iterable[tuple[int, int]], frames: int
) -> Iterable[tuple[int, int]]:
    """The process and the mark of each read lock on a mark below the last frame."""
    import fcntl  # absent on Windows

    for number, mark in marks:
        if mark >= frames:
            continue
        wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _FIRST_LOCK + number, 1, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
        if kind == fcntl.F_RDLCK and pid > 0:
            yield pid, mark
