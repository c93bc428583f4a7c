"""``gs.cache``: the provider's methods with strict durations, and computing a value once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from goscope import MISSING, CorruptValue, Scope, SerializationError
from goscope.backend.records import RecordCacheProvider
from goscope.events import (
    CacheComputed,
    CacheCorrupt,
    CacheHit,
    CacheMiss,
    CacheRefreshFailed,
)
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock, record_events

from .support import PausedCall, Store, leases_of, ticks, wait_until

pytestmark = pytest.mark.asyncio


@dataclass
class User:
    name: str


class CountingFactory:
    """A factory whose value is the number of its call."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> Any:
        self.calls += 1
        return {"call": self.calls}


async def fail() -> Any:
    raise ZeroDivisionError


# --- the provider's methods ------------------------------------------------------------------


async def test_the_methods_reach_the_store(gs: Scope, other: Scope) -> None:
    cache, seen = gs.cache, other.cache
    await cache.set("one", 1, "5m", tags=["numbers"])
    assert await seen.get("one") == 1
    assert await seen.get("none", MISSING) is MISSING
    assert await cache.add("one", 2) is False
    assert await cache.add("two", 2, "5m") is True
    await cache.set_many({"three": 3, "four": 4}, "5m")
    assert await seen.get_many(["three", "four", "five"]) == {"three": 3, "four": 4}
    assert await seen.keys("t*") == ["three", "two"]
    assert [key async for key in seen.scan("f*")] == ["four"]
    assert await cache.increment("hits", 2, "5m") == 2
    assert await cache.touch("two", None) is True
    entry = await seen.get_entry("two")
    assert entry is not None
    assert entry.expires_at is None
    assert await cache.delete_by_tag("numbers") == 1
    assert await cache.has("one") is False
    assert await cache.delete("two") is True
    assert await cache.delete_many(["three", "nine"]) == 1
    assert (await cache.stats()).entries == 2
    await cache.clear("h*")
    assert await seen.keys() == ["four"]


async def test_prune_removes_what_has_expired(store: Store, gs: Scope) -> None:
    await gs.cache.set("one", 1, "1s")
    store.clock.step_wall("2s")
    assert await gs.cache.prune() == 1


CALLS: dict[str, Callable[[Any, Any], Awaitable[object]]] = {
    "set": lambda cache, ttl: cache.set("key", 1, ttl),
    "set, stale": lambda cache, ttl: cache.set("key", 1, "5m", stale_for=ttl),
    "add": lambda cache, ttl: cache.add("key", 1, ttl),
    "set_many": lambda cache, ttl: cache.set_many({"key": 1}, ttl),
    "touch": lambda cache, ttl: cache.touch("key", ttl),
    "increment": lambda cache, ttl: cache.increment("key", 1, ttl),
    "get_or_set": lambda cache, ttl: cache.get_or_set("key", CountingFactory(), ttl=ttl),
    "get_or_set, stale": lambda cache, ttl: cache.get_or_set(
        "key", CountingFactory(), ttl="5m", stale_for=ttl
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_bare_number_is_no_duration(
    gs: Scope, call: Callable[[Any, Any], Awaitable[object]]
) -> None:
    with pytest.raises(TypeError, match=r"'300s' .* or '300ms'"):
        await call(gs.cache, 300)
    assert await gs.cache.keys() == []


# --- get_or_set ------------------------------------------------------------------------------


async def test_a_missing_value_is_computed_and_kept(store: Store, gs: Scope) -> None:
    factory = CountingFactory()
    for _ in range(2):
        assert await gs.cache.get_or_set("key", factory, ttl="5m") == {"call": 1}
    store.clock.step_wall("6m")
    assert await gs.cache.get_or_set("key", factory, ttl="5m") == {"call": 2}


async def test_a_stored_none_is_a_hit(gs: Scope) -> None:
    calls = 0

    async def nothing() -> Any:
        nonlocal calls
        calls += 1

    assert await gs.cache.get_or_set("key", nothing) is None
    assert await gs.cache.get_or_set("key", nothing) is None
    assert calls == 1


async def test_one_computation_serves_all_who_came_meanwhile(gs: Scope) -> None:
    paused = PausedCall()
    callers = [
        asyncio.create_task(gs.cache.get_or_set("key", lambda: paused.run(7))) for _ in range(20)
    ]
    await paused.started()
    await ticks()
    paused.resume()
    assert await asyncio.gather(*callers) == [7] * 20
    assert paused.calls == 1


async def test_other_keys_are_computed_meanwhile(gs: Scope) -> None:
    paused = PausedCall()
    slow = asyncio.create_task(gs.cache.get_or_set("slow", paused.run))
    await paused.started()
    assert await gs.cache.get_or_set("quick", CountingFactory()) == {"call": 1}
    paused.resume()
    await slow


async def test_one_computation_serves_other_processes_too(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused, factory = PausedCall(), CountingFactory()
    leader = asyncio.create_task(gs.cache.get_or_set("key", lambda: paused.run(7)))
    await paused.started()
    follower = asyncio.create_task(other.cache.get_or_set("key", factory))
    await store.wait_until_idle()
    await store.advance("15s")  # more than a lease: it is renewed
    assert not follower.done()
    paused.resume()
    assert await leader == 7
    await store.advance("1s")
    assert await follower == 7
    assert factory.calls == 0


class LateEntries(RecordCacheProvider):
    """Another process stores the value just after it was first looked for."""

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        value = await super().get(key, default, type=type)
        await self.add(key, "meanwhile")
        return value


async def test_a_value_stored_between_look_and_grant_is_not_computed() -> None:
    adapter = MemoryAdapter()
    adapter.cache = LateEntries(adapter.context, adapter)
    async with Scope(persistence=adapter) as gs:
        assert await gs.cache.get_or_set("key", fail) == "meanwhile"


class CountedEntries(LateEntries):
    """Counts how often an entry is read."""

    reads = 0

    async def get_entry(self, key: str, *, type: Any = None) -> Any:
        self.reads += 1
        return await super().get_entry(key, type=type)


@pytest.mark.parametrize("type", [None, str])
async def test_a_value_stored_meanwhile_is_read_once(type: Any) -> None:
    adapter = MemoryAdapter()
    adapter.cache = entries = CountedEntries(adapter.context, adapter)
    async with Scope(persistence=adapter) as gs:
        assert await gs.cache.get_or_set("key", fail, type=type) == "meanwhile"
    assert entries.reads == 1


async def test_a_value_set_by_hand_ends_the_wait(store: Store, gs: Scope, other: Scope) -> None:
    paused, factory = PausedCall(), CountingFactory()
    leader = asyncio.create_task(gs.cache.get_or_set("key", paused.run))
    await paused.started()
    follower = asyncio.create_task(other.cache.get_or_set("key", factory))
    await store.wait_until_idle()
    await other.cache.set("key", "by hand")
    await store.advance("1s")
    assert await asyncio.wait_for(follower, 10) == "by hand"
    paused.resume()
    await leader


@pytest.mark.parametrize("type", [None, dict[str, int]])
async def test_one_lookup_counts_once_in_the_statistics(gs: Scope, type: Any) -> None:
    for _ in range(3):
        await gs.cache.get_or_set("key", CountingFactory(), type=type)
    stats = await gs.cache.stats()
    assert (stats.misses, stats.hits) == (1, 2)


async def test_everyone_gets_a_copy_of_its_own(gs: Scope) -> None:
    made = {"list": [1]}

    async def factory() -> dict[str, list[int]]:
        await ticks()
        return made

    one, two = await asyncio.gather(
        gs.cache.get_or_set("key", factory), gs.cache.get_or_set("key", factory)
    )
    three = await gs.cache.get_or_set("key", factory)
    one["list"].append(2)
    two["list"].append(3)
    assert made == three == await gs.cache.get("key") == {"list": [1]}


async def test_a_miss_and_a_hit_are_the_same_value(gs: Scope) -> None:
    """What JSON changes, it changes for the one who computed it too."""

    async def factory() -> Any:
        return (1, 2)

    assert await gs.cache.get_or_set("key", factory) == [1, 2]
    assert await gs.cache.get_or_set("key", factory) == [1, 2]
    assert await gs.cache.get_or_set("other", factory, type=tuple[int, int]) == (1, 2)


async def test_the_type_is_built_for_who_computes_who_waits_and_who_finds(gs: Scope) -> None:
    async def factory() -> User:
        await ticks()
        return User("ada")

    def call() -> Awaitable[User]:
        return gs.cache.get_or_set("key", factory, type=User)

    assert [*await asyncio.gather(call(), call()), await call()] == [User("ada")] * 3


async def test_a_value_that_does_not_fit_the_type_is_an_error_for_the_one_who_computed(
    gs: Scope,
) -> None:
    async def factory() -> Any:
        return {"surname": "lovelace"}

    with pytest.raises(CorruptValue, match="key"):
        await gs.cache.get_or_set("key", factory, type=User)


async def test_a_stored_value_that_does_not_fit_the_type_is_computed_anew(gs: Scope) -> None:
    """As after a deployment that gave the type another field."""
    await gs.cache.set("key", {"surname": "lovelace"})

    async def factory() -> User:
        return User("ada")

    assert await gs.cache.get_or_set("key", factory, type=User) == User("ada")
    assert await gs.cache.get("key") == {"name": "ada"}


async def test_a_value_that_does_not_fit_is_told_once_however_long_the_wait(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    leader = asyncio.create_task(other.cache.get_or_set("key", paused.run))
    await paused.started()
    await other.cache.set("key", {"surname": "lovelace"})
    with record_events(gs) as events, record_events(other) as others:
        waiter = asyncio.create_task(gs.cache.get_or_set("key", CountingFactory(), type=User))
        await store.wait_until_idle()
        await store.advance("5s")
        assert not waiter.done()
    told = [type(event) for event in events + others]  # an adapter tells the last scope on it
    assert sorted(told, key=str) == [CacheCorrupt, CacheMiss]
    waiter.cancel()
    paused.resume()
    await asyncio.wait([leader, waiter])


async def test_a_value_json_cannot_carry_is_refused(gs: Scope) -> None:
    async def factory() -> object:
        return object()

    with pytest.raises(SerializationError):
        await gs.cache.get_or_set("key", factory)
    assert not await gs.cache.has("key")


async def test_the_leaders_error_is_everyones_in_its_process_and_is_not_kept(gs: Scope) -> None:
    paused = PausedCall()

    async def failing() -> None:
        await paused.run()
        await fail()

    callers = [asyncio.create_task(gs.cache.get_or_set("key", failing)) for _ in range(5)]
    await paused.started()
    paused.resume()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 5
    assert paused.calls == 1
    assert await gs.cache.get_or_set("key", CountingFactory()) == {"call": 1}


async def test_a_cancelled_leader_is_replaced_by_one_who_waits(gs: Scope) -> None:
    paused = PausedCall()
    leader = asyncio.create_task(gs.cache.get_or_set("key", paused.run))
    await paused.started()
    factory = CountingFactory()
    followers = [asyncio.create_task(gs.cache.get_or_set("key", factory)) for _ in range(5)]
    await ticks()
    leader.cancel()
    assert await asyncio.gather(*followers) == [{"call": 1}] * 5
    assert leader.cancelled()


async def test_a_cancelled_waiter_disturbs_nobody(gs: Scope) -> None:
    paused = PausedCall()
    leader, waiter = (
        asyncio.create_task(gs.cache.get_or_set("key", lambda: paused.run(7))) for _ in range(2)
    )
    await paused.started()
    await ticks()
    waiter.cancel()
    await asyncio.wait([waiter])
    paused.resume()
    assert await leader == 7


async def test_a_failing_leader_is_replaced_in_another_process(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()

    async def failing() -> None:
        await paused.run()
        await fail()

    leader = asyncio.create_task(gs.cache.get_or_set("key", failing))
    await paused.started()
    follower = asyncio.create_task(other.cache.get_or_set("key", CountingFactory()))
    await store.wait_until_idle()
    paused.resume()
    with pytest.raises(ZeroDivisionError):
        await leader
    await store.advance("1s")
    assert await asyncio.wait_for(follower, 10) == {"call": 1}


async def test_a_leader_that_died_is_replaced_when_its_lease_ends(store: Store, gs: Scope) -> None:
    assert await leases_of(gs).acquire("cache:key", "10s") is not None
    call = asyncio.create_task(gs.cache.get_or_set("key", CountingFactory()))
    await store.wait_until_idle()
    await store.advance("9s")
    assert not call.done()
    await store.advance("2s")
    await wait_until(call.done)
    assert await call == {"call": 1}


async def test_a_leader_that_lost_its_lease_returns_its_value_unstored(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    with record_events(gs) as events:
        leader = asyncio.create_task(gs.cache.get_or_set("key", lambda: paused.run("late")))
        await paused.started()
        await leases_of(gs).force_release("cache:key")
        assert await other.cache.get_or_set("key", CountingFactory()) == {"call": 1}
        await store.advance("20s")
        assert not leader.done(), "the factory is not cancelled"
        paused.resume()
        assert await leader == "late"
    assert await gs.cache.get("key") == {"call": 1}
    (refreshed,) = (event for event in events if isinstance(event, CacheComputed))
    assert refreshed.stored is False


async def test_tags_and_ttl_go_with_the_value(gs: Scope) -> None:
    await gs.cache.get_or_set("key", CountingFactory(), ttl="5m", tags=["numbers"])
    entry = await gs.cache.get_entry("key")
    assert entry is not None
    assert entry.expires_at is not None
    assert await gs.cache.delete_by_tag("numbers") == 1


async def test_it_does_not_wait_for_a_users_lock_of_the_same_name(gs: Scope) -> None:
    async with gs.lock("cache:key"), gs.lock("key"):
        assert await gs.cache.get_or_set("key", CountingFactory()) == {"call": 1}


# --- a factory that asks for its own key ------------------------------------------------------


async def test_a_factory_that_asks_for_its_own_key_is_an_error_for_all_who_wait(
    gs: Scope,
) -> None:
    paused = PausedCall()

    async def recursive() -> Any:
        await paused.run()
        return await gs.cache.get_or_set("key", recursive)

    callers = [asyncio.create_task(gs.cache.get_or_set("key", recursive)) for _ in range(3)]
    await paused.started()
    paused.resume()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*callers, return_exceptions=True)
    assert ["'key' asks for 'key' itself" in str(answer) for answer in answers] == [True] * 3
    assert {type(answer) for answer in answers} == {RuntimeError}
    assert paused.calls == 1
    assert await gs.cache.get_or_set("key", CountingFactory()) == {"call": 1}


async def test_a_factory_that_asks_for_its_own_key_by_way_of_another_is_an_error(
    gs: Scope,
) -> None:
    async def one() -> Any:
        return await gs.cache.get_or_set("two", two)

    async def two() -> Any:
        return await gs.cache.get_or_set("one", one)

    with pytest.raises(RuntimeError, match="'one' asks for 'one' itself"):
        await asyncio.wait_for(gs.cache.get_or_set("one", one), 10)


async def test_a_factory_may_start_a_task_that_asks_for_its_key_later(gs: Scope) -> None:
    """The task waits for the factory; the factory does not wait for it."""
    later: list[asyncio.Task[Any]] = []

    async def factory() -> Any:
        later.append(asyncio.create_task(gs.cache.get_or_set("key", fail)))
        await ticks()
        return 7

    assert await gs.cache.get_or_set("key", factory) == 7
    assert await later[0] == 7


async def test_a_refresh_that_asks_for_its_own_key_is_told_as_failed(
    store: Store, gs: Scope
) -> None:
    await kept_stale(store, gs, CountingFactory())

    async def recursive() -> Any:
        return await gs.cache.get_or_set("key", CountingFactory())  # would not take the stale value

    with record_events(gs) as events:
        await gs.cache.get_or_set("key", recursive, ttl="5m", stale_for="1h")
        await wait_until(lambda: isinstance(events[-1], CacheRefreshFailed))
    assert "asks for 'key' itself" in getattr(events[-1], "error", "")


# --- stale values ----------------------------------------------------------------------------


async def kept_stale(store: Store, gs: Scope, factory: CountingFactory) -> None:
    """A value that has expired and may be served for an hour more."""
    await gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h")
    store.clock.step_wall("6m")


async def test_a_stale_value_is_served_while_one_caller_refreshes(store: Store, gs: Scope) -> None:
    factory, paused = CountingFactory(), PausedCall()
    await kept_stale(store, gs, factory)

    async def refresh() -> Any:
        await paused.run()
        return await factory()

    for _ in range(5):
        value = await gs.cache.get_or_set("key", refresh, ttl="5m", stale_for="1h")
        assert value == {"call": 1}
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


async def test_one_process_refreshes_for_all(store: Store, gs: Scope, other: Scope) -> None:
    factory, paused = CountingFactory(), PausedCall()
    await kept_stale(store, gs, factory)
    assert await gs.cache.get_or_set("key", paused.run, ttl="5m", stale_for="1h") == {"call": 1}
    await paused.started()
    assert await other.cache.get_or_set("key", factory, ttl="5m", stale_for="1h") == {"call": 1}
    await store.wait_until_idle()
    assert factory.calls == 1
    paused.resume()
    await store.wait_until_idle()


class RefreshedEntries(RecordCacheProvider):
    """Another process refreshes the value just after it was seen to be stale."""

    async def get_entry(self, key: str, *, type: Any = None) -> Any:
        entry = await super().get_entry(key, type=type)
        await self.set(key, "new")
        return entry


async def test_a_value_refreshed_between_look_and_grant_is_not_refreshed_again() -> None:
    clock = FakeClock()
    adapter = MemoryAdapter(clock=clock)
    adapter.cache = RefreshedEntries(adapter.context, adapter)
    async with Scope(persistence=adapter) as gs:
        await gs.cache.set("key", "old", "5m", stale_for="1h")
        await clock.advance("6m")
        with record_events(gs) as events:
            value = await gs.cache.get_or_set("key", fail, ttl="5m", stale_for="1h")
            await ticks()
    assert value == "old"
    assert [type(event) for event in events] == [CacheHit], "a refresh would have failed"


async def test_past_its_stale_time_a_value_is_computed_in_front_of_the_caller(
    store: Store, gs: Scope
) -> None:
    factory = CountingFactory()
    await kept_stale(store, gs, factory)
    store.clock.step_wall("1h")
    assert await gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h") == {"call": 2}


async def test_get_does_not_serve_stale_values(store: Store, gs: Scope) -> None:
    await kept_stale(store, gs, CountingFactory())
    assert await gs.cache.get("key") is None


async def test_a_failed_refresh_is_told_and_tried_again(store: Store, gs: Scope) -> None:
    factory = CountingFactory()
    await kept_stale(store, gs, factory)
    with record_events(gs) as events:
        for _ in range(2):
            value = await gs.cache.get_or_set("key", fail, ttl="5m", stale_for="1h")
            assert value == {"call": 1}
            await wait_until(lambda: isinstance(events[-1], CacheRefreshFailed))
            await ticks()  # the refresh is over only after it has told of its failure
    failures = [event for event in events if isinstance(event, CacheRefreshFailed)]
    assert [event.error for event in failures] == ["ZeroDivisionError()"] * 2


async def test_closing_ends_a_refresh_and_a_later_one_is_not_kept_from_running(
    store: Store,
) -> None:
    factory, paused = CountingFactory(), PausedCall()
    gs = store.scope()
    async with gs:
        await kept_stale(store, gs, factory)
        await gs.cache.get_or_set("key", paused.run, ttl="5m", stale_for="1h")
        # Closed before the refresh has made a single step.
    assert paused.running == 0
    async with gs:
        await gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h")
        await wait_until(lambda: factory.calls == 2)
        await store.wait_until_idle()


async def test_stale_needs_a_ttl(gs: Scope) -> None:
    with pytest.raises(ValueError, match="stale_for needs a ttl"):
        await gs.cache.get_or_set("key", CountingFactory(), stale_for="1h")


# --- events ----------------------------------------------------------------------------------


async def test_lookups_tell_hit_miss_stale_and_refreshed(store: Store, gs: Scope) -> None:
    factory = CountingFactory()
    with record_events(gs) as events:
        await gs.cache.get("key")
        await kept_stale(store, gs, factory)
        await gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h")
        await wait_until(lambda: factory.calls == 2)
        await store.wait_until_idle()
        await gs.cache.get("key")
    assert [event.key for event in events] == ["key"] * 6
    told = [(type(event), getattr(event, "stale", None)) for event in events]
    assert told == [
        (CacheMiss, None),
        (CacheMiss, None),
        (CacheComputed, None),
        (CacheHit, True),
        (CacheComputed, None),
        (CacheHit, False),
    ]


@pytest.mark.parametrize("stored", [False, True])
async def test_the_duration_of_a_hit_or_miss_is_the_lookup(
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


async def test_the_duration_of_a_failed_refresh_is_how_long_it_tried(
    store: Store, gs: Scope
) -> None:
    await kept_stale(store, gs, CountingFactory())
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


async def test_the_duration_of_a_refreshed_value_is_its_computation(
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
