"""Locks and leases: rows of one table, for several machines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from goscope.backend import (
    BaseLockProvider,
    LockNamespace,
    StoreContext,
    milliseconds,
    poll_interval_ms,
    this_process,
)
from goscope.providers import LockHolder, Milliseconds

from .._engine.database import Database, Row
from .._engine.listener import Listener
from ..schema import Tables
from .lock_queue import HEAD, NOTIFY_HEAD, NOTIFY_QUEUE, QUEUE_AFTER_MS, LockQueue
from .times import after, epoch_ms

LISTENING_POLL_MS: Final = 250
"""How often a process that is notified polls all the same: a holder or a head may have died."""

_COUNT_UP: Final = """
    SELECT CASE WHEN next > clock THEN next ELSE setval('{token}', clock) END
    FROM (
        SELECT nextval('{token}') AS next,
            (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock
        OFFSET 0
    ) AS raised
"""
"""The next number: above every earlier one, and at least the time in microseconds.

With synchronous_commit=off a crash may forget the last numbers of a sequence. The time is above
all of them. The sequence alone keeps the order while the clock of the server is set back.
"""
_TOKEN: Final = f"({_COUNT_UP}) + (SELECT token_offset FROM {{meta}})"
"""The next token. The offset is 0 unless the tokens of another store, which was moved here, were
ahead of the clock. Raising the sequence instead would race with grants that set it to the clock."""

_RAISE_TOKENS: Final = f"""
    WITH raised AS MATERIALIZED (SELECT $1::bigint - ({_COUNT_UP}) AS token_offset)
    UPDATE {{meta}} AS m SET token_offset = greatest(m.token_offset, raised.token_offset)
    FROM raised WHERE m.token_offset < raised.token_offset RETURNING 1
"""
"""Later tokens are above $1."""

_GRANT: Final = f"""
    WITH refused AS MATERIALIZED (
        SELECT 1 FROM {{lease}} WHERE key = $1 AND expires_at > clock_timestamp()
        UNION ALL
        SELECT 1 FROM ({HEAD}) AS head WHERE head.waiter <> $3
    ),
    turn AS MATERIALIZED (
        SELECT pg_advisory_xact_lock(hashtextextended($1, 0))
        WHERE NOT EXISTS (SELECT 1 FROM refused)
    ),
    granted AS (
        INSERT INTO {{lease}} AS l (key, owner, token, expires_at, acquired_at, host, pid)
        SELECT $1, $2, {_TOKEN}, {after("clock_timestamp()", "$4::bigint")},
            ACQUIRED_AT, $5, $6
        FROM turn
        ON CONFLICT (key) DO UPDATE SET
            owner = excluded.owner,
            token = greatest(excluded.token, l.token + 1),
            expires_at = excluded.expires_at,
            acquired_at = excluded.acquired_at,
            host = excluded.host,
            pid = excluded.pid
        WHERE l.expires_at <= clock_timestamp()
        RETURNING token
    ),
    dequeued AS (
        DELETE FROM {{queue}}
        WHERE key = $1 AND waiter = $3 AND EXISTS (SELECT 1 FROM granted)
    )
    SELECT token FROM granted
"""
"""One round trip. A lock that is held costs one read; tries for a free one queue up for its key,
so that later grants have greater tokens. ``ACQUIRED_AT`` is the marker of a time."""

_EXTEND: Final = f"""
    UPDATE {{lease}} SET expires_at = {after("clock_timestamp()", "$3::bigint")}
    WHERE key = $1 AND token = $2 AND expires_at > clock_timestamp() RETURNING 1
"""
_RENEW: Final = f"""
    UPDATE {{lease}} SET expires_at = {after("clock_timestamp()", "$3::bigint")}
    WHERE key = $1 AND token = $2 RETURNING 1
"""
_RELEASE: Final = """
    WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
    ended AS (DELETE FROM {lease} WHERE key = $1 AND token = $2 RETURNING key), NOTIFY
    SELECT (SELECT count(*) FROM ended) > 0, (SELECT count(*) FROM notified),
        (SELECT count(*) FROM relaxed)
"""
"""Does not wait for the disk: 0.2 ms instead of 1.2 ms on a busy one. A crash of the server that
forgets the release lets the lease run until its expiry."""
_REMOVE: Final = """
    WITH ended AS (DELETE FROM {lease} WHERE key = $1 RETURNING key), NOTIFY
    SELECT count(*) FROM notified
"""
HOLDER_COLUMNS: Final = f"""
    owner, host, pid, {epoch_ms("acquired_at")}, {epoch_ms("expires_at")}
        - {epoch_ms("clock_timestamp()")}, token
"""
_HOLDER: Final = f"SELECT {HOLDER_COLUMNS} FROM {{lease}} WHERE key = $1"
_POLL: Final = f"""
    SELECT ({HEAD}),
        (SELECT {epoch_ms("expires_at")} - {epoch_ms("clock_timestamp()")}
        FROM {{lease}} WHERE key = $1)
"""


class PostgresLockProvider(BaseLockProvider):
    """Locks in the database."""

    def __init__(
        self,
        context: StoreContext,
        database: Database,
        tables: Tables,
        namespace: LockNamespace,
        queue: LockQueue,
        listener: Listener,
    ) -> None:
        super().__init__(context, namespace)
        self._database = database
        self._queue = queue
        self._listener = listener
        # One process gets a lock. What a feature's lease guards may be done when it ends.
        notify = NOTIFY_HEAD if namespace == "lock" else NOTIFY_QUEUE
        self._sql_grant = tables.fill(_GRANT.replace("ACQUIRED_AT", "clock_timestamp()"))
        self._sql_adopt = tables.fill(_GRANT.replace("ACQUIRED_AT", "to_timestamp($7 / 1000.0)"))
        self._sql_raise_tokens = tables.fill(_RAISE_TOKENS)
        self._sql_extend = tables.fill(_EXTEND)
        self._sql_renew = tables.fill(_RENEW)
        self._sql_release = tables.fill(_RELEASE.replace("NOTIFY", notify))
        self._sql_remove = tables.fill(_REMOVE.replace("NOTIFY", notify))
        self._sql_holder = tables.fill(_HOLDER)
        self._sql_poll = tables.fill(_POLL)

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``.

        Processes are served in the order in which they began to wait: for the others the lock is
        not free. With a direct connection a release is notified; behind a pooler it is noticed
        within 50 ms. The expiry of the lease is noticed at its time.
        """
        stored, clock = self.stored(key), self.context.clock
        end = None if timeout is None else clock.steady_ms() + milliseconds(timeout, "timeout")
        is_free = False
        try:
            is_free = await self._wait_free(stored, end)
        finally:
            if is_free:
                self._queue.dequeue_if_unused(stored)
            else:
                self._queue.dequeue(stored)
        return is_free

    async def _wait_free(self, key: str, end: int | None) -> bool:
        clock, queue = self.context.clock, self._queue
        while True:
            is_listening = await self._listener.start()
            waited = queue.record_poll(key)
            await queue.heartbeat_if_due(key, 0 if is_listening else QUEUE_AFTER_MS)
            [(head, left_ms)] = await self._database.read(self._sql_poll, key)
            if head in (None, queue.me) and (left_ms is None or left_ms <= 0):
                return True
            now = clock.steady_ms()
            pause = LISTENING_POLL_MS if is_listening else poll_interval_ms(waited)
            if left_ms is not None and left_ms > 0:
                pause = min(pause, left_ms)
            if end is not None:
                if end <= now:
                    return False
                pause = min(pause, end - now)
            self.context.check()  # it may have been closed during the read
            if await self.notifier.wait(key, pause / 1000, clock):
                self.context.check()  # it may be the adapter that closes
                return True

    def _grant(self, key: str, owner: str, ttl_ms: int) -> Awaitable[int | None]:
        me = this_process()
        arguments = (key, owner, self._queue.me, ttl_ms, me.host, me.pid)
        return self._submit_grant(self._sql_grant, *arguments)

    async def _adopt(self, key: str, holder: LockHolder) -> int | None:
        if holder.fencing_token is not None:
            await self._database.write(self._sql_raise_tokens, holder.fencing_token)
        arguments = (key, holder.owner, self._queue.me, holder.expires_in_ms)
        process = (holder.host, holder.pid, holder.since)
        return await self._submit_grant(self._sql_adopt, *arguments, *process)

    def _submit_grant(self, sql: str, key: str, *arguments: Any) -> asyncio.Future[int | None]:
        def decode(rows: list[Row]) -> int | None:
            if not rows:
                return None
            self._queue.forget(key)
            token: int = rows[0][0]
            return token

        return self._database.submit(decode, sql, key, *arguments)

    def _extend(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        return self._database.submit(bool, self._sql_extend, key, token, ttl_ms)

    def _renew(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        return self._database.submit(bool, self._sql_renew, key, token, ttl_ms)

    def _release(self, key: str, token: int) -> Awaitable[bool]:
        return self._database.submit(_first, self._sql_release, key, token)

    async def _remove(self, key: str) -> None:
        await self._database.write(self._sql_remove, key)

    async def _holder(self, key: str) -> LockHolder | None:
        rows = await self._database.read(self._sql_holder, key)
        return _holder(rows[0]) if rows else None


def _first(rows: list[Row]) -> bool:
    first: bool = rows[0][0]
    return first


def _holder(row: Row) -> LockHolder:
    return LockHolder(
        owner=row[0],
        host=row[1],
        pid=row[2],
        since=row[3],
        expires_in_ms=row[4],
        fencing_token=row[5],
    )
