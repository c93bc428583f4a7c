"""Each fault of a server raises its named error, and the next call recovers from it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from goscope.errors import BackendBusy, BackendUnavailable, ConfigurationError, SchemaMismatch
from goscope_postgres import PostgresAdapter

from .stores import Store, administrator
from .support import (
    adapter_of,
    blocked_count,
    connection_count,
    end_connections,
    locked_row,
    until_blocked,
)

pytestmark = pytest.mark.asyncio


# --- connecting ------------------------------------------------------------------------------


async def test_a_refused_connection_is_unavailable() -> None:
    adapter = PostgresAdapter("postgresql://me:secret@127.0.0.1:1/test")
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1/test.*cannot be reached") as info:
        await adapter.connect()
    assert "secret" not in str(info.value)
    assert not info.value.outcome_unknown
    assert not adapter.is_connected


async def test_a_port_that_never_answers_ends_after_the_connect_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dsn = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/test"
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            await PostgresAdapter(dsn, connect_timeout="100ms").connect()


async def test_a_missing_database_is_a_configuration_error(store: Store) -> None:
    adapter = PostgresAdapter(store.dsn.rpartition("/")[0] + "/goscope_no_such_database")
    with pytest.raises(ConfigurationError, match="does not exist"):
        await adapter.connect()


async def test_a_missing_privilege_is_a_configuration_error(store: Store) -> None:
    adapter = PostgresAdapter(store.dsn, schema="goscope_not_allowed")
    with pytest.raises(ConfigurationError, match="privilege"):
        await adapter.connect()


async def test_tables_of_an_administrator_need_no_privilege_to_create(store: Store) -> None:
    async with adapter_of(store):
        pass
    async with administrator() as other:
        await other.execute(f"ALTER SCHEMA {store.name} OWNER TO CURRENT_USER")
        await other.execute(f"GRANT USAGE ON SCHEMA {store.name} TO {store.name}")
    async with adapter_of(store) as adapter:
        await adapter.cache.set("key", 1)
        assert await adapter.lock.acquire("key")


async def test_a_schema_from_the_future_is_a_mismatch(store: Store) -> None:
    async with adapter_of(store):
        pass
    async with administrator() as other:
        await other.execute(f"UPDATE {store.name}.goscope_meta SET version = 99")
    with pytest.raises(SchemaMismatch, match="version 99"):
        await adapter_of(store).connect()


async def test_too_many_connections_are_busy(store: Store) -> None:
    async with administrator() as other:
        await other.execute(f"ALTER ROLE {store.name} CONNECTION LIMIT 1")
    async with adapter_of(store) as adapter:
        with pytest.raises(BackendBusy, match="no free connection"):
            await adapter_of(store).connect()
        await adapter.cache.set("key", 1)
    async with adapter_of(store) as adapter:  # the limit counts connections, not attempts
        assert await adapter.cache.get("key") == 1


@pytest.mark.parametrize("name", ["Shop", 'a"b', "", "x" * 41, "1a", "a-b"])
async def test_names_that_need_quoting_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="lower-case"):
        PostgresAdapter("postgresql://localhost/test", schema=name)
    with pytest.raises(ConfigurationError, match="lower-case"):
        PostgresAdapter("postgresql://localhost/test", table_prefix=name)


# --- statements ------------------------------------------------------------------------------


async def test_a_statement_that_waits_too_long_is_busy_and_not_applied(store: Store) -> None:
    async with adapter_of(store, command_timeout="1s") as adapter:
        await adapter.cache.set("key", "old")
        async with locked_row(store, "key"):
            with pytest.raises(BackendBusy, match="nothing was applied"):
                await adapter.cache.set("key", "new")
            await adapter.cache.set("other", 1)
        assert await adapter.cache.get("key") == "old"
        await adapter.cache.set("key", "new")
        assert await adapter.cache.get("key") == "new"


async def test_a_blocked_write_does_not_delay_the_writes_of_other_keys(store: Store) -> None:
    async with adapter_of(store) as adapter:
        await adapter.cache.set("key", "old")
        async with locked_row(store, "key"):
            blocked = asyncio.create_task(adapter.cache.set("key", "new"))
            await until_blocked(store)
            await asyncio.gather(*(adapter.cache.set(f"other{n}", n) for n in range(20)))
            assert not blocked.done()
        await blocked


async def test_an_exhausted_pool_is_busy_and_recovers(store: Store) -> None:
    async with adapter_of(store, pool_size=1, command_timeout="1s") as adapter:
        await adapter.cache.set("key", "old")
        async with locked_row(store, "key"):
            first = asyncio.create_task(adapter.cache.delete("key"))
            await until_blocked(store)
            second = asyncio.create_task(adapter.cache.delete("key"))
            outcomes = await asyncio.gather(first, second, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [BackendBusy, BackendBusy]
        assert await adapter.cache.delete("key")


async def test_the_pool_opens_no_more_connections_than_its_size(store: Store) -> None:
    async with adapter_of(store, pool_size=2) as adapter:

        async def call_often(number: int) -> None:
            for _ in range(20):
                await adapter.circuit_breaker.record_failure(f"key{number}", 1000)

        await asyncio.gather(*(call_often(number) for number in range(8)))
        assert await connection_count(store) == 2


async def test_a_killed_backend_leaves_the_outcome_unknown(store: Store) -> None:
    async with adapter_of(store) as adapter:
        await adapter.cache.set("key", 1)
        async with locked_row(store, "key"):
            writing = asyncio.create_task(adapter.cache.delete("key"))
            await until_blocked(store)
            await end_connections(store)
            with pytest.raises(BackendUnavailable) as info:
                await writing
            assert info.value.outcome_unknown
        assert await adapter.cache.get("key") == 1, "the next call connects again"


async def test_idle_connections_that_the_server_closed_are_replaced(store: Store) -> None:
    async with adapter_of(store) as adapter:
        await asyncio.gather(*(adapter.cache.delete(f"key{n}") for n in range(8)))
        for _ in range(3):
            await end_connections(store)
            assert await adapter.cache.get("key") is None
            await adapter.cache.set("other", 1)


async def test_a_read_only_server_is_unavailable_and_recovers(store: Store) -> None:
    async with adapter_of(store) as adapter:
        await adapter.cache.set("key", 1)
        async with administrator() as other:
            await other.execute(f"ALTER ROLE {store.name} SET default_transaction_read_only = on")
            await end_connections(store)
            assert await adapter.cache.get("key") == 1
            with pytest.raises(BackendUnavailable, match="accepts no writes"):
                await adapter.cache.set("key", 2)
            await other.execute(f"ALTER ROLE {store.name} RESET default_transaction_read_only")
        # The refused connection was dropped: after a failover the next one finds the primary.
        await adapter.cache.set("key", 2)
        assert await adapter.cache.get("key") == 2


async def test_a_missing_table_is_a_schema_mismatch(store: Store) -> None:
    async with adapter_of(store) as adapter:
        async with administrator() as other:
            await other.execute(f"DROP TABLE {store.name}.goscope_cache")
        with pytest.raises(SchemaMismatch):
            await adapter.cache.get("key")
        assert await adapter.lock.acquire("key")


async def test_a_dropped_privilege_is_a_configuration_error(store: Store) -> None:
    async with adapter_of(store) as adapter:
        async with administrator() as other:
            await other.execute(
                f"ALTER TABLE {store.name}.goscope_cache OWNER TO CURRENT_USER;"
                f"REVOKE ALL ON {store.name}.goscope_cache FROM {store.name}"
            )
        with pytest.raises(ConfigurationError, match="privilege"):
            await adapter.cache.get("key")


# --- cancelled -------------------------------------------------------------------------------


async def test_a_cancelled_write_has_ended_when_its_caller_goes_on(store: Store) -> None:
    async with adapter_of(store) as adapter:
        await adapter.cache.set("key", "old")
        async with locked_row(store, "key"):
            writing = asyncio.create_task(adapter.cache.delete("key"))
            await until_blocked(store)
            writing.cancel()
            await asyncio.sleep(0.05)
            assert not writing.done(), "the write could be applied after a later one"
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await blocked_count(store) == 0
        assert not await adapter.cache.has("key")


async def test_cancelled_calls_leave_no_transaction_and_no_lease(store: Store) -> None:
    async with adapter_of(store, pool_size=3) as adapter:
        for ticks in range(40):
            acquiring = asyncio.create_task(adapter.lock.acquire("lock"))
            others: list[asyncio.Task[object]] = [
                asyncio.create_task(adapter.cache.get("key")),
                asyncio.create_task(adapter.cache.set("key", ticks)),
                asyncio.create_task(adapter.cache.increment("count")),
            ]
            for _ in range(ticks):
                await asyncio.sleep(0)
            for call in (acquiring, *others):
                call.cancel()
            await asyncio.gather(acquiring, *others, return_exceptions=True)
            if not acquiring.cancelled() and (handle := acquiring.result()):
                await handle.release()
            assert await adapter.lock.holder("lock") is None
        async with administrator() as other:
            states = await other.fetch(
                "SELECT DISTINCT state FROM pg_stat_activity WHERE usename = $1", store.name
            )
        assert [row[0] for row in states] == ["idle"]
