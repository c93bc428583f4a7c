"""The fallback of a circuit while its store answers reads and refuses writes."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from goscope import BackendBusy, CircuitBreaker, CircuitOpen, Scope
from goscope.events import CircuitStoreFailed, CircuitStoreRecovered
from goscope.testing import FakeClock, record_events

from ..circuits import ServiceDown, fail_times, work
from ..support import PausedCall, without_runs
from .faulty_store import FailingStates, StoreFaults, shared_state

pytestmark = pytest.mark.asyncio


async def test_failures_that_cannot_be_written_open_the_fallback_circuit(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults, clock: FakeClock
) -> None:
    """The store, which still answers reads, has it closed all the time."""
    with faults.read_only():
        await fail_times(breaker, 3)
        assert await shared_state(gs) == ("closed", 0)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
        await clock.advance("30s")
        assert await breaker.call(work) == 7
        assert await breaker.call(work) == 7
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)


async def test_a_success_that_cannot_be_written_counts_in_the_fallback(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    await fail_times(breaker, 2)
    with faults.read_only():
        assert await breaker.call(work) == 7
        await fail_times(breaker, 2)
        assert await breaker.call(work) == 7
        await fail_times(breaker, 2)
        assert await breaker.call(work) == 7
    assert await shared_state(gs) == ("closed", 2)
    await breaker.call(work)
    assert await shared_state(gs) == ("closed", 0), "the store had failures, the fallback none"


async def test_a_refused_write_is_remembered_while_the_store_is_down(
    breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    with faults.read_only():
        await fail_times(breaker, 3)
        with faults.store_down(), pytest.raises(CircuitOpen):
            await breaker.call(work)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)


async def test_an_outage_of_the_whole_store_ends_with_the_first_answer(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    """Even if only writes failed in an earlier one."""
    with faults.read_only():
        await fail_times(breaker, 1)
    await fail_times(breaker, 1)
    with faults.store_down():
        await fail_times(breaker, 3)
    assert await breaker.call(work) == 7


async def test_the_shared_state_decides_again_once_a_write_succeeds(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    with record_events(gs) as events:
        with faults.read_only():
            await fail_times(breaker, 2)
        await breaker.call(work)  # writes its success to the store
        await fail_times(breaker, 2)
    assert [type(event) for event in without_runs(events)] == [
        CircuitStoreFailed,
        CircuitStoreRecovered,
    ]
    assert await shared_state(gs) == ("closed", 2)


async def test_a_probe_of_the_fallback_ends_in_the_fallback(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults, clock: FakeClock
) -> None:
    """The store accepts writes again, which only the next write finds out."""
    with faults.read_only():
        await fail_times(breaker, 3)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await clock.advance("30s")
    assert await breaker.call(work) == 7
    with record_events(gs) as events:
        await fail_times(breaker, 1)
    assert [type(event) for event in without_runs(events)] == [CircuitStoreRecovered]
    assert await shared_state(gs) == ("closed", 1)


async def test_a_forced_change_reaches_the_store_or_fails(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults
) -> None:
    with faults.read_only():
        await fail_times(breaker, 3)
        for force in (breaker.force_open, breaker.force_close, breaker.reset):
            with pytest.raises(BackendBusy):
                await force()
        assert await shared_state(gs) == ("closed", 0)
    await breaker.reset()
    assert await breaker.call(work) == 7, "a write succeeded, so the store decides"


async def test_a_probe_that_the_store_cannot_grant_falls_back(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults, clock: FakeClock
) -> None:
    await fail_times(breaker, 3)
    await clock.advance("30s")
    with faults.read_only():
        assert await breaker.call(work) == 7
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
    assert await shared_state(gs) == ("open", 3)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_probe_whose_outcome_cannot_be_written_counts_in_the_fallback(
    gs: Scope, faults: StoreFaults, clock: FakeClock, fails: bool
) -> None:
    """Its caller gets its result or error, although its lease cannot be released."""
    breaker = gs.circuit_breaker("api", failure_threshold=1, on_store_error="local")
    await fail_times(breaker, 1)
    await clock.advance("30s")
    paused = PausedCall()

    async def probing() -> int:
        await paused.run()
        if fails:
            raise ServiceDown
        return 7

    probe = asyncio.create_task(breaker.call(probing))
    await paused.started()
    with faults.store_down():
        paused.resume()
        (outcome,) = await asyncio.gather(probe, return_exceptions=True)
        assert isinstance(outcome, ServiceDown) if fails else outcome == 7
        if fails:
            with pytest.raises(CircuitOpen):
                await breaker.call(work)
        else:
            assert await breaker.call(work) == 7
    assert await shared_state(gs) == ("half-open", 1)
    # The lease that was not released expires.
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await clock.advance("10s")
    assert await breaker.call(work) == 7
    assert await shared_state(gs) == ("closed", 0)


@pytest.mark.parametrize("choice", ["raise", "local"])
async def test_a_probe_whose_lease_cannot_be_released_raises_only_by_default(
    gs: Scope, faults: StoreFaults, clock: FakeClock, choice: Literal["raise", "local"]
) -> None:
    """The lease expires by itself; the outcome has been recorded."""
    breaker = gs.circuit_breaker("api", failure_threshold=1, on_store_error=choice)
    await fail_times(breaker, 1)
    await clock.advance("30s")
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(lambda: paused.run(7)))
    await paused.started()

    async def refuse_the_next_write() -> None:
        faults.writes = False

    states = gs.persistence.circuit_breaker
    assert isinstance(states, FailingStates)
    states.before_next_write = refuse_the_next_write
    paused.resume()
    outcome: Any = (await asyncio.gather(probe, return_exceptions=True))[0]
    assert isinstance(outcome, BackendBusy) if choice == "raise" else outcome == 7
    assert await shared_state(gs) == ("closed", 0)


async def test_a_probe_of_the_store_counts_there_although_another_call_falls_back(
    gs: Scope, breaker: CircuitBreaker, faults: StoreFaults, clock: FakeClock
) -> None:
    """That call began before the circuit opened, and opens the fallback circuit."""
    paused = PausedCall()

    async def fail_late() -> None:
        await paused.run()
        raise ServiceDown

    late = [asyncio.create_task(breaker.call(fail_late)) for _ in range(3)]
    await paused.started(3)
    await fail_times(breaker, 3)
    await clock.advance("30s")

    async def refuse_the_others() -> None:
        with faults.read_only():
            paused.resume()
            await asyncio.gather(*late, return_exceptions=True)

    states = gs.persistence.circuit_breaker
    assert isinstance(states, FailingStates)
    states.before_next_write = refuse_the_others
    assert await breaker.call(work) == 7
    assert await shared_state(gs) == ("closed", 0)
