"""The `Database` that runs in the event loop: what it does at once, together, and elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope.errors import BackendBusy, BackendUnavailable, CorruptValue, ScopeNotOpen
from goscope.providers import Checkpoint
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter, Database
from goscope_bun_compat._in_loop import InLoopDatabase

pytestmark = pytest.mark.asyncio

LOG_LIMIT = 4 * 1024 * 1024

Work = Callable[[sqlite3.Connection], str]


@pytest_asyncio.fixture
async def adapter(path: Path) -> AsyncIterator[BunSQLiteAdapter]:
    async with BunSQLiteAdapter(path, busy_timeout="500ms") as adapter:
        yield adapter


@contextmanager
def write_lock(path: Path) -> Generator[None]:
    """Hold the write lock as another process would."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


def insert(key: str) -> Work:
    """A write of one row."""

    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO go_goscope_meta VALUES (?, 0)", (key,))
        return key

    return work


def inserted(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT key FROM go_goscope_meta WHERE key GLOB 'w[0-9]*'").fetchall()
    connection.close()
    return sorted(key for (key,) in rows)


def where(connection: sqlite3.Connection) -> str:
    connection.execute("UPDATE go_goscope_meta SET value = value WHERE key = 'token'")
    return threading.current_thread().name


# --- at once and together ----------------------------------------------------------------------


async def test_a_lone_write_is_committed_at_once(adapter: BunSQLiteAdapter, path: Path) -> None:
    write = adapter._database.submit(insert("w1"))
    assert write.done()
    assert inserted(path) == ["w1"]


async def test_writes_of_one_turn_are_committed_together(
    adapter: BunSQLiteAdapter, path: Path
) -> None:
    adapter._database._queue._max_work_s = 60  # on a slow machine, too
    seen: list[int] = []
    alone = adapter._database.submit(insert("w0"))
    await asyncio.sleep(0.01)
    with write_lock(path):  # so that none of them is alone
        writes = [adapter._database.submit(insert(f"w{number}")) for number in range(1, 11)]
    assert not any(write.done() for write in writes)
    writes[0].add_done_callback(lambda _: seen.append(len(inserted(path))))
    await asyncio.gather(*writes)
    assert alone.done()
    assert seen == [11], "the first was resolved before the last was committed"


async def test_a_batch_and_its_callers_have_turns_of_their_own(
    adapter: BunSQLiteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer is up to three turns late, so two short ones hold it up less than a long one."""
    loop: Any = asyncio.get_running_loop()
    select, turns = loop._selector.select, itertools.count(1)
    turn = 0

    def begin_turn(timeout: float | None = None) -> Any:
        nonlocal turn
        turn = next(turns)
        return select(timeout)

    monkeypatch.setattr(loop._selector, "select", begin_turn)
    batches: set[int] = set()
    callers: set[int] = set()

    async def write() -> None:
        for _ in range(20):
            await adapter._database.submit(lambda _: batches.add(turn))
            callers.add(turn)

    await asyncio.gather(*(write() for _ in range(64)))
    at_once = {min(batches)}  # the first caller goes on before there is a crowd
    assert len(batches) >= 64 * 20 / 16
    assert batches & callers <= at_once


async def test_no_statement_in_the_loop_writes_many_rows(
    adapter: BunSQLiteAdapter, path: Path
) -> None:
    """Where each row is slow to come, nothing else could run until the last one was there."""
    statements: list[str] = []
    await adapter._database.submit(
        lambda connection: connection.set_trace_callback(statements.append), autocommit=True
    )
    with write_lock(path):
        writing = [asyncio.create_task(adapter.cache.set(f"key{n}", n)) for n in range(10)]
        await asyncio.sleep(0.01)
    await asyncio.gather(*writing)
    written = [text.count("'cache:") for text in statements if text.lstrip().startswith("INSERT")]
    assert sum(written) >= 10  # those that waited for the lock were tried before
    assert max(written) == 1


async def test_one_that_fails_leaves_the_others_alone(
    adapter: BunSQLiteAdapter, path: Path
) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO go_goscope_meta VALUES ('w9', 0)")
        raise CorruptValue("key", "as the test wants it")

    with write_lock(path):
        first = adapter._database.submit(insert("w1"))
        second = adapter._database.submit(fails)
        third = adapter._database.submit(insert("w3"))
    assert list(await asyncio.gather(first, third)) == ["w1", "w3"]
    with pytest.raises(CorruptValue):
        await second
    assert inserted(path) == ["w1", "w3"]


async def test_a_writer_that_never_waits_yields_the_loop(adapter: BunSQLiteAdapter) -> None:
    """An await that is done at once never yields by itself."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    began = time.perf_counter()
    while time.perf_counter() - began < 0.2:
        await adapter.cache.set("key", turns)
        await adapter.cache.get("key")
    turning.cancel()
    assert turns > 20


# --- when another process writes ---------------------------------------------------------------


async def test_a_foreign_write_lock_delays_the_callers_and_not_the_loop(
    adapter: BunSQLiteAdapter, path: Path
) -> None:
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)

    ticking = asyncio.create_task(tick())
    await adapter.cache.set("old", 1)
    with write_lock(path):
        writing = [asyncio.create_task(adapter.cache.set(f"{n}", n)) for n in range(64)]
        for _ in range(10):
            await asyncio.sleep(0.03)
            assert await adapter.cache.get("old") == 1, "reads do not wait"
        assert not any(write.done() for write in writing)
    await asyncio.gather(*writing)
    ticking.cancel()
    assert longest < 0.15, "a wait in the loop would have been one of 300 ms"


async def test_a_lock_held_longer_than_the_busy_timeout(
    adapter: BunSQLiteAdapter, path: Path
) -> None:
    """Each write has its own patience, and the next one is as good as new."""
    with write_lock(path):
        early = asyncio.create_task(adapter.cache.set("early", 1))
        await asyncio.sleep(0.3)
        late = asyncio.create_task(adapter.cache.set("late", 1))
        with pytest.raises(BackendBusy, match="busy_timeout"):
            await early
        assert not late.done(), "it has waited for 0.2 of its 0.5 s"
    await late
    assert await adapter.cache.keys() == ["late"]


async def test_a_caller_that_is_cancelled_while_it_waits_writes_nothing(
    adapter: BunSQLiteAdapter, path: Path
) -> None:
    with write_lock(path):
        waiting = asyncio.create_task(adapter.cache.set("key", 1))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await adapter.cache.set("other", 1)
    assert await adapter.cache.keys() == ["other"]


async def test_disconnecting_finishes_what_waits(path: Path) -> None:
    async with BunSQLiteAdapter(path) as adapter:
        with write_lock(path):
            write = adapter._database.submit(insert("w1"))
        assert not write.done()
    assert write.done()
    assert inserted(path) == ["w1"]


# --- in the thread -----------------------------------------------------------------------------


async def test_only_a_write_of_many_rows_leaves_the_loop(adapter: BunSQLiteAdapter) -> None:
    here = threading.current_thread().name
    assert await adapter._database.submit(where) == here
    assert await adapter._database.submit(where, rows=1000) != here
    assert await adapter._database.submit(where) == here


async def traced(connection: sqlite3.Connection, awaitable: Awaitable[object]) -> set[str]:
    """The threads in which the connection runs statements meanwhile."""
    threads: set[str] = set()
    connection.set_trace_callback(lambda _: threads.add(threading.current_thread().name))
    await awaitable
    connection.set_trace_callback(None)
    return threads


@pytest.mark.parametrize(("length", "leaves"), [(1_000, False), (200_000, True)])
async def test_a_long_value_counts_for_many_rows(
    adapter: BunSQLiteAdapter, length: int, leaves: bool
) -> None:
    database = adapter._database
    assert isinstance(database, InLoopDatabase)
    assert database._writer is not None
    value = "x" * length
    writes = (
        adapter.cache.set("key", value),
        adapter.checkpoint.save(
            Checkpoint(id="id", task_id="task", sequence=1, timestamp=1, data=value)
        ),
        adapter.idempotency.set("key", value),
    )
    for write in writes:
        threads = await traced(database._writer, write)
        assert (threads != {threading.current_thread().name}) == leaves


async def test_the_sweeper_removes_what_has_expired_in_the_loop(path: Path) -> None:
    """While a write runs in the thread, point reads have to go there too."""
    clock = FakeClock()
    async with BunSQLiteAdapter(path, clock=clock) as adapter:
        await adapter.cache.set_many({f"{number}": 1 for number in range(200)}, "1s")
        await clock.advance("1s")
        database = adapter._database
        assert isinstance(database, InLoopDatabase)
        assert database._writer is not None
        threads = await traced(database._writer, adapter._sweeper.sweep())
        assert threads == {threading.current_thread().name}
        rows = await database.read_all("SELECT count(*) FROM go_goscope_cache", ())
        assert rows == [(0,)]


async def test_nobody_sees_half_of_a_write_that_runs_in_the_thread(
    adapter: BunSQLiteAdapter,
) -> None:
    """The reads of the loop share its connection, but not its transaction."""
    entered, leave = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE go_goscope_cache SET value = '2'")
        entered.set()
        leave.wait(10)

    await adapter.cache.set("key", 1)
    writing = adapter._database.submit(slow, rows=1000)
    try:
        assert await asyncio.to_thread(entered.wait, 10)
        assert await adapter.cache.get("key") == 1
        assert await adapter.cache.get_many(["key"]) == {"key": 1}
        waiting = adapter._database.submit(insert("w1"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
    finally:
        leave.set()
    await writing
    assert await adapter.cache.get("key") == 2
    assert await waiting == "w1"


async def test_the_log_is_moved_and_begun_anew(adapter: BunSQLiteAdapter, path: Path) -> None:
    """Of 20 MB that go through it less than 4 are left, and reads never notice."""
    log = path.with_name(f"{path.name}-wal")
    for number in range(400):
        await adapter.cache.set(f"{number % 50}", f"{number}" * 20_000)
        assert await adapter.cache.has(f"{number % 50}")
    async with asyncio.timeout(10):
        while log.stat().st_size > LOG_LIMIT:
            await asyncio.sleep(0.01)
            await adapter.cache.set("key", time.time())
    assert len(await adapter.cache.get_many([f"{number}" for number in range(50)])) == 50


async def test_many_values_at_once_are_all_there_or_none(adapter: BunSQLiteAdapter) -> None:
    values = {f"{number}": {"number": number} for number in range(2000)}
    await adapter.cache.set_many(values)
    assert await adapter.cache.get_many(list(values)) == values
    assert await adapter.cache.delete_many(list(values)) == 2000
    assert await adapter.cache.keys() == []


# --- opening and closing -----------------------------------------------------------------------


async def test_a_closed_adapter_leaves_one_file(path: Path) -> None:
    async with BunSQLiteAdapter(path) as adapter:
        await adapter.cache.set("key", 1)
        await adapter.cache.keys()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(ScopeNotOpen):
        await adapter.cache.get("key")


async def test_the_file_is_closed_where_that_holds_up_nobody(path: Path) -> None:
    """The last connection to be closed moves what is left of the log."""
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


async def test_another_loop_is_refused(adapter: BunSQLiteAdapter) -> None:
    def elsewhere() -> None:
        with pytest.raises(BackendUnavailable):
            asyncio.run(adapter.cache.set("key", 1))

    await asyncio.to_thread(elsewhere)


async def test_a_schema_that_another_process_locks_is_waited_for(path: Path) -> None:
    Database(path).close()
    with write_lock(path), pytest.raises(BackendBusy):
        await BunSQLiteAdapter(path, busy_timeout="50ms").connect()
    async with BunSQLiteAdapter(path) as adapter:
        assert await adapter.cache.keys() == []


async def test_a_closing_loop_finishes_what_was_submitted(path: Path) -> None:
    """The loop cancels every task, the one that waits for the lock included."""
    adapter = BunSQLiteAdapter(path)
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
    await adapter._database._close_connections()  # which no program can do any more


async def test_a_closing_loop_waits_for_the_thread(path: Path) -> None:
    """A large write that is running there is finished there, and not begun again beside it."""
    adapter = BunSQLiteAdapter(path)
    threads: list[str] = []
    writes: list[asyncio.Future[str]] = []

    async def main() -> None:
        await adapter.connect()
        running = threading.Event()

        def work(connection: sqlite3.Connection) -> str:
            threads.append(threading.current_thread().name)
            running.set()
            time.sleep(0.1)  # so that the loop closes meanwhile
            return insert("w1")(connection)

        writes.append(adapter._database.submit(work, rows=1000))
        while not running.is_set():  # noqa: ASYNC110  # set in a thread, which knows no loop
            await asyncio.sleep(0.001)

    await asyncio.to_thread(asyncio.run, main())
    assert writes[0].result() == "w1"
    assert inserted(path) == ["w1"]
    assert len(threads) == 1
    assert threads[0].startswith("goscope-sqlite-bun")
    with pytest.raises(BackendUnavailable):
        await adapter.disconnect()
    await adapter._database._close_connections()  # which no program can do any more


class Now:
    """A clock that goes on by so many seconds whenever it is read."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._ticks = itertools.count(1)

    def __call__(self) -> float:
        return next(self._ticks) * self._step


@pytest.mark.parametrize(("step", "is_fast"), [(0.000005, True), (0.00005, False)])
async def test_writes_that_come_fast_between_reads_are_committed_together(
    adapter: BunSQLiteAdapter, monkeypatch: pytest.MonkeyPatch, step: float, is_fast: bool
) -> None:
    now = Now(step)
    for place in (
        "goscope_sqlite._engine.reader",
        "goscope._tools.loop_budget",
        "goscope_bun_compat._in_loop",
    ):
        monkeypatch.setattr(f"{place}.perf_counter", now)
    sizes: list[int] = []
    adapter._database.on_commit = sizes.append

    async def read_and_write(number: int) -> None:
        for turn in range(20):
            for _ in range(10 + (number + turn) % 5):
                await adapter.cache.get("key")
            await adapter.cache.set(f"key{number}", turn)

    await asyncio.gather(*(read_and_write(number) for number in range(64)))
    assert sum(sizes) == 64 * 20
    assert len(sizes) < 200 if is_fast else len(sizes) > 1000  # commits of 1280 writes
