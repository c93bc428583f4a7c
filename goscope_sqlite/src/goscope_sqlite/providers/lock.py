"""Locks and leases: rows of one table, for the processes of one machine."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from goscope._tools.integer import MAX_INTEGER
from goscope.backend import (
    UNKNOWN_BOOT,
    BaseLockProvider,
    Clock,
    LockNamespace,
    ProcessIdentity,
    StoreContext,
    is_another_boot,
    milliseconds,
    poll_interval_ms,
    this_process,
)
from goscope.errors import BackendCorrupt
from goscope.providers import LockHolder, Milliseconds

from .._engine.protocol import Database, Row
from ..columns import is_integer
from .fence import end_lease
from .lock_queue import QUEUE_HEAD, LockQueue

logger: Final = logging.getLogger("goscope_sqlite")

FULL_CHECK_INTERVAL_MS: Final = 250
"""How often a poll reads the lease although no process has committed: its holder may have died."""

LEASE_COLUMNS: Final = (
    "owner, token, expires_at, boot_id, host, pid, pid_namespace, started, acquired_at"
)
_READ: Final = f"SELECT {LEASE_COLUMNS} FROM go_goscope_locks WHERE key = ?"
_POLL: Final = (
    f"SELECT ({QUEUE_HEAD}), key, {LEASE_COLUMNS} FROM (SELECT ? AS wanted) "
    "LEFT JOIN go_goscope_locks ON key = wanted"
)
_READ_RANGE: Final = (
    f"SELECT key, {LEASE_COLUMNS} FROM go_goscope_locks WHERE key >= ? AND key < ? ORDER BY key"
)
_IS_TOKEN: Final = f"typeof(value) = 'integer' AND value BETWEEN 0 AND {MAX_INTEGER}"
_RAISE_TOKEN: Final = (
    f"UPDATE go_goscope_meta SET value = max(value, ?) WHERE key = 'token' AND {_IS_TOKEN}"
)
_NEXT_TOKEN: Final = (
    "UPDATE go_goscope_meta SET value = value + 1 "
    f"WHERE key = 'token' AND {_IS_TOKEN} RETURNING value"
)
_NEXT_TOKEN_IF_FREE: Final = f"""
    UPDATE go_goscope_meta SET value = value + 1
    WHERE key = 'token' AND {_IS_TOKEN}
        AND NOT EXISTS (SELECT 1 FROM go_goscope_locks WHERE key = ?)
        AND NOT EXISTS (SELECT 1 FROM go_goscope_lock_queue WHERE key = ?)
    RETURNING value
"""
_GRANT: Final = (
    f"INSERT OR REPLACE INTO go_goscope_locks (key, {LEASE_COLUMNS}) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MAY_BE_THIS_BOOT: Final = f"(boot_id IN ('{UNKNOWN_BOOT}', ?) OR ? = '{UNKNOWN_BOOT}')"
"""Both parameters are the id of this boot."""
_EXTEND: Final = f"""
    UPDATE go_goscope_locks SET expires_at = ?
    WHERE key = ? AND token = ? AND expires_at > ? AND {_MAY_BE_THIS_BOOT}
"""
_REMOVE: Final = "DELETE FROM go_goscope_locks WHERE key = ?"
_ABANDONED: Final = f"iif({_MAY_BE_THIS_BOOT}, expires_at <= ?, acquired_at <= ?)"
_READ_ABANDONED: Final = f"""
    SELECT rowid FROM go_goscope_locks WHERE rowid > ? AND {_ABANDONED} ORDER BY rowid LIMIT ?
"""
_REMOVE_ABANDONED: Final = f"DELETE FROM go_goscope_locks WHERE rowid = ? AND {_ABANDONED}"

RETENTION_MS: Final = 86_400_000
"""An expired lease that nobody takes accepts its holder's fenced writes for a day."""


class Lease(NamedTuple):
    """A row of the table without its key; ``expires_at`` is in steady milliseconds of its boot."""

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
        """Milliseconds until it expires; 0 or less once it has expired."""
        if is_another_boot(self.boot_id, clock.boot_id):
            return 0
        return self.expires_at - clock.steady_ms()

    def is_free(self, clock: Clock) -> bool:
        """Whether the lease can be taken: it has expired, or its holder has certainly ended.

        At any doubt it has to expire, since two owners do more harm than a wait.
        """
        return self.left_ms(clock) <= 0 or self.holder_is_gone()

    @property
    def process(self) -> ProcessIdentity:
        """The process of its holder."""
        return ProcessIdentity(self.host, self.pid, self.pid_namespace, self.started)

    def holder_is_gone(self) -> bool:
        """Whether the process of its holder has certainly ended."""
        return self.process != this_process() and self.process.is_gone()

    def holder(self, clock: Clock) -> LockHolder:
        return LockHolder(
            owner=self.owner,
            host=self.host,
            pid=self.pid,
            since=self.acquired_at,
            expires_in_ms=self.left_ms(clock),
            fencing_token=self.token,
        )


_TYPES: Final = [str, int, int, str, str, int, str, str, int]

_NO_TOKEN: Final = (
    "the counter of fencing tokens, the row 'token' of go_goscope_meta, is missing or is not a "
    "number. No lock or lease can be granted: a token must be greater than all earlier ones, which "
    "nobody knows. Restore the file from a backup, or write a number into the row that is greater "
    "than every token you may have passed to another system"
)


class _PollResult(NamedTuple):
    """The result of a poll, valid until ``until`` as long as the file has this ``version``."""

    version: int | None
    until: int
    is_head: bool
    is_free: bool


def _head_and_lease(row: Row) -> tuple[str | None, Lease | None]:
    """The head of the queue and the lease, from a row of `_POLL`."""
    head, key, *columns = row
    return head, None if key is None else read_lease(key, columns)


def read_lease(key: object, columns: Sequence[object]) -> Lease:
    """The lease in a row. Raises `BackendCorrupt` for what no goscope wrote."""
    if list(map(type, columns)) != _TYPES or not all(map(is_integer, columns[1:3])):
        raise BackendCorrupt(
            f"the lease in the row of go_goscope_locks with the key {key!r} cannot be read, so "
            f"nobody knows whether it is held: {tuple(columns)!r:.300}. If its holder has ended, "
            f"delete the row, for gs.lock with force_release"
        )
    return Lease._make(columns)


def remove(connection: sqlite3.Connection, key: str) -> None:
    """End the current grant, whatever its token, as part of a write."""
    connection.execute(_REMOVE, (key,))


class SQLiteLockProvider(BaseLockProvider):
    """Locks in the file."""

    def __init__(self, context: StoreContext, database: Database, namespace: LockNamespace) -> None:
        super().__init__(context, namespace)
        self._database = database
        self._queue = LockQueue(context, database)

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``.

        A release by this adapter is noticed at once, a release by another process within 50 ms, the
        expiry of the lease at its time, and the death of its holder within 300 ms. Processes that
        have waited for more than 100 ms are served in order: for the others the lock is not free.
        """
        stored = self.stored(key)
        clock = self.context.clock
        end = None if timeout is None else clock.steady_ms() + milliseconds(timeout, "timeout")
        try:
            is_free = await self._wait_free(stored, end)
        except asyncio.CancelledError:
            self._queue.dequeue(stored)
            raise
        if not is_free:
            self._queue.dequeue(stored)
        return is_free

    async def _wait_free(self, key: str, end: int | None) -> bool:
        """Poll the lock. Return True once it may be free, False after ``end``."""
        clock = self.context.clock
        poll: _PollResult | None = None
        head_since: int | None = None
        notified = False
        while True:
            waited = self._queue.record_poll(key)
            if self._queue.is_heartbeat_due(key):
                await self._queue.heartbeat(key)
            version = self._database.version()
            if (
                poll is None
                or notified
                or version is None
                or version != poll.version
                or clock.steady_ms() >= poll.until
            ):
                poll = await self._poll(key, version)
            # No await from here to the pause: all decisions are about the same moment.
            now = clock.steady_ms()
            if poll.is_free:
                return True
            if end is not None and end <= now:
                return False
            head_since = (head_since or now) if poll.is_head else None
            # Counted from when it became the head: until it polls, no process can take the lock.
            pause = poll_interval_ms(waited if head_since is None else now - head_since)
            until = poll.until if end is None else min(poll.until, end)
            self.context.check()  # it may have been closed during the read
            notified = await self.notifier.wait(key, min(pause, until - now) / 1000, clock)
            if notified:
                self.context.check()  # it may be the adapter that closes

    async def _poll(self, key: str, version: int | None) -> _PollResult:
        """Read the lease and the head of the queue, and check that the holder is alive."""
        row = await self._database.read_one(_POLL, (*self._queue.head_params(key), key))
        assert row is not None  # of a left join to one row
        head, lease = _head_and_lease(row)
        is_head = self._queue.may_take(head)
        clock = self.context.clock
        is_free = is_head and (lease is None or lease.is_free(clock))
        left = 0 if lease is None else lease.left_ms(clock)
        until = clock.steady_ms() + (
            min(left, FULL_CHECK_INTERVAL_MS) if left > 0 else FULL_CHECK_INTERVAL_MS
        )
        return _PollResult(version, until, is_head, is_free)

    # --- primitives --------------------------------------------------------------------------

    def _grant(self, key: str, owner: str, ttl_ms: int) -> Awaitable[int | None]:
        clock = self.context.clock
        is_queued, is_waiting = self._queue.is_queued(key), self._queue.is_waiting(key)

        def grant(connection: sqlite3.Connection) -> int | None:
            # One statement for a free lock without a queue, the usual case; else one more read.
            rows = connection.execute(_NEXT_TOKEN_IF_FREE, (key, key)).fetchall()
            if not rows:
                row = connection.execute(_POLL, (*self._queue.head_params(key), key)).fetchall()[0]
                head, lease = _head_and_lease(row)
                if not (self._queue.may_take(head) and (lease is None or lease.is_free(clock))):
                    return None
                if is_queued:
                    self._queue.delete(connection, key)
                rows = connection.execute(_NEXT_TOKEN).fetchall()
            if not rows:
                raise BackendCorrupt(_NO_TOKEN)
            token: int = rows[0][0]
            me = this_process()
            expires_at = clock.steady_ms() + ttl_ms
            process = (me.host, me.pid, me.namespace, me.started)
            lease = Lease(owner, token, expires_at, clock.boot_id, *process, clock.wall_ms())
            connection.execute(_GRANT, (key, *lease))
            return token

        granting = self._database.submit(grant)
        if is_waiting:
            granting.add_done_callback(partial(self._forget_if_granted, key))
        return granting

    def _adopt(self, key: str, holder: LockHolder) -> Awaitable[int | None]:
        clock = self.context.clock

        def adopt(connection: sqlite3.Connection) -> int | None:
            connection.execute(_RAISE_TOKEN, (holder.fencing_token or 0,))
            rows = connection.execute(_READ, (key,)).fetchall()
            if rows and not read_lease(key, rows[0]).is_free(clock):
                return None
            rows = connection.execute(_NEXT_TOKEN).fetchall()
            if not rows:
                raise BackendCorrupt(_NO_TOKEN)
            token: int = rows[0][0]
            expires_at = clock.steady_ms() + holder.expires_in_ms
            # Namespace and start stay unknown: the death of the process proves nothing here.
            process = (holder.host, holder.pid, "", "")
            lease = Lease(holder.owner, token, expires_at, clock.boot_id, *process, holder.since)
            connection.execute(_GRANT, (key, *lease))
            return token

        return self._database.submit(adopt)

    def _forget_if_granted(self, key: str, granting: asyncio.Future[int | None]) -> None:
        if not granting.cancelled() and granting.exception() is None and granting.result():
            self._queue.forget(key)

    def _extend(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        return self._move_expiry(key, token, ttl_ms, if_expired=False)

    def _renew(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        return self._move_expiry(key, token, ttl_ms, if_expired=True)

    def _move_expiry(
        self, key: str, token: int, ttl_ms: int, *, if_expired: bool
    ) -> Awaitable[bool]:
        clock = self.context.clock

        def extend(connection: sqlite3.Connection) -> bool:
            now = clock.steady_ms()
            still_runs_at = 0 if if_expired else now
            boot_id = clock.boot_id
            parameters = (now + ttl_ms, key, token, still_runs_at, boot_id, boot_id)
            return connection.execute(_EXTEND, parameters).rowcount > 0

        return self._database.submit(extend, autocommit=True)

    def _release(self, key: str, token: int) -> Awaitable[bool]:
        return self._database.submit(
            lambda connection: end_lease(connection, key, token), autocommit=True
        )

    def _remove(self, key: str) -> Awaitable[None]:
        return self._database.submit(lambda connection: remove(connection, key), autocommit=True)

    async def _holder(self, key: str) -> LockHolder | None:
        lease = await self._read(key)
        return None if lease is None else lease.holder(self.context.clock)

    async def _read(self, key: str) -> Lease | None:
        row = await self._database.read_one(_READ, (key,))
        return None if row is None else read_lease(key, row)


async def abandoned_rows(database: Database, after: int, clock: Clock, limit: int) -> list[int]:
    """Leases that expired more than a day ago or, from an earlier boot, were granted then.

    The next ``limit`` rows after this one.
    """
    rows = await database.read_all(_READ_ABANDONED, (after, *_abandoned_params(clock), limit))
    return [row[0] for row in rows]


def remove_abandoned(connection: sqlite3.Connection, rowids: Iterable[int], clock: Clock) -> int:
    """Delete those leases that are still abandoned, as part of a write. Return how many."""
    parameters = _abandoned_params(clock)
    return sum(
        connection.execute(_REMOVE_ABANDONED, (rowid, *parameters)).rowcount for rowid in rowids
    )


def _abandoned_params(clock: Clock) -> tuple[str, str, int, int]:
    boot_id = clock.boot_id
    return boot_id, boot_id, clock.steady_ms() - RETENTION_MS, clock.wall_ms() - RETENTION_MS
