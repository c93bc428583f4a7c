"""``gs.cache.get_or_set``: an absent value is computed once, and every caller gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import pytest

from goscope import Scope, SerializationError
from goscope.backend.records import RecordCacheProvider
from goscope.events import CacheComputed, CacheCorrupt, CacheMiss, CacheRefreshFailed
from goscope.memory import MemoryAdapter
from goscope.testing import record_events

from .factories import CountingFactory, fail, store_stale
from .support import PausedCall, Store, leases_of, ticks, wait_until

pytestmark = pytest.mark.asyncio


@dataclass
class User:
    name: str


async def test_a_missing_value_is_computed_and_stored(store: Store, gs: Scope) -> None:
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


async def test_concurrent_callers_share_one_computation(gs: Scope) -> None:
    paused = PausedCall()
    callers = [
        asyncio.create_task(gs.cache.get_or_set("key", lambda: paused.run(7))) for _ in range(20)
    ]
    await paused.started()
    await ticks()
    paused.resume()
    assert await asyncio.gather(*callers) == [7] * 20
    assert paused.calls == 1


async def test_other_keys_are_computed_concurrently(gs: Scope) -> None:
    paused = PausedCall()
    slow = asyncio.create_task(gs.cache.get_or_set("slow", paused.run))
    await paused.started()
    assert await gs.cache.get_or_set("quick", CountingFactory()) == {"call": 1}
    paused.resume()
    await slow


async def test_other_processes_share_the_computation(store: Store, gs: Scope, other: Scope) -> None:
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


async def test_concurrent_callers_of_two_processes_compute_once(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    callers = [
        asyncio.create_task(scope.cache.get_or_set("key", lambda: paused.run(7)))
        for scope in (gs, other) * 4
    ]
    await paused.started()
    await store.wait_until_idle()
    paused.resume()
    await store.advance("1s")
    assert await asyncio.gather(*callers) == [7] * 8
    assert paused.calls == 1


class LateEntries(RecordCacheProvider):
    """Another process stores the value right after the first lookup."""

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        value = await super().get(key, default, type=type)
        await self.add(key, "theirs")
        return value


async def test_a_value_stored_between_lookup_and_grant_is_not_computed() -> None:
    adapter = MemoryAdapter()
    adapter.cache = LateEntries(adapter.context, adapter, adapter.lease.notifier)
    async with Scope(persistence=adapter) as gs:
        assert await gs.cache.get_or_set("key", fail) == "theirs"


class CountedEntries(LateEntries):
    """Counts how often an entry is read."""

    reads = 0

    async def get_entry(self, key: str, *, type: Any = None) -> Any:
        self.reads += 1
        return await super().get_entry(key, type=type)


@pytest.mark.parametrize("type", [None, str])
async def test_a_value_stored_between_lookup_and_grant_is_read_once(type: Any) -> None:
    adapter = MemoryAdapter()
    adapter.cache = entries = CountedEntries(adapter.context, adapter, adapter.lease.notifier)
    async with Scope(persistence=adapter) as gs:
        assert await gs.cache.get_or_set("key", fail, type=type) == "theirs"
    assert entries.reads == 1


async def test_a_value_that_is_set_directly_ends_the_wait(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused, factory = PausedCall(), CountingFactory()
    leader = asyncio.create_task(gs.cache.get_or_set("key", paused.run))
    await paused.started()
    follower = asyncio.create_task(other.cache.get_or_set("key", factory))
    await store.wait_until_idle()
    await other.cache.set("key", "set directly")
    await store.advance("1s")
    assert await asyncio.wait_for(follower, 10) == "set directly"
    paused.resume()
    await leader


@pytest.mark.parametrize("type", [None, dict[str, int]])
async def test_one_lookup_counts_once_in_the_statistics(gs: Scope, type: Any) -> None:
    for _ in range(3):
        await gs.cache.get_or_set("key", CountingFactory(), type=type)
    stats = await gs.cache.stats()
    assert (stats.misses, stats.hits) == (1, 2)


async def test_every_caller_gets_its_own_copy(gs: Scope) -> None:
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


async def test_a_miss_and_a_hit_return_equal_values(gs: Scope) -> None:
    """The caller that computed the value gets it as decoded from JSON, too."""

    async def factory() -> Any:
        return (1, 2)

    assert await gs.cache.get_or_set("key", factory) == [1, 2]
    assert await gs.cache.get_or_set("key", factory) == [1, 2]
    assert await gs.cache.get_or_set("other", factory, type=tuple[int, int]) == (1, 2)


async def test_the_caller_that_computes_and_those_that_wait_or_find_get_the_type(gs: Scope) -> None:
    async def factory() -> User:
        await ticks()
        return User("ada")

    def call() -> Awaitable[User]:
        return gs.cache.get_or_set("key", factory, type=User)

    assert [*await asyncio.gather(call(), call()), await call()] == [User("ada")] * 3


async def test_a_computed_value_that_does_not_fit_the_type_is_an_error(
    gs: Scope,
) -> None:
    async def factory() -> Any:
        return {"surname": "lovelace"}

    with pytest.raises(SerializationError, match="does not come back from JSON as User"):
        await gs.cache.get_or_set("key", factory, type=User)
    assert not await gs.cache.has("key")


async def test_a_stored_value_that_does_not_fit_the_type_is_computed_again(gs: Scope) -> None:
    """A deployment may have given the type another field."""
    await gs.cache.set("key", {"surname": "lovelace"})

    async def factory() -> User:
        return User("ada")

    assert await gs.cache.get_or_set("key", factory, type=User) == User("ada")
    assert await gs.cache.get("key") == {"name": "ada"}


async def test_a_value_that_does_not_fit_is_reported_once_however_long_the_wait(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    await other.cache.set("key", {"surname": "lovelace"})
    leader = asyncio.create_task(other.cache.get_or_set("key", paused.run, type=int))
    await paused.started()
    with record_events(gs) as events, record_events(other) as others:
        waiter = asyncio.create_task(gs.cache.get_or_set("key", CountingFactory(), type=User))
        await store.wait_until_idle()
        await store.advance("5s")
        assert not waiter.done()
    emitted = [type(event) for event in events + others]  # an adapter reports to its last scope
    assert sorted(emitted, key=str) == [CacheCorrupt, CacheMiss]
    waiter.cancel()
    paused.resume()
    await asyncio.wait([leader, waiter])


async def test_a_value_json_cannot_carry_is_refused(gs: Scope) -> None:
    async def factory() -> object:
        return object()

    with pytest.raises(SerializationError):
        await gs.cache.get_or_set("key", factory)
    assert not await gs.cache.has("key")


async def test_the_callers_of_the_leaders_process_share_its_error_and_none_is_stored(
    gs: Scope,
) -> None:
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


async def test_a_waiter_replaces_a_cancelled_leader(gs: Scope) -> None:
    paused = PausedCall()
    leader = asyncio.create_task(gs.cache.get_or_set("key", paused.run))
    await paused.started()
    factory = CountingFactory()
    followers = [asyncio.create_task(gs.cache.get_or_set("key", factory)) for _ in range(5)]
    await ticks()
    leader.cancel()
    assert await asyncio.gather(*followers) == [{"call": 1}] * 5
    assert leader.cancelled()


async def test_a_cancelled_waiter_does_not_affect_the_leader(gs: Scope) -> None:
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


async def test_another_process_replaces_a_failing_leader(
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


async def test_a_leader_that_died_is_replaced_when_its_lease_expires(
    store: Store, gs: Scope
) -> None:
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


async def test_a_computed_value_is_stored_with_its_ttl_and_tags(gs: Scope) -> None:
    await gs.cache.get_or_set("key", CountingFactory(), ttl="5m", tags=["numbers"])
    entry = await gs.cache.get_entry("key")
    assert entry is not None
    assert entry.expires_at is not None
    assert await gs.cache.delete_by_tag("numbers") == 1


async def test_get_or_set_does_not_wait_for_a_lock_of_the_same_name(gs: Scope) -> None:
    async with gs.lock("cache:key"), gs.lock("key"):
        assert await gs.cache.get_or_set("key", CountingFactory()) == {"call": 1}


async def test_a_factory_that_asks_for_its_own_key_is_an_error_for_every_caller(
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


async def test_a_factory_that_asks_for_its_own_key_through_another_is_an_error(
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


async def test_a_refresh_that_asks_for_its_own_key_is_reported_as_failed(
    store: Store, gs: Scope
) -> None:
    await store_stale(store, gs, CountingFactory())

    async def recursive() -> Any:
        return await gs.cache.get_or_set(
            "key", CountingFactory()
        )  # does not accept the stale value

    with record_events(gs) as events:
        await gs.cache.get_or_set("key", recursive, ttl="5m", stale_for="1h")
        await wait_until(lambda: isinstance(events[-1], CacheRefreshFailed))
    assert "asks for 'key' itself" in getattr(events[-1], "error", "")
