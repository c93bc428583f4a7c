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

from ._engine.database import Database
from .providers.times import epoch_ms
from .schema import Tables

LISTED_INTERVALS: Final = 3
"""A process that was killed is listed for so many intervals after its last heartbeat."""

REMOVE_TIMEOUT_S: Final = 1.0

_HEARTBEAT: Final = """
    INSERT INTO {process} (id, host, pid, opened_at, listed_until)
    SELECT $1, $2, $3, time, time + $4::bigint * interval '1 ms'
    FROM (SELECT clock_timestamp() AS time OFFSET 0) AS present
    ON CONFLICT (id) DO UPDATE SET listed_until = excluded.listed_until
"""
_REMOVE: Final = "DELETE FROM {process} WHERE id = $1"
_READ: Final = f"""
    SELECT id, host, pid, {epoch_ms("opened_at")} FROM {{process}}
    WHERE listed_until > clock_timestamp() OR id = $1 ORDER BY opened_at, id
"""


class OpenProcesses:
    """The processes that have one store open, and the row of this adapter among them.

    The row tells others about this process, and no promise depends on it: neither opening nor
    closing fails because it cannot be written.
    """

    def __init__(
        self, context: StoreContext, database: Database, tables: Tables, interval_ms: int
    ) -> None:
        self._context = context
        self._database = database
        self._interval_ms = interval_ms
        self._sql_heartbeat = tables.fill(_HEARTBEAT)
        self._sql_remove = tables.fill(_REMOVE)
        self._sql_read = tables.fill(_READ)
        self._id = ""
        self._last_heartbeat = 0

    async def add(self) -> None:
        """List this adapter, which connects."""
        self._id = unique_name()
        await self._heartbeat()

    async def heartbeat_if_due(self) -> None:
        """Stay listed; to be called at least once in each interval."""
        if self._context.clock.steady_ms() - self._last_heartbeat >= self._interval_ms:
            await self._heartbeat()

    async def remove(self) -> None:
        """End the listing of this adapter, without waiting long for the server."""
        id, self._id = self._id, ""
        if not id:  # it was attached
            return
        with contextlib.suppress(GoscopeError, TimeoutError):
            async with asyncio.timeout(REMOVE_TIMEOUT_S):
                await self._database.execute(self._sql_remove, id)

    async def listed(self) -> Sequence[ProcessInfo]:
        """All processes that have the store open, one record for each connected adapter."""
        rows = await self._database.read(self._sql_read, self._id)
        return [
            ProcessInfo(host=host, pid=pid, opened_at=opened_at, is_alive=id == self._id or None)
            for id, host, pid, opened_at in rows
        ]

    async def _heartbeat(self) -> None:
        self._last_heartbeat = self._context.clock.steady_ms()
        me, listed_ms = this_process(), LISTED_INTERVALS * self._interval_ms
        with contextlib.suppress(GoscopeError):
            await self._database.write(self._sql_heartbeat, self._id, me.host, me.pid, listed_ms)
