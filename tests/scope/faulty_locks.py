"""Locks whose requests fail, hang or take their time."""

from __future__ import annotations

from typing import Final

from goscope import BackendUnavailable, LockHandle
from goscope.backend import MemoryLockProvider
from goscope.providers import Milliseconds
from goscope.testing import FakeClock

from .locked_bodies import wait_forever


class LockFaults:
    """What goes wrong with the requests for the locks of a store."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.acquire_takes = 0.0
        self.extend_fails = False
        self.extend_hangs = False
        self.extend_takes = 0.0
        self.release_fails = False
        self.release_takes = 0.0


class FaultyHandle:
    """A handle whose requests fail, hang or take their time."""

    def __init__(self, handle: LockHandle, faults: LockFaults) -> None:
        self.key: Final = handle.key
        self.owner: Final = handle.owner
        self.stored_key: Final = handle.stored_key
        self.store_id: Final = handle.store_id
        self.fencing_token: Final = handle.fencing_token
        self.is_valid: Final = handle.is_valid
        self._handle = handle
        self._faults = faults

    @property
    def lost(self) -> bool:
        return self._handle.lost

    async def extend(self, ttl: Milliseconds) -> bool:
        if self._faults.extend_hangs:
            await wait_forever()
        if self._faults.extend_fails:
            raise BackendUnavailable("the store is down")
        extended = await self._handle.extend(ttl)
        await self._faults.clock.sleep(self._faults.extend_takes)
        return extended

    async def release(self) -> None:
        await self._faults.clock.sleep(self._faults.release_takes)
        if self._faults.release_fails:
            raise BackendUnavailable("the store is down")
        await self._handle.release()


class FaultyLocks:
    """Locks in memory whose handles are faulty."""

    def __init__(self, locks: MemoryLockProvider, faults: LockFaults) -> None:
        self.extend: Final = locks.extend
        self.force_release: Final = locks.force_release
        self.holder: Final = locks.holder
        self.wait_released: Final = locks.wait_released
        self._locks = locks
        self._faults = faults

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> LockHandle | None:
        handle = await self._locks.acquire(key, ttl, owner)
        await self._faults.clock.sleep(self._faults.acquire_takes)
        return None if handle is None else FaultyHandle(handle, self._faults)
