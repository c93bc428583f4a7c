"""The methods of ``gs.cache`` that the provider implements, with durations in units."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from goscope import MISSING, Scope

from .factories import CountingFactory
from .support import Store

pytestmark = pytest.mark.asyncio


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
    "set, stale_for": lambda cache, ttl: cache.set("key", 1, "5m", stale_for=ttl),
    "add": lambda cache, ttl: cache.add("key", 1, ttl),
    "set_many": lambda cache, ttl: cache.set_many({"key": 1}, ttl),
    "touch": lambda cache, ttl: cache.touch("key", ttl),
    "increment": lambda cache, ttl: cache.increment("key", 1, ttl),
    "get_or_set": lambda cache, ttl: cache.get_or_set("key", CountingFactory(), ttl=ttl),
    "get_or_set, stale_for": lambda cache, ttl: cache.get_or_set(
        "key", CountingFactory(), ttl="5m", stale_for=ttl
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_bare_number_is_not_a_duration(
    gs: Scope, call: Callable[[Any, Any], Awaitable[object]]
) -> None:
    with pytest.raises(TypeError, match=r"'300s' .* or '300ms'"):
        await call(gs.cache, 300)
    assert await gs.cache.keys() == []
