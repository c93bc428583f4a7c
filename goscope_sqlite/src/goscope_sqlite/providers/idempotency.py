"""Results of idempotent calls. Companion rows hold fingerprints, which go-go-scope lacks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

from goscope.backend import (
    BaseIdempotencyProvider,
    DecodeError,
    Fence,
    KeyedNotifier,
    NewResult,
    StoreContext,
    StoredResult,
)

from .._engine.protocol import Database
from ..columns import Position, digest, equivalent_rows, from_seconds, seconds
from .fence import check_fence, end_lease

_READ: Final = """
    SELECT i.value, i.expires_at, s.digest, s.fingerprint
    FROM go_goscope_idempotency AS i
    LEFT JOIN go_goscope_idempotency_companion AS s ON s.key = i.key
    WHERE i.key = ? AND (i.expires_at IS NULL OR i.expires_at > ?)
"""
_WRITE: Final = """
    INSERT INTO go_goscope_idempotency (key, value, expires_at, created_at, updated_at)
    VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET
        value = excluded.value, expires_at = excluded.expires_at, updated_at = excluded.updated_at
"""
_WRITE_COMPANION: Final = """
    INSERT OR REPLACE INTO go_goscope_idempotency_companion (key, digest, fingerprint)
    VALUES (?, ?, ?)
"""
_EXPIRED: Final = """
    SELECT expires_at, rowid FROM go_goscope_idempotency
    WHERE (expires_at, rowid) > (?, ?) AND expires_at <= ? ORDER BY expires_at, rowid LIMIT ?
"""
_DELETE: Final = """
    DELETE FROM go_goscope_idempotency WHERE key = ?
    RETURNING expires_at IS NULL OR expires_at > ?
"""
_DELETE_EXPIRED: Final = """
    DELETE FROM go_goscope_idempotency WHERE rowid = ? AND expires_at <= ?
    RETURNING CAST(key AS BLOB)
"""
_DELETE_COMPANION: Final = """
    DELETE FROM go_goscope_idempotency_companion WHERE key = CAST(? AS TEXT)
"""


class SQLiteIdempotencyProvider(BaseIdempotencyProvider):
    """Results, one row each. A completion notifies the waiters of the lease it ends."""

    def __init__(
        self, context: StoreContext, database: Database, lease_notifier: KeyedNotifier
    ) -> None:
        super().__init__(context)
        self._database = database
        self._lease_notifier = lease_notifier

    async def _get(self, key: str) -> StoredResult | None:
        now = seconds(self.context.clock.wall_ms())
        row = await self._database.read_one(_READ, (key, now))
        if row is None:
            return None
        text, expires_at, described, fingerprint = row
        if fingerprint is not None and described != digest(text):
            fingerprint = None  # another writer replaced the value
        if not isinstance(fingerprint, str | None):
            raise DecodeError("its fingerprint is not a text")
        return StoredResult(text, from_seconds(expires_at), fingerprint)

    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> None:
        store = self.storing(key, result, fence, ends_lease)
        await self._database.submit(store, rows=equivalent_rows(result.text))
        self.notify(fence, ends_lease)

    def storing(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> Callable[[sqlite3.Connection], None]:
        """The write that stores the result, as part of a transaction; then call `notify`."""
        now = self.context.clock.wall_ms()
        row = result.written_at(now)
        expires_at = None if row.expires_at is None else seconds(row.expires_at)

        def store(connection: sqlite3.Connection) -> None:
            check_fence(connection, fence)
            connection.execute(_WRITE, (key, row.text, expires_at, now // 1000, now // 1000))
            if row.fingerprint is None:
                delete_companion(connection, key)
            else:
                connection.execute(_WRITE_COMPANION, (key, digest(row.text), row.fingerprint))
            if fence is not None and ends_lease:
                end_lease(connection, fence.stored_key, fence.token)

        return store

    def notify(self, fence: Fence | None, ends_lease: bool) -> None:
        """Wake the waiters of the lease that a stored result has ended."""
        if fence is not None and ends_lease:
            self._lease_notifier.notify(fence.stored_key)

    async def _delete(self, key: str) -> bool:
        now = self.context.clock.wall_ms()

        def delete(connection: sqlite3.Connection) -> bool:
            rows = connection.execute(_DELETE, (key, seconds(now))).fetchall()
            delete_companion(connection, key)
            return bool(rows and rows[0][0])

        return await self._database.submit(delete)


async def expired_page(
    database: Database, after: Position, now: int, limit: int
) -> tuple[list[int], Position | None]:
    """The next expired rows, and the position of the next page, None at the end."""
    rows = await database.read_all(_EXPIRED, (*after, seconds(now), limit))
    return [row[1] for row in rows], Position(*rows[-1]) if len(rows) == limit else None


def remove_expired(connection: sqlite3.Connection, rowids: Iterable[int], now: int) -> int:
    """Delete those results that have expired, as part of a write. Return how many."""
    removed = 0
    for rowid in rowids:
        for (key,) in connection.execute(_DELETE_EXPIRED, (rowid, seconds(now))).fetchall():
            delete_companion(connection, key)
            removed += 1
    return removed


def delete_companion(connection: sqlite3.Connection, key: str | bytes | None) -> None:
    """Delete the fingerprint, as part of a write."""
    connection.execute(_DELETE_COMPANION, (key,))
