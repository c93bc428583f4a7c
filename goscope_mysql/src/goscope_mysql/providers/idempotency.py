"""Results of idempotent calls."""

from __future__ import annotations

from collections.abc import Sequence
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

from .._engine.connection import Result, Statement
from .._engine.database import Database
from ..columns import microseconds, milliseconds, placeholders
from .fence import GUARDED, RELEASE, guard_params

_LIVE: Final = "(expires_at IS NULL OR expires_at > {now})"
_READ: Final = f"SELECT value, expires_at, fingerprint FROM {{results}} WHERE `key` = ? AND {_LIVE}"
_COLUMNS: Final = "(`key`, value, expires_at, fingerprint, created_at)"
_SET: Final = f"REPLACE INTO {{results}} {_COLUMNS} VALUES (?, ?, {{now}} + ?, ?, {{now}})"
_SET_GUARDED: Final = (
    f"REPLACE INTO {{results}} {_COLUMNS} SELECT ?, ?, {{now}} + ?, ?, {{now}} {GUARDED}"
)
_DELETE: Final = f"DELETE FROM {{results}} WHERE `key` = ? AND {_LIVE}"
_EXPIRED: Final = "SELECT `key` FROM {results} WHERE expires_at <= {now} LIMIT ?"


class MySQLIdempotencyProvider(BaseIdempotencyProvider):
    """Results, one row each. A completion notifies the waiters of the lease it ends."""

    def __init__(
        self, context: StoreContext, database: Database, lease_notifier: KeyedNotifier
    ) -> None:
        super().__init__(context)
        self._database = database
        self._lease_notifier = lease_notifier

    async def _get(self, key: str) -> StoredResult | None:
        rows = await self._database.read(_READ, (key,))
        if not rows:
            return None
        text, expires_at, fingerprint = rows[0]
        return StoredResult(text, milliseconds(expires_at), fingerprint)

    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> None:
        statements = storing(key, result, fence, ends_lease)
        if fence is None:
            await self._database.write(*statements[0])
            return
        check_applied(await self._database.write_all(statements), fence)
        self.notify(fence, ends_lease)

    def notify(self, fence: Fence | None, ends_lease: bool) -> None:
        """Wake the waiters of the lease that a stored result has ended."""
        if fence is not None and ends_lease:
            self._lease_notifier.notify(fence.stored_key)

    async def _delete(self, key: str) -> bool:
        return (await self._database.write(_DELETE, (key,))).affected > 0


def storing(key: str, result: NewResult, fence: Fence | None, ends_lease: bool) -> list[Statement]:
    """The statements that store a result, whose outcome `check_applied` knows."""
    row = (key, result.text, microseconds(result.ttl_ms), result.fingerprint)
    if fence is None:
        return [(_SET, row)]
    statements: list[Statement] = [(_SET_GUARDED, (*row, *guard_params(fence)))]
    if ends_lease:
        statements.append((RELEASE, guard_params(fence)))
    return statements


def check_applied(results: Sequence[Result], fence: Fence | None) -> None:
    """Raise `LeaseLost` if the fence was not current."""
    if fence is not None and not results[0].affected:
        raise lease_lost(fence)


async def expired_keys(database: Database, limit: int) -> list[str]:
    """Results of all prefixes that have expired."""
    return [row[0] for row in await database.read(_EXPIRED, (limit,))]


async def remove_expired(database: Database, keys: Sequence[str]) -> int:
    """Delete those results that have expired. Return how many."""
    found = f"`key` IN ({placeholders(len(keys))}) AND expires_at <= {{now}}"
    return (await database.write_all([(f"DELETE FROM {{results}} WHERE {found}", keys)]))[
        0
    ].affected
