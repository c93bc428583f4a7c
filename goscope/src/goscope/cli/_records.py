"""What ``--json`` prints besides the records of `goscope.inspection` and `goscope.maintenance`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from ..inspection import (
    CircuitInfo,
    LeaseInfo,
    ProcessInfo,
    ResultInfo,
    TaskInfo,
    Totals,
    WaiterInfo,
)
from ..maintenance import StorageInfo

TaskState: TypeAlias = Literal["running", "half done"]
CallState: TypeAlias = Literal["in flight", "done"]


class ListedLease(msgspec.Struct, frozen=True, kw_only=True):
    """``locks show``: a lease, and who waits for it."""

    lease: LeaseInfo
    waiters: Sequence[WaiterInfo]


class ListedTask(msgspec.Struct, frozen=True, kw_only=True):
    """``tasks list`` and ``tasks show``: a task, and whether somebody runs it."""

    state: TaskState
    task: TaskInfo

    @classmethod
    def of(cls, task: TaskInfo) -> ListedTask:
        return cls(state="running" if task.is_running else "half done", task=task)


class ListedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """``tasks checkpoints``: one saved state; ``data`` is its value."""

    id: str
    sequence: int
    saved_at: int
    progress: float
    size_bytes: int
    data: Any


class ListedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """``cache get``: an entry and its value."""

    key: str
    value: Any
    expires_in_ms: int | None
    is_stale: bool


class CacheTotals(msgspec.Struct, frozen=True, kw_only=True):
    """``cache stats``: how many entries there are, and the size of their values.

    ``expired`` ones, of these, are not removed yet.
    """

    entries: int
    size_bytes: int
    expired: int


class ListedCall(msgspec.Struct, frozen=True, kw_only=True):
    """``idempotency list``: a call in flight, with its lease, or one that is done."""

    key: str
    state: CallState
    result: ResultInfo | None = None
    lease: LeaseInfo | None = None


class ListedResult(msgspec.Struct, frozen=True, kw_only=True):
    """``idempotency show``: the stored result of a call."""

    key: str
    value: Any
    expires_at: int | None
    fingerprint: str | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """``status``: what the store holds. The lists have the first 100 records of each kind."""

    store: str
    at: int
    totals: Totals
    storage: StorageInfo | None
    processes: Sequence[ProcessInfo]
    leases: Sequence[LeaseInfo]
    waiters: Sequence[WaiterInfo]
    circuits: Sequence[CircuitInfo]
    tasks: Sequence[ListedTask]


class InstalledBackend(msgspec.Struct, frozen=True, kw_only=True):
    """``backends``: a backend. ``problem`` is why it cannot be used, "" if it can."""

    name: str
    summary: str
    abilities: Sequence[str]
    problem: str
