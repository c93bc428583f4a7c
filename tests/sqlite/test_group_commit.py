"""Writes share transactions and fail alone; a cancelled one happened or not, whole."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from goscope import Checkpoint
from goscope.errors import BackendBusy, BackendError, BackendFull
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.batch import Write
from goscope_sqlite._engine.multi_row_insert import InsertRow, MultiRowInsert

pytestmark = pytest.mark.asyncio

Query = Callable[..., list[tuple[Any, ...]]]

BIG = "x" * 200_000


def insert(key: str, value: object = 0) -> Callable[[sqlite3.Connection], str]:
    """A write of one row."""

    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO go_goscope_meta VALUES (?, ?)", (key, value))
        return key

    return work


def checkpoint(sequence: int, data: object = None) -> Checkpoint:
    return Checkpoint(id=f"c{sequence}", task_id="task", sequence=sequence, timestamp=0, data=data)


def inserted(query: Query) -> list[str]:
    return [key for (key,) in query("SELECT key FROM go_goscope_meta WHERE key GLOB 'w[0-9]*'")]


class Gate:
    """A write that stays in its transaction until it is opened, at the latest by ``with``."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._opened.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.open()

    def open(self) -> None:
        self._opened.set()

    async def wait_entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, 30)


async def together(
    adapter: SQLiteAdapter, *works: Callable[[sqlite3.Connection], Any]
) -> list[Any]:
    """Submit the writes while another one runs, so that they share a batch; what they end in."""
    with Gate() as gate:
        running = adapter._database.submit(gate)
        writes = [adapter._database.submit(work) for work in works]
    await running
    return await asyncio.gather(*writes, return_exceptions=True)


@pytest.fixture
def data_version(path: Path) -> Iterator[Callable[[], int]]:
    """A number that changes whenever another connection has committed."""
    connection = sqlite3.connect(path, check_same_thread=False)
    yield lambda: int(connection.execute("PRAGMA data_version").fetchall()[0][0])
    connection.close()


# --- sharing -----------------------------------------------------------------------------------


async def test_writes_that_wait_are_committed_together(
    adapter: SQLiteAdapter, data_version: Callable[[], int]
) -> None:
    def write(number: int) -> Callable[[sqlite3.Connection], int]:
        def work(connection: sqlite3.Connection) -> int:
            insert(f"w{number}")(connection)
            return data_version()

        return work

    versions = await together(adapter, *(write(number) for number in range(100)))
    assert len(set(versions)) == 1


async def test_a_lone_write_is_on_its_way_at_once(adapter: SQLiteAdapter) -> None:
    for _ in range(3):
        write = adapter._database.submit(insert("w1"))
        assert isinstance(write, Write)
        assert write.started
        with contextlib.suppress(BackendError):  # the key is there from the second time on
            await write


async def test_a_lautocommit_needs_no_transaction(adapter: SQLiteAdapter) -> None:
    """SQLite applies it whole or not at all by itself."""
    statements: list[str] = []
    handle = await adapter.lock.acquire("key")
    assert handle is not None
    await adapter._database.submit(
        lambda connection: connection.set_trace_callback(statements.append), autocommit=True
    )
    await adapter.cache.set("key", 1, "1h")
    await adapter.circuit_breaker.record_failure("key", 5)
    await adapter.checkpoint.save(checkpoint(1))
    await handle.extend(1000)
    await handle.release()
    assert [statement.split()[0] for statement in statements] == [
        "INSERT",
        "INSERT",
        "INSERT",
        "UPDATE",
        "DELETE",
    ]


async def test_a_statement_that_is_not_alone_shares_the_transaction(
    adapter: SQLiteAdapter, data_version: Callable[[], int]
) -> None:
    with Gate() as gate:
        running = adapter._database.submit(gate)
        first = adapter._database.submit(insert("w1"), autocommit=True)
        second = adapter._database.submit(lambda _: data_version())
        before = data_version()
    await asyncio.gather(running, first)
    assert await second == before


async def test_a_lautocommit_that_fails_leaves_nothing_behind(
    adapter: SQLiteAdapter, query: Query
) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO go_goscope_meta VALUES ('w1', 0), ('token', 0)")

    with pytest.raises(BackendError, match="UNIQUE"):
        await adapter._database.submit(fail, autocommit=True)
    assert inserted(query) == []
    assert await adapter._database.submit(insert("w2"), autocommit=True) == "w2"


async def test_a_lautocommit_meets_a_side_row_or_a_row_of_its_own(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """What one statement cannot do is done in a transaction."""
    await adapter.cache.set("key", 1, "1h", tags=["tag"])
    await adapter.cache.set("key", 2, "1h")
    assert await adapter.cache.get("key") == 2
    assert query("SELECT * FROM go_goscope_cache_companion") == []
    await adapter.checkpoint.save(checkpoint(1, data="old"))
    await adapter.checkpoint.save(checkpoint(1, data="new"))
    latest = await adapter.checkpoint.load_latest("task")
    assert latest is not None
    assert latest.data == "new"


async def test_after_a_crowd_the_writes_of_one_turn_go_together(
    adapter: SQLiteAdapter, data_version: Callable[[], int]
) -> None:
    """Else every other transaction of those who write all the time would have a single write."""
    await together(adapter, insert("w1"), insert("w2"))
    before = data_version()
    submit = adapter._database.submit
    first = submit(insert("w3"))
    second = submit(lambda _: data_version())
    await first
    assert await second == before


async def test_a_batch_that_takes_long_is_committed_early_for_other_processes(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """The second write of the batch is run in a later transaction than the slow first one."""
    seen: list[list[str]] = []

    def slow(connection: sqlite3.Connection) -> None:
        insert("w1")(connection)
        threading.Event().wait(0.05)

    await together(adapter, slow, lambda _: seen.append(inserted(query)))
    assert seen == [["w1"]]


async def test_writes_are_run_in_the_order_they_were_submitted(adapter: SQLiteAdapter) -> None:
    order: list[int] = []

    def number(n: int) -> Callable[[sqlite3.Connection], None]:
        return lambda _: order.append(n)

    await asyncio.gather(*(adapter._database.submit(number(n)) for n in range(2000)))
    assert order == list(range(2000))


# --- rows of one statement ---------------------------------------------------------------------


async def set_together(adapter: SQLiteAdapter, entries: list[tuple[str, object]]) -> list[Any]:
    """Set the entries while another write runs, so that they share a batch; what they end in."""
    with Gate() as gate:
        running = adapter._database.submit(gate)
        await gate.wait_entered()
        sets = [asyncio.create_task(adapter.cache.set(*entry)) for entry in entries]
        await asyncio.sleep(0.01)
    await running
    return await asyncio.gather(*sets, return_exceptions=True)


async def test_entries_that_wait_are_written_by_few_statements(adapter: SQLiteAdapter) -> None:
    """Each statement more gives the interpreter away, and competes with the loop to get it back."""
    statements: list[str] = []
    await adapter._database.submit(
        lambda connection: connection.set_trace_callback(statements.append), autocommit=True
    )
    assert await set_together(adapter, [(f"{n}", n) for n in range(100)]) == [None] * 100
    await adapter.cache.set_many({f"{n}": -n for n in range(100)})
    written = [text.count("'cache:") for text in statements if text.lstrip().startswith("INSERT")]
    assert written == [64, 32, 4, 64, 32, 4]
    assert await adapter.cache.get("99") == -99


async def test_only_rows_of_the_same_statement_go_together(
    adapter: SQLiteAdapter, query: Query
) -> None:
    put = MultiRowInsert("INSERT OR REPLACE INTO go_goscope_meta VALUES {rows}", columns=2)
    add = MultiRowInsert("INSERT OR IGNORE INTO go_goscope_meta VALUES {rows}", columns=2)
    outcomes = await together(
        adapter,
        InsertRow(put, ("w1", "put")),
        InsertRow(put, ("w2", "put")),
        InsertRow(add, ("w2", "added")),
        InsertRow(add, ("w3", "added")),
        insert("w4"),
        InsertRow(add, ("w5", "added")),
    )
    assert outcomes == [True, True, False, True, "w4", True]
    assert query("SELECT value FROM go_goscope_meta WHERE key = 'w2'") == [("put",)]
    assert inserted(query) == ["w1", "w2", "w3", "w4", "w5"]


async def test_of_the_values_for_one_key_the_last_stays(adapter: SQLiteAdapter) -> None:
    await set_together(adapter, [("key", n) for n in range(10)])
    assert await adapter.cache.get("key") == 9
    assert await adapter.cache.keys() == ["key"]


async def test_an_entry_with_a_side_row_among_others(adapter: SQLiteAdapter, query: Query) -> None:
    """The statement leaves it out; then it is written alone, and its tags go."""
    await adapter.cache.set("key1", "old", "1h", tags=["tag"])
    await adapter.cache.set("key3", "old", "1h", stale_for="1h")
    assert await set_together(adapter, [(f"key{n}", "new") for n in range(5)]) == [None] * 5
    found = await adapter.cache.get_many([f"key{n}" for n in range(5)])
    assert found == {f"key{n}": "new" for n in range(5)}
    assert query("SELECT * FROM go_goscope_cache_companion") == []
    assert query("SELECT * FROM go_goscope_cache_tags") == []


async def test_the_disk_gets_full_for_one_row_and_the_others_are_kept(
    adapter: SQLiteAdapter, query: Query
) -> None:
    pages = query("PRAGMA page_count")[0][0]
    await adapter._database.submit(
        lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 5}").fetchall()
    )
    outcomes = await set_together(adapter, [("key0", 0), ("key1", BIG), ("key2", 2)])
    assert [type(outcome) for outcome in outcomes] == [type(None), BackendFull, type(None)]
    assert sorted(await adapter.cache.keys()) == ["key0", "key2"]


async def test_a_statement_refused_for_one_row_fails_that_one_alone(
    adapter: SQLiteAdapter, query: Query
) -> None:
    query(
        "CREATE TRIGGER refuse BEFORE INSERT ON go_goscope_cache WHEN new.key = 'cache:key1' "
        "BEGIN SELECT RAISE(ABORT, 'as the test wants it'); END"
    )
    outcomes = await set_together(adapter, [(f"key{n}", n) for n in range(3)])
    assert [type(outcome) for outcome in outcomes] == [type(None), BackendError, type(None)]
    assert sorted(await adapter.cache.keys()) == ["key0", "key2"]
    with pytest.raises(BackendError, match="as the test wants it"):
        await adapter.cache.set_many({f"key{n}": -n for n in range(3)})
    assert await adapter.cache.get("key0") == 0


# --- failing -----------------------------------------------------------------------------------


async def test_a_write_that_fails_without_a_change_fails_alone(
    adapter: SQLiteAdapter, query: Query, data_version: Callable[[], int]
) -> None:
    """The others are still committed in the one transaction they began in."""

    def fail(_: sqlite3.Connection) -> None:
        raise LookupError("no")

    def look(_: sqlite3.Connection) -> int:
        return data_version()

    outcomes = await together(adapter, insert("w1"), fail, look, insert("w2"), look)
    assert isinstance(outcomes[1], LookupError)
    assert outcomes[2] == outcomes[4]
    assert inserted(query) == ["w1", "w2"]


async def test_a_write_that_fails_after_a_change_takes_only_its_own_change_back(
    adapter: SQLiteAdapter, query: Query
) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        insert("w9")(connection)
        raise LookupError("no")

    outcomes = await together(adapter, insert("w1"), fail, insert("w2"))
    assert outcomes[0] == "w1"
    assert isinstance(outcomes[1], LookupError)
    assert outcomes[2] == "w2"
    assert inserted(query) == ["w1", "w2"]


async def test_the_disk_gets_full_for_one_write_and_the_others_are_kept(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """SQLite itself rolls the whole batch back then, also what had gone well before."""
    submit = adapter._database.submit
    pages = query("PRAGMA page_count")[0][0]

    def fill_up(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 5}").fetchall()

    await submit(fill_up)
    outcomes = await together(adapter, insert("w1"), insert("w9", BIG), insert("w2"))
    assert outcomes[0] == "w1"
    assert outcomes[2] == "w2"
    assert isinstance(outcomes[1], BackendFull)
    assert isinstance(outcomes[1].__cause__, sqlite3.OperationalError)
    assert "Free some space" in str(outcomes[1])
    assert inserted(query) == ["w1", "w2"]
    with pytest.raises(BackendFull):
        await submit(insert("w9", BIG))
    assert await submit(insert("w3")) == "w3"


@pytest.mark.parametrize("autocommit", [False, True])
async def test_every_write_gets_its_own_error_when_the_lock_is_not_to_be_had(
    path: Path, autocommit: bool
) -> None:
    async with SQLiteAdapter(path, busy_timeout="50ms") as adapter:
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            submit = adapter._database.submit
            outcomes = await asyncio.gather(
                *(submit(insert(f"w{number}"), autocommit=autocommit) for number in range(3)),
                return_exceptions=True,
            )
        finally:
            other.close()
        assert [type(outcome) for outcome in outcomes] == [BackendBusy] * 3
        assert outcomes[1] is not outcomes[2]
        assert await adapter._database.submit(insert("w1")) == "w1"


async def test_a_statement_that_sqlite_refuses_is_a_backend_error(adapter: SQLiteAdapter) -> None:
    with pytest.raises(BackendError, match="syntax error") as caught:
        await adapter._database.submit(lambda connection: connection.execute("NONSENSE"))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


# --- cancelling --------------------------------------------------------------------------------


async def test_a_write_cancelled_before_it_begins_never_happens(
    adapter: SQLiteAdapter, query: Query
) -> None:
    submit = adapter._database.submit
    with Gate() as gate:
        running = submit(gate)
        await gate.wait_entered()
        waiting = submit(insert("w1"))
        assert waiting.cancel()
    await running
    await submit(insert("w2"))
    assert waiting.cancelled()
    assert inserted(query) == ["w2"]


async def test_a_caller_cancelled_while_its_write_runs_waits_for_it(
    adapter: SQLiteAdapter, query: Query
) -> None:
    gate = Gate()

    def work(connection: sqlite3.Connection) -> None:
        insert("w1")(connection)
        gate(connection)

    async def call() -> None:
        await adapter._database.submit(work)

    with gate:
        task = asyncio.create_task(call())
        await gate.wait_entered()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done, "the cancelled caller left before its write was over"
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inserted(query) == ["w1"]


async def test_a_timeout_around_a_write_is_a_timeout(adapter: SQLiteAdapter, query: Query) -> None:
    with Gate() as gate:
        asyncio.get_running_loop().call_later(0.1, gate.open)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await adapter._database.submit(gate)
    assert await adapter._database.submit(insert("w1")) == "w1"
    assert inserted(query) == ["w1"]


@pytest.mark.parametrize("turns", range(12))
async def test_wherever_a_caller_is_cancelled_no_transaction_stays_open(
    adapter: SQLiteAdapter, query: Query, turns: int
) -> None:
    """Another connection gets the write lock at once, and sees the write whole or not at all."""
    task = asyncio.create_task(adapter.cache.set("key", 1, "1h", tags=["tag"], stale_for="1h"))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    assert outcome is None or isinstance(outcome, asyncio.CancelledError)
    query("INSERT INTO go_goscope_meta VALUES ('other', 1)")
    rows = [query(f"SELECT * FROM go_goscope_cache{part}") for part in ("", "_companion", "_tags")]
    assert [len(found) for found in rows] in ([0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize("turns", range(12))
async def test_wherever_an_acquire_is_cancelled_the_lock_is_free_afterwards(
    adapter: SQLiteAdapter, turns: int
) -> None:
    task = asyncio.create_task(adapter.lock.acquire("key"))
    for _ in range(turns):
        await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await adapter.lock.holder("key") is None


async def test_a_release_that_is_cancelled_in_the_queue_happens_all_the_same(
    adapter: SQLiteAdapter,
) -> None:
    handle = await adapter.lock.acquire("key")
    assert handle is not None
    with Gate() as gate:
        running = adapter._database.submit(gate)
        await gate.wait_entered()
        releasing = asyncio.create_task(handle.release())
        await asyncio.sleep(0)
        releasing.cancel()
        await asyncio.sleep(0)
        assert not releasing.done()
    await running
    with pytest.raises(asyncio.CancelledError):
        await releasing
    assert await adapter.lock.holder("key") is None


async def test_closing_finishes_what_was_submitted(path: Path, query: Query) -> None:
    async with SQLiteAdapter(path) as adapter:
        writes = [adapter._database.submit(insert(f"w{number}")) for number in range(1000)]
    assert all(write.done() for write in writes)
    assert len(inserted(query)) == 1000
