"""Results of idempotent calls: one row each."""

from __future__ import annotations

from typing import Final

from goscope.backend import (
    BaseIdempotencyProvider,
    Fence,
    KeyedNotifier,
    NewResult,
    StoreContext,
    StoredResult,
    lease_lost,
)

from .._engine.database import Database
from ..schema import Tables
from .fence import FencedWrite, Writer
from .lock_queue import NOTIFY_QUEUE
from .times import NOW, after, epoch_ms

_GET: Final = f"""
    SELECT value, {epoch_ms("expires_at")}, fingerprint FROM {{result}}
    WHERE key = $1 AND expires_at > clock_timestamp()
"""
_SET: Final = f"""
    INSERT INTO {{result}} (key, value, expires_at, fingerprint)
    SELECT $1, $2, {after("clock_timestamp()", "$3::bigint")}, $4 WHERE IF_CURRENT
    ON CONFLICT (key) DO UPDATE SET
        value = excluded.value,
        expires_at = excluded.expires_at,
        fingerprint = excluded.fingerprint
    RETURNING 1
"""
_COMPLETE: Final = f"""
    WITH ended AS (DELETE FROM {{lease}} WHERE key = $1 AND token = $5 RETURNING key),
    written AS ({_SET.replace("$1", "$6").replace("IF_CURRENT", "EXISTS (SELECT 1 FROM ended)")}),
    {NOTIFY_QUEUE}
    SELECT (SELECT count(*) FROM ended) = 1, (SELECT count(*) FROM notified)
"""
"""Ends the lease and stores the result, or does neither; $1 is the key of the lease."""
_DELETE: Final = """
    WITH deleted AS (DELETE FROM {result} WHERE key = $1 RETURNING expires_at)
    SELECT 1 FROM deleted WHERE expires_at > clock_timestamp()
"""
SWEEP: Final = f"""
    WITH found AS MATERIALIZED (
        SELECT key FROM {{result}} WHERE expires_at <= {NOW}
        ORDER BY key LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    deleted AS (DELETE FROM {{result}} AS r USING found WHERE r.key = found.key RETURNING 1)
    SELECT count(*) FROM deleted
"""


class PostgresIdempotencyProvider(BaseIdempotencyProvider):
    """Results in the database. A completion notifies the waiters of the lease it ends."""

    def __init__(
        self,
        context: StoreContext,
        database: Database,
        tables: Tables,
        lease_notifier: KeyedNotifier,
    ) -> None:
        super().__init__(context)
        self._database = database
        self._lease_notifier = lease_notifier
        self._sql_get = tables.fill(_GET)
        self._sql_delete = tables.fill(_DELETE)
        self._sql_set = FencedWrite(tables, _SET)
        self._sql_complete = tables.fill(_COMPLETE)

    async def _get(self, key: str) -> StoredResult | None:
        rows = await self._database.read(self._sql_get, key)
        return StoredResult(*rows[0]) if rows else None

    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> None:
        await self.write(self._database, key, result, fence, ends_lease)
        self.notify(fence, ends_lease)

    async def write(
        self, writer: Writer, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> None:
        """Store the result, perhaps as part of a transaction; after the commit call `notify`."""
        values = (result.text, result.ttl_ms, result.fingerprint)
        if fence is None or not ends_lease:
            await self._sql_set.run(writer, fence, key, *values)
            return
        lease, token, _ = fence
        rows = await writer.write(self._sql_complete, lease, *values, token, key)
        if not rows[0][0]:
            raise lease_lost(fence)

    def notify(self, fence: Fence | None, ends_lease: bool) -> None:
        """Wake the waiters of the lease that a stored result has ended."""
        if fence is not None and ends_lease:
            self._lease_notifier.notify(fence.stored_key)

    async def _delete(self, key: str) -> bool:
        return bool(await self._database.write(self._sql_delete, key))
