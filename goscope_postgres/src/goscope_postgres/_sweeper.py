"""Removing expired rows in small steps, which skip the rows that other transactions hold."""

from __future__ import annotations

from typing import Final

from goscope.backend import StoreContext, SweepSchedule

from ._engine.database import Database
from ._open_processes import OpenProcesses
from .providers import cache, idempotency
from .providers.lock_queue import STALE_AFTER_MS
from .providers.times import NOW
from .schema import Tables

STEP_ROWS: Final = 100
"""How many rows one statement removes at first."""

_SWEEP_LEASES: Final = f"""
    WITH found AS MATERIALIZED (
        SELECT key FROM {{lease}} WHERE expires_at <= {NOW} - interval '1 day'
        ORDER BY key LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    deleted AS (
        DELETE FROM {{lease}} AS l USING found WHERE l.key = found.key RETURNING 1
    )
    SELECT count(*) FROM deleted
"""
"""An expired lease that nobody takes accepts its holder's fenced writes for a day."""

_SWEEP_QUEUE: Final = f"""
    WITH found AS MATERIALIZED (
        SELECT key, waiter FROM {{queue}}
        WHERE last_heartbeat <= {NOW} - interval '{STALE_AFTER_MS} ms'
        ORDER BY key, waiter LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    deleted AS (
        DELETE FROM {{queue}} AS q USING found
        WHERE q.key = found.key AND q.waiter = found.waiter RETURNING 1
    )
    SELECT count(*) FROM deleted
"""

_SWEEP_PROCESSES: Final = f"""
    WITH found AS MATERIALIZED (
        SELECT id FROM {{process}} WHERE listed_until <= {NOW}
        ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    deleted AS (DELETE FROM {{process}} AS p USING found WHERE p.id = found.id RETURNING 1)
    SELECT count(*) FROM deleted
"""


class Sweeper:
    """Sweeps one store after a number of writes, and every ``interval_ms`` while it is idle.

    So often, the process is also written down as one that has the store open.
    """

    def __init__(
        self,
        database: Database,
        tables: Tables,
        context: StoreContext,
        processes: OpenProcesses,
        interval_ms: int,
    ) -> None:
        self._database = database
        self._processes = processes
        sweeps = (cache.SWEEP, idempotency.SWEEP, _SWEEP_LEASES, _SWEEP_QUEUE, _SWEEP_PROCESSES)
        self._sweeps = [tables.fill(sql) for sql in sweeps]
        self.schedule: Final = SweepSchedule(context, self.sweep, interval_ms, STEP_ROWS)

    async def sweep(self) -> None:
        """Remove everything that has expired."""
        await self._processes.heartbeat_if_due()
        for sql in self._sweeps:
            limit = removed = self.schedule.next_step_rows()
            while removed == limit:
                limit = self.schedule.next_step_rows()
                removed = (await self._database.write(sql, limit))[0][0]
