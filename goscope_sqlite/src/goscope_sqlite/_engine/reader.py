"""Reads: point reads in the event loop, long reads in a thread.

A thread round trip costs many times as much as a point read, and a busy loop starves threads. So a
point read runs in the loop, unless recent ones were slow: their pages then come from the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from time import perf_counter
from typing import Any

from goscope._tools.loop_budget import LoopBudget

from .connection import Settings, open_reader, set_busy_timeout
from .errors import is_busy, is_undecodable, translate
from .place import PlaceRule
from .protocol import Row
from .shared_read import SharedReadTransaction
from .worker import Worker


class Reader:
    """The read-only connections of one database file.

    ``budget`` is the loop's, shared with everything else that runs SQL in it. ``writer`` is the
    connection of the writer while point reads use it.
    """

    def __init__(self, path: str, settings: Settings, budget: LoopBudget) -> None:
        self._worker = Worker("goscope-sqlite-reader", starvation_guard=settings.starvation_guard)
        self._path = path
        self._busy_timeout_s = settings.busy_timeout_s
        self._place = PlaceRule(settings.reads)
        self._budget = budget
        self.writer: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the connections. After an error nothing is left to close."""
        try:
            await self._worker.run(self._open)
        except BaseException:
            self._worker.stop()
            raise
        self._budget.on_tick_end = self._shared.release

    def share(self, writer: sqlite3.Connection | None) -> None:
        """Let point reads use the connection of the writer, None if they must not.

        Each commit empties the page cache of every connection but the one that has made it.
        """
        if writer is not self.writer:
            self.writer = writer
            self._execute = (writer or self._in_loop).cursor().execute

    async def close(self) -> None:
        self.share(None)
        self._shared.close()
        try:
            await self._worker.run(self._close)
        except RuntimeError:  # the interpreter shuts down and has ended the thread
            self._close()
        self._worker.stop()

    def close_in_child(self) -> None:
        """Close the connections in the child of a fork, where the thread does not exist."""
        self._shared.close()
        self._close()

    async def one(self, sql: str, parameters: Sequence[Any]) -> Row | None:
        """Return the first row of a point read."""
        started = perf_counter()
        # The attributes spare most reads two calls, which would take 1.5 % of a get.
        if started > self._budget.until and self._budget.exhausted(started):
            self._shared.on_wait(started)
            await self._budget.wait()
            started = perf_counter()
        if started < self._place.thread_until:
            return await self._one_in_thread(sql, parameters)
        if not self._shared.held_since:
            self._shared.on_read(started)
        try:
            rows = self._execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            # Busy while another process recovers the WAL. The thread waits for the lock, and
            # returns text that is not UTF-8 as bytes.
            if is_busy(exc) or is_undecodable(exc):
                return await self._one_in_thread(sql, parameters)
            raise translate(exc, self._path) from exc
        if (took_s := perf_counter() - started) > self._place.fast_s:
            self._place.record(took_s)
        return rows[0] if rows else None

    def version(self) -> int | None:
        """A number that changes with each commit of another connection, None if unknown now."""
        if perf_counter() < self._place.thread_until:
            return None
        try:
            # Always on the same connection: each counts for itself, and the writer's does not
            # count its own commits.
            rows = self._in_loop.execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:
            return None
        version: int = rows[0][0]
        return version

    async def all(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        """Return all rows of a read that may be long."""
        return await self._worker.run(self._all, sql, parameters)

    async def _one_in_thread(self, sql: str, parameters: Sequence[Any]) -> Row | None:
        rows = await self.all(sql, parameters)
        return rows[0] if rows else None

    def _open(self) -> None:
        with ExitStack() as opened:
            self._in_thread = opened.enter_context(closing(self._connect()))
            # Only here: a Python function for each text is too slow for the reads in the loop.
            self._in_thread.text_factory = _text_or_bytes
            self._in_loop = opened.enter_context(closing(self._connect()))
            self._execute = self._in_loop.cursor().execute  # one cursor: each read drains it
            shared = opened.enter_context(closing(self._connect()))
            self._shared = SharedReadTransaction(shared)
            for connection in (self._in_loop, shared):
                set_busy_timeout(connection, 0)  # neither must block the event loop
            opened.pop_all()

    def _connect(self) -> sqlite3.Connection:
        return open_reader(self._path, self._busy_timeout_s)

    def _close(self) -> None:
        self._in_loop.close()
        self._in_thread.close()

    def _all(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        try:
            return self._in_thread.execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            raise translate(exc, self._path) from exc


def _text_or_bytes(data: bytes) -> str | bytes:
    """The text, or bytes that are not UTF-8 as they are, for the decoder to refuse."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
