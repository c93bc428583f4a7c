"""Backends with one bug each in their locks. The docstring of a test class names the bug."""

# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

import asyncio
from typing import Any

from goscope import ScopeNotOpen
from goscope.backend._lock import StoredLockHandle
from goscope.backend.records import (
    RecordLockProvider,
    Records,
)

from .correct import Broken, CorrectAdapter, broken_locks


class RevivingLocks(RecordLockProvider):
    async def _extend(self, key: str, token: int, ttl_ms: int) -> bool:
        def extend(records: Records) -> bool:
            lease = records.leases.get(key)
            if lease is None or lease.token != token:
                return False
            lease.expires_at = self.context.clock.steady_ms() + ttl_ms
            return True

        return await self._store.change_records(extend)


class TestRevivedLease(Broken):
    """An expired lease can be extended."""

    provider = "lock"
    adapter = broken_locks(RevivingLocks)


class StealingRenewalLocks(RecordLockProvider):
    async def acquire(
        self, key: str, ttl: Any = None, owner: str | None = None
    ) -> StoredLockHandle | None:
        handle = await super().acquire(key, ttl, owner)
        return (
            None
            if handle is None
            else _StealingHandle(self, key, handle.owner, handle.fencing_token, handle._deadline)
        )


class _StealingHandle(StoredLockHandle):
    async def renew(self, ttl: Any) -> bool:
        def steal(records: Records) -> bool:
            lease = records.leases.get(self.stored_key)
            if lease is None:
                return False
            lease.token, lease.owner = self.fencing_token, self.owner
            return True

        provider: Any = self._provider
        return bool(await provider._store.change_records(steal)) and await super().renew(ttl)


class TestStealingRenewal(Broken):
    """A renewal takes the lock from an owner that was granted it in the meantime."""

    provider = "lock"
    adapter = broken_locks(StealingRenewalLocks)


class ForeignReleaseLocks(RecordLockProvider):
    async def _release(self, key: str, token: int) -> bool:
        lease = await self._store.change_records(lambda records: records.leases.pop(key, None))
        return lease is not None


class TestForeignRelease(Broken):
    """A release ends any grant of the lock."""

    provider = "lock"
    adapter = broken_locks(ForeignReleaseLocks)


class ReusedTokenLocks(RecordLockProvider):
    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        def forget(records: Records) -> None:
            tokens = [lease.token for lease in records.leases.values()]
            records.last_token = max(tokens, default=0)

        await self._store.change_records(forget)
        return await super()._grant(key, owner, ttl_ms)


class TestReusedToken(Broken):
    """The next token follows from the existing leases, so a release allows its reuse."""

    provider = "lock"
    adapter = broken_locks(ReusedTokenLocks)


class TtlFloorLocks(RecordLockProvider):
    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        return await super()._grant(key, owner, max(ttl_ms, 1000))


class TestLockTtlFloor(Broken):
    """A ttl under a second lasts a second."""

    provider = "lock"
    adapter = broken_locks(TtlFloorLocks)


class ReentrantLocks(RecordLockProvider):
    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        def drop(records: Records) -> None:
            lease = records.leases.get(key)
            if lease is not None and lease.owner == owner:
                del records.leases[key]

        await self._store.change_records(drop)
        return await super()._grant(key, owner, ttl_ms)


class TestReentrantLock(Broken):
    """A held lock is granted again to its own owner."""

    provider = "lock"
    adapter = broken_locks(ReentrantLocks)


class KeptGrantLocks(RecordLockProvider):
    async def acquire(
        self, key: str, ttl: Any = None, owner: str | None = None
    ) -> StoredLockHandle | None:
        handle = await super().acquire(key, ttl, owner)
        await asyncio.sleep(0)
        return handle


class TestGrantKeptAfterCancelledAcquire(Broken):
    """acquire() keeps the lock when it is cancelled after the grant."""

    provider = "lock"
    adapter = broken_locks(KeptGrantLocks)


class OneNamespaceLocks(RecordLockProvider):
    def stored(self, key: str) -> str:
        return super().stored(key).replace(f"{self.namespace}:", "lock:", 1)


class TestOneNamespace(Broken):
    """Locks and leases share one namespace."""

    provider = "lock"
    adapter = broken_locks(OneNamespaceLocks)


class OwnerKeyHandle:
    """A handle whose stored key contains the owner."""

    def __init__(self, handle: StoredLockHandle) -> None:
        self.key, self.owner = handle.key, handle.owner
        self.stored_key = f"{handle.stored_key}:{handle.owner}"
        self.store_id, self.fencing_token = handle.store_id, handle.fencing_token
        self.release, self.extend, self.is_valid = handle.release, handle.extend, handle.is_valid
        self._handle = handle

    @property
    def lost(self) -> bool:
        return self._handle.lost


class OwnerKeyLocks(RecordLockProvider):
    async def acquire(self, key: str, ttl: Any = None, owner: str | None = None) -> Any:
        handle = await super().acquire(key, ttl, owner)
        return None if handle is None else OwnerKeyHandle(handle)


class TestStoredKeyOfOneGrant(Broken):
    """``stored_key`` differs between the grants of one lock."""

    provider = "lock"
    adapter = broken_locks(OwnerKeyLocks)


class OneStoredKeyLocks(RecordLockProvider):
    async def acquire(self, key: str, ttl: Any = None, owner: str | None = None) -> Any:
        handle = await super().acquire(key, ttl, owner)
        if handle is None:
            return None
        wrapped = OwnerKeyHandle(handle)
        wrapped.stored_key = handle.key
        return wrapped


class TestStoredKeyWithoutNamespace(Broken):
    """``stored_key`` is the key, without its prefix and namespace."""

    provider = "lock"
    adapter = broken_locks(OneStoredKeyLocks)


class UsableWhenClosedAdapter(CorrectAdapter):
    def break_it(self) -> None:
        self.lock = RecordLockProvider(self.context, "lock", self)


class TestUsableWhenClosed(Broken):
    """Locks can be acquired and released after the adapter has disconnected."""

    adapter = UsableWhenClosedAdapter


class FreeWhenClosedLocks(RecordLockProvider):
    async def wait_released(self, key: str, timeout: Any = None) -> bool:
        try:
            return await super().wait_released(key, timeout)
        except ScopeNotOpen:
            return True


class TestFreeWhenClosed(Broken):
    """A wait for a lock ends as if the lock were free when the adapter disconnects."""

    adapter = broken_locks(FreeWhenClosedLocks)
