"""A cancelled caller of a feature leaves no lease, no watcher and no partial state behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from goscope import CircuitBreakerState, Scope

from .support import lease_watchers, leases_of, ticks

pytestmark = pytest.mark.asyncio


async def body() -> int:
    await ticks(2)
    return 7


async def probe(gs: Scope) -> int:
    """A call through a half-open circuit."""
    circuits = gs.persistence.circuit_breaker
    assert circuits is not None
    await circuits.set_state("key", CircuitBreakerState(state="half-open"))
    return await gs.circuit_breaker("key").call(body)


FEATURES: dict[str, Callable[[Scope], Awaitable[int]]] = {
    "cache": lambda gs: gs.cache.get_or_set("key", body),
    "circuit": probe,
    "task": lambda gs: gs.tasks.run("key", lambda task: body()),
    "idempotency": lambda gs: gs.idempotency.run("key", body),
}


async def steps(count: int) -> None:
    await ticks(count)


async def milliseconds(count: int) -> None:
    await asyncio.sleep(count / 1000)


@pytest.mark.parametrize("pause", [steps, milliseconds])
@pytest.mark.parametrize("count", range(0, 13, 2))
@pytest.mark.parametrize("feature", FEATURES)
async def test_a_caller_cancelled_at_any_time_leaves_nothing_behind(
    gs: Scope,
    other: Scope,
    feature: str,
    pause: Callable[[int], Awaitable[None]],
    count: int,
) -> None:
    async def call(scope: Scope) -> int:
        return await FEATURES[feature](scope)

    cancelled = asyncio.create_task(call(gs))
    await pause(count)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert cancelled.cancelled() or cancelled.result() == 7
    assert lease_watchers() == []
    assert await leases_of(gs).holder(f"{feature}:key") is None
    for scope in (gs, other):
        assert await call(scope) == 7
