"""Locks and leases: rows of one table, for all processes that reach the server."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from goscope.backend import (
    BaseLockProvider,
    LockNamespace,
    StoreContext,
    milliseconds,
    poll_interval_ms,
    this_process,
)
from goscope.errors import BackendUnavailable
from goscope.providers import LockHolder, Milliseconds

from .._engine.connection import Result, Statement
from .._engine.database import Database
from .._engine.errors import NoAnswer
from ..columns import placeholders
from .fence import RELEASE
from .lock_queue import MAY_TAKE, LockQueue

RETENTION_US: Final = 86_400_000_000
"""An expired lease that nobody takes accepts its holder's fenced writes for a day."""

NOT_HEAD_POLL_MS: Final = 250
"""How often a process that is not the head looks at the lock all the same."""

_FREE: Final = "{leases}.expires_at <= new.now"

# Assignments see the earlier ones, so the expiry comes last. LAST_INSERT_ID(x) reports x as the
# outcome: the new token, or 0.
_GRANT: Final = f"""
    INSERT INTO {{leases}}
        (`key`, last_token, token, owner, host, pid, grant_id, acquired_at, expires_at)
    SELECT ?, new.token, new.token, ?, ?, ?, ?, ACQUIRED_AT, new.now + ?
    FROM (
        SELECT
            LAST_INSERT_ID(GREATEST(
                CAST(value AS SIGNED) + 1, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))
            )) AS token,
            {{now}} AS now
        FROM {{meta}} WHERE name = 'token' LIMIT 1
    ) AS new
    WHERE NOT EXISTS (
        SELECT 1 FROM {{leases}} AS held WHERE held.`key` = ? AND held.expires_at > {{now}}
    ) AND {MAY_TAKE}
    ON DUPLICATE KEY UPDATE
        last_token = IF(
            {_FREE},
            LAST_INSERT_ID(GREATEST({{leases}}.last_token + 1, new.token)),
            {{leases}}.last_token + LAST_INSERT_ID(0)
        ),
        token = IF({_FREE}, {{leases}}.last_token, {{leases}}.token),
        owner = IF({_FREE}, ?, {{leases}}.owner),
        host = IF({_FREE}, ?, {{leases}}.host),
        pid = IF({_FREE}, ?, {{leases}}.pid),
        grant_id = IF({_FREE}, ?, {{leases}}.grant_id),
        acquired_at = IF({_FREE}, ACQUIRED_AT, {{leases}}.acquired_at),
        expires_at = IF({_FREE}, new.now + ?, {{leases}}.expires_at)
"""
"""Grants a free lease in one statement. A held one is only read: its contenders lock no row.

A token is at least the server's time, also that of a clock which was set back: so it is greater
than all earlier ones of the key, even if the server lost its last transactions in a crash.
``ACQUIRED_AT`` is the marker of a time.
"""
_GRANT_NOW: Final = _GRANT.replace("ACQUIRED_AT", "new.now")
_GRANT_AS_ACQUIRED: Final = _GRANT.replace("ACQUIRED_AT", "?")
_GRANTED: Final = "SELECT token FROM {leases} WHERE `key` = ? AND grant_id = ? AND token <> 0"
_EXTEND: Final = """
    UPDATE {leases} SET expires_at = {now} + ? WHERE `key` = ? AND token = ? AND expires_at > {now}
"""
_RENEW: Final = "UPDATE {leases} SET expires_at = {now} + ? WHERE `key` = ? AND token = ?"
_REMOVE: Final = "UPDATE {leases} SET token = 0, expires_at = 0 WHERE `key` = ?"
HOLDER: Final = "owner, host, pid, acquired_at, expires_at - {now}, token"
_READ: Final = f"SELECT {HOLDER} FROM {{leases}} WHERE `key` = ? AND token <> 0"
_ABANDONED: Final = f"expires_at <= {{now}} - {RETENTION_US}"
_ABANDONED_KEYS: Final = f"SELECT `key` FROM {{leases}} WHERE {_ABANDONED} LIMIT ?"
_RAISE_TOKENS: Final = """
    UPDATE {meta} SET value = GREATEST(CAST(value AS SIGNED), ?)
    WHERE name = 'token' AND CAST(value AS SIGNED) < ?
"""
"""Later tokens are above this one."""


class MySQLLockProvider(BaseLockProvider):
    """Locks on the server."""

    def __init__(self, context: StoreContext, database: Database, namespace: LockNamespace) -> None:
        super().__init__(context, namespace)
        self._database = database
        self.queue: Final = LockQueue(context, database, self.notifier.notify)

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``.

        The processes that wait are served in order: for others the lock is not free. The first one
        notices a release by another process within 25 ms, the expiry of the lease at its time, and
        a release by this adapter at once.
        """
        stored, clock = self.stored(key), self.context.clock
        end = None if timeout is None else clock.steady_ms() + milliseconds(timeout, "timeout")
        self.context.check()
        is_free = False
        place = self.queue.join(stored)
        try:
            is_free = await self._wait_free(stored, end)
        finally:
            self.queue.stop_waiting(stored, place, may_take=is_free)
        return is_free

    async def _wait_free(self, key: str, end: int | None) -> bool:
        """Poll the lock. Return True once it may be free, False after ``end``."""
        clock = self.context.clock
        head_since: int | None = None
        while True:
            self.context.check()  # what ended the pause may be the adapter that closes
            holder = await self._holder(key)
            self.context.check()  # it may have been closed during the read
            left = 0 if holder is None else holder.expires_in_ms
            # No await from here to the pause: all decisions are about the same moment.
            now, may_take = clock.steady_ms(), self.queue.may_take(key)
            if left <= 0 and may_take:
                return True
            if end is not None and end <= now:
                return False
            if may_take:
                head_since = head_since or now
                interval = poll_interval_ms(now - head_since)
                # Only the head of a queue polls, so it may do so twice as often.
                pause = min(interval / 2 if self.queue.is_head(key) else interval, left)
            else:
                pause = NOT_HEAD_POLL_MS
            await self.notifier.wait(
                key, min(pause, pause if end is None else end - now) / 1000, clock
            )

    # --- primitives --------------------------------------------------------------------------

    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        me, grant_id = this_process(), secrets.randbits(63)
        columns = (owner, me.host, me.pid, grant_id, ttl_ms * 1000)
        return await self._write_grant(_GRANT_NOW, key, grant_id, columns)

    async def _adopt(self, key: str, holder: LockHolder) -> int | None:
        if holder.fencing_token is not None:
            await self._database.write(_RAISE_TOKENS, (holder.fencing_token,) * 2)
        grant_id = secrets.randbits(63)
        process = (holder.owner, holder.host, holder.pid, grant_id)
        columns = (*process, holder.since * 1000, holder.expires_in_ms * 1000)
        return await self._write_grant(_GRANT_AS_ACQUIRED, key, grant_id, columns)

    async def _write_grant(
        self, sql: str, key: str, grant_id: int, columns: tuple[str | int, ...]
    ) -> int | None:
        parameters = (key, *columns, key, *self.queue.may_take_params(key), *columns)
        try:
            result = await self._database.write(sql, parameters)
        except NoAnswer:
            raise
        except BackendUnavailable:
            # Its answer may be lost, and nobody else could release the lease.
            rows = await self._database.read(_GRANTED, (key, grant_id))
            if not rows:
                raise
            token: int = rows[0][0]
        else:
            token = result.insert_id if result.affected else 0
        if token:
            self.queue.leave(key)
        return token or None

    async def _extend(self, key: str, token: int, ttl_ms: int) -> bool:
        result = await self._database.write(_EXTEND, (ttl_ms * 1000, key, token), repeatable=True)
        return result.affected > 0

    async def _renew(self, key: str, token: int, ttl_ms: int) -> bool:
        result = await self._database.write(_RENEW, (ttl_ms * 1000, key, token), repeatable=True)
        return result.affected > 0

    async def _release(self, key: str, token: int) -> bool | None:
        try:
            return (await self._database.write(RELEASE, (key, token))).affected > 0
        except NoAnswer:
            raise
        except BackendUnavailable:
            # The answer may be lost: if this one finds nothing, it was the first, or another's.
            result = await self._database.write(RELEASE, (key, token))
            return True if result.affected else None

    async def _remove(self, key: str) -> None:
        await self._database.write(_REMOVE, (key,))

    async def _holder(self, key: str) -> LockHolder | None:
        rows = await self._database.read(_READ, (key,))
        return _decode(rows[0]) if rows else None


async def abandoned_keys(database: Database, limit: int) -> list[str]:
    """Leases that were released, or expired more than a day ago."""
    return [row[0] for row in await database.read(_ABANDONED_KEYS, (limit,))]


async def remove_abandoned(database: Database, keys: list[str]) -> int:
    """Delete those leases that are still abandoned. Return how many.

    The store keeps the greatest of their tokens, so that later ones are greater.
    """
    abandoned = f"FROM {{leases}} WHERE `key` IN ({placeholders(len(keys))}) AND {_ABANDONED}"

    def decide(results: Sequence[Result]) -> tuple[list[Statement], int]:
        tokens = [row[0] for row in results[0].rows]
        if not tokens:
            return [], 0
        return [(_RAISE_TOKENS, (max(tokens),) * 2), (f"DELETE {abandoned}", keys)], len(tokens)

    return await database.transact([(f"SELECT last_token {abandoned} FOR UPDATE", keys)], decide)


def _decode(row: Sequence[Any]) -> LockHolder:
    owner, host, pid, acquired_at, left, token = row
    return LockHolder(
        owner=owner,
        host=host,
        pid=pid,
        since=acquired_at // 1000,
        expires_in_ms=left // 1000,
        fencing_token=token,
    )
