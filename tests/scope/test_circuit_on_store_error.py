"""``on_store_error``: what becomes of a circuit while its store fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
import pytest_asyncio

from goscope import (
    BackendBusy,
    BackendUnavailable,
    CircuitBreaker,
    CircuitBreakerState,
    CircuitOpen,
    ConfigurationError,
    Scope,
)
from goscope.backend import Fence
from goscope.backend.records import RecordCircuitBreakerStateProvider, RecordLockProvider
from goscope.events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRejected,
    CircuitStoreFailed,
    CircuitStoreRecovered,
    Event,
)
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock, record_events
from goscope_sqlite import SQLiteAdapter

from .support import PausedCall, lease_watchers

pytestmark = pytest.mark.asyncio

Change: TypeAlias = Callable[[CircuitBreakerState | None], CircuitBreakerState | None]


class Down(Exception):
    """The service does not answer."""


async def fail() -> None:
    raise Down


async def work() -> int:
    return 7


async def fail_times(breaker: CircuitBreaker, count: int) -> None:
    for _ in range(count):
        with pytest.raises(Down) as caught:
            await breaker.call(fail)
        assert not hasattr(caught.value, "__notes__"), "counted, wherever it was"


class Weather:
    """What the store does not do at the moment."""

    reads = True
    writes = True

    def read(self) -> None:
        if not self.reads:
            raise BackendUnavailable("the store is away")

    def write(self) -> None:
        self.read()
        if not self.writes:
            raise BackendBusy("the store is locked")

    @contextmanager
    def away(self) -> Generator[None]:
        self.reads = False
        yield
        self.reads = True

    @contextmanager
    def locked(self) -> Generator[None]:
        self.writes = False
        yield
        self.writes = True


class FailingLeases(RecordLockProvider):
    def __init__(self, adapter: MemoryAdapter, weather: Weather) -> None:
        super().__init__(adapter.context, "lease", adapter)
        self._weather = weather

    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        self._weather.write()
        return await super()._grant(key, owner, ttl_ms)

    async def _release(self, key: str, token: int) -> None:
        self._weather.write()
        await super()._release(key, token)

    async def _remove(self, key: str) -> None:
        self._weather.write()
        await super()._remove(key)


class FailingStates(RecordCircuitBreakerStateProvider):
    def __init__(self, adapter: MemoryAdapter, weather: Weather) -> None:
        super().__init__(adapter.context, adapter)
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self._weather = weather

    async def _get(self, key: str) -> CircuitBreakerState | None:
        self._weather.read()
        return await super()._get(key)

    async def _update(self, key: str, change: Change, fence: Fence | None) -> None:
        self._weather.write()
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        await super()._update(key, change, fence)


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def gs(weather: Weather, clock: FakeClock) -> AsyncIterator[Scope]:
    """A scope on a store that fails as the weather has it."""
    adapter = MemoryAdapter(clock=clock)
    adapter.lease = FailingLeases(adapter, weather)
    adapter.circuit_breaker = FailingStates(adapter, weather)
    async with Scope(persistence=adapter) as scope:
        yield scope
        assert lease_watchers() == []


@pytest.fixture
def breaker(gs: Scope) -> CircuitBreaker:
    """Opens at the third failure, for 30 s, wherever it is counted."""
    return gs.circuit_breaker("api", failure_threshold=3, on_store_error="local")


async def shared(gs: Scope) -> tuple[str, int]:
    """What the store has."""
    assert gs.persistence.circuit_breaker is not None
    state = await gs.persistence.circuit_breaker.get_state("api") or CircuitBreakerState()
    return state.state, state.failure_count


# --- raise -----------------------------------------------------------------------------------


async def test_by_default_the_stores_error_is_raised_before_the_body_runs(
    gs: Scope, weather: Weather
) -> None:
    breaker = gs.circuit_breaker("api")

    async def spared() -> None:
        pytest.fail("nobody should have got in")

    with weather.away(), pytest.raises(BackendUnavailable):
        await breaker.call(spared)


async def test_by_default_an_outcome_that_cannot_be_recorded_is_told(
    gs: Scope, weather: Weather
) -> None:
    breaker = gs.circuit_breaker("api")
    await fail_times(breaker, 1)
    with weather.locked():
        with pytest.raises(BackendBusy):
            await breaker.call(work)
        with pytest.raises(Down) as caught:
            await breaker.call(fail)
    assert "could not record it: the store is locked" in caught.value.__notes__[0]


async def test_raised_errors_leave_the_circuit_as_it_was(gs: Scope, weather: Weather) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1)
    with weather.away():
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                await breaker.call(fail)
    assert await breaker.call(work) == 7


# --- local, with a store that answers nothing ---------------------------------------------------


async def test_locally_it_opens_at_the_threshold_probes_and_closes(
    breaker: CircuitBreaker, weather: Weather, clock: FakeClock
) -> None:
    with weather.away():
        assert await breaker.call(work) == 7
        await fail_times(breaker, 2)
        await breaker.call(work)  # starts the count anew
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


async def test_locally_it_starts_closed_whatever_it_was(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    await fail_times(breaker, 3)
    with weather.away():
        assert await breaker.call(work) == 7
    assert await shared(gs) == ("open", 3)


async def test_locally_one_probe_runs_at_a_time(
    gs: Scope, breaker: CircuitBreaker, weather: Weather, clock: FakeClock
) -> None:
    """Among all that the scope hands out for the key, and for longer than a lease."""
    paused = PausedCall()
    with weather.away():
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


async def test_locally_it_takes_as_many_successful_probes(
    gs: Scope, weather: Weather, clock: FakeClock
) -> None:
    breaker = gs.circuit_breaker(
        "api", failure_threshold=1, success_threshold=2, on_store_error="local"
    )
    paused = PausedCall()
    with weather.away():
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


async def test_circuits_fall_back_one_by_one(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    other = gs.circuit_breaker("other", failure_threshold=3, on_store_error="local")
    with weather.away():
        await fail_times(breaker, 3)
        assert await other.call(work) == 7


async def test_as_soon_as_the_store_answers_the_shared_state_decides(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    with weather.away():
        await fail_times(breaker, 2)
        await breaker.call(work)
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
    assert await breaker.call(work) == 7, "closed in the store"
    await fail_times(breaker, 3)
    with weather.away():
        await breaker.call(work)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    assert await shared(gs) == ("open", 3)


async def test_a_failure_counts_in_the_store_when_it_answers_again_by_then(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    paused = PausedCall()

    async def fail_late() -> None:
        await paused.run()
        raise Down

    with weather.away():
        call = asyncio.create_task(breaker.call(fail_late))
        await paused.started()
    paused.resume()
    await asyncio.gather(call, return_exceptions=True)
    assert await shared(gs) == ("closed", 1)


async def test_each_change_is_told_once(
    gs: Scope, breaker: CircuitBreaker, weather: Weather, clock: FakeClock
) -> None:
    with record_events(gs) as events:
        with weather.away():
            await fail_times(breaker, 3)
            for _ in range(3):
                with pytest.raises(CircuitOpen):
                    await breaker.call(work)
            await clock.advance("30s")
            await breaker.call(work)
        for _ in range(3):
            await breaker.call(work)
        with weather.away():
            await breaker.call(work)
    told: list[type[Event]] = [type(event) for event in events]
    assert told == [
        CircuitStoreFailed,
        CircuitOpened,
        *[CircuitRejected] * 3,
        CircuitHalfOpened,
        CircuitClosed,
        CircuitStoreRecovered,
        CircuitStoreFailed,
    ]
    assert events[0] == CircuitStoreFailed(key="api", error="the store is away")


async def test_that_the_store_answers_again_is_told_by_a_refused_call_too(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    await fail_times(breaker, 3)
    with weather.away():
        await breaker.call(work)
    with record_events(gs) as events, pytest.raises(CircuitOpen):
        await breaker.call(work)
    assert [type(event) for event in events] == [CircuitStoreRecovered, CircuitRejected]


async def test_a_scope_opened_again_starts_with_its_store(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    with weather.away():
        await fail_times(breaker, 3)
    await gs.close()
    await gs.open()
    with record_events(gs) as events:
        assert await breaker.call(work) == 7
    assert events == []


# --- local, with a store that only reads --------------------------------------------------------


async def test_failures_that_the_store_does_not_take_open_the_circuit_here(
    gs: Scope, breaker: CircuitBreaker, weather: Weather, clock: FakeClock
) -> None:
    """Though the store, when it is read, has it closed all the time."""
    with weather.locked():
        await fail_times(breaker, 3)
        assert await shared(gs) == ("closed", 0)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
        await clock.advance("30s")
        assert await breaker.call(work) == 7
        assert await breaker.call(work) == 7
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)


async def test_a_success_that_the_store_does_not_take_counts_here(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    await fail_times(breaker, 2)
    with weather.locked():
        assert await breaker.call(work) == 7
        await fail_times(breaker, 2)
        assert await breaker.call(work) == 7
        await fail_times(breaker, 2)
        assert await breaker.call(work) == 7
    assert await shared(gs) == ("closed", 2)
    await breaker.call(work)
    assert await shared(gs) == ("closed", 0), "seen in the store, though the count here is 0"


async def test_that_a_write_was_refused_is_remembered_while_nothing_is_answered(
    breaker: CircuitBreaker, weather: Weather
) -> None:
    with weather.locked():
        await fail_times(breaker, 3)
        with weather.away(), pytest.raises(CircuitOpen):
            await breaker.call(work)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)


async def test_an_outage_is_over_as_it_began(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    """Whatever the last one was: one that answers nothing is over with the first answer."""
    with weather.locked():
        await fail_times(breaker, 1)
    await fail_times(breaker, 1)
    with weather.away():
        await fail_times(breaker, 3)
    assert await breaker.call(work) == 7


async def test_the_store_decides_again_once_it_takes_a_write(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    with record_events(gs) as events:
        with weather.locked():
            await fail_times(breaker, 2)
        await breaker.call(work)  # looks, and brings the store the end of the failures
        await fail_times(breaker, 2)
    assert [type(event) for event in events] == [CircuitStoreFailed, CircuitStoreRecovered]
    assert await shared(gs) == ("closed", 2)


async def test_an_open_circuit_here_lets_its_probe_end_here(
    gs: Scope, breaker: CircuitBreaker, weather: Weather, clock: FakeClock
) -> None:
    """The store can be written to again, which nobody knows before there is something to write."""
    with weather.locked():
        await fail_times(breaker, 3)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await clock.advance("30s")
    assert await breaker.call(work) == 7
    with record_events(gs) as events:
        await fail_times(breaker, 1)
    assert [type(event) for event in events] == [CircuitStoreRecovered]
    assert await shared(gs) == ("closed", 1)


async def test_what_is_decided_by_hand_goes_to_the_store_or_fails(
    gs: Scope, breaker: CircuitBreaker, weather: Weather
) -> None:
    with weather.locked():
        await fail_times(breaker, 3)
        for decide in (breaker.force_open, breaker.force_close, breaker.reset):
            with pytest.raises(BackendBusy):
                await decide()
        assert await shared(gs) == ("closed", 0)
    await breaker.reset()
    assert await breaker.call(work) == 7, "the store took a write, so it decides"


# --- a probe in the store -----------------------------------------------------------------------


async def test_a_probe_that_the_store_cannot_grant_falls_back(
    gs: Scope, breaker: CircuitBreaker, weather: Weather, clock: FakeClock
) -> None:
    await fail_times(breaker, 3)
    await clock.advance("30s")
    with weather.locked():
        assert await breaker.call(work) == 7
        await fail_times(breaker, 3)
        with pytest.raises(CircuitOpen):
            await breaker.call(work)
    assert await shared(gs) == ("open", 3)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_probe_whose_outcome_the_store_does_not_take_is_one_of_the_calls_here(
    gs: Scope, weather: Weather, clock: FakeClock, fails: bool
) -> None:
    """Nothing but its own result or error is raised, though its lease could not be released."""
    breaker = gs.circuit_breaker("api", failure_threshold=1, on_store_error="local")
    await fail_times(breaker, 1)
    await clock.advance("30s")
    paused = PausedCall()

    async def probing() -> int:
        await paused.run()
        if fails:
            raise Down
        return 7

    probe = asyncio.create_task(breaker.call(probing))
    await paused.started()
    with weather.away():
        paused.resume()
        (outcome,) = await asyncio.gather(probe, return_exceptions=True)
        assert isinstance(outcome, Down) if fails else outcome == 7
        if fails:
            with pytest.raises(CircuitOpen):
                await breaker.call(work)
        else:
            assert await breaker.call(work) == 7
    assert await shared(gs) == ("half-open", 1)
    # The lease that was not released runs out.
    with pytest.raises(CircuitOpen):
        await breaker.call(work)
    await clock.advance("10s")
    assert await breaker.call(work) == 7
    assert await shared(gs) == ("closed", 0)


@pytest.mark.parametrize("choice", ["raise", "local"])
async def test_a_lease_that_cannot_be_released(
    gs: Scope, weather: Weather, clock: FakeClock, choice: Literal["raise", "local"]
) -> None:
    """It runs out by itself; the outcome is recorded by then."""
    breaker = gs.circuit_breaker("api", failure_threshold=1, on_store_error=choice)
    await fail_times(breaker, 1)
    await clock.advance("30s")
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(lambda: paused.run(7)))
    await paused.started()

    async def refuse_the_next_write() -> None:
        weather.writes = False

    states = gs.persistence.circuit_breaker
    assert isinstance(states, FailingStates)
    states.meanwhile = refuse_the_next_write
    paused.resume()
    outcome: Any = (await asyncio.gather(probe, return_exceptions=True))[0]
    assert isinstance(outcome, BackendBusy) if choice == "raise" else outcome == 7
    assert await shared(gs) == ("closed", 0)


async def test_a_probe_of_the_store_is_one_though_the_store_refuses_another_call_meanwhile(
    gs: Scope, breaker: CircuitBreaker, weather: Weather, clock: FakeClock
) -> None:
    """That call began before the circuit opened, and opens it here."""
    paused = PausedCall()

    async def fail_late() -> None:
        await paused.run()
        raise Down

    late = [asyncio.create_task(breaker.call(fail_late)) for _ in range(3)]
    await paused.started(3)
    await fail_times(breaker, 3)
    await clock.advance("30s")

    async def refuse_the_others() -> None:
        with weather.locked():
            paused.resume()
            await asyncio.gather(*late, return_exceptions=True)

    states = gs.persistence.circuit_breaker
    assert isinstance(states, FailingStates)
    states.meanwhile = refuse_the_others
    assert await breaker.call(work) == 7
    assert await shared(gs) == ("closed", 0)


# --- settings -----------------------------------------------------------------------------------


async def test_it_is_one_of_the_settings_that_must_agree(gs: Scope) -> None:
    gs.circuit_breaker("api", on_store_error="local")
    with pytest.raises(ConfigurationError, match="other settings"):
        gs.circuit_breaker("api")


async def test_there_are_two_choices(gs: Scope) -> None:
    other: Any = "ignore"
    with pytest.raises(ValueError, match="'raise' or 'local', not 'ignore'"):
        gs.circuit_breaker("api", on_store_error=other)
    gs.circuit_breaker("api", on_store_error="local")


# --- a real store -------------------------------------------------------------------------------


async def test_a_file_that_another_program_keeps_locked(tmp_path: Path, clock: FakeClock) -> None:
    """Its reads are answered all the time; only the last failure comes into the store."""
    path = tmp_path / "store.db"
    adapter = SQLiteAdapter(path, busy_timeout="20ms", clock=clock)
    async with Scope(persistence=adapter) as gs:
        breaker = gs.circuit_breaker("api", failure_threshold=2, on_store_error="local")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            await fail_times(breaker, 2)
            with pytest.raises(CircuitOpen):
                await breaker.call(work)
            assert await breaker.state() == CircuitBreakerState()
        finally:
            other.close()
        await clock.advance("30s")
        assert await breaker.call(work) == 7
        with record_events(gs) as events:
            await fail_times(breaker, 1)
        assert [type(event) for event in events] == [CircuitStoreRecovered]
        assert (await breaker.state()).failure_count == 1
