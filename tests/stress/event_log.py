"""The event log of a process. It survives the process."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

Phase = Literal["begin", "step", "end", "error", "mark"]

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a log.

    ``t`` is CLOCK_BOOTTIME in nanoseconds, the same clock in all processes. It is read before an
    action begins and after it ends. ``process`` is ``SLOT.NUMBER``: "3.2" is the second process in
    slot 3. ``fence`` is the lease that guards a write, ``token`` its fencing token.
    """

    t: int
    process: str
    kind: str
    phase: Phase
    id: int = 0
    key: str = ""
    token: int | None = None
    fence: str = ""
    value: Any = None


class Log:
    """The log of one process. Each line is one ``write`` call, so a kill loses at most one line."""

    def __init__(self, folder: Path, process: str) -> None:
        self.process: Final = process
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(folder / f"{process}.log", flags, 0o644)
        self._ids = itertools.count(1)

    def begin(
        self,
        kind: str,
        key: str = "",
        *,
        token: int | None = None,
        fence: str = "",
        value: Any = None,
    ) -> Entry:
        """Record the begin of an action."""
        id_ = next(self._ids)
        record = Record(now(), self.process, kind, "begin", id_, key, token, fence, value)
        self.write(record)
        return Entry(self, record)

    def mark(self, kind: str, key: str = "", value: Any = None) -> None:
        """Record an event without a duration."""
        self.write(Record(now(), self.process, kind, "mark", key=key, value=value))

    def write(self, record: Record) -> None:
        os.write(self._file, msgspec.json.encode(record) + b"\n")

    def close(self) -> None:
        os.close(self._file)


class Entry:
    """An action that has begun."""

    def __init__(self, log: Log, begin: Record) -> None:
        self.name: Final = f"{begin.process}:{begin.id}"
        self._log = log
        self._begin = begin

    def step(self) -> None:
        """Record a step of the action."""
        self._write("step", None)

    def end(self, value: Any = None) -> None:
        """Record the end of the action and its result."""
        self._write("end", value)

    def error(self, error: BaseException) -> None:
        """Record that the action failed and had no effect."""
        self._write("error", type(error).__name__)

    def _write(self, phase: Phase, value: Any) -> None:
        self._log.write(msgspec.structs.replace(self._begin, t=now(), phase=phase, value=value))


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def read_logs(folder: Path) -> list[Record]:
    """The records of all logs, sorted by time.

    A line truncated by a kill is dropped: its action did not begin, or its end was not observed.
    """
    decoder = msgspec.json.Decoder(Record)
    records: list[Record] = []
    for path in folder.glob("*.log"):
        lines = path.read_bytes().split(b"\n")
        records += map(decoder.decode, lines[:-1])
    return sorted(records, key=lambda record: record.t)
