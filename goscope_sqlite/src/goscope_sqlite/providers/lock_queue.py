"""Who waits for a lock, among processes: without a line, whoever releases it takes it again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from goscope._tools.process import unique_name
from goscope.backend import Clock, StoreContext

from .._engine.protocol import Database

PATIENCE_MS: Final = 100
"""Shorter waits are left to chance: a place in the line costs a few writes."""

BEAT_MS: Final = 500
"""How often a process shows that it still waits."""

STALE_MS: Final = 1_000
"""A process that shows itself no more is passed over after this long."""

FIRST: Final = """
    SELECT waiter FROM go_goscope_lock_queue
    WHERE key = ? AND boot_id = ? AND last_heartbeat > ? ORDER BY since, waiter LIMIT 1
"""
"""Who is next; its parameters are those of `Line.first_of`."""

_ENTER: Final = """
    INSERT OR REPLACE INTO go_goscope_lock_queue (key, waiter, boot_id, since, last_heartbeat)
    VALUES (?, ?, ?, ?, ?)
"""
_STALE: Final = "(boot_id <> ? OR last_heartbeat <= ?)"
_STALE_KEYS: Final = f"SELECT DISTINCT key FROM go_goscope_lock_queue WHERE {_STALE} LIMIT ?"
_REMOVE_STALE: Final = f"DELETE FROM go_goscope_lock_queue WHERE key = ? AND {_STALE}"
_LEAVE: Final = "DELETE FROM go_goscope_lock_queue WHERE key = ? AND waiter = ?"


@dataclass(slots=True)
class _Place:
    """A wait of this process; ``shown`` is when it last showed itself in the line, 0: never."""

    since: int
    active: int
    shown: int = 0


class Line:
    """This process's places in the lines for locks, by stored key.

    A place is kept while the process tries to take the lock again and again, and is given up when
    it was taken, when the wait is over, or when the process does not come back.
    """

    def __init__(self, context: StoreContext, database: Database) -> None:
        self._context = context
        self._database = database
        self._me = unique_name()
        self._places: dict[str, _Place] = {}

    def wait(self, key: str) -> int:
        """Note that the process waits; for how many milliseconds it has."""
        now = self._context.clock.steady_ms()
        place = self._places.get(key)
        if place is None or now - place.active > STALE_MS:
            place = self._places[key] = _Place(now, now)
        place.active = now
        return now - place.since

    def has_place(self, key: str) -> bool:
        """Whether this process waits, in the line or not yet."""
        return key in self._places

    def is_in(self, key: str) -> bool:
        """Whether this process is in the line: it has waited for a while."""
        place = self._places.get(key)
        return place is not None and place.shown > 0

    def is_next(self, first: str | None) -> bool:
        """Whether nobody else is before this process, given who the file says is first."""
        return first is None or first == self._me

    def is_due(self, key: str) -> bool:
        """Whether to `show`: the process has waited for a while, or has long not shown itself."""
        place = self._places[key]
        return place.active - place.since >= PATIENCE_MS and place.active - place.shown >= BEAT_MS

    async def show(self, key: str) -> None:
        """Enter the line, or show that the process still waits there."""
        place = self._places[key]
        place.shown = place.active
        row = (key, self._me, self._context.clock.boot_id, place.since, place.shown)
        await self._database.submit(lambda connection: _change(connection, _ENTER, row))

    def leave(self, key: str) -> None:
        """Give the place up, in the file a little later."""
        if self.is_in(key):
            left = self._database.submit(lambda connection: self.remove(connection, key))
            left.add_done_callback(_see_exception)  # a place that stays is soon passed over
        self.forget(key)

    def remove(self, connection: sqlite3.Connection, key: str) -> None:
        """Give the place up as part of a write; then `forget` it."""
        _change(connection, _LEAVE, (key, self._me))

    def forget(self, key: str) -> None:
        """Note that the wait is over."""
        self._places.pop(key, None)

    def first_of(self, key: str) -> tuple[str, str, int]:
        """The parameters of `FIRST`."""
        clock = self._context.clock
        return key, clock.boot_id, clock.steady_ms() - STALE_MS


async def stale_keys(database: Database, clock: Clock, limit: int) -> list[str]:
    """The locks in whose lines there are places of processes that have not come back for long."""
    rows = await database.read_all(_STALE_KEYS, (*_long_ago(clock), limit))
    return [row[0] for row in rows]


def remove_stale(connection: sqlite3.Connection, keys: Iterable[str], clock: Clock) -> int:
    """Remove those places, as part of a write; how many."""
    parameters = _long_ago(clock)
    return sum(connection.execute(_REMOVE_STALE, (key, *parameters)).rowcount for key in keys)


def _long_ago(clock: Clock) -> tuple[str, int]:
    return clock.boot_id, clock.steady_ms() - 60 * STALE_MS


def _change(connection: sqlite3.Connection, sql: str, parameters: tuple[object, ...]) -> None:
    connection.execute(sql, parameters)


def _see_exception(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
