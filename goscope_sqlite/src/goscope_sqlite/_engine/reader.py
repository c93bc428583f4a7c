"""Reads on private read-only connections: point reads in the event loop, long ones in a thread.

A hop to a thread costs many times what a point read does, and a busy loop starves threads. So a
point read runs where it is asked for, unless the pages it needs turn out to be slow to come.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from time import perf_counter
from typing import Any, Final, Literal, TypeAlias

from goscope._tools.loop_budget import LoopBudget

from .connection import open_reader
from .errors import is_busy, is_undecodable, translate
from .protocol import Row
from .shared_read import ReadLock
from .worker import Worker

Reads: TypeAlias = Literal["auto", "loop", "thread"]

SLOW: Final = 0.001
SLOW_READS: Final = 3
REMEMBERED: Final = 0xFF
THREAD_SECONDS: Final = 0.05
"""After three slow reads of the last eight, reads go to the thread for this long."""


class Reader:
    """The readers of one database file.

    ``budget`` is that of the loop, shared with whatever else runs SQL in it.
    """

    def __init__(self, path: str, reads: Reads, busy_timeout: float, budget: LoopBudget) -> None:
        self._worker = Worker("goscope-sqlite-reader")
        self._path = path
        self._busy_timeout = busy_timeout
        self._slow_after = SLOW if reads == "auto" else math.inf
        self._thread_until = math.inf if reads == "thread" else 0.0
        self._slow_reads = 0  # one bit for each of the last reads
        self._budget = budget

    async def open(self, in_loop: sqlite3.Connection | None = None) -> None:
        """Open the connections; the caller keeps the one it gives for the reads in the loop."""
        await self._worker.run(self._open, in_loop)
        self._budget.on_tick_end = self._lock.release

    async def close(self) -> None:
        self._lock.close()
        try:
            await self._worker.run(self._close)
        except RuntimeError:  # the interpreter shuts down and has ended that thread already
            self._close()
        self._worker.stop()

    async def one(self, sql: str, parameters: Sequence[Any]) -> Row | None:
        started = perf_counter()
        if self._budget.exhausted(started):
            self._lock.note_wait(started)
            await self._budget.wait()
            started = perf_counter()
        if started < self._thread_until:
            return await self._one_in_thread(sql, parameters)
        self._lock.note_read(started)
        try:
            rows = self._execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            # Busy while another process recovers the log; undecodable if one wrote other bytes.
            if is_busy(exc) or is_undecodable(exc):
                return await self._one_in_thread(sql, parameters)
            raise translate(exc, self._path) from exc
        slow = perf_counter() - started > self._slow_after
        if slow or self._slow_reads:
            self._remember(slow)
        return rows[0] if rows else None

    def version(self) -> int | None:
        """What differs once another connection has committed; None if a read would tell."""
        if perf_counter() < self._thread_until:
            return None
        try:
            rows = self._execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:
            return None
        version: int = rows[0][0]
        return version

    async def all(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        return await self._worker.run(self._all, sql, parameters)

    @contextmanager
    def only_in_thread(self) -> Generator[None]:
        """Read nothing in the event loop meanwhile."""
        before, self._thread_until = self._thread_until, math.inf
        try:
            yield
        finally:
            self._thread_until = before

    async def _one_in_thread(self, sql: str, parameters: Sequence[Any]) -> Row | None:
        rows = await self.all(sql, parameters)
        return rows[0] if rows else None

    def _open(self, in_loop: sqlite3.Connection | None) -> None:
        with ExitStack() as opened:
            self._in_thread = opened.enter_context(closing(self._connect()))
            self._in_thread.text_factory = _text_or_bytes  # too slow for the reads in the loop
            self._owns_both = in_loop is None
            self._in_loop = in_loop or opened.enter_context(closing(self._connect()))
            self._execute = self._in_loop.cursor().execute  # one for all: each read drains it
            lock = opened.enter_context(closing(self._connect()))
            self._lock = ReadLock(lock)
            for connection in (self._in_loop, lock):
                # From here on it is used in the loop, where nothing waits for a lock.
                connection.execute("PRAGMA busy_timeout = 0").fetchall()
            opened.pop_all()

    def _connect(self) -> sqlite3.Connection:
        return open_reader(self._path, self._busy_timeout)

    def _close(self) -> None:
        if self._owns_both:
            self._in_loop.close()
        self._in_thread.close()

    def _all(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        try:
            return self._in_thread.execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            raise translate(exc, self._path) from exc

    def _remember(self, slow: bool) -> None:
        self._slow_reads = (self._slow_reads << 1 | slow) & REMEMBERED
        # Afterwards one more slow read is enough to send them back.
        if slow and self._slow_reads.bit_count() >= SLOW_READS:
            self._thread_until = perf_counter() + THREAD_SECONDS


def _text_or_bytes(data: bytes) -> str | bytes:
    """Text as it is, and what is none as bytes, for whoever decodes it to refuse."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
