"""``stale_for``: an expired value is served while one caller refreshes it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from goscope import Scope
from goscope.backend.records import RecordCacheProvider
from goscope.events import CacheHit, CacheRefreshFailed
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock, record_events

from .factories import CountingFactory, fail, store_stale
from .support import PausedCall, Store, ticks, wait_until

pytestmark = pytest.mark.asyncio


async def test_a_stale_value_is_served_while_one_caller_refreshes(store: Store, gs: Scope) -> None:
    factory, paused = CountingFactory(), PausedCall()
    await store_stale(store, gs, factory)

    async def refresh() -> Any:
        await paused.run()
        return await factory()

    for _ in range(5):
        value = await gs.cache.get_or_set("key", refresh, ttl="5m", stale_for="1h")
        assert value == {"call": 1}
    # By its private name: a second refresh would end without a trace.
    refreshing = [
        task for task in asyncio.all_tasks() if "CacheLoader._refresh_stale" in repr(task)
    ]
    assert len(refreshing) == 1
    await paused.started()
    paused.resume()
    await wait_until(lambda: factory.calls == 2)
    await store.wait_until_idle()
    assert paused.calls == 1
    assert await gs.cache.get("key") == {"call": 2}


async def test_one_process_refreshes_a_stale_value_for_all(
    store: Store, gs: Scope, other: Scope
) -> None:
    factory, paused = CountingFactory(), PausedCall()
    await store_stale(store, gs, factory)
    assert await gs.cache.get_or_set("key", paused.run, ttl="5m", stale_for="1h") == {"call": 1}
    await paused.started()
    assert await other.cache.get_or_set("key", factory, ttl="5m", stale_for="1h") == {"call": 1}
    await store.wait_until_idle()
    assert factory.calls == 1
    paused.resume()
    await store.wait_until_idle()


class RefreshedEntries(RecordCacheProvider):
    """Another process refreshes the value right after it was found stale."""

    async def get_entry(self, key: str, *, type: Any = None) -> Any:
        entry = await super().get_entry(key, type=type)
        await self.set(key, "new")
        return entry


async def test_a_value_refreshed_between_lookup_and_grant_is_not_refreshed_again() -> None:
    clock = FakeClock()
    adapter = MemoryAdapter(clock=clock)
    adapter.cache = RefreshedEntries(adapter.context, adapter, adapter.lease.notifier)
    async with Scope(persistence=adapter) as gs:
        await gs.cache.set("key", "old", "5m", stale_for="1h")
        await clock.advance("6m")
        with record_events(gs) as events:
            value = await gs.cache.get_or_set("key", fail, ttl="5m", stale_for="1h")
            await ticks()
    assert value == "old"
    assert [type(event) for event in events] == [CacheHit], "a refresh would have failed"


async def test_the_caller_waits_for_a_value_that_is_no_longer_served_stale(
    store: Store, gs: Scope
) -> None:
    factory = CountingFactory()
    await store_stale(store, gs, factory)
    store.clock.step_wall("1h")
    assert await gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h") == {"call": 2}


async def test_get_does_not_serve_stale_values(store: Store, gs: Scope) -> None:
    await store_stale(store, gs, CountingFactory())
    assert await gs.cache.get("key") is None


async def test_a_failed_refresh_is_reported_and_retried(store: Store, gs: Scope) -> None:
    factory = CountingFactory()
    await store_stale(store, gs, factory)
    with record_events(gs) as events:
        for _ in range(2):
            value = await gs.cache.get_or_set("key", fail, ttl="5m", stale_for="1h")
            assert value == {"call": 1}
            await wait_until(lambda: isinstance(events[-1], CacheRefreshFailed))
            await ticks()  # the refresh ends after it has emitted its failure
    failures = [event for event in events if isinstance(event, CacheRefreshFailed)]
    assert [event.error_type for event in failures] == ["ZeroDivisionError"] * 2


async def test_closing_ends_a_refresh_and_allows_a_later_one(
    store: Store,
) -> None:
    factory, paused = CountingFactory(), PausedCall()
    gs = store.scope()
    async with gs:
        await store_stale(store, gs, factory)
        await gs.cache.get_or_set("key", paused.run, ttl="5m", stale_for="1h")
        # The scope closes before the refresh has run at all.
    assert paused.running == 0
    async with gs:
        await gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h")
        await wait_until(lambda: factory.calls == 2)
        await store.wait_until_idle()


async def test_stale_for_needs_a_ttl(gs: Scope) -> None:
    with pytest.raises(ValueError, match="stale_for needs a ttl"):
        await gs.cache.get_or_set("key", CountingFactory(), stale_for="1h")
