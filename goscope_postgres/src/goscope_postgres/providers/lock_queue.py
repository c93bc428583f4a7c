"""Wait queues for locks, across processes.

Without a queue the process that releases a lock takes it again: the others only poll for it. The
release of a lock notifies the process at the head of its queue, through a channel of that process.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from goscope._tools.cancellation import retrieve_exception
from goscope._tools.process import unique_name
from goscope.backend import Clock
from goscope.errors import GoscopeError

from .._engine.database import Database
from ..schema import Tables

QUEUE_AFTER_MS: Final = 100
"""How long a process that polls waits before it joins the queue; one with LISTEN joins at once."""

HEARTBEAT_INTERVAL_MS: Final = 500
HEARTBEAT_TIMEOUT_MS: Final = 1_500
"""How often a queued process writes a heartbeat, and when others skip a process without one."""

HANDOVER_S: Final = 0.25
"""How long a process that was told that the lock may be free keeps its place without asking."""

STALE_AFTER_MS: Final = 60_000
"""When the sweeper removes the ticket of a process without a heartbeat."""

IS_WAITING: Final = f"last_heartbeat > clock_timestamp() - interval '{HEARTBEAT_TIMEOUT_MS} ms'"
HEAD: Final = f"""
    SELECT waiter FROM {{queue}} WHERE key = $1 AND {IS_WAITING} ORDER BY since, waiter LIMIT 1
"""
"""Selects the process at the head of the queue of the key $1."""

NOTIFY_HEAD: Final = f"""
    notified AS MATERIALIZED (
        SELECT pg_notify(head.waiter, $1) FROM ({HEAD}) AS head
        WHERE EXISTS (SELECT 1 FROM ended)
    )
"""
"""A CTE after one named ``ended``; the statement must select from it."""

NOTIFY_QUEUE: Final = f"""
    notified AS MATERIALIZED (
        SELECT pg_notify(q.waiter, q.key) FROM ended JOIN {{queue}} AS q ON q.key = ended.key
        WHERE q.{IS_WAITING}
    )
"""
"""As `NOTIFY_HEAD`, for all who wait for the keys in ``ended``: those that wait for the lease of a
feature look at once whether what they need has been stored."""

_HEARTBEAT: Final = """
    INSERT INTO {queue} AS q (key, waiter, since, last_heartbeat)
    VALUES ($1, $2, clock_timestamp(), clock_timestamp())
    ON CONFLICT (key, waiter) DO UPDATE SET last_heartbeat = clock_timestamp()
"""
_DEQUEUE: Final = f"""
    WITH ended AS (DELETE FROM {{queue}} WHERE key = $1 AND waiter = $2)
    SELECT pg_notify(head.waiter, $1) FROM (
        SELECT waiter FROM {{queue}} WHERE key = $1 AND waiter <> $2 AND {IS_WAITING}
        ORDER BY since, waiter LIMIT 1
    ) AS head
    WHERE NOT EXISTS (SELECT 1 FROM {{lease}} WHERE key = $1 AND expires_at > clock_timestamp())
"""
"""Passes on the notification that the lock is free."""

_CHANNEL: Final = "goscope-"


@dataclass(slots=True)
class _Ticket:
    """One wait of this process. ``last_heartbeat`` is None until it joins the queue."""

    since: int
    last_poll: int
    last_heartbeat: int | None = None
    polls: int = 0


class LockQueue:
    """The tickets of this process in the wait queues, by stored key.

    A ticket survives failed attempts to take the lock. It ends when the lock is granted, when the
    wait ends, or when the process stops polling. ``me`` is also the name of the channel on which
    this process is notified.
    """

    def __init__(self, clock: Clock, database: Database, tables: Tables) -> None:
        self._clock = clock
        self._database = database
        self._heartbeat = tables.fill(_HEARTBEAT)
        self._dequeue = tables.fill(_DEQUEUE)
        self._tickets: dict[str, _Ticket] = {}
        self.me: Final = f"{_CHANNEL}{unique_name()}"

    def record_poll(self, key: str) -> int:
        """Record that the process polls the lock. Return for how many milliseconds it has."""
        now = self._clock.steady_ms()
        ticket = self._tickets.get(key)
        if ticket is None or now - ticket.last_poll > HEARTBEAT_TIMEOUT_MS:
            ticket = self._tickets[key] = _Ticket(now, now)
        ticket.last_poll = now
        ticket.polls += 1
        return now - ticket.since

    async def heartbeat_if_due(self, key: str, queue_after_ms: int) -> None:
        """Join the queue when the wait has lasted that long, and write the heartbeats."""
        ticket = self._tickets[key]
        last = ticket.last_heartbeat
        if last is None:
            is_due = ticket.last_poll - ticket.since >= queue_after_ms
        else:
            is_due = ticket.last_poll - last >= HEARTBEAT_INTERVAL_MS
        if is_due:
            ticket.last_heartbeat = ticket.last_poll
            await self._database.write(self._heartbeat, key, self.me)

    def forget(self, key: str) -> None:
        """Drop the ticket in memory: the grant has removed it from the table."""
        self._tickets.pop(key, None)

    def dequeue_if_unused(self, key: str) -> None:
        """Leave the queue soon, unless the process takes the lock or waits again.

        What a lease guards may be done: then the process needs it no more, and nobody tells.
        """
        ticket = self._tickets.get(key)
        if ticket is not None and ticket.last_heartbeat is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(HANDOVER_S, self._dequeue_unused, key, ticket, ticket.polls)

    def _dequeue_unused(self, key: str, ticket: _Ticket, polls: int) -> None:
        if self._tickets.get(key) is ticket and ticket.polls == polls:
            with contextlib.suppress(GoscopeError):  # the adapter is closed by now
                self.dequeue(key)

    def dequeue(self, key: str) -> None:
        """Leave the queue. The ticket disappears from the table a little later."""
        ticket = self._tickets.pop(key, None)
        if ticket is not None and ticket.last_heartbeat is not None:
            leaving = self._database.submit(len, self._dequeue, key, self.me)
            # If that fails, others skip the ticket as soon as its heartbeats stop.
            leaving.add_done_callback(retrieve_exception)


def pid_of(waiter: str) -> int | None:
    """The process that a waiter in the table is named after."""
    pid = waiter.removeprefix(_CHANNEL).partition("-")[0]
    return int(pid) if pid.isdecimal() else None
