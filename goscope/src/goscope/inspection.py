"""The records in which a store describes what it holds, as ``gs.inspect`` lists them.

Times are epoch milliseconds. ``..._in_ms`` is how much later something happens, measured on the
clock of the store when it was read: zero or less once it has happened. ``size_bytes`` counts the
stored JSON text. Each record describes one moment, and may be outdated when you read it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ._records import CircuitBreakerState

__all__ = [
    "CircuitInfo",
    "CollectionInfo",
    "EntryInfo",
    "LeaseInfo",
    "LeaseKind",
    "ProcessInfo",
    "ResultInfo",
    "TaskInfo",
    "Total",
    "Totals",
    "WaiterInfo",
]

LeaseKind: TypeAlias = Literal[
    "lock", "cache", "circuit", "task", "idempotency", "collection", "other"
]
"""What a lease is held for.

``lock``: a lock of ``gs.lock``. ``cache``: the value of a cache entry is being computed.
``collection``: the value of an entry of a collection, whose name and a colon begin its key.
``circuit``: a probe of a circuit breaker runs, or the circuit is being forced. ``task``: a task
runs. ``idempotency``: an idempotent call is in flight. ``other``: a lease that no feature of
goscope takes; its key is the whole name of the lease.
"""


class LeaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A lock, or a lease that a feature holds, which has not been released.

    ``key`` is the key, or the task id, as the program passed it. ``expires_in_ms`` is how much
    longer the lease runs unless it is renewed; zero or less if it has expired and nobody took it.
    ``fencing_token`` is None for in-memory locks. ``is_alive`` is whether the process that holds it
    runs, None where that is unknown, as on another machine. ``host`` is "" and ``pid`` 0 where
    another program took the lease without naming itself. A lease that another program made
    unreadable has the owner "", and its other fields say nothing.
    """

    kind: LeaseKind
    key: str
    owner: str
    host: str
    pid: int
    acquired_at: int
    expires_in_ms: int
    fencing_token: int | None = None
    is_alive: bool | None = None


class WaiterInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A process in the wait queue of a lock or lease.

    ``name`` identifies it in the queue, ``waited_ms`` is how long it has been waiting. ``pid`` and
    ``waited_ms`` are None where the store does not know them.
    """

    kind: LeaseKind
    key: str
    name: str
    pid: int | None = None
    waited_ms: int | None = None


class CircuitInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A circuit that has been called. ``state`` is None if another program wrote it unreadably."""

    key: str
    state: CircuitBreakerState | None


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A task that runs, or that is half done: it has checkpoints, and nobody runs it.

    ``lease`` is who runs it: None, or expired, for a task that is half done. ``checkpoints`` is how
    many there are, ``size_bytes`` the size of their data. The rest describes the latest one, and is
    None without any: its ``sequence``, its ``progress`` in percent, the
    ``estimated_time_remaining`` in milliseconds, and when it was saved.
    """

    id: str
    checkpoints: int = 0
    size_bytes: int = 0
    sequence: int | None = None
    progress: float | None = None
    estimated_time_remaining: int | None = None
    saved_at: int | None = None
    lease: LeaseInfo | None = None

    @property
    def is_running(self) -> bool:
        """Whether a lease guards it that has not expired, of a process that is not gone."""
        lease = self.lease
        return lease is not None and lease.expires_in_ms > 0 and lease.is_alive is not False


class ResultInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The stored result of an idempotent call, until the store removes it.

    ``expires_in_ms`` is None for a result that never expires. ``created_at`` is when the key was
    first used, None where the store does not know.
    """

    key: str
    size_bytes: int
    expires_in_ms: int | None
    created_at: int | None = None
    fingerprint: str | None = None


class EntryInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the cache or of a collection, until the store removes it.

    ``expires_in_ms`` is None for an entry that never expires. Past its expiry it may be served
    stale until ``stale_expires_in_ms``; None if it may not. ``created_at`` is when it was last
    written, None where the store does not know. ``tags`` and ``stale_expires_in_ms`` are those that
    goscope wrote, also if another program has replaced the value since.
    """

    key: str
    size_bytes: int
    expires_in_ms: int | None
    created_at: int | None = None
    stale_expires_in_ms: int | None = None
    tags: tuple[str, ...] = ()


class CollectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A collection that has entries: how many, and the size of their values."""

    name: str
    count: int
    size_bytes: int


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A process that has the store open; one record for each adapter that it has connected.

    ``is_alive`` is None where that is unknown. A process that was killed may stay listed.
    """

    host: str
    pid: int
    opened_at: int
    is_alive: bool | None = None


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """How many records of one kind there are, and the size of their JSON text: 0 without text."""

    count: int = 0
    size_bytes: int = 0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds, by kind: the records that the methods of the same name list.

    ``tasks`` counts the tasks that have checkpoints. Their size is in ``checkpoints``.
    ``collections`` counts the entries of all collections.
    """

    leases: Total
    waiters: Total
    circuits: Total
    tasks: Total
    checkpoints: Total
    results: Total
    entries: Total
    collections: Total
    processes: Total
