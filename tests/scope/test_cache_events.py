"""The events of ``gs.cache`` and their durations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from goscope import Scope
from goscope.events import (
    CacheComputed,
    CacheComputeStarted,
    CacheHit,
    CacheMiss,
    CacheRefreshFailed,
)
from goscope.testing import record_events

from .factories import CountingFactory, fail, store_stale
from .support import PausedCall, Store, wait_until

pytestmark = pytest.mark.asyncio


async def test_lookups_emit_misses_hits_stale_hits_and_computations(
    store: Store, gs: Scope
) -> None:
    factory = CountingFactory()
    with record_events(gs) as events:
        await gs.cache.get("key")
        await store_stale(store, gs, factory)
        await gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h")
        await wait_until(lambda: factory.calls == 2)
        await store.wait_until_idle()
        await gs.cache.get("key")
    assert [event.key for event in events] == ["key"] * 8
    emitted = [(type(event), getattr(event, "stale", None)) for event in events]
    assert emitted == [
        (CacheMiss, None),
        (CacheMiss, None),
        (CacheComputeStarted, None),
        (CacheComputed, None),
        (CacheHit, True),
        (CacheComputeStarted, None),
        (CacheComputed, None),
        (CacheHit, False),
    ]


@pytest.mark.parametrize("stored", [False, True])
async def test_the_duration_of_a_hit_or_miss_is_that_of_the_lookup(
    store: Store, gs: Scope, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    cache = gs.persistence.cache
    assert cache is not None
    get = cache.get

    async def slow(key: str, default: Any = None, *, type: Any = None) -> Any:
        await store.clock.advance("1s")
        return await get(key, default, type=type)

    if stored:
        await gs.cache.set("key", 1)
    monkeypatch.setattr(cache, "get", slow)
    with record_events(gs) as events:
        await gs.cache.get("key")
        await gs.cache.get_or_set("key", CountingFactory())
    assert events[0].duration_ms == events[1].duration_ms == 1000


async def test_the_duration_of_a_failed_refresh_is_how_long_it_took(
    store: Store, gs: Scope
) -> None:
    await store_stale(store, gs, CountingFactory())
    paused = PausedCall()

    async def failing() -> None:
        await paused.run()
        await fail()

    with record_events(gs) as events:
        await gs.cache.get_or_set("key", failing, ttl="5m", stale_for="1h")
        await paused.started()
        await store.advance("2s")
        paused.resume()
        await wait_until(lambda: isinstance(events[-1], CacheRefreshFailed))
    assert events[-1].duration_ms == 2000


async def test_the_duration_of_a_computed_value_is_that_of_its_computation(
    store: Store, gs: Scope
) -> None:
    paused = PausedCall()
    with record_events(gs) as events:
        caller = asyncio.create_task(gs.cache.get_or_set("key", paused.run))
        await paused.started()
        await store.advance("2s")
        paused.resume()
        await caller
    assert [event.duration_ms for event in events if isinstance(event, CacheComputed)] == [2000]
