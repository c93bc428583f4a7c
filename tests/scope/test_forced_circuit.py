"""``force_open``, ``force_close`` and ``reset``: they decide for all processes, whatever runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from goscope import (
    CircuitBreaker,
    CircuitBreakerState,
    CircuitOpen,
    LeaseLost,
    LockHandle,
    LockTimeout,
    Scope,
)
from goscope.backend.records import RecordCircuitBreakerStateProvider, RecordLockProvider
from goscope.memory import MemoryAdapter
from goscope.providers import CircuitState
from goscope.testing import FakeClock

from .circuits import (
    ServiceDown,
    end_without_outcome,
    fail_times,
    must_not_run,
    open_past_reset_timeout,
    state,
    work,
)
from .support import PausedCall, Store, lease_watchers, leases_of, ticks

pytestmark = pytest.mark.asyncio

FORCED_CHANGES: dict[str, Callable[[CircuitBreaker], Awaitable[object]]] = {
    "force_open": CircuitBreaker.force_open,
    "force_close": CircuitBreaker.force_close,
    "reset": CircuitBreaker.reset,
}


async def assert_forced_open(breaker: CircuitBreaker) -> None:
    with pytest.raises(CircuitOpen, match="'api' is forced open") as caught:
        await breaker.call(must_not_run)
    assert caught.value.retry_after is None


@pytest.mark.parametrize("was", ["closed", "open", "half-open"])
async def test_a_forced_open_circuit_rejects_every_call_after_its_reset_timeout_too(
    store: Store, breaker: CircuitBreaker, other_breaker: CircuitBreaker, was: CircuitState
) -> None:
    if was != "closed":
        await fail_times(breaker, 3)
    if was == "half-open":
        await store.advance("30s")
        with pytest.raises(LockTimeout):
            await breaker.call(end_without_outcome)
    assert (await breaker.state()).state == was
    await breaker.force_open()
    for _ in range(3):
        await store.advance("1m")
        await assert_forced_open(breaker)
        await assert_forced_open(other_breaker)


@pytest.mark.parametrize("fails", [False, True])
async def test_calls_in_flight_do_not_change_a_forced_open_circuit(
    store: Store, breaker: CircuitBreaker, fails: bool
) -> None:
    paused = PausedCall()

    async def late() -> None:
        await paused.run()
        if fails:
            raise ServiceDown

    await fail_times(breaker, 1)
    call = asyncio.create_task(breaker.call(late))
    await paused.started()
    await breaker.force_open()
    paused.resume()
    await asyncio.gather(call, return_exceptions=True)
    assert await state(breaker) == ("open", int(fails))
    await store.advance("1m")
    await assert_forced_open(breaker)


async def test_a_circuit_is_still_forced_open_in_a_reopened_scope(store: Store, gs: Scope) -> None:
    await gs.circuit_breaker("api").force_open()
    await gs.close()
    await gs.open()
    await assert_forced_open(gs.circuit_breaker("api"))


@pytest.mark.parametrize("change", FORCED_CHANGES)
async def test_a_change_with_another_expected_state_changes_nothing(
    gs: Scope, breaker: CircuitBreaker, change: str
) -> None:
    await fail_times(breaker, 3)
    shown = await breaker.state()
    force = getattr(breaker, change)
    assert await force(expected=CircuitBreakerState()) is False
    assert await breaker.state() == shown
    assert await force(expected=shown) is True
    assert await breaker.state() != shown
    assert [lease async for lease in gs.inspect.leases()] == []


@pytest.mark.parametrize("change", ["force_close", "reset"])
@pytest.mark.parametrize("opened_by", ["failures", "force_open"])
async def test_force_close_and_reset_admit_calls_and_count_from_zero(
    breaker: CircuitBreaker, other_breaker: CircuitBreaker, change: str, opened_by: str
) -> None:
    if opened_by == "failures":
        await fail_times(breaker, 3)
    else:
        await breaker.force_open()
    await FORCED_CHANGES[change](breaker)
    assert await other_breaker.call(work) == 7
    await fail_times(breaker, 2)
    assert await state(breaker) == ("closed", 2)
    await fail_times(breaker, 1)
    assert await state(breaker) == ("open", 3)


@pytest.mark.parametrize("change", ["force_close", "reset"])
async def test_force_close_and_reset_forget_failures_below_the_threshold(
    breaker: CircuitBreaker, change: str
) -> None:
    await fail_times(breaker, 2)
    await FORCED_CHANGES[change](breaker)
    assert await state(breaker) == ("closed", 0)


async def test_reset_restores_the_initial_state(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, success_threshold=3)
    await open_past_reset_timeout(store, breaker)
    await breaker.call(work)
    stored = await breaker.state()
    assert (stored.success_count, stored.last_success_time is None) == (1, False)
    await breaker.reset()
    assert await breaker.state() == CircuitBreakerState()


async def test_force_close_keeps_the_time_of_the_last_failure(
    breaker: CircuitBreaker,
) -> None:
    await fail_times(breaker, 3)
    before = await breaker.state()
    await breaker.force_close()
    assert (await breaker.state()).last_failure_time == before.last_failure_time is not None


class StepHook:
    """Runs an action at one step that a forced change takes in the store."""

    def __init__(self, at: str | None) -> None:
        self._at = at
        self.action: Callable[[], Awaitable[object]] | None = None
        self.ran = False
        self.clock = FakeClock()

    async def __call__(self, name: str) -> None:
        if name == self._at and self.action is not None and not self.ran:
            self.ran = True
            await self.action()


class SteppedLeases(RecordLockProvider):
    hook: StepHook

    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        await self.hook("before grant")
        token = await super()._grant(key, owner, ttl_ms)
        await self.hook("after refusal" if token is None else "after grant")
        return token

    async def _remove(self, key: str) -> None:
        await super()._remove(key)
        await self.hook("after removal")


class SteppedStates(RecordCircuitBreakerStateProvider):
    hook: StepHook

    async def set_state(
        self, key: str, state: CircuitBreakerState, *, fence: LockHandle | None = None
    ) -> None:
        await self.hook("before write")
        await super().set_state(key, state, fence=fence)
        await self.hook("after write")

    async def record_success(
        self, key: str, *, expected: CircuitState | None = None, fence: LockHandle | None = None
    ) -> None:
        await self.hook("before write")
        await super().record_success(key, expected=expected, fence=fence)
        await self.hook("after write")


@asynccontextmanager
async def stepped(hook: StepHook) -> AsyncGenerator[CircuitBreaker]:
    """A circuit whose reset timeout has passed, in a store that calls the hook at each step."""
    adapter = MemoryAdapter(clock=hook.clock)
    leases = SteppedLeases(adapter.context, "lease", adapter)
    states = SteppedStates(adapter.context, adapter)
    leases.hook = states.hook = hook
    adapter.lease, adapter.circuit_breaker = leases, states
    async with Scope(persistence=adapter) as gs:
        ended = CircuitBreakerState(state="open", failure_count=3, last_failure_time=1)
        await states.set_state("api", ended)
        yield gs.circuit_breaker("api", failure_threshold=3)
        assert lease_watchers() == []
        assert await leases.holder("circuit:api") is None


STEPS = (
    "before grant",
    "after refusal",
    "after removal",
    "after grant",
    "before write",
    "after write",
)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("change", FORCED_CHANGES)
async def test_a_forced_change_survives_probes_that_end_and_begin_during_it(
    change: str, at: str, fails: bool
) -> None:
    hook = StepHook(at)
    async with stepped(hook) as breaker:
        pauses = [PausedCall(), PausedCall()]

        async def probing(paused: PausedCall) -> None:
            await paused.run()
            if fails:
                raise ServiceDown

        probe = asyncio.create_task(breaker.call(lambda: probing(pauses[0])))
        await pauses[0].started()
        later: list[asyncio.Task[None]] = []

        async def one_ends_and_another_begins() -> None:
            pauses[0].resume()
            await asyncio.wait([probe])
            later.append(asyncio.create_task(breaker.call(lambda: probing(pauses[1]))))
            await ticks()

        hook.action = one_ends_and_another_begins
        await FORCED_CHANGES[change](breaker)
        left = await breaker.state()
        pauses[1].resume()
        await asyncio.gather(probe, *later, return_exceptions=True)
        assert hook.ran
        if change == "force_open":
            assert await breaker.state() == CircuitBreakerState(state="open")
        elif at == "after write" and fails:
            # A call that starts after the circuit was closed is an ordinary one, and counts.
            assert await state(breaker) == ("closed", 1)
        else:
            assert (left.state, left.failure_count) == ("closed", 0)
            assert (await breaker.state()).state == "closed"


@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("first", FORCED_CHANGES)
@pytest.mark.parametrize("second", FORCED_CHANGES)
async def test_concurrent_forced_changes_are_both_applied(first: str, second: str, at: str) -> None:
    """The last write decides; the change whose lease is seized starts again."""
    hook = StepHook(at)
    async with stepped(hook) as breaker:
        paused = PausedCall()
        probe = asyncio.create_task(breaker.call(paused.run))  # so that every step is taken
        await paused.started()
        hook.action = lambda: FORCED_CHANGES[second](breaker)
        await FORCED_CHANGES[first](breaker)
        assert hook.ran
        last = second if at == "after write" else first
        expected = ("open", 0) if last == "force_open" else ("closed", 0)
        assert await state(breaker) == expected
        paused.resume()
        await probe


async def test_a_forced_change_that_outlasts_its_lease_is_applied() -> None:
    """A probe holds the lease by then; its outcome, if applied, would close the circuit."""
    hook = StepHook("before write")
    async with stepped(hook) as breaker:
        paused = PausedCall()
        probes: list[asyncio.Task[None]] = []

        async def sleep() -> None:
            await hook.clock.advance("11s")
            probes.append(asyncio.create_task(breaker.call(paused.run)))
            await paused.started()

        hook.action = sleep
        await breaker.force_open()
        paused.resume()
        await probes[0]
        assert await breaker.state() == CircuitBreakerState(state="open")


@pytest.mark.parametrize("change", FORCED_CHANGES)
async def test_a_cancelled_forced_change_is_atomic(
    breaker: CircuitBreaker, gs: Scope, change: str
) -> None:
    """Wherever it is cancelled, it is applied fully or not at all and leaves no lease behind."""
    leases = leases_of(gs)
    for count in range(30):
        await breaker.reset()
        if change != "force_open":
            await fail_times(breaker, 3)
        before = await state(breaker)
        task = asyncio.ensure_future(FORCED_CHANGES[change](breaker))
        await ticks(count)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        done = ("open", 0) if change == "force_open" else ("closed", 0)
        assert await state(breaker) in (before, done)
        assert await leases.holder("circuit:api") is None


async def test_a_call_whose_slot_is_seized_before_it_probes_is_rejected() -> None:
    hook = StepHook("before write")
    async with stepped(hook) as breaker:
        hook.action = breaker.force_open
        with pytest.raises(CircuitOpen):
            await breaker.call(must_not_run)
        await assert_forced_open(breaker)


async def test_a_probe_whose_slot_was_seized_is_cancelled(
    store: Store, breaker: CircuitBreaker, other_breaker: CircuitBreaker
) -> None:
    await open_past_reset_timeout(store, breaker)
    paused = PausedCall()
    probe = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await other_breaker.force_close()
    await store.advance("4s")
    paused.resume()  # too late
    with pytest.raises(LeaseLost):
        await probe
    assert await state(breaker) == ("closed", 0)
