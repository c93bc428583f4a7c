"""Writes for the tests of group commit, and ways to make them share a batch."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.batch import WriteQueue
from goscope_sqlite._engine.writer import MAX_LOOP_ROWS

from .conftest import Query

LONG = "x" * 200_000
"""A value that needs more pages than the tests leave free on a full disk."""


def insert(key: str, value: object = 0) -> Callable[[sqlite3.Connection], str]:
    """A write of one row."""

    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO go_goscope_meta VALUES (?, ?)", (key, value))
        return key

    return work


def inserted(query: Query) -> list[str]:
    return [key for (key,) in query("SELECT key FROM go_goscope_meta WHERE key GLOB 'w[0-9]*'")]


@contextmanager
def write_lock(path: Path) -> Generator[None]:
    """Hold the write lock as another process would."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


class Gate:
    """A write that blocks in its transaction until the gate opens, which ``with`` guarantees."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._opened.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.open()

    def open(self) -> None:
        self._opened.set()

    async def wait_entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, 60)


LARGE = MAX_LOOP_ROWS + 1
"""The number of rows of a write that runs in the thread."""


def queue_of(adapter: SQLiteAdapter) -> WriteQueue:
    return adapter._database._writer._queue


async def together(
    adapter: SQLiteAdapter, *works: Callable[[sqlite3.Connection], Any]
) -> list[Any]:
    """Submit the writes behind a blocked one, so that they share a batch. Return the outcomes."""
    with Gate() as gate:
        running = adapter._database.submit(gate, rows=LARGE)
        writes = [adapter._database.submit(work) for work in works]
    await running
    return await asyncio.gather(*writes, return_exceptions=True)


async def set_together(adapter: SQLiteAdapter, entries: list[tuple[str, object]]) -> list[Any]:
    """Set the entries behind a blocked write, so that they share a batch. Return the outcomes."""
    with Gate() as gate:
        running = adapter._database.submit(gate, rows=LARGE)
        await gate.wait_entered()
        sets = [asyncio.create_task(adapter.cache.set(*entry)) for entry in entries]
        async with asyncio.timeout(60):
            while len(queue_of(adapter)) < len(entries):  # noqa: ASYNC110  # sets no event
                await asyncio.sleep(0)
    await running
    return await asyncio.gather(*sets, return_exceptions=True)


async def limit_to_free_pages(adapter: SQLiteAdapter, query: Query, free: int) -> None:
    """Simulate a disk with room for so many more pages."""
    pages = query("PRAGMA page_count")[0][0]
    await adapter._database.submit(
        lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + free}").fetchall()
    )
