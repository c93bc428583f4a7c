"""Observers of one scope: the events they get, and observers that fail."""

from __future__ import annotations

import asyncio
import functools
import logging
from datetime import timedelta
from typing import Any

import pytest

from goscope import ConfigurationError, Scope
from goscope.events import (
    CacheComputed,
    CacheCorrupt,
    CacheMiss,
    Event,
    LockAcquired,
    LockReleased,
    LockTimedOut,
    Observer,
)
from goscope.memory import MemoryAdapter
from goscope.testing import record_events

from .support import PausedCall, Store

pytestmark = pytest.mark.asyncio


async def test_an_observer_gets_frozen_records(store: Store) -> None:
    events: list[Event] = []
    async with store.scope(observers=[events.append], name="shop") as gs:
        await gs.cache.get("key")
    assert events == [CacheMiss(key="key", scope="shop", duration_ms=events[0].duration_ms)]
    with pytest.raises(AttributeError):
        setattr(events[0], "key", "other")  # noqa: B010  # a type checker refuses the plain form


async def test_observers_are_called_in_their_order(store: Store) -> None:
    order: list[str] = []

    def observer(name: str) -> Observer:
        return lambda event: order.append(name)

    observers = [observer(name) for name in "abc"]
    async with store.scope(observers=observers) as gs:
        await gs.cache.get("key")
    assert order == ["a", "b", "c"]


async def test_an_observer_that_raises_is_logged_once_and_affects_no_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("broken")

    async with store.scope(observers=[broken, events.append]) as gs:
        with caplog.at_level(logging.ERROR, "goscope"):
            for _ in range(3):
                await gs.cache.get("key")
    assert len(events) == 3
    (record,) = caplog.records
    assert "broken" in record.getMessage()
    assert record.exc_info is not None


async def test_the_result_of_an_observer_is_ignored(store: Store) -> None:
    async with store.scope(observers=[str]) as gs:
        assert await gs.cache.get("key", "default") == "default"


class Asynchronous:
    async def __call__(self, event: Event) -> None: ...

    async def method(self, event: Event) -> None: ...


@pytest.mark.parametrize(
    "observer",
    [
        Asynchronous(),
        Asynchronous().method,
        functools.partial(Asynchronous.method, Asynchronous()),
        "not a function",
    ],
    ids=["object", "method", "partial", "string"],
)
async def test_an_asynchronous_observer_is_refused(observer: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a plain function"):
        Scope(backend="memory", observers=[observer])


async def test_locks_emit_acquisitions_timeouts_and_releases(
    store: Store, gs: Scope, other: Scope
) -> None:
    with record_events(gs) as events, record_events(other) as others:
        async with gs.lock("door") as handle:
            await store.advance("2s")
            assert await other.lock("door").try_acquire() is None
            with pytest.raises(TimeoutError):
                await other.lock("door", wait=0).acquire()
    acquired, *_, released = events
    assert isinstance(acquired, LockAcquired)
    assert (acquired.key, acquired.owner) == ("door", handle.owner)
    assert acquired.fencing_token == handle.fencing_token
    assert isinstance(released, LockReleased)
    assert (released.key, released.duration_ms) == ("door", 2000)
    assert [(type(event), event.key) for event in others] == [(LockTimedOut, "door")]


async def test_the_duration_of_an_acquired_lock_is_the_wait(store: Store, gs: Scope) -> None:
    first = await gs.lock("door", ttl="2s").acquire()
    with record_events(gs) as events:
        lock = gs.lock("door", wait="10s")

        async def enter() -> None:
            async with lock:
                pass

        waiting = asyncio.create_task(enter())
        await store.wait_until_idle()
        await store.advance("3s")
        await waiting
    assert first.lost
    assert isinstance(events[0], LockAcquired)
    assert 2000 <= events[0].duration_ms <= 2500


async def test_durations_do_not_depend_on_the_wall_clock(store: Store, gs: Scope) -> None:
    with record_events(gs) as events:
        async with gs.lock("door"):
            store.clock.step_wall("1h")
            await store.advance("2s")
            store.clock.step_wall(-timedelta(hours=2))
    assert [event.duration_ms for event in events] == [0, 0, 2000, 2000]


async def test_the_duration_of_what_began_unobserved_is_0(store: Store, gs: Scope) -> None:
    """The scope reads the clock only for events that are observed."""
    paused = PausedCall()
    call = asyncio.create_task(gs.cache.get_or_set("key", paused.run))
    await paused.started()
    with record_events(gs) as events:
        await store.advance("2s")
        paused.resume()
        await call
    assert [(type(event), event.duration_ms) for event in events] == [(CacheComputed, 0)]


async def test_try_acquire_emits_what_it_acquired(gs: Scope) -> None:
    with record_events(gs) as events:
        handle = await gs.lock("door").try_acquire()
        assert handle is not None
        await handle.release()
    assert [type(event) for event in events] == [LockAcquired]


async def test_events_of_the_adapter_reach_the_observers() -> None:
    adapter = MemoryAdapter()
    async with Scope(persistence=adapter) as gs:
        await gs.cache.set("key", 1)
        entries = adapter.records.cache
        entries["cache:key"] = entries["cache:key"]._replace(text="{")
        with record_events(gs) as events:
            assert await gs.cache.get("key") is None
    assert [type(event) for event in events] == [CacheCorrupt, CacheMiss]
    assert adapter.context.emit is None, "a closed scope observes nothing"


async def test_recording_ends_with_its_block(gs: Scope) -> None:
    with record_events(gs) as outer:
        with record_events(gs) as inner:
            await gs.cache.get("one")
        await gs.cache.get("two")
    await gs.cache.get("three")
    assert [event.key for event in inner] == ["one"]
    assert [event.key for event in outer] == ["one", "two"]
    assert gs._observers.active is False  # private: a list left behind shows nowhere else


async def test_recording_may_start_before_the_scope_is_open() -> None:
    gs = Scope(backend="memory")
    with record_events(gs) as events:
        async with gs:
            await gs.cache.get("key")
    assert [event.key for event in events] == ["key"]
