"""The events of a circuit: one for each change."""

from __future__ import annotations

import asyncio

import pytest

from goscope import CircuitBreaker, CircuitBreakerState, CircuitOpen, LockTimeout, Scope
from goscope.backend.records import RecordCircuitBreakerStateProvider
from goscope.events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRejected,
    CircuitReset,
    Event,
)
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock, record_events

from .circuits import (
    ServiceDown,
    end_without_outcome,
    fail_times,
    open_past_reset_timeout,
    state,
    work,
)
from .support import PausedCall, Store, ticks, without_runs

pytestmark = pytest.mark.asyncio


async def test_each_change_emits_one_event(
    store: Store, gs: Scope, breaker: CircuitBreaker
) -> None:
    with record_events(gs) as events:
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
        await store.advance("30s")
        await fail_times(breaker, 1)
        await store.advance("30s")
        await breaker.call(work)
    emitted: list[type[Event]] = [type(event) for event in without_runs(events)]
    assert emitted == [
        CircuitOpened,
        CircuitRejected,
        CircuitHalfOpened,
        CircuitOpened,
        CircuitHalfOpened,
        CircuitClosed,
    ]
    assert {event.key for event in events} == {"api"}
    assert failure_counts(events) == [3, 4]


def failure_counts(events: list[Event]) -> list[int]:
    """The count of each opening."""
    return [event.failure_count for event in events if isinstance(event, CircuitOpened)]


async def test_forced_changes_emit_events(breaker: CircuitBreaker, gs: Scope) -> None:
    with record_events(gs) as events:
        await breaker.force_open()
        await breaker.force_close()
        await breaker.reset()
    assert [(type(event), getattr(event, "forced", None)) for event in events] == [
        (CircuitOpened, True),
        (CircuitClosed, True),
        (CircuitReset, None),
    ]
    assert failure_counts(events) == [0]


async def test_late_failures_that_reopen_a_half_open_circuit_emit_one_event(
    store: Store, gs: Scope, breaker: CircuitBreaker
) -> None:
    """Their calls began before it opened; the probe's failure then opens nothing."""
    late, probing = PausedCall(), PausedCall()

    async def fail_behind(paused: PausedCall) -> None:
        await paused.run()
        raise ServiceDown

    calls = [asyncio.create_task(breaker.call(lambda: fail_behind(late))) for _ in range(3)]
    await late.started(3)
    await open_past_reset_timeout(store, breaker)
    probe = asyncio.create_task(breaker.call(lambda: fail_behind(probing)))
    await probing.started()
    with record_events(gs) as events:
        late.resume()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await state(breaker) == ("open", 6)
        probing.resume()
        await asyncio.gather(probe, return_exceptions=True)
        assert await state(breaker) == ("open", 7)
    assert failure_counts(events) == [4]


class SlowlyReadStates(RecordCircuitBreakerStateProvider):
    """Lets other tasks write between a read and the next step of its caller."""

    async def _get(self, key: str) -> CircuitBreakerState | None:
        found = await super()._get(key)
        await ticks()
        return found


async def test_concurrent_failures_reopen_a_circuit_once() -> None:
    clock, late = FakeClock(), PausedCall()
    adapter = MemoryAdapter(clock=clock)
    adapter.circuit_breaker = SlowlyReadStates(adapter.context, adapter)

    async def fail_late() -> None:
        await late.run()
        raise ServiceDown

    async with Scope(persistence=adapter) as gs:
        breaker = gs.circuit_breaker("api", failure_threshold=3)
        calls = [asyncio.create_task(breaker.call(fail_late)) for _ in range(3)]
        await late.started(3)
        await fail_times(breaker, 3)
        await clock.advance("30s")
        with pytest.raises(LockTimeout):
            await breaker.call(end_without_outcome)
        with record_events(gs) as events:
            late.resume()
            await asyncio.gather(*calls, return_exceptions=True)
    assert failure_counts(events) == [4]
