"""The sweeper removes expired rows in small steps, and the file stops growing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goscope.errors import BackendError
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter, _sweeper

pytestmark = pytest.mark.asyncio

Query = Callable[..., list[tuple[Any, ...]]]


def rows(query: Query) -> dict[str, int]:
    """How many rows each table has that must not grow forever."""
    tables = (
        "cache",
        "cache_companion",
        "cache_tags",
        "idempotency",
        "idempotency_companion",
        "locks",
    )
    return {table: query(f"SELECT count(*) FROM go_goscope_{table}")[0][0] for table in tables}


async def until(condition: Callable[[], bool]) -> None:
    """Return once the sweeper, which runs in the background, has made the condition true."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # the condition is about the file
            await asyncio.sleep(0.01)


async def test_an_idle_store_is_swept_at_its_interval(
    adapter: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    for number in range(120):
        await adapter.cache.set(f"{number}", 1, "1s", tags=["tag"])
        await adapter.idempotency.set(f"{number}", 1, "1s", fingerprint="print")
    await adapter.cache.set("live", 1, "1h", tags=["tag"])
    await clock.advance("1s")
    assert rows(query)["cache"] == 121
    await clock.advance("30s")
    await until(lambda: rows(query)["idempotency_companion"] == 0)
    assert rows(query) == {
        "cache": 1,
        "cache_companion": 1,
        "cache_tags": 1,
        "idempotency": 0,
        "idempotency_companion": 0,
        "locks": 0,
    }


async def test_a_stale_entry_is_kept_until_its_stale_deadline(
    adapter: SQLiteAdapter, clock: FakeClock
) -> None:
    for number in range(120):
        await adapter.cache.set(f"stale:{number}", number, "1s", stale_for="1h")
        await adapter.cache.set(f"plain:{number}", number, "1s")
    await clock.advance("2s")
    await adapter._sweeper.sweep()
    assert [await adapter.cache.get_entry(f"plain:{n}") for n in range(120)] == [None] * 120
    for number in range(120):
        entry = await adapter.cache.get_entry(f"stale:{number}")
        assert entry is not None
        assert entry.value == number
        assert entry.is_stale
    await clock.advance("1h")
    assert await adapter.cache.prune() == 120


async def test_leases_are_kept_for_a_day_after_their_expiry(
    adapter: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    lease = await adapter.lease.acquire("key", "1s")
    await clock.advance("24h")
    await adapter._sweeper.sweep()
    await adapter.cache.set("fenced", 1, fence=lease)
    await clock.advance("1s")
    await adapter._sweeper.sweep()
    assert rows(query)["locks"] == 0


async def test_a_lease_of_another_boot_is_removed_a_day_after_its_grant(
    adapter: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.lease.acquire("key", "7d")
    clock.boot_id = "another"
    await adapter._sweeper.sweep()
    assert rows(query)["locks"] == 1
    await clock.advance("24h")
    await adapter._sweeper.sweep()
    assert rows(query)["locks"] == 0


async def test_orphaned_companion_rows_are_removed(adapter: SQLiteAdapter, query: Query) -> None:
    for number in range(120):
        await adapter.cache.set(f"{number}", 1, tags=["tag"])
    await adapter.idempotency.set("key", 1, fingerprint="print")
    query("DELETE FROM go_goscope_cache WHERE key != 'cache:7'")
    query("DELETE FROM go_goscope_idempotency")
    for _ in range(3):  # a sweep checks one page of each companion table
        await adapter._sweeper.sweep()
    assert rows(query)["cache_companion"] == rows(query)["cache_tags"] == 1
    assert rows(query)["idempotency_companion"] == 0


async def test_a_step_removes_a_limited_number_of_rows(
    adapter: SQLiteAdapter, clock: FakeClock, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    await adapter.cache.set_many({f"{number}": 1 for number in range(2000)}, "1s")
    await clock.advance("1s")
    submit = adapter._database.submit
    steps: list[int] = []

    def recorded(work: Any, *, rows: int = 1) -> Any:
        steps.append(rows)
        return submit(work, rows=rows)

    monkeypatch.setattr(adapter._database, "submit", recorded)
    await adapter._sweeper.sweep()
    assert sum(steps) == 2000
    assert max(steps) <= _sweeper.STEP_ROWS
    assert query("SELECT count(*) FROM go_goscope_cache") == [(0,)]


async def test_a_sweep_without_expired_rows_writes_nothing(
    adapter: SQLiteAdapter, query: Query, path: Path
) -> None:
    await adapter.cache.set("key", 1, "1h", tags=["tag"], stale_for="1h")
    wal = path.with_name(f"{path.name}-wal")
    before = wal.stat().st_mtime_ns
    await adapter._sweeper.sweep()
    assert wal.stat().st_mtime_ns == before


async def test_the_file_of_a_steady_workload_stops_growing(path: Path, clock: FakeClock) -> None:
    """Enough writes start a sweep: this one never waits for its interval."""

    async def write(rounds: range) -> int:
        for number in rounds:
            keys = (f"{number}:{each}" for each in range(100))
            await asyncio.gather(*(adapter.cache.set(key, "x" * 500, "50ms") for key in keys))
            await clock.advance("10ms")
        pages: int = await adapter._database.submit(
            lambda connection: connection.execute("PRAGMA page_count").fetchall()[0][0]
        )
        return pages

    async with SQLiteAdapter(path, sweep_interval="1h", clock=clock) as adapter:
        warm = await write(range(60))
        # By then four times as much was written. How many expired rows are left at a time varies.
        assert await write(range(60, 240)) < 2.5 * warm


async def test_an_error_in_a_sweep_is_logged_and_the_next_sweep_runs(
    adapter: SQLiteAdapter,
    clock: FakeClock,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(*_: object) -> None:
        raise BackendError("the disk is on fire")

    await adapter.cache.set("key", 1, "1s")
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "goscope"):
        patched.setattr(adapter._sweeper, "_sweep_leases", fail)
        await clock.advance("30s")
        await until(lambda: "the disk is on fire" in caplog.text)
    await adapter.cache.set("other", 1, "1s")
    await clock.advance("30s")
    await until(lambda: rows(query)["cache"] == 0)
