"""Wait queues for locks, across processes.

Without a queue the process that releases a lock takes it again: the others only poll for it. Of
eight processes that compete, one then waits for 2 s instead of 0.12 s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from goscope._tools.cancellation import retrieve_exception
from goscope._tools.process import unique_name
from goscope.backend import Clock, StoreContext

from .._engine.protocol import Database

QUEUE_AFTER_MS: Final = 100
"""How long to wait before joining the queue, which costs several writes."""

HEARTBEAT_INTERVAL_MS: Final = 500
HEARTBEAT_TIMEOUT_MS: Final = 1_000
"""How often a queued process writes a heartbeat, and when others skip a process without one."""

STALE_AFTER_MS: Final = 60 * HEARTBEAT_TIMEOUT_MS
"""When the sweeper removes the ticket of a process without a heartbeat."""

QUEUE_HEAD: Final = """
    SELECT waiter FROM go_goscope_lock_queue
    WHERE key = ? AND boot_id = ? AND last_heartbeat > ? AND last_heartbeat < ?
    ORDER BY since, waiter LIMIT 1
"""
"""Selects the process at the head of a queue; its parameters are `LockQueue.head_params`."""

_HEARTBEAT: Final = """
    INSERT OR REPLACE INTO go_goscope_lock_queue (key, waiter, boot_id, since, last_heartbeat)
    VALUES (?, ?, ?, ?, ?)
"""
_IS_STALE: Final = "(boot_id <> ? OR last_heartbeat <= ? OR last_heartbeat >= ?)"
_STALE_ROWS: Final = f"""
    SELECT rowid FROM go_goscope_lock_queue WHERE rowid > ? AND {_IS_STALE} ORDER BY rowid LIMIT ?
"""
_REMOVE_STALE: Final = f"DELETE FROM go_goscope_lock_queue WHERE rowid = ? AND {_IS_STALE}"
_DEQUEUE: Final = "DELETE FROM go_goscope_lock_queue WHERE key = ? AND waiter = ?"


@dataclass(slots=True)
class _Ticket:
    """One wait of this process. ``last_heartbeat`` is 0 until it joins the queue."""

    since: int
    last_poll: int
    last_heartbeat: int = 0


class LockQueue:
    """The tickets of this process in the wait queues, by stored key.

    A ticket survives failed attempts to take the lock. It ends when the lock is granted, when the
    wait ends, or when the process stops polling.
    """

    def __init__(self, context: StoreContext, database: Database) -> None:
        self._context = context
        self._database = database
        self._me = unique_name()
        self._tickets: dict[str, _Ticket] = {}

    def record_poll(self, key: str) -> int:
        """Record that the process polls the lock. Return for how many milliseconds it has."""
        now = self._context.clock.steady_ms()
        ticket = self._tickets.get(key)
        if ticket is None or now - ticket.last_poll > HEARTBEAT_TIMEOUT_MS:
            ticket = self._tickets[key] = _Ticket(now, now)
        ticket.last_poll = now
        return now - ticket.since

    def is_waiting(self, key: str) -> bool:
        """Whether this process waits for the lock, in the queue or not yet."""
        return key in self._tickets

    def is_queued(self, key: str) -> bool:
        """Whether this process has joined the queue."""
        ticket = self._tickets.get(key)
        return ticket is not None and ticket.last_heartbeat > 0

    def may_take(self, head: str | None) -> bool:
        """Whether no other process comes first, given the head of the queue."""
        return head is None or head == self._me

    def is_heartbeat_due(self, key: str) -> bool:
        """Whether it is time to join the queue, or for the next heartbeat."""
        ticket = self._tickets[key]
        return (
            ticket.last_poll - ticket.since >= QUEUE_AFTER_MS
            and ticket.last_poll - ticket.last_heartbeat >= HEARTBEAT_INTERVAL_MS
        )

    async def heartbeat(self, key: str) -> None:
        """Join the queue, or record that the process still waits in it."""
        ticket = self._tickets[key]
        ticket.last_heartbeat = ticket.last_poll
        row = (key, self._me, self._context.clock.boot_id, ticket.since, ticket.last_heartbeat)
        await self._database.submit(lambda connection: _execute(connection, _HEARTBEAT, row))

    def dequeue(self, key: str) -> None:
        """Leave the queue. The ticket disappears from the file a little later."""
        if self.is_queued(key):
            deleting = self._database.submit(lambda connection: self.delete(connection, key))
            # If that fails, others skip the ticket as soon as its heartbeats stop.
            deleting.add_done_callback(retrieve_exception)
        self.forget(key)

    def delete(self, connection: sqlite3.Connection, key: str) -> None:
        """Delete the ticket from the file, as part of a write; then call `forget`."""
        _execute(connection, _DEQUEUE, (key, self._me))

    def forget(self, key: str) -> None:
        """Drop the ticket in memory: the wait is over."""
        self._tickets.pop(key, None)

    def head_params(self, key: str) -> tuple[str, str, int, int]:
        """The parameters of `QUEUE_HEAD`. A heartbeat in the future has another boot."""
        clock = self._context.clock
        now = clock.steady_ms()
        return key, clock.boot_id, now - HEARTBEAT_TIMEOUT_MS, now + HEARTBEAT_TIMEOUT_MS


async def stale_rows(database: Database, after: int, clock: Clock, limit: int) -> list[int]:
    """The tickets without a heartbeat for a minute: the next ``limit`` after this one."""
    rows = await database.read_all(_STALE_ROWS, (after, *_stale_params(clock), limit))
    return [row[0] for row in rows]


def remove_stale(connection: sqlite3.Connection, rowids: Iterable[int], clock: Clock) -> int:
    """Delete those that are still stale, as part of a write. Return how many."""
    parameters = _stale_params(clock)
    return sum(connection.execute(_REMOVE_STALE, (rowid, *parameters)).rowcount for rowid in rowids)


def _stale_params(clock: Clock) -> tuple[str, int, int]:
    now = clock.steady_ms()
    return clock.boot_id, now - STALE_AFTER_MS, now + STALE_AFTER_MS


def _execute(connection: sqlite3.Connection, sql: str, parameters: tuple[object, ...]) -> None:
    connection.execute(sql, parameters)
