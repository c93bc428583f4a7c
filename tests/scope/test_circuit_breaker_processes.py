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

from .peers import Peer, began, journal, open_gate, peers

pytestmark = pytest.mark.asyncio

OPEN_FOR_AN_HOUR: dict[str, Any] = {"failure_threshold": 1, "reset_timeout": "1h"}


@pytest_asyncio.fixture
async def circuits(tmp_path: Path) -> AsyncIterator[CircuitBreakerStateProvider]:
    """The states that the processes see."""
    async with Scope(backend="sqlite", path=tmp_path / "app.db") as gs:
        assert gs.persistence.circuit_breaker is not None
        yield gs.persistence.circuit_breaker


async def found(circuits: CircuitBreakerStateProvider) -> tuple[str, int]:
    state = await circuits.get_state("key") or CircuitBreakerState()
    return state.state, state.failure_count


async def let_reset_timeout_be_over(circuits: CircuitBreakerStateProvider) -> None:
    two_hours_ago = round(time.time() * 1000) - 7_200_000
    state = CircuitBreakerState(state="open", failure_count=1, last_failure_time=two_hours_ago)
    await circuits.set_state("key", state)


async def probe_when_free(peer: Peer, **order: Any) -> None:
    """Let a process call until nobody else probes."""
    async with asyncio.timeout(30):
        while await peer.call("circuit", **order) == ["CircuitOpen"]:  # noqa: ASYNC110  # it sets no event here
            await asyncio.sleep(0.05)


async def call_all(callers: list[Peer], call: str, **order: Any) -> list[Any]:
    for peer in callers:
        peer.tell(call, **order)
    return [answer for peer in callers for answer in await peer.answers()]


async def test_of_all_processes_one_call_probes(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """Its failure opens the circuit again, so that of 8 times 5 callers no other gets through."""
    await let_reset_timeout_be_over(circuits)
    async with peers(tmp_path, 8) as callers:
        answers = await call_all(callers, "circuit", times=5, fails=True, options=OPEN_FOR_AN_HOUR)
    assert len(journal(tmp_path)) == 1
    assert Counter(answers) == {"ZeroDivisionError": 1, "CircuitOpen": 39}
    assert await found(circuits) == ("open", 2)


async def test_the_slot_of_a_killed_prober_is_free_at_once(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """On one host its death is seen; the lease would have run for an hour."""
    await let_reset_timeout_be_over(circuits)
    async with peers(tmp_path, 2, lease_ttl="1h") as (prober, next_one):
        prober.tell("circuit", gate="never", options=OPEN_FOR_AN_HOUR)
        await began(tmp_path, 1)
        assert await next_one.call("circuit", options=OPEN_FOR_AN_HOUR) == ["CircuitOpen"]
        await prober.kill()
        assert await next_one.call("circuit", options=OPEN_FOR_AN_HOUR) == [next_one.pid]
    assert await found(circuits) == ("closed", 0)


@pytest.mark.parametrize(
    ("late_fails", "left"),
    [(False, ("open", 2)), (True, ("closed", 0))],
    ids=["a success does not close what failed", "a failure does not open what was closed"],
)
async def test_the_late_outcome_of_a_stopped_prober_counts_for_nothing(
    tmp_path: Path, circuits: CircuitBreakerStateProvider, late_fails: bool, left: tuple[str, int]
) -> None:
    """Deaf to its event loop, it wakes to a body that ends before anything ends the body."""
    await let_reset_timeout_be_over(circuits)
    async with peers(tmp_path, 2, lease_ttl="500ms") as (stopped, newer):
        order = {"options": OPEN_FOR_AN_HOUR}
        stopped.tell("circuit", gate="gate", deaf=True, fails=late_fails, **order)
        await began(tmp_path, 1)
        stopped.stop()
        await probe_when_free(newer, fails=not late_fails, **order)
        assert await found(circuits) == left
        open_gate(tmp_path)
        stopped.go_on()
        await stopped.answers()
    assert journal(tmp_path) == [stopped.pid, newer.pid]
    assert await found(circuits) == left


async def test_probes_of_all_processes_count_as_successes(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    options = {**OPEN_FOR_AN_HOUR, "success_threshold": 3}
    await let_reset_timeout_be_over(circuits)
    async with peers(tmp_path, 3) as callers:
        for successes, peer in enumerate(callers):
            state = await circuits.get_state("key")
            assert state is not None
            assert (state.state != "closed", state.success_count) == (True, successes)
            assert await peer.call("circuit", options=options) == [peer.pid]
    assert await found(circuits) == ("closed", 0)


async def test_no_failure_of_any_process_is_lost(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """The last of 8 times 50 opens the circuit, and none before it."""
    options = {"failure_threshold": 400, "reset_timeout": "1h"}
    async with peers(tmp_path, 8) as callers:
        answers = await call_all(callers, "circuit", times=50, fails=True, options=options)
        assert Counter(answers) == {"ZeroDivisionError": 400}
        assert await found(circuits) == ("open", 400)
        assert await call_all(callers, "circuit", options=options) == ["CircuitOpen"] * 8


# --- by hand ---------------------------------------------------------------------------------


async def test_a_circuit_held_open_is_so_in_all_processes_until_it_is_closed(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """The reset timeout, long over, lets no probe through."""
    options = {"reset_timeout": "1ms"}
    async with peers(tmp_path, 3) as callers:
        for end in ("force_close", "reset"):
            await callers[0].call("force_open", options=options)
            await asyncio.sleep(0.05)
            refused = await call_all(callers, "circuit", times=5, options=options)
            assert refused == ["CircuitOpen"] * 15
            await callers[1].call(end, options=options)
            passed = await call_all(callers, "circuit", options=options)
            assert passed == [peer.pid for peer in callers]
    assert len(journal(tmp_path)) == 6


@pytest.mark.parametrize(
    ("decision", "fails", "left"),
    [
        ("force_open", False, ("open", 0)),
        ("force_close", True, ("closed", 0)),
        ("reset", True, ("closed", 0)),
    ],
)
async def test_a_decision_by_hand_outlives_the_probe_of_another_process(
    tmp_path: Path,
    circuits: CircuitBreakerStateProvider,
    decision: str,
    fails: bool,
    left: tuple[str, int],
) -> None:
    await let_reset_timeout_be_over(circuits)
    async with peers(tmp_path, 2) as (prober, decider):
        prober.tell("circuit", gate="gate", fails=fails, options=OPEN_FOR_AN_HOUR)
        await began(tmp_path, 1)
        await decider.call(decision, options=OPEN_FOR_AN_HOUR)
        assert await found(circuits) == left
        open_gate(tmp_path)
        assert await prober.answers() == ["ZeroDivisionError" if fails else prober.pid]
    assert await found(circuits) == left


async def test_who_decide_at_once_are_all_heard_and_the_last_one_stays(
    tmp_path: Path, circuits: CircuitBreakerStateProvider
) -> None:
    """Among probes that fail and succeed, as fast as the reset timeout lets them."""
    options = {"failure_threshold": 1, "reset_timeout": "1ms"}
    async with peers(tmp_path, 6) as callers:
        *deciders, failing, succeeding = callers
        for _ in range(3):
            failing.tell("circuit", times=20, fails=True, options=options)
            succeeding.tell("circuit", times=20, options=options)
            for peer, decision in zip(
                deciders, ("force_open", "force_close", "reset", "force_open"), strict=True
            ):
                peer.tell(decision, times=5, options=options)
            for peer in deciders:
                assert await peer.answers() == [None] * 5
            await deciders[0].call("force_open", options=options)
            await failing.answers()
            await succeeding.answers()
            state = await circuits.get_state("key")
            assert state is not None
            assert (state.state, state.last_failure_time) == ("open", None)
            assert await call_all(callers, "circuit", options=options) == ["CircuitOpen"] * 6
