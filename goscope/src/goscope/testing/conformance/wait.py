"""The contract of `goscope.providers.SupportsWait`, an optional ability of ``adapter.lease``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ...providers import PersistenceAdapter, SupportsWait
from ._base import Conformance, locks_of
from ._tables import BAD_DURATIONS, BAD_KEYS, refuses, turns
from .lock import granted


class WaitConformance(Conformance, abstract=True):
    """Waiting for a lease ends when it ends, or when the caller has waited long enough."""

    async def test_wait_is_true_for_a_free_lock(self, tmp_path: Path) -> None:
        """There is nothing to wait for when nobody holds the lock."""
        async with self.open_adapter(tmp_path) as adapter, asyncio.timeout(5):
            assert await waits_of(adapter).wait_released("key") is True

    async def test_wait_returns_when_the_lock_is_released(self, tmp_path: Path) -> None:
        """A release wakes everyone who waits for its key."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter), "key", "1h")
            waits = waits_of(adapter)
            waiting = [asyncio.create_task(waits.wait_released("key")) for _ in range(3)]
            await turns(5)
            await handle.release()
            for task in waiting:
                assert await self._outcome(adapter, task), "False, though it was released"

    async def test_wait_returns_when_the_lock_expires(self, tmp_path: Path) -> None:
        """A lease that runs out ends the wait without anybody's doing."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "key", "500ms")
            waiting = asyncio.create_task(waits_of(adapter).wait_released("key"))
            assert await self._outcome(adapter, waiting), "False, though the lease expired"

    async def test_wait_is_false_after_its_timeout(self, tmp_path: Path) -> None:
        """The wait ends with False when the lock is still held after the timeout."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "key", "1h")
            waiting = asyncio.create_task(waits_of(adapter).wait_released("key", "500ms"))
            assert not await self._outcome(adapter, waiting), "True, though the lock is held"

    async def test_wait_goes_on_while_the_lease_is_extended(self, tmp_path: Path) -> None:
        """The wait ends with the lease, not with the expiry it had when the wait began."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter), "key", "500ms")
            waiting = asyncio.create_task(waits_of(adapter).wait_released("key"))
            await turns(5)
            await handle.extend("1h")
            await asyncio.wait({waiting}, timeout=0.05)  # what it read before, it acts on before
            await self.advance(adapter, "700ms")
            await asyncio.wait({waiting}, timeout=0.05)
            assert not waiting.done(), "the lease was extended, and yet the wait ended"
            await handle.release()
            assert await self._outcome(adapter, waiting), "False, though it was released"

    async def test_wait_ends_at_once_when_cancelled(self, tmp_path: Path) -> None:
        """Cancelling a wait ends it and disturbs no other one."""
        async with self.open_adapter(tmp_path) as adapter, asyncio.timeout(5):
            handle = await granted(locks_of(adapter), "key", "1h")
            waits = waits_of(adapter)
            waiting = asyncio.create_task(waits.wait_released("key"))
            await turns(5)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert waiting.cancelled(), "wait_released() swallowed its cancellation"
            await handle.release()
            assert await waits.wait_released("key") is True

    async def test_wait_refuses_bad_arguments(self, tmp_path: Path) -> None:
        """Waiting checks its key and its timeout."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "key", "1h")
            wait = waits_of(adapter).wait_released
            await refuses("wait_released(key)", wait, BAD_KEYS)
            await refuses("wait_released(timeout)", lambda it: wait("key", it), BAD_DURATIONS)

    async def _outcome(self, adapter: PersistenceAdapter, waiting: asyncio.Task[bool]) -> bool:
        """What the wait returns, if it does within the next five seconds of the adapter's time."""
        for _ in range(100):
            await asyncio.wait({waiting}, timeout=0.02)  # real: a store may answer from a thread
            if waiting.done():
                return waiting.result()
            await self.advance(adapter, "50ms")
        waiting.cancel()
        pytest.fail("wait_released() went on for 5 s after it should have returned")


def waits_of(adapter: PersistenceAdapter) -> SupportsWait:
    leases = locks_of(adapter)
    assert isinstance(leases, SupportsWait), "adapter.lease has no wait_released()"
    return leases
