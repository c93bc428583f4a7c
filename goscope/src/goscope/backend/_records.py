"""Adapters whose store is small enough to be read and replaced whole: two methods to fill in."""

# pyright: reportIncompatibleVariableOverride=false
# An adapter that always has a provider says so by a narrower type; nobody assigns from outside.

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from ..providers import CircuitBreakerState, LockHolder
from ._adapter import BaseAdapter
from ._cache import BaseCacheProvider, StoredEntry
from ._checkpoint import BaseCheckpointProvider, StoredCheckpoint
from ._circuit_breaker import BaseCircuitBreakerStateProvider
from ._context import Fence, StoreContext
from ._idempotency import BaseIdempotencyProvider, StoredResult
from ._key import pattern_regex
from ._lock import BaseLockProvider, LockNamespace, refused
from ._process import this_process

T = TypeVar("T")


class StoredLease(msgspec.Struct):
    """One grant of a lock; ``expires_at`` on the steady clock of that boot of the machine."""

    owner: str
    token: int
    expires_at: int
    boot: str
    since: int
    host: str
    pid: int


class Records(msgspec.Struct):
    """Everything a store holds, by stored key, in types that msgspec turns to JSON and back."""

    id: str = msgspec.field(default_factory=lambda: os.urandom(16).hex())
    last_token: int = 0
    leases: dict[str, StoredLease] = {}
    cache: dict[str, StoredEntry] = {}
    circuits: dict[str, CircuitBreakerState] = {}
    checkpoints: dict[str, StoredCheckpoint] = {}
    results: dict[str, StoredResult] = {}

    def check(self, fence: Fence | None) -> None:
        """Refuse the write unless the fence's lease still carries its token."""
        if fence is not None and not self.is_in_force(fence.stored_key, fence.token):
            raise refused(fence)

    def is_in_force(self, key: str, token: int) -> bool:
        """Whether the lease was neither released nor taken since."""
        lease = self.leases.get(key)
        return lease is not None and lease.token == token

    def task(self, task_id: str) -> list[StoredCheckpoint]:
        """The checkpoints of a task, lowest sequence first."""
        rows = (row for row in self.checkpoints.values() if row.task_id == task_id)
        return sorted(rows, key=lambda row: row.sequence)


class RecordStore(Protocol):
    """What the providers on records need of a store."""

    async def read_records(self, look: Callable[[Records], T]) -> T:
        """Return ``look(records)``, of records no change of which is half done."""
        ...

    async def change_records(self, change: Callable[[Records], T]) -> T:
        """Return ``change(records)`` and keep what it did to them, atomically.

        Nobody else changes them meanwhile, in whatever process. If it raises, nothing is kept. If
        the caller is cancelled it is done whole or not at all; see `settle`.
        """
        ...


class RecordLockProvider(BaseLockProvider):
    """Leases among the records."""

    def __init__(self, context: StoreContext, namespace: LockNamespace, store: RecordStore) -> None:
        super().__init__(context, namespace)
        self._store = store

    def _left_ms(self, lease: StoredLease | None) -> int:
        """How much longer the lease runs; its clock ended with the boot it was granted in."""
        clock = self.context.clock
        if lease is None or lease.boot != clock.boot_id:
            return 0
        return lease.expires_at - clock.steady_ms()

    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        def grant(records: Records) -> int | None:
            if self._left_ms(records.leases.get(key)) > 0:
                return None
            clock, me = self.context.clock, this_process()
            records.last_token += 1
            records.leases[key] = StoredLease(
                owner=owner,
                token=records.last_token,
                expires_at=clock.steady_ms() + ttl_ms,
                boot=clock.boot_id,
                since=clock.wall_ms(),
                host=me.host,
                pid=me.pid,
            )
            return records.last_token

        return await self._store.change_records(grant)

    async def _extend(self, key: str, token: int, ttl_ms: int) -> bool:
        def extend(records: Records) -> bool:
            lease = records.leases.get(key)
            if lease is None or lease.token != token or self._left_ms(lease) <= 0:
                return False
            lease.expires_at = self.context.clock.steady_ms() + ttl_ms
            return True

        return await self._store.change_records(extend)

    async def _release(self, key: str, token: int) -> None:
        def release(records: Records) -> None:
            if records.is_in_force(key, token):
                del records.leases[key]

        await self._store.change_records(release)

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
            expires_in_ms=self._left_ms(lease),
            fencing_token=lease.token,
        )


class RecordCacheProvider(BaseCacheProvider):
    """Cache entries among the records."""

    def __init__(self, context: StoreContext, store: RecordStore) -> None:
        super().__init__(context)
        self._store = store

    async def _get_entry(self, key: str) -> StoredEntry | None:
        return await self._store.read_records(lambda records: records.cache.get(key))

    async def _get_many(self, keys: list[str], now: int) -> dict[str, str]:
        found = await self._store.read_records(
            lambda records: {key: records.cache[key] for key in keys if key in records.cache}
        )
        return {key: entry.text for key, entry in found.items() if entry.is_live(now)}

    async def _update(
        self,
        key: str,
        change: Callable[[StoredEntry | None], StoredEntry | None],
        fence: Fence | None,
    ) -> None:
        def update(records: Records) -> None:
            records.check(fence)
            entry = change(records.cache.pop(key, None))
            if entry is not None:
                records.cache[key] = entry

        await self._store.change_records(update)

    async def _set(self, entries: Mapping[str, StoredEntry], fence: Fence | None) -> None:
        def set_all(records: Records) -> None:
            records.check(fence)
            records.cache.update(entries)

        await self._store.change_records(set_all)

    async def _delete(self, keys: list[str], now: int, fence: Fence | None) -> int:
        def delete(records: Records) -> int:
            records.check(fence)
            found = [records.cache.pop(key) for key in keys if key in records.cache]
            return sum(entry.is_live(now) for entry in found)

        return await self._store.change_records(delete)

    async def _page(self, pattern: str, after: str, limit: int, now: int) -> list[str]:
        matches = pattern_regex(pattern).fullmatch
        entries = await self._entries()
        live = (key for key, entry in entries if key > after and entry.is_live(now))
        return sorted(key for key in live if matches(key))[:limit]

    async def _tagged(self, tag: str) -> list[str]:
        return [key for key, entry in await self._entries() if tag in entry.tags]

    async def _count(self, namespace: str, now: int) -> int:
        entries = await self._entries()
        return sum(key.startswith(namespace) and entry.is_live(now) for key, entry in entries)

    async def _prune(self, namespace: str, now: int) -> int:
        entries = await self._entries()
        expired = [key for key, it in entries if key.startswith(namespace) and not it.is_kept(now)]
        await self._delete(expired, now, None)
        return len(expired)

    async def _entries(self) -> list[tuple[str, StoredEntry]]:
        return await self._store.read_records(lambda records: list(records.cache.items()))


class RecordCircuitBreakerStateProvider(BaseCircuitBreakerStateProvider):
    """Circuit states among the records."""

    def __init__(self, context: StoreContext, store: RecordStore) -> None:
        super().__init__(context)
        self._store = store

    async def _get(self, key: str) -> CircuitBreakerState | None:
        return await self._store.read_records(lambda records: records.circuits.get(key))

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
            rows = records.task(row.task_id)
            self.check(row, rows[-1] if rows else None, records.checkpoints.get(row.id))
            records.checkpoints[row.id] = row

        await self._store.change_records(save)

    async def _load(self, checkpoint_id: str) -> StoredCheckpoint | None:
        return await self._store.read_records(
            lambda records: records.checkpoints.get(checkpoint_id)
        )

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        rows = await self._list(task_id)
        return rows[-1] if rows else None

    async def _list(self, task_id: str) -> list[StoredCheckpoint]:
        return await self._store.read_records(lambda records: records.task(task_id))

    async def _trim(self, task_id: str, keep: int, fence: Fence | None) -> None:
        def trim(records: Records) -> None:
            records.check(fence)
            rows = records.task(task_id)
            for row in rows[: max(len(rows) - keep, 0)]:
                del records.checkpoints[row.id]

        await self._store.change_records(trim)


class RecordIdempotencyProvider(BaseIdempotencyProvider):
    """Results among the records."""

    def __init__(self, context: StoreContext, store: RecordStore) -> None:
        super().__init__(context)
        self._store = store

    async def _get(self, key: str, now: int) -> StoredResult | None:
        row = await self._store.read_records(lambda records: records.results.get(key))
        return row if row is not None and row.is_live(now) else None

    async def _set(
        self, key: str, row: StoredResult, now: int, fence: Fence | None, ends_lease: bool
    ) -> None:
        def store(records: Records) -> None:
            records.check(fence)
            records.results[key] = row
            if fence is not None and ends_lease:
                del records.leases[fence.stored_key]

        await self._store.change_records(store)

    async def _delete(self, key: str, now: int) -> bool:
        row = await self._store.change_records(lambda records: records.results.pop(key, None))
        return row is not None and row.is_live(now)


class RecordAdapter(BaseAdapter):
    """An adapter with every provider: fill in ``read_records`` and ``change_records``.

    It reads and replaces the whole store each time, which is right for hundreds of entries. The
    store must keep the boot of the machine and its steady clock comparable, so it is of one
    machine, unless ``clock`` is a clock of the store's own.
    """

    lock: RecordLockProvider
    lease: RecordLockProvider
    cache: RecordCacheProvider
    circuit_breaker: RecordCircuitBreakerStateProvider
    checkpoint: RecordCheckpointProvider
    idempotency: RecordIdempotencyProvider

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lock = RecordLockProvider(self.context, "lock", self)
        self.lease = RecordLockProvider(self.context, "lease", self)
        self.cache = RecordCacheProvider(self.context, self)
        self.circuit_breaker = RecordCircuitBreakerStateProvider(self.context, self)
        self.checkpoint = RecordCheckpointProvider(self.context, self)
        self.idempotency = RecordIdempotencyProvider(self.context, self)

    @abstractmethod
    async def read_records(self, look: Callable[[Records], T]) -> T:
        """Return ``look(records)``; see `RecordStore`."""

    @abstractmethod
    async def change_records(self, change: Callable[[Records], T]) -> T:
        """Return ``change(records)`` and keep what it did, atomically; see `RecordStore`."""

    async def _connect(self) -> None:
        self.context.store_id = await self.change_records(lambda records: records.id)

    async def _disconnect(self) -> None:
        pass
