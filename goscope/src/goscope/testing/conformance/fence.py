"""The contract of ``fence=``: a write is applied if and only if its lease is still current."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import pytest

from ...backend import MemoryLockProvider, StoreContext, SystemClock
from ...errors import ConfigurationError, LeaseLost
from ...providers import CircuitBreakerState, LockHandle, PersistenceAdapter
from ._base import Conformance, cache_of, checkpoints_of, circuits_of, idempotency_of, locks_of
from ._locks import granted
from ._samples import checkpoint
from .cache import CacheConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .idempotency import IdempotencyConformance


class FencedWrite:
    """One provider method that takes a fence, and the state that it changes."""

    name: ClassVar[str]
    contract: ClassVar[type[Conformance]]

    async def prepare(self, adapter: PersistenceAdapter) -> None:
        """Store what the write needs."""

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        raise NotImplementedError

    async def state(self, adapter: PersistenceAdapter) -> object:
        """The records that the write changes."""
        raise NotImplementedError


class CacheWrite(FencedWrite):
    contract = CacheConformance

    async def state(self, adapter: PersistenceAdapter) -> object:
        cache = cache_of(adapter)
        return [await cache.get_entry("key"), await cache.get_entry("new")]


class CacheSet(CacheWrite):
    name = "cache.set"

    async def prepare(self, adapter: PersistenceAdapter) -> None:
        await cache_of(adapter).set("key", "old")

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await cache_of(adapter).set("key", "new", "1h", tags=["tag"], stale_for="1h", fence=fence)


class CacheAdd(CacheWrite):
    name = "cache.add"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await cache_of(adapter).add("new", 1, fence=fence)


class CacheDelete(CacheSet):
    name = "cache.delete"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await cache_of(adapter).delete("key", fence=fence)


class CircuitWrite(FencedWrite):
    contract = CircuitBreakerConformance

    async def prepare(self, adapter: PersistenceAdapter) -> None:
        half_open = CircuitBreakerState(state="half-open", failure_count=3)
        await circuits_of(adapter).set_state("key", half_open)

    async def state(self, adapter: PersistenceAdapter) -> object:
        return await circuits_of(adapter).get_state("key")


class CircuitSetState(CircuitWrite):
    name = "circuit_breaker.set_state"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await circuits_of(adapter).set_state("key", CircuitBreakerState(), fence=fence)


class CircuitRecordFailure(CircuitWrite):
    name = "circuit_breaker.record_failure"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await circuits_of(adapter).record_failure("key", 5, fence=fence)


class CircuitRecordSuccess(CircuitWrite):
    name = "circuit_breaker.record_success"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await circuits_of(adapter).record_success("key", expected="half-open", fence=fence)


class CheckpointWrite(FencedWrite):
    contract = CheckpointConformance

    async def prepare(self, adapter: PersistenceAdapter) -> None:
        for sequence in (1, 2, 3):
            await checkpoints_of(adapter).save(checkpoint(sequence))

    async def state(self, adapter: PersistenceAdapter) -> object:
        return list(await checkpoints_of(adapter).list("task"))


class CheckpointSave(CheckpointWrite):
    name = "checkpoint.save"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await checkpoints_of(adapter).save(checkpoint(4), fence=fence)


class CheckpointReplace(CheckpointWrite):
    name = "checkpoint.save (the latest again)"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await checkpoints_of(adapter).save(checkpoint(3, data="new"), fence=fence)


class CheckpointCleanup(CheckpointWrite):
    name = "checkpoint.cleanup"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await checkpoints_of(adapter).cleanup("task", 1, fence=fence)


class CheckpointDeleteAll(CheckpointWrite):
    name = "checkpoint.delete_all"

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await checkpoints_of(adapter).delete_all("task", fence=fence)


class IdempotencySet(FencedWrite):
    name = "idempotency.set"
    contract = IdempotencyConformance

    async def write(self, adapter: PersistenceAdapter, fence: LockHandle) -> None:
        await idempotency_of(adapter).set("key", 1, "1h", fingerprint="print", fence=fence)

    async def state(self, adapter: PersistenceAdapter) -> object:
        return await idempotency_of(adapter).get("key")


FENCED_WRITES: Final[tuple[FencedWrite, ...]] = (
    CacheSet(),
    CacheAdd(),
    CacheDelete(),
    CircuitSetState(),
    CircuitRecordFailure(),
    CircuitRecordSuccess(),
    CheckpointSave(),
    CheckpointReplace(),
    CheckpointCleanup(),
    CheckpointDeleteAll(),
    IdempotencySet(),
)


class FenceConformance(Conformance, abstract=True):
    """Each write that takes a fence, of each provider of the backend."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        super().pytest_generate_tests(metafunc)
        if "write" in metafunc.fixturenames:
            writes = [it for it in FENCED_WRITES if self.provides(it.contract)]
            metafunc.parametrize("write", writes, ids=[it.name for it in writes])

    # --- a current lease ---------------------------------------------------------------------

    async def test_fence_a_write_under_its_lease_is_applied(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """A current lease permits the write, whatever the key of the lease."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            await applies(write, adapter, await granted(locks_of(adapter), "guard"))

    async def test_fence_a_write_under_an_extended_lease_is_applied(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """A renewed lease is the same grant."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            lease = await granted(locks_of(adapter), "guard", "1s")
            await lease.extend("1h")
            await self.advance(adapter, "1200ms")
            await applies(write, adapter, lease)

    async def test_fence_a_write_under_an_expired_lease_that_nobody_took_over_is_applied(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """Rejecting it would discard finished work, and no other holder is affected."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            lease = await granted(locks_of(adapter), "guard", "500ms")
            await self.advance(adapter, "600ms")
            await applies(write, adapter, lease)

    # --- no longer current -------------------------------------------------------------------

    async def test_fence_a_write_after_the_release_is_rejected(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """A released lease permits no writes."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            lease = await granted(locks_of(adapter), "guard")
            await lease.release()
            await rejects_write(write, adapter, lease)

    async def test_fence_a_write_after_a_forced_release_is_rejected(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """A lease that an operator released permits no writes."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            lease = await granted(locks_of(adapter), "guard")
            await locks_of(adapter).force_release("guard")
            await rejects_write(write, adapter, lease)

    async def test_fence_a_write_after_a_takeover_is_rejected(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """The token decides, not the owner: a later grant of the same owner is another lease."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            leases = locks_of(adapter)
            old = await granted(leases, "guard", "500ms", owner="me")
            await self.advance(adapter, "600ms")
            new = await granted(leases, "guard", "30s", owner="me")
            await rejects_write(write, adapter, old)
            await applies(write, adapter, new)

    async def test_fence_a_write_after_the_takeover_ended_is_rejected(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """A lease that was taken over stays lost after the next holder releases it."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            leases = locks_of(adapter)
            old = await granted(leases, "guard", "500ms")
            await self.advance(adapter, "600ms")
            await (await granted(leases, "guard")).release()
            await rejects_write(write, adapter, old)

    # --- not a fence of this store------------------------------------------------------------

    async def test_fence_a_lease_of_another_store_is_a_configuration_error(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """A token of another store is not valid here, even if this store has the same one."""
        other_path = tmp_path / "other"
        other_path.mkdir()
        async with self.open_adapter(tmp_path) as adapter, self.open_adapter(other_path) as other:
            await write.prepare(adapter)
            foreign = await granted(locks_of(other), "guard")
            await granted(locks_of(adapter), "guard")
            await misconfigured(write, adapter, foreign)

    async def test_fence_an_in_memory_lock_is_a_configuration_error(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """A lock without a token cannot fence a write."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            context = StoreContext(clock=SystemClock())
            context.open("locks in memory")
            locks = MemoryLockProvider(context)
            await misconfigured(write, adapter, await granted(locks, "guard"))

    async def test_fence_the_adapters_own_locks_fence_or_are_rejected(
        self, tmp_path: Path, write: FencedWrite
    ) -> None:
        """A handle of ``adapter.lock`` fences a write if and only if it has a token."""
        async with self.open_adapter(tmp_path) as adapter:
            await write.prepare(adapter)
            handle = await granted(locks_of(adapter, "lock"), "guard")
            if handle.fencing_token is None:
                await misconfigured(write, adapter, handle)
            else:
                await applies(write, adapter, handle)
                await handle.release()
                await rejects_write(write, adapter, handle)


async def applies(write: FencedWrite, adapter: PersistenceAdapter, fence: LockHandle) -> None:
    """Fail unless the write is applied and changes something."""
    before = await write.state(adapter)
    await write.write(adapter, fence)
    after = await write.state(adapter)
    assert after != before, f"{write.name} under a current lease changed nothing"


async def rejects_write(write: FencedWrite, adapter: PersistenceAdapter, fence: LockHandle) -> None:
    """Fail unless the write raises `LeaseLost` and changes nothing."""
    before = await write.state(adapter)
    with pytest.raises(LeaseLost) as caught:
        await write.write(adapter, fence)
    assert await write.state(adapter) == before, f"{write.name} was rejected, but applied"
    assert caught.value.key == fence.key, "LeaseLost must have the key without its prefix"


async def misconfigured(write: FencedWrite, adapter: PersistenceAdapter, fence: LockHandle) -> None:
    """Fail unless the write raises `ConfigurationError` and changes nothing."""
    before = await write.state(adapter)
    with pytest.raises(ConfigurationError):
        await write.write(adapter, fence)
    assert await write.state(adapter) == before, f"{write.name} was rejected, but applied"
