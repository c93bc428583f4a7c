"""The events of what runs a body: its start, and its end or its failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from typing import Any, TypeAlias

import pytest

from goscope import LeaseLost, Scope, SerializationError, TaskContext
from goscope.backend import SystemClock
from goscope.events import (
    CacheComputed,
    CacheComputeFailed,
    CacheComputeStarted,
    CircuitCallCompleted,
    CircuitCallFailed,
    CircuitCallStarted,
    Event,
    IdempotentExecuted,
    IdempotentFailed,
    IdempotentStarted,
    LockBodyCompleted,
    LockBodyFailed,
    LockBodyStarted,
    LockReleased,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
)
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock, override, record_events

from .support import PausedCall, Store, block_loop, leases_of, ticks

pytestmark = pytest.mark.asyncio

Body: TypeAlias = Callable[[], Awaitable[Any]]


async def run_lock(gs: Scope, body: Body) -> Any:
    async with gs.lock("key", ttl="9s"):
        return await body()


async def run_cache(gs: Scope, body: Body) -> Any:
    return await gs.cache.get_or_set("key", body)


async def run_circuit(gs: Scope, body: Body) -> Any:
    return await gs.circuit_breaker("key").call(body)


async def run_circuit_block(gs: Scope, body: Body) -> Any:
    async with gs.circuit_breaker("key"):
        return await body()


async def run_task(gs: Scope, body: Body) -> Any:
    async def fn(task: TaskContext[Any]) -> Any:
        return await body()

    return await gs.tasks.run("key", fn)


async def run_idempotent(gs: Scope, body: Body) -> Any:
    return await gs.idempotency.run("key", body)


each_run = pytest.mark.parametrize(
    ("run", "started", "completed", "failed"),
    [
        (run_lock, LockBodyStarted, LockBodyCompleted, LockBodyFailed),
        (run_cache, CacheComputeStarted, CacheComputed, CacheComputeFailed),
        (run_circuit, CircuitCallStarted, CircuitCallCompleted, CircuitCallFailed),
        (run_circuit_block, CircuitCallStarted, CircuitCallCompleted, CircuitCallFailed),
        (run_task, TaskStarted, TaskCompleted, TaskFailed),
        (run_idempotent, IdempotentStarted, IdempotentExecuted, IdempotentFailed),
    ],
)


def of_runs(events: list[Event]) -> list[Any]:
    return [event for event in events if hasattr(event, "run_id")]


@each_run
async def test_a_body_that_succeeds_has_a_start_and_an_end(
    store: Store, gs: Scope, run: Any, started: Any, completed: Any, failed: Any
) -> None:
    async def body() -> int:
        await store.clock.advance("2s")
        return 7

    with record_events(gs) as events:
        assert await run(gs, body) == 7
    start, end = of_runs(events)
    assert (type(start), type(end)) == (started, completed)
    assert start.run_id == end.run_id > 0
    assert (start.key, end.key) == ("key", "key")
    assert (start.duration_ms, end.duration_ms) == (0, 2000)
    assert type(end.duration_ms) is float


@each_run
async def test_a_body_that_raises_has_a_start_and_a_failure(
    store: Store, gs: Scope, run: Any, started: Any, completed: Any, failed: Any
) -> None:
    async def body() -> None:
        await store.clock.advance("2s")
        raise ConnectionRefusedError("the service is down")

    with record_events(gs) as events, pytest.raises(ConnectionRefusedError):
        await run(gs, body)
    start, end = of_runs(events)
    assert (type(start), type(end)) == (started, failed)
    assert start.run_id == end.run_id > 0
    assert (end.error_type, end.error) == ("ConnectionRefusedError", "the service is down")
    assert end.duration_ms == 2000


@each_run
async def test_a_body_that_is_cancelled_has_a_failure(
    gs: Scope, run: Any, started: Any, completed: Any, failed: Any
) -> None:
    paused = PausedCall()
    with record_events(gs) as events:
        task = asyncio.create_task(run(gs, paused.run))
        await paused.started()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    start, end = of_runs(events)
    assert (type(start), type(end)) == (started, failed)
    assert (end.run_id, end.error_type) == (start.run_id, "CancelledError")


@each_run
async def test_no_two_runs_share_an_id(
    gs: Scope, other: Scope, run: Any, started: Any, completed: Any, failed: Any
) -> None:
    with record_events(gs) as events, record_events(other) as others:
        await run(gs, ticks)
        await gs.cache.delete("key")
        await gs.idempotency.delete("key")
        await run(other, ticks)
    ids = [event.run_id for event in of_runs(events + others)]
    assert len(ids) == 4
    assert len(set(ids)) == 2


@each_run
async def test_what_an_observer_sets_at_the_start_holds_in_the_body_and_ends_with_it(
    store: Store, run: Any, started: Any, completed: Any, failed: Any
) -> None:
    """So a span that is opened at the start is the parent of what the body does."""
    span: ContextVar[str] = ContextVar("span", default="none")
    opened: dict[int, Token[str]] = {}

    def trace(event: Event) -> None:
        run_id = getattr(event, "run_id", 0)
        if isinstance(event, started):
            opened[run_id] = span.set("open")
        elif run_id:
            span.reset(opened.pop(run_id))

    async def body() -> str:
        await asyncio.sleep(0)
        return span.get()

    async with store.scope(observers=[trace]) as gs:
        assert await run(gs, body) == "open"
    assert span.get() == "none"
    assert not opened


@each_run
async def test_the_end_of_what_started_unobserved_has_no_run_id(
    gs: Scope, run: Any, started: Any, completed: Any, failed: Any
) -> None:
    paused = PausedCall()
    call = asyncio.create_task(run(gs, paused.run))
    await paused.started()
    with record_events(gs) as events:
        paused.resume()
        await call
    (end,) = of_runs(events)
    assert (type(end), end.run_id, end.duration_ms) == (completed, 0, 0)


@pytest.mark.parametrize(
    ("run", "lease", "failed"),
    [
        (run_task, "task:key", TaskFailed),
        (run_idempotent, "idempotency:key", IdempotentFailed),
    ],
)
async def test_a_body_that_loses_its_lease_fails_with_that_error(
    store: Store, gs: Scope, run: Any, lease: str, failed: Any
) -> None:
    paused = PausedCall()
    with record_events(gs) as events:
        call = asyncio.create_task(run(gs, paused.run))
        await paused.started()
        await leases_of(gs).force_release(lease)
        await store.advance("10s")
        with pytest.raises(LeaseLost):
            await call
    end = of_runs(events)[-1]
    assert (type(end), end.error_type) == (failed, "LeaseLost")


async def test_a_lock_found_lost_at_the_end_of_its_block_fails_it(store: Store, gs: Scope) -> None:
    async def body() -> None:
        await ticks(3)  # the watcher waits for its time
        block_loop(store.clock, 10_000)
        locks = gs.persistence.lock
        assert locks is not None
        await locks.force_release("key")

    with record_events(gs) as events, pytest.raises(LeaseLost):
        await run_lock(gs, body)
    end = of_runs(events)[-1]
    assert (type(end), end.error_type) == (LockBodyFailed, "LeaseLost")
    assert not any(isinstance(event, LockReleased) for event in events)


async def test_a_failed_call_says_how_many_failures_the_circuit_has_counted(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", on=ConnectionError, on_result=lambda result: result == 500)

    async def refused() -> None:
        raise ConnectionRefusedError

    async def not_counted() -> None:
        raise KeyError("id")

    async def answers_500() -> int:
        return 500

    with record_events(gs) as events:
        for call in (refused, refused, answers_500, not_counted):
            await asyncio.gather(breaker.call(call), return_exceptions=True)
    failures = [event for event in events if isinstance(event, CircuitCallFailed)]
    assert [(event.error_type, event.failure_count) for event in failures] == [
        ("ConnectionRefusedError", 1),
        ("ConnectionRefusedError", 2),
        (None, 3),
        ("KeyError", None),
    ]


async def test_a_result_that_cannot_be_cached_is_a_failed_computation(gs: Scope) -> None:
    async def value() -> object:
        return object()

    with record_events(gs) as events, pytest.raises(SerializationError):
        await gs.cache.get_or_set("key", value)
    assert of_runs(events)[-1].error_type == "SerializationError"


async def price(article: str) -> int:
    if article == "unknown":
        raise LookupError(article)
    return 7


async def test_events_name_the_template_and_the_scope(store: Store) -> None:
    gs = store.scope(name="shop")
    cached = gs.cached("5m", key="price:{article}")(price)
    charge = gs.idempotent("charge:{article}")(price)

    @gs.resumable("etl:{article}")
    async def load(task: TaskContext[int], article: str) -> None:
        await task.checkpoint.save(1)
        if not task.resumed:
            await price(article)

    with record_events(gs) as events:
        async with gs:
            for article in ("apple", "unknown"):
                for _ in range(2):
                    for call in (cached, charge, load):
                        await asyncio.gather(call(article), return_exceptions=True)
            await gs.cache.set("price:apple", "text")
            await cached("apple")
    names: dict[str | None, set[str]] = {}
    for event in events:
        names.setdefault(event.template, set()).add(type(event).__name__)
        assert event.scope == "shop"
    assert names == {
        "price:{article}": {
            "CacheMiss",
            "CacheHit",
            "CacheCorrupt",
            "CacheComputeStarted",
            "CacheComputed",
            "CacheComputeFailed",
        },
        "charge:{article}": {
            "IdempotentStarted",
            "IdempotentExecuted",
            "IdempotentFailed",
            "IdempotentReplayed",
        },
        "etl:{article}": {
            "TaskStarted",
            "CheckpointSaved",
            "TaskFailed",
            "TaskResumed",
            "TaskCompleted",
        },
    }


async def test_the_template_of_a_default_key_is_the_name_of_the_function(gs: Scope) -> None:
    with record_events(gs) as events:
        await gs.cached("5m")(price)("apple")
    assert {event.template for event in events} == {f"{__name__}.price"}
    assert {event.key for event in events} != {f"{__name__}.price"}


async def test_a_key_that_is_spelled_out_has_no_template(gs: Scope) -> None:
    with record_events(gs) as events:
        for run in (run_lock, run_cache, run_circuit, run_task, run_idempotent):
            await run(gs, ticks)
    assert {event.template for event in events} == {None}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("memory://", "memory://"),
        ("sqlite:///shop.db?locks=shared", "sqlite:///shop.db"),
    ],
)
async def test_a_scope_is_named_after_its_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, url: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await scope_of_events(Scope(url)) == name


@pytest.mark.usefixtures("noting_backends")
async def test_the_name_of_a_scope_shows_no_login() -> None:
    scope = Scope("server://app:secret@db.example:5432/shop?tls=true")
    assert scope._source.open()[2] == "server://db.example:5432/shop"  # private: it never opens


async def test_a_scope_is_named_after_its_backend_or_adapter() -> None:
    assert await scope_of_events(Scope(backend="memory")) == "memory"
    assert await scope_of_events(Scope(persistence=MemoryAdapter())) == "MemoryAdapter"
    assert await scope_of_events(Scope(backend="memory", name="shop")) == "shop"
    assert await scope_of_events(Scope(persistence=MemoryAdapter(), name="shop")) == "shop"


async def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name is empty"):
        Scope(backend="memory", name="")


async def scope_of_events(gs: Scope) -> str:
    with record_events(gs) as events:
        async with gs:
            await gs.cache.get("key")
    return events[0].scope


async def test_a_duration_is_more_precise_than_a_millisecond() -> None:
    gs = Scope(backend="memory")
    with record_events(gs) as events:
        async with gs:
            for _ in range(20):
                await gs.cache.get("key")
    durations = [event.duration_ms for event in events]
    assert all(duration > 0 for duration in durations)
    assert any(duration % 1 for duration in durations)


class WholeClock:
    """A clock of a third party: it has only what `goscope.backend.Clock` demands."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.boot_id = self._clock.boot_id
        self.wall_ms = self._clock.wall_ms
        self.steady_ms = self._clock.steady_ms
        self.sleep = self._clock.sleep


async def test_a_clock_of_whole_milliseconds_is_enough() -> None:
    gs = Scope(backend="memory")
    with override(gs, clock=WholeClock()), record_events(gs) as events:
        async with gs:
            await gs.cache.get_or_set("key", ticks)
    assert {type(event.duration_ms) for event in events} == {float}
    assert all(event.duration_ms % 1 == 0 for event in events)


async def test_without_observers_no_clock_is_read_for_events() -> None:
    clock = FakeClock()
    reads = 0
    steady_ms = clock.steady_ms

    def counting() -> int:
        nonlocal reads
        reads += 1
        return steady_ms()

    gs = Scope(backend="memory")
    with override(gs, clock=clock):
        async with gs:
            await gs.cache.set("key", 1)
            clock.steady_ms = counting  # type: ignore[method-assign]  # counts the reads
            await gs.cache.get("key")
            await gs.cache.get_or_set("key", ticks)
            await gs.circuit_breaker("api").call(ticks)
    assert reads == 0
