"""What a power failure leaves of files whose writes and syncs were recorded.

The model is the strictest that a disk may keep to. What was not synced is lost, or kept, or kept in
part, in any combination of sectors. A name is created or removed for good with the sync of its
directory; until then any prefix of the changes of names may have reached the disk.
"""

from __future__ import annotations

import os
import random
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

RECORD: Final = struct.Struct("=IIQQ")
SECTOR_BYTES: Final = 512


class Change(IntEnum):
    """What a record is about, as in shim.c."""

    WRITE = 1
    RESIZE = 2
    SYNC = 3
    CREATE = 4
    UNLINK = 5
    MARK = 6


class Record(NamedTuple):
    """One call of the traced process. ``data`` is what was written, a path or a mark."""

    change: Change
    inode: int
    offset: int
    data: bytes


def read_trace(path: Path) -> Iterator[Record]:
    """The records of a trace, in the order of the calls."""
    trace = path.read_bytes()
    at = 0
    while at < len(trace):
        change, length, inode, offset = RECORD.unpack_from(trace, at)
        at += RECORD.size
        yield Record(Change(change), inode, offset, trace[at : at + length])
        at += length


@dataclass
class File:
    """The bytes of a file on the disk, and the changes that are not synced."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list[Record])

    def sync(self) -> None:
        for record in self.pending:
            _apply(self.durable, record)
        self.pending.clear()


class Disk:
    """The state of the disk while the calls of a trace happen."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = os.fsencode(folder)
        self._directory: Final = folder.stat().st_ino
        self._files: defaultdict[int, File] = defaultdict(File)
        self._names: dict[bytes, int] = {}
        self._pending_names: list[Record] = []
        self.marks: list[str] = []

    def apply(self, record: Record) -> None:
        """Let the next call happen."""
        if record.change is Change.MARK:
            self.marks.append(record.data.decode())
        elif record.change in (Change.CREATE, Change.UNLINK):
            self._pending_names.append(record)
            if record.change is Change.CREATE:
                self._files[record.inode] = File()  # the number may be that of a removed file
        elif record.change is not Change.SYNC:
            self._files[record.inode].pending.append(record)
        elif record.inode == self._directory:
            self._names = self._names_after(len(self._pending_names))
            self._pending_names.clear()
        else:
            self._files[record.inode].sync()

    def lose_power(self, folder: Path, rng: random.Random, kept: float) -> None:
        """Write the files that are left. ``kept`` is the share of unsynced changes that are."""
        if kept in (0, 1):
            names = self._names_after(len(self._pending_names) if kept else 0)
        else:
            names = self._names_after(rng.randint(0, len(self._pending_names)))
        for name, inode in names.items():
            if name.endswith(b"-shm"):
                continue  # SQLite builds it again
            (folder / os.fsdecode(os.path.basename(name))).write_bytes(
                _after_loss(self._files[inode], rng, kept)
            )

    def _names_after(self, changes: int) -> dict[bytes, int]:
        names = dict(self._names)
        for record in self._pending_names[:changes]:
            if record.change is Change.CREATE:
                names[record.data] = record.inode
            else:
                names.pop(record.data, None)
        return names


def _after_loss(file: File, rng: random.Random, kept: float) -> bytes:
    """The bytes of a file if this share of the sectors that were not synced is kept."""
    data = bytearray(file.durable)
    for record in file.pending:
        if record.change is Change.RESIZE:
            if rng.random() < kept:
                _apply(data, record)
            continue
        for start in range(0, len(record.data), SECTOR_BYTES):
            if rng.random() < kept:
                part = record.data[start : start + SECTOR_BYTES]
                _apply(data, record._replace(offset=record.offset + start, data=part))
    return bytes(data)


def _apply(data: bytearray, record: Record) -> None:
    if record.change is Change.RESIZE:
        size = record.offset
        del data[size:]
        data.extend(bytes(size - len(data)))
    else:
        end = record.offset + len(record.data)
        data.extend(bytes(max(0, end - len(data))))
        data[record.offset : end] = record.data
