"""A network that fails silently: calls end by their own timeout, and leases by theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from goscope.errors import BackendUnavailable

from ..partition import check_partition
from ..proxy import Proxy
from .stores import Store
from .support import adapter_of

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def proxy(store: Store) -> AsyncGenerator[Proxy]:
    address = urlsplit(store.dsn)
    async with Proxy.to(address.hostname or "127.0.0.1", address.port or 5432) as proxy:
        yield proxy


def through(proxy: Proxy, dsn: str) -> str:
    """The DSN with the address of the proxy."""
    address = urlsplit(dsn)
    login = address.netloc.rpartition("@")[0]
    return address._replace(netloc=f"{login}@127.0.0.1:{proxy.port}").geturl()


async def test_a_call_on_a_half_open_connection_ends_by_its_own_timeout(
    store: Store, proxy: Proxy
) -> None:
    dsn = through(proxy, store.dsn)
    limits = {"command_timeout": "1s", "connect_timeout": "2s"}
    async with adapter_of(store, dsn=dsn, **limits) as adapter, asyncio.timeout(30):
        await adapter.cache.set("key", 1)
        proxy.stop()
        with pytest.raises(BackendUnavailable) as info:
            await adapter.cache.set("key", 2)
        assert info.value.outcome_unknown, "the statement may have reached the server"
        for call in (adapter.cache.get("key"), adapter.lock.acquire("key")):
            with pytest.raises(BackendUnavailable) as info:
                await call
            assert not info.value.outcome_unknown, "there was no connection to send it on"
        proxy.cut()
        proxy.resume()
        assert await adapter.cache.get("key") in (1, 2)
        await adapter.cache.set("key", 3)
        assert await adapter.cache.get("key") == 3


async def test_a_reset_connection_is_replaced(store: Store, proxy: Proxy) -> None:
    async with adapter_of(store, dsn=through(proxy, store.dsn)) as adapter:
        await adapter.cache.set("key", 1)
        for _ in range(3):
            proxy.cut()
            assert await adapter.cache.get("key") == 1


async def test_a_cancelled_read_on_a_half_open_connection_ends_at_once(
    store: Store, proxy: Proxy
) -> None:
    dsn = through(proxy, store.dsn)
    async with adapter_of(store, dsn=dsn, command_timeout="1s") as adapter:
        await adapter.cache.get("key")
        proxy.stop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await adapter.cache.get_entry("key")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await adapter.cache.get("key")
        proxy.cut()
        proxy.resume()
        assert await adapter.cache.get("key") is None


@pytest.mark.long
async def test_a_partition_longer_than_the_lease(store: Store, proxy: Proxy) -> None:
    """The holder's body is cancelled, the other side takes over at its time, a late write fails."""

    def mend() -> None:
        proxy.cut()
        proxy.resume()

    limits = {"command_timeout": "1s", "connect_timeout": "10s"}
    near = adapter_of(store, dsn=through(proxy, store.dsn), **limits)
    await check_partition(near, adapter_of(store), cut=proxy.stop, mend=mend)
