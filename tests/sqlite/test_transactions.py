"""The user's statements on the connection that writes: what they may do, and what they leave."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope import BackendBusy, BackendError, ConfigurationError, Scope
from goscope_sqlite import SQLiteAdapter
from tests.sqlite.conftest import Query

pytestmark = pytest.mark.asyncio

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def create(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT UNIQUE)")


def insert(owner: str) -> Callable[[sqlite3.Connection], None]:
    return lambda connection: add(connection, owner)


def add(connection: sqlite3.Connection, owner: str) -> None:
    connection.execute("INSERT INTO account (owner) VALUES (?)", (owner,))


@pytest_asyncio.fixture(params=["file", "memory"])
async def gs(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Scope]:
    """A scope whose store has an empty table ``account``."""
    store = ":memory:" if request.param == "memory" else path
    async with Scope(persistence=SQLiteAdapter(store)) as scope:
        await scope.transaction(create)
        yield scope


async def owners(gs: Scope) -> list[str]:
    rows = await gs.transaction(
        lambda connection: connection.execute("SELECT owner FROM account ORDER BY id").fetchall()
    )
    return [row[0] for row in rows]


async def test_returns_the_result_of_the_work(gs: Scope) -> None:
    def count(connection: sqlite3.Connection) -> int:
        add(connection, "ada")
        found: int = connection.execute("SELECT count(*) FROM account").fetchone()[0]
        return found

    assert await gs.transaction(count) == 1
    assert await owners(gs) == ["ada"]


async def test_an_exception_rolls_back_and_is_raised_unchanged(gs: Scope) -> None:
    error = LookupError("mine")

    def fail(connection: sqlite3.Connection) -> None:
        add(connection, "ada")
        raise error

    with pytest.raises(LookupError) as caught:
        await gs.transaction(fail)
    assert caught.value is error
    assert await owners(gs) == []


async def test_an_error_of_its_statements_is_that_of_sqlite3(gs: Scope) -> None:
    await gs.transaction(insert("ada"))
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        await gs.transaction(insert("ada"))
    with pytest.raises(sqlite3.OperationalError, match="no such table: missing"):
        await gs.transaction(lambda connection: connection.execute("SELECT * FROM missing"))
    assert await owners(gs) == ["ada"]


def commits(connection: sqlite3.Connection) -> None:
    connection.execute("COMMIT")


def ends(connection: sqlite3.Connection) -> None:
    connection.execute("END")


def rolls_back(connection: sqlite3.Connection) -> None:
    connection.rollback()


def calls_commit(connection: sqlite3.Connection) -> None:
    connection.commit()


def is_a_context_manager(connection: sqlite3.Connection) -> None:
    with connection:
        pass


def runs_a_script(connection: sqlite3.Connection) -> None:
    connection.executescript("SELECT 1; SELECT 2")


def changes_the_isolation_level(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None


def changes_the_connection(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA busy_timeout = 1")


def attaches(connection: sqlite3.Connection) -> None:
    connection.execute("ATTACH ':memory:' AS other")


@pytest.mark.parametrize(
    "statement",
    [
        commits,
        ends,
        rolls_back,
        calls_commit,
        is_a_context_manager,
        runs_a_script,
        changes_the_isolation_level,
        changes_the_connection,
        attaches,
    ],
)
async def test_a_statement_that_would_end_the_transaction_is_refused(
    gs: Scope, statement: Callable[[sqlite3.Connection], None]
) -> None:
    def work(connection: sqlite3.Connection) -> None:
        add(connection, "ada")
        statement(connection)
        add(connection, "bob")

    with pytest.raises(ConfigurationError, match="the work of a transaction executed"):
        await gs.transaction(work)
    assert await owners(gs) == []
    await gs.transaction(insert("eve"))
    assert await owners(gs) == ["eve"]


async def test_work_that_survives_the_refusal_is_committed(gs: Scope) -> None:
    def work(connection: sqlite3.Connection) -> None:
        add(connection, "ada")
        with pytest.raises(sqlite3.DatabaseError):
            connection.commit()
        add(connection, "bob")

    await gs.transaction(work)
    assert await owners(gs) == ["ada", "bob"]


async def test_savepoints_are_the_users_own(gs: Scope) -> None:
    def work(connection: sqlite3.Connection) -> None:
        add(connection, "ada")
        connection.execute("SAVEPOINT mine")
        add(connection, "bob")
        connection.execute("ROLLBACK TO mine")
        connection.execute("RELEASE mine")
        add(connection, "eve")

    await gs.transaction(work)
    assert await owners(gs) == ["ada", "eve"]


async def test_work_that_goes_on_after_a_conflict_rolled_back_writes_nothing(gs: Scope) -> None:
    await gs.transaction(insert("ada"))

    def work(connection: sqlite3.Connection) -> None:
        add(connection, "bob")
        sql = "INSERT OR ROLLBACK INTO account (owner) VALUES ('ada')"
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(sql)
        with pytest.raises(sqlite3.DatabaseError):
            add(connection, "eve")
        with pytest.raises(sqlite3.DatabaseError):
            connection.execute("CREATE TABLE late (id INTEGER)")

    with pytest.raises(ConfigurationError, match="rolled its transaction back"):
        await gs.transaction(work)
    assert await owners(gs) == ["ada"]


async def test_a_long_statement_is_interrupted_and_rolled_back(path: Path) -> None:
    async with Scope(persistence=SQLiteAdapter(path, busy_timeout="50ms")) as gs:
        await gs.transaction(create)

        def work(connection: sqlite3.Connection) -> None:
            add(connection, "ada")
            connection.execute(ENDLESS).fetchall()

        with pytest.raises(BackendError, match=r"longer than the 0.05 s"):
            await gs.transaction(work)
        assert await owners(gs) == []
        await gs.transaction(insert("bob"))
        assert await owners(gs) == ["bob"]


async def test_a_coroutine_function_is_refused(gs: Scope) -> None:
    async def work(connection: sqlite3.Connection) -> None: ...

    with pytest.raises(TypeError, match="plain `def`"):
        await gs.transaction(work)
    with pytest.raises(TypeError, match="awaitable"):
        await gs.transaction(lambda connection: work(connection))


async def test_a_busy_store_is_waited_for_before_the_work_runs(path: Path) -> None:
    calls: list[None] = []
    async with Scope(persistence=SQLiteAdapter(path, busy_timeout="10ms")) as gs:
        await gs.transaction(create)
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BackendBusy):
                await gs.transaction(lambda _: calls.append(None))
        finally:
            other.close()
        assert calls == []
        await gs.transaction(lambda _: calls.append(None))
        assert calls == [None]


# --- what others see -------------------------------------------------------------------------


async def test_writes_beside_a_failing_transaction_are_applied(gs: Scope) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        add(connection, "ada")
        raise LookupError

    writes = [gs.cache.set(f"before{number}", number) for number in range(20)]
    failing = [gs.transaction(fail), gs.transaction(commits)]
    writes_after = [gs.cache.set(f"after{number}", number) for number in range(20)]
    results = await asyncio.gather(*writes, *failing, *writes_after, return_exceptions=True)
    errors = [type(result) for result in results if result is not None]
    assert errors == [LookupError, ConfigurationError]
    assert len(await gs.cache.keys()) == 40
    assert await owners(gs) == []


async def test_a_cancelled_caller_wrote_everything_once_the_work_has_begun(gs: Scope) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        add(connection, "ada")
        begun.set()
        assert go_on.wait(60)
        add(connection, "bob")

    task = asyncio.create_task(gs.transaction(work))
    await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    withdrawn = asyncio.create_task(gs.transaction(insert("eve")))
    await asyncio.sleep(0)
    withdrawn.cancel()
    await asyncio.sleep(0)
    go_on.set()
    results = await asyncio.gather(task, withdrawn, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
    assert await owners(gs) == ["ada", "bob"]


async def test_a_cursor_that_the_work_leaves_open_blocks_no_later_write(
    path: Path, query: Query
) -> None:
    left: list[sqlite3.Cursor] = []

    def work(connection: sqlite3.Connection) -> None:
        for number in range(10):
            add(connection, str(number))
        left.append(connection.execute("SELECT * FROM account"))
        left[0].fetchone()

    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        await gs.transaction(create)
        await gs.transaction(work)
        query("INSERT INTO account (owner) VALUES ('another process')")
        await gs.cache.set("key", 1)  # an open snapshot would refuse it as busy
        await gs.transaction(insert("ada"))
    with pytest.raises(sqlite3.ProgrammingError):
        left[0].fetchone()


async def test_the_connection_is_as_before_after_the_work(gs: Scope) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        connection.isolation_level = "EXCLUSIVE"

    await gs.transaction(work)
    await gs.cache.set("key", "value")
    assert await gs.cache.get("key") == "value"
    assert await gs.idempotency.run("key", lambda: "result") == "result"
    await gs.transaction(insert("ada"))
    assert await owners(gs) == ["ada"]


# --- constraints -----------------------------------------------------------------------------


def create_orders(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY)")
    connection.execute(
        "CREATE TABLE orders (customer INTEGER NOT NULL REFERENCES customer (id)"
        " DEFERRABLE INITIALLY DEFERRED)"
    )


def order(*statements: str) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return work


ORDER, CUSTOMER = "INSERT INTO orders VALUES (1)", "INSERT INTO customer VALUES (1)"


@pytest.mark.parametrize("foreign_keys", [True, False])
async def test_foreign_keys_are_checked_at_the_commit(
    path: Path, query: Query, foreign_keys: bool
) -> None:
    async with Scope(persistence=SQLiteAdapter(path, foreign_keys=foreign_keys)) as gs:
        await gs.transaction(create_orders)
        if foreign_keys:
            with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
                await gs.transaction(order(ORDER))
            assert query("SELECT count(*) FROM orders") == [(0,)]
            await gs.cache.set("key", 1)
            await gs.transaction(order(ORDER, CUSTOMER))
        else:
            await gs.transaction(order(ORDER))
    assert query("SELECT count(*) FROM orders") == [(1,)]


async def test_an_immediate_constraint_can_be_deferred(path: Path, query: Query) -> None:
    def create(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE orders (customer INTEGER REFERENCES customer (id))")

    defer = "PRAGMA defer_foreign_keys = 1"
    async with Scope(persistence=SQLiteAdapter(path, foreign_keys=True)) as gs:
        await gs.transaction(create)
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            await gs.transaction(order(ORDER, CUSTOMER))
        await gs.transaction(order(defer, ORDER, CUSTOMER))
    assert query("SELECT count(*) FROM orders") == [(1,)]


async def test_a_violated_constraint_takes_the_checkpoint_with_it(path: Path, query: Query) -> None:
    async with Scope(persistence=SQLiteAdapter(path, foreign_keys=True)) as gs:
        await gs.transaction(create_orders)

        async def run(task: Any) -> None:
            await task.checkpoint.save(1, within=order(CUSTOMER))
            with pytest.raises(sqlite3.IntegrityError):
                await task.checkpoint.save(2, within=order("INSERT INTO orders VALUES (7)"))
            rows = query("SELECT data FROM go_goscope_checkpoints")
            assert rows == [("1",)]
            await task.checkpoint.save(3, within=order(ORDER))

        await gs.tasks.run("orders", run)
