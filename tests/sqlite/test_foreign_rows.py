"""Rows that another program wrote with other types than goscope: nothing but goscope's errors.

SQLite keeps any type in any column, and a text need not be UTF-8.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goscope import Checkpoint, CircuitBreakerState
from goscope.errors import BackendCorrupt, CorruptValue, GoscopeError
from goscope.events import CacheCorrupt, Event
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

LIMIT_S = 60

NOT_UTF_8 = b"cache:\xff\xfe"
"""Written as a text by `CAST`."""

Value = tuple[str, Any]
"""The SQL of a value, and its parameter."""

values: st.SearchStrategy[Value] = st.one_of(
    st.sampled_from([None, 0, -1, 7, 2**53, 2**63 - 1, -(2**63)]),
    st.sampled_from([math.inf, -math.inf, 1e300, -1e300, 0.5, "", "{", "null", "a\0b", "[1]", "9"]),
    st.binary(max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
).map(lambda value: ("?", value)) | st.sampled_from(
    [("CAST(? AS TEXT)", b"\xff"), ("CAST(? AS TEXT)", NOT_UTF_8)]
)


def columns(path: Path) -> list[tuple[str, str]]:
    """Every column of every table of goscope."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
            "WHERE m.type = 'table' AND m.name LIKE 'go_goscope%'"
        )
        return found.fetchall()


Foreign = tuple[int, Value, bool]
"""A column by number, the value to write, and whether as a new row."""


def write(path: Path, foreign: list[Foreign]) -> None:
    """Write the values as another program would, where the constraints of the tables allow it."""
    every = columns(path)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        for number, (sql, value), adds in foreign:
            table, column = every[number % len(every)]
            others = [name for its, name in every if its == table and name != column]
            statement = (
                f"INSERT OR REPLACE INTO {table} ({', '.join([column, *others])}) "
                f"SELECT {sql}, {', '.join(others) or 'NULL'} FROM {table} LIMIT 1"
                if adds
                else f"UPDATE OR REPLACE {table} SET {column} = {sql}"
            )
            try:
                connection.execute(statement, (value,))
            except sqlite3.IntegrityError:
                pass  # such as NOT NULL


async def fill(adapter: SQLiteAdapter) -> None:
    """Write rows into every table."""
    await adapter.cache.set("plain", 1)
    await adapter.cache.set("count", 1, "1h")
    await adapter.cache.set("tagged", 1, "1ms", tags=["tag"], stale_for="1h")
    await adapter.cache.collection("box").set("key", 1, "1h", tags=["tag"])
    await adapter.idempotency.set("key", 1, "1ms", fingerprint="print")
    await adapter.checkpoint.save(checkpoint(1))
    await adapter.circuit_breaker.set_state(
        "key", CircuitBreakerState(state="half-open", failure_count=1, success_count=1)
    )
    assert await adapter.lock.acquire("held", "1ms") is not None
    assert await adapter.lease.acquire("held", "1ms") is not None


def checkpoint(sequence: int) -> Checkpoint:
    return Checkpoint(
        id=f"c{sequence}", task_id="task", sequence=sequence, timestamp=1, data=1, progress=1
    )


def calls(adapter: SQLiteAdapter) -> Iterator[Callable[[], Awaitable[object]]]:
    """Every method of every provider, those that remove something last."""
    cache, circuit = adapter.cache, adapter.circuit_breaker
    box = cache.collection("box")
    yield lambda: box.get("key")
    yield lambda: box.get_entry("key")
    yield box.keys
    yield lambda: box.increment("key")
    yield lambda: box.touch("key", "1h")
    for key in ("plain", "count", "tagged"):
        yield lambda key=key: cache.get(key)  # type: ignore[misc]
        yield lambda key=key: cache.get_entry(key)  # type: ignore[misc]
        yield lambda key=key: cache.has(key)  # type: ignore[misc]
        yield lambda key=key: cache.touch(key, "1h")  # type: ignore[misc]
        yield lambda key=key: cache.add(key, 2, "1h")  # type: ignore[misc]
    yield lambda: cache.get_many(["plain", "count", "tagged"])
    yield lambda: cache.increment("count")
    yield cache.keys
    yield lambda: cache.keys("*a*")
    yield cache.stats
    for locks in (adapter.lock, adapter.lease):
        for key in ("held", "free"):
            yield lambda key=key, locks=locks: locks.holder(key)  # type: ignore[misc]
            yield lambda key=key, locks=locks: locks.wait_released(key, "1ms")  # type: ignore[misc]
            yield lambda key=key, locks=locks: locks.acquire(key, "1s")  # type: ignore[misc]
            yield lambda key=key, locks=locks: locks.extend(key, "1s", "me")  # type: ignore[misc]
    yield lambda: everything(adapter)
    yield lambda: circuit.get_state("key")
    yield lambda: circuit.record_failure("key", 3)
    yield lambda: circuit.record_success("key")
    for number in (1, 2, 3):
        yield lambda number=number: adapter.checkpoint.save(checkpoint(number))  # type: ignore[misc]
    yield lambda: adapter.checkpoint.load("c1")
    yield lambda: adapter.checkpoint.load_latest("task")
    yield lambda: adapter.checkpoint.list("task")
    yield lambda: adapter.idempotency.get("key")
    yield lambda: adapter.idempotency.set("key", 2, "1s", fingerprint="print")
    yield adapter._sweeper.sweep
    yield cache.prune
    yield lambda: cache.set("tagged", 2, "1h", tags=["tag"])
    yield lambda: cache.set_many({"plain": 3, "tagged": 3})
    yield lambda: cache.delete_by_tag("tag")
    yield lambda: cache.delete("plain")
    yield lambda: cache.delete_many(["count", "tagged"])
    yield cache.clear
    yield lambda: box.delete_by_tag("tag")
    yield box.clear
    yield lambda: adapter.checkpoint.cleanup("task", 1)
    yield lambda: adapter.checkpoint.delete_all("task")
    yield lambda: adapter.idempotency.delete("key")
    yield lambda: circuit.set_state("key", CircuitBreakerState())
    for locks in (adapter.lock, adapter.lease):
        yield lambda locks=locks: locks.force_release("held")  # type: ignore[misc]


async def everything(adapter: SQLiteAdapter) -> list[object]:
    """What inspection lists; it meets no row that ends it."""
    inspection = adapter.inspection
    try:
        listings = (
            inspection.leases,
            inspection.waiters,
            inspection.circuits,
            inspection.tasks,
            inspection.results,
            inspection.entries,
            lambda: inspection.entries(collection="box"),
            inspection.collections,
            inspection.processes,
        )
        found: list[object] = []
        for listing in listings:
            found += [record async for record in listing()]
        return [*found, await inspection.totals()]
    except GoscopeError as exc:
        raise AssertionError("a row ended a listing") from exc


async def held(adapter: SQLiteAdapter) -> list[tuple[str, str]]:
    return [(lease.key, lease.owner) async for lease in adapter.inspection.leases()]


async def use(path: Path, adapter_type: type[Any], foreign: list[Foreign]) -> None:
    async with adapter_type(path, locks="shared", max_size="1MiB", max_entries=3) as adapter:
        await fill(adapter)
        write(path, foreign)
        for call in calls(adapter):
            try:
                async with asyncio.timeout(LIMIT_S):
                    await call()
            except GoscopeError:
                pass
        with closing(sqlite3.connect(path)) as connection:
            left = connection.execute("SELECT CAST(key AS BLOB) FROM go_goscope_cache").fetchall()
        ours = (b"cache:", b"collection:box:")
        assert [key for (key,) in left if key.startswith(ours)] == [], "clear left rows"
    try:
        async with adapter_type(path, locks="shared"):
            pass
    except GoscopeError:
        pass


@pytest.mark.parametrize("adapter_type", [SQLiteAdapter, BunSQLiteAdapter])
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    foreign=st.lists(st.tuples(st.integers(0, 200), values, st.booleans()), min_size=1, max_size=4)
)
def test_every_method_terminates_with_nothing_but_errors_of_goscope(
    adapter_type: type[Any], foreign: list[Foreign]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(use(Path(folder) / "store.db", adapter_type, foreign))


@pytest.fixture(params=[SQLiteAdapter, BunSQLiteAdapter])
def adapter_type(request: pytest.FixtureRequest) -> Any:
    return request.param


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "goscope_sqlite"]


UNREADABLE_ENTRIES: list[tuple[str, Value]] = [
    ("key", ("CAST(? AS TEXT)", NOT_UTF_8)),
    ("key", ("?", b"cache:blob")),
    ("key", ("?", None)),
    ("expires_at", ("?", "tomorrow")),
    ("expires_at", ("?", b"\x01")),
    ("expires_at", ("?", math.inf)),
    ("expires_at", ("?", 2**62)),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("column", "value"), UNREADABLE_ENTRIES)
async def test_an_unreadable_cache_entry_is_skipped_reported_once_and_cleared(
    path: Path,
    query: Query,
    caplog: pytest.LogCaptureFixture,
    adapter_type: type[Any],
    column: str,
    value: Value,
) -> None:
    async with adapter_type(path, sweep_interval="1h") as adapter:
        await adapter.cache.set_many({str(number): number for number in range(10)})
        query(f"UPDATE go_goscope_cache SET {column} = {value[0]} WHERE key = 'cache:4'", value[1])
        assert sorted(await adapter.cache.keys()) == [str(n) for n in range(10) if n != 4]
        assert await adapter.cache.get("4") is None
        assert (await adapter.cache.stats()).entries == 9 or value[0] != "?"
        for _ in range(3):
            await adapter._sweeper.sweep()
        await adapter.cache.keys()
        reported = [text for text in warnings(caplog) if "row 5 of go_goscope_cache" in text]
        assert len(reported) == 1
        assert query("SELECT count(*) FROM go_goscope_cache") == [(10,)]
        async with asyncio.timeout(LIMIT_S):
            await adapter.cache.clear()
        assert query("SELECT count(*) FROM go_goscope_cache") == [(0,)]


@pytest.mark.asyncio
async def test_clear_of_one_prefix_leaves_the_unreadable_keys_of_another(
    path: Path, query: Query, adapter_type: type[Any]
) -> None:
    async with adapter_type(path, key_prefix="shop:") as adapter:
        await adapter.cache.set("key", 1)
        query("INSERT INTO go_goscope_cache (key, value) VALUES (CAST(? AS TEXT), '1')", NOT_UTF_8)
        await adapter.cache.clear()
        assert query("SELECT CAST(key AS BLOB) FROM go_goscope_cache") == [(NOT_UTF_8,)]


@pytest.mark.asyncio
@pytest.mark.parametrize("unreadable", ["tomorrow", b"\x01", math.inf])
async def test_an_entry_with_an_unreadable_expiry_is_a_miss_and_can_be_replaced(
    path: Path, query: Query, adapter_type: type[Any], unreadable: object
) -> None:
    async with adapter_type(path) as adapter:
        events: list[Event] = []
        adapter.context.emit = events.append
        await adapter.cache.set("key", 1, "1h")
        query("UPDATE go_goscope_cache SET expires_at = ?", unreadable)
        assert await adapter.cache.get_entry("key") is None
        assert [type(event) for event in events] == [CacheCorrupt]
        assert not await adapter.cache.has("key")
        assert not await adapter.cache.touch("key", "1h")
        assert await adapter.cache.add("key", 2)
        assert await adapter.cache.get("key") == 2


@pytest.mark.asyncio
async def test_the_sweeper_goes_on_after_any_row(
    path: Path, query: Query, adapter_type: type[Any]
) -> None:
    """A key that nobody can name was selected again and again, 2,000 times a second."""
    clock = FakeClock()
    async with adapter_type(path, clock=clock, sweep_interval="1h") as adapter:
        for key in (NOT_UTF_8, b"cache:1", b"cache:2"):
            for table in ("cache", "idempotency"):
                sql = f"INSERT INTO go_goscope_{table} (key, value, expires_at) VALUES "
                query(f"{sql} (CAST(? AS TEXT), '1', 1), (?, '1', 1), (NULL, '1', 1)", key, key)
        for table in ("cache", "idempotency", "circuit"):
            names = "tags, digest" if table == "cache" else "digest, fingerprint"
            names = "describes, success_count" if table == "circuit" else names
            sql = f"INSERT INTO go_goscope_{table}_companion (key, {names}) VALUES "
            query(f"{sql} (?, '{{', 1), (NULL, '[1]', 1)", NOT_UTF_8)
        query(
            "INSERT INTO go_goscope_locks VALUES (?, 'me', 1, -1e12, ?, 'h', 1, 'n', 's', 1)",
            b"lock:blob",
            clock.boot_id,
        )
        query("INSERT INTO go_goscope_lock_queue VALUES (?, 'me', 'boot', 1, 1)", b"lock:blob")
        async with asyncio.timeout(LIMIT_S):
            await adapter._sweeper.sweep()
        tables = [table for table, column in columns(path) if column == "key"]
        left = [table for table in tables if query(f"SELECT 1 FROM {table}")]
        assert left == ["go_goscope_meta"]


@pytest.mark.asyncio
async def test_the_sweeper_survives_every_error_and_logs_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    async with SQLiteAdapter(path, clock=clock, sweep_interval="1s") as adapter:
        await adapter.cache.set("key", 1, "1s")

        async def fail() -> None:
            raise RuntimeError("out of order")

        adapter._sweeper._sweep_cache = fail  # type: ignore[method-assign]
        await adapter.idempotency.set("key", 1, "1ms")
        with caplog.at_level(logging.ERROR, "goscope"):
            async with asyncio.timeout(LIMIT_S):
                while len(caplog.records) < 3:
                    await clock.advance("2s")
                    await asyncio.sleep(0.001)
        assert "out of order" in caplog.text
        assert await adapter.idempotency.get("key") is None


@pytest.mark.asyncio
async def test_a_lease_that_nobody_can_read_is_an_error_with_a_remedy(
    path: Path, query: Query, adapter_type: type[Any]
) -> None:
    async with adapter_type(path, locks="shared") as adapter:
        assert await adapter.lock.acquire("key", "1h") is not None
        for column, value in (("expires_at", "soon"), ("token", b"1"), ("pid", math.inf)):
            query(f"UPDATE go_goscope_locks SET {column} = ?", value)
            with pytest.raises(BackendCorrupt, match=r"lock:key.*cannot be read.*force_"):
                await adapter.lock.acquire("key")
            assert await held(adapter) == [("key", "")], "nobody finds what blocks the lock"
        await adapter.lock.force_release("key")
        assert await adapter.lock.acquire("key") is not None


@pytest.mark.asyncio
@pytest.mark.parametrize("sequence", ["last", b"\xff", math.inf, 2**63 - 1])
async def test_a_checkpoint_with_an_absurd_sequence_does_not_end_the_task(
    path: Path, query: Query, adapter_type: type[Any], sequence: object
) -> None:
    async with adapter_type(path) as adapter:
        await adapter.checkpoint.save(checkpoint(1))
        query(
            "INSERT INTO go_goscope_checkpoints (id, task_id, sequence, timestamp, data) "
            "VALUES ('foreign', 'task', ?, 1, '1')",
            sequence,
        )
        await adapter.checkpoint.save(checkpoint(2))
        latest = await adapter.checkpoint.load_latest("task")
        assert latest is not None
        assert latest.id == "c2"
        await adapter.checkpoint.cleanup("task", 1)
        assert [row.id for row in await adapter.checkpoint.list("task")] == ["c2"]
        await adapter.checkpoint.delete_all("task")
        assert query("SELECT 1 FROM go_goscope_checkpoints") == []


@pytest.mark.asyncio
@pytest.mark.parametrize("column", ["timestamp", "progress", "estimated_time_remaining"])
async def test_other_types_in_a_checkpoint_or_a_result_are_a_corrupt_value(
    path: Path, query: Query, adapter_type: type[Any], column: str
) -> None:
    async with adapter_type(path) as adapter:
        await adapter.checkpoint.save(checkpoint(1))
        query(f"UPDATE go_goscope_checkpoints SET {column} = 'x'")
        with pytest.raises(CorruptValue):
            await adapter.checkpoint.load_latest("task")
        await adapter.idempotency.set("key", 1)
        query("UPDATE go_goscope_idempotency SET expires_at = 'never'")
        with pytest.raises(CorruptValue, match="never"):
            await adapter.idempotency.get("key")
        assert await adapter.idempotency.delete("key")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "ajar"),
        ("failure_count", "many"),
        ("failure_count", 2**63 - 1),
        ("last_failure_time", 2**62),
        ("last_failure_time", "then"),
        ("last_success_time", math.inf),
    ],
)
async def test_an_unreadable_circuit_counts_from_zero(
    path: Path,
    query: Query,
    caplog: pytest.LogCaptureFixture,
    adapter_type: type[Any],
    column: str,
    value: object,
) -> None:
    async with adapter_type(path) as adapter:
        await adapter.circuit_breaker.record_failure("key", 9)
        query(f"UPDATE go_goscope_circuit SET {column} = ?", value)
        for _ in range(3):
            assert await adapter.circuit_breaker.get_state("key") is None
        assert len(warnings(caplog)) == 1
        assert await adapter.circuit_breaker.record_failure("key", 2) == 1
        assert await adapter.circuit_breaker.record_failure("key", 2) == 2
        state = await adapter.circuit_breaker.get_state("key")
        assert state is not None
        assert state.state == "open"
