"""The user's transactions on a MySQL or MariaDB server: what differs from other servers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from asyncmy.errors import IntegrityError

from goscope import BackendError, ConfigurationError, Outcome, Scope

from .store import Store

pytestmark = pytest.mark.asyncio

TABLES = (
    "CREATE TABLE customer (id INTEGER PRIMARY KEY)",
    "CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (1, 0), (2, 0)",
)
CUSTOMER = "INSERT INTO customer VALUES (1)"
Work = Callable[[Any], Awaitable[Any]]


def execute(*statements: str) -> Work:
    async def work(connection: Any) -> Any:
        async with connection.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
            return await cursor.fetchall()

    return work


@pytest_asyncio.fixture
async def gs(store: Store) -> AsyncIterator[Scope]:
    for statement in TABLES:
        await store.administrate(statement)
    async with Scope(persistence=store.adapter(timeout="5s", max_connections=3)) as gs:
        yield gs


async def rows(gs: Scope, table: str) -> list[Any]:
    return list(await gs.transaction(execute(f"SELECT * FROM {table} ORDER BY 1")))


async def test_an_error_of_a_statement_is_that_of_the_driver(gs: Scope) -> None:
    body = execute(CUSTOMER, CUSTOMER)
    with pytest.raises(IntegrityError):
        await gs.idempotency.run("key", lambda: Outcome(1, within=body))
    assert await gs.idempotency.get("key") is None
    assert await rows(gs, "customer") == []


@pytest.mark.parametrize("end", ["CREATE TABLE late (id INTEGER)", "START TRANSACTION"])
async def test_a_statement_that_commits_is_noticed(gs: Scope, end: str) -> None:
    body = execute(CUSTOMER, end)
    with pytest.raises(ConfigurationError, match="such as CREATE TABLE"):
        await gs.idempotency.run("key", lambda: Outcome(1, within=body))
    assert await gs.idempotency.get("key") is None
    assert await rows(gs, "customer") == [(1,)]  # the server cannot refuse what was committed


async def test_a_deadlock_runs_the_work_again(gs: Scope) -> None:
    both = asyncio.Barrier(2)
    calls: list[int] = []

    def add(first: int, second: int) -> Work:
        async def work(connection: Any) -> None:
            calls.append(first)
            await execute(f"UPDATE counter SET n = n + 1 WHERE id = {first}")(connection)
            if len(calls) <= 2:
                await both.wait()
            await execute(f"UPDATE counter SET n = n + 1 WHERE id = {second}")(connection)

        return work

    await asyncio.gather(gs.transaction(add(1, 2)), gs.transaction(add(2, 1)))
    assert len(calls) == 3
    assert await rows(gs, "counter") == [(1, 2), (2, 2)]


async def test_work_that_takes_too_long_is_rolled_back(store: Store, gs: Scope) -> None:
    async def work(connection: Any) -> None:
        await execute(CUSTOMER)(connection)
        await asyncio.Event().wait()

    async with Scope(persistence=store.adapter(timeout="1s")) as impatient:
        with pytest.raises(BackendError, match="took longer than 1 s"):
            await impatient.transaction(work)
    assert await rows(gs, "customer") == []


async def test_a_cancelled_caller_waits_for_the_end_of_its_work(gs: Scope) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: Any) -> None:
        begun.set()
        await go_on.wait()
        await execute(CUSTOMER)(connection)

    task = asyncio.create_task(gs.transaction(work))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(gs, "customer") == [(1,)]


async def test_the_work_has_the_context_of_its_caller(gs: Scope) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")

    async def work(_: Any) -> str:
        return request.get()

    await gs.transaction(work)  # its connection is used again
    request.set("r-1")
    assert await gs.transaction(work) == "r-1"
