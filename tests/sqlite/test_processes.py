"""Several processes on one file."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from goscope.errors import BackendBusy
from goscope.providers import LockHandle, LockProvider, SupportsWait
from goscope_sqlite import SQLiteAdapter

Query = Callable[..., list[tuple[Any, ...]]]

CHILD = """
import asyncio, sys
from goscope_sqlite import SQLiteAdapter

async def main():
    async with SQLiteAdapter(sys.argv[1], locks="shared", busy_timeout="60s") as adapter:
        {body}

asyncio.run(main())
"""

HOLD = """
        handle = await adapter.lock.acquire("key", "1h")
        print(handle.fencing_token, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await handle.release()
        print("released", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
"""


@contextmanager
def child(path: Path, body: str) -> Generator[subprocess.Popen[str]]:
    """Run another process with an adapter on the file; it is killed at the end of the block."""
    with program(path, CHILD.format(body=body.strip())) as process:
        yield process


@contextmanager
def program(path: Path, source: str) -> Generator[subprocess.Popen[str]]:
    """Run a program on the file in another process; it is killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def line(stream: IO[str] | None) -> str:
    assert stream is not None
    async with asyncio.timeout(60):
        return (await asyncio.to_thread(stream.readline)).strip()


def resume(process: subprocess.Popen[str]) -> None:
    """Let the child run its next step."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


async def acquired(locks: LockProvider, key: str) -> LockHandle:
    handle = await locks.acquire(key)
    assert handle is not None
    return handle


@pytest.mark.asyncio
async def test_a_lock_excludes_other_processes_and_its_release_is_noticed(path: Path) -> None:
    async with SQLiteAdapter(path, locks="shared", busy_timeout="60s") as adapter:
        with child(path, HOLD) as holder:
            token = int(await line(holder.stdout))
            assert isinstance(adapter.lock, SupportsWait)
            assert await adapter.lock.acquire("key") is None
            found = await adapter.lock.holder("key")
            assert found is not None
            assert (found.pid, found.fencing_token) == (holder.pid, token)
            waiting = asyncio.create_task(adapter.lock.wait_released("key", "120s"))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            resume(holder)
            assert await line(holder.stdout) == "released"
            assert await asyncio.wait_for(waiting, 60)
            mine = await acquired(adapter.lock, "key")
            assert mine.fencing_token is not None
            assert mine.fencing_token > token


@pytest.mark.asyncio
async def test_the_lock_of_a_killed_process_is_free_at_once(path: Path) -> None:
    """Its lease would run for another hour."""
    async with SQLiteAdapter(path, locks="shared", busy_timeout="60s") as adapter:
        with child(path, HOLD) as holder:
            token = int(await line(holder.stdout))
            assert isinstance(adapter.lock, SupportsWait)
            waiting = asyncio.create_task(adapter.lock.wait_released("key", "120s"))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            holder.send_signal(signal.SIGKILL)
            holder.wait(60)
            assert await asyncio.wait_for(waiting, 60)
            mine = await acquired(adapter.lock, "key")
            assert mine.fencing_token is not None
            assert mine.fencing_token > token


@pytest.mark.asyncio
async def test_completed_writes_survive_the_death_of_the_process(path: Path, query: Query) -> None:
    body = """
        number = 0
        while True:
            await adapter.cache.set(f"{number}", number)
            print(number, flush=True)
            number += 1
"""
    with child(path, body) as writer:
        for _ in range(200):
            await line(writer.stdout)
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
    last = max([199, *(int(number) for number in rest.splitlines() if number)])
    async with SQLiteAdapter(path) as adapter:
        for number in range(last):
            assert await adapter.cache.get(f"{number}") == number
    assert query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.asyncio
async def test_counters_of_several_processes_lose_no_increment(path: Path) -> None:
    body = """
        for number in range(20):
            await asyncio.gather(*(adapter.cache.increment("count") for _ in range(20)))
            await adapter.circuit_breaker.record_failure("key", 1000)
        print("done")
"""
    async with SQLiteAdapter(path, busy_timeout="60s") as adapter:
        with child(path, body) as one, child(path, body) as two:
            for each in (one, two):
                assert await line(each.stdout) == "done"
        assert await adapter.cache.get("count") == 800
        state = await adapter.circuit_breaker.get_state("key")
        assert state is not None
        assert state.failure_count == 40


@pytest.mark.asyncio
async def test_a_write_waits_for_another_writer_and_reads_do_not(path: Path) -> None:
    async with SQLiteAdapter(path, busy_timeout="120s") as adapter:
        await adapter.cache.set("key", 1)
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(adapter.cache.set("key", 2))
            async with asyncio.timeout(60):
                for _ in range(50):
                    assert await adapter.cache.get("key") == 1
                assert await adapter.cache.keys() == ["key"]
            assert not writing.done()
            other.execute("COMMIT")
            await writing
        finally:
            other.close()
        assert await adapter.cache.get("key") == 2


INTERRUPTED_COMMIT = """
import sqlite3, sys

CHANGES = 8
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
with open(sys.argv[1] + "-shm", "r+b", buffering=0) as index:
    index.seek(CHANGES)
    (changes,) = index.read(1)
    index.seek(CHANGES)
    index.write(bytes([changes ^ 1]))
    print("interrupted", flush=True)
    sys.stdin.readline()
    index.seek(CHANGES)
    index.write(bytes([changes]))
    connection.execute("ROLLBACK")
    print("done", flush=True)
    sys.stdin.readline()
"""
"""Imitates a process suspended while it publishes a commit: it holds the write lock, and the change
counters in the two copies of the WAL-index header differ."""


@pytest.mark.long
@pytest.mark.asyncio
async def test_a_process_suspended_while_committing_is_named_as_the_cause(path: Path) -> None:
    """SQLite retries for 10 s, whatever the busy timeout; a read and a write wait concurrently."""
    async with SQLiteAdapter(path) as adapter:
        await adapter.cache.set("key", 1)
        with program(path, INTERRUPTED_COMMIT) as other:
            assert await line(other.stdout) == "interrupted"
            writing = asyncio.create_task(adapter.cache.set("key", 2))
            await asyncio.sleep(0.05)  # so that both wait at the same time
            with pytest.raises(BackendBusy, match="resume or end it"):
                await adapter.cache.get("key")
            with pytest.raises(BackendBusy, match="resume or end it"):
                await writing
            resume(other)
            assert await line(other.stdout) == "done"
            assert await adapter.cache.get("key") == 1
            await adapter.cache.set("key", 3)
        assert await adapter.cache.get("key") == 3


@pytest.mark.asyncio
async def test_opening_waits_for_a_locked_file(path: Path) -> None:
    """SQLite itself refuses the switch to WAL at once, whatever the busy timeout."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("CREATE TABLE t (a)")
        other.execute("BEGIN IMMEDIATE")
        adapter = SQLiteAdapter(path, busy_timeout="60s")
        connecting = asyncio.create_task(adapter.connect())
        await asyncio.sleep(0.1)
        assert not connecting.done()
        other.execute("COMMIT")
        await connecting
        await adapter.disconnect()
    finally:
        other.close()


@pytest.mark.asyncio
async def test_opening_a_file_that_stays_locked_fails_after_the_busy_timeout(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("CREATE TABLE t (a)")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendBusy, match="raise busy_timeout"):
            await SQLiteAdapter(path, busy_timeout="50ms").connect()
    finally:
        other.close()


def test_concurrent_first_opens_all_succeed(tmp_path: Path) -> None:
    """One of them creates the tables, the others find them."""
    errors: list[BaseException] = []

    async def use(path: Path) -> None:
        async with SQLiteAdapter(path, busy_timeout="60s") as adapter:
            await adapter.cache.increment("opened")

    def run(path: Path, barrier: threading.Barrier) -> None:
        try:
            barrier.wait(60)
            asyncio.run(use(path))
        except BaseException as exc:
            errors.append(exc)

    for number in range(5):
        path = tmp_path / f"{number}.db"
        barrier = threading.Barrier(16)
        openers = [threading.Thread(target=run, args=(path, barrier)) for _ in range(16)]
        for opener in openers:
            opener.start()
        for opener in openers:
            opener.join()

        async def count(path: Path = path) -> object:
            async with SQLiteAdapter(path) as adapter:
                return await adapter.cache.get("opened")

        assert not errors
        assert asyncio.run(count()) == 16


WRITES = """
        for number in range(150):
            text = f"{number}" + "y" * 3000
            await asyncio.gather(*(adapter.cache.set(f"y{n}", text) for n in range(50)))
        print("done")
"""

READS_WITHOUT_A_PAUSE = """
        while await adapter.cache.get("end") is None:
            await asyncio.gather(*(adapter.cache.get(f"x{n % 50}") for n in range(1000)))
        print("done")
"""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "rounds"), [(WRITES, 150), (READS_WITHOUT_A_PAUSE, 300)], ids=["writes", "reads"]
)
async def test_the_wal_stays_small_whatever_another_process_does(
    path: Path, body: str, rounds: int
) -> None:
    """60 MB pass through it. The reading process holds a read mark nearly all the time."""
    wal = path.with_name(f"{path.name}-wal")
    sizes: list[int] = []
    async with SQLiteAdapter(path, busy_timeout="60s") as adapter:
        with child(path, body) as other:
            for number in range(rounds):
                text = f"{number}" + "x" * 3000
                await asyncio.gather(*(adapter.cache.set(f"x{n}", text) for n in range(50)))
                sizes.append(wal.stat().st_size)
            await adapter.cache.set("end", 1)
            assert await line(other.stdout) == "done"
    written = (
        rounds * 50 * 3000
    )  # the frames of all that are larger still: pages, and their headers
    assert max(sizes) < written, "the WAL never restarted"
