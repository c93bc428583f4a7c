"""What a file holds is listed, whoever wrote it, and without reading more than a page."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from goscope import Checkpoint, CircuitBreakerState
from goscope.inspection import EntryInfo, Total
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite.providers import inspection

from .conftest import Query

pytestmark = pytest.mark.asyncio

T = TypeVar("T")

HOLD = """
import asyncio, os, sys
from goscope_sqlite import SQLiteAdapter

async def main():
    async with SQLiteAdapter(sys.argv[1], locks="shared") as adapter:
        await adapter.lease.acquire("task:etl", "1h")
        await adapter.lock.acquire("stock", "1h")
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def listed(records: AsyncIterator[T]) -> list[T]:
    return [record async for record in records]


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open, and holds a lock and the lease of a task."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


async def test_the_leases_of_a_killed_process_are_those_of_a_dead_one(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    async with SQLiteAdapter(path) as adapter:
        leases = await listed(adapter.inspection.leases())
        assert [(it.kind, it.key, it.pid, it.is_alive) for it in leases] == [
            ("lock", "stock", holder.pid, True),
            ("task", "etl", holder.pid, True),
        ]
        [task] = await listed(adapter.inspection.tasks())
        assert task.is_running
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert {it.is_alive for it in await listed(adapter.inspection.leases())} == {False}
        [task] = await listed(adapter.inspection.tasks())
        assert not task.is_running
        processes = {it.pid: it.is_alive for it in await listed(adapter.inspection.processes())}
        assert processes == {os.getpid(): True, holder.pid: False}
        assert (await adapter.inspection.totals()).processes.count == 2


async def test_a_process_on_another_machine_may_be_alive(
    adapter: SQLiteAdapter, query: Query
) -> None:
    await adapter.lease.acquire("key")
    query("UPDATE go_goscope_locks SET host = 'elsewhere'")
    [lease] = await listed(adapter.inspection.leases())
    assert (lease.host, lease.is_alive) == ("elsewhere", None)


async def test_in_memory_locks_are_listed_by_every_adapter_of_their_process(
    path: Path, clock: FakeClock
) -> None:
    """Next to the shared locks of other processes, and under their own prefix only."""
    async with (
        SQLiteAdapter(path, locks="memory", clock=clock) as one,
        SQLiteAdapter(path, locks="memory", clock=clock) as two,
        SQLiteAdapter(path, locks="memory", key_prefix="shop:", clock=clock) as shop,
        SQLiteAdapter(path, locks="shared", clock=clock) as shared,
    ):
        await one.lock.acquire("one", "1h")
        await shop.lock.acquire("shop", "1h")
        await shared.lock.acquire("shared", "1h")
        for adapter in (one, two):
            found = await listed(adapter.inspection.leases())
            assert {(it.key, it.fencing_token is None) for it in found} == {
                ("one", True),
                ("shared", False),
            }
            assert (await adapter.inspection.totals()).leases.count == 2
        assert [it.key for it in await listed(shop.inspection.leases())] == ["shop"]
        assert [it.key for it in await listed(shared.inspection.leases())] == ["shared"]


async def test_rows_of_go_go_scope_are_listed(path: Path, clock: FakeClock, query: Query) -> None:
    async with BunSQLiteAdapter(path, key_prefix="shop:", clock=clock) as adapter:
        now = clock.wall_ms() // 1000
        query(
            "INSERT INTO go_goscope_cache VALUES ('shop:cache:user', ?, ?, ?)",
            '{"é":1}', now + 60, now - 5,
        )  # fmt: skip
        query("INSERT INTO go_goscope_circuit VALUES ('shop:circuit:api', 'open', 3, 7, NULL, 7)")
        query("INSERT INTO go_goscope_idempotency VALUES ('shop:pay', '1', NULL, ?, ?)", now, now)
        query(
            "INSERT INTO go_goscope_checkpoints VALUES "
            "('a', 'etl', 1, 10, 20, '[1]', NULL, 0), ('b', 'etl', 2, 20, 40, '[1,2]', 900, 0)"
        )
        assert await listed(adapter.inspection.entries()) == [
            EntryInfo(key="user", size_bytes=8, expires_in_ms=60_000, created_at=(now - 5) * 1000)
        ]
        [circuit] = await listed(adapter.inspection.circuits())
        assert circuit.state == CircuitBreakerState(
            state="open", failure_count=3, last_failure_time=7
        )
        [result] = await listed(adapter.inspection.results())
        assert (result.key, result.expires_in_ms, result.created_at) == ("pay", None, now * 1000)
        [task] = await listed(adapter.inspection.tasks())
        assert (task.id, task.checkpoints, task.size_bytes, task.sequence) == ("etl", 2, 8, 2)
        assert (task.progress, task.estimated_time_remaining, task.saved_at) == (40.0, 900, 20)


async def test_rows_that_nobody_can_read_end_no_listing(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """They are listed with what can be read of them, and so are the rows beside them."""
    text = "CAST(x'ff' AS TEXT)"
    query(f"INSERT INTO go_goscope_cache VALUES ('cache:' || {text}, x'ff00', 'soon', 'now')")
    query(f"INSERT INTO go_goscope_circuit VALUES ('circuit:bad', {text}, 'x', 'y', x'00', 0)")
    query(f"INSERT INTO go_goscope_idempotency VALUES ({text}, x'ff', 'soon', NULL, NULL)")
    query(f"INSERT INTO go_goscope_checkpoints VALUES ('id', {text}, 'x', 'y', 'z', x'ff', 'a', 0)")
    await adapter.cache.set("good", 1, tags=["tag"])
    query("UPDATE go_goscope_cache_companion SET tags = '[not json'")
    await adapter.circuit_breaker.set_state("good", CircuitBreakerState())
    await adapter.idempotency.set("good", 1)
    entries = await listed(adapter.inspection.entries())
    assert [(it.key, it.size_bytes, it.expires_in_ms, it.created_at) for it in entries] == [
        ("good", 1, None, entries[0].created_at),
        ("\ufffd", 2, None, None),
    ]
    circuits = {it.key: it.state for it in await listed(adapter.inspection.circuits())}
    assert circuits == {"bad": None, "good": CircuitBreakerState()}
    results = await listed(adapter.inspection.results())
    assert [(it.key, it.expires_in_ms) for it in results] == [("good", None), ("\ufffd", None)]
    [task] = await listed(adapter.inspection.tasks())
    assert (task.id, task.checkpoints, task.sequence, task.progress) == ("\ufffd", 1, 0, 0.0)
    totals = await adapter.inspection.totals()
    assert totals.entries == Total(count=2, size_bytes=3)


async def test_pages_of_keys_that_are_not_text_follow_one_another(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """The last key of a page says where the next one begins, and none of these is UTF-8."""
    query("""
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
        INSERT INTO go_goscope_cache (key, value)
        SELECT CAST(CAST('cache:' AS BLOB) || x'ff' || i AS TEXT), '1' FROM n
    """)
    assert len(await listed(adapter.inspection.entries())) == 600


async def test_totals_count_more_rows_than_one_read(adapter: SQLiteAdapter, query: Query) -> None:
    query("""
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20001)
        INSERT INTO go_goscope_cache (key, value) SELECT 'cache:' || i, '12' FROM n
    """)
    totals = await adapter.inspection.totals()
    assert totals.entries == Total(count=20_001, size_bytes=40_002)


def statements() -> dict[str, str]:
    """Every statement of the provider."""
    listing = {
        name: sql
        for name, sql in vars(inspection).items()
        if isinstance(sql, str) and sql.lstrip().startswith("SELECT") and name != "READ_CIRCUITS"
    }
    return listing | {f"count {kind}": sql for kind, sql in inspection._COUNT.items()}


@pytest.mark.parametrize("name", statements())
async def test_a_listing_reads_a_range_of_keys_in_order(
    adapter: SQLiteAdapter, path: Path, name: str
) -> None:
    """No statement scans a table or sorts its rows."""
    sql = statements()[name]
    connection = sqlite3.connect(path)
    parameters: list[Any] = [None] * sql.count("?")
    plan = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    connection.close()
    assert any(step.startswith("SEARCH") for step in plan)
    scans = [step for step in plan if "TEMP B-TREE" in step or step.startswith("SCAN")]
    assert [step for step in scans if "subquery" not in step] == []


async def test_an_adapter_without_a_prefix_knows_who_runs_the_tasks_of_every_prefix(
    path: Path,
) -> None:
    async with (
        SQLiteAdapter(path, key_prefix="shop:") as shop,
        SQLiteAdapter(path) as adapter,
    ):
        assert await shop.lease.acquire("task:import:1", "1h", "worker")
        await shop.checkpoint.save(
            Checkpoint(id="c1", task_id="import:1", sequence=1, timestamp=5, data=1)
        )
        (task,) = [it async for it in adapter.inspection.tasks()]
        assert task.id == "shop:import:1"
        assert task.is_running
        assert task.lease is not None
        assert (task.lease.owner, task.lease.key) == ("worker", "shop:import:1")
        assert [it async for it in adapter.inspection.tasks("shop:x*")] == []
        (task,) = [it async for it in shop.inspection.tasks()]
        assert (task.id, task.is_running) == ("import:1", True)
