"""``gs.circuit_breaker`` among real processes on one file."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope import CircuitBreakerState, CircuitBreakerStateProvider, Scope

from .workers import (
    EXPIRING,
    PATIENCE_S,
    Worker,
    bodies_started,
    call_all,
    end_bodies,
    journal,
    workers,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.long]

OPEN_FOR_AN_HOUR: dict[str, Any] = {"failure_threshold": 1, "reset_timeout": "1h"}


@pytest_asyncio.fixture
async def circuits(tmp_path: Path) -> AsyncIterator[CircuitBreakerStateProvider]:
    """The states that the processes see."""
    async with Scope(backend="sqlite", path=tmp_path / "app.db") as gs:
        assert gs.persistence.circuit_breaker is not None
        yield gs.persistence.circuit_breaker


async def state_of(circuits: CircuitBreakerStateProvider) -> tuple[str, int]:
    state = await circuits.get_state("key") or CircuitBreakerState()
    return state.state, state.failure_count


async def open_past_reset_timeout(circuits: CircuitBreakerStateProvider) -> None:
    two_hours_ago = round(time.time() * 1000) - 7_200_000
    state = CircuitBreakerState(state="open", failure_count=1, last_failure_time=two_hours_ago)
    await circuits.set_state("key", state)


async def probe_when_free(worker: Worker, **request: Any) -> None:
    """Let a process call until no other one probes."""
    async with asyncio.timeout(PATIENCE_S):
        while await worker.call("call_circuit", **request) == ["CircuitOpen"]:  # noqa: ASYNC110  # a process sets no event
            await asyncio.sleep(0.05)


async def test_one_call_of_all_processes_probes(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """Its failure reopens the circuit, which rejects the other 39 callers of 8 processes."""
    await open_past_reset_timeout(circuits)
    async with workers(tmp_path, 8) as callers:
        results = await call_all(
            callers, "call_circuit", times=5, fails=True, options=OPEN_FOR_AN_HOUR
        )
    assert len(journal(tmp_path)) == 1
    assert Counter(results) == {"ZeroDivisionError": 1, "CircuitOpen": 39}
    assert await state_of(circuits) == ("open", 2)


async def test_the_slot_of_a_killed_probe_is_free_before_its_lease_expires(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    await open_past_reset_timeout(circuits)
    async with workers(tmp_path, 2) as (killed, next_one):
        killed.send("call_circuit", until="never", options=OPEN_FOR_AN_HOUR)
        await bodies_started(tmp_path, 1)
        assert await next_one.call("call_circuit", options=OPEN_FOR_AN_HOUR) == ["CircuitOpen"]
        await killed.kill()
        assert await next_one.call("call_circuit", options=OPEN_FOR_AN_HOUR) == [next_one.pid]
    assert await state_of(circuits) == ("closed", 0)


@pytest.mark.parametrize(
    ("late_fails", "left"),
    [(False, ("open", 2)), (True, ("closed", 0))],
    ids=["a success after a failure", "a failure after a success"],
)
async def test_the_late_outcome_of_a_suspended_probe_does_not_count(
    tmp_path: Path, circuits: CircuitBreakerStateProvider, late_fails: bool, left: tuple[str, int]
) -> None:
    """Its body blocks the event loop, and ends before anything can cancel it."""
    await open_past_reset_timeout(circuits)
    async with (
        workers(tmp_path, 1, lease_ttl=EXPIRING) as [late],
        workers(tmp_path, 1) as [newer],
    ):
        options = OPEN_FOR_AN_HOUR
        late.send("call_circuit", until="end", blocks_loop=True, fails=late_fails, options=options)
        await bodies_started(tmp_path, 1)
        late.suspend()
        await probe_when_free(newer, fails=not late_fails, options=options)
        assert await state_of(circuits) == left
        end_bodies(tmp_path)
        late.resume()
        await late.results()
    assert journal(tmp_path) == [late.pid, newer.pid]
    assert await state_of(circuits) == left


async def test_probes_of_all_processes_count_as_successes(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    options = {**OPEN_FOR_AN_HOUR, "success_threshold": 3}
    await open_past_reset_timeout(circuits)
    async with workers(tmp_path, 3) as callers:
        for successes, worker in enumerate(callers):
            state = await circuits.get_state("key")
            assert state is not None
            assert (state.state != "closed", state.success_count) == (True, successes)
            assert await worker.call("call_circuit", options=options) == [worker.pid]
    assert await state_of(circuits) == ("closed", 0)


async def test_no_failure_of_any_process_is_lost(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """The last one of 8 times 50 opens the circuit."""
    options = {"failure_threshold": 400, "reset_timeout": "1h"}
    async with workers(tmp_path, 8) as callers:
        results = await call_all(callers, "call_circuit", times=50, fails=True, options=options)
        assert Counter(results) == {"ZeroDivisionError": 400}
        assert await state_of(circuits) == ("open", 400)
        assert await call_all(callers, "call_circuit", options=options) == ["CircuitOpen"] * 8


async def test_a_forced_open_circuit_is_open_in_all_processes_until_it_is_closed(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """Its reset timeout has passed, and yet it admits no probe."""
    options = {"reset_timeout": "1ms"}
    async with workers(tmp_path, 3) as callers:
        for end in ("force_close", "reset"):
            await callers[0].call("force_open", options=options)
            await asyncio.sleep(0.05)
            refused = await call_all(callers, "call_circuit", times=5, options=options)
            assert refused == ["CircuitOpen"] * 15
            await callers[1].call(end, options=options)
            passed = await call_all(callers, "call_circuit", options=options)
            assert passed == [worker.pid for worker in callers]
    assert len(journal(tmp_path)) == 6


@pytest.mark.parametrize(
    ("change", "fails", "left"),
    [
        ("force_open", False, ("open", 0)),
        ("force_close", True, ("closed", 0)),
        ("reset", True, ("closed", 0)),
    ],
)
async def test_a_forced_change_survives_the_probe_of_another_process(
    tmp_path: Path,
    circuits: CircuitBreakerStateProvider,
    change: str,
    fails: bool,
    left: tuple[str, int],
) -> None:
    await open_past_reset_timeout(circuits)
    async with workers(tmp_path, 2) as (probing, forcing):
        probing.send("call_circuit", until="end", fails=fails, options=OPEN_FOR_AN_HOUR)
        await bodies_started(tmp_path, 1)
        await forcing.call(change, options=OPEN_FOR_AN_HOUR)
        assert await state_of(circuits) == left
        end_bodies(tmp_path)
        assert await probing.results() == ["ZeroDivisionError" if fails else probing.pid]
    assert await state_of(circuits) == left


async def test_concurrent_forced_changes_are_all_applied_and_the_last_one_decides(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """Probes succeed and fail concurrently, as fast as the reset timeout admits them."""
    options = {"failure_threshold": 1, "reset_timeout": "1ms"}
    async with workers(tmp_path, 6) as callers:
        *forcing, failing, succeeding = callers
        for _ in range(3):
            failing.send("call_circuit", times=20, fails=True, options=options)
            succeeding.send("call_circuit", times=20, options=options)
            changes = ("force_open", "force_close", "reset", "force_open")
            for worker, change in zip(forcing, changes, strict=True):
                worker.send(change, times=5, options=options)
            for worker in forcing:
                assert await worker.results() == [True] * 5
            await forcing[0].call("force_open", options=options)
            await failing.results()
            await succeeding.results()
            state = await circuits.get_state("key")
            assert state is not None
            assert (state.state, state.last_failure_time) == ("open", None)
            assert await call_all(callers, "call_circuit", options=options) == ["CircuitOpen"] * 6
