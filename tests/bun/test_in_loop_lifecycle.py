"""Opening and closing the `Database` in the event loop, and closing its loop."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from goscope.errors import BackendUnavailable, ScopeNotOpen
from goscope_bun_compat import BunSQLiteAdapter
from goscope_bun_compat._in_loop import InLoopDatabase

from .writes import insert, inserted, write_lock

pytestmark = pytest.mark.asyncio


async def test_a_closed_adapter_leaves_one_file(path: Path) -> None:
    async with BunSQLiteAdapter(path) as adapter:
        await adapter.cache.set("key", 1)
        await adapter.cache.keys()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(ScopeNotOpen):
        await adapter.cache.get("key")


async def test_the_connection_is_closed_in_the_thread(path: Path) -> None:
    """Closing the last connection checkpoints the WAL, which may take long."""
    closed_in: list[str] = []

    class Watched(sqlite3.Connection):
        def close(self) -> None:
            closed_in.append(threading.current_thread().name)
            super().close()

    async with BunSQLiteAdapter(path) as adapter:
        database = adapter._database
        assert isinstance(database, InLoopDatabase)
        assert database._writer is not None
        database._writer.close()
        database._writer = sqlite3.connect(path, factory=Watched, check_same_thread=False)
    assert len(closed_in) == 1
    assert closed_in[0].startswith("goscope-sqlite-bun")


async def test_use_in_another_event_loop_is_refused(adapter: BunSQLiteAdapter) -> None:
    def elsewhere() -> None:
        with pytest.raises(BackendUnavailable):
            asyncio.run(adapter.cache.set("key", 1))

    await asyncio.to_thread(elsewhere)


async def test_a_closing_event_loop_finishes_the_submitted_writes(path: Path) -> None:
    """The loop cancels every task, including the one that waits for the lock."""
    adapter = BunSQLiteAdapter(path, busy_timeout="60s")
    writes: list[asyncio.Future[str]] = []

    async def main() -> None:
        await adapter.connect()
        with write_lock(path):
            writes.append(adapter._database.submit(insert("w1")))
            await asyncio.sleep(0.02)

    await asyncio.to_thread(asyncio.run, main())
    assert writes[0].result() == "w1"
    assert inserted(path) == ["w1"]
    with pytest.raises(BackendUnavailable):
        await adapter.disconnect()
    await adapter._database._close_connections()  # no program can do this any more


async def test_a_closing_event_loop_waits_for_the_thread(path: Path) -> None:
    """A large write is finished in the thread, and does not run a second time in the loop."""
    adapter = BunSQLiteAdapter(path)
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
        writes.append(adapter._database.submit(work, rows=1000))
        while not running.is_set():  # noqa: ASYNC110  # set in a thread
            await asyncio.sleep(0.001)

    await asyncio.to_thread(asyncio.run, main())
    assert writes[0].result() == "w1"
    assert inserted(path) == ["w1"]
    assert len(threads) == 1
    assert threads[0].startswith("goscope-sqlite-bun")
    with pytest.raises(BackendUnavailable):
        await adapter.disconnect()
    await adapter._database._close_connections()  # no program can do this any more
