"""Each fault of a server raises its named error, and the next call recovers from it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from goscope.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    SchemaMismatch,
)
from goscope_mysql import MySQLAdapter

from . import databases
from .store import Store

pytestmark = pytest.mark.asyncio


# --- connecting ------------------------------------------------------------------------------


async def test_a_refused_connection_is_unavailable() -> None:
    adapter = MySQLAdapter("127.0.0.1", port=1, user="me", password="secret", database="test")
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1/test.*cannot be reached") as info:
        await adapter.connect()
    assert "secret" not in f"{info.value}{adapter!r}"
    assert not info.value.outcome_unknown
    assert not adapter.is_connected


async def test_an_unknown_host_is_unavailable() -> None:
    adapter = MySQLAdapter("goscope.invalid", user="me", database="test")
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        await adapter.connect()


async def test_a_port_that_never_answers_ends_after_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        adapter = MySQLAdapter(
            "127.0.0.1", port=port, user="me", database="test", connect_timeout="100ms"
        )
        with pytest.raises(BackendUnavailable, match=r"no server answered within 0\.1 s"):
            await adapter.connect()


async def test_a_wrong_password_is_a_configuration_error(store: Store) -> None:
    adapter = store.adapter(password="a wrong one")
    with pytest.raises(ConfigurationError, match="refused the login") as info:
        await adapter.connect()
    assert "a wrong one" not in f"{info.value}{adapter!r}"


async def test_a_missing_database_is_a_configuration_error(store: Store) -> None:
    await store.administrate("GRANT ALL ON goscope_no_such.* TO {user}")
    with pytest.raises(ConfigurationError, match="no such database"):
        await store.adapter(database="goscope_no_such").connect()


async def test_a_database_of_somebody_else_is_a_configuration_error(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="privilege"):
        await store.adapter(database="mysql").connect()


async def test_a_user_without_create_can_use_existing_tables(store: Store) -> None:
    await store.administrate("REVOKE ALL ON {name}.* FROM {user}")
    await store.administrate("GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {user}")
    with pytest.raises(ConfigurationError, match="privilege"):
        await store.adapter(table_prefix="other_").connect()
    await store.administrate("GRANT CREATE, INDEX ON {name}.* TO {user}")
    async with store.adapter():
        pass
    await store.administrate("REVOKE CREATE, INDEX ON {name}.* FROM {user}")
    async with store.adapter() as adapter:
        await adapter.cache.set("key", 1, tags=["tag"])
        assert await adapter.lock.acquire("key")


async def test_tables_of_a_newer_version_are_a_mismatch(store: Store) -> None:
    async with store.adapter():
        pass
    changed = "UPDATE goscope_meta SET value = {} WHERE name = 'schema_version'"
    await store.administrate(changed.format(99))
    try:
        with pytest.raises(SchemaMismatch, match="version 99"):
            await store.adapter().connect()
    finally:
        await store.administrate(changed.format(1))


async def test_too_many_connections_are_busy(store: Store) -> None:
    await store.administrate("ALTER USER {user} WITH MAX_USER_CONNECTIONS 1")
    async with store.adapter(max_connections=1) as adapter:
        with pytest.raises(BackendBusy, match="no connection left"):
            await store.adapter().connect()
        await adapter.cache.set("key", 1)
    await store.until_disconnected()
    async with store.adapter(max_connections=1) as adapter:
        assert await adapter.cache.get("key") == 1


# --- statements ------------------------------------------------------------------------------


async def test_a_row_that_stays_locked_is_busy_and_the_write_not_applied(store: Store) -> None:
    async with store.adapter(timeout="3s") as adapter:
        await adapter.cache.set("key", "old")
        async with store.locked_entry("key"):
            with pytest.raises(BackendBusy, match="Nothing was written"):
                await adapter.cache.set("key", "new")
        assert await adapter.cache.get("key") == "old"
        await adapter.cache.set("key", "new")
        assert await adapter.cache.get("key") == "new"


async def test_a_statement_that_an_administrator_stops_is_busy(store: Store) -> None:
    async with store.adapter() as adapter:
        await adapter.cache.set("key", "old")
        async with store.locked_entry("key"):
            writing = asyncio.create_task(adapter.cache.set("key", "new"))
            await store.until_blocked()
            await store.end_connections("QUERY")
            with pytest.raises(BackendBusy, match="Nothing was written"):
                await writing
        assert await adapter.cache.get("key") == "old"


async def test_a_blocked_write_does_not_delay_the_writes_of_other_keys(store: Store) -> None:
    async with store.adapter() as adapter:
        await adapter.cache.set("key", "old")
        async with store.locked_entry("key"):
            blocked = asyncio.create_task(adapter.cache.set("key", "new"))
            await store.until_blocked()
            await asyncio.gather(*(adapter.cache.set(f"other{n}", n) for n in range(20)))
            assert not blocked.done()
        await blocked


async def test_an_exhausted_pool_is_busy_and_recovers(store: Store) -> None:
    async with store.adapter(max_connections=1, timeout="3s") as adapter:
        await adapter.cache.set("key", "old")
        async with store.locked_entry("key"):
            first = asyncio.create_task(adapter.cache.delete("key"))
            await store.until_blocked()
            waiting = [asyncio.create_task(adapter.cache.get("key")) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[1]
            outcomes = await asyncio.gather(first, waiting[0], return_exceptions=True)
        assert isinstance(outcomes[0], BackendBusy)
        assert outcomes[1] == "old" or isinstance(outcomes[1], BackendBusy)
        assert await adapter.cache.delete("key")


async def test_a_killed_connection_leaves_the_outcome_unknown(store: Store) -> None:
    async with store.adapter() as adapter:
        await adapter.cache.set("key", 1)
        async with store.locked_entry("key"):
            writing = asyncio.create_task(adapter.cache.delete("key"))
            await store.until_blocked()
            await store.end_connections()
            with pytest.raises(BackendUnavailable) as info:
                await writing
            assert info.value.outcome_unknown
        assert await adapter.cache.get("key") == 1, "the next call connects again"


async def test_idle_connections_that_the_server_closed_are_replaced(store: Store) -> None:
    async with store.adapter() as adapter:
        await asyncio.gather(*(adapter.cache.delete(f"key{n}") for n in range(8)))
        for number in range(3):
            await store.end_connections()
            await adapter.cache.set("key", number)
            assert await adapter.cache.get("key") == number


async def test_a_missing_table_is_a_schema_mismatch(store: Store) -> None:
    async with store.adapter(table_prefix="dropped_") as adapter:
        await store.administrate("DROP TABLE dropped_cache")
        with pytest.raises(SchemaMismatch, match="table or column is missing"):
            await adapter.cache.get("key")
        assert await adapter.lock.acquire("key")


async def test_a_dropped_privilege_is_a_configuration_error(store: Store) -> None:
    async with store.adapter() as adapter:
        await store.administrate("REVOKE INSERT, DELETE ON {name}.* FROM {user}")
        await store.end_connections()  # they would keep what they had
        with pytest.raises(ConfigurationError, match="privilege"):
            await adapter.cache.set("key", 1)
        assert await adapter.cache.get("key") is None


async def test_a_value_that_is_too_large_is_refused(store: Store) -> None:
    async with databases.session() as other:
        [(limit,)] = await other.query("SELECT @@max_allowed_packet")
    async with store.adapter() as adapter:
        with pytest.raises(BackendError, match="max_allowed_packet"):
            await adapter.cache.set("key", "é" * (limit // 2))
        with pytest.raises(BackendError, match="max_allowed_packet"):
            await adapter.cache.set("key", "x" * limit, tags=["tag"])
        assert await adapter.cache.get("key") is None
        await adapter.cache.set("key", "x" * 1_000_000)


# --- cancelled -------------------------------------------------------------------------------


async def test_a_cancelled_write_has_ended_when_its_caller_goes_on(store: Store) -> None:
    async with store.adapter() as adapter:
        await adapter.cache.set("key", "old")
        async with store.locked_entry("key"):
            writing = asyncio.create_task(adapter.cache.delete("key"))
            await store.until_blocked()
            writing.cancel()
            await asyncio.wait([writing], timeout=0.05)
            assert not writing.done(), "the write could be applied after a later one"
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await store.running() == []
        assert not await adapter.cache.has("key")


async def test_cancelled_calls_leave_no_transaction_and_no_lease(store: Store) -> None:
    async with store.adapter(max_connections=3) as adapter:
        for ticks in range(40):
            acquiring = asyncio.create_task(adapter.lock.acquire("lock"))
            calls: list[asyncio.Task[Any]] = [
                asyncio.create_task(adapter.cache.get("key")),
                asyncio.create_task(adapter.cache.set("key", ticks, tags=["tag"])),
                asyncio.create_task(adapter.cache.increment("count")),
            ]
            for _ in range(ticks):
                await asyncio.sleep(0)
            for call in (acquiring, *calls):
                call.cancel()
            await asyncio.wait([acquiring, *calls])
            if not acquiring.cancelled() and (handle := acquiring.result()) is not None:
                await handle.release()
            assert await adapter.lock.holder("lock") is None
        assert await store.open_transactions() == 0
