"""The format on disk: go-go-scope's tables, and companion tables for what these cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from goscope import Checkpoint
from goscope.providers import CircuitBreakerState
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter

pytestmark = pytest.mark.asyncio

Query = Callable[..., list[tuple[Any, ...]]]

WALL = 1_700_000_000_000

COLUMNS = {
    "go_goscope_circuit": "key state failure_count last_failure_time last_success_time updated_at",
    "go_goscope_cache": "key value expires_at created_at",
    "go_goscope_checkpoints": "id task_id sequence timestamp progress data "
    "estimated_time_remaining created_at",
    "go_goscope_idempotency": "key value expires_at created_at updated_at",
}


async def test_the_shared_tables_are_those_of_go_go_scope(
    adapter: SQLiteAdapter, query: Query
) -> None:
    for table, columns in COLUMNS.items():
        assert [row[1] for row in query(f"PRAGMA table_info({table})")] == columns.split()
    indexes = query("SELECT name FROM sqlite_master WHERE type = 'index' AND name GLOB 'idx_*'")
    assert {name for (name,) in indexes} == {
        "idx_cache_expires",
        "idx_checkpoints_sequence",
        "idx_checkpoints_task",
        "idx_idempotency_expires",
    }


async def test_a_cache_entry_is_json_text_that_expires_in_epoch_seconds(
    adapter: SQLiteAdapter, query: Query
) -> None:
    for key, ttl in (("never", None), ("whole", "5s"), ("fraction", "250ms")):
        await adapter.cache.set(key, {"a": [1, None, "ü"]}, ttl)
    assert query(
        "SELECT key, value, typeof(value), expires_at, typeof(expires_at), created_at "
        "FROM go_goscope_cache ORDER BY key"
    ) == [
        ("cache:fraction", '{"a":[1,null,"ü"]}', "text", WALL / 1000 + 0.25, "real", WALL // 1000),
        ("cache:never", '{"a":[1,null,"ü"]}', "text", None, "null", WALL // 1000),
        ("cache:whole", '{"a":[1,null,"ü"]}', "text", WALL // 1000 + 5, "integer", WALL // 1000),
    ]
    entry = await adapter.cache.get_entry("fraction")
    assert entry is not None
    assert entry.expires_at == WALL + 250


@pytest.mark.parametrize("ms", [1, 7, 333, 999, 1001])
async def test_an_expiry_is_exact_to_the_millisecond(
    adapter: SQLiteAdapter, clock: FakeClock, ms: int
) -> None:
    await adapter.cache.set("key", 1, ms)
    if ms > 1:
        await clock.advance(timedelta(milliseconds=ms - 1))
    assert await adapter.cache.has("key")
    await clock.advance("1ms")
    assert not await adapter.cache.has("key")


async def test_the_times_of_a_circuit_are_epoch_milliseconds(
    adapter: SQLiteAdapter, query: Query
) -> None:
    await adapter.circuit_breaker.record_failure("a", 2)
    await adapter.circuit_breaker.record_success("b")
    assert query("SELECT * FROM go_goscope_circuit ORDER BY key") == [
        ("circuit:a", "closed", 1, WALL, None, WALL),
        ("circuit:b", "closed", 0, None, WALL, WALL),
    ]


async def test_a_checkpoint_is_one_row(adapter: SQLiteAdapter, query: Query) -> None:
    await adapter.checkpoint.save(
        Checkpoint(id="id", task_id="task", sequence=3, timestamp=WALL, data=[1], progress=12.5)
    )
    assert query("SELECT *, typeof(data) FROM go_goscope_checkpoints") == [
        ("id", "task", 3, WALL, 12.5, "[1]", None, WALL // 1000, "text")
    ]


async def test_an_idempotent_result_is_one_row_under_its_bare_key(
    adapter: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.idempotency.set("key", "done", "1h")
    await clock.advance("2s")
    await adapter.idempotency.set("key", "again", "1h")
    now = WALL // 1000
    assert query("SELECT *, typeof(value) FROM go_goscope_idempotency") == [
        ("key", '"again"', now + 2 + 3600, now, now + 2, "text")
    ]


async def test_the_key_prefix_precedes_the_prefixes_of_the_format(path: Any, query: Query) -> None:
    async with SQLiteAdapter(path, key_prefix="shop:", locks="shared") as adapter:
        await adapter.cache.set("key", 1)
        await adapter.circuit_breaker.record_failure("key", 1)
        await adapter.idempotency.set("key", 1)
        await adapter.checkpoint.save(
            Checkpoint(id="id", task_id="key", sequence=0, timestamp=0, data=1)
        )
        await adapter.lock.acquire("key")
        await adapter.lease.acquire("key")
    assert query(
        "SELECT key FROM go_goscope_cache UNION SELECT key FROM go_goscope_circuit "
        "UNION SELECT key FROM go_goscope_idempotency UNION SELECT task_id FROM "
        "go_goscope_checkpoints UNION SELECT id FROM go_goscope_checkpoints "
        "UNION SELECT key FROM go_goscope_locks ORDER BY 1"
    ) == [
        ("shop:cache:key",),
        ("shop:circuit:key",),
        ("shop:id",),
        ("shop:key",),
        ("shop:lease:key",),
        ("shop:lock:key",),
    ]


# --- other programs -----------------------------------------------------------------------------


async def test_rows_of_another_program_are_read(adapter: SQLiteAdapter, query: Query) -> None:
    now = WALL // 1000
    query(
        "INSERT INTO go_goscope_cache (key, value, expires_at) VALUES (?, ?, ?)",
        "cache:theirs",
        '{"a":"\\ud83d\\ude00"}',
        now + 1,
    )
    query(
        "INSERT INTO go_goscope_idempotency (key, value, expires_at) VALUES ('theirs', '1', ?)",
        now + 1,
    )
    query("INSERT INTO go_goscope_circuit VALUES ('circuit:theirs', 'open', 5, 1, 2, 3)")
    assert await adapter.cache.get("theirs") == {"a": "😀"}
    record = await adapter.idempotency.get("theirs")
    assert record is not None
    assert (record.value, record.expires_at, record.fingerprint) == (1, WALL + 1000, None)
    assert await adapter.circuit_breaker.get_state("theirs") == CircuitBreakerState(
        state="open", failure_count=5, last_failure_time=1, last_success_time=2
    )


@pytest.mark.parametrize("text", ["{", "NaN", "", "'"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_undecodable_text_is_a_miss_and_an_event(
    adapter: SQLiteAdapter, query: Query, text: str, encoding: str
) -> None:
    events: list[Any] = []
    adapter.observe(events.append)
    await adapter.cache.set("key", 1)
    query("UPDATE go_goscope_cache SET value = CAST(? AS TEXT)", text.encode(encoding))
    assert await adapter.cache.get("key", "default") == "default"
    assert await adapter.cache.get_many(["key"]) == {}
    assert await adapter.cache.get_entry("key") is None
    assert [event.key for event in events] == ["key"] * 3


async def test_a_companion_row_is_ignored_once_another_program_replaced_the_value(
    adapter: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.cache.set("key", 1, "1s", tags=["tag"], stale_for="1h")
    await adapter.idempotency.set("key", 1, fingerprint="print")
    await adapter.circuit_breaker.set_state("key", CircuitBreakerState(success_count=2))
    query("UPDATE go_goscope_cache SET value = '2'")
    query("UPDATE go_goscope_idempotency SET value = '2'")
    query("UPDATE go_goscope_circuit SET updated_at = updated_at + 1")
    entry = await adapter.cache.get_entry("key")
    assert entry is not None
    assert (entry.value, entry.stale_until) == (2, None)
    assert await adapter.cache.delete_by_tag("tag") == 0
    assert await adapter.cache.get("key") == 2
    record = await adapter.idempotency.get("key")
    assert record is not None
    assert (record.value, record.fingerprint) == (2, None)
    state = await adapter.circuit_breaker.get_state("key")
    assert state is not None
    assert state.success_count == 0
    await clock.advance("1s")
    assert await adapter.cache.get_entry("key") is None


async def test_setting_the_same_text_again_removes_tags_and_staleness(
    adapter: SQLiteAdapter, query: Query
) -> None:
    await adapter.cache.set("key", 1, "1s", tags=["tag"], stale_for="1h")
    await adapter.cache.set("key", 1, "1s")
    assert await adapter.cache.delete_by_tag("tag") == 0
    entry = await adapter.cache.get_entry("key")
    assert entry is not None
    assert entry.stale_until is None
    assert query("SELECT count(*) FROM go_goscope_cache_tags") == [(0,)]


async def test_touch_and_increment_keep_the_tags(adapter: SQLiteAdapter) -> None:
    await adapter.cache.set("count", 1, "1h", tags=["tag"])
    assert await adapter.cache.increment("count") == 2
    assert await adapter.cache.touch("count", "2h")
    assert await adapter.cache.delete_by_tag("tag") == 1
    assert not await adapter.cache.has("count")


async def test_deleting_leaves_no_companion_row(adapter: SQLiteAdapter, query: Query) -> None:
    for number in range(250):
        await adapter.cache.set(f"{number}", 1, "1h", tags=["a", "b"], stale_for="1h")
    await adapter.idempotency.set("key", 1, fingerprint="print")
    assert await adapter.cache.delete("0")
    assert await adapter.cache.delete_many([f"{number}" for number in range(150)]) == 149
    assert await adapter.cache.delete_by_tag("b") == 100
    assert await adapter.idempotency.delete("key")
    for table in ("cache", "cache_companion", "cache_tags", "idempotency_companion"):
        assert query(f"SELECT count(*) FROM go_goscope_{table}") == [(0,)], table


async def test_a_reopened_store_continues_its_tokens_and_keeps_its_identity(path: Any) -> None:
    identities: set[str] = set()
    tokens: list[int | None] = []
    for _ in range(3):
        async with SQLiteAdapter(path, locks="shared") as adapter:
            identities.add(adapter.context.store_id)
            for locks in (adapter.lock, adapter.lease):
                handle = await locks.acquire("key", "1h")
                assert handle is not None
                tokens.append(handle.fencing_token)
                await handle.release()
    assert tokens == [1, 2, 3, 4, 5, 6]
    assert len(identities) == 1
