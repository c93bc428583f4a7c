"""A server that restarts, crashes or is demoted: calls recover, no token is granted twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
import pytest_asyncio

from goscope.errors import BackendUnavailable

from . import databases
from .server import Server, running_server

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    # A crash loses the last second of commits.
    with running_server("--innodb-flush-log-at-trx-commit=0") as server:
        yield server


@pytest_asyncio.fixture
async def server(running: Server) -> AsyncGenerator[Server]:
    """The server with an empty database "test"."""
    await administrate(running, "CREATE DATABASE IF NOT EXISTS test", "USE test")
    yield running
    await administrate(running, "DROP DATABASE test")


async def administrate(server: Server, *statements: str) -> None:
    options = {"host": "127.0.0.1", "port": server.port, "user": "root", "password": ""}
    async with databases.session(**options) as other:
        for sql in statements:
            await other.query(sql)


async def test_a_restart_in_mid_call(server: Server) -> None:
    """The calls under way fail, those during the restart too, and later ones succeed."""
    async with server.adapter() as adapter:
        outcomes: list[BackendUnavailable | None] = []
        restarted = asyncio.Event()

        async def write() -> None:
            while not restarted.is_set():
                try:
                    await adapter.cache.increment("count")
                except BackendUnavailable as exc:
                    outcomes.append(exc)
                    await asyncio.sleep(0.01)
                else:
                    outcomes.append(None)

        writers = [asyncio.create_task(write()) for _ in range(4)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.05)
        await asyncio.to_thread(server.start)
        await adapter.cache.set("after", 1)
        restarted.set()
        await asyncio.gather(*writers)
        succeeded = outcomes.count(None)
        unknown = sum(it is not None and it.outcome_unknown for it in outcomes)
        assert len(outcomes) > succeeded, "no call failed: the server did not restart"
        count = await adapter.cache.get("count")
        assert succeeded <= count <= succeeded + unknown, "an acknowledged write is lost"


async def test_no_token_is_granted_twice_over_a_crash(server: Server) -> None:
    """Without a flush at commit a crash forgets the last grants."""
    granted: list[int] = []
    lost = 0
    for _ in range(2):
        async with server.adapter() as adapter:
            for number in range(50):
                handle = await adapter.lease.acquire(f"key{number % 5}", "1h")
                assert handle is not None
                assert handle.fencing_token is not None
                granted.append(handle.fencing_token)
                if number < 45:
                    await handle.release()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            holders = [await adapter.lease.holder(f"key{number}") for number in range(5)]
            lost += holders.count(None)
            for number in range(5):
                await adapter.lease.force_release(f"key{number}")
    assert lost, "the crash lost nothing, so this test shows nothing"
    assert granted == sorted(set(granted)), "a token was granted twice, or a smaller one later"


async def test_a_demoted_primary_accepts_no_writes(server: Server) -> None:
    """goscope connects again for the next call, which then finds the new primary by its name."""
    await administrate(
        server,
        "CREATE USER IF NOT EXISTS app@localhost IDENTIFIED BY 'secret'",
        "GRANT ALL ON test.* TO app@localhost",
    )
    async with server.adapter(user="app", password="secret") as adapter:
        await adapter.cache.set("key", 1)
        await administrate(server, "SET GLOBAL read_only = 1")
        assert await adapter.cache.get("key") == 1
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="read-only") as info:
                await adapter.cache.set("key", 2)
            assert not info.value.outcome_unknown
        await administrate(server, "SET GLOBAL read_only = 0")
        await adapter.cache.set("key", 2)
        assert await adapter.cache.get("key") == 2


async def test_a_server_that_prepares_no_more_statements(server: Server) -> None:
    await administrate(server, "SET GLOBAL max_prepared_stmt_count = 0")
    try:
        async with server.adapter() as adapter:
            await adapter.cache.set("key", "it's", tags=["tag"])
            assert await adapter.cache.get("key") == "it's"
            assert await adapter.circuit_breaker.record_failure("key", 5) == 1
            handle = await adapter.lock.acquire("key")
            assert handle is not None
            await adapter.cache.set("key", 2, fence=handle)
            assert await handle.release()
            assert await adapter.cache.delete_by_tag("tag") == 0
    finally:
        await administrate(server, "SET GLOBAL max_prepared_stmt_count = 16382")


async def test_the_server_ends_idle_connections(server: Server) -> None:
    await administrate(server, "SET GLOBAL wait_timeout = 1")
    try:
        async with server.adapter(max_connections=1) as adapter:
            await adapter.cache.set("key", 1)
            await asyncio.sleep(1.5)  # the shortest time that the server can be given is a second
            await adapter.cache.set("key", 2)
            assert await adapter.cache.get("key") == 2
    finally:
        await administrate(server, "SET GLOBAL wait_timeout = 28800")
