"""The fallback of a circuit while its store answers nothing."""

from __future__ import annotations

import asyncio

import pytest

from goscope import CircuitBreaker, CircuitOpen, Scope
from goscope.events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRejected,
    CircuitStoreFailed,
    CircuitStoreRecovered,
    Event,
)
from goscope.testing import FakeClock, record_events

from ..circuits import ServiceDown, fail_times, work
from ..support import PausedCall, without_runs
from .faulty_store import StoreFaults, shared_state

pytestmark = pytest.mark.asyncio


async def test_a_fallback_circuit_opens_at_the_threshold_probes_and_closes(
    breaker: CircuitBreaker, faults: StoreFaults, clock: FakeClock
) -> None:
    with faults.store_down():
        assert await breaker.call(work) == 7
        await fail_times(breaker, 2)
        await breaker.call(work)  # resets the count
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen, match="retry after 30 s"):
            await breaker.call(work)
        await clock.advance("30s")
        await fail_times(breaker, 1)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
        await clock.advance("30s")
        assert await breaker.call(work) == 7
        await fail_times(breaker, 2)


async def test_a_fallback_circuit_starts_closed_whatever_the_shared_state(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    await fail_times(breaker, 3)
    with faults.store_down():
        assert await breaker.call(work) == 7
    assert await shared_state(gs) == ("open", 3)


async def test_one_probe_at_a_time_runs_in_the_fallback(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults, clock: FakeClock
) -> None:
    """Among all breakers of the key, and for longer than a lease."""
    paused = PausedCall()
    with faults.store_down():
        await fail_times(breaker, 3)
        await clock.advance("30s")
        again = gs.circuit_breaker("api", failure_threshold=3, on_store_error="local")
        calls = [asyncio.create_task(it.call(paused.run)) for it in [breaker, again] * 5]
        await paused.started()
        await clock.advance("20s")
        assert paused.calls == 1
        paused.resume()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, CircuitOpen) for result in results) == 9


async def test_a_fallback_circuit_closes_after_success_threshold_probes(
    gs: Scope, faults: StoreFaults, clock: FakeClock
) -> None:
    breaker = gs.circuit_breaker(
        "api", failure_threshold=1, success_threshold=2, on_store_error="local"
    )
    paused = PausedCall()
    with faults.store_down():
        await fail_times(breaker, 1)
        await clock.advance("30s")
        await breaker.call(work)
        probe = asyncio.create_task(breaker.call(paused.run))
        await paused.started()
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
        paused.resume()
        await probe
        assert await breaker.call(work) == 7


async def test_each_circuit_has_its_own_fallback(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    other = gs.circuit_breaker("other", failure_threshold=3, on_store_error="local")
    with faults.store_down():
        await fail_times(breaker, 3)
        assert await other.call(work) == 7


async def test_the_shared_state_decides_as_soon_as_the_store_answers(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    with faults.store_down():
        await fail_times(breaker, 2)
        await breaker.call(work)
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
    assert await breaker.call(work) == 7, "closed in the store"
    await fail_times(breaker, 3)
    with faults.store_down():
        await breaker.call(work)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    assert await shared_state(gs) == ("open", 3)


async def test_a_failure_counts_in_the_store_if_it_answers_when_the_call_ends(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    paused = PausedCall()

    async def fail_late() -> None:
        await paused.run()
        raise ServiceDown

    with faults.store_down():
        call = asyncio.create_task(breaker.call(fail_late))
        await paused.started()
    paused.resume()
    await asyncio.gather(call, return_exceptions=True)
    assert await shared_state(gs) == ("closed", 1)


async def test_each_change_emits_one_event(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults, clock: FakeClock
) -> None:
    with record_events(gs) as events:
        with faults.store_down():
            await fail_times(breaker, 3)
            for _ in range(3):
                with pytest.raises(CircuitOpen):
                    await breaker.call(work)
            await clock.advance("30s")
            await breaker.call(work)
        for _ in range(3):
            await breaker.call(work)
        with faults.store_down():
            await breaker.call(work)
    emitted: list[type[Event]] = [type(event) for event in without_runs(events)]
    assert emitted == [
        CircuitStoreFailed,
        CircuitOpened,
        *[CircuitRejected] * 3,
        CircuitHalfOpened,
        CircuitClosed,
        CircuitStoreRecovered,
        CircuitStoreFailed,
    ]
    first = without_runs(events)[0]
    assert isinstance(first, CircuitStoreFailed)
    assert (first.error_type, first.error) == ("BackendUnavailable", "the store is down")


async def test_a_rejected_call_notices_that_the_store_answers_again(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    await fail_times(breaker, 3)
    with faults.store_down():
        await breaker.call(work)
    with record_events(gs) as events, pytest.raises(CircuitOpen):
        await breaker.call(work)
    assert [type(event) for event in without_runs(events)] == [
        CircuitStoreRecovered,
        CircuitRejected,
    ]


async def test_a_reopened_scope_uses_its_store(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    with faults.store_down():
        await fail_times(breaker, 3)
    await gs.close()
    await gs.open()
    with record_events(gs) as events:
        assert await breaker.call(work) == 7
    assert without_runs(events) == []
