"""Fenced writes against takeovers, and a holder whose network is cut."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import pytest

from goscope import LeaseLost, LockHandle
from goscope_redis import RedisAdapter

from ..partition import check_partition
from ..proxy import Proxy
from .servers import RedisServer

pytestmark = pytest.mark.asyncio

ROUNDS: Final = 100

logger: Final = logging.getLogger(__name__)


class OldHolder:
    """Writes under a lease, again and again, until the lease is lost."""

    def __init__(self, adapter: RedisAdapter, lease: LockHandle) -> None:
        self.applied = 0
        self.refused = 0
        self._cache = adapter.cache
        self._lease = lease

    async def write(self) -> None:
        while not self.refused:
            try:
                await self._cache.set("goods", self.applied, fence=self._lease)
            except LeaseLost:
                self.refused += 1
            else:
                self.applied += 1


async def test_no_write_is_applied_after_a_takeover_has_returned(server: RedisServer) -> None:
    """The writes of the old holder race the takeover on another connection."""
    applied = refused = 0
    async with server.adapter() as old, server.adapter() as new, server.client() as client:
        for number in range(ROUNDS):
            lease = await old.lease.acquire(f"key{number}", "1h")
            assert lease is not None
            await client.delete(f"lease:key{number}")  # as if it had expired
            holder = OldHolder(old, lease)
            writing = [asyncio.create_task(holder.write()) for _ in range(4)]
            while holder.applied < number % 10 + 1:  # noqa: ASYNC110  # the tasks above write
                await asyncio.sleep(0)
            assert await new.lease.acquire(f"key{number}") is not None
            seen = await new.cache.get("goods")
            await asyncio.gather(*writing)
            assert await new.cache.get("goods") == seen, "a late write was applied"
            applied += holder.applied
            refused += holder.refused
    logger.info("%d takeovers: %d writes before, %d refused after", ROUNDS, applied, refused)
    assert refused >= ROUNDS


@pytest.mark.long
async def test_a_partition_longer_than_the_lease(server: RedisServer) -> None:
    """The holder's body is cancelled, the other side takes over at its time, a late write fails."""
    async with Proxy.to("127.0.0.1", server.port) as proxy:

        def mend() -> None:
            proxy.cut()
            proxy.resume()

        near = RedisAdapter(port=proxy.port, command_timeout="1s", connect_timeout="3s")
        await check_partition(near, server.adapter(), cut=proxy.stop, mend=mend)
