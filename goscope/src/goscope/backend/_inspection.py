"""Base class of inspection providers: keys, patterns, paging; the backend reads pages of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import msgspec

from .._tools.choice import must_be
from .._tools.key import (
    FINISH_MARK,
    check_collection,
    check_pattern,
    is_collection,
    pattern_regex,
)
from .._tools.loop_budget import LoopBudget
from .._tools.process import this_process
from ..inspection import (
    CircuitInfo,
    CollectionInfo,
    EntryInfo,
    LeaseInfo,
    LeaseKind,
    ProcessInfo,
    ResultInfo,
    TaskInfo,
    Total,
    Totals,
    WaiterInfo,
)
from ..providers import CircuitBreakerState
from ._context import StoreContext
from ._memory_lock import MemoryLockProvider

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K", bound="tuple[Any, ...]")

PAGE_ROWS: Final = 250
"""How many rows are read at a time. Decoding more would block the event loop for milliseconds."""

_FEATURES: Final[tuple[LeaseKind, ...]] = (
    "cache",
    "circuit",
    "task",
    "idempotency",
    "collection",
)
"""The features whose leases are called after them: ``task:{task_id}``."""


class LeaseRow(NamedTuple):
    """A lock or lease by stored key, expired or not. ``is_alive`` as in `LeaseInfo`."""

    key: str
    owner: str
    host: str
    pid: int
    acquired_at: int
    expires_in_ms: int
    token: int | None
    is_alive: bool | None


class WaiterRow(NamedTuple):
    """A waiter by the stored key of what it waits for."""

    key: str
    name: str
    pid: int | None
    waited_ms: int | None


class CircuitRow(NamedTuple):
    """A circuit by stored key; None for a state that cannot be read."""

    key: str
    state: CircuitBreakerState | None


class TaskRow(NamedTuple):
    """The checkpoints of a task by stored id; from ``sequence`` on it is about the latest one."""

    id: str
    checkpoints: int
    size_bytes: int
    sequence: int
    progress: float
    estimated_time_remaining: int | None
    saved_at: int


class ResultRow(NamedTuple):
    """A result by stored key; None for what never expires or is not known."""

    key: str
    size_bytes: int
    expires_in_ms: int | None
    created_at: int | None
    fingerprint: str | None


class EntryRow(NamedTuple):
    """An entry by stored key, with stored tags; None for what never expires or is unknown."""

    key: str
    size_bytes: int
    expires_in_ms: int | None
    created_at: int | None
    stale_expires_in_ms: int | None
    tags: tuple[str, ...]


class Page(NamedTuple, Generic[R]):
    """Some rows, and where the next page begins: None after the last one."""

    rows: Iterable[R]
    next: str | None


def page_by_key(rows: Sequence[K], limit: int) -> Page[K]:
    """A page of rows that are sorted by their keys, whose next page begins after the last key."""
    return Page(rows, rows[-1][0] if len(rows) == limit else None)


ReadPage: TypeAlias = Callable[[str, str, int], Awaitable[Page[R]]]

TotalKind: TypeAlias = Literal[
    "leases", "waiters", "circuits", "tasks", "checkpoints", "results", "entries"
]


class BaseInspectionProvider(ABC):
    """Lists a store: fill in the abstract primitives, each of which reads one page.

    A primitive takes a pattern of stored keys; ``after``, which is "" for the first page and
    then the ``next`` of the page before; and how many rows to read, roughly. A page may hold fewer
    rows, or none; only ``next`` None is the end. With ``ORDER BY key LIMIT`` the next page begins
    after the last key, see `page_by_key`; with a scan ``next`` is its cursor.

    A primitive reads the length of values and not the values. It gives how long something still
    runs by the clock of the store. A row that cannot be decoded keeps its key, and what it lacks
    gets the value for unknown.

    ``memory_locks`` is the provider of ``adapter.lock`` if its locks are in memory. ``prefix_ids``
    is as for `BaseCheckpointProvider`.
    """

    lists_every_prefix: ClassVar[bool] = False
    """Whether ``_leases`` takes a pattern that begins with ``*``, for the keys of every prefix."""

    def __init__(
        self,
        context: StoreContext,
        *,
        memory_locks: MemoryLockProvider | None = None,
        prefix_ids: bool = True,
    ) -> None:
        self.context: Final = context
        self._memory_locks = memory_locks
        self._lock_start: Final = f"{context.prefix}lock:"
        self._lease_start: Final = f"{context.prefix}lease:"
        self._circuit_start: Final = f"{context.prefix}circuit:"
        self._entry_start: Final = f"{context.prefix}cache:"
        self._collection_start: Final = f"{context.prefix}collection:"
        self._task_start: Final = context.prefix if prefix_ids else ""
        self._lists_tasks_of_prefixes: Final = (
            self.lists_every_prefix and prefix_ids and not context.prefix
        )
        self._budget = LoopBudget()

    def leases(
        self, pattern: str | None = None, *, kind: LeaseKind | None = None
    ) -> AsyncIterator[LeaseInfo]:
        if kind is not None and kind not in get_args(LeaseKind):
            raise ValueError(f"kind {must_be(kind, get_args(LeaseKind))}")
        return self._list_leases(_check(pattern), kind)

    def waiters(self, pattern: str | None = None) -> AsyncIterator[WaiterInfo]:
        return self._list_waiters(_check(pattern))

    def circuits(self, pattern: str | None = None) -> AsyncIterator[CircuitInfo]:
        strip = len(self._circuit_start)
        return self._list(
            self._circuits,
            self._circuit_start + _check(pattern),
            lambda row: CircuitInfo(key=row.key[strip:], state=row.state),
        )

    def tasks(self, pattern: str | None = None) -> AsyncIterator[TaskInfo]:
        return self._list_tasks(_check(pattern))

    def results(self, pattern: str | None = None) -> AsyncIterator[ResultInfo]:
        strip = len(self.context.prefix)
        return self._list(
            self._results,
            self.context.prefix + _check(pattern),
            lambda row: ResultInfo(
                key=row.key[strip:],
                size_bytes=row.size_bytes,
                expires_in_ms=row.expires_in_ms,
                created_at=row.created_at,
                fingerprint=row.fingerprint,
            ),
        )

    def entries(
        self, pattern: str | None = None, *, collection: str | None = None
    ) -> AsyncIterator[EntryInfo]:
        if collection is None:
            start, tag_start = self._entry_start, self.context.prefix
        else:
            start = tag_start = f"{self._collection_start}{check_collection(collection)}:"
        strip, strip_tag = len(start), len(tag_start)
        return self._list(
            self._entries,
            start + _check(pattern),
            lambda row: EntryInfo(
                key=row.key[strip:],
                size_bytes=row.size_bytes,
                expires_in_ms=row.expires_in_ms,
                created_at=row.created_at,
                stale_expires_in_ms=row.stale_expires_in_ms,
                tags=tuple(tag[strip_tag:] for tag in row.tags) if row.tags else (),
            ),
        )

    async def collections(self) -> AsyncIterator[CollectionInfo]:
        strip = len(self._collection_start)
        found: dict[str, tuple[int, int]] = {}
        async for row in self._rows(self._entries, f"{self._collection_start}*"):
            name, _, key = row.key[strip:].partition(":")
            if key and is_collection(name):  # else another program wrote it
                count, size_bytes = found.get(name, (0, 0))
                found[name] = count + 1, size_bytes + row.size_bytes
        for name, (count, size_bytes) in sorted(found.items()):
            yield CollectionInfo(name=name, count=count, size_bytes=size_bytes)

    async def processes(self) -> AsyncIterator[ProcessInfo]:
        self.context.check()
        for process in await self._processes():
            yield process

    async def totals(self) -> Totals:
        self.context.check()
        lock = await self._total("leases", f"{self._lock_start}*")
        lease = await self._total("leases", f"{self._lease_start}*")
        marks = await self._total("leases", f"{self._lease_start}{FINISH_MARK}*")
        lock_waiters = await self._total("waiters", f"{self._lock_start}*")
        lease_waiters = await self._total("waiters", f"{self._lease_start}*")
        in_memory = len(self._in_memory(f"{self._lock_start}*"))
        return Totals(
            leases=Total(count=lock.count + lease.count - marks.count + in_memory),
            waiters=Total(count=lock_waiters.count + lease_waiters.count),
            circuits=await self._total("circuits", f"{self._circuit_start}*"),
            tasks=await self._total("tasks", f"{self._task_start}*"),
            checkpoints=await self._total("checkpoints", f"{self._task_start}*"),
            results=await self._total("results", f"{self.context.prefix}*"),
            entries=await self._total("entries", f"{self._entry_start}*"),
            collections=await self._total("entries", f"{self._collection_start}*"),
            processes=Total(count=len(await self._processes())),
        )

    # --- primitives --------------------------------------------------------------------------

    @abstractmethod
    async def _leases(self, pattern: str, after: str, limit: int) -> Page[LeaseRow]:
        """Locks and leases in the store, also those that have expired, until they are swept."""

    @abstractmethod
    async def _circuits(self, pattern: str, after: str, limit: int) -> Page[CircuitRow]: ...

    @abstractmethod
    async def _tasks(self, pattern: str, after: str, limit: int) -> Page[TaskRow]: ...

    @abstractmethod
    async def _results(self, pattern: str, after: str, limit: int) -> Page[ResultRow]: ...

    @abstractmethod
    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]: ...

    async def _waiters(self, pattern: str, after: str, limit: int) -> Page[WaiterRow]:
        """Those that wait in a queue in the store, and not those that have died there."""
        return Page((), None)

    async def _processes(self) -> Sequence[ProcessInfo]:
        """The processes that have the store open: by default this one, since no other is known."""
        me = this_process()
        return [
            ProcessInfo(host=me.host, pid=me.pid, opened_at=self.context.opened_at, is_alive=True)
        ]

    async def _total(self, kind: TotalKind, pattern: str) -> Total:
        """The rows of a kind that match, and the size of their texts.

        A backend overrides it if it can count without listing.
        """
        match kind:
            case "leases":
                return await self._sum(self._leases, pattern, lambda _: (1, 0))
            case "waiters":
                return await self._sum(self._waiters, pattern, lambda _: (1, 0))
            case "circuits":
                return await self._sum(self._circuits, pattern, lambda _: (1, 0))
            case "tasks":
                return await self._sum(self._tasks, pattern, lambda _: (1, 0))
            case "checkpoints":
                return await self._sum(
                    self._tasks, pattern, lambda row: (row.checkpoints, row.size_bytes)
                )
            case "results":
                return await self._sum(self._results, pattern, lambda row: (1, row.size_bytes))
            case "entries":
                return await self._sum(self._entries, pattern, lambda row: (1, row.size_bytes))

    # --- helpers -----------------------------------------------------------------------------

    async def _list(
        self, read: ReadPage[R], pattern: str, convert: Callable[[R], T]
    ) -> AsyncIterator[T]:
        async for row in self._rows(read, pattern):
            yield convert(row)

    async def _rows(self, read: ReadPage[R], pattern: str) -> AsyncIterator[R]:
        """The rows of all pages. Yields to the event loop in between."""
        self.context.check()
        after: str | None = ""
        while after is not None:
            page = await read(pattern, after, PAGE_ROWS)
            async for row in self._budget.cooperatively(page.rows):
                yield row
            after = page.next

    async def _sum(
        self, read: ReadPage[R], pattern: str, measure: Callable[[R], tuple[int, int]]
    ) -> Total:
        count, size_bytes = 0, 0
        counted: set[object] = set()  # a scan may list a row twice
        async for row in self._rows(read, pattern):
            identity = _identity(row)
            if identity not in counted:
                counted.add(identity)
                rows, size = measure(row)
                count, size_bytes = count + rows, size_bytes + size
        return Total(count=count, size_bytes=size_bytes)

    async def _list_leases(self, pattern: str, kind: LeaseKind | None) -> AsyncIterator[LeaseInfo]:
        self.context.check()
        if kind is None or kind == "lock":
            stored_pattern = self._lock_start + pattern
            async for row in self._budget.cooperatively(self._in_memory(stored_pattern)):
                yield self._lease_info(row)
            async for row in self._rows(self._leases, stored_pattern):
                yield self._lease_info(row)
        if kind == "lock":
            return
        matches = pattern_regex(pattern).fullmatch
        # One pass for all features: a store that scans its keys reads all of them each time.
        names = f"{kind}:{pattern}" if kind in _FEATURES else "*"
        async for row in self._rows(self._leases, self._lease_start + names):
            lease = self._lease_info(row)
            if self._is_held(row.key) and kind in (None, lease.kind) and matches(lease.key):
                yield lease

    async def _list_waiters(self, pattern: str) -> AsyncIterator[WaiterInfo]:
        matches = pattern_regex(pattern).fullmatch
        for stored_pattern in (self._lock_start + pattern, f"{self._lease_start}*"):
            async for row in self._rows(self._waiters, stored_pattern):
                kind, key = self._split(row.key)
                if matches(key):
                    yield WaiterInfo(
                        kind=kind, key=key, name=row.name, pid=row.pid, waited_ms=row.waited_ms
                    )

    async def _list_tasks(self, pattern: str) -> AsyncIterator[TaskInfo]:
        # The leases first: they are few, and a task that ends during the listing is still listed.
        leases = {lease.key: lease async for lease in self._list_leases(pattern, "task")}
        if self._lists_tasks_of_prefixes:
            leases |= await self._task_leases_of_prefixes(pattern)
        listed: set[str] = set()
        strip = len(self._task_start)
        async for row in self._rows(self._tasks, self._task_start + pattern):
            task_id = row.id[strip:]
            lease = leases.get(task_id)
            if lease is not None:
                listed.add(task_id)
            yield TaskInfo(
                id=task_id,
                checkpoints=row.checkpoints,
                size_bytes=row.size_bytes,
                sequence=row.sequence,
                progress=row.progress,
                estimated_time_remaining=row.estimated_time_remaining,
                saved_at=row.saved_at,
                lease=lease,
            )
        for task_id, lease in leases.items():
            if task_id not in listed:
                yield TaskInfo(id=task_id, lease=lease)

    async def _task_leases_of_prefixes(self, pattern: str) -> dict[str, LeaseInfo]:
        """The leases of the tasks that an adapter without a prefix lists, too."""
        matches = pattern_regex(pattern).fullmatch
        leases: dict[str, LeaseInfo] = {}
        async for row in self._rows(self._leases, "*:lease:task:*"):
            prefix, _, name = row.key.partition("lease:task:")
            if matches(task_id := prefix + name):
                leases[task_id] = msgspec.structs.replace(
                    self._lease_info(row), kind="task", key=task_id
                )
        return leases

    def _in_memory(self, stored_pattern: str) -> list[LeaseRow]:
        """The in-memory locks of this process that match."""
        if self._memory_locks is None:
            return []
        me, now = this_process(), self.context.clock.steady_ms()
        matches = pattern_regex(stored_pattern).fullmatch
        return [
            LeaseRow(
                key, grant.owner, me.host, me.pid, grant.since, grant.expires_at - now, None, True
            )
            for key, grant in self._memory_locks.grants()
            if matches(key)
        ]

    def _lease_info(self, row: LeaseRow) -> LeaseInfo:
        kind, key = self._split(row.key)
        return LeaseInfo(
            kind=kind,
            key=key,
            owner=row.owner,
            host=row.host,
            pid=row.pid,
            acquired_at=row.acquired_at,
            expires_in_ms=row.expires_in_ms,
            fencing_token=row.token,
            is_alive=row.is_alive,
        )

    def _is_held(self, stored_key: str) -> bool:
        """Whether it is a lease, and not the mark of a finished task."""
        return not stored_key.startswith(FINISH_MARK, len(self._lease_start))

    def _split(self, stored_key: str) -> tuple[LeaseKind, str]:
        """What a lock or lease is held for, and the key as the program passed it."""
        if stored_key.startswith(self._lock_start):
            return "lock", stored_key[len(self._lock_start) :]
        name = stored_key[len(self._lease_start) :]
        for feature in _FEATURES:
            if name.startswith(f"{feature}:") and len(name) > len(feature) + 1:
                return feature, name[len(feature) + 1 :]
        return "other", name


def _identity(row: Any) -> object:
    """What no other row of the store has."""
    return (row.key, row.name) if isinstance(row, WaiterRow) else row[0]


def _check(pattern: str | None) -> str:
    return "*" if pattern is None else check_pattern(pattern)
