"""``on_store_error`` of cached calls: a store that fails takes no call down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from goscope import BackendBusy, BackendError, BackendUnavailable, Scope, ScopeNotOpen
from goscope.errors import CapabilityMissing
from goscope.events import (
    CacheComputed,
    CacheComputeFailed,
    CacheComputeStarted,
    CacheHit,
    CacheMiss,
    CacheRefreshFailed,
    CacheStoreFailed,
    CacheStoreRecovered,
)
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock, record_events

from .factories import CountingFactory, fail
from .faulty_cache import Faults, faulty_scope
from .support import PausedCall, lease_watchers, leases_of, ticks

pytestmark = pytest.mark.asyncio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def faults() -> Faults:
    return Faults()


@pytest_asyncio.fixture
async def gs(faults: Faults, clock: FakeClock) -> AsyncIterator[Scope]:
    async with faulty_scope(faults, clock) as scope:
        yield scope
        await ticks()
        assert lease_watchers() == []


def get(gs: Scope, factory: Callable[[], Awaitable[Any]], key: str = "key") -> asyncio.Task[Any]:
    return asyncio.create_task(gs.cache.get_or_set(key, factory, ttl="1h"))


FAILED_COMPUTATION = [CacheMiss, CacheComputeStarted, CacheComputeFailed]

EACH_REQUEST = pytest.mark.parametrize("request_", ["read", "grant", "set"])


@EACH_REQUEST
async def test_a_miss_computes_and_serves_its_value_unstored(
    gs: Scope, faults: Faults, request_: str
) -> None:
    with record_events(gs) as events, faults.fail(request_):
        assert await get(gs, CountingFactory()) == {"call": 1}
    assert not await gs.cache.has("key")
    kinds = [type(event) for event in events if not isinstance(event, CacheComputeStarted)]
    assert sorted(kinds, key=str) == [CacheComputed, CacheMiss, CacheStoreFailed]
    (failed,) = (event for event in events if isinstance(event, CacheStoreFailed))
    assert (failed.key, failed.error) == ("key", f"the {request_} fails")
    (computed,) = (event for event in events if isinstance(event, CacheComputed))
    assert not computed.stored


@EACH_REQUEST
async def test_concurrent_misses_of_a_process_compute_once(
    gs: Scope, faults: Faults, request_: str
) -> None:
    paused = PausedCall()
    with faults.fail(request_):
        callers = [get(gs, lambda: paused.run(7)) for _ in range(5)]
        await paused.started()
        await ticks()
        callers += [get(gs, lambda: paused.run(7)) for _ in range(5)]
        await ticks()
        paused.resume()
        assert await asyncio.gather(*callers) == [7] * 10
    assert paused.calls == 1


@EACH_REQUEST
async def test_a_failing_store_is_logged_and_emitted_once_until_it_works_again(
    gs: Scope,
    faults: Faults,
    clock: FakeClock,
    request_: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "goscope")
    with record_events(gs) as events:
        for _ in range(2):
            with faults.fail(request_):
                for number in range(20):
                    await get(gs, CountingFactory(), f"key{number}")
                    await clock.advance("300ms")
            await clock.advance("5s")
            await get(gs, CountingFactory(), "new")
            assert await gs.cache.has("new")
            await gs.cache.clear()
    kinds = [type(event) for event in events]
    outages = [it for it in kinds if it in (CacheStoreFailed, CacheStoreRecovered)]
    assert outages == [CacheStoreFailed, CacheStoreRecovered] * 2
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 4
    assert messages[0].endswith(f"until it works again: the {request_} fails")
    assert messages[1] == "the cache can use its store again"


@EACH_REQUEST
async def test_a_failing_store_is_asked_once_a_second(
    gs: Scope, faults: Faults, clock: FakeClock, request_: str
) -> None:
    with faults.fail(request_):
        await get(gs, CountingFactory(), "first")
        faults.requests[request_] = 0
        for number in range(100):
            await get(gs, CountingFactory(), f"key{number}")
        assert faults.requests[request_] == 0
        await clock.advance("1s")
        await asyncio.gather(*(get(gs, CountingFactory(), f"key{it}") for it in range(100)))
        assert faults.requests[request_] == 1


async def test_hits_are_served_while_the_store_refuses_writes(gs: Scope, faults: Faults) -> None:
    await gs.cache.set("key", "stored")
    with faults.fail("grant", "set"):
        await get(gs, CountingFactory(), "absent")
        for _ in range(5):
            assert await get(gs, fail) == "stored"
        await get(gs, CountingFactory(), "absent")
    assert faults.requests["grant"] == 1, "hits are not the calls that ask the store again"


async def test_a_hit_does_not_end_the_outage_of_a_store_that_refuses_writes(
    gs: Scope, faults: Faults
) -> None:
    await gs.cache.set("hit", 1)
    with record_events(gs) as events, faults.fail("grant"):
        for _ in range(3):
            await get(gs, CountingFactory())
            await get(gs, fail, "hit")
    assert faults.requests["grant"] == 1
    assert CacheStoreRecovered not in [type(event) for event in events]


async def test_hits_are_not_the_calls_that_ask_a_locked_store_again(
    gs: Scope, faults: Faults, clock: FakeClock
) -> None:
    await gs.cache.set("hit", 1)
    with faults.fail("grant"):
        await get(gs, CountingFactory())
    await clock.advance("1s")
    await get(gs, fail, "hit")
    await get(gs, CountingFactory())
    assert await gs.cache.has("key"), "a hit had used up the attempt"


@EACH_REQUEST
async def test_the_error_of_the_factory_is_raised_and_the_factory_not_called_again(
    gs: Scope, faults: Faults, request_: str
) -> None:
    """Also one that looks like a failure of the store."""
    calls = 0

    async def factory() -> Any:
        nonlocal calls
        calls += 1
        raise BackendBusy("another store is busy")

    with record_events(gs) as events:
        with pytest.raises(BackendBusy, match="another store"):
            await get(gs, factory)
        assert calls == 1
        assert [type(event) for event in events] == FAILED_COMPUTATION
        with faults.fail(request_), pytest.raises(BackendBusy, match="another store"):
            await get(gs, factory)
    assert calls == 2
    outages = [event for event in events if isinstance(event, CacheStoreFailed)]
    assert ["another store" in event.error for event in outages] == [False] * len(outages)


async def test_a_factory_that_asks_for_its_own_key_while_the_store_fails_is_an_error(
    gs: Scope, faults: Faults
) -> None:
    async def recursive() -> Any:
        return await gs.cache.get_or_set("key", recursive)

    async def recursive_when_it_fails() -> Any:
        with faults.fail("read"):
            return await gs.cache.get_or_set("key", recursive)

    with faults.fail("grant"), pytest.raises(RuntimeError, match="asks for 'key' itself"):
        await asyncio.wait_for(get(gs, recursive), 30)
    with pytest.raises(RuntimeError, match="asks for 'key' itself"):
        await asyncio.wait_for(get(gs, recursive_when_it_fails), 30)


# --- a store that does not answer ----------------------------------------------------------------


async def test_a_miss_waits_a_second_for_a_lease_then_computes(
    gs: Scope, faults: Faults, clock: FakeClock
) -> None:
    factory = CountingFactory()
    with faults.hang("grant"):
        call = get(gs, factory)
        await clock.advance("999ms")
        assert factory.calls == 0
        await clock.advance("1ms")
        assert await call == {"call": 1}
        began = clock.steady_ms()
        assert await get(gs, factory) == {"call": 2}
        assert clock.steady_ms() == began, "the next miss waited too"
    await ticks()
    assert await leases_of(gs).acquire("cache:key") is not None, "a late grant was kept"


async def test_a_computed_value_waits_a_second_to_be_stored(
    gs: Scope, faults: Faults, clock: FakeClock
) -> None:
    with faults.hang("set", "release"):
        call = get(gs, CountingFactory())
        await clock.advance("999ms")
        assert not call.done()
        await clock.advance("1ms")
        await ticks()
        assert call.done(), "it waits for the release too"
        assert await call == {"call": 1}
    await ticks()
    assert await leases_of(gs).acquire("cache:key") is not None, "the lease was not released"


async def test_a_caller_that_is_cancelled_while_the_store_does_not_answer_keeps_no_lease(
    gs: Scope, faults: Faults
) -> None:
    with faults.hang("grant"):
        call = get(gs, fail)
        await ticks()
        call.cancel()
        await ticks()
        assert not call.done(), "a request that was sent is waited for"
    await asyncio.wait([call])
    assert call.cancelled()
    assert await leases_of(gs).acquire("cache:key") is not None


async def test_a_call_that_is_cancelled_at_any_tick_keeps_no_lease(gs: Scope) -> None:
    for count in range(40):
        call = get(gs, CountingFactory(), f"key{count}")
        await ticks(count)
        call.cancel()
        await asyncio.wait([call])
        assert await leases_of(gs).acquire(f"cache:key{count}") is not None, count


async def test_waiting_for_another_process_is_not_waiting_for_the_store(
    gs: Scope, clock: FakeClock
) -> None:
    assert await leases_of(gs).acquire("cache:key", "20s") is not None
    call = get(gs, CountingFactory())
    with record_events(gs) as events:
        await clock.advance("19s")
        assert not call.done()
        await clock.advance("2s")
        assert await call == {"call": 1}
    assert CacheStoreFailed not in [type(event) for event in events]
    assert await gs.cache.has("key")


# --- invalidation --------------------------------------------------------------------------------


async def test_a_caller_after_an_invalidation_shares_nothing_computed_before_it(
    gs: Scope, faults: Faults
) -> None:
    """The store works again, but no call has asked it for a lease yet."""
    old, new = PausedCall(), PausedCall()
    with faults.fail("grant"):
        before = [get(gs, lambda: old.run("old")) for _ in range(2)]
        await old.started()
        await ticks()
    await gs.cache.delete("key")
    after = [get(gs, lambda: new.run("new")) for _ in range(2)]
    await new.started()
    old.resume()
    new.resume()
    assert await asyncio.gather(*before) == ["old"] * 2
    assert await asyncio.gather(*after) == ["new"] * 2
    assert (old.calls, new.calls) == (1, 1)


async def test_a_computation_without_the_store_is_not_shared_once_the_store_works_again(
    gs: Scope, faults: Faults, clock: FakeClock
) -> None:
    """Another process may have invalidated it in the meantime."""
    old, new = PausedCall(), PausedCall()
    with faults.fail("grant"):
        before = [get(gs, lambda: old.run("old")) for _ in range(2)]
        await old.started()
        await ticks()
    assert gs.persistence.cache is not None
    await gs.persistence.cache.delete("key")  # as another scope does
    await clock.advance("1s")
    after = get(gs, lambda: new.run("new"))
    await new.started()
    old.resume()
    new.resume()
    assert await asyncio.gather(*before, after) == ["old", "old", "new"]
    assert (old.calls, new.calls) == (1, 1)
    assert await gs.cache.get("key") == "new"


async def test_a_computation_of_one_outage_is_not_shared_in_the_next(
    gs: Scope, faults: Faults, clock: FakeClock
) -> None:
    old = PausedCall()
    with faults.fail("grant"):
        await get(gs, CountingFactory(), "other")
        before = get(gs, lambda: old.run("old"))
        await old.started()
    await clock.advance("1s")
    await get(gs, CountingFactory(), "other")
    assert gs.persistence.cache is not None
    await gs.persistence.cache.delete("key")  # as another scope does
    with faults.fail("grant"):
        await get(gs, CountingFactory(), "third")
        assert await get(gs, CountingFactory()) == {"call": 1}
    old.resume()
    assert await before == "old"


async def test_an_invalidation_that_fails_raises(gs: Scope, faults: Faults) -> None:
    with faults.fail("set"), pytest.raises(BackendBusy):
        await gs.cache.set("key", 1)
    with faults.fail("read"), pytest.raises(BackendUnavailable):
        await gs.cache.get("key")


# --- refreshes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", ["grant", "set"])
async def test_refresh_raises_since_the_old_value_would_stay(
    gs: Scope, faults: Faults, request_: str
) -> None:
    @gs.cached("1h", key="key")
    async def function() -> str:
        return "new"

    await gs.cache.set("key", "old")
    with faults.fail(request_), pytest.raises(BackendBusy):
        await function.refresh()
    assert await function() == "old"


async def test_a_stale_value_is_served_while_the_store_refuses_its_refresh(
    gs: Scope, faults: Faults, clock: FakeClock
) -> None:
    await gs.cache.set("key", "old", "5m", stale_for="1h")
    await clock.advance("6m")
    with record_events(gs) as events, faults.fail("grant"):
        for _ in range(5):
            value = await gs.cache.get_or_set("key", fail, ttl="5m", stale_for="1h")
            assert value == "old"
            await ticks()
    assert faults.requests["grant"] == 1
    kinds = [type(event) for event in events if not isinstance(event, CacheHit)]
    assert kinds == [CacheStoreFailed, CacheRefreshFailed]


# --- on_store_error ------------------------------------------------------------------------------


@EACH_REQUEST
async def test_raise_raises_the_error_of_the_store(
    gs: Scope, faults: Faults, request_: str
) -> None:
    factory = CountingFactory()

    @gs.cached("1h", key="key", on_store_error="raise")
    async def function() -> Any:
        return await factory()

    with record_events(gs) as events, faults.fail(request_):
        with pytest.raises(BackendError, match=f"the {request_} fails"):
            await function()
        with pytest.raises(BackendError, match=f"the {request_} fails"):
            _ = await gs.cache.get_or_set("key", factory, on_store_error="raise")
    assert factory.calls == (2 if request_ == "set" else 0)
    assert CacheStoreFailed not in [type(event) for event in events]


async def test_another_choice_is_refused(gs: Scope) -> None:
    other: Any = "local"

    async def function() -> None: ...

    with pytest.raises(ValueError, match="on_store_error must be 'compute' or 'raise', not 'loc"):
        gs.cached("1h", key="key", on_store_error=other)(function)
    with pytest.raises(ValueError, match="on_store_error must be 'compute' or 'raise', not 'loc"):
        _ = await gs.cache.get_or_set("key", fail, on_store_error=other)


async def test_a_closed_scope_and_a_missing_cache_are_errors(clock: FakeClock) -> None:
    adapter: Any = MemoryAdapter(clock=clock)
    adapter.cache = None
    gs = Scope(persistence=adapter)
    with pytest.raises(ScopeNotOpen):
        await get(gs, CountingFactory())
    async with gs:
        with pytest.raises(CapabilityMissing):
            await get(gs, CountingFactory())


async def test_an_outage_ends_with_the_scope(faults: Faults, clock: FakeClock) -> None:
    gs = faulty_scope(faults, clock)
    async with gs:
        with faults.fail("grant"):
            await get(gs, CountingFactory())
    async with gs:
        await get(gs, CountingFactory())
        assert await gs.cache.has("key")
