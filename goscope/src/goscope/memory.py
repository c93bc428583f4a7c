"""The backend "memory": every Protocol in plain dictionaries, the implementation to read first.

Nothing here awaits, so each primitive is atomic within its event loop. Everything is gone when
the adapter disconnects. `MemoryLockProvider` also serves other backends whose ``gs.lock`` is in
memory.
"""

# pyright: reportIncompatibleVariableOverride=false
# An adapter that always has a provider says so by a narrower type; nobody assigns from outside.

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from .backend import (
    MAX_KEY_LENGTH,
    MAX_LEASE_KEY_LENGTH,
    Backend,
    BaseAdapter,
    BaseCacheProvider,
    BaseCheckpointProvider,
    BaseCircuitBreakerStateProvider,
    BaseIdempotencyProvider,
    Clock,
    Fence,
    LockNamespace,
    StoreContext,
    StoredCheckpoint,
    StoredEntry,
    StoredResult,
    Waiters,
    check_key,
    milliseconds,
    new_owner,
    pattern_regex,
    refused,
    this_process,
)
from .hookspecs import hookimpl
from .providers import CircuitBreakerState, LockHolder, Milliseconds


@dataclass(slots=True)
class Grant:
    """A lease in memory; ``expires_at`` on the steady clock, ``since`` on the wall clock."""

    owner: str
    token: int
    expires_at: int
    since: int


class Grants:
    """All leases of one process, by stored key, and the counter of their tokens."""

    def __init__(self) -> None:
        self.by_key: Final[dict[str, Grant]] = {}
        self.waiters: Final = Waiters()
        self._last_token = 0
        self._sweep_at = 1024

    def grant(self, key: str, owner: str, ttl_ms: int, clock: Clock) -> Grant | None:
        """Take the lease unless it is in force; None while it is."""
        now = clock.steady_ms()
        held = self.by_key.get(key)
        if held is not None and held.expires_at > now:
            return None
        self._last_token += 1
        grant = Grant(owner, self._last_token, now + ttl_ms, clock.wall_ms())
        self.by_key[key] = grant
        if len(self.by_key) > self._sweep_at:
            self._sweep(now)
        return grant

    def in_force(self, key: str, token: int) -> Grant | None:
        """The grant with this token unless it was released, taken over or swept."""
        grant = self.by_key.get(key)
        return grant if grant is not None and grant.token == token else None

    def end(self, key: str, token: int | None = None) -> None:
        """End the grant with this token, or any if None, and wake who waits for it."""
        grant = self.by_key.get(key)
        if grant is not None and (token is None or token == grant.token):
            del self.by_key[key]
            self.waiters.notify(key)

    def check(self, fence: Fence | None) -> None:
        """Raise `LeaseLost` unless the fence's grant is in force."""
        if fence is not None and self.in_force(fence.stored_key, fence.token) is None:
            raise refused(fence)

    def _sweep(self, now: int) -> None:
        """Forget leases that ran out a day ago. Runs each time their number has doubled."""
        day = 86_400_000
        for key in [key for key, grant in self.by_key.items() if grant.expires_at + day < now]:
            del self.by_key[key]
        self._sweep_at = 2 * len(self.by_key) + 1024


class MemoryLockHandle:
    """One grant of an in-memory lock."""

    __slots__ = ("_grant", "_provider", "_released", "key", "store_id", "stored_key")

    def __init__(
        self, provider: MemoryLockProvider, key: str, stored_key: str, grant: Grant
    ) -> None:
        self.key: Final = key
        self.stored_key: Final = stored_key
        self._provider = provider
        # Of the store that made the grant: an adapter that reconnects has another one.
        self.store_id: Final = provider.context.store_id
        self._grant = grant
        self._released = False

    def __repr__(self) -> str:
        return f"<in-memory lock {self.key!r} owner={self.owner!r}>"

    @property
    def owner(self) -> str:
        return self._grant.owner

    @property
    def fencing_token(self) -> int | None:
        return self._grant.token if self._provider.fencing else None

    @property
    def lost(self) -> bool:
        return not self._released and not self._in_force()

    async def release(self) -> None:
        self._released = True
        self._provider.grants.end(self.stored_key, self._grant.token)

    async def extend(self, ttl: Milliseconds) -> bool:
        ttl_ms = milliseconds(ttl, "ttl")
        if self._released or not self._in_force():
            return False
        self._grant.expires_at = self._provider.context.clock.steady_ms() + ttl_ms
        return True

    async def is_valid(self) -> bool:
        return not self._released and self._in_force()

    def _in_force(self) -> bool:
        grant = self._provider.grants.in_force(self.stored_key, self._grant.token)
        return grant is not None and grant.expires_at > self._provider.context.clock.steady_ms()


class MemoryLockProvider:
    """Locks of one process. It has no base class: without I/O there is no cancellation to survive.

    With ``fencing`` the grants are in the store itself and their tokens fence writes to it;
    without it handles carry no token.
    """

    def __init__(
        self,
        context: StoreContext,
        namespace: LockNamespace = "lock",
        grants: Grants | None = None,
        *,
        fencing: bool = False,
    ) -> None:
        self.context: Final = context
        self.grants: Final = Grants() if grants is None else grants
        self.fencing: Final = fencing
        self._start = f"{context.prefix}{namespace}:"
        self._limit = MAX_LEASE_KEY_LENGTH if namespace == "lease" else MAX_KEY_LENGTH

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> MemoryLockHandle | None:
        stored = self._stored(key)
        owner = new_owner() if owner is None else check_key(owner, "owner")
        context = self.context
        ttl_ms = context.default_lock_ttl_ms if ttl is None else milliseconds(ttl, "ttl")
        grant = self.grants.grant(stored, owner, ttl_ms, context.clock)
        return None if grant is None else MemoryLockHandle(self, key, stored, grant)

    async def extend(self, key: str, ttl: Milliseconds, owner: str) -> bool:
        grant = self.grants.by_key.get(self._stored(key))
        ttl_ms = milliseconds(ttl, "ttl")
        now = self.context.clock.steady_ms()
        if grant is None or grant.owner != owner or grant.expires_at <= now:
            return False
        grant.expires_at = now + ttl_ms
        return True

    async def force_release(self, key: str) -> None:
        self.grants.end(self._stored(key))

    async def holder(self, key: str) -> LockHolder | None:
        grant = self.grants.by_key.get(self._stored(key))
        left = 0 if grant is None else grant.expires_at - self.context.clock.steady_ms()
        if grant is None or left <= 0:
            return None
        me = this_process()
        return LockHolder(
            owner=grant.owner,
            host=me.host,
            pid=me.pid,
            since=grant.since,
            expires_in_ms=left,
            fencing_token=grant.token if self.fencing else None,
        )

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``."""
        stored = self._stored(key)
        clock = self.context.clock
        limit_ms = math.inf if timeout is None else milliseconds(timeout, "timeout")
        deadline = clock.steady_ms() + limit_ms
        while (holder := await self.holder(key)) is not None:
            left_ms = deadline - clock.steady_ms()
            if left_ms <= 0:
                return False
            # Its expiry may be moved meanwhile, hence the loop.
            wait_ms = min(left_ms, holder.expires_in_ms)
            await self.grants.waiters.wait(stored, wait_ms / 1000, clock)
        return True

    def _stored(self, key: str) -> str:
        return self._start + check_key(key, limit=self._limit)


class MemoryCacheProvider(BaseCacheProvider):
    """Cache entries in a dictionary."""

    def __init__(self, context: StoreContext, grants: Grants) -> None:
        super().__init__(context)
        self._grants = grants
        self._entries: dict[str, StoredEntry] = {}
        self._sweep_at = 1024

    async def _get_entry(self, key: str) -> StoredEntry | None:
        return self._entries.get(key)

    async def _update(
        self,
        key: str,
        change: Callable[[StoredEntry | None], StoredEntry | None],
        fence: Fence | None,
    ) -> None:
        self._grants.check(fence)
        entry = change(self._entries.get(key))
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry
            self._sweep()

    async def _set(self, entries: Mapping[str, StoredEntry], fence: Fence | None) -> None:
        self._grants.check(fence)
        self._entries.update(entries)
        self._sweep()

    async def _page(self, pattern: str, after: str, limit: int, now: int) -> list[str]:
        matches = pattern_regex(pattern).fullmatch
        keys = (key for key, entry in self._entries.items() if entry.is_live(now) and key > after)
        return sorted(key for key in keys if matches(key))[:limit]

    async def _tagged(self, tag: str) -> list[str]:
        return [key for key, entry in self._entries.items() if tag in entry.tags]

    async def _count(self, namespace: str, now: int) -> int:
        entries = self._entries.items()
        return sum(key.startswith(namespace) and entry.is_live(now) for key, entry in entries)

    async def _prune(self, namespace: str, now: int) -> int:
        expired = [key for key, entry in self._entries.items() if not entry.is_kept(now)]
        for key in expired:
            del self._entries[key]
        return len(expired)

    def _sweep(self) -> None:
        """Forget expired entries each time their number has doubled."""
        if len(self._entries) > self._sweep_at:
            now = self.context.clock.wall_ms()
            for key in [key for key, entry in self._entries.items() if not entry.is_kept(now)]:
                del self._entries[key]
            self._sweep_at = 2 * len(self._entries) + 1024


class MemoryCircuitBreakerStateProvider(BaseCircuitBreakerStateProvider):
    """Circuit states in a dictionary."""

    def __init__(self, context: StoreContext, grants: Grants) -> None:
        super().__init__(context)
        self._grants = grants
        self._states: dict[str, CircuitBreakerState] = {}

    async def _get(self, key: str) -> CircuitBreakerState | None:
        return self._states.get(key)

    async def _update(
        self,
        key: str,
        change: Callable[[CircuitBreakerState | None], CircuitBreakerState | None],
        fence: Fence | None,
    ) -> None:
        self._grants.check(fence)
        state = change(self._states.get(key))
        if state is not None:
            self._states[key] = state


class MemoryCheckpointProvider(BaseCheckpointProvider):
    """Checkpoints in one list a task, lowest sequence first."""

    def __init__(self, context: StoreContext, grants: Grants) -> None:
        super().__init__(context)
        self._grants = grants
        self._tasks: dict[str, list[StoredCheckpoint]] = {}
        self._by_id: dict[str, StoredCheckpoint] = {}

    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        self._grants.check(fence)
        rows = self._tasks.get(row.task_id, [])
        latest = rows[-1] if rows else None
        self.check(row, latest, self._by_id.get(row.id))
        replaced = latest is not None and latest.id == row.id
        self._tasks[row.task_id] = [*(rows[:-1] if replaced else rows), row]
        self._by_id[row.id] = row

    async def _load(self, checkpoint_id: str) -> StoredCheckpoint | None:
        return self._by_id.get(checkpoint_id)

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        rows = self._tasks.get(task_id)
        return rows[-1] if rows else None

    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        return self._tasks.get(task_id, [])

    async def _trim(self, task_id: str, keep: int, fence: Fence | None) -> None:
        self._grants.check(fence)
        rows = self._tasks.pop(task_id, [])
        kept = rows[max(len(rows) - keep, 0) :]
        for row in rows[: len(rows) - len(kept)]:
            del self._by_id[row.id]
        if kept:
            self._tasks[task_id] = kept


class MemoryIdempotencyProvider(BaseIdempotencyProvider):
    """Results in a dictionary."""

    def __init__(self, context: StoreContext, grants: Grants) -> None:
        super().__init__(context)
        self._grants = grants
        self._results: dict[str, StoredResult] = {}
        self._sweep_at = 1024

    async def _get(self, key: str, now: int) -> StoredResult | None:
        row = self._results.get(key)
        return row if row is not None and row.is_live(now) else None

    async def _set(
        self, key: str, row: StoredResult, now: int, fence: Fence | None, ends_lease: bool
    ) -> None:
        self._grants.check(fence)
        self._results[key] = row
        if fence is not None and ends_lease:
            self._grants.end(fence.stored_key, fence.token)
        if len(self._results) > self._sweep_at:
            for old in [key for key, row in self._results.items() if not row.is_live(now)]:
                del self._results[old]
            self._sweep_at = 2 * len(self._results) + 1024

    async def _delete(self, key: str, now: int) -> bool:
        row = self._results.pop(key, None)
        return row is not None and row.is_live(now)


class MemoryAdapter(BaseAdapter):
    """A store in this process, gone when it disconnects.

    ``locks="memory"`` gives ``gs.lock`` handles without a fencing token, as other backends'
    in-memory locks do; ``locks="shared"`` gives handles whose tokens fence writes to this store.
    """

    lock: MemoryLockProvider
    lease: MemoryLockProvider
    cache: MemoryCacheProvider
    circuit_breaker: MemoryCircuitBreakerStateProvider
    checkpoint: MemoryCheckpointProvider
    idempotency: MemoryIdempotencyProvider

    def __init__(
        self,
        *,
        key_prefix: str | None = None,
        locks: Literal["memory", "shared"] = "memory",
        default_lock_ttl: Milliseconds = "30s",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(key_prefix=key_prefix, default_lock_ttl=default_lock_ttl, clock=clock)
        self._fencing_locks = locks == "shared"
        self._fill()

    def __repr__(self) -> str:
        return f"MemoryAdapter(key_prefix={self.context.prefix!r})"

    def _fill(self) -> None:
        context, grants = self.context, Grants()
        context.store_id = f"memory-{uuid.uuid4().hex}"
        self.lock = MemoryLockProvider(context, "lock", grants, fencing=self._fencing_locks)
        self.lease = MemoryLockProvider(context, "lease", grants, fencing=True)
        self.cache = MemoryCacheProvider(context, grants)
        self.circuit_breaker = MemoryCircuitBreakerStateProvider(context, grants)
        self.checkpoint = MemoryCheckpointProvider(context, grants)
        self.idempotency = MemoryIdempotencyProvider(context, grants)

    async def _connect(self) -> None:
        pass

    async def _disconnect(self) -> None:
        self._fill()


class MemoryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "memory"; see `MemoryAdapter`."""

    key_prefix: str | None = None
    locks: Literal["memory", "shared"] = "memory"
    default_lock_ttl: str = "30s"


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend; this module is its own plugin."""
    return [
        Backend(
            name="memory",
            summary="in this process only, for tests and small tools",
            options=MemoryOptions,
            open=_open,
            schemes=("memory",),
        )
    ]


def _open(options: MemoryOptions) -> MemoryAdapter:
    return MemoryAdapter(
        key_prefix=options.key_prefix,
        locks=options.locks,
        default_lock_ttl=options.default_lock_ttl,
    )
