"""``gs.transaction``, ``checkpoint.save(within=...)`` and `Outcome`: rows and record together."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope import (
    CapabilityMissing,
    ConfigurationError,
    LeaseLost,
    Outcome,
    ResultNotStored,
    Scope,
    TaskContext,
)
from goscope.memory import MemoryAdapter

pytestmark = pytest.mark.asyncio

Work = Callable[[sqlite3.Connection], Any]


def insert(name: str) -> Work:
    return lambda connection: connection.execute("INSERT INTO airport VALUES (?)", (name,))


@pytest_asyncio.fixture
async def gs(tmp_path: Path) -> AsyncIterator[Scope]:
    """A scope whose store has an empty table ``airport``."""
    sql = "CREATE TABLE airport (name TEXT PRIMARY KEY)"
    async with Scope(backend="sqlite", path=tmp_path / "app.db", locks="shared") as gs:
        await gs.transaction(lambda connection: connection.execute(sql))
        yield gs


async def names(gs: Scope) -> list[str]:
    sql = "SELECT name FROM airport ORDER BY name"
    return [row[0] for row in await gs.transaction(lambda it: it.execute(sql).fetchall())]


async def test_a_fence_refuses_the_transaction_whole(gs: Scope) -> None:
    handle = await gs.lock("airports").acquire()
    await gs.transaction(insert("AAA"), fence=handle)
    await handle.release()
    with pytest.raises(LeaseLost):
        await gs.transaction(insert("BBB"), fence=handle)
    assert await names(gs) == ["AAA"]


# --- checkpoints -----------------------------------------------------------------------------


async def test_rows_and_checkpoint_are_committed_together(gs: Scope) -> None:
    async def run(task: TaskContext[int]) -> None:
        await task.checkpoint.save(1, within=insert("AAA"), progress=50)
        assert (task.checkpoint.data, task.checkpoint.sequence) == (1, 1)
        with pytest.raises(sqlite3.IntegrityError):
            await task.checkpoint.save(2, within=insert("AAA"))
        assert (task.checkpoint.data, task.checkpoint.sequence) == (1, 1)
        await task.checkpoint.save(2, within=insert("BBB"))
        raise LookupError

    with pytest.raises(LookupError):
        await gs.tasks.run("import", run, type=int)
    assert await names(gs) == ["AAA", "BBB"]

    async def resume(task: TaskContext[int]) -> int | None:
        return task.checkpoint.data

    assert await gs.tasks.run("import", resume, type=int) == 2


async def test_a_task_that_was_taken_over_writes_no_rows(gs: Scope) -> None:
    async def run(task: TaskContext[int]) -> None:
        lease = gs.persistence.lease
        assert lease is not None
        await lease.force_release("task:import")
        with pytest.raises(LeaseLost):
            await task.checkpoint.save(1, within=insert("AAA"))

    with pytest.raises(LeaseLost):
        await gs.tasks.run("import", run, type=int)
    assert await names(gs) == []


# --- results ---------------------------------------------------------------------------------


async def test_rows_and_result_are_committed_together(gs: Scope) -> None:
    calls: list[str] = []

    @gs.idempotent("charge:{name}")
    async def charge(name: str) -> Outcome[int]:
        calls.append(name)
        return Outcome(len(calls), within=insert(name))

    assert await charge("AAA") == 1
    assert await charge("AAA") == 1
    assert await charge("BBB") == 2
    assert (calls, await names(gs)) == (["AAA", "BBB"], ["AAA", "BBB"])


@pytest.mark.parametrize("is_async", [True, False])
async def test_run_takes_an_outcome_too(gs: Scope, is_async: bool) -> None:
    def function() -> Outcome[str]:
        return Outcome("receipt", insert("AAA"))

    async def coroutine_function() -> Outcome[str]:
        return function()

    body: Callable[[], Any] = coroutine_function if is_async else function
    assert await gs.idempotency.run("charge", body) == "receipt"
    detailed = await gs.idempotency.run_detailed("charge", body, type=str)
    assert (detailed.value, detailed.replayed) == ("receipt", True)
    assert await names(gs) == ["AAA"]


async def test_rows_that_are_refused_leave_no_result(gs: Scope) -> None:
    await gs.transaction(insert("AAA"))
    calls: list[None] = []

    def body() -> Outcome[int]:
        calls.append(None)
        return Outcome(len(calls), within=insert("AAA"))

    for _ in range(2):
        with pytest.raises(sqlite3.IntegrityError) as caught:
            await gs.idempotency.run("charge", body)
        assert "the next call with this key runs it again" in caught.value.__notes__[0]
    assert len(calls) == 2
    assert await gs.idempotency.get("charge") is None
    assert await gs.idempotency.run("charge", lambda: Outcome(7, within=insert("BBB"))) == 7


async def test_a_result_that_cannot_be_stored_keeps_its_rows(gs: Scope) -> None:
    def body() -> Outcome[object]:
        return Outcome(object(), within=insert("AAA"))

    for _ in range(2):
        with pytest.raises(ResultNotStored):
            await gs.idempotency.run("charge", body)
    assert await names(gs) == ["AAA"]


async def test_a_result_that_is_not_remembered_writes_no_rows(gs: Scope) -> None:
    def body() -> Outcome[int]:
        return Outcome(1, within=insert("AAA"))

    assert await gs.idempotency.run("charge", body, when=lambda result: result > 1) == 1
    assert await names(gs) == []


async def test_a_late_call_writes_no_rows(gs: Scope) -> None:
    async def body() -> Outcome[int]:
        lease = gs.persistence.lease
        assert lease is not None
        await lease.force_release("idempotency:charge")
        return Outcome(1, within=insert("AAA"))

    with pytest.raises(LeaseLost):
        await gs.idempotency.run("charge", body)
    assert await names(gs) == []
    assert await gs.idempotency.get("charge") is None


async def test_the_ttl_and_the_type_are_those_of_the_value(gs: Scope) -> None:
    @gs.idempotent("charge", ttl=lambda result: "1h" if result == (1, 2) else "1s")
    async def charge() -> Outcome[tuple[int, int]]:
        return Outcome((1, 2), within=insert("AAA"))

    assert await charge() == (1, 2)
    assert await charge() == (1, 2)


async def test_an_outcome_is_only_for_idempotent_calls(gs: Scope) -> None:
    async def body() -> Outcome[int]:
        return Outcome(1, within=insert("AAA"))

    with pytest.raises(ConfigurationError):
        gs.cached("5m")(body)

    async def charge() -> Outcome[Undecodable]:
        raise NotImplementedError

    with pytest.raises(ConfigurationError, match="charge"):
        gs.idempotent("key")(charge)


class Undecodable:
    """A result that JSON cannot be decoded to."""


# --- backends without transactions -----------------------------------------------------------


async def test_a_backend_without_transactions_says_so() -> None:
    calls: list[None] = []
    async with Scope(persistence=MemoryAdapter()) as gs:
        message = r"has no transactions for your own statements: .* sqlite, postgres or mysql"
        with pytest.raises(CapabilityMissing, match=message):
            await gs.transaction(insert("AAA"))

        async def run(task: TaskContext[int]) -> None:
            with pytest.raises(CapabilityMissing, match=message):
                await task.checkpoint.save(1, within=insert("AAA"))
            assert task.checkpoint.sequence == 0

        await gs.tasks.run("import", run, type=int)

        @gs.idempotent("charge")
        async def charge() -> Outcome[int]:
            calls.append(None)
            return Outcome(1, within=insert("AAA"))

        with pytest.raises(CapabilityMissing, match=message):
            await charge()
        assert calls == []

        def body() -> Outcome[int]:
            calls.append(None)
            return Outcome(1, within=insert("AAA"))

        for _ in range(2):  # it was only seen after the call, which is done
            with pytest.raises(ResultNotStored, match="no transactions"):
                await gs.idempotency.run("other", body)
        assert len(calls) == 1
