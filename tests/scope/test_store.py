"""``gs.store(name)``: a collection that cache-wide calls leave alone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import Struct

from goscope import (
    MISSING,
    ConfigurationError,
    CorruptValue,
    LeaseLost,
    Scope,
    ScopeNotOpen,
)
from goscope.inspection import CollectionInfo

from .support import PausedCall, Store

pytestmark = pytest.mark.asyncio


class Session(Struct):
    user: int
    roles: tuple[str, ...] = ()


async def test_a_collection_outlives_everything_that_is_done_to_the_cache(gs: Scope) -> None:
    sessions = gs.store("sessions")
    await sessions.set("a", Session(7, ("admin",)), tags=["user:7"])
    await gs.cache.set("a", 1, tags=["user:7"])
    await gs.cache.delete_by_tag("user:7")
    await gs.cache.clear()
    await gs.cache.prune()
    await gs.store("settings").clear()
    assert await sessions.get("a", type=Session) == Session(7, ("admin",))
    assert await gs.cache.keys() == []
    assert (await gs.cache.stats()).entries == 0
    assert await sessions.count() == 1
    assert await sessions.delete_by_tag("user:7") == 1


async def test_the_methods_of_the_cache_work_on_a_collection(gs: Scope, store: Store) -> None:
    box = gs.store("box")
    assert await box.add("a", None, "2s")
    assert not await box.add("a", 1)
    assert await box.has("a")
    assert await box.get("a", MISSING) is None
    assert await box.get("b", "default") == "default"
    await box.set_many({"b": 1, "c": 2}, timedelta(seconds=2))
    assert await box.increment("b", 4) == 5
    assert await box.get_many(["a", "b", "x"]) == {"a": None, "b": 5}
    assert await box.keys() == ["a", "b", "c"]
    assert [key async for key in box.scan("*")] == ["a", "b", "c"]
    assert await box.touch("c", "2h")
    entry = await box.get_entry("c")
    assert entry is not None
    assert entry.expires_in_ms == 7_200_000
    assert await box.delete_many(["a", "x"]) == 1
    await store.advance("2s")
    assert await box.keys() == ["c"]
    assert await box.delete("c")
    await box.clear()
    assert await box.count() == 0


async def test_a_collection_is_shared_by_all_that_name_it(gs: Scope, other: Scope) -> None:
    await gs.store("box").set("key", 1)
    assert await other.store("box").get("key") == 1
    assert await gs.store("box").get("key") == 1
    assert await gs.store("Box").get("key") is None


async def test_a_collection_may_be_named_before_its_scope_is_open(store: Store) -> None:
    gs = store.scope()
    box = gs.store("box")
    with pytest.raises(ScopeNotOpen):
        await box.get("key")
    for value in (1, 2):  # the scope is opened twice, and has another adapter the second time
        async with gs:
            await box.set("key", value)
            assert await box.get("key") == value


@pytest.mark.parametrize("name", ["", "a:b", "a b", "*", "x" * 65])
async def test_an_invalid_name_is_refused_at_once(gs: Scope, name: str) -> None:
    with pytest.raises(ValueError, match="name of a collection"):
        gs.store(name)


async def test_bare_numbers_are_refused_as_everywhere(gs: Scope) -> None:
    number: Any = 5
    with pytest.raises(TypeError):
        await gs.store("box").set("key", 1, number)
    with pytest.raises(TypeError):
        await gs.store("box").get_or_set("key", dict, ttl=number)


async def test_a_value_of_another_type_is_an_error_and_stays(gs: Scope) -> None:
    box = gs.store("box")
    await box.set("key", "text")
    with pytest.raises(CorruptValue):
        await box.get("key", type=Session)
    with pytest.raises(CorruptValue):
        await box.get_or_set("key", dict, type=Session)
    assert await box.get("key") == "text"


async def test_a_lock_fences_the_writes_to_a_collection(gs: Scope) -> None:
    async with gs.lock("key") as lock:
        await gs.store("box").set("key", 1, fence=lock)
    with pytest.raises(LeaseLost):
        await gs.store("box").set("key", 2, fence=lock)
    assert await gs.store("box").get("key") == 1


# --- get_or_set ----------------------------------------------------------------------------------


async def test_one_computation_fills_a_key_for_all_scopes(
    gs: Scope, other: Scope, store: Store
) -> None:
    pause = PausedCall()
    calls = [
        asyncio.ensure_future(scope.store("box").get_or_set("key", partial(pause.run, 1)))
        for scope in (gs, gs, other, other)
    ]
    await pause.started(1)
    pause.resume()
    await store.advance("2s")  # the other scope polls
    assert await asyncio.gather(*calls) == [1] * 4
    assert pause.calls == 1
    assert await gs.store("box").get("key") == 1


async def test_a_write_during_the_computation_wins(gs: Scope) -> None:
    """The caller gets what is stored: two callers never act on two values of one key."""
    pause, box = PausedCall(), gs.store("box")
    call = asyncio.ensure_future(box.get_or_set("key", pause.run))
    await pause.started(1)
    await box.set("key", "mine")
    pause.resume()
    assert await call == "mine"
    assert await box.get("key") == "mine"


async def test_a_value_that_was_deleted_during_its_computation_is_computed_again(
    gs: Scope,
) -> None:
    pause, box = PausedCall(), gs.store("box")
    call = asyncio.ensure_future(box.get_or_set("key", partial(pause.run, 1)))
    await pause.started(1)
    await box.delete("key")
    pause.resume()
    assert await call == 1
    assert pause.calls == 2
    assert await box.get("key") == 1


async def test_the_error_of_the_factory_is_raised_and_nothing_stored(gs: Scope) -> None:
    async def fail() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await gs.store("box").get_or_set("key", fail)
    assert await gs.store("box").count() == 0
    assert [lease async for lease in gs.inspect.leases()] == []


async def test_the_computed_value_has_its_ttl_and_its_tags(gs: Scope) -> None:
    box = gs.store("box")
    value = await box.get_or_set(
        "key", lambda: {"user": 7}, ttl=lambda it: "1h", tags=["tag"], type=Session
    )
    assert value == Session(7)
    entry = await box.get_entry("key")
    assert entry is not None
    assert entry.expires_in_ms == 3_600_000
    assert await box.delete_by_tag("tag") == 1


async def test_a_type_that_json_has_not_is_refused_before_the_factory_runs(gs: Scope) -> None:
    def never() -> None:
        raise AssertionError

    with pytest.raises(ConfigurationError):
        await gs.store("box").get_or_set("key", never, type=asyncio.Event)


# --- inspection ----------------------------------------------------------------------------------


async def test_inspection_lists_collections_apart_from_the_cache(gs: Scope) -> None:
    await gs.cache.set("key", 1)
    await gs.store("box").set("a", "é", tags=["tag"])
    await gs.store("box").set("b", 1, "1h")
    await gs.store("a").set("a", 1)
    assert [it.key async for it in gs.inspect.entries()] == ["key"]
    assert {it.key async for it in gs.inspect.entries(collection="box")} == {"a", "b"}
    assert [it async for it in gs.inspect.collections()] == [
        CollectionInfo(name="a", count=1, size_bytes=1),
        CollectionInfo(name="box", count=2, size_bytes=5),
    ]
    totals = await gs.inspect.totals()
    assert (totals.entries.count, totals.collections.count) == (1, 3)


async def test_a_computation_is_listed_with_the_name_of_its_collection(gs: Scope) -> None:
    pause = PausedCall()
    call = asyncio.ensure_future(gs.store("box").get_or_set("key", pause.run))
    await pause.started(1)
    assert [(it.kind, it.key) async for it in gs.inspect.leases()] == [("collection", "box:key")]
    pause.resume()
    await call
