"""The tables: created by many programs at once, swept, and found again."""

from __future__ import annotations

import asyncio

import pytest

from goscope.backend._sweeping import WRITES_PER_SWEEP
from goscope.errors import ConfigurationError
from goscope_postgres import PostgresAdapter, PostgresOptions

from .stores import Store, administrator
from .support import adapter_of

pytestmark = pytest.mark.asyncio

SLOW_S = 30.0


async def count(store: Store, table: str) -> int:
    async with administrator() as other:
        found: int = await other.fetchval(f"SELECT count(*) FROM {store.name}.goscope_{table}")
        return found


async def test_sixteen_programs_connect_to_an_empty_database_at_once(store: Store) -> None:
    adapters = [adapter_of(store, pool_size=1) for _ in range(16)]
    await asyncio.gather(*(adapter.connect() for adapter in adapters))
    assert len({adapter.context.store_id for adapter in adapters}) == 1
    for adapter in adapters:
        await adapter.disconnect()
    assert await count(store, "meta") == 1


async def test_table_prefixes_are_separate_stores(store: Store) -> None:
    one = adapter_of(store, table_prefix="one_")
    two = adapter_of(store, table_prefix="two_")
    async with one, two:
        await one.cache.set("key", 1)
        assert await two.cache.get("key") is None
        assert one.context.store_id != two.context.store_id


async def test_a_missing_schema_is_created_where_the_user_may(store: Store) -> None:
    schema = f"{store.name}_2"
    adapter = PostgresAdapter(store.dsn, schema=schema)
    with pytest.raises(ConfigurationError, match="privilege"):
        await adapter.connect()
    async with administrator() as other:
        name = await other.fetchval("SELECT current_database()")
        await other.execute(f'GRANT CREATE ON DATABASE "{name}" TO {store.name}')
        try:
            async with adapter:
                await adapter.cache.set("key", 1)
        finally:
            await other.execute(f'REVOKE CREATE ON DATABASE "{name}" FROM {store.name}')
            await other.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.mark.parametrize("unlogged", [False, True])
async def test_the_cache_is_unlogged_by_choice(store: Store, unlogged: bool) -> None:
    async with adapter_of(store, unlogged_cache=unlogged) as adapter:
        await adapter.cache.set("key", 1)
    async with administrator() as other:
        persistence = await other.fetchval(
            "SELECT relpersistence FROM pg_class WHERE oid = $1::text::regclass",
            f"{store.name}.goscope_cache",
        )
    assert persistence == (b"u" if unlogged else b"p")


async def test_the_sweeper_removes_what_has_expired_and_keeps_the_rest(store: Store) -> None:
    await store.set_clock(1_700_000_000_000)
    async with adapter_of(store, key_prefix="shop:") as adapter:
        cache, results = adapter.cache, adapter.idempotency
        await cache.set_many({f"short{n}": n for n in range(1500)}, "1m")
        await cache.set("stale", 1, "1m", stale_for="1h")
        await cache.set("long", 1, "1h")
        await cache.set("forever", 1)
        await results.set("short", 1, "1m")
        await results.set("long", 1, "1h")
        expired = await adapter.lease.acquire("expired", "1m")
        assert expired is not None
        await store.advance(120_000)
        await adapter._sweeper.sweep()
        assert await count(store, "cache") == 3
        assert await count(store, "result") == 1
        assert await count(store, "lease") == 1, "an expired lease fences for a day"
        await cache.set("fenced", 1, fence=expired)
        await store.advance(86_400_000)
        await adapter._sweeper.sweep()
        assert await count(store, "lease") == 0
        assert sorted(await cache.keys()) == ["fenced", "forever"]


async def test_many_sets_start_a_sweep(store: Store) -> None:
    await store.set_clock(1_700_000_000_000)
    async with adapter_of(store, sweep_interval="1d") as adapter:
        await adapter.cache.set("expired", 1, "1m")
        await store.advance(120_000)
        await asyncio.gather(*(adapter.cache.set("key", it) for it in range(WRITES_PER_SWEEP)))
        async with asyncio.timeout(SLOW_S):
            while await count(store, "cache") > 1:  # noqa: ASYNC110  # the sweeper
                await asyncio.sleep(0.01)


async def test_four_sweepers_at_once_leave_nothing_and_wait_for_nobody(store: Store) -> None:
    await store.set_clock(1_700_000_000_000)
    adapters = [adapter_of(store, pool_size=2) for _ in range(4)]
    await asyncio.gather(*(adapter.connect() for adapter in adapters))
    await adapters[0].cache.set_many({f"key{n}": n for n in range(3000)}, "1m")
    await store.advance(120_000)
    await asyncio.gather(*(adapter._sweeper.sweep() for adapter in adapters))
    for adapter in adapters:
        await adapter.disconnect()
    assert await count(store, "cache") == 0


async def test_writes_of_many_rows_in_other_orders_do_not_deadlock(store: Store) -> None:
    before = await deadlocks()
    async with adapter_of(store) as one, adapter_of(store) as two:
        keys = [f"key{number}" for number in range(40)]
        for _ in range(10):
            await asyncio.gather(
                one.cache.set_many(dict.fromkeys(keys, 1)),
                two.cache.set_many(dict.fromkeys(reversed(keys), 2)),
                one.cache.delete_many(keys[::-1]),
                two.cache.delete_many(keys),
                *(one.cache.set(key, 3) for key in keys[::-1]),
            )
    assert await deadlocks() == before


async def deadlocks() -> int:
    """How often the server has ended a deadlock in this database."""
    async with administrator() as other:
        found: int = await other.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        return found


async def test_passwords_are_shown_nowhere() -> None:
    dsn = "postgresql://me:p%2Fss@127.0.0.1:1/test?password=other"
    adapter, options = PostgresAdapter(dsn), PostgresOptions(dsn=dsn)
    for shown in (repr(adapter), repr(options), repr(adapter._database.settings)):
        assert "p%2Fss" not in shown
        assert "other" not in shown
