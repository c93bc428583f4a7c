"""A value whose computation began before a write to its key is not stored, and later callers
compute anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from goscope import Scope
from goscope.events import CacheComputed, CacheRefreshFailed
from goscope.testing import record_events

from .factories import CountingFactory, fail, store_stale
from .support import PausedCall, Store, block_loop, leases_of, ticks, wait_until

pytestmark = pytest.mark.asyncio

REMOVALS: dict[str, Callable[[Scope], Awaitable[object]]] = {
    "delete": lambda gs: gs.cache.delete("key"),
    "delete_many": lambda gs: gs.cache.delete_many(["other", "key"]),
    "delete_by_tag": lambda gs: gs.cache.delete_by_tag("tag"),
    "clear": lambda gs: gs.cache.clear(),
    "clear(pattern)": lambda gs: gs.cache.clear("k*"),
}

REPLACEMENTS: dict[str, Callable[[Scope], Awaitable[object]]] = {
    "set": lambda gs: gs.cache.set("key", 7),
    "set_many": lambda gs: gs.cache.set_many({"key": 7}),
    "add": lambda gs: gs.cache.add("key", 7),
    "increment": lambda gs: gs.cache.increment("key", 7),
}


@pytest.fixture(params=["this process", "another process"])
def writer(request: pytest.FixtureRequest, gs: Scope, other: Scope) -> Scope:
    """Where the write comes from, while ``gs`` computes."""
    return gs if request.param == "this process" else other


def get(gs: Scope, factory: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    return asyncio.create_task(gs.cache.get_or_set("key", factory, ttl="1h", tags=["tag"]))


@pytest.mark.parametrize("name", REMOVALS)
async def test_a_caller_after_a_removal_gets_a_value_computed_after_it(
    gs: Scope, writer: Scope, name: str
) -> None:
    paused, factory = PausedCall(), CountingFactory()
    with record_events(gs) as events:
        before = get(gs, lambda: paused.run("old"))
        await paused.started()
        await REMOVALS[name](writer)
        assert await asyncio.wait_for(get(gs, factory), 30) == {"call": 1}
        paused.resume()
        assert await before == "old", "it called before the removal"
    assert await gs.cache.get("key") == {"call": 1}
    computed = [event for event in events if isinstance(event, CacheComputed)]
    assert [event.stored for event in computed] == [True, False]


@pytest.mark.parametrize("name", REMOVALS)
async def test_what_was_computed_before_a_removal_is_not_stored(
    gs: Scope, writer: Scope, name: str
) -> None:
    paused = PausedCall()
    before = get(gs, lambda: paused.run("old"))
    await paused.started()
    await REMOVALS[name](writer)
    paused.resume()
    assert await before == "old"
    assert not await gs.cache.has("key")
    assert await get(gs, CountingFactory()) == {"call": 1}


@pytest.mark.parametrize("name", REPLACEMENTS)
async def test_a_newer_value_is_not_overwritten_by_an_older_computation(
    gs: Scope, writer: Scope, name: str
) -> None:
    paused = PausedCall()
    before = get(gs, lambda: paused.run("old"))
    await paused.started()
    await REPLACEMENTS[name](writer)
    assert await get(gs, fail) == 7
    paused.resume()
    assert await before == "old"
    assert await gs.cache.get("key") == 7


async def test_a_touch_supersedes_no_computation(gs: Scope) -> None:
    paused = PausedCall()
    computing = get(gs, lambda: paused.run("new"))
    await paused.started()
    assert not await gs.cache.touch("key", "1h")
    assert not await gs.cache.delete("other")
    await gs.cache.delete_by_tag("another tag")
    paused.resume()
    assert await computing == await gs.cache.get("key") == "new"


async def test_callers_before_a_removal_share_the_old_value_and_those_after_it_a_new_one(
    gs: Scope, writer: Scope
) -> None:
    old, new = PausedCall(), PausedCall()
    before = [get(gs, lambda: old.run("old")) for _ in range(3)]
    await old.started()
    await ticks()
    await writer.cache.delete("key")
    after = [get(gs, lambda: new.run("new")) for _ in range(5)]
    await new.started()
    await ticks()
    old.resume()
    assert await asyncio.gather(*before) == ["old"] * 3
    after += [get(gs, lambda: new.run("new")) for _ in range(2)]
    await ticks()
    new.resume()
    assert await asyncio.gather(*after) == ["new"] * 7
    assert (old.calls, new.calls) == (1, 1)


async def test_each_of_several_removals_supersedes_what_began_before_it(gs: Scope) -> None:
    computations = [PausedCall() for _ in range(4)]
    calls: list[asyncio.Task[Any]] = []
    for number, paused in enumerate(computations):
        calls.append(get(gs, partial(paused.run, number)))
        await paused.started()
        if paused is not computations[-1]:
            await gs.cache.delete("key")
    for paused in reversed(computations):
        paused.resume()
    assert await asyncio.gather(*calls) == [0, 1, 2, 3]
    assert await gs.cache.get("key") == 3


async def test_the_error_of_a_superseded_computation_goes_only_to_its_callers(gs: Scope) -> None:
    paused = PausedCall()

    async def failing() -> None:
        await paused.run()
        await fail()

    before = [get(gs, failing) for _ in range(2)]
    await paused.started()
    await ticks()
    await gs.cache.delete("key")
    new = PausedCall()
    after = get(gs, lambda: new.run("new"))
    await new.started()
    paused.resume()
    errors = await asyncio.gather(*before, return_exceptions=True)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2
    new.resume()
    assert await after == await gs.cache.get("key") == "new"


async def test_the_waiters_of_a_cancelled_superseded_leader_share_the_new_computation(
    gs: Scope,
) -> None:
    old, new = PausedCall(), PausedCall()
    leader = get(gs, old.run)
    await old.started()
    waiter = get(gs, fail)
    await ticks()
    await gs.cache.delete("key")
    after = get(gs, lambda: new.run("new"))
    await new.started()
    leader.cancel()
    await ticks()
    new.resume()
    assert [await waiter, await after] == ["new", "new"]


async def test_a_waiter_in_another_process_computes_as_soon_as_the_value_is_removed(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused, factory = PausedCall(), CountingFactory()
    computing = get(gs, lambda: paused.run("old"))
    await paused.started()
    waiter = get(other, factory)
    await store.wait_until_idle()
    assert not waiter.done()
    await gs.cache.delete("key")
    await store.advance("1s")
    assert await asyncio.wait_for(waiter, 30) == {"call": 1}
    paused.resume()
    assert await computing == "old"
    assert await gs.cache.get("key") == {"call": 1}


async def test_a_waiter_in_this_process_is_woken_by_the_removal(gs: Scope) -> None:
    """Without any time passing on the clock."""
    paused, factory = PausedCall(), CountingFactory()
    computing = get(gs, lambda: paused.run("old"))
    await paused.started()

    @gs.cached("1h", key="key")
    async def function() -> Any:
        return await factory()

    refreshing = asyncio.create_task(function.refresh())
    await ticks()
    assert not refreshing.done()
    await function.invalidate()
    assert await asyncio.wait_for(refreshing, 30) == {"call": 1}
    paused.resume()
    await computing


async def test_a_background_refresh_that_was_superseded_stores_nothing(
    store: Store, gs: Scope, writer: Scope
) -> None:
    await store_stale(store, gs, CountingFactory())
    paused = PausedCall()
    with record_events(gs) as events:
        stale = await gs.cache.get_or_set(
            "key", lambda: paused.run("old"), ttl="5m", stale_for="1h"
        )
        assert stale == {"call": 1}
        await paused.started()
        await writer.cache.delete("key")
        new = await gs.cache.get_or_set("key", CountingFactory(), ttl="5m", stale_for="1h")
        paused.resume()
        await wait_until(lambda: len([it for it in events if isinstance(it, CacheComputed)]) == 2)
        await store.wait_until_idle()
    assert new == await gs.cache.get("key") == {"call": 1}
    assert not [event for event in events if isinstance(event, CacheRefreshFailed)]


async def test_a_refresh_that_was_superseded_returns_its_value_unstored(
    gs: Scope, writer: Scope
) -> None:
    paused = PausedCall()

    @gs.cached("1h", key="key")
    async def function() -> Any:
        return await paused.run("old")

    await gs.cache.set("key", "first")
    refreshing = asyncio.create_task(function.refresh())
    await paused.started()
    await writer.cache.delete("key")
    paused.resume()
    assert await refreshing == "old"
    assert not await gs.cache.has("key")


async def test_invalidating_a_cached_method_supersedes_its_computation(gs: Scope) -> None:
    class Table:
        name = "users"
        row = "old"
        paused = PausedCall()

        @gs.cached("1h", key="{number}", tags=["rows"])
        async def read(self, number: int) -> Any:
            row = self.row
            await self.paused.run()
            return row

    table = Table()
    before = asyncio.create_task(table.read(1))
    await table.paused.started()
    table.row = "new"
    await table.read.invalidate(1)
    after = asyncio.create_task(table.read(1))
    await table.paused.started()
    table.paused.resume()
    assert [await before, await after, await table.read(1)] == ["old", "new", "new"]


async def test_a_factory_that_removes_its_own_key_stores_nothing(gs: Scope) -> None:
    """The documentation says so: such a value is computed at every call."""

    async def factory() -> str:
        await gs.cache.delete("key")
        return "value"

    assert await get(gs, factory) == "value"
    assert not await gs.cache.has("key")


async def test_an_expired_lease_that_was_removed_stores_nothing(store: Store, gs: Scope) -> None:
    paused = PausedCall()
    computing = get(gs, lambda: paused.run("old"))
    await paused.started()
    block_loop(store.clock, 60_000)
    await gs.cache.delete("key")
    paused.resume()
    assert await computing == "old"
    assert not await gs.cache.has("key")


async def test_a_computation_that_outlived_its_lease_is_still_shared(
    store: Store, gs: Scope
) -> None:
    """While it blocked the event loop, nobody took its lease."""
    paused = PausedCall()
    computing = get(gs, lambda: paused.run("value"))
    await paused.started()
    block_loop(store.clock, 60_000)
    follower = get(gs, fail)
    await ticks()
    paused.resume()
    assert await computing == await follower == await gs.cache.get("key") == "value"


async def test_a_caller_after_a_takeover_does_not_share_the_computation_that_lost_its_lease(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused, theirs = PausedCall(), PausedCall()
    late = get(gs, lambda: paused.run("late"))
    await paused.started()
    await leases_of(gs).force_release("cache:key")
    taken = get(other, lambda: theirs.run("theirs"))
    await theirs.started()
    follower = get(gs, fail)
    await ticks()
    theirs.resume()
    assert await taken == "theirs"
    await store.advance("1s")
    assert await asyncio.wait_for(follower, 30) == "theirs"
    paused.resume()
    assert await late == "late"
