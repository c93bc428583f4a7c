"""A fork while files are open. Each test runs a separate program, which forks itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

PRELUDE = """
import asyncio, multiprocessing, os, sqlite3, sys, threading
import goscope
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

path, Adapter = sys.argv[1], {"sqlite": SQLiteAdapter, "bun": BunSQLiteAdapter}[sys.argv[2]]
context = multiprocessing.get_context("fork")

def in_child(work, *arguments):
    '''Start a child that runs the coroutine function; its process and its answers.'''
    answers = context.Queue()
    def run():
        try:
            answers.put(asyncio.run(work(*arguments)))
        except BaseException as exc:
            answers.put(f"{type(exc).__name__}: {exc}")
    process = context.Process(target=run)
    process.start()
    return process, answers

async def answer(process, answers, exitcode=0):
    found = await asyncio.to_thread(answers.get, True, 60)
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == exitcode, process.exitcode
    return found
"""

ADAPTERS = pytest.mark.parametrize("adapter", ["sqlite", "bun"])


def run(program: str, path: Path, adapter: str = "sqlite", *, timeout_s: float = 110) -> str:
    """Run the program; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELUDE + program, str(path), adapter],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@ADAPTERS
def test_the_same_scope_can_be_opened_in_the_child(path: Path, adapter: str) -> None:
    program = """
gs = goscope.Scope(persistence=Adapter(path))
started = asyncio.Event()

@gs.cached("1h", key="n:{number}")
async def double(number):
    started.set()
    await asyncio.sleep(0.2)
    return number * 2

async def child():
    assert not gs.is_open
    try:
        await gs.cache.get("n:4")
    except goscope.ScopeNotOpen as exc:
        assert "before this process was forked" in str(exc), exc
    await gs.close()
    async with gs, gs.lock("held"):
        return await asyncio.wait_for(double(4), 20)

async def main():
    async with gs, gs.lock("held", ttl="1h"):
        computing = asyncio.create_task(double(4))
        await started.wait()
        found = await answer(*in_child(child))
        assert await computing == 8
        assert await gs.cache.get("n:4") == 8
        print(found)

asyncio.run(main())
"""
    assert run(program, path, adapter) == "8\n"


@ADAPTERS
def test_what_children_write_outlives_a_parent_that_closes_the_file(
    path: Path, adapter: str
) -> None:
    """Without its own locks, the child writes into a WAL that the parent has removed."""
    program = """
async def child(number, writes):
    async with Adapter(path) as own:
        for step in range(writes):
            await own.cache.set(f"{number}:{step}", step)
            await asyncio.sleep(0.001)
    return writes

async def write(adapter, number):
    for step in range(10**9):
        await adapter.cache.set(f"parent:{number}:{step % 100}", step)

async def main():
    expected = 0
    for round in range(6):
        adapter = Adapter(path)
        await adapter.connect()
        writers = [asyncio.create_task(write(adapter, it)) for it in range(4)]
        children = []
        for number in range(4):
            await asyncio.sleep(0.003)
            children.append(in_child(child, f"{round}.{number}", 20))
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)
        await adapter.disconnect()  # while the children write
        for started in children:
            assert await answer(*started) == 20
            expected += 20
    connection = sqlite3.connect(path)
    rows = "SELECT count(*) FROM go_goscope_cache WHERE key NOT LIKE 'cache:parent:%'"
    print(connection.execute(rows).fetchone()[0] - expected)
    print(connection.execute("PRAGMA integrity_check").fetchone()[0])

asyncio.run(main())
"""
    assert run(program, path, adapter) == "0\nok\n"


@ADAPTERS
def test_a_child_holds_locks_on_the_file_that_its_parent_sees(path: Path, adapter: str) -> None:
    """The parent closes last, and must not remove the WAL."""
    program = """
async def child(closed, written):
    async with Adapter(path) as own:
        await own.cache.set("before", 1)
        written.set()
        await asyncio.to_thread(closed.wait, 60)
        await own.cache.set("after", 2)
        assert os.path.exists(path + "-wal")
    return "done"

async def main():
    closed, written = context.Event(), context.Event()
    async with Adapter(path) as adapter:
        started = in_child(child, closed, written)
        await asyncio.to_thread(written.wait, 60)
        assert await adapter.cache.get("before") == 1
    closed.set()
    assert await answer(*started) == "done"
    async with Adapter(path) as adapter:
        print(await adapter.cache.get("before"), await adapter.cache.get("after"))

asyncio.run(main())
"""
    assert run(program, path, adapter) == "1 2\n"


@ADAPTERS
def test_a_child_that_a_thread_forks_is_refused(path: Path, adapter: str) -> None:
    """The event loop may be in the middle of a call then."""
    program = """
async def child():
    async with Adapter(path):
        return "opened"

async def main():
    async with Adapter(path) as adapter:
        await adapter.cache.set("key", 1)
        # Such a child ends with 1, whatever it does.
        found = await answer(*await asyncio.to_thread(in_child, child), exitcode=1)
        assert found.startswith("BackendUnavailable: "), found
        assert "after the fork only" in found and "'spawn'" in found, found
        assert await adapter.cache.get("key") == 1
        await adapter.cache.set("key", 2)
        print("refused")

asyncio.run(main())
"""
    assert run(program, path, adapter) == "refused\n"


@ADAPTERS
def test_a_child_is_refused_a_file_to_which_the_host_has_a_connection(
    path: Path, adapter: str
) -> None:
    program = """
async def child():
    async with Adapter(path):
        return "opened"

async def main():
    async with Adapter(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("SELECT count(*) FROM go_goscope_cache").fetchone()
    found = await answer(*in_child(child))
    assert found.startswith("BackendUnavailable: "), found
    connection.close()
    print(await answer(*in_child(child)))

asyncio.run(main())
"""
    assert run(program, path, adapter) == "opened\n"


@ADAPTERS
def test_a_preloaded_application_is_opened_in_each_worker(path: Path, adapter: str) -> None:
    """As gunicorn does with preload_app: imported in the parent, opened after the fork."""
    program = """
gs = goscope.Scope(persistence=Adapter(path, locks="shared"))
computed = []

@gs.cached("1h", key="n:{number}")
async def double(number):
    await asyncio.sleep(0.1)
    computed.append(number)
    return number * 2

async def worker():
    async with gs:
        async with gs.lock("key"):
            count = await gs.cache.get("count", 0)
            await asyncio.sleep(0.01)
            await gs.cache.set("count", count + 1)
        await double(4)
        return len(computed)

async def main():
    workers = [in_child(worker) for _ in range(4)]
    computations = sum([await answer(*it) for it in workers])
    async with gs:
        print(computations, await gs.cache.get("count"))

asyncio.run(main())
"""
    assert run(program, path, adapter) == "1 4\n"


def test_a_fork_during_an_open_or_a_close_harms_nobody(path: Path) -> None:
    program = """
async def child():
    try:
        async with Adapter(path) as own:
            await own.cache.set(str(os.getpid()), 1)
            return 1
    except goscope.BackendUnavailable as exc:
        assert "forked" in str(exc), exc
        return 0

async def main():
    written = 0
    for ticks in range(12):
        adapter = Adapter(path)
        for change in (adapter.connect, adapter.disconnect):
            changing = asyncio.create_task(change())
            for _ in range(ticks):
                await asyncio.sleep(0.0005)
            started = in_child(child)
            await changing
            written += await answer(*started)
    async with Adapter(path) as adapter:
        print(len(await adapter.cache.keys()) - written)

asyncio.run(main())
"""
    assert run(program, path) == "0\n"
