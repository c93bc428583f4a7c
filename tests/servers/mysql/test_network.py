"""A network that fails silently: calls end by their own timeout, and leases by theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from goscope.errors import BackendUnavailable
from goscope_mysql import MySQLAdapter

from ..partition import check_partition
from ..proxy import Proxy
from . import databases
from .store import Store

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def proxy() -> AsyncGenerator[Proxy]:
    options = databases.server_options()
    async with Proxy.to(options["host"], options.get("port", 3306)) as proxy:
        yield proxy


def through(proxy: Proxy, store: Store, timeout: str) -> MySQLAdapter:
    """An adapter whose connections go through the proxy."""
    return store.adapter(host="127.0.0.1", port=proxy.port, timeout=timeout)


async def test_a_call_on_a_half_open_connection_ends_by_its_own_timeout(
    store: Store, proxy: Proxy
) -> None:
    async with through(proxy, store, "2s") as adapter:
        calls = (
            lambda: adapter.cache.get("key"),
            lambda: adapter.cache.set("key", 2),
            lambda: adapter.cache.increment("count"),
            lambda: adapter.lock.acquire("key"),
        )
        await adapter.cache.set("key", 1)
        await asyncio.gather(*(adapter.cache.get("key") for _ in calls))  # a connection for each
        proxy.stop()
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, BackendUnavailable), outcome
        assert isinstance(outcomes[1], BackendUnavailable)
        assert outcomes[1].outcome_unknown, "the statement may have reached the server"
        proxy.cut()
        proxy.resume()
        assert await adapter.cache.get("key") in (1, 2)
        await adapter.cache.set("key", 3)
        assert await adapter.cache.get("key") == 3


async def test_a_reset_connection_is_replaced(store: Store, proxy: Proxy) -> None:
    async with through(proxy, store, "10s") as adapter:
        await adapter.cache.set("key", 1)
        for _ in range(3):
            proxy.cut()
            assert await adapter.cache.get("key") == 1


async def test_a_lost_answer_to_acquire_loses_no_lock(store: Store, proxy: Proxy) -> None:
    """The lock was granted, and its caller learns it from a second question."""
    async with through(proxy, store, "10s") as adapter:
        before = await adapter.lock.acquire("lock")
        assert before is not None
        await before.release()
        proxy.stop_answers()
        acquiring = asyncio.create_task(adapter.lock.acquire("lock", "1h"))
        async with store.adapter() as other, asyncio.timeout(30):
            while (holder := await other.lock.holder("lock")) is None:  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.005)
        proxy.cut()
        proxy.resume()
        handle = await acquiring
        assert handle is not None
        assert handle.fencing_token == holder.fencing_token
        assert await handle.release()


@pytest.mark.long
async def test_a_partition_longer_than_the_lease(store: Store, proxy: Proxy) -> None:
    """The holder's body is cancelled, the other side takes over at its time, a late write fails."""

    def mend() -> None:
        proxy.cut()
        proxy.resume()

    near = through(proxy, store, "2s")
    await check_partition(near, store.adapter(), cut=proxy.stop, mend=mend)
