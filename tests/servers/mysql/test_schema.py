"""The tables: creating them, keys, times, and what the sweeper removes."""

from __future__ import annotations

import asyncio

import pytest

from goscope.testing import FakeClock

from . import databases
from .store import Store

pytestmark = pytest.mark.asyncio


async def count(store: Store, table: str) -> int:
    async with databases.session(database=store.name) as other:
        [(found,)] = await other.query(f"SELECT COUNT(*) FROM goscope_{table}")
    return int(found)


async def test_sixteen_adapters_create_the_tables_at_once(store: Store) -> None:
    adapters = [store.adapter(table_prefix="new_") for _ in range(16)]
    try:
        await asyncio.gather(*(adapter.connect() for adapter in adapters))
        assert len({adapter.context.store_id for adapter in adapters}) == 1
    finally:
        await asyncio.gather(*(adapter.disconnect() for adapter in adapters))


async def test_an_interrupted_creation_is_completed(store: Store) -> None:
    async with store.adapter(table_prefix="new_"):
        pass
    await store.administrate("DROP TABLE new_results, new_checkpoints")
    await store.administrate("DELETE FROM new_meta WHERE name = 'schema_version'")
    async with store.adapter(table_prefix="new_") as adapter:
        await adapter.idempotency.set("key", 1)


async def test_keys_that_a_collation_would_confuse_are_different(store: Store) -> None:
    """Whatever the collation of the database is."""
    await store.administrate("ALTER DATABASE {name} COLLATE utf8mb4_general_ci")
    keys = ["Key", "key", "key ", "kéy", "ke\u0301y", "key\n", "κey", "🔑", "🔒", "k_y", "k%y"]
    async with store.adapter(table_prefix="other_") as adapter:
        for number, key in enumerate(keys):
            await adapter.cache.set(key, number)
            assert await adapter.lock.acquire(key) is not None, f"{key!r} is another key's lock"
        for number, key in enumerate(keys):
            assert await adapter.cache.get(key) == number
        assert await adapter.cache.keys() == sorted(keys)
        assert await adapter.cache.keys("k_*") == ["k_y"]


async def test_the_longest_keys_fit(store: Store) -> None:
    key, prefix = "🔑" * 512, "x" * 127 + ":"
    async with store.adapter(key_prefix=prefix) as adapter:
        await adapter.cache.set(key, 1, tags=[key])
        assert await adapter.cache.delete_by_tag(key) == 1
        handle = await adapter.lease.acquire(f"idempotency:{key}")
        assert handle is not None
        await adapter.idempotency.set(key, 1, fence=handle)
        assert await adapter.lease.holder(f"idempotency:{key}") is None


async def test_the_time_zones_of_client_and_server_have_no_effect(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Milliseconds are kept, and the wall clock of the adapter is the server's."""
    async with store.adapter() as adapter:
        await adapter.cache.set("key", 1, "1h")
        entry = await adapter.cache.get_entry("key")
        async with databases.session() as other:
            await other.query("SET SESSION time_zone = '+05:00'")
            [(server_s,)] = await other.query("SELECT UNIX_TIMESTAMP(NOW(6))")
        assert entry is not None
        assert entry.expires_at is not None
        assert abs(entry.expires_at - 3_600_000 - float(server_s) * 1000) < 30_000
        assert abs(adapter.clock.wall_ms() - float(server_s) * 1000) < 30_000


async def test_the_sweeper_removes_what_has_expired(store: Store) -> None:
    clock = FakeClock()
    async with store.adapter(clock=clock, sweep_interval="1h") as adapter:
        for number in range(500):
            await adapter.cache.set(f"entry{number}", number, "1s")
        await adapter.cache.set("stale", 1, "1s", stale_for="1h", tags=["tag"])
        await adapter.cache.set("tagged", 1, "1s", tags=["tag"])
        await adapter.cache.set("kept", 1, tags=["tag"])
        await adapter.cache.set("kept", 2)  # its row in the index by tag is an orphan
        await adapter.idempotency.set("result", 1, "1s")
        released = await adapter.lock.acquire("released")
        assert released is not None
        await released.release()
        assert await adapter.lock.acquire("expired", "1s")
        await clock.advance("2s")
        await adapter._sweeper.sweep()
        assert await count(store, "cache") == 2
        assert await count(store, "cache_tags") == 1
        assert await count(store, "results") == 0
        assert await count(store, "leases") == 1
        assert await adapter.cache.delete_by_tag("tag") == 0
        await clock.advance("25h")
        await adapter._sweeper.sweep()
        assert await count(store, "leases") == 0
        again = await adapter.lock.acquire("released")
        assert again is not None
        assert again.fencing_token > released.fencing_token


async def test_tokens_grow_although_the_clock_of_the_server_was_set_back(store: Store) -> None:
    """The store keeps the greatest token of the leases that it forgets."""
    async with store.adapter(sweep_interval="1h") as adapter:
        before = await adapter.lock.acquire("key")
        assert before is not None
        await before.release()
        ahead = before.fencing_token + 10**12
        await store.administrate(f"UPDATE goscope_leases SET last_token = {ahead}")
        await adapter._sweeper.sweep()
        assert await count(store, "leases") == 0
        after = await adapter.lock.acquire("key")
        assert after is not None
        assert after.fencing_token > ahead
    await store.administrate("UPDATE goscope_meta SET value = '0' WHERE name = 'token'")
