"""Leases as rows of one table, for the processes of one machine."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Iterable
from functools import partial
from typing import Final, NamedTuple

from goscope.backend import (
    BaseLockProvider,
    Clock,
    LockNamespace,
    ProcessIdentity,
    StoreContext,
    milliseconds,
    poll_interval_ms,
    this_process,
)
from goscope.providers import LockHolder, Milliseconds

from .._engine.protocol import Database, Row
from ..columns import prefix_successor
from .fence import end_lease
from .lock_queue import FIRST, Line

FULL_CHECK_INTERVAL_MS: Final = 250
"""How often a poll reads the lease although no other process has committed: its holder may have
died."""

_COLUMNS: Final = (
    "owner, token, expires_at, boot_id, host, pid, pid_namespace, started, acquired_at"
)
_READ: Final = f"SELECT {_COLUMNS} FROM go_goscope_locks WHERE key = ?"
_LOOK: Final = (
    f"SELECT ({FIRST}), {_COLUMNS} FROM (SELECT ? AS wanted) "
    "LEFT JOIN go_goscope_locks ON key = wanted"
)
_READ_RANGE: Final = (
    f"SELECT key, {_COLUMNS} FROM go_goscope_locks WHERE key >= ? AND key < ? ORDER BY key"
)
_NEXT_TOKEN: Final = (
    "UPDATE go_goscope_meta SET value = value + 1 WHERE key = 'token' RETURNING value"
)
_NEXT_TOKEN_IF_FREE: Final = """
    UPDATE go_goscope_meta SET value = value + 1
    WHERE key = 'token'
        AND NOT EXISTS (SELECT 1 FROM go_goscope_locks WHERE key = ?)
        AND NOT EXISTS (SELECT 1 FROM go_goscope_lock_queue WHERE key = ?)
    RETURNING value
"""
_GRANT: Final = (
    f"INSERT OR REPLACE INTO go_goscope_locks (key, {_COLUMNS}) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_EXTEND: Final = """
    UPDATE go_goscope_locks SET expires_at = ?
    WHERE key = ? AND token = ? AND expires_at > ? AND boot_id = ?
"""
_REMOVE: Final = "DELETE FROM go_goscope_locks WHERE key = ?"
_ABANDONED: Final = "(boot_id = ? AND expires_at <= ? OR boot_id <> ? AND acquired_at <= ?)"
_READ_ABANDONED: Final = f"SELECT key FROM go_goscope_locks WHERE {_ABANDONED} LIMIT ?"
_REMOVE_ABANDONED: Final = f"DELETE FROM go_goscope_locks WHERE key = ? AND {_ABANDONED}"

KEPT_MS: Final = 86_400_000
"""A lease that ran out still fences its holder's writes for a day, unless it is taken."""


class Lease(NamedTuple):
    """A row of the table, without its key; ``expires_at`` in steady milliseconds of that boot."""

    owner: str
    token: int
    expires_at: int
    boot_id: str
    host: str
    pid: int
    pid_namespace: str
    started: str
    acquired_at: int

    def left_ms(self, clock: Clock) -> int:
        """How much longer it runs; 0 or less once it has run out."""
        return self.expires_at - clock.steady_ms() if self.boot_id == clock.boot_id else 0

    def is_free(self, clock: Clock) -> bool:
        """Whether the lease may be taken: it ran out, or its holder certainly died."""
        return self.left_ms(clock) <= 0 or self.holder_is_gone()

    def holder_is_gone(self) -> bool:
        """Whether its holder certainly died."""
        process = ProcessIdentity(self.host, self.pid, self.pid_namespace, self.started)
        return process != this_process() and process.is_gone()

    def holder(self, clock: Clock) -> LockHolder:
        return LockHolder(
            owner=self.owner,
            host=self.host,
            pid=self.pid,
            since=self.acquired_at,
            expires_in_ms=self.left_ms(clock),
            fencing_token=self.token,
        )


class _Look(NamedTuple):
    """What a poll found: outdated at ``until``, or once ``version`` is no longer the file's."""

    version: int | None
    until: int
    is_next: bool
    is_free: bool


def _first_and_lease(row: Row) -> tuple[str | None, Lease | None]:
    """Who is first in the line and which lease there is, of a row of `_LOOK`."""
    first, *columns = row
    return first, None if columns[0] is None else Lease._make(columns)


def remove(connection: sqlite3.Connection, key: str) -> None:
    """End whatever grant there is, as part of a write."""
    connection.execute(_REMOVE, (key,))


class SQLiteLockProvider(BaseLockProvider):
    """Locks in the file."""

    def __init__(self, context: StoreContext, database: Database, namespace: LockNamespace) -> None:
        super().__init__(context, namespace)
        self._database = database
        self._line = Line(context, database)

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``.

        A release by this adapter is noticed at once, one by another process within 50 ms, the end
        of the lease at its time, the death of its holder within 300 ms. Processes that wait for
        longer than 100 ms take turns: the lock counts as free for the one that has waited longest.
        """
        stored = self.stored(key)
        clock = self.context.clock
        end = None if timeout is None else clock.steady_ms() + milliseconds(timeout, "timeout")
        try:
            is_free = await self._poll(stored, end)
        except asyncio.CancelledError:
            self._line.leave(stored)
            raise
        if not is_free:
            self._line.leave(stored)
        return is_free

    async def _poll(self, key: str, end: int | None) -> bool:
        """Look at the lock again and again: True once it may be free, False after ``end``."""
        clock = self.context.clock
        look: _Look | None = None
        next_since: int | None = None
        notified = False
        while True:
            waited = self._line.wait(key)
            if self._line.is_due(key):
                await self._line.show(key)
            version = self._database.version()
            if (
                look is None
                or notified
                or version is None
                or version != look.version
                or clock.steady_ms() >= look.until
            ):
                look = await self._look(key, version)
            # From here to the pause nothing is awaited, so that one moment is judged.
            now = clock.steady_ms()
            if look.is_free:
                return True
            if end is not None and end <= now:
                return False
            next_since = (next_since or now) if look.is_next else None
            # From when it became the head: nobody else may take the lock while it does not look.
            pause = poll_interval_ms(waited if next_since is None else now - next_since)
            until = look.until if end is None else min(look.until, end)
            notified = await self.notifier.wait(key, min(pause, until - now) / 1000, clock)

    async def _look(self, key: str, version: int | None) -> _Look:
        """Read the lease and whose turn it is; see whether the holder's process is there."""
        row = await self._database.read_one(_LOOK, (*self._line.first_of(key), key))
        assert row is not None  # of a left join to one row
        first, lease = _first_and_lease(row)
        is_next = self._line.is_next(first)
        clock = self.context.clock
        is_free = is_next and (lease is None or lease.is_free(clock))
        left = 0 if lease is None else lease.left_ms(clock)
        until = clock.steady_ms() + (
            min(left, FULL_CHECK_INTERVAL_MS) if left > 0 else FULL_CHECK_INTERVAL_MS
        )
        return _Look(version, until, is_next, is_free)

    async def held(self) -> AsyncIterator[tuple[str, LockHolder]]:
        """Every grant of this prefix and namespace that was not released, by stored key."""
        start = f"{self.context.prefix}{self.namespace}:"
        for row in await self._database.read_all(_READ_RANGE, (start, prefix_successor(start))):
            yield row[0], Lease._make(row[1:]).holder(self.context.clock)

    # --- primitives --------------------------------------------------------------------------

    def _grant(self, key: str, owner: str, ttl_ms: int) -> Awaitable[int | None]:
        clock = self.context.clock
        in_line, waited = self._line.is_in(key), self._line.has_place(key)

        def grant(connection: sqlite3.Connection) -> int | None:
            # One statement where it is free, as it mostly is, and another look where it is not.
            rows = connection.execute(_NEXT_TOKEN_IF_FREE, (key, key)).fetchall()
            if not rows:
                row = connection.execute(_LOOK, (*self._line.first_of(key), key)).fetchall()[0]
                first, lease = _first_and_lease(row)
                if not (self._line.is_next(first) and (lease is None or lease.is_free(clock))):
                    return None
                if in_line:
                    self._line.remove(connection, key)
                rows = connection.execute(_NEXT_TOKEN).fetchall()
            token: int = rows[0][0]
            me = this_process()
            expires_at = clock.steady_ms() + ttl_ms
            process = (me.host, me.pid, me.namespace, me.started)
            lease = Lease(owner, token, expires_at, clock.boot_id, *process, clock.wall_ms())
            connection.execute(_GRANT, (key, *lease))
            return token

        granting = self._database.submit(grant)
        if waited:
            granting.add_done_callback(partial(self._leave_if_granted, key))
        return granting

    def _leave_if_granted(self, key: str, granting: asyncio.Future[int | None]) -> None:
        if not granting.cancelled() and granting.exception() is None and granting.result():
            self._line.forget(key)

    def _extend(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        clock = self.context.clock

        def extend(connection: sqlite3.Connection) -> bool:
            now = clock.steady_ms()
            parameters = (now + ttl_ms, key, token, now, clock.boot_id)
            return connection.execute(_EXTEND, parameters).rowcount > 0

        return self._database.submit(extend, one_statement=True)

    def _release(self, key: str, token: int) -> Awaitable[None]:
        return self._database.submit(
            lambda connection: end_lease(connection, key, token), one_statement=True
        )

    def _remove(self, key: str) -> Awaitable[None]:
        return self._database.submit(lambda connection: remove(connection, key), one_statement=True)

    async def _holder(self, key: str) -> LockHolder | None:
        lease = await self._read(key)
        return None if lease is None else lease.holder(self.context.clock)

    async def _read(self, key: str) -> Lease | None:
        row = await self._database.read_one(_READ, (key,))
        return None if row is None else Lease._make(row)


async def abandoned_keys(database: Database, clock: Clock, limit: int) -> list[str]:
    """Leases that ran out a day ago; of those from another boot, that were taken a day ago."""
    rows = await database.read_all(_READ_ABANDONED, (*_abandoned(clock), limit))
    return [row[0] for row in rows]


def remove_abandoned(connection: sqlite3.Connection, keys: Iterable[str], clock: Clock) -> int:
    """Remove those of the leases that are abandoned, as part of a write; how many."""
    parameters = _abandoned(clock)
    return sum(connection.execute(_REMOVE_ABANDONED, (key, *parameters)).rowcount for key in keys)


def _abandoned(clock: Clock) -> tuple[str, int, str, int]:
    boot_id = clock.boot_id
    return boot_id, clock.steady_ms() - KEPT_MS, boot_id, clock.wall_ms() - KEPT_MS
