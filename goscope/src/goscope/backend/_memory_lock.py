"""Locks of one process, for every backend whose ``gs.lock`` may be in memory."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Awaitable, Callable, Hashable, Iterable
from threading import get_ident
from typing import Final

import msgspec

from .._tools.clock import Clock
from .._tools.duration import milliseconds
from .._tools.key import check_key
from .._tools.process import ProcessIdentity, this_process, unique_name
from ..errors import BackendError, MemoryLockWarning
from ..providers import LockHolder, Milliseconds
from ._context import StoreContext
from ._lock_table import Grant, LockTable, shared_table

_log: Final = logging.getLogger("goscope")

CHECK_INTERVAL_MS: Final = 5_000
"""How often a lock looks for other processes, until it has found one."""

NEVER_MS: Final = 2**62
"""A steady time that never comes. An int, which is compared faster than an infinity."""


class MemoryLockHandle(msgspec.Struct, eq=False):
    """One grant of an in-memory lock. It has no fencing token and cannot fence a write."""

    key: str
    owner: str
    stored_key: str
    _context: StoreContext
    _table: LockTable
    _grant: Grant
    _released: bool = False
    _lost: bool = False

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
        if not self._context.thread_id:
            self._context.check()
        was_current = self._table.end(self.stored_key, self._grant, self._context.clock)
        self._released = True
        self._lost = not was_current
        return was_current

    async def extend(self, ttl: Milliseconds) -> bool:
        return self._move_expiry(milliseconds(ttl, "ttl"), if_expired=False)

    async def renew(self, ttl: Milliseconds) -> bool:
        return self._move_expiry(milliseconds(ttl, "ttl"), if_expired=True)

    async def is_valid(self) -> bool:
        self._context.check()
        return not self._released and self._is_current()

    def _move_expiry(self, ttl_ms: int, *, if_expired: bool) -> bool:
        self._context.check()
        now = self._context.clock.steady_ms()
        return not self._released and self._table.extend(
            self.stored_key, self._grant, now, ttl_ms, if_expired=if_expired
        )

    def _is_current(self) -> bool:
        grant, now = self._grant, self._context.clock.steady_ms()
        return (
            bool(self._context.thread_id)
            and self._table.get(self.stored_key) is grant
            and grant.expires_at > now
        )


class MemoryLockProvider:
    """Locks in a dictionary; gone with the process.

    It has no base class: without I/O no cancellation can interrupt a grant, and a lock costs a
    tenth of one that is prepared for that.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._start = f"{context.prefix}lock:"
        self._table = LockTable()
        self._others: Callable[[], Awaitable[Iterable[ProcessIdentity]]] | None = None
        self._next_check = NEVER_MS
        context.on_close.append(self._leave)

    def share(self, identity: Hashable | None) -> None:
        """Share the locks with all adapters of this process that pass this identity.

        None: with nobody. Call it while the adapter connects; its locks end when it disconnects,
        those of adapters that are still connected stay.
        """
        self._table = LockTable() if identity is None else shared_table(identity)

    def warn_of(self, others: Callable[[], Awaitable[Iterable[ProcessIdentity]]]) -> None:
        """Warn once when a lock is taken while ``others()`` returns other processes.

        They have the store open, and these locks do not exclude them. It is asked at the first
        lock and then every 5 s at most; its `BackendError` counts as no answer.
        """
        self._others = others
        self._next_check = -NEVER_MS

    async def _check_others(self, now: int) -> None:
        self._next_check = now + CHECK_INTERVAL_MS
        assert self._others is not None  # else the next check never comes
        try:
            others = sorted({(it.host, it.pid) for it in await self._others()})
        except BackendError:
            return
        if others and self._next_check < NEVER_MS:  # a concurrent check may have warned
            self._next_check = NEVER_MS
            named = ", ".join(f"pid {pid} on {host}" for host, pid in others)
            sentence = (
                f"{self._context.name} keeps locks in memory, and they do not exclude other "
                f"processes that have the store open: {named}. Open it with locks='shared' to "
                f"exclude them, or with locks='memory' if no lock is meant to"
            )
            _log.warning(sentence)
            warnings.warn(sentence, MemoryLockWarning, stacklevel=3)

    def _leave(self) -> None:
        table, self._table = self._table, LockTable()
        table.leave(self)

    @property
    def clock(self) -> Clock:
        """The clock that leases expire on."""
        return self._context.clock

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> MemoryLockHandle | None:
        stored = self._start + check_key(key)
        owner = unique_name() if owner is None else check_key(owner, "owner")
        context = self._context
        ttl_ms = context.default_lock_ttl_ms if ttl is None else milliseconds(ttl, "ttl")
        if get_ident() != context.thread_id:
            context.check()
        clock = context.clock
        now = clock.steady_ms()
        if now >= self._next_check:
            await self._check_others(now)
            context.check()
            now = clock.steady_ms()
        grant = Grant(owner, now + ttl_ms, clock.wall_ms())
        table = self._table
        if not table.add(stored, grant, now, self):
            return None
        return MemoryLockHandle(key, owner, stored, context, table, grant)

    async def extend(self, key: str, ttl: Milliseconds, owner: str) -> bool:
        stored = self._start + check_key(key)
        ttl_ms = milliseconds(ttl, "ttl")
        self._context.check()
        grant = self._current(stored)
        if grant is None or grant.owner != owner:
            return False
        return self._table.extend(stored, grant, self.clock.steady_ms(), ttl_ms, if_expired=False)

    async def force_release(self, key: str) -> None:
        stored = self._start + check_key(key)
        self._context.check()
        grant = self._table.get(stored)
        if grant is not None:
            self._table.end(stored, grant, self.clock)

    async def holder(self, key: str) -> LockHolder | None:
        stored = self._start + check_key(key)
        self._context.check()
        grant = self._current(stored)
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

    def grants(self) -> list[tuple[str, Grant]]:
        """The grants of all adapters that share the locks, by stored key, for inspection."""
        return self._table.grants()

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``.

        Raises `ScopeNotOpen` when the adapter disconnects in the meantime.
        """
        stored, clock = self._start + check_key(key), self.clock
        limit_ms = math.inf if timeout is None else milliseconds(timeout, "timeout")
        self._context.check()
        deadline = clock.steady_ms() + limit_ms
        # In a loop, since the holder may extend the lease, or another adapter come first.
        while (until := self._table.blocked_until(stored, clock.steady_ms(), self)) is not None:
            now = clock.steady_ms()
            if deadline <= now:
                return False
            wait_ms = max(min(deadline, until) - now, 0)
            await self._table.wait(stored, wait_ms / 1000, clock, self)
            self._context.check()
        return True

    def _current(self, stored_key: str) -> Grant | None:
        """The grant that has neither expired nor ended."""
        grant = self._table.get(stored_key)
        return grant if grant is not None and grant.expires_at > self.clock.steady_ms() else None
