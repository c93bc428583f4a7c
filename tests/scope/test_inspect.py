"""``gs.inspect``: what each feature leaves in the store, and what holds what."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest

from goscope import CapabilityMissing, CircuitBreakerState, Scope, ScopeNotOpen, TaskContext
from goscope.inspection import Total

from .support import ForeignAdapter, PausedCall, Store
from .tasks import State, fail_after_saving

pytestmark = pytest.mark.asyncio

T = TypeVar("T")

LISTINGS: dict[str, Callable[[Scope], AsyncIterator[Any]]] = {
    "leases": lambda gs: gs.inspect.leases(),
    "waiters": lambda gs: gs.inspect.waiters(),
    "circuits": lambda gs: gs.inspect.circuits(),
    "tasks": lambda gs: gs.inspect.tasks(),
    "results": lambda gs: gs.inspect.results(),
    "calls_in_flight": lambda gs: gs.inspect.calls_in_flight(),
    "entries": lambda gs: gs.inspect.entries(),
    "processes": lambda gs: gs.inspect.processes(),
}


async def listed(records: AsyncIterator[T]) -> list[T]:
    return [record async for record in records]


async def held(gs: Scope) -> list[tuple[str, str]]:
    """What is held, and for what."""
    return sorted((lease.kind, lease.key) for lease in await listed(gs.inspect.leases()))


async def test_the_lease_of_each_feature_has_its_kind_and_its_key(gs: Scope, other: Scope) -> None:
    """A feature that renames its leases must be listed as before."""
    pause = PausedCall()

    async def task(context: TaskContext[Any]) -> None:
        await pause.run()

    calls = [
        asyncio.ensure_future(call)
        for call in (
            gs.tasks.run("etl:1", task),
            gs.idempotency.run("charge:7", pause.run),
            gs.cache.get_or_set("user:1", pause.run, ttl="1h"),
        )
    ]
    async with gs.lock("stock:42"):
        await pause.started(len(calls))
        assert await held(other) == [
            ("cache", "user:1"),
            ("idempotency", "charge:7"),
            ("lock", "stock:42"),
            ("task", "etl:1"),
        ]
        [in_flight] = await listed(other.inspect.calls_in_flight("charge:*"))
        assert (in_flight.kind, in_flight.pid) == ("idempotency", os.getpid())
        assert await listed(other.inspect.calls_in_flight("user:*")) == []
    pause.resume()
    await asyncio.gather(*calls)
    assert await held(other) == []
    assert (await other.inspect.totals()).leases == Total()


async def test_a_probe_of_a_circuit_is_listed_by_the_key_of_the_circuit(
    store: Store, gs: Scope, other: Scope
) -> None:
    async def fail() -> None:
        raise ConnectionError

    breaker = gs.circuit_breaker("api:x", failure_threshold=1, reset_timeout="1s")
    with pytest.raises(ConnectionError):
        await breaker.call(fail)
    [circuit] = await listed(other.inspect.circuits("api:*"))
    assert circuit.state is not None
    assert (circuit.key, circuit.state.state, circuit.state.failure_count) == ("api:x", "open", 1)
    await store.advance("2s")
    async with breaker:
        assert await held(other) == [("circuit", "api:x")]
    assert await held(other) == []


async def test_a_task_is_running_then_half_done_then_gone(gs: Scope, other: Scope) -> None:
    seen: list[bool] = []

    async def run(task: TaskContext[State]) -> None:
        [info] = await listed(other.inspect.tasks("e*"))
        seen.append(info.is_running)
        assert info.lease is not None
        assert (info.id, info.checkpoints, info.lease.pid) == ("etl", 2, os.getpid())

    await fail_after_saving(gs, 1, 2)
    [half_done] = await listed(other.inspect.tasks())
    assert not half_done.is_running
    assert (half_done.sequence, half_done.progress, half_done.lease) == (2, 2, None)
    await gs.tasks.run("etl", run, type=State)
    assert seen == [True]
    assert await listed(other.inspect.tasks()) == []


async def test_a_finished_call_is_a_result_and_a_cached_value_an_entry(
    gs: Scope, other: Scope
) -> None:
    async def compute() -> list[int]:
        return [1, 2]

    await gs.idempotency.run("charge", compute, ttl="1h", fingerprint={"amount": 5})
    await gs.cache.get_or_set("user:1", compute, ttl="1m", tags=["users"])
    [result] = await listed(other.inspect.results())
    assert (result.key, result.size_bytes, result.expires_in_ms) == ("charge", 5, 3_600_000)
    assert result.fingerprint is not None
    [entry] = await listed(other.inspect.entries("user:*"))
    assert (entry.size_bytes, entry.expires_in_ms, entry.tags) == (5, 60_000, ("users",))
    totals = await other.inspect.totals()
    assert totals.results == totals.entries == Total(count=1, size_bytes=5)


async def test_a_forced_open_circuit_is_listed_without_a_failure_time(gs: Scope) -> None:
    await gs.circuit_breaker("api").force_open()
    [circuit] = await listed(gs.inspect.circuits())
    assert circuit.state == CircuitBreakerState(state="open")


@pytest.mark.parametrize("name", LISTINGS)
async def test_a_backend_without_inspection_is_refused_at_once(name: str) -> None:
    async with Scope(persistence=ForeignAdapter()) as gs:
        with pytest.raises(CapabilityMissing, match="'ForeignAdapter' has no inspection provider"):
            LISTINGS[name](gs)
        with pytest.raises(CapabilityMissing):
            await gs.inspect.totals()


@pytest.mark.parametrize("name", LISTINGS)
async def test_a_closed_scope_lists_nothing(store: Store, name: str) -> None:
    gs = store.scope()
    with pytest.raises(ScopeNotOpen):
        LISTINGS[name](gs)
