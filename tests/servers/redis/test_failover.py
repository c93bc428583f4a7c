"""What a lease and its fence are worth when the primary is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from goscope import LeaseLost, LockHandle
from goscope.errors import BackendUnavailable
from goscope_redis import RedisAdapter

from ..proxy import Proxy
from .servers import RedisServer, running_server

pytestmark = pytest.mark.asyncio

SLOW_S = 30.0


@pytest_asyncio.fixture
async def link(server: RedisServer) -> AsyncIterator[Proxy]:
    """The network between the primary and its replica."""
    async with Proxy.to("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def replica(server: RedisServer, link: Proxy, tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A replica that has everything the primary has."""
    options = ("--replicaof", "127.0.0.1", str(link.port))
    async with running_server(tmp_path / "replica", *options) as replica:
        async with asyncio.timeout(SLOW_S):
            while (await replica.command("ROLE"))[3] != b"connected":  # noqa: ASYNC110  # a process
                await asyncio.sleep(0.01)
        yield replica


@pytest_asyncio.fixture
async def address(server: RedisServer) -> AsyncIterator[Proxy]:
    """The address that leads to the primary."""
    async with Proxy.to("127.0.0.1", server.port) as proxy:
        yield proxy


async def fail_over(server: RedisServer, replica: RedisServer, address: Proxy) -> None:
    # The old primary ends last: a waiter that looks while no server answers fails.
    await replica.command("REPLICAOF", "NO", "ONE")
    address.target = ("127.0.0.1", replica.port)
    await server.kill()
    address.cut()


async def granted(adapter: RedisAdapter, key: str) -> tuple[LockHandle, int]:
    handle = await adapter.lease.acquire(key)
    assert handle is not None
    assert handle.fencing_token is not None
    return handle, handle.fencing_token


async def test_a_lease_survives_a_failover_to_a_replica_that_has_it(
    server: RedisServer, replica: RedisServer, address: Proxy
) -> None:
    async with RedisAdapter(port=address.port, wait_replicas=1, wait_timeout="1s") as adapter:
        lease, token = await granted(adapter, "key")
        await adapter.cache.set("key", 1, fence=lease)
        await fail_over(server, replica, address)
        assert await adapter.lease.acquire("key") is None, "the lease was lost"
        await adapter.cache.set("key", 2, fence=lease)
        assert await lease.release()
        with pytest.raises(BackendUnavailable, match="0 of 1 replicas"):
            await adapter.lease.acquire("key")
    async with RedisAdapter(port=address.port) as adapter:
        _, later = await granted(adapter, "key")
        assert later > token


async def test_a_lost_lease_is_granted_with_a_greater_token_and_its_holder_refused(
    server: RedisServer, replica: RedisServer, address: Proxy, link: Proxy
) -> None:
    """The replica has missed the grant, and the counter with it."""
    async with RedisAdapter(port=address.port) as adapter:
        link.stop()
        lease, token = await granted(adapter, "key")
        await fail_over(server, replica, address)
        _, later = await granted(adapter, "key")  # the lease itself is lost: see the docs
        assert later > token, f"the token {later} was granted after {token}"
        with pytest.raises(LeaseLost):
            await adapter.cache.set("key", "late", fence=lease)
        assert not await lease.is_valid()


async def test_a_grant_waits_for_its_replicas(
    server: RedisServer, replica: RedisServer, link: Proxy
) -> None:
    """Without them it is refused, and the lock is free again."""
    async with server.adapter(wait_replicas=1, wait_timeout="4s") as adapter:
        handle, _ = await granted(adapter, "key")
        grants = await replica.command("KEYS", "goscope:grant:*")
        assert grants == [b"goscope:grant:lease:key"]
        await handle.release()
    link.stop()
    async with server.adapter(wait_replicas=1, wait_timeout="50ms") as adapter:
        with pytest.raises(BackendUnavailable, match="0 of 1 replicas"):
            await adapter.lease.acquire("key")
        with pytest.raises(BackendUnavailable, match="0 of 1 replicas"):
            await adapter.idempotency.set("key", 1)
    async with server.adapter() as adapter:
        await granted(adapter, "key")


async def test_many_callers_wait_for_replicas_together(
    server: RedisServer, replica: RedisServer
) -> None:
    async with server.adapter(wait_replicas=1) as adapter:
        grants = await asyncio.gather(*(granted(adapter, f"key{it}") for it in range(50)))
        tokens = [token for _, token in grants]
        assert len(set(tokens)) == 50
        assert len(await replica.command("KEYS", "goscope:grant:*")) == 50


async def test_a_waiter_moves_to_the_new_primary(
    server: RedisServer, replica: RedisServer, address: Proxy
) -> None:
    async with (
        RedisAdapter(port=address.port, wait_replicas=1, wait_timeout="4s") as one,
        RedisAdapter(port=address.port) as two,
    ):
        lease, token = await granted(one, "key")
        waiting = asyncio.create_task(two.lease.wait_released("key"))
        async with asyncio.timeout(SLOW_S):
            while not two._wakeups.listening:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.01)
        await fail_over(server, replica, address)
        assert await lease.release()
        async with asyncio.timeout(SLOW_S):
            assert await waiting
        _, later = await granted(two, "key")
        assert later > token
