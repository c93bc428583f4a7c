"""Locks of one process, for every backend whose ``gs.lock`` may be in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .._tools.clock import Clock
from .._tools.duration import milliseconds
from .._tools.key import check_key
from .._tools.notifier import KeyedNotifier
from .._tools.process import this_process, unique_name
from ..providers import LockHolder, Milliseconds
from ._context import StoreContext

FIRST_SWEEP_AT: Final = 1024


@dataclass(slots=True)
class _Grant:
    """A lease in memory; ``expires_at`` on the steady clock, ``since`` on the wall clock."""

    owner: str
    expires_at: int
    since: int


class MemoryLockHandle:
    """One grant of an in-memory lock. It has no fencing token and cannot fence a write."""

    __slots__ = ("_grant", "_lost", "_provider", "_released", "key", "owner", "stored_key")

    def __init__(
        self, provider: MemoryLockProvider, key: str, stored_key: str, grant: _Grant
    ) -> None:
        self.key: Final = key
        self.owner: Final = grant.owner
        self.stored_key: Final = stored_key
        self._provider = provider
        self._grant = grant
        self._released = False
        self._lost = False

    def __repr__(self) -> str:
        return f"<in-memory lock {self.key!r} owner={self.owner!r}>"

    @property
    def fencing_token(self) -> None:
        return None

    @property
    def store_id(self) -> str:
        return ""

    @property
    def lost(self) -> bool:
        return self._lost or (not self._released and not self._is_current())

    async def release(self) -> bool:
        if self._released:
            return False
        self._released = True
        was_current = self._provider.end(self.stored_key, self._grant)
        self._lost = not was_current
        return was_current

    async def extend(self, ttl: Milliseconds) -> bool:
        ttl_ms = milliseconds(ttl, "ttl")
        if self._released or not self._is_current():
            return False
        self._grant.expires_at = self._provider.clock.steady_ms() + ttl_ms
        return True

    async def renew(self, ttl: Milliseconds) -> bool:
        ttl_ms = milliseconds(ttl, "ttl")
        if not self._provider.is_held(self.stored_key, self._grant):
            return False
        self._grant.expires_at = self._provider.clock.steady_ms() + ttl_ms
        return True

    async def is_valid(self) -> bool:
        return not self._released and self._is_current()

    def _is_current(self) -> bool:
        return self._provider.current(self.stored_key) is self._grant


class MemoryLockProvider:
    """Locks in a dictionary; gone with the process.

    It has no base class: without I/O no cancellation can interrupt a grant, and a lock costs a
    tenth of one that is prepared for that.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._start = f"{context.prefix}lock:"
        self._grants: dict[str, _Grant] = {}
        self._notifier = KeyedNotifier()
        self._sweep_at = FIRST_SWEEP_AT

    @property
    def clock(self) -> Clock:
        """The clock that leases expire on."""
        return self._context.clock

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> MemoryLockHandle | None:
        stored = self._stored(key)
        owner = unique_name() if owner is None else check_key(owner, "owner")
        context = self._context
        ttl_ms = context.default_lock_ttl_ms if ttl is None else milliseconds(ttl, "ttl")
        clock = context.clock
        now = clock.steady_ms()
        held = self._grants.get(stored)
        if held is not None and held.expires_at > now:
            return None
        grant = _Grant(owner, now + ttl_ms, clock.wall_ms())
        self._grants[stored] = grant
        if len(self._grants) > self._sweep_at:
            self._sweep(now)
        return MemoryLockHandle(self, key, stored, grant)

    async def extend(self, key: str, ttl: Milliseconds, owner: str) -> bool:
        grant = self.current(self._stored(key))
        ttl_ms = milliseconds(ttl, "ttl")
        if grant is None or grant.owner != owner:
            return False
        grant.expires_at = self.clock.steady_ms() + ttl_ms
        return True

    async def force_release(self, key: str) -> None:
        stored = self._stored(key)
        grant = self._grants.get(stored)
        if grant is not None:
            self.end(stored, grant)

    async def holder(self, key: str) -> LockHolder | None:
        grant = self.current(self._stored(key))
        if grant is None:
            return None
        me = this_process()
        return LockHolder(
            owner=grant.owner,
            host=me.host,
            pid=me.pid,
            since=grant.since,
            expires_in_ms=grant.expires_at - self.clock.steady_ms(),
        )

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``."""
        stored, clock = self._stored(key), self.clock
        limit_ms = math.inf if timeout is None else milliseconds(timeout, "timeout")
        deadline = clock.steady_ms() + limit_ms
        # In a loop, since the holder may extend the lease in the meantime.
        while (grant := self.current(stored)) is not None:
            now = clock.steady_ms()
            if deadline <= now:
                return False
            wait_ms = min(deadline, grant.expires_at) - now
            await self._notifier.wait(stored, wait_ms / 1000, clock)
        return True

    def current(self, stored_key: str) -> _Grant | None:
        """The grant that has neither expired nor ended."""
        grant = self._grants.get(stored_key)
        return grant if grant is not None and grant.expires_at > self.clock.steady_ms() else None

    def is_held(self, stored_key: str, grant: _Grant) -> bool:
        """Whether this grant has neither ended nor been replaced, expired or not."""
        return self._grants.get(stored_key) is grant

    def end(self, stored_key: str, grant: _Grant) -> bool:
        """End this grant and no later one, and wake the waiters; whether it had not ended."""
        held = self.is_held(stored_key, grant)
        if held:
            del self._grants[stored_key]
            self._notifier.notify(stored_key)
        return held

    def _sweep(self, now: int) -> None:
        """Forget expired leases. Runs each time the number of leases has doubled."""
        self._grants = {key: it for key, it in self._grants.items() if it.expires_at > now}
        self._sweep_at = 2 * len(self._grants) + FIRST_SWEEP_AT

    def _stored(self, key: str) -> str:
        return self._start + check_key(key)
