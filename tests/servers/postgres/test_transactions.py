"""The user's transactions on a PostgreSQL server: what only this server can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from goscope import BackendError, ConfigurationError, Outcome, Scope
from goscope_postgres import PostgresAdapter

from .stores import Store

pytestmark = pytest.mark.asyncio

CREATE = """
    CREATE TABLE customer (id INTEGER PRIMARY KEY);
    CREATE TABLE orders (
        customer INTEGER NOT NULL REFERENCES customer (id) DEFERRABLE INITIALLY DEFERRED
    );
    CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);
    INSERT INTO counter VALUES (1, 0), (2, 0)
"""
ORDER, CUSTOMER = "INSERT INTO orders VALUES (1)", "INSERT INTO customer VALUES (1)"


def execute(*statements: str) -> Callable[[asyncpg.Connection], Awaitable[None]]:
    async def work(connection: asyncpg.Connection) -> None:
        for statement in statements:
            await connection.execute(statement)

    return work


@pytest_asyncio.fixture
async def gs(store: Store) -> AsyncIterator[Scope]:
    adapter = PostgresAdapter(store.dsn, schema=store.name, pool_size=3, command_timeout="2s")
    async with Scope(persistence=adapter) as gs:
        await gs.transaction(execute(CREATE))
        yield gs


async def rows(gs: Scope, table: str) -> list[Any]:
    async def work(connection: asyncpg.Connection) -> list[Any]:
        return [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY 1")]

    return await gs.transaction(work)


async def test_deferred_constraints_are_checked_at_the_commit(gs: Scope) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await gs.idempotency.run("bad", lambda: Outcome(1, within=execute(ORDER)))
    assert await gs.idempotency.get("bad") is None
    assert await gs.idempotency.run("ok", lambda: Outcome(1, within=execute(ORDER, CUSTOMER))) == 1
    assert await rows(gs, "orders") == [(1,)]


async def test_a_new_transaction_in_the_work_is_noticed(gs: Scope) -> None:
    body = execute(CUSTOMER, "COMMIT", "BEGIN")
    with pytest.raises(ConfigurationError, match="COMMIT or ROLLBACK"):
        await gs.idempotency.run("key", lambda: Outcome(1, within=body))
    assert await gs.idempotency.get("key") is None
    assert await rows(gs, "customer") == [(1,)]  # the server cannot refuse what was committed


async def test_work_that_goes_on_after_an_error_writes_nothing(gs: Scope) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(CUSTOMER)
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(CUSTOMER)

    async def careful(connection: asyncpg.Connection) -> None:
        await connection.execute(CUSTOMER)
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute(CUSTOMER)

    with pytest.raises(ConfigurationError, match="a statement of the work failed"):
        await gs.transaction(work)
    assert await rows(gs, "customer") == []
    await gs.transaction(careful)
    assert await rows(gs, "customer") == [(1,)]


async def test_a_deadlock_runs_the_work_again(gs: Scope) -> None:
    both = asyncio.Barrier(2)
    calls: list[int] = []

    def add(first: int, second: int) -> Callable[[asyncpg.Connection], Awaitable[None]]:
        async def work(connection: asyncpg.Connection) -> None:
            calls.append(first)
            await connection.execute("UPDATE counter SET n = n + 1 WHERE id = $1", first)
            if len(calls) <= 2:
                await both.wait()
            await connection.execute("UPDATE counter SET n = n + 1 WHERE id = $1", second)

        return work

    await asyncio.gather(gs.transaction(add(1, 2)), gs.transaction(add(2, 1)))
    assert len(calls) == 3
    assert await rows(gs, "counter") == [(1, 2), (2, 2)]


async def test_work_that_takes_too_long_is_rolled_back(gs: Scope) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(CUSTOMER)
        await asyncio.Event().wait()

    with pytest.raises(BackendError, match="took longer than 2 s"):
        await gs.transaction(work)
    assert await rows(gs, "customer") == []


async def test_a_cancellation_reaches_the_work(gs: Scope) -> None:
    begun = asyncio.Event()

    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(CUSTOMER)
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(gs.transaction(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(gs, "customer") == []
