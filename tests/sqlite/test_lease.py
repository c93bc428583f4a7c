"""Leases in the file: their tokens, their fences, and the boot they belong to."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from goscope import LeaseLost, providers
from goscope.providers import LockHandle
from goscope.testing import FakeClock
from goscope.testing.conformance.fence import FENCED_WRITES
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

pytestmark = pytest.mark.asyncio

DAY_AND_MORE = "25h"


async def granted(adapter: SQLiteAdapter, key: str = "key", ttl: str = "9s") -> LockHandle:
    handle = await adapter.lock.acquire(key, ttl)
    assert handle is not None
    return handle


def token(handle: LockHandle) -> int:
    assert handle.fencing_token is not None
    return handle.fencing_token


async def test_the_conformance_tests_cover_every_write_that_takes_a_fence() -> None:
    """Ten tests run for each of them."""
    covered = {write.name.split(" ")[0] for write in FENCED_WRITES}
    protocols = {
        "cache": providers.CacheProvider,
        "circuit_breaker": providers.CircuitBreakerStateProvider,
        "checkpoint": providers.CheckpointProvider,
        "idempotency": providers.IdempotencyProvider,
    }
    fenced = {
        f"{name}.{method}"
        for name, protocol in protocols.items()
        for method, function in inspect.getmembers(protocol, inspect.isfunction)
        if "fence" in inspect.signature(function).parameters
    }
    assert covered == fenced


# --- a fence and a takeover in one transaction ---------------------------------------------------


async def test_a_stale_write_submitted_after_the_takeover_is_refused(
    adapter: SQLiteAdapter, clock: FakeClock
) -> None:
    """Both are committed together, in the order of submission."""
    stale = await granted(adapter)
    await clock.advance("9s")
    taker, refused = await asyncio.gather(
        adapter.lock.acquire("key"),
        adapter.cache.set("stock", "late", fence=stale),
        return_exceptions=True,
    )
    assert isinstance(taker, LockHandle)
    assert isinstance(refused, LeaseLost)
    assert not await adapter.cache.has("stock")


async def test_a_write_submitted_before_the_takeover_is_applied(
    adapter: SQLiteAdapter, clock: FakeClock
) -> None:
    stale = await granted(adapter)
    await clock.advance("9s")
    applied, taker = await asyncio.gather(
        adapter.cache.set("stock", "in time", fence=stale), adapter.lock.acquire("key")
    )
    assert applied is None
    assert taker is not None
    assert await adapter.cache.get("stock") == "in time"


# --- tokens --------------------------------------------------------------------------------------


async def test_tokens_grow_across_restarts_forced_releases_and_sweeps(
    path: Path, clock: FakeClock, query: Query
) -> None:
    """The counter belongs to the store, not to the rows of the leases."""
    tokens: list[int] = []
    for _ in range(2):
        async with SQLiteAdapter(path, locks="shared", clock=clock) as adapter:
            for number in range(2):
                tokens.append(token(await granted(adapter, f"key{number}")))
                await adapter.lock.force_release(f"key{number}")
            tokens.append(token(await granted(adapter, "swept")))
            await clock.advance(DAY_AND_MORE)
            await adapter._sweeper.sweep()
            assert query("SELECT 1 FROM go_goscope_locks") == []
    assert len(tokens) == 6
    assert tokens == sorted(set(tokens))


async def test_a_swept_lease_refuses_fenced_writes(
    adapter: SQLiteAdapter, clock: FakeClock
) -> None:
    """For a day after its expiry, unless another owner takes it, it accepts them."""
    handle = await granted(adapter)
    await clock.advance("23h")
    await adapter._sweeper.sweep()
    await adapter.cache.set("stock", "late", fence=handle)
    await clock.advance("2h")
    await adapter._sweeper.sweep()
    with pytest.raises(LeaseLost):
        await adapter.cache.set("stock", "too late", fence=handle)
    assert await adapter.cache.get("stock") == "late"


# --- boots ---------------------------------------------------------------------------------------


async def test_a_reboot_ends_all_leases(adapter: SQLiteAdapter, clock: FakeClock) -> None:
    handle = await granted(adapter, ttl="1h")
    clock.boot_id = "the next boot"
    assert await adapter.lock.holder("key") is None
    assert not await handle.extend("1h")
    assert not await handle.is_valid()
    taker = await granted(adapter)
    assert token(taker) > token(handle)
    with pytest.raises(LeaseLost):
        await adapter.cache.set("stock", "late", fence=handle)
