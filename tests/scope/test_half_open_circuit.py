"""A half-open circuit: one probe at a time closes it or opens it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from goscope import (
    BackendUnavailable,
    CircuitBreaker,
    CircuitBreakerState,
    CircuitOpen,
    LeaseLost,
    LockHandle,
    Scope,
)
from goscope.backend.records import RecordCircuitBreakerStateProvider
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from .circuits import ServiceDown, fail_times, must_not_run, open_past_reset_timeout, state, work
from .support import PausedCall, Store, lease_watchers, leases_of

pytestmark = pytest.mark.asyncio


async def test_a_successful_probe_closes_the_circuit(store: Store, breaker: CircuitBreaker) -> None:
    await open_past_reset_timeout(store, breaker)
    assert await breaker.call(work) == 7
    assert await state(breaker) == ("closed", 0)


async def test_a_failed_probe_opens_the_circuit_for_another_reset_timeout(
    store: Store, breaker: CircuitBreaker
) -> None:
    await open_past_reset_timeout(store, breaker)
    await fail_times(breaker, 1)
    assert await state(breaker) == ("open", 4)
    await store.advance("29s")
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await store.advance("1s")
    assert await breaker.call(work) == 7


async def test_one_probe_at_a_time_runs_in_all_processes(
    store: Store, breaker: CircuitBreaker, other_breaker: CircuitBreaker
) -> None:
    await open_past_reset_timeout(store, breaker)
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await store.advance("15s")  # more than a lease: it is renewed
    for one in (breaker, other_breaker):
        with pytest.raises(CircuitOpen) as caught:
            await one.call(must_not_run)
        assert caught.value.retry_after == 1.0, "a probe may end at any moment"
    paused.resume()
    await probe
    assert await other_breaker.call(work) == 7


async def test_one_of_many_concurrent_callers_probes(store: Store, breaker: CircuitBreaker) -> None:
    await open_past_reset_timeout(store, breaker)
    paused = PausedCall()
    callers = [asyncio.create_task(breaker.call(paused.run)) for _ in range(10)]
    await paused.started()
    await store.wait_until_idle()
    paused.resume()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert paused.calls == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 9


async def test_a_cancelled_probe_changes_nothing_and_frees_its_slot(
    store: Store, breaker: CircuitBreaker, other_breaker: CircuitBreaker
) -> None:
    await open_past_reset_timeout(store, breaker)
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    probe.cancel()
    await asyncio.wait([probe])
    assert probe.cancelled()
    assert await state(breaker) == ("half-open", 3)
    assert await other_breaker.call(work) == 7
    assert await state(breaker) == ("closed", 0)


async def test_the_slot_of_a_hanging_probe_is_free_when_its_lease_expires(
    store: Store, gs: Scope, breaker: CircuitBreaker
) -> None:
    await open_past_reset_timeout(store, breaker)
    assert await leases_of(gs).acquire("circuit:api", "10s") is not None
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await store.advance("11s")
    assert await breaker.call(work) == 7


@pytest.mark.parametrize("fails", [False, True])
async def test_a_probe_that_lost_its_lease_changes_nothing(
    store: Store, gs: Scope, breaker: CircuitBreaker, other_breaker: CircuitBreaker, fails: bool
) -> None:
    """Its outcome is fenced: the circuit belongs to the next probe."""
    await open_past_reset_timeout(store, breaker)
    paused, second = PausedCall(), PausedCall()

    async def slow() -> None:
        await paused.run()
        if fails:
            raise ServiceDown

    late = asyncio.create_task(breaker.call(slow))
    await paused.started()
    await leases_of(gs).force_release("circuit:api")
    probe = asyncio.create_task(other_breaker.call(second.run))
    await second.started()
    paused.resume()
    # Its caller gets its result or error all the same.
    (outcome,) = await asyncio.gather(late, return_exceptions=True)
    assert isinstance(outcome, ServiceDown) is fails
    assert await state(breaker) == ("half-open", 3)
    second.resume()
    await probe
    assert await state(breaker) == ("closed", 0)


async def test_a_probe_is_cancelled_when_its_lease_is_lost(
    store: Store, gs: Scope, breaker: CircuitBreaker
) -> None:
    await open_past_reset_timeout(store, breaker)
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await leases_of(gs).force_release("circuit:api")
    await store.advance("4s")
    paused.resume()  # too late
    with pytest.raises(LeaseLost):
        await probe
    assert paused.running == 0


async def test_a_circuit_closes_after_success_threshold_probes(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, success_threshold=3)
    await open_past_reset_timeout(store, breaker)
    for successes in (1, 2):
        await breaker.call(work)
        stored = await breaker.state()
        assert (stored.state, stored.success_count) == ("half-open", successes)
    await breaker.call(work)
    assert await state(breaker) == ("closed", 0)


async def test_a_success_below_the_threshold_counts_only_under_its_lease(
    store: Store, gs: Scope, other: Scope
) -> None:
    """A late one would restore the state from the start of its probe."""
    breaker = gs.circuit_breaker("api", failure_threshold=1, success_threshold=2)
    await open_past_reset_timeout(store, breaker)
    paused = PausedCall()
    late = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await leases_of(gs).force_release("circuit:api")
    await fail_times(other.circuit_breaker("api", failure_threshold=1, success_threshold=2), 1)
    paused.resume()
    await late
    assert await state(breaker) == ("open", 2)


async def test_a_failed_probe_resets_the_success_count(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, success_threshold=2)
    await open_past_reset_timeout(store, breaker)
    await breaker.call(work)
    await fail_times(breaker, 1)
    await store.advance("30s")
    await breaker.call(work)
    assert (await breaker.state()).state == "half-open"
    await breaker.call(work)
    assert (await breaker.state()).state == "closed"


class ChangingStates(RecordCircuitBreakerStateProvider):
    """Another process changes the state right after the first read."""

    changed: CircuitBreakerState | None = None
    fails = False

    async def get_state(self, key: str) -> CircuitBreakerState | None:
        found = await super().get_state(key)
        if self.changed is not None:
            await super().set_state(key, self.changed)
        return found

    async def set_state(
        self, key: str, state: CircuitBreakerState, *, fence: LockHandle | None = None
    ) -> None:
        if self.fails:
            raise BackendUnavailable("the store is down")
        await super().set_state(key, state, fence=fence)


@pytest_asyncio.fixture
async def changing() -> AsyncIterator[tuple[CircuitBreaker, ChangingStates]]:
    """A circuit whose reset timeout has passed, and its states."""
    adapter = MemoryAdapter(clock=FakeClock())
    states = ChangingStates(adapter.context, adapter)
    adapter.circuit_breaker = states
    async with Scope(persistence=adapter) as gs:
        await states.set_state("api", CircuitBreakerState(state="open", last_failure_time=1))
        yield gs.circuit_breaker("api"), states
        assert lease_watchers() == []
        assert await adapter.lease.holder("circuit:api") is None


async def test_a_circuit_closed_between_read_and_grant_needs_no_probe(
    changing: tuple[CircuitBreaker, ChangingStates],
) -> None:
    breaker, states = changing
    states.changed = CircuitBreakerState(state="closed")
    paused = PausedCall()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(breaker.call(paused.run))
        await paused.started(3)
        paused.resume()
    assert paused.max_running == 3


async def test_a_circuit_that_reopened_between_read_and_grant_is_open(
    changing: tuple[CircuitBreaker, ChangingStates],
) -> None:
    breaker, states = changing
    now = states.context.clock.wall_ms()
    states.changed = CircuitBreakerState(state="open", failure_count=9, last_failure_time=now)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)


async def test_a_store_failure_before_the_probe_leaves_no_lease_behind(
    changing: tuple[CircuitBreaker, ChangingStates],
) -> None:
    breaker, states = changing
    states.fails = True
    with pytest.raises(BackendUnavailable):
        await breaker.call(must_not_run)


async def test_a_probe_leaves_no_lease_watcher_behind(
    store: Store, breaker: CircuitBreaker
) -> None:
    await open_past_reset_timeout(store, breaker)
    await breaker.call(work)
    assert lease_watchers() == []
