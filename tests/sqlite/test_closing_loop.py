"""Closing an adapter, or the event loop of an open one."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from goscope.errors import BackendUnavailable
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.writer_thread import WriterConnection

from .conftest import Query
from .writes import LARGE, insert, inserted, write_lock

pytestmark = pytest.mark.asyncio


async def test_the_connection_is_closed_in_the_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the last connection checkpoints the WAL, which may take long."""
    closed_in: list[str] = []

    def close(connection: sqlite3.Connection) -> None:
        closed_in.append(threading.current_thread().name)
        sqlite3.Connection.close(connection)

    monkeypatch.setattr(WriterConnection, "close", close, raising=False)
    async with SQLiteAdapter(path):
        pass
    assert len(closed_in) == 1
    assert closed_in[0] != threading.current_thread().name


@pytest.mark.parametrize("writes", ["loop", "thread"])
async def test_a_loop_that_closes_at_once_finishes_the_submitted_writes(
    path: Path, query: Query, writes: Any
) -> None:
    """It cancels tasks that have not even begun."""
    adapter = SQLiteAdapter(path, writes=writes)
    submitted: list[asyncio.Future[str]] = []

    async def main() -> None:
        await adapter.connect()
        submitted.extend(adapter._database.submit(insert(f"w{number}")) for number in range(100))

    await asyncio.to_thread(asyncio.run, main())
    assert [write.result() for write in submitted] == [f"w{number}" for number in range(100)]
    assert len(inserted(query)) == 100
    with pytest.raises(BackendUnavailable):
        await adapter.disconnect()
    await adapter._database._close_connections()  # no program can do this any more


async def test_a_closing_event_loop_finishes_the_submitted_writes(path: Path, query: Query) -> None:
    """The loop cancels every task, including the one that waits for the lock."""
    adapter = SQLiteAdapter(path, busy_timeout="60s")
    writes: list[asyncio.Future[str]] = []

    async def main() -> None:
        await adapter.connect()
        with write_lock(path):
            writes.append(adapter._database.submit(insert("w1")))
            await asyncio.sleep(0.02)

    await asyncio.to_thread(asyncio.run, main())
    assert writes[0].result() == "w1"
    assert inserted(query) == ["w1"]
    with pytest.raises(BackendUnavailable):
        await adapter.disconnect()
    await adapter._database._close_connections()  # no program can do this any more


async def test_a_closing_event_loop_waits_for_the_thread(path: Path, query: Query) -> None:
    """A large write is finished in the thread, and does not run a second time in the loop."""
    adapter = SQLiteAdapter(path)
    threads: list[str] = []
    writes: list[asyncio.Future[str]] = []
    noticing: list[asyncio.Task[None]] = []
    closing = threading.Event()

    async def main() -> None:
        await adapter.connect()
        running = threading.Event()

        def work(connection: sqlite3.Connection) -> str:
            threads.append(threading.current_thread().name)
            running.set()
            assert closing.wait(60)
            return insert("w1")(connection)

        async def notice_closing() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                closing.set()

        noticing.append(asyncio.create_task(notice_closing()))
        writes.append(adapter._database.submit(work, rows=LARGE))
        while not running.is_set():  # noqa: ASYNC110  # set in a thread
            await asyncio.sleep(0.001)

    await asyncio.to_thread(asyncio.run, main())
    assert writes[0].result() == "w1"
    assert inserted(query) == ["w1"]
    assert len(threads) == 1
    assert threads[0] != "MainThread"
    with pytest.raises(BackendUnavailable):
        await adapter.disconnect()
    await adapter._database._close_connections()  # no program can do this any more
