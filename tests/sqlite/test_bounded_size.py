"""A bounded cache: what goes, in which order, what stays, and that the file gives space back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from goscope import BackendError, CircuitBreakerState, ConfigurationError, Scope
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite.providers import eviction

from .conftest import Query
from .test_foreign_rows import checkpoint

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024
KIB = "x" * 1000


@pytest.fixture(params=[SQLiteAdapter, BunSQLiteAdapter])
def adapter_type(request: pytest.FixtureRequest) -> Any:
    return request.param


class Store:
    """A file, and a clock; no sweep runs but those that a test calls."""

    def __init__(self, path: Path, adapter_type: type[Any]) -> None:
        self.path = path
        self.clock = FakeClock()
        self._type = adapter_type

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncGenerator[SQLiteAdapter]:
        options = {"clock": self.clock, "locks": "shared", "sweep_interval": "1000d", **options}
        async with self._type(self.path, **options) as adapter:
            await adapter._sweeper.schedule.stop()
            yield adapter

    @property
    def file_bytes(self) -> int:
        return self.path.stat().st_size


@pytest.fixture
def store(path: Path, adapter_type: type[Any]) -> Store:
    return Store(path, adapter_type)


async def used_bytes(adapter: SQLiteAdapter) -> int:
    return (await eviction.read_pages(adapter._database)).used_bytes


async def fill(adapter: SQLiteAdapter, count: int, ttl: str | None = None, first: int = 0) -> None:
    await adapter.cache.set_many({f"k{n:05}": KIB for n in range(first, first + count)}, ttl)


# --- the options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ("1MiB", MIB),
        ("50MB", 50_000_000),
        ("1.5 GiB", 1_610_612_736),
        ("2000KiB", 2_048_000),
        ("2TB", 2 * 10**12),
        ("3000000", 3_000_000),
        pytest.param(3_000_000, 3_000_000, id="a number"),
        ("3000000B", 3_000_000),
    ],
)
async def test_a_size_is_a_number_of_bytes_or_a_text(
    path: Path, adapter_type: type[Any], size: str | int, found: int
) -> None:
    assert adapter_type(path, max_size=size)._sweeper._bounds.max_bytes == found


@pytest.mark.parametrize("size", ["", "50", "1 kB", "-1GB", "1GB ", "many", "1XB", "nan", 0, True])
async def test_an_invalid_size_is_refused(path: Path, adapter_type: type[Any], size: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_size"):
        adapter_type(path, max_size=size)


@pytest.mark.parametrize("count", [0, -1, True, "many", 1.5])
async def test_an_invalid_number_of_entries_is_refused(
    path: Path, adapter_type: type[Any], count: Any
) -> None:
    with pytest.raises(ConfigurationError, match="max_entries"):
        adapter_type(path, max_entries=count)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite-bun"])
async def test_a_url_has_the_bounds(path: Path, scheme: str) -> None:
    gs = Scope(f"{scheme}:///{path}?max_size=50MB&max_entries=7")
    async with gs:
        adapter: Any = gs.persistence
        assert adapter._sweeper._bounds == (50_000_000, 7)


# --- what goes and what stays --------------------------------------------------------------------


async def test_entries_nearest_their_end_go_first_then_those_written_longest_ago(
    store: Store,
) -> None:
    async with store.open(max_entries=10) as adapter:
        cache = adapter.cache
        for number in range(4):
            await cache.set(f"forever{number}", number)
            await cache.set(f"minutes{number}", number, f"{9 - number}m")
            await store.clock.advance("1s")
        await cache.set("forever0", "again")  # now it is the newest
        await cache.set("stale", 1, "1s", stale_for="1h", tags=["tag"])
        await store.clock.advance("2s")
        gone: list[str] = []
        for entries in range(8, -1, -1):
            before = {entry.key async for entry in adapter.inspection.entries()}
            adapter._sweeper._bounds = adapter._sweeper._bounds._replace(
                max_entries=(entries * 10 + 8) // 9
            )
            await store.clock.advance("30s")
            await adapter._sweeper.sweep()
            gone += sorted(before - {entry.key async for entry in adapter.inspection.entries()})
        assert gone == [
            "stale", "minutes3", "minutes2", "minutes1", "minutes0",
            "forever1", "forever2", "forever3", "forever0",
        ]  # fmt: skip


async def test_only_the_cache_is_evicted(store: Store, query: Query) -> None:
    async with store.open(max_size="1MiB", max_entries=1, key_prefix="shop:") as adapter:
        box = adapter.cache.collection("box")
        for number in range(50):
            await box.set(f"{number}", KIB, "1h", tags=["tag"])
            await adapter.cache.collection("cache").set(f"{number}", KIB)
            await adapter.idempotency.set(f"{number}", KIB, "1h")
            await adapter.checkpoint.save(checkpoint(number))
            await adapter.circuit_breaker.set_state(f"{number}", CircuitBreakerState())
            assert await adapter.lock.acquire(f"{number}", "1h") is not None
            assert await adapter.lease.acquire(f"{number}", "1h") is not None
        before = await adapter.inspection.totals()
        await adapter.cache.set("collection:box:1", KIB, tags=["tag"])
        await fill(adapter, 2000)
        await adapter._sweeper.sweep()
        assert await adapter.inspection.totals() == before
        assert query("SELECT count(*) FROM go_goscope_cache") == [(100,)]
        assert query("SELECT count(*) FROM go_goscope_cache_companion") == [(50,)]
        assert query("SELECT count(*) FROM go_goscope_cache_tags") == [(50,)]
        assert await box.delete_by_tag("tag") == 50


@pytest.mark.parametrize("ttl", [None, "1h"])
async def test_eviction_ends_a_tenth_below_the_size(store: Store, ttl: str | None) -> None:
    async with store.open(max_size="2MiB") as adapter:
        await fill(adapter, 3000, ttl)
        assert await used_bytes(adapter) > 3 * MIB
        await adapter._sweeper.sweep()
        assert 1.7 * MIB < await used_bytes(adapter) <= 1.8 * MIB
        left = await adapter.cache.keys()
        assert left
        before = len(left)
        await adapter._sweeper.sweep()
        assert len(await adapter.cache.keys()) == before


async def test_entries_of_all_prefixes_count(store: Store) -> None:
    async with (
        store.open(max_entries=10) as adapter,
        store.open(key_prefix="shop:") as other,
    ):
        await fill(other, 50)
        await adapter.cache.set("mine", 1)
        await adapter._sweeper.sweep()
        assert (await adapter.cache.stats()).entries + (await other.cache.stats()).entries == 9


async def test_concurrent_sweeps_evict_no_more_than_one_does(store: Store) -> None:
    async with store.open(max_size="2MiB") as one, store.open(max_size="2MiB") as two:
        await fill(one, 3000)
        await asyncio.gather(*(adapter._sweeper.sweep() for adapter in (one, two)))
        assert 1.7 * MIB < await used_bytes(one) <= 1.8 * MIB


async def test_a_cache_without_room_is_kept_empty_and_reported_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with store.open(max_size="1MiB") as adapter:
        await adapter.cache.collection("box").set("large", "x" * 2 * MIB)
        for _ in range(3):
            await adapter.cache.set("key", 1)
            await adapter._sweeper.sweep()
        assert await adapter.cache.keys() == []
        assert await adapter.cache.collection("box").has("large")
        assert [it.levelno for it in caplog.records if "max_size" in it.message] == [
            logging.WARNING
        ]


async def test_rows_of_other_programs_are_evicted_like_others(store: Store, query: Query) -> None:
    async with store.open(max_entries=1) as adapter:
        for key, expires_at in (
            ("cache:text", "tomorrow"), ("cache:inf", float("inf")), ("a:b:cache:x", 1e300),
            ("no colon", None), (b"blob", None), (None, None),
        ):  # fmt: skip
            query(
                "INSERT INTO go_goscope_cache (key, value, expires_at) VALUES (?, '1', ?)",
                key,
                expires_at,
            )
        query("INSERT INTO go_goscope_cache (key, value) VALUES (CAST(x'63ff' AS TEXT), '1')")
        await adapter._sweeper.sweep()
        await adapter._sweeper.sweep()
        assert query("SELECT key FROM go_goscope_cache WHERE typeof(key) = 'text'") == []


# --- when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["set", "add"])
async def test_a_twentieth_of_the_bound_starts_a_sweep(
    path: Path, adapter_type: Any, method: str
) -> None:
    async with adapter_type(path, max_size="2MiB", sweep_interval="1000d") as adapter:
        for number in range(100):
            await getattr(adapter.cache, method)(f"{number}", "x" * 100_000)
        async with asyncio.timeout(60):
            while await used_bytes(adapter) > 1.8 * MIB:  # noqa: ASYNC110  # in the file
                await asyncio.sleep(0.001)


async def test_writes_start_a_sweep_before_there_are_too_many(
    path: Path, adapter_type: Any
) -> None:
    async with adapter_type(path, max_entries=100, sweep_interval="1000d") as adapter:
        for number in range(300):
            await adapter.cache.set(f"{number}", 1)
        async with asyncio.timeout(60):
            while (await adapter.cache.stats()).entries > 100:  # noqa: ASYNC110  # in the file
                await asyncio.sleep(0.001)


async def test_entries_are_counted_once_for_many_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = 0
    count_entries = eviction.count_entries

    async def counting(*arguments: Any) -> int:
        nonlocal counts
        counts += 1
        return await count_entries(*arguments)

    monkeypatch.setattr(eviction, "count_entries", counting)
    async with store.open(max_entries=1000) as adapter:
        for number in range(101):
            await adapter.cache.set(f"{number}", 1)
            await adapter._sweeper.sweep()
    assert counts == 3  # the first time, and after 50 writes each


# --- the file ------------------------------------------------------------------------------------


async def test_a_new_file_gives_the_space_of_a_deleted_value_back(store: Store) -> None:
    async with store.open() as adapter:
        await adapter.cache.set("large", "x" * 12 * MIB)
        await fill(adapter, 100)
        await adapter.cache.delete("large")
        await adapter._database._writer.finish()  # the sweeper skips a WAL that is being copied
        await adapter._sweeper.sweep()
        assert store.file_bytes < 3 * MIB
        assert len(await adapter.cache.keys()) == 100
    assert store.file_bytes < 3 * MIB


async def test_pages_that_are_needed_soon_are_kept(store: Store) -> None:
    async with store.open() as adapter:
        await fill(adapter, 1000)
        await adapter.cache.clear()
        before = await eviction.read_pages(adapter._database)
        await adapter._sweeper.sweep()
        assert await eviction.read_pages(adapter._database) == before


async def test_the_file_is_shortened_later_if_another_process_writes(
    store: Store, path: Path
) -> None:
    async with store.open(busy_timeout="1ms") as adapter:
        await adapter.cache.set("large", "x" * 12 * MIB)
        await adapter.cache.delete("large")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM go_goscope_cache").fetchall()
            await adapter._sweeper.sweep()  # the reader keeps the WAL
            other.execute("COMMIT")
        await adapter._sweeper.sweep()
        assert store.file_bytes < 3 * MIB


async def test_an_older_file_keeps_its_pages_and_its_bound(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE host (key)")
    async with store.open(max_size="2MiB") as adapter:
        for round_ in range(5):
            await fill(adapter, 1000, first=round_ * 1000)
            await adapter._sweeper.sweep()
        assert (await eviction.read_pages(adapter._database)).vacuum == 0
        assert await used_bytes(adapter) <= 1.8 * MIB
        assert store.file_bytes < 6 * MIB


@pytest.mark.long
@pytest.mark.parametrize("ttl", [None, "1h", "5s"])
async def test_the_file_of_a_steady_workload_stays_below_its_bound(
    store: Store, ttl: str | None
) -> None:
    async with store.open(max_size="2MiB") as adapter:
        for second in range(100):
            await fill(adapter, 100, ttl, first=100 * second)
            await store.clock.advance("1s")
            await adapter._sweeper.sweep()
            assert store.file_bytes <= 2 * MIB
    assert store.file_bytes <= 2 * MIB


async def test_a_file_that_was_removed_is_not_created_by_a_sweep(store: Store) -> None:
    async with store.open() as adapter:
        await adapter.cache.set("large", "x" * 4 * MIB)
        await adapter.cache.delete("large")
        for path in store.path.parent.iterdir():
            path.unlink()
        with contextlib.suppress(BackendError):
            await adapter._sweeper.sweep()
        assert not store.path.exists()
