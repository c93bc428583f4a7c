"""The contract of `goscope.providers.SupportsWait`, an optional ability of ``adapter.lease``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ...providers import PersistenceAdapter, SupportsWait
from ._base import Conformance, locks_of
from ._checks import HANG_S, rejects, run_ticks
from ._locks import granted
from ._samples import BAD_DURATIONS, BAD_KEYS


class WaitConformance(Conformance, abstract=True):
    """Waiting for a lease ends with the lease, or after the timeout."""

    async def test_wait_is_true_for_a_free_lock(self, tmp_path: Path) -> None:
        """A wait for a free lock returns at once."""
        async with self.open_adapter(tmp_path) as adapter, asyncio.timeout(HANG_S):
            assert await waits_of(adapter).wait_released("key") is True

    async def test_wait_returns_when_the_lock_is_released(self, tmp_path: Path) -> None:
        """A release wakes all waiters of its key."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter), "key", "1h")
            waits = waits_of(adapter)
            waiting = [asyncio.create_task(waits.wait_released("key")) for _ in range(3)]
            await run_ticks(5)
            await handle.release()
            for task in waiting:
                assert await self._outcome(adapter, task), "False, although it was released"

    async def test_wait_returns_when_a_write_ends_the_computation(self, tmp_path: Path) -> None:
        """A write of the cache that ends the lease of a computation wakes its waiters."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = adapter.cache
            if cache is None:
                return
            for write in (lambda: cache.delete("key"), lambda: cache.clear()):
                await granted(locks_of(adapter), "cache:key", "1h")
                waiting = asyncio.create_task(waits_of(adapter).wait_released("cache:key"))
                await run_ticks(5)
                await write()
                assert await self._outcome(adapter, waiting), "False, although it was ended"

    async def test_wait_returns_when_the_lock_expires(self, tmp_path: Path) -> None:
        """The expiry of a lease ends the wait."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "key", "500ms")
            waiting = asyncio.create_task(waits_of(adapter).wait_released("key"))
            assert await self._outcome(adapter, waiting), "False, although the lease expired"

    async def test_wait_is_false_after_its_timeout(self, tmp_path: Path) -> None:
        """The wait returns False if the lock is still held after the timeout."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "key", "1h")
            waiting = asyncio.create_task(waits_of(adapter).wait_released("key", "500ms"))
            assert not await self._outcome(adapter, waiting), "True, although the lock is held"

    async def test_wait_continues_when_the_lease_is_extended(self, tmp_path: Path) -> None:
        """The wait ends with the extended lease, not at the expiry it had when the wait started."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter), "key", "500ms")
            waiting = asyncio.create_task(waits_of(adapter).wait_released("key"))
            await run_ticks(5)
            await handle.extend("1h")
            await asyncio.wait({waiting}, timeout=0.05)  # lets it act on the old expiry
            await self.advance(adapter, "700ms")
            await asyncio.wait({waiting}, timeout=0.05)
            assert not waiting.done(), "the wait ended, although the lease was extended"
            await handle.release()
            assert await self._outcome(adapter, waiting), "False, although it was released"

    async def test_wait_can_be_cancelled(self, tmp_path: Path) -> None:
        """Cancelling a wait ends it, and a later wait still works."""
        async with self.open_adapter(tmp_path) as adapter, asyncio.timeout(HANG_S):
            handle = await granted(locks_of(adapter), "key", "1h")
            waits = waits_of(adapter)
            waiting = asyncio.create_task(waits.wait_released("key"))
            await run_ticks(5)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert waiting.cancelled(), "wait_released() swallowed its cancellation"
            await handle.release()
            assert await waits.wait_released("key") is True

    async def test_wait_rejects_invalid_arguments(self, tmp_path: Path) -> None:
        """wait_released() checks its key and its timeout."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "key", "1h")
            wait = waits_of(adapter).wait_released
            await rejects("wait_released(key)", wait, BAD_KEYS)
            await rejects("wait_released(timeout)", lambda it: wait("key", it), BAD_DURATIONS)

    async def _outcome(self, adapter: PersistenceAdapter, waiting: asyncio.Task[bool]) -> bool:
        """What the wait returns within the next five seconds of the adapter's time."""
        for _ in range(100):
            # In real time, since a store may answer from a thread.
            await asyncio.wait({waiting}, timeout=0.02)
            if waiting.done():
                return waiting.result()
            await self.advance(adapter, "50ms")
        await asyncio.wait({waiting}, timeout=HANG_S)  # a thread may be slow on a busy machine
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        pytest.fail("wait_released() had not returned 5 s after it should have")


def waits_of(adapter: PersistenceAdapter) -> SupportsWait:
    leases = locks_of(adapter)
    assert isinstance(leases, SupportsWait), "adapter.lease has no wait_released()"
    return leases
