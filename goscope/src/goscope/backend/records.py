"""Base classes for small stores, which are read and replaced whole: two methods to fill in."""

# pyright: reportIncompatibleVariableOverride=false
# The adapter always has these providers and declares narrower types; nobody assigns from outside.

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from .._tools.clock import Clock
from .._tools.key import pattern_regex
from .._tools.notifier import KeyedNotifier
from .._tools.process import this_process
from ..providers import CircuitBreakerState, LockHolder, LockProvider
from ._adapter import BaseAdapter
from ._cache import BaseCacheProvider, StoredEntry
from ._checkpoint import BaseCheckpointProvider, StoredCheckpoint
from ._circuit_breaker import BaseCircuitBreakerStateProvider
from ._context import Fence, StoreContext
from ._idempotency import BaseIdempotencyProvider, StoredResult
from ._lock import BaseLockProvider, LockNamespace, lease_lost

T = TypeVar("T")


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

    def left_ms(self, clock: Clock) -> int:
        """How much longer the lease runs: not at all after a reboot."""
        return self.expires_at - clock.steady_ms() if self.boot == clock.boot_id else 0


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

    async def read_records(self, look: Callable[[Records], T]) -> T:
        """Return ``look(records)``, never of records in the middle of a change."""
        ...

    async def change_records(self, change: Callable[[Records], T]) -> T:
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


class RecordLockProvider(BaseLockProvider):
    """Leases among the records."""

    def __init__(self, context: StoreContext, namespace: LockNamespace, store: RecordStore) -> None:
        super().__init__(context, namespace)
        self._store = store

    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        def grant(records: Records) -> int | None:
            clock, me = self.context.clock, this_process()
            held = records.leases.get(key)
            if held is not None and held.left_ms(clock) > 0:
                return None
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
        return await self._move_expiry(key, token, ttl_ms, if_expired=False)

    async def _renew(self, key: str, token: int, ttl_ms: int) -> bool:
        return await self._move_expiry(key, token, ttl_ms, if_expired=True)

    async def _move_expiry(self, key: str, token: int, ttl_ms: int, *, if_expired: bool) -> bool:
        def extend(records: Records) -> bool:
            lease, clock = records.leases.get(key), self.context.clock
            if lease is None or lease.token != token or lease.boot != clock.boot_id:
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
            entry = change(records.cache.get(key))
            if entry is None:
                records.cache.pop(key, None)
            else:
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
        if fence is not None and ends_lease:
            self._lease_notifier.notify(fence.stored_key)

    async def _delete(self, key: str, now: int) -> bool:
        row = await self._store.change_records(lambda records: records.results.pop(key, None))
        return row is not None and row.is_live(now)


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

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lock = RecordLockProvider(self.context, "lock", self)
        self.lease = RecordLockProvider(self.context, "lease", self)
        self.cache = RecordCacheProvider(self.context, self)
        self.circuit_breaker = RecordCircuitBreakerStateProvider(self.context, self)
        self.checkpoint = RecordCheckpointProvider(self.context, self)
        self.idempotency = RecordIdempotencyProvider(self.context, self, self.lease.notifier)

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
