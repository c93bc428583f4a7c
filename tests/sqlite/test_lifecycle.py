"""Connecting and disconnecting, and using an adapter in the wrong place."""

# ruff: noqa: ASYNC240  # reading a small local file blocks nobody here

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from goscope import ScopeNotOpen
from goscope.errors import BackendError, BackendUnavailable, SchemaMismatch
from goscope.providers import Capability
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite.schema import VERSION


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name != "goscope-sqlite-exit"}


async def check_ended(before: set[threading.Thread]) -> None:
    """Wait for the threads that were started since to end, which they do in the background."""
    for thread in threads() - before:
        await asyncio.to_thread(thread.join, 60)
        assert not thread.is_alive(), f"still running: {thread}"


@pytest.mark.asyncio
async def test_disconnecting_leaves_one_file_and_no_thread(path: Path) -> None:
    before = threads()
    async with SQLiteAdapter(path) as adapter:
        await adapter.cache.set("key", 1)
        await adapter.cache.keys()
        assert len(list(path.parent.iterdir())) == 3
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    await check_ended(before)


@pytest.mark.asyncio
async def test_a_failed_connect_leaves_nothing_open(path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    adapter = SQLiteAdapter(path)
    before = threads()
    for _ in range(2):
        with pytest.raises(Exception, match="not an SQLite database"):
            await adapter.connect()
    await check_ended(before)
    path.unlink()
    async with adapter:
        assert await adapter.cache.get("key") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("ticks", [0, 1, 2, 5, 20])
async def test_a_cancelled_connect_leaves_nothing_open(path: Path, ticks: int) -> None:
    adapter = SQLiteAdapter(path)
    before = threads()
    task = asyncio.create_task(adapter.connect())
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not adapter.is_connected
    await check_ended(before)
    async with adapter:
        await adapter.cache.set("key", 1)


@pytest.mark.asyncio
async def test_a_relative_path_is_resolved_by_connect(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    async with SQLiteAdapter(path.name) as adapter:
        monkeypatch.chdir("/")
        await adapter.cache.set("key", 1)
        assert await adapter.cache.keys() == ["key"]
        assert await adapter.cache.get("key") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("use", ["get", "set", "keys"])
async def test_an_adapter_that_is_not_connected_raises_scope_not_open(path: Path, use: str) -> None:
    adapter = SQLiteAdapter(path)

    async def check() -> None:
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: adapter.cache.get("key"),
            "set": lambda: adapter.cache.set("key", 1),
            "keys": lambda: adapter.cache.keys(),
        }
        with pytest.raises(ScopeNotOpen, match=r"SQLiteAdapter\('.*store.db'\) is not connected"):
            await calls[use]()  # type: ignore[misc]  # all three are coroutines

    await check()
    async with adapter:
        pass
    await check()


@pytest.mark.asyncio
async def test_a_file_outlives_the_adapter_and_a_store_in_memory_does_not(path: Path) -> None:
    kept: dict[str, object] = {}
    for where in (str(path), ":memory:"):
        adapter = SQLiteAdapter(where)
        async with adapter:
            await adapter.cache.set("key", 1)
        async with adapter:
            kept[where] = await adapter.cache.get("key")
        assert (Capability.PERSISTENT in adapter.capabilities) == (where != ":memory:")
    assert kept == {str(path): 1, ":memory:": None}


def test_an_adapter_can_be_reconnected_in_another_event_loop(path: Path) -> None:
    adapter = SQLiteAdapter(path)

    async def count() -> int:
        async with adapter:
            return await adapter.cache.increment("runs")

    assert [asyncio.run(count()) for _ in range(3)] == [1, 2, 3]


def test_use_in_a_second_event_loop_is_refused(path: Path) -> None:
    adapter = SQLiteAdapter(path)

    async def from_another_loop() -> list[str]:
        sentences: list[str] = []
        for use in (adapter.cache.get("key"), adapter.cache.set("key", 1), adapter.cache.keys()):
            with pytest.raises(BackendUnavailable) as caught:
                await use
            sentences.append(str(caught.value))
        return sentences

    async def main() -> list[str]:
        async with adapter:
            return await asyncio.to_thread(asyncio.run, from_another_loop())

    for sentence in asyncio.run(main()):
        assert "was connected in another event loop" in sentence


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_use_after_a_fork_is_refused_and_the_parent_is_unaffected(path: Path) -> None:
    """The child may open another adapter on the same file."""
    adapter = SQLiteAdapter(path)

    async def child() -> None:
        for use in (adapter.cache.get("key"), adapter.cache.set("key", 2)):
            with pytest.raises(BackendUnavailable, match="before this process was forked"):
                await use
        async with SQLiteAdapter(path) as own:
            await own.cache.set("child", 1)

    def run_child() -> None:
        code = 1
        try:
            asyncio.run(child())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    async def parent() -> int:
        async with adapter:
            await adapter.cache.set("key", 1)
            pid = os.fork()
            if pid == 0:
                threading.Thread(
                    target=run_child
                ).start()  # a thread without the parent's running loop
                threading.Event().wait(60)
                os._exit(2)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            await adapter.cache.set("key", 3)
            assert await adapter.cache.get("key") == 3
            assert await adapter.cache.get("child") == 1
            return os.waitstatus_to_exitcode(status)

    assert asyncio.run(parent()) == 0


UNCLOSED = """
import asyncio, sys
from goscope_sqlite import SQLiteAdapter
keep = []
async def main():
    adapter = SQLiteAdapter(sys.argv[1])
    keep.append(adapter)
    await adapter.connect()
    await adapter.cache.set("key", 1)
    {end}
asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["print('done')", "raise SystemExit('done')", "keep.clear()"])
def test_an_unclosed_adapter_warns_and_does_not_prevent_the_exit(path: Path, end: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", UNCLOSED.format(end=end), path],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "was never disconnected" in run.stderr
    assert "Traceback" not in run.stderr

    async def read() -> object:
        async with SQLiteAdapter(path) as adapter:
            return await adapter.cache.get("key")

    assert asyncio.run(read()) == 1


LOOP_IN_A_THREAD = """
import asyncio, sys, threading
from goscope_sqlite import SQLiteAdapter
connected = threading.Event()
async def main():
    async with SQLiteAdapter(sys.argv[1]) as adapter:
        connected.set()
        while threading.main_thread().is_alive():
            await asyncio.sleep(0.001)
        for number in range(5):
            await adapter.cache.set("key", number)
            await asyncio.sleep(0.05)
        print(threading.main_thread().is_alive(), await adapter.cache.get("key"))
threading.Thread(target=lambda: asyncio.run(main())).start()
connected.wait()
"""


def test_an_event_loop_in_a_thread_outlives_the_main_thread(path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOOP_IN_A_THREAD, path], capture_output=True, text=True, timeout=60
    )
    assert (run.stdout, run.stderr) == ("False 4\n", "")


CLOSING_LOOP = """
import asyncio, sys
from goscope_sqlite import SQLiteAdapter
async def main():
    await adapter.connect()
    tasks = [asyncio.create_task(adapter.cache.set(f"{n}", n)) for n in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks
adapter = SQLiteAdapter(sys.argv[1])
tasks = asyncio.run(main())
assert all(task.done() for task in tasks)
try:
    asyncio.run(adapter.disconnect())
except Exception as exc:
    print(exc)
"""


def test_a_closing_event_loop_finishes_all_calls(path: Path) -> None:
    """The loop cancels every task."""
    run = subprocess.run(
        [sys.executable, "-c", CLOSING_LOOP, path], capture_output=True, text=True, timeout=60
    )
    assert "was connected in another event loop" in run.stdout
    assert "Traceback" not in run.stderr


@pytest.mark.asyncio
async def test_opening_a_schema_from_the_future_fails_without_a_retry(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a locked file is tried again."""
    async with SQLiteAdapter(path) as adapter:
        await adapter._database.submit(
            lambda connection: connection.execute(
                "UPDATE go_goscope_meta SET value = ? WHERE key = 'schema_version'", (VERSION + 1,)
            )
        )
    pauses: list[float] = []
    monkeypatch.setattr("goscope_sqlite._engine.connection.sleep", pauses.append)
    with pytest.raises(SchemaMismatch):
        await SQLiteAdapter(path, busy_timeout="1h").connect()
    assert pauses == []


@pytest.mark.asyncio
async def test_a_reader_that_cannot_be_opened_is_a_named_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    adapter = SQLiteAdapter(path)
    with monkeypatch.context() as patch:
        patch.setattr("goscope_sqlite._engine.reader.open_reader", fail)
        with pytest.raises(BackendError, match="disk I/O error"):
            await adapter.connect()
    async with adapter:
        await adapter.cache.set("key", 1)
