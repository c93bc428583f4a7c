"""What a process does, written down so that it survives the process."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

Phase = Literal["begin", "step", "end", "error", "at"]

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a log.

    ``t`` is CLOCK_BOOTTIME in nanoseconds, one clock for all processes: read before what begins
    and after what ended. ``who`` is a process, "3.2" the second one in slot 3. ``fence`` is the
    lease that guards a write, ``token`` its fencing token.
    """

    t: int
    who: str
    what: str
    phase: Phase
    id: int = 0
    key: str = ""
    token: int | None = None
    fence: str = ""
    value: Any = None


class Log:
    """The log of one process: each line is written by one call, before `begin` returns."""

    def __init__(self, folder: Path, who: str) -> None:
        self.who: Final = who
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(folder / f"{who}.log", flags, 0o644)
        self._ids = itertools.count(1)

    def begin(
        self,
        what: str,
        key: str = "",
        *,
        token: int | None = None,
        fence: str = "",
        value: Any = None,
    ) -> Entry:
        """Write that something is about to happen."""
        record = Record(now(), self.who, what, "begin", next(self._ids), key, token, fence, value)
        self.write(record)
        return Entry(self, record)

    def at(self, what: str, key: str = "", value: Any = None) -> None:
        """Write that something happened."""
        self.write(Record(now(), self.who, what, "at", key=key, value=value))

    def write(self, record: Record) -> None:
        os.write(self._file, msgspec.json.encode(record) + b"\n")

    def close(self) -> None:
        os.close(self._file)


class Entry:
    """Something that began."""

    def __init__(self, log: Log, begin: Record) -> None:
        self.name: Final = f"{begin.who}:{begin.id}"
        self._log = log
        self._begin = begin

    def step(self) -> None:
        """Write that it goes on."""
        self._write("step", None)

    def end(self, value: Any = None) -> None:
        """Write that it is done, and what came of it."""
        self._write("end", value)

    def error(self, error: BaseException) -> None:
        """Write that it failed, and so did not happen."""
        self._write("error", type(error).__name__)

    def _write(self, phase: Phase, value: Any) -> None:
        self._log.write(msgspec.structs.replace(self._begin, t=now(), phase=phase, value=value))


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def read_logs(folder: Path) -> list[Record]:
    """All records of all logs in the order of their times.

    A line that a kill cut short is left out: what it would have announced did not happen.
    """
    decoder = msgspec.json.Decoder(Record)
    records: list[Record] = []
    for path in folder.glob("*.log"):
        lines = path.read_bytes().split(b"\n")
        records += map(decoder.decode, lines[:-1])
    return sorted(records, key=lambda record: record.t)
