"""Base classes for small stores, which are read and replaced whole: two methods to fill in."""

# pyright: reportIncompatibleVariableOverride=false
# The adapter always has these providers and declares narrower types; nobody assigns from outside.

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from .._tools.clock import Clock, is_another_boot
from .._tools.key import pattern_regex
from .._tools.load_owner import owner_has
from .._tools.notifier import KeyedNotifier
from .._tools.process import ProcessIdentity, is_alive, this_process
from ..providers import CircuitBreakerState, LockHolder, LockProvider
from ._adapter import BaseAdapter
from ._cache import BaseCacheProvider, NewEntry, StoredEntry
from ._checkpoint import BaseCheckpointProvider, StoredCheckpoint
from ._circuit_breaker import BaseCircuitBreakerStateProvider
from ._context import Fence, StoreContext
from ._idempotency import BaseIdempotencyProvider, NewResult, StoredResult
from ._inspection import (
    BaseInspectionProvider,
    CircuitRow,
    EntryRow,
    LeaseRow,
    Page,
    ResultRow,
    TaskRow,
)
from ._lock import BaseLockProvider, LockNamespace, lease_lost
from ._memory_lock import MemoryLockProvider

T = TypeVar("T")
R = TypeVar("R")


LEASE_RETENTION_MS: Final = 86_400_000
"""An expired lease fences the writes of its holder for another day, unless it is granted again."""


class StoredLease(msgspec.Struct):
    """One grant of a lock; ``expires_at`` on the steady clock of that boot of the machine."""

    owner: str
    token: int
    expires_at: int
    boot: str
    since: int
    host: str
    pid: int
    namespace: str = ""
    started: str = ""

    def left_ms(self, clock: Clock) -> int:
        """How much longer the lease runs: not at all after a reboot."""
        if is_another_boot(self.boot, clock.boot_id):
            return 0
        return self.expires_at - clock.steady_ms()


class Records(msgspec.Struct):
    """Everything that a store holds, by stored key, in types that msgspec encodes as JSON."""

    id: str = msgspec.field(default_factory=lambda: os.urandom(16).hex())
    last_token: int = 0
    leases: dict[str, StoredLease] = {}
    cache: dict[str, StoredEntry] = {}
    circuits: dict[str, CircuitBreakerState] = {}
    checkpoints: dict[str, list[StoredCheckpoint]] = {}
    """By task, lowest sequence first."""
    tasks: dict[str, str] = {}
    """The task of each checkpoint, by the checkpoint's id."""
    results: dict[str, StoredResult] = {}

    def check(self, fence: Fence | None) -> None:
        """Raise `LeaseLost` unless the fence's lease still carries its token."""
        if fence is not None and not self.is_current(fence.stored_key, fence.token):
            raise lease_lost(fence)

    def is_current(self, key: str, token: int) -> bool:
        """Whether the lease was neither released nor granted again."""
        lease = self.leases.get(key)
        return lease is not None and lease.token == token

    def end_lease(self, key: str, fence: Fence | None) -> None:
        """End the lease, whatever its token, unless it is the fence itself."""
        if fence is None or fence.stored_key != key:
            self.leases.pop(key, None)

    def checkpoint(self, checkpoint_id: str) -> StoredCheckpoint | None:
        """The checkpoint with this id."""
        rows = self.checkpoints.get(self.tasks.get(checkpoint_id, ""), ())
        return next((row for row in rows if row.id == checkpoint_id), None)

    @property
    def expiring(self) -> int:
        """How many records may expire."""
        return len(self.cache) + len(self.results) + len(self.leases)

    def remove_expired(self, clock: Clock) -> None:
        """Forget entries and results that expired, and leases that expired a day ago."""
        now = clock.wall_ms()
        self.cache = {key: it for key, it in self.cache.items() if it.is_kept(now)}
        self.results = {key: it for key, it in self.results.items() if it.is_live(now)}
        self.leases = {
            key: it for key, it in self.leases.items() if it.left_ms(clock) > -LEASE_RETENTION_MS
        }


class RecordStore(Protocol):
    """What the providers need of a store of records."""

    def read_records(self, look: Callable[[Records], T]) -> Coroutine[Any, Any, T]:
        """Return ``look(records)``, never of records in the middle of a change."""
        ...

    def change_records(self, change: Callable[[Records], T]) -> Coroutine[Any, Any, T]:
        """Return ``change(records)`` and keep its changes, atomically.

        No process changes the records concurrently. If ``change`` raises, it has changed nothing.
        A cancelled call is atomic too: applied fully or not at all, see `finish_before_cancel`.
        """
        ...


class InProcessRecords:
    """A `RecordStore` in this process. Nothing suspends, so a change is atomic in its loop."""

    def __init__(self) -> None:
        self.records = Records()

    async def read_records(self, look: Callable[[Records], T]) -> T:
        return look(self.records)

    async def change_records(self, change: Callable[[Records], T]) -> T:
        return change(self.records)


class ConnectedStore:
    """The store of an adapter, which refuses its use while the adapter is not connected."""

    def __init__(self, context: StoreContext, store: RecordStore) -> None:
        self._check = context.check
        self._store = store

    def read_records(self, look: Callable[[Records], T]) -> Coroutine[Any, Any, T]:
        self._check()
        return self._store.read_records(look)

    def change_records(self, change: Callable[[Records], T]) -> Coroutine[Any, Any, T]:
        self._check()
        return self._store.change_records(change)


class RecordLockProvider(BaseLockProvider):
    """Leases among the records."""

    def __init__(self, context: StoreContext, namespace: LockNamespace, store: RecordStore) -> None:
        super().__init__(context, namespace)
        self._store = store

    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        def grant(records: Records) -> int | None:
            now = self.context.clock.wall_ms()
            return self._put(records, key, owner, ttl_ms, since=now, process=this_process())

        return await self._store.change_records(grant)

    async def _adopt(self, key: str, holder: LockHolder) -> int | None:
        process = ProcessIdentity(holder.host, holder.pid, "", "")
        owner, left_ms, since = holder.owner, holder.expires_in_ms, holder.since

        def adopt(records: Records) -> int | None:
            records.last_token = max(records.last_token, holder.fencing_token or 0)
            return self._put(records, key, owner, left_ms, since=since, process=process)

        return await self._store.change_records(adopt)

    def _put(
        self,
        records: Records,
        key: str,
        owner: str,
        ttl_ms: int,
        *,
        since: int,
        process: ProcessIdentity,
    ) -> int | None:
        """Add the lease with the next token unless another one is current; the token."""
        clock = self.context.clock
        held = records.leases.get(key)
        if held is not None and held.left_ms(clock) > 0:
            return None
        records.last_token += 1
        records.leases[key] = StoredLease(
            owner=owner,
            token=records.last_token,
            expires_at=clock.steady_ms() + ttl_ms,
            boot=clock.boot_id,
            since=since,
            host=process.host,
            pid=process.pid,
            namespace=process.namespace,
            started=process.started,
        )
        return records.last_token

    async def _extend(self, key: str, token: int, ttl_ms: int) -> bool:
        return await self._move_expiry(key, token, ttl_ms, if_expired=False)

    async def _renew(self, key: str, token: int, ttl_ms: int) -> bool:
        return await self._move_expiry(key, token, ttl_ms, if_expired=True)

    async def _move_expiry(self, key: str, token: int, ttl_ms: int, *, if_expired: bool) -> bool:
        def extend(records: Records) -> bool:
            lease, clock = records.leases.get(key), self.context.clock
            if lease is None or lease.token != token or is_another_boot(lease.boot, clock.boot_id):
                return False
            if lease.left_ms(clock) <= 0 and not if_expired:
                return False
            lease.expires_at = clock.steady_ms() + ttl_ms
            return True

        return await self._store.change_records(extend)

    async def _release(self, key: str, token: int) -> bool:
        def release(records: Records) -> bool:
            if was_current := records.is_current(key, token):
                del records.leases[key]
            return was_current

        return await self._store.change_records(release)

    async def _remove(self, key: str) -> None:
        await self._store.change_records(lambda records: records.leases.pop(key, None))

    async def _holder(self, key: str) -> LockHolder | None:
        lease = await self._store.read_records(lambda records: records.leases.get(key))
        if lease is None:
            return None
        return LockHolder(
            owner=lease.owner,
            host=lease.host,
            pid=lease.pid,
            since=lease.since,
            expires_in_ms=lease.left_ms(self.context.clock),
            fencing_token=lease.token,
        )


class RecordCacheProvider(BaseCacheProvider):
    """Cache entries among the records."""

    def __init__(
        self, context: StoreContext, store: RecordStore, lease_notifier: KeyedNotifier
    ) -> None:
        super().__init__(context, lease_notifier)
        self._store = store

    async def _get_entry(self, key: str) -> tuple[StoredEntry, int] | None:
        entry = await self._store.read_records(lambda records: records.cache.get(key))
        return None if entry is None else (entry, self.context.clock.wall_ms())

    async def _get_many(self, keys: list[str]) -> dict[str, str]:
        now = self.context.clock.wall_ms()
        found = await self._store.read_records(
            lambda records: {key: records.cache[key] for key in keys if key in records.cache}
        )
        return {key: entry.text for key, entry in found.items() if entry.is_live(now)}

    async def _update(
        self,
        key: str,
        change: Callable[[StoredEntry | None], StoredEntry | None],
        fence: Fence | None,
        *,
        ends_load: bool = True,
    ) -> None:
        def update(records: Records) -> None:
            records.check(fence)
            old = records.cache.get(key)
            entry = change(old)
            if entry is None:
                records.cache.pop(key, None)
            else:
                records.cache[key] = entry
            if ends_load and (entry is None or entry is not old):
                records.end_lease(self.load_lease(key), fence)

        await self._store.change_records(update)

    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        def set_all(records: Records) -> None:
            records.check(fence)
            now = self.context.clock.wall_ms()
            for key, entry in entries.items():
                records.cache[key] = entry.written_at(now)
                records.end_lease(self.load_lease(key), fence)

        await self._store.change_records(set_all)

    async def _delete(self, keys: list[str], fence: Fence | None) -> int:
        def delete(records: Records) -> int:
            records.check(fence)
            now = self.context.clock.wall_ms()
            found = [records.cache.pop(key) for key in keys if key in records.cache]
            for key in keys:
                records.end_lease(self.load_lease(key), fence)
            return sum(entry.is_live(now) for entry in found)

        return await self._store.change_records(delete)

    async def _end_loads(self, pattern: str, mark: str | None) -> list[str]:
        matches = pattern_regex(pattern).fullmatch

        def end(records: Records) -> list[str]:
            ended = [
                key
                for key, lease in records.leases.items()
                if owner_has(lease.owner, mark) and matches(key)
            ]
            for key in ended:
                del records.leases[key]
            return ended

        return await self._store.change_records(end)

    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        matches = pattern_regex(pattern).fullmatch
        now = self.context.clock.wall_ms()
        entries = await self._entries()
        kept = (key for key, entry in entries if with_expired or entry.is_live(now))
        return sorted(key for key in kept if key > after and matches(key))[:limit]

    async def _tagged(self, tag: str) -> list[str]:
        return [key for key, entry in await self._entries() if tag in entry.tags]

    async def _count(self, namespace: str) -> int:
        now = self.context.clock.wall_ms()
        entries = await self._entries()
        return sum(key.startswith(namespace) and entry.is_live(now) for key, entry in entries)

    async def _prune(self, namespace: str) -> int:
        now = self.context.clock.wall_ms()

        def prune(records: Records) -> int:
            expired = [
                key
                for key, entry in records.cache.items()
                if key.startswith(namespace) and not entry.is_kept(now)
            ]
            for key in expired:
                del records.cache[key]
            return len(expired)

        return await self._store.change_records(prune)

    async def _entries(self) -> list[tuple[str, StoredEntry]]:
        return await self._store.read_records(lambda records: list(records.cache.items()))


class RecordCircuitBreakerStateProvider(BaseCircuitBreakerStateProvider):
    """Circuit states among the records."""

    def __init__(self, context: StoreContext, store: RecordStore) -> None:
        super().__init__(context)
        self._store = store

    async def _get(self, key: str) -> CircuitBreakerState | None:
        return await self._store.read_records(lambda records: records.circuits.get(key))

    async def _set(self, key: str, state: CircuitBreakerState, fence: Fence | None) -> None:
        await self._update(key, lambda _: state, fence)

    async def _update(
        self,
        key: str,
        change: Callable[[CircuitBreakerState | None], CircuitBreakerState | None],
        fence: Fence | None,
    ) -> None:
        def update(records: Records) -> None:
            records.check(fence)
            state = change(records.circuits.get(key))
            if state is not None:
                records.circuits[key] = state

        await self._store.change_records(update)


class RecordCheckpointProvider(BaseCheckpointProvider):
    """Checkpoints among the records."""

    def __init__(self, context: StoreContext, store: RecordStore) -> None:
        super().__init__(context)
        self._store = store

    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        def save(records: Records) -> None:
            records.check(fence)
            rows = records.checkpoints.get(row.task_id, [])
            latest = rows[-1] if rows else None
            self.check(row, latest, records.checkpoint(row.id))
            replaces = latest is not None and latest.id == row.id
            records.checkpoints[row.task_id] = [*(rows[:-1] if replaces else rows), row]
            records.tasks[row.id] = row.task_id

        await self._store.change_records(save)

    async def _load(self, checkpoint_id: str) -> StoredCheckpoint | None:
        return await self._store.read_records(lambda records: records.checkpoint(checkpoint_id))

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        rows = await self._list(task_id)
        return rows[-1] if rows else None

    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        return await self._store.read_records(lambda records: records.checkpoints.get(task_id, ()))

    async def _trim(self, task_id: str, keep: int, fence: Fence | None) -> None:
        def trim(records: Records) -> None:
            records.check(fence)
            rows = records.checkpoints.pop(task_id, [])
            kept = rows[max(len(rows) - keep, 0) :]
            for row in rows[: len(rows) - len(kept)]:
                del records.tasks[row.id]
            if kept:
                records.checkpoints[task_id] = kept

        await self._store.change_records(trim)


class RecordIdempotencyProvider(BaseIdempotencyProvider):
    """Results among the records. A completion notifies the waiters of the lease it ends."""

    def __init__(
        self, context: StoreContext, store: RecordStore, lease_notifier: KeyedNotifier
    ) -> None:
        super().__init__(context)
        self._store = store
        self._lease_notifier = lease_notifier

    async def _get(self, key: str) -> StoredResult | None:
        row = await self._store.read_records(lambda records: records.results.get(key))
        return row if row is not None and row.is_live(self.context.clock.wall_ms()) else None

    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> None:
        def store(records: Records) -> None:
            records.check(fence)
            records.results[key] = result.written_at(self.context.clock.wall_ms())
            if fence is not None and ends_lease:
                del records.leases[fence.stored_key]

        await self._store.change_records(store)
        if fence is not None and ends_lease:
            self._lease_notifier.notify(fence.stored_key)

    async def _delete(self, key: str) -> bool:
        row = await self._store.change_records(lambda records: records.results.pop(key, None))
        return row is not None and row.is_live(self.context.clock.wall_ms())


class RecordInspectionProvider(BaseInspectionProvider):
    """Lists the records as they were at its beginning, in one page."""

    def __init__(
        self,
        context: StoreContext,
        store: RecordStore,
        *,
        memory_locks: MemoryLockProvider | None = None,
    ) -> None:
        super().__init__(context, memory_locks=memory_locks)
        self._store = store

    async def _leases(self, pattern: str, after: str, limit: int) -> Page[LeaseRow]:
        clock = self.context.clock

        def row(key: str, lease: StoredLease) -> LeaseRow:
            process = ProcessIdentity(lease.host, lease.pid, lease.namespace, lease.started)
            return LeaseRow(
                key=key,
                owner=lease.owner,
                host=lease.host,
                pid=lease.pid,
                acquired_at=lease.since,
                expires_in_ms=lease.left_ms(clock),
                token=lease.token,
                is_alive=is_alive(process),
            )

        return await self._page(pattern, lambda records: records.leases, row)

    async def _circuits(self, pattern: str, after: str, limit: int) -> Page[CircuitRow]:
        return await self._page(pattern, lambda records: records.circuits, CircuitRow)

    async def _tasks(self, pattern: str, after: str, limit: int) -> Page[TaskRow]:
        def row(task_id: str, rows: list[StoredCheckpoint]) -> TaskRow:
            latest = rows[-1]
            return TaskRow(
                id=task_id,
                checkpoints=len(rows),
                size_bytes=sum(_size_bytes(it.text) for it in rows),
                sequence=latest.sequence,
                progress=latest.progress,
                estimated_time_remaining=latest.estimated_time_remaining,
                saved_at=latest.timestamp,
            )

        return await self._page(pattern, lambda records: records.checkpoints, row)

    async def _results(self, pattern: str, after: str, limit: int) -> Page[ResultRow]:
        now = self.context.clock.wall_ms()

        def row(key: str, result: StoredResult) -> ResultRow:
            return ResultRow(
                key=key,
                size_bytes=_size_bytes(result.text),
                expires_in_ms=None if result.expires_at is None else result.expires_at - now,
                created_at=None,
                fingerprint=result.fingerprint,
            )

        return await self._page(pattern, lambda records: records.results, row)

    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        now = self.context.clock.wall_ms()

        def row(key: str, entry: StoredEntry) -> EntryRow:
            stale_until = entry.stale_until
            return EntryRow(
                key=key,
                size_bytes=_size_bytes(entry.text),
                expires_in_ms=None if entry.expires_at is None else entry.expires_at - now,
                created_at=None,
                stale_expires_in_ms=None if stale_until is None else stale_until - now,
                tags=entry.tags,
            )

        return await self._page(pattern, lambda records: records.cache, row)

    async def _page(
        self,
        pattern: str,
        look: Callable[[Records], Mapping[str, T]],
        row: Callable[[str, T], R],
    ) -> Page[R]:
        """The matching records. They become rows one by one, when the base class asks for them."""
        matches = pattern_regex(pattern).fullmatch
        found = await self._store.read_records(lambda records: list(look(records).items()))
        return Page((row(key, record) for key, record in found if matches(key)), None)


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


class RecordAdapter(BaseAdapter):
    """An adapter with every provider: fill in ``read_records`` and ``change_records``.

    It reads and replaces the whole store each time, which suits hundreds of entries. Leases
    compare the boot of the machine and its steady clock, so the store belongs to one machine,
    unless ``clock`` is the store's own.
    """

    lock: LockProvider
    lease: RecordLockProvider
    cache: RecordCacheProvider
    circuit_breaker: RecordCircuitBreakerStateProvider
    checkpoint: RecordCheckpointProvider
    idempotency: RecordIdempotencyProvider
    inspection: RecordInspectionProvider
    store: ConnectedStore
    """What the providers use: it refuses calls while the adapter is not connected."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.store = store = ConnectedStore(self.context, self)
        self.lock = RecordLockProvider(self.context, "lock", store)
        self.lease = RecordLockProvider(self.context, "lease", store)
        self.cache = RecordCacheProvider(self.context, store, self.lease.notifier)
        self.circuit_breaker = RecordCircuitBreakerStateProvider(self.context, store)
        self.checkpoint = RecordCheckpointProvider(self.context, store)
        self.idempotency = RecordIdempotencyProvider(self.context, store, self.lease.notifier)
        self.inspection = RecordInspectionProvider(self.context, store)

    @abstractmethod
    async def read_records(self, look: Callable[[Records], T]) -> T:
        """Return ``look(records)``; see `RecordStore`."""

    @abstractmethod
    async def change_records(self, change: Callable[[Records], T]) -> T:
        """Return ``change(records)`` and keep its changes, atomically; see `RecordStore`."""

    async def _connect(self) -> None:
        self.context.store_id = await self.change_records(lambda records: records.id)

    async def _disconnect(self) -> None:
        pass
