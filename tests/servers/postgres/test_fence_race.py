"""A fenced write is never applied after a takeover has returned, also when it waits for its row."""

from __future__ import annotations

import asyncio
import logging

import pytest

from goscope.errors import LeaseLost

from .stores import Store
from .support import adapter_of, locked_row, until_blocked

pytestmark = pytest.mark.asyncio

logger = logging.getLogger(__name__)


async def test_a_takeover_waits_for_a_fenced_write_that_has_begun(store: Store) -> None:
    """The write has passed its fence and waits for its row; its lease expires and is wanted."""
    log: list[str] = []
    async with adapter_of(store) as one, adapter_of(store) as two:
        await one.cache.set("key", "before")
        old = await one.lock.acquire("lock", "50ms")
        assert old is not None
        async with locked_row(store, "key"):
            log.append("a third transaction holds the row")
            writing = asyncio.create_task(one.cache.set("key", "A", fence=old))
            await until_blocked(store)
            log.append("A's fenced write waits for the row")
            await asyncio.sleep(0.1)
            log.append("A's lease has expired")
            taking = asyncio.create_task(two.lock.acquire("lock", "30s"))
            await until_blocked(store, 2)
            log.append("B's takeover waits for A's write")
        log.append("the third transaction ends")
        new = await taking
        log.append("B's takeover has returned")
        assert await two.cache.get("key") == "A", "A's write was not applied before"
        log.append("A's write had been applied by then")
        await writing
        assert new is not None
        assert old.fencing_token is not None
        assert new.fencing_token > old.fencing_token
        await two.cache.set("key", "B", fence=new)
        with pytest.raises(LeaseLost):
            await one.cache.set("key", "late", fence=old)
        log.append("A's later write is refused")
        assert await one.cache.get("key") == "B"
    logger.info("\n%s", "\n".join(log))


@pytest.mark.parametrize("method", ["set", "add", "delete"])
async def test_writes_in_flight_during_takeovers_are_applied_before_or_never(
    store: Store, method: str
) -> None:
    """Many rounds without a pause: the value after a takeover changes no more by the old holder."""
    async with adapter_of(store) as one, adapter_of(store) as two:
        for number in range(30):
            key = f"key{number}"
            old = await one.lock.acquire("lock", "1ms")
            while old is None:
                old = await one.lock.acquire("lock", "1ms")
            await asyncio.sleep(0.002)
            arguments = () if method == "delete" else ("A",)
            write = getattr(one.cache, method)(key, *arguments, fence=old)
            writing = asyncio.ensure_future(write)
            if number % 2:
                await asyncio.sleep(0)
            new = await two.lock.acquire("lock", "30s")
            assert new is not None
            after_takeover = await two.cache.get(key)
            await asyncio.gather(writing, return_exceptions=True)
            assert await two.cache.get(key) == after_takeover
            await new.release()
