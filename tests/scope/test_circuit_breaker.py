"""``gs.circuit_breaker``: when it opens, who probes, and when it closes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from goscope import (
    BackendUnavailable,
    CircuitBreaker,
    CircuitBreakerState,
    CircuitOpen,
    ConfigurationError,
    LeaseLost,
    LockHandle,
    LockTimeout,
    Scope,
)
from goscope.events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRejected,
    Event,
)
from goscope.memory import Grants, MemoryAdapter, MemoryCircuitBreakerStateProvider
from goscope.testing import FakeClock, record_events

from .support import Gate, Store, watchers

pytestmark = pytest.mark.asyncio


class Down(Exception):
    """The service does not answer."""


async def fail() -> None:
    raise Down


async def work() -> int:
    return 7


async def fail_times(breaker: CircuitBreaker, count: int) -> None:
    for _ in range(count):
        with pytest.raises(Down):
            await breaker.call(fail)


async def state(breaker: CircuitBreaker) -> tuple[str, int]:
    stored = await breaker.state()
    return stored.state, stored.failure_count


@pytest.fixture
def breaker(gs: Scope) -> CircuitBreaker:
    """Opens at the third failure, for 30 s."""
    return gs.circuit_breaker("api", max_failures=3)


@pytest.fixture
def elsewhere(other: Scope) -> CircuitBreaker:
    """The same circuit in another process."""
    return other.circuit_breaker("api", max_failures=3)


# --- closed ----------------------------------------------------------------------------------


async def test_closed_it_passes_results_and_errors_through(breaker: CircuitBreaker) -> None:
    assert await breaker.call(work) == 7
    with pytest.raises(Down):
        await breaker.call(fail)


async def test_closed_calls_run_in_parallel(breaker: CircuitBreaker) -> None:
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(breaker.call(gate.passing))
        await gate.arrival(5)
        gate.open()
    assert gate.most_running == 5


async def test_a_success_in_between_starts_the_count_anew(breaker: CircuitBreaker) -> None:
    await fail_times(breaker, 2)
    await breaker.call(work)
    await fail_times(breaker, 2)
    assert await state(breaker) == ("closed", 2)


async def test_a_healthy_circuit_writes_nothing(gs: Scope, breaker: CircuitBreaker) -> None:
    await breaker.call(work)
    circuits = gs.persistence.circuit_breaker
    assert circuits is not None
    assert await circuits.get_state("api") is None


async def test_failures_of_all_processes_count(
    breaker: CircuitBreaker, elsewhere: CircuitBreaker
) -> None:
    await fail_times(breaker, 2)
    await fail_times(elsewhere, 1)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)


async def test_concurrent_failures_all_count(gs: Scope) -> None:
    breaker = gs.circuit_breaker("many", max_failures=50)
    results = await asyncio.gather(*(breaker.call(fail) for _ in range(50)), return_exceptions=True)
    assert {type(result) for result in results} == {Down}
    assert await state(breaker) == ("open", 50)


# --- open ------------------------------------------------------------------------------------


async def test_at_the_threshold_it_opens_and_spares_the_service(
    store: Store, breaker: CircuitBreaker
) -> None:
    await fail_times(breaker, 3)
    await store.pass_time("10s")
    gate = Gate()
    with pytest.raises(CircuitOpen, match="'api' is open: retry after 20 s") as caught:
        await breaker.call(gate.passing)
    assert gate.entered == 0
    assert caught.value.key == "api"
    assert caught.value.retry_after == 20.0


async def test_a_success_that_began_before_does_not_close_it(breaker: CircuitBreaker) -> None:
    gate = Gate()
    await fail_times(breaker, 1)
    slow = asyncio.create_task(breaker.call(gate.passing))
    await gate.arrival()
    await fail_times(breaker, 2)
    gate.open()
    await slow
    assert await state(breaker) == ("open", 3)


async def test_a_wall_clock_set_back_does_not_keep_it_open_until_it_has_caught_up(
    store: Store, breaker: CircuitBreaker
) -> None:
    await fail_times(breaker, 3)
    store.clock.step_wall(-timedelta(seconds=20))
    with pytest.raises(CircuitOpen) as caught:
        await breaker.call(work)
    assert caught.value.retry_after == 30.0, "no more than the reset timeout"
    store.clock.step_wall(-timedelta(hours=1))
    assert await breaker.call(work) == 7


# --- half-open -------------------------------------------------------------------------------


async def opened(store: Store, breaker: CircuitBreaker) -> None:
    """Open the circuit and let its reset timeout pass."""
    await fail_times(breaker, breaker.settings.max_failures)
    await store.pass_time("30s")


async def test_a_successful_probe_closes_it(store: Store, breaker: CircuitBreaker) -> None:
    await opened(store, breaker)
    assert await breaker.call(work) == 7
    assert await state(breaker) == ("closed", 0)


async def test_a_failed_probe_opens_it_for_another_reset_timeout(
    store: Store, breaker: CircuitBreaker
) -> None:
    await opened(store, breaker)
    await fail_times(breaker, 1)
    assert await state(breaker) == ("open", 4)
    await store.pass_time("29s")
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await store.pass_time("1s")
    assert await breaker.call(work) == 7


async def test_one_probe_at_a_time_in_all_processes(
    store: Store, breaker: CircuitBreaker, elsewhere: CircuitBreaker
) -> None:
    await opened(store, breaker)
    gate = Gate()
    probe = asyncio.create_task(breaker.call(gate.passing))
    await gate.arrival()
    await store.pass_time("15s")  # more than a lease: it is renewed
    for one in (breaker, elsewhere):
        with pytest.raises(CircuitOpen) as caught:
            await one.call(gate.passing)
        assert 0 < caught.value.retry_after <= 10
    assert gate.entered == 1
    gate.open()
    await probe
    assert await elsewhere.call(work) == 7


async def test_of_many_who_come_at_once_one_probes(store: Store, breaker: CircuitBreaker) -> None:
    await opened(store, breaker)
    gate = Gate()
    callers = [asyncio.create_task(breaker.call(gate.passing)) for _ in range(10)]
    await gate.arrival()
    await store.settle()
    gate.open()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert gate.entered == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 9


async def test_a_cancelled_probe_decides_nothing_and_frees_its_slot(
    store: Store, breaker: CircuitBreaker, elsewhere: CircuitBreaker
) -> None:
    await opened(store, breaker)
    gate = Gate()
    probe = asyncio.create_task(breaker.call(gate.passing))
    await gate.arrival()
    probe.cancel()
    await asyncio.wait([probe])
    assert probe.cancelled()
    assert await state(breaker) == ("half-open", 3)
    assert await elsewhere.call(work) == 7
    assert await state(breaker) == ("closed", 0)


async def test_the_slot_of_a_prober_that_hangs_is_free_when_its_lease_ends(
    store: Store, gs: Scope, breaker: CircuitBreaker
) -> None:
    await opened(store, breaker)
    leases = gs.persistence.lease
    assert leases is not None
    assert await leases.acquire("circuit:api", "10s") is not None
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await store.pass_time("11s")
    assert await breaker.call(work) == 7


@pytest.mark.parametrize("fails", [False, True])
async def test_a_probe_that_lost_its_lease_decides_nothing(
    store: Store, gs: Scope, breaker: CircuitBreaker, elsewhere: CircuitBreaker, fails: bool
) -> None:
    """Its outcome is fenced: the circuit belongs to the next prober."""
    await opened(store, breaker)
    gate, second = Gate(), Gate()

    async def slow() -> None:
        await gate.passing()
        if fails:
            raise Down

    late = asyncio.create_task(breaker.call(slow))
    await gate.arrival()
    leases = gs.persistence.lease
    assert leases is not None
    await leases.force_release("circuit:api")
    probe = asyncio.create_task(elsewhere.call(second.passing))
    await second.arrival()
    gate.open()
    # Its result, or its error, is as good as any.
    (outcome,) = await asyncio.gather(late, return_exceptions=True)
    assert isinstance(outcome, Down) is fails
    assert await state(breaker) == ("half-open", 3)
    second.open()
    await probe
    assert await state(breaker) == ("closed", 0)


async def test_a_probe_is_ended_when_its_lease_is_lost(
    store: Store, gs: Scope, breaker: CircuitBreaker
) -> None:
    await opened(store, breaker)
    gate = Gate()
    probe = asyncio.create_task(breaker.call(gate.passing))
    await gate.arrival()
    leases = gs.persistence.lease
    assert leases is not None
    await leases.force_release("circuit:api")
    await store.pass_time("4s")
    with pytest.raises(LeaseLost):
        await probe
    assert gate.running == 0


async def test_it_takes_as_many_successful_probes_as_it_is_told(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", max_failures=1, success_threshold=3)
    await opened(store, breaker)
    for successes in (1, 2):
        await breaker.call(work)
        stored = await breaker.state()
        assert (stored.state, stored.success_count) == ("half-open", successes)
    await breaker.call(work)
    assert await state(breaker) == ("closed", 0)


async def test_a_failed_probe_starts_the_successes_anew(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", max_failures=1, success_threshold=2)
    await opened(store, breaker)
    await breaker.call(work)
    await fail_times(breaker, 1)
    await store.pass_time("30s")
    await breaker.call(work)
    assert (await breaker.state()).state == "half-open"
    await breaker.call(work)
    assert (await breaker.state()).state == "closed"


class ChangingStates(MemoryCircuitBreakerStateProvider):
    """Another process changes the state just after it was first looked at."""

    changed: CircuitBreakerState | None = None
    fails = False

    async def get_state(self, key: str) -> CircuitBreakerState | None:
        seen = await super().get_state(key)
        if self.changed is not None:
            await super().set_state(key, self.changed)
        return seen

    async def set_state(
        self, key: str, state: CircuitBreakerState, *, fence: LockHandle | None = None
    ) -> None:
        if self.fails:
            raise BackendUnavailable("the store is away")
        await super().set_state(key, state, fence=fence)


@pytest_asyncio.fixture
async def changing() -> AsyncIterator[tuple[CircuitBreaker, ChangingStates]]:
    """A circuit whose reset timeout is over, and its states."""
    adapter = MemoryAdapter(clock=FakeClock())
    states = ChangingStates(adapter.context, Grants())
    adapter.circuit_breaker = states
    async with Scope(persistence=adapter) as gs:
        await states.set_state("api", CircuitBreakerState(state="open", last_failure_time=1))
        yield gs.circuit_breaker("api"), states
        assert watchers() == []
        assert await adapter.lease.holder("circuit:api") is None


async def test_a_circuit_closed_between_look_and_grant_needs_no_probe(
    changing: tuple[CircuitBreaker, ChangingStates],
) -> None:
    breaker, states = changing
    states.changed = CircuitBreakerState(state="closed")
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(breaker.call(gate.passing))
        await gate.arrival(3)
        gate.open()
    assert gate.most_running == 3


async def test_a_circuit_opened_again_between_look_and_grant_is_open(
    changing: tuple[CircuitBreaker, ChangingStates],
) -> None:
    breaker, states = changing
    now = states.context.clock.wall_ms()
    states.changed = CircuitBreakerState(state="open", failure_count=9, last_failure_time=now)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)


async def test_a_store_that_fails_before_the_probe_leaves_no_lease_behind(
    changing: tuple[CircuitBreaker, ChangingStates],
) -> None:
    breaker, states = changing
    states.fails = True
    gate = Gate()
    with pytest.raises(BackendUnavailable):
        await breaker.call(gate.passing)
    assert gate.entered == 0


# --- what counts -----------------------------------------------------------------------------


async def test_only_the_named_exceptions_count(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", max_failures=3, counts=(Down, TimeoutError))
    await fail_times(breaker, 2)

    async def wrong() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await breaker.call(wrong)
    assert await state(breaker) == ("closed", 0), "the service answered: a success"


async def test_goscopes_own_errors_never_count(gs: Scope, breaker: CircuitBreaker) -> None:
    await fail_times(breaker, 1)

    async def blocked() -> None:
        async with gs.lock("door"):
            await gs.lock("door", wait=0).acquire()

    for _ in range(3):
        with pytest.raises(LockTimeout):
            await breaker.call(blocked)
    assert await state(breaker) == ("closed", 1), "neither a failure nor a success"


async def test_goscopes_own_errors_are_no_successes_either(gs: Scope) -> None:
    """Though exceptions that do not count are."""
    breaker = gs.circuit_breaker("api", counts=Down)
    await fail_times(breaker, 1)

    async def blocked() -> None:
        raise LockTimeout("door", 0, None, None)

    with pytest.raises(LockTimeout):
        await breaker.call(blocked)
    assert await state(breaker) == ("closed", 1)


async def test_an_open_circuit_inside_does_not_open_the_one_around_it(
    gs: Scope, breaker: CircuitBreaker
) -> None:
    inner = gs.circuit_breaker("inner", max_failures=1)
    await fail_times(inner, 1)
    for _ in range(3):
        with pytest.raises(CircuitOpen, match="inner"):
            await breaker.call(lambda: inner.call(work))
    assert await state(breaker) == ("closed", 0)


async def test_a_cancellation_counts_as_nothing(breaker: CircuitBreaker) -> None:
    gate = Gate()
    await fail_times(breaker, 1)
    call = asyncio.create_task(breaker.call(gate.passing))
    await gate.arrival()
    call.cancel()
    await asyncio.wait([call])
    assert await state(breaker) == ("closed", 1)


async def test_a_result_can_count_as_a_failure(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", max_failures=2, counts_result=lambda status: status >= 500)

    async def answer(status: int) -> int:
        return status

    assert await breaker.call(lambda: answer(503)) == 503
    assert await breaker.call(lambda: answer(500)) == 500
    with pytest.raises(CircuitOpen):
        await breaker.call(lambda: answer(200))


# --- its three forms -------------------------------------------------------------------------


async def test_as_a_decorator_of_functions_and_methods(breaker: CircuitBreaker) -> None:
    @breaker
    async def double(number: int, *, plus: int = 0) -> int:
        return 2 * number + plus

    class Service:
        @breaker
        async def down(self) -> None:
            raise Down

    assert double.__name__ == "double"
    assert await double(3, plus=1) == 7
    for _ in range(3):
        with pytest.raises(Down):
            await Service().down()
    with pytest.raises(CircuitOpen):
        await double(3)


async def test_as_a_block_that_can_mark_a_failure(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        async with breaker as call:
            call.fail()
    with pytest.raises(Down):
        async with breaker:
            raise Down
    with pytest.raises(CircuitOpen):
        async with breaker:
            pytest.fail("an open circuit lets nobody in")


async def test_a_block_in_many_tasks_at_once(breaker: CircuitBreaker) -> None:
    gate = Gate()

    async def one(fails: bool) -> None:
        async with breaker as call:
            await gate.passing()
            if fails:
                call.fail()

    async with asyncio.TaskGroup() as group:
        for fails in (True, False, True):
            group.create_task(one(fails))
        await gate.arrival(3)
        gate.open()
    assert (await breaker.state()).state == "closed"


async def test_blocks_of_one_breaker_nest(breaker: CircuitBreaker) -> None:
    async with breaker as outer:
        async with breaker:
            pass
        outer.fail()
    assert await state(breaker) == ("closed", 1)


async def test_a_plain_function_is_refused(breaker: CircuitBreaker) -> None:
    def plain() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="plain must be a coroutine function"):
        breaker(plain)  # type: ignore[arg-type]  # wrong on purpose


# --- settings --------------------------------------------------------------------------------


async def test_one_key_has_one_set_of_settings(gs: Scope) -> None:
    gs.circuit_breaker("api", max_failures=3, reset_timeout="1m")
    gs.circuit_breaker("api", max_failures=3, reset_timeout=timedelta(minutes=1))
    with pytest.raises(ConfigurationError, match="circuit 'api' has other settings"):
        gs.circuit_breaker("api", max_failures=4, reset_timeout="1m")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_failures": 0}, ValueError),
        ({"max_failures": 2.5}, ValueError),
        ({"success_threshold": 0}, ValueError),
        ({"success_threshold": True}, ValueError),
        ({"reset_timeout": 30}, TypeError),
        ({"reset_timeout": "0s"}, ValueError),
    ],
    ids=str,
)
async def test_settings_that_do_not_fit_are_refused(
    gs: Scope, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        gs.circuit_breaker("api", **options)


# --- events ----------------------------------------------------------------------------------


async def test_each_change_is_told_once(store: Store, gs: Scope, breaker: CircuitBreaker) -> None:
    with record_events(gs) as events:
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
        await store.pass_time("30s")
        await fail_times(breaker, 1)
        await store.pass_time("30s")
        await breaker.call(work)
    told: list[type[Event]] = [type(event) for event in events]
    assert told == [
        CircuitOpened,
        CircuitRejected,
        CircuitHalfOpened,
        CircuitOpened,
        CircuitHalfOpened,
        CircuitClosed,
    ]
    assert {event.key for event in events} == {"api"}
    counts = [event.failure_count for event in events if isinstance(event, CircuitOpened)]
    assert counts == [3, 4]


async def test_nothing_is_left_running(store: Store, breaker: CircuitBreaker) -> None:
    await opened(store, breaker)
    await breaker.call(work)
    assert watchers() == []
