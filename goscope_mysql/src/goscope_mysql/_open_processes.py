"""Which processes have the store open: one row for each connected adapter."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from goscope._tools.process import unique_name
from goscope.backend import StoreContext, this_process
from goscope.errors import GoscopeError
from goscope.inspection import ProcessInfo

from ._engine.connection import Connection, Statement
from ._engine.database import Database
from ._engine.errors import ServerError

LISTED_INTERVALS: Final = 3
"""A process that was killed is listed for so many intervals after its last heartbeat."""

REMOVE_TIMEOUT_S: Final = 1.0

_HEARTBEAT: Final = """
    INSERT INTO {processes} (id, host, pid, opened_at, listed_until)
    VALUES (?, ?, ?, {now}, {now} + ?)
    ON DUPLICATE KEY UPDATE listed_until = {now} + ?
"""
_REMOVE: Final = "DELETE FROM {processes} WHERE id = ?"
_READ: Final = """
    SELECT id, host, pid, opened_at FROM {processes}
    WHERE listed_until > {now} OR id = ? ORDER BY opened_at, id
"""
_EXPIRED: Final = "SELECT id FROM {processes} WHERE listed_until <= {now} LIMIT ?"
_REMOVE_EXPIRED: Final = "DELETE FROM {processes} WHERE id = ? AND listed_until <= {now}"


class OpenProcesses:
    """The processes that have one store open, and the row of this adapter among them.

    The row tells others about this process, and no promise depends on it: neither opening nor
    closing fails because it cannot be written.
    """

    def __init__(self, context: StoreContext, database: Database, interval_ms: int) -> None:
        self._context = context
        self._database = database
        self._interval_ms = interval_ms
        self._id = ""
        self._last_heartbeat = 0

    async def add(self, connection: Connection) -> None:
        """List this adapter, which connects."""
        self._id = unique_name()
        with contextlib.suppress(ServerError):  # such as that of a read-only server
            await connection.run(*self._heartbeat())

    async def heartbeat_if_due(self) -> None:
        """Stay listed; to be called at least once in each interval."""
        if self._context.clock.steady_ms() - self._last_heartbeat >= self._interval_ms:
            with contextlib.suppress(GoscopeError):
                await self._database.write(*self._heartbeat())

    async def remove(self, connection: Connection) -> None:
        """End the listing of this adapter, without waiting long for the server."""
        id, self._id = self._id, ""
        if not id:  # it was attached
            return
        async with asyncio.timeout(REMOVE_TIMEOUT_S):
            await connection.run(_REMOVE, (id,))

    async def listed(self) -> Sequence[ProcessInfo]:
        """All processes that have the store open, one record for each connected adapter."""
        rows = await self._database.read(_READ, (self._id,))
        return [
            ProcessInfo(
                host=host, pid=pid, opened_at=opened_at // 1000, is_alive=id == self._id or None
            )
            for id, host, pid, opened_at in rows
        ]

    def _heartbeat(self) -> Statement:
        self._last_heartbeat = self._context.clock.steady_ms()
        me, listed_us = this_process(), LISTED_INTERVALS * self._interval_ms * 1000
        return _HEARTBEAT, (self._id, me.host, me.pid, listed_us, listed_us)


async def expired_ids(database: Database, limit: int) -> list[str]:
    """Rows of processes that have not written a heartbeat for long."""
    return [row[0] for row in await database.read(_EXPIRED, (limit,))]


async def remove_expired(database: Database, ids: Sequence[str]) -> int:
    """Delete those rows that have still no heartbeat. Return how many."""
    results = await database.write_all([(_REMOVE_EXPIRED, (id,)) for id in ids])
    return sum(result.affected for result in results)
