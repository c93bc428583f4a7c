"""Group commit: which writes share a transaction, and in which order they run."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goscope import Checkpoint
from goscope.errors import BackendError, CorruptValue
from goscope_sqlite import SQLiteAdapter

from .conftest import Query
from .writes import LARGE, Gate, insert, inserted, together

pytestmark = pytest.mark.asyncio


def checkpoint(sequence: int, data: object = None) -> Checkpoint:
    return Checkpoint(id=f"c{sequence}", task_id="task", sequence=sequence, timestamp=0, data=data)


@pytest.fixture
def data_version(path: Path) -> Iterator[Callable[[], int]]:
    """A number that changes with each commit of another connection."""
    connection = sqlite3.connect(path, check_same_thread=False)
    yield lambda: int(connection.execute("PRAGMA data_version").fetchall()[0][0])
    connection.close()


# --- sharing a transaction -----------------------------------------------------------------------


@pytest.mark.usefixtures("no_time_limit")
async def test_queued_writes_are_committed_together(
    threaded: SQLiteAdapter, data_version: Callable[[], int]
) -> None:
    def write(number: int) -> Callable[[sqlite3.Connection], int]:
        def work(connection: sqlite3.Connection) -> int:
            insert(f"w{number}")(connection)
            return data_version()

        return work

    versions = await together(threaded, *(write(number) for number in range(100)))
    assert len(set(versions)) == 1


@pytest.mark.usefixtures("no_time_limit")
async def test_after_a_batch_the_writes_of_one_tick_share_a_commit(
    threaded: SQLiteAdapter, data_version: Callable[[], int]
) -> None:
    """Else every other transaction of concurrent writers would have a single write."""
    await together(threaded, insert("w1"), insert("w2"))
    before = data_version()
    submit = threaded._database.submit
    first = submit(insert("w3"))
    second = submit(lambda _: data_version())
    await first
    assert await second == before


async def test_a_slow_batch_is_committed_early_for_other_processes(
    threaded: SQLiteAdapter, query: Query
) -> None:
    """The second write of the batch runs in a later transaction than the slow first one."""
    seen: list[list[str]] = []

    def slow(connection: sqlite3.Connection) -> None:
        insert("w1")(connection)
        threading.Event().wait(0.05)  # longer than the limit of a batch

    with Gate() as gate:
        running = threaded._database.submit(gate, rows=LARGE)
        writes = [
            threaded._database.submit(slow),
            threaded._database.submit(lambda _: seen.append(inserted(query))),
        ]
    await asyncio.gather(running, *writes)
    assert seen == [["w1"]]


async def test_writes_run_in_the_order_of_submission(adapter: SQLiteAdapter) -> None:
    order: list[int] = []

    def number(n: int) -> Callable[[sqlite3.Connection], None]:
        return lambda _: order.append(n)

    await asyncio.gather(*(adapter._database.submit(number(n)) for n in range(2000)))
    assert order == list(range(2000))


async def test_closing_finishes_the_submitted_writes(path: Path, query: Query) -> None:
    async with SQLiteAdapter(path) as adapter:
        writes = [adapter._database.submit(insert(f"w{number}")) for number in range(1000)]
    assert all(write.done() for write in writes)
    assert len(inserted(query)) == 1000


# --- autocommit ----------------------------------------------------------------------------------


async def test_a_lone_statement_runs_without_a_transaction(adapter: SQLiteAdapter) -> None:
    """A single statement is atomic in itself."""
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


@pytest.mark.usefixtures("no_time_limit")
async def test_a_statement_beside_other_writes_shares_their_transaction(
    threaded: SQLiteAdapter, data_version: Callable[[], int]
) -> None:
    with Gate() as gate:
        running = threaded._database.submit(gate, rows=LARGE)
        first = threaded._database.submit(insert("w1"), autocommit=True)
        second = threaded._database.submit(lambda _: data_version())
        before = data_version()
    await asyncio.gather(running, first)
    assert await second == before


async def test_a_lone_statement_that_fails_changes_nothing(
    adapter: SQLiteAdapter, query: Query
) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO go_goscope_meta VALUES ('w1', 0), ('token', 0)")

    with pytest.raises(BackendError, match="UNIQUE"):
        await adapter._database.submit(fail, autocommit=True)
    assert inserted(query) == []
    assert await adapter._database.submit(insert("w2"), autocommit=True) == "w2"


async def test_a_lone_statement_whose_result_is_refused_runs_once(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """SQLite has committed it by then: a second run would count twice."""
    runs: list[str] = []

    def refuse(connection: sqlite3.Connection) -> None:
        runs.append(insert(f"w{len(runs)}")(connection))
        raise CorruptValue("key", "raised by the test")

    with pytest.raises(CorruptValue):
        await adapter._database.submit(refuse, autocommit=True)
    assert inserted(query) == runs == ["w0"]


async def test_a_write_that_one_statement_cannot_do_runs_in_a_transaction(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """A companion row to delete, or an existing checkpoint to replace."""
    await adapter.cache.set("key", 1, "1h", tags=["tag"])
    await adapter.cache.set("key", 2, "1h")
    assert await adapter.cache.get("key") == 2
    assert query("SELECT * FROM go_goscope_cache_companion") == []
    await adapter.checkpoint.save(checkpoint(1, data="old"))
    await adapter.checkpoint.save(checkpoint(1, data="new"))
    latest = await adapter.checkpoint.load_latest("task")
    assert latest is not None
    assert latest.data == "new"
