"""Backends with one mistake each, on a sound one. `test_broken` runs the kit against them.

The docstring of a test class is the mistake.
"""

# pyright: reportIncompatibleMethodOverride=false
# They are wrong on purpose.

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from goscope.backend import Fence, StoredCheckpoint, StoredEntry, StoredResult, pattern_regex
from goscope.backend._lock import StoredLockHandle
from goscope.backend.records import (
    RecordAdapter,
    RecordCacheProvider,
    RecordCheckpointProvider,
    RecordCircuitBreakerStateProvider,
    RecordIdempotencyProvider,
    RecordLockProvider,
    Records,
)
from goscope.errors import BackendBusy, LeaseLost
from goscope.providers import Capability, CircuitBreakerState
from goscope.testing.conformance import BackendConformance, EventsConformance

PROVIDERS = ("lock", "cache", "circuit", "checkpoint", "idempotency")

T = TypeVar("T")
Change = Callable[[StoredEntry | None], StoredEntry | None]


class SoundAdapter(RecordAdapter):
    """A sound backend: its stores are in this process, by the name of a file, as JSON."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    stores: ClassVar[dict[Path, bytes]] = {}

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(**options)
        self.path = path
        self.spoil()

    def spoil(self) -> None:
        """Make the mistake."""

    async def read_records(self, look: Callable[[Records], T]) -> T:
        await asyncio.sleep(0)
        return look(self.load())

    async def change_records(self, change: Callable[[Records], T]) -> T:
        await asyncio.sleep(0)
        records = self.load()
        result = change(records)
        self.stores[self.path] = msgspec.json.encode(records)
        return result

    def load(self) -> Records:
        stored = self.stores.get(self.path)
        return Records() if stored is None else msgspec.json.decode(stored, type=Records)


class Broken(BackendConformance, EventsConformance, abstract=True):
    """Runs the kit against ``adapter``; ``provider`` is the one that is broken."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True
    histories = 5
    adapter: ClassVar[type[SoundAdapter]] = SoundAdapter
    provider: ClassVar[str] = "any"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in dir(cls):
            if name.startswith("test_") and not cls.concerns(name.split("_")[1]):
                setattr(cls, name, None)  # not collected

    @classmethod
    def concerns(cls, part: str) -> bool:
        """Whether a part of the contract could see the mistake, and takes less than minutes."""
        is_of_another = part in PROVIDERS and cls.provider not in ("any", part)
        return part != "process" and not is_of_another

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SoundAdapter]:
        path = tmp_path / "store"
        async with self.adapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter


class TestSound(Broken):
    """No mistake: what the broken ones are built on keeps the contract."""


def broken_locks(provider: type[RecordLockProvider]) -> type[SoundAdapter]:
    class Adapter(SoundAdapter):
        def spoil(self) -> None:
            self.lock = provider(self.context, "lock", self)
            self.lease = provider(self.context, "lease", self)

    return Adapter


def broken(name: str, provider: type[Any]) -> type[SoundAdapter]:
    class Adapter(SoundAdapter):
        def spoil(self) -> None:
            setattr(self, name, provider(self.context, self))

    return Adapter


# --- locks -----------------------------------------------------------------------------------


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


class ForeignReleaseLocks(RecordLockProvider):
    async def _release(self, key: str, token: int) -> None:
        await self._store.change_records(lambda records: records.leases.pop(key, None))


class TestForeignRelease(Broken):
    """A release frees the lock whoever holds it now."""

    provider = "lock"
    adapter = broken_locks(ForeignReleaseLocks)


class TokenGoesBackLocks(RecordLockProvider):
    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        def forget(records: Records) -> None:
            tokens = [lease.token for lease in records.leases.values()]
            records.last_token = max(tokens, default=0)

        await self._store.change_records(forget)
        return await super()._grant(key, owner, ttl_ms)


class TestTokenGoesBack(Broken):
    """The next token is counted from the leases there are, so a release takes it back."""

    provider = "lock"
    adapter = broken_locks(TokenGoesBackLocks)


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


class GrantKeptLocks(RecordLockProvider):
    async def acquire(
        self, key: str, ttl: Any = None, owner: str | None = None
    ) -> StoredLockHandle | None:
        handle = await super().acquire(key, ttl, owner)
        await asyncio.sleep(0)
        return handle


class TestGrantKeptAfterCancelledAcquire(Broken):
    """An acquire that is cancelled after the grant keeps the lock."""

    provider = "lock"
    adapter = broken_locks(GrantKeptLocks)


class OneNamespaceLocks(RecordLockProvider):
    def stored(self, key: str) -> str:
        return super().stored(key).replace(f"{self.namespace}:", "lock:", 1)


class TestOneNamespace(Broken):
    """Locks of the program and leases of goscope exclude one another."""

    provider = "lock"
    adapter = broken_locks(OneNamespaceLocks)


# --- cache -----------------------------------------------------------------------------------


class LostUpdateCache(RecordCacheProvider):
    async def _update(self, key: str, change: Change, fence: Fence | None) -> None:
        entry = change(await self._get_entry(key))
        await asyncio.sleep(0)
        await super()._update(key, lambda _: entry, fence)


class TestLostUpdate(Broken):
    """An entry is read, changed and written back in separate steps."""

    provider = "cache"
    adapter = broken("cache", LostUpdateCache)


class NonAtomicAddCache(RecordCacheProvider):
    async def _add(self, key: str, entry: StoredEntry, now: int, fence: Fence | None) -> bool:
        if await self._get(key, now) is not None:
            return False
        await self._set({key: entry}, fence)
        return True


class TestNonAtomicAdd(Broken):
    """add() looks, then stores."""

    provider = "cache"
    adapter = broken("cache", NonAtomicAddCache)


class SecondsCache(RecordCacheProvider):
    async def _set(self, entries: Mapping[str, StoredEntry], fence: Fence | None) -> None:
        await super()._set({key: _in_seconds(entry) for key, entry in entries.items()}, fence)


def _in_seconds(entry: StoredEntry) -> StoredEntry:
    expires_at = entry.expires_at
    return entry if expires_at is None else entry._replace(expires_at=expires_at // 1000 * 1000)


class TestCacheTtlFloor(Broken):
    """Expiry is stored in whole seconds."""

    provider = "cache"
    adapter = broken("cache", SecondsCache)


class NoneIsMissCache(RecordCacheProvider):
    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        value = await super().get(key, type=type)
        return default if value is None else value


class TestNoneAsMiss(Broken):
    """A stored None is taken for an absent entry."""

    provider = "cache"
    adapter = broken("cache", NoneIsMissCache)


class LikeCache(RecordCacheProvider):
    async def _page(self, pattern: str, after: str, limit: int, now: int) -> list[str]:
        like = pattern_regex(pattern).pattern.replace("_", ".")
        entries = sorted(await self._entries())
        live = (key for key, entry in entries if key > after and entry.is_live(now))
        return [key for key in live if re.fullmatch(like, key, re.DOTALL)][:limit]


class TestLikeWildcard(Broken):
    """``_`` in a pattern, and so in a prefix, stands for any character, as in LIKE."""

    provider = "cache"
    adapter = broken("cache", LikeCache)


class UnsortedCache(RecordCacheProvider):
    async def _page(self, pattern: str, after: str, limit: int, now: int) -> list[str]:
        page = await super()._page(pattern, after, limit, now)
        return page[-2::-1] + page[-1:]  # the last one stays, for the next page


class TestKeysOutOfOrder(Broken):
    """Keys come in no order."""

    provider = "cache"
    adapter = broken("cache", UnsortedCache)


class HalfBatchCache(RecordCacheProvider):
    async def _set(self, entries: Mapping[str, StoredEntry], fence: Fence | None) -> None:
        for key, entry in entries.items():
            await super()._set({key: entry}, fence)


class TestHalfABatch(Broken):
    """set_many() is one write an entry, and may end in the middle."""

    provider = "cache"
    adapter = broken("cache", HalfBatchCache)


class BlockingCache(RecordCacheProvider):
    async def _count(self, namespace: str, now: int) -> int:
        time.sleep(0.15)  # noqa: ASYNC251  # the mistake
        return await super()._count(namespace, now)


class TestBlockingCall(Broken):
    """stats() blocks the event loop."""

    provider = "cache"
    adapter = broken("cache", BlockingCache)


# --- circuits, checkpoints, results ----------------------------------------------------------


class ErrorSwallowingCircuits(RecordCircuitBreakerStateProvider):
    async def _update(self, key: str, change: Any, fence: Fence | None) -> None:
        try:
            await super()._update(key, change, fence)
        except LeaseLost:
            pass


class TestErrorSwallowed(Broken):
    """A refused write of a circuit's state is not reported."""

    provider = "circuit"
    adapter = broken("circuit_breaker", ErrorSwallowingCircuits)


class DatingCircuits(RecordCircuitBreakerStateProvider):
    async def _record_failure(
        self, key: str, max_failures: int, now: int, fence: Fence | None
    ) -> int:
        count = await super()._record_failure(key, max_failures, now, fence)

        def date(state: CircuitBreakerState | None) -> CircuitBreakerState:
            assert state is not None
            return msgspec.structs.replace(state, last_failure_time=now)

        await self._update(key, date, fence)
        return count


class TestHeldCircuitDated(Broken):
    """A late failure gives a circuit that is held open a time, and so an end."""

    provider = "circuit"
    adapter = broken("circuit_breaker", DatingCircuits)


class UnfencedCheckpoints(RecordCheckpointProvider):
    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        await super()._save(row, None)


class TestUnfencedWrite(Broken):
    """save() does not look at its fence."""

    provider = "checkpoint"
    adapter = broken("checkpoint", UnfencedCheckpoints)


class StaleOwnerCheckpoints(RecordCheckpointProvider):
    def check(
        self, row: StoredCheckpoint, latest: StoredCheckpoint | None, known: StoredCheckpoint | None
    ) -> None:
        if known is not None:
            super().check(row, latest, known)


class TestStaleOwnerSave(Broken):
    """A checkpoint behind the latest one is saved, if its id is new."""

    provider = "checkpoint"
    adapter = broken("checkpoint", StaleOwnerCheckpoints)


class UnorderedCheckpoints(RecordCheckpointProvider):
    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        return (await super()._list(task_id))[::-1]

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        rows = await super()._list(task_id)
        return rows[-1] if rows else None


class TestWrongOrderOfList(Broken):
    """list() begins with the latest checkpoint."""

    provider = "checkpoint"
    adapter = broken("checkpoint", UnorderedCheckpoints)


class PrefixLeakResults(RecordIdempotencyProvider):
    def _stored(self, key: str) -> str:
        return super()._stored(key).removeprefix(self.context.prefix)


class TestPrefixLeak(Broken):
    """Results of all prefixes are one."""

    provider = "idempotency"
    adapter = broken("idempotency", PrefixLeakResults)


class TwoStepResults(RecordIdempotencyProvider):
    async def _set(
        self, key: str, row: StoredResult, now: int, fence: Fence | None, ends_lease: bool
    ) -> None:
        await super()._set(key, row, now, fence, False)


class TestLeaseNotEnded(Broken):
    """Completing a call leaves its lease to run out."""

    provider = "idempotency"
    adapter = broken("idempotency", TwoStepResults)


# --- the store -------------------------------------------------------------------------------


class LeakyAdapter(SoundAdapter):
    leaked = False

    async def change_records(self, change: Callable[[Records], T]) -> T:
        if self.leaked:
            raise BackendBusy("cannot start a transaction within a transaction")
        try:
            return await super().change_records(change)
        except asyncio.CancelledError:
            self.leaked = True
            raise


class TestLeakedTransactionOnCancel(Broken):
    """A cancelled write leaves its transaction open."""

    provider = "idempotency"
    adapter = LeakyAdapter


class DeafAdapter(SoundAdapter):
    async def read_records(self, look: Callable[[Records], T]) -> T:
        try:
            return await super().read_records(look)
        except asyncio.CancelledError:
            return look(self.load())


class TestCancellationSwallowed(Broken):
    """A read that is cancelled answers as if it had not been."""

    adapter = DeafAdapter
    provider = "circuit"
