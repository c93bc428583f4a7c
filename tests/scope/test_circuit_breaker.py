"""``gs.circuit_breaker``: when it opens, who probes, and when it closes again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
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
from goscope.backend._lock import StoredLockHandle
from goscope.backend.records import RecordCircuitBreakerStateProvider, RecordLockProvider
from goscope.events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRejected,
    CircuitReset,
    Event,
)
from goscope.memory import MemoryAdapter
from goscope.providers import CircuitState, Milliseconds
from goscope.testing import FakeClock, record_events
from goscope_sqlite import SQLiteAdapter

from .support import PausedCall, Store, lease_watchers, leases_of, ticks

pytestmark = pytest.mark.asyncio


class Down(Exception):
    """The service does not answer."""


async def fail() -> None:
    raise Down


async def work() -> int:
    return 7


async def spared() -> None:
    pytest.fail("nobody should have got in")


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
    return gs.circuit_breaker("api", failure_threshold=3)


@pytest.fixture
def elsewhere(other: Scope) -> CircuitBreaker:
    """The same circuit in another process."""
    return other.circuit_breaker("api", failure_threshold=3)


# --- closed ----------------------------------------------------------------------------------


async def test_closed_it_passes_results_and_errors_through(breaker: CircuitBreaker) -> None:
    assert await breaker.call(work) == 7
    with pytest.raises(Down):
        await breaker.call(fail)


async def test_closed_calls_run_in_parallel(breaker: CircuitBreaker) -> None:
    paused = PausedCall()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(breaker.call(paused.run))
        await paused.started(5)
        paused.resume()
    assert paused.max_running == 5


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


async def test_a_healthy_circuit_costs_one_read_of_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted on every connection of the process, whether it was never called or has recovered."""
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    adapter = SQLiteAdapter(tmp_path / "store.db", clock=FakeClock())
    async with Scope(persistence=adapter) as gs:
        new, recovered = gs.circuit_breaker("new"), gs.circuit_breaker("recovered")
        await fail_times(recovered, 1)
        await recovered.call(work)
        for breaker in (new, recovered):
            statements.clear()
            for _ in range(10):
                await breaker.call(work)
                await asyncio.sleep(0)  # several reads of one turn would also share a lock
            reads = [it for it in statements if "FROM go_goscope_circuit " in it]
            assert len(reads) == 10
            assert statements == reads


async def test_failures_of_all_processes_count(
    breaker: CircuitBreaker, elsewhere: CircuitBreaker
) -> None:
    await fail_times(breaker, 2)
    await fail_times(elsewhere, 1)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)


async def test_concurrent_failures_all_count(gs: Scope) -> None:
    breaker = gs.circuit_breaker("many", failure_threshold=50)
    results = await asyncio.gather(*(breaker.call(fail) for _ in range(50)), return_exceptions=True)
    assert {type(result) for result in results} == {Down}
    assert await state(breaker) == ("open", 50)


# --- open ------------------------------------------------------------------------------------


async def test_at_the_threshold_it_opens_and_spares_the_service(
    store: Store, breaker: CircuitBreaker
) -> None:
    await fail_times(breaker, 3)
    await store.advance("10s")
    with pytest.raises(CircuitOpen, match="'api' is open: retry after 20 s") as caught:
        await breaker.call(spared)
    assert caught.value.key == "api"
    assert caught.value.retry_after == 20.0


async def test_a_success_that_began_before_does_not_close_it(breaker: CircuitBreaker) -> None:
    paused = PausedCall()
    await fail_times(breaker, 1)
    slow = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await fail_times(breaker, 2)
    paused.resume()
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
    await fail_times(breaker, breaker.settings.failure_threshold)
    await store.advance("30s")


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
    await store.advance("29s")
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await store.advance("1s")
    assert await breaker.call(work) == 7


async def test_one_probe_at_a_time_in_all_processes(
    store: Store, breaker: CircuitBreaker, elsewhere: CircuitBreaker
) -> None:
    await opened(store, breaker)
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await store.advance("15s")  # more than a lease: it is renewed
    for one in (breaker, elsewhere):
        with pytest.raises(CircuitOpen) as caught:
            await one.call(spared)
        assert caught.value.retry_after == 1.0, "a probe may end at any moment"
    paused.resume()
    await probe
    assert await elsewhere.call(work) == 7


async def test_of_many_who_come_at_once_one_probes(store: Store, breaker: CircuitBreaker) -> None:
    await opened(store, breaker)
    paused = PausedCall()
    callers = [asyncio.create_task(breaker.call(paused.run)) for _ in range(10)]
    await paused.started()
    await store.wait_until_idle()
    paused.resume()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert paused.calls == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 9


async def test_a_cancelled_probe_decides_nothing_and_frees_its_slot(
    store: Store, breaker: CircuitBreaker, elsewhere: CircuitBreaker
) -> None:
    await opened(store, breaker)
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
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
    assert await leases_of(gs).acquire("circuit:api", "10s") is not None
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await store.advance("11s")
    assert await breaker.call(work) == 7


@pytest.mark.parametrize("fails", [False, True])
async def test_a_probe_that_lost_its_lease_decides_nothing(
    store: Store, gs: Scope, breaker: CircuitBreaker, elsewhere: CircuitBreaker, fails: bool
) -> None:
    """Its outcome is fenced: the circuit belongs to the next prober."""
    await opened(store, breaker)
    paused, second = PausedCall(), PausedCall()

    async def slow() -> None:
        await paused.run()
        if fails:
            raise Down

    late = asyncio.create_task(breaker.call(slow))
    await paused.started()
    await leases_of(gs).force_release("circuit:api")
    probe = asyncio.create_task(elsewhere.call(second.run))
    await second.started()
    paused.resume()
    # Its result, or its error, is as good as any.
    (outcome,) = await asyncio.gather(late, return_exceptions=True)
    assert isinstance(outcome, Down) is fails
    assert await state(breaker) == ("half-open", 3)
    second.resume()
    await probe
    assert await state(breaker) == ("closed", 0)


async def test_a_probe_is_ended_when_its_lease_is_lost(
    store: Store, gs: Scope, breaker: CircuitBreaker
) -> None:
    await opened(store, breaker)
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await leases_of(gs).force_release("circuit:api")
    await store.advance("4s")
    paused.resume()  # too late
    with pytest.raises(LeaseLost):
        await probe
    assert paused.running == 0


async def test_it_takes_as_many_successful_probes_as_it_is_told(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, success_threshold=3)
    await opened(store, breaker)
    for successes in (1, 2):
        await breaker.call(work)
        stored = await breaker.state()
        assert (stored.state, stored.success_count) == ("half-open", successes)
    await breaker.call(work)
    assert await state(breaker) == ("closed", 0)


async def test_a_success_below_the_threshold_counts_only_under_its_lease(
    store: Store, gs: Scope, other: Scope
) -> None:
    """A late one would take the circuit back to where its probe began."""
    breaker = gs.circuit_breaker("api", failure_threshold=1, success_threshold=2)
    await opened(store, breaker)
    paused = PausedCall()
    late = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await leases_of(gs).force_release("circuit:api")
    await fail_times(other.circuit_breaker("api", failure_threshold=1, success_threshold=2), 1)
    paused.resume()
    await late
    assert await state(breaker) == ("open", 2)


async def test_a_failed_probe_starts_the_successes_anew(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, success_threshold=2)
    await opened(store, breaker)
    await breaker.call(work)
    await fail_times(breaker, 1)
    await store.advance("30s")
    await breaker.call(work)
    assert (await breaker.state()).state == "half-open"
    await breaker.call(work)
    assert (await breaker.state()).state == "closed"


class ChangingStates(RecordCircuitBreakerStateProvider):
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
    states = ChangingStates(adapter.context, adapter)
    adapter.circuit_breaker = states
    async with Scope(persistence=adapter) as gs:
        await states.set_state("api", CircuitBreakerState(state="open", last_failure_time=1))
        yield gs.circuit_breaker("api"), states
        assert lease_watchers() == []
        assert await adapter.lease.holder("circuit:api") is None


async def test_a_circuit_closed_between_look_and_grant_needs_no_probe(
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
    with pytest.raises(BackendUnavailable):
        await breaker.call(spared)


# --- by hand ---------------------------------------------------------------------------------

DECISIONS: dict[str, Callable[[CircuitBreaker], Awaitable[None]]] = {
    "force_open": CircuitBreaker.force_open,
    "force_close": CircuitBreaker.force_close,
    "reset": CircuitBreaker.reset,
}


async def assert_held_open(breaker: CircuitBreaker) -> None:
    with pytest.raises(CircuitOpen, match="'api' is forced open") as caught:
        await breaker.call(spared)
    assert caught.value.retry_after is None


@pytest.mark.parametrize("was", ["closed", "open", "half-open"])
async def test_held_open_it_refuses_every_call_however_long(
    store: Store, breaker: CircuitBreaker, elsewhere: CircuitBreaker, was: CircuitState
) -> None:
    if was != "closed":
        await fail_times(breaker, 3)
    if was == "half-open":
        await store.advance("30s")
        with pytest.raises(LockTimeout):
            await breaker.call(undecided)
    assert (await breaker.state()).state == was
    await breaker.force_open()
    for _ in range(3):
        await store.advance("1m")
        await assert_held_open(breaker)
        await assert_held_open(elsewhere)


async def undecided() -> None:
    """A probe that ends without an outcome."""
    raise LockTimeout("door", 0, None, None)


@pytest.mark.parametrize("fails", [False, True])
async def test_held_open_it_stays_so_whatever_calls_under_way_come_to(
    store: Store, breaker: CircuitBreaker, fails: bool
) -> None:
    paused = PausedCall()

    async def late() -> None:
        await paused.run()
        if fails:
            raise Down

    await fail_times(breaker, 1)
    call = asyncio.create_task(breaker.call(late))
    await paused.started()
    await breaker.force_open()
    paused.resume()
    await asyncio.gather(call, return_exceptions=True)
    assert await state(breaker) == ("open", int(fails))
    await store.advance("1m")
    await assert_held_open(breaker)


async def test_a_reopened_scope_finds_it_held_open(store: Store, gs: Scope) -> None:
    await gs.circuit_breaker("api").force_open()
    await gs.close()
    await gs.open()
    await assert_held_open(gs.circuit_breaker("api"))


@pytest.mark.parametrize("decision", ["force_close", "reset"])
@pytest.mark.parametrize("opened_by", ["failures", "hand"])
async def test_closed_by_hand_calls_go_through_at_once_and_count_from_zero(
    breaker: CircuitBreaker, elsewhere: CircuitBreaker, decision: str, opened_by: str
) -> None:
    if opened_by == "failures":
        await fail_times(breaker, 3)
    else:
        await breaker.force_open()
    await DECISIONS[decision](breaker)
    assert await elsewhere.call(work) == 7
    await fail_times(breaker, 2)
    assert await state(breaker) == ("closed", 2)
    await fail_times(breaker, 1)
    assert await state(breaker) == ("open", 3)


@pytest.mark.parametrize("decision", ["force_close", "reset"])
async def test_closed_by_hand_it_forgets_the_failures_below_the_threshold(
    breaker: CircuitBreaker, decision: str
) -> None:
    await fail_times(breaker, 2)
    await DECISIONS[decision](breaker)
    assert await state(breaker) == ("closed", 0)


async def test_a_reset_circuit_is_as_new(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, success_threshold=3)
    await opened(store, breaker)
    await breaker.call(work)
    stored = await breaker.state()
    assert (stored.success_count, stored.last_success_time is None) == (1, False)
    await breaker.reset()
    assert await breaker.state() == CircuitBreakerState()


async def test_one_closed_by_hand_keeps_the_time_of_its_last_failure(
    breaker: CircuitBreaker,
) -> None:
    await fail_times(breaker, 3)
    before = await breaker.state()
    await breaker.force_close()
    assert (await breaker.state()).last_failure_time == before.last_failure_time is not None


class Steps:
    """Stops what decides by hand at each step it takes in the store, and lets others act."""

    def __init__(self, at: str | None) -> None:
        self._at = at
        self.act: Callable[[], Awaitable[None]] | None = None
        self.taken = False
        self.clock = FakeClock()

    async def __call__(self, name: str) -> None:
        if name == self._at and self.act is not None and not self.taken:
            self.taken = True
            await self.act()


class SteppedLeases(RecordLockProvider):
    steps: Steps

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> StoredLockHandle | None:
        await self.steps("before acquire")
        granted = await super().acquire(key, ttl, owner)
        await self.steps("after acquire" if granted else "after refusal")
        return granted

    async def force_release(self, key: str) -> None:
        await super().force_release(key)
        await self.steps("after force_release")


class SteppedStates(RecordCircuitBreakerStateProvider):
    steps: Steps

    async def set_state(
        self, key: str, state: CircuitBreakerState, *, fence: LockHandle | None = None
    ) -> None:
        await self.steps("before write")
        await super().set_state(key, state, fence=fence)
        await self.steps("after write")

    async def record_success(
        self, key: str, *, expected: CircuitState | None = None, fence: LockHandle | None = None
    ) -> None:
        await self.steps("before write")
        await super().record_success(key, expected=expected, fence=fence)
        await self.steps("after write")


@asynccontextmanager
async def stepped(steps: Steps) -> AsyncGenerator[CircuitBreaker]:
    """A circuit whose reset timeout is over, in a store that stops at one step."""
    adapter = MemoryAdapter(clock=steps.clock)
    leases = SteppedLeases(adapter.context, "lease", adapter)
    states = SteppedStates(adapter.context, adapter)
    leases.steps = states.steps = steps
    adapter.lease, adapter.circuit_breaker = leases, states
    async with Scope(persistence=adapter) as gs:
        ended = CircuitBreakerState(state="open", failure_count=3, last_failure_time=1)
        await states.set_state("api", ended)
        yield gs.circuit_breaker("api", failure_threshold=3)
        assert lease_watchers() == []
        assert await leases.holder("circuit:api") is None


STEPS = (
    "before acquire",
    "after refusal",
    "after force_release",
    "after acquire",
    "before write",
    "after write",
)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("decision", DECISIONS)
async def test_by_hand_outlives_probes_that_end_and_begin_meanwhile(
    decision: str, at: str, fails: bool
) -> None:
    steps = Steps(at)
    async with stepped(steps) as breaker:
        gates = [PausedCall(), PausedCall()]

        async def probing(paused: PausedCall) -> None:
            await paused.run()
            if fails:
                raise Down

        probe = asyncio.create_task(breaker.call(lambda: probing(gates[0])))
        await gates[0].started()
        later: list[asyncio.Task[None]] = []

        async def one_ends_and_another_begins() -> None:
            gates[0].resume()
            await asyncio.wait([probe])
            later.append(asyncio.create_task(breaker.call(lambda: probing(gates[1]))))
            await ticks()

        steps.act = one_ends_and_another_begins
        await DECISIONS[decision](breaker)
        left = await breaker.state()
        gates[1].resume()
        await asyncio.gather(*later, return_exceptions=True)
        assert steps.taken
        if decision == "force_open":
            assert await breaker.state() == CircuitBreakerState(state="open")
        elif at == "after write" and fails:
            # Whoever came after it was closed is an ordinary call, and counts.
            assert await state(breaker) == ("closed", 1)
        else:
            assert (left.state, left.failure_count) == ("closed", 0)
            assert (await breaker.state()).state == "closed"


@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("first", DECISIONS)
@pytest.mark.parametrize("second", DECISIONS)
async def test_of_two_who_decide_at_once_both_are_heard(first: str, second: str, at: str) -> None:
    """Whoever writes last has decided; a seized lease only makes the other one begin again."""
    steps = Steps(at)
    async with stepped(steps) as breaker:
        paused = PausedCall()
        probe = asyncio.create_task(breaker.call(paused.run))  # so that every step is taken
        await paused.started()
        steps.act = lambda: DECISIONS[second](breaker)
        await DECISIONS[first](breaker)
        assert steps.taken
        last = second if at == "after write" else first
        expected = ("open", 0) if last == "force_open" else ("closed", 0)
        assert await state(breaker) == expected
        paused.resume()
        await probe


async def test_one_by_hand_that_slept_through_its_lease_decides_nonetheless() -> None:
    """A probe has the lease by then; were its outcome not refused, it would close the circuit."""
    steps = Steps("before write")
    async with stepped(steps) as breaker:
        paused = PausedCall()
        probes: list[asyncio.Task[None]] = []

        async def sleep() -> None:
            await steps.clock.advance("11s")
            probes.append(asyncio.create_task(breaker.call(paused.run)))
            await paused.started()

        steps.act = sleep
        await breaker.force_open()
        paused.resume()
        await probes[0]
        assert await breaker.state() == CircuitBreakerState(state="open")


@pytest.mark.parametrize("decision", DECISIONS)
async def test_cancelled_by_hand_means_done_or_not(
    breaker: CircuitBreaker, gs: Scope, decision: str
) -> None:
    """Wherever it is cancelled, nothing is half done and no lease is left behind."""
    leases = leases_of(gs)
    for count in range(30):
        await breaker.reset()
        if decision != "force_open":
            await fail_times(breaker, 3)
        before = await state(breaker)
        task = asyncio.ensure_future(DECISIONS[decision](breaker))
        await ticks(count)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        done = ("open", 0) if decision == "force_open" else ("closed", 0)
        assert await state(breaker) in (before, done)
        assert await leases.holder("circuit:api") is None


async def test_a_call_whose_slot_is_seized_before_it_probes_is_refused() -> None:
    steps = Steps("before write")
    async with stepped(steps) as breaker:
        steps.act = breaker.force_open
        with pytest.raises(CircuitOpen):
            await breaker.call(spared)
        await assert_held_open(breaker)


async def test_a_probe_that_goes_on_for_long_after_its_slot_was_seized_is_ended(
    store: Store, breaker: CircuitBreaker, elsewhere: CircuitBreaker
) -> None:
    await opened(store, breaker)
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await elsewhere.force_close()
    await store.advance("4s")
    paused.resume()  # too late
    with pytest.raises(LeaseLost):
        await probe
    assert await state(breaker) == ("closed", 0)


# --- what counts -----------------------------------------------------------------------------


async def test_only_the_named_exceptions_count(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=3, on=(Down, TimeoutError))
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
    breaker = gs.circuit_breaker("api", on=Down)
    await fail_times(breaker, 1)

    async def blocked() -> None:
        raise LockTimeout("door", 0, None, None)

    with pytest.raises(LockTimeout):
        await breaker.call(blocked)
    assert await state(breaker) == ("closed", 1)


async def test_an_open_circuit_inside_does_not_open_the_one_around_it(
    gs: Scope, breaker: CircuitBreaker
) -> None:
    inner = gs.circuit_breaker("inner", failure_threshold=1)
    await fail_times(inner, 1)
    for _ in range(3):
        with pytest.raises(CircuitOpen, match="inner"):
            await breaker.call(lambda: inner.call(work))
    assert await state(breaker) == ("closed", 0)


async def test_a_cancellation_counts_as_nothing(breaker: CircuitBreaker) -> None:
    paused = PausedCall()
    await fail_times(breaker, 1)
    call = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    call.cancel()
    await asyncio.wait([call])
    assert await state(breaker) == ("closed", 1)


async def test_a_call_marked_as_failed_counts_as_nothing_when_it_is_cancelled(
    breaker: CircuitBreaker,
) -> None:
    paused = PausedCall()

    async def marked() -> None:
        async with breaker as call:
            call.fail()
            await paused.run()

    task = asyncio.create_task(marked())
    await paused.started()
    task.cancel()
    await asyncio.wait([task])
    assert await state(breaker) == ("closed", 0)


class Leaving(BaseException):
    """Ends the program, and says nothing about the service."""


async def test_what_ends_the_program_is_no_success(breaker: CircuitBreaker) -> None:
    await fail_times(breaker, 1)
    with pytest.raises(Leaving):
        async with breaker:
            raise Leaving
    assert await state(breaker) == ("closed", 1)


async def test_a_result_can_count_as_a_failure(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=2, on_result=lambda status: status >= 500)

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
    paused = PausedCall()

    async def one(fails: bool) -> None:
        async with breaker as call:
            await paused.run()
            if fails:
                call.fail()

    async with asyncio.TaskGroup() as group:
        for fails in (True, False, True):
            group.create_task(one(fails))
        await paused.started(3)
        paused.resume()
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
    gs.circuit_breaker("api", failure_threshold=3, reset_timeout="1m")
    gs.circuit_breaker("api", failure_threshold=3, reset_timeout=timedelta(minutes=1))
    with pytest.raises(ConfigurationError, match="circuit 'api' already has other settings"):
        gs.circuit_breaker("api", failure_threshold=4, reset_timeout="1m")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"failure_threshold": 0}, ValueError),
        ({"failure_threshold": 2.5}, ValueError),
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
        await store.advance("30s")
        await fail_times(breaker, 1)
        await store.advance("30s")
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


async def test_what_is_decided_by_hand_is_told(breaker: CircuitBreaker, gs: Scope) -> None:
    with record_events(gs) as events:
        await breaker.force_open()
        await breaker.force_close()
        await breaker.reset()
    assert events == [
        CircuitOpened(key="api", failure_count=0, forced=True),
        CircuitClosed(key="api", forced=True),
        CircuitReset(key="api"),
    ]


async def test_late_failures_that_reopen_a_half_open_circuit_are_told_once(
    store: Store, gs: Scope, breaker: CircuitBreaker
) -> None:
    """Of calls that began before it opened; the probe's failure then opens nothing."""
    late, probing = PausedCall(), PausedCall()

    async def fail_behind(paused: PausedCall) -> None:
        await paused.run()
        raise Down

    calls = [asyncio.create_task(breaker.call(lambda: fail_behind(late))) for _ in range(3)]
    await late.started(3)
    await opened(store, breaker)
    probe = asyncio.create_task(breaker.call(lambda: fail_behind(probing)))
    await probing.started()
    with record_events(gs) as events:
        late.resume()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await state(breaker) == ("open", 6)
        probing.resume()
        await asyncio.gather(probe, return_exceptions=True)
        assert await state(breaker) == ("open", 7)
    assert events == [CircuitOpened(key="api", failure_count=4)]


class SlowlyReadStates(RecordCircuitBreakerStateProvider):
    """Others write between a read and what its reader does about it."""

    async def _get(self, key: str) -> CircuitBreakerState | None:
        found = await super()._get(key)
        await ticks()
        return found


async def test_one_of_several_failures_at_once_has_reopened_it() -> None:
    clock, late = FakeClock(), PausedCall()
    adapter = MemoryAdapter(clock=clock)
    adapter.circuit_breaker = SlowlyReadStates(adapter.context, adapter)

    async def fail_late() -> None:
        await late.run()
        raise Down

    async with Scope(persistence=adapter) as gs:
        breaker = gs.circuit_breaker("api", failure_threshold=3)
        calls = [asyncio.create_task(breaker.call(fail_late)) for _ in range(3)]
        await late.started(3)
        await fail_times(breaker, 3)
        await clock.advance("30s")
        with pytest.raises(LockTimeout):
            await breaker.call(undecided)
        with record_events(gs) as events:
            late.resume()
            await asyncio.gather(*calls, return_exceptions=True)
    assert events == [CircuitOpened(key="api", failure_count=4)]


async def test_nothing_is_left_running(store: Store, breaker: CircuitBreaker) -> None:
    await opened(store, breaker)
    await breaker.call(work)
    assert lease_watchers() == []
