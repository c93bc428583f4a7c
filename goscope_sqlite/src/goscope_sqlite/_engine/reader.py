"""Reads on read-only connections: point reads in the event loop, long reads in a thread.

A thread round trip costs many times as much as a point read, and a busy loop starves threads. So a
point read runs in the loop, unless recent ones were slow: their pages then come from the disk.
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
from .shared_read import SharedReadTransaction
from .worker import Worker

Reads: TypeAlias = Literal["auto", "loop", "thread"]
"""Where point reads run."""

SLOW_READ_S: Final = 0.001
MIN_SLOW_READS: Final = 3
WINDOW_MASK: Final = 0xFF
THREAD_READS_S: Final = 0.05
"""A read is slow from this duration on. When so many of the last eight were slow, which are the
bits of the window, point reads run in the thread for this long."""


class Reader:
    """The readers of one database file.

    ``budget`` is the loop's, shared with everything else that runs SQL in it.
    """

    def __init__(self, path: str, reads: Reads, busy_timeout_s: float, budget: LoopBudget) -> None:
        self._worker = Worker("goscope-sqlite-reader")
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._slow_after_s = SLOW_READ_S if reads == "auto" else math.inf
        self._thread_until = math.inf if reads == "thread" else 0.0
        self._slow_read_bitmap = 0  # one bit for each recent read
        self._budget = budget

    async def open(self, in_loop: sqlite3.Connection | None = None) -> None:
        """Open the connections. The caller still owns ``in_loop``, which serves reads in the loop.

        Without it the reader opens one more.
        """
        await self._worker.run(self._open, in_loop)
        self._budget.on_tick_end = self._shared.release

    async def close(self) -> None:
        self._shared.close()
        try:
            await self._worker.run(self._close)
        except RuntimeError:  # the interpreter shuts down and has ended the thread
            self._close()
        self._worker.stop()

    async def one(self, sql: str, parameters: Sequence[Any]) -> Row | None:
        """Return the first row of a point read."""
        started = perf_counter()
        if self._budget.exhausted(started):
            self._shared.on_wait(started)
            await self._budget.wait()
            started = perf_counter()
        if started < self._thread_until:
            return await self._one_in_thread(sql, parameters)
        self._shared.on_read(started)
        try:
            rows = self._execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            # Busy while another process recovers the WAL. The thread waits for the lock, and
            # returns text that is not UTF-8 as bytes.
            if is_busy(exc) or is_undecodable(exc):
                return await self._one_in_thread(sql, parameters)
            raise translate(exc, self._path) from exc
        is_slow = perf_counter() - started > self._slow_after_s
        if is_slow or self._slow_read_bitmap:
            self._record_latency(is_slow)
        return rows[0] if rows else None

    def version(self) -> int | None:
        """A number that changes with each commit of another connection, None if unknown now."""
        if perf_counter() < self._thread_until:
            return None
        try:
            rows = self._execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:
            return None
        version: int = rows[0][0]
        return version

    async def all(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        """Return all rows of a read that may be long."""
        return await self._worker.run(self._all, sql, parameters)

    @contextmanager
    def force_thread_reads(self) -> Generator[None]:
        """Run no read in the event loop during the block."""
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
            # Only here: a Python function for each text is too slow for the reads in the loop.
            self._in_thread.text_factory = _text_or_bytes
            self._owns_in_loop = in_loop is None
            self._in_loop = in_loop or opened.enter_context(closing(self._connect()))
            self._execute = self._in_loop.cursor().execute  # one cursor: each read drains it
            shared = opened.enter_context(closing(self._connect()))
            self._shared = SharedReadTransaction(shared)
            for connection in (self._in_loop, shared):
                # From here on the event loop uses it, and must not block on a lock.
                connection.execute("PRAGMA busy_timeout = 0").fetchall()
            opened.pop_all()

    def _connect(self) -> sqlite3.Connection:
        return open_reader(self._path, self._busy_timeout_s)

    def _close(self) -> None:
        if self._owns_in_loop:
            self._in_loop.close()
        self._in_thread.close()

    def _all(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        try:
            return self._in_thread.execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            raise translate(exc, self._path) from exc

    def _record_latency(self, is_slow: bool) -> None:
        self._slow_read_bitmap = (self._slow_read_bitmap << 1 | is_slow) & WINDOW_MASK
        # The bitmap stays: after the period in the thread, one more slow read starts the next.
        if is_slow and self._slow_read_bitmap.bit_count() >= MIN_SLOW_READS:
            self._thread_until = perf_counter() + THREAD_READS_S


def _text_or_bytes(data: bytes) -> str | bytes:
    """The text, or bytes that are not UTF-8 as they are, for the decoder to refuse."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
