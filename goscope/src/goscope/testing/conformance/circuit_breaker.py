"""The contract of `goscope.CircuitBreakerStateProvider`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from ...providers import CircuitBreakerState, CircuitBreakerStateProvider, CircuitState
from ._base import Conformance, circuits_of
from ._checks import rejects, run_ticks
from ._samples import BAD_KEYS, ODD_KEYS

Circuits = CircuitBreakerStateProvider

METHODS_WITH_KEYS: Final[dict[str, Callable[[Circuits, Any], Awaitable[object]]]] = {
    "get_state": lambda circuits, key: circuits.get_state(key),
    "set_state": lambda circuits, key: circuits.set_state(key, CircuitBreakerState()),
    "record_failure": lambda circuits, key: circuits.record_failure(key, 5),
    "record_success": lambda circuits, key: circuits.record_success(key),
}

STATES: Final[tuple[CircuitState, ...]] = ("closed", "open", "half-open")


class CircuitBreakerConformance(Conformance, abstract=True):
    """The stored state of circuits, which counts every concurrent failure."""

    @asynccontextmanager
    async def open_circuits(self, tmp_path: Path) -> AsyncGenerator[CircuitBreakerStateProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield circuits_of(adapter)

    # --- state -------------------------------------------------------------------------------

    async def test_circuit_an_unknown_circuit_has_no_state(self, tmp_path: Path) -> None:
        """get_state() of a circuit without a record returns None."""
        async with self.open_circuits(tmp_path) as circuits:
            assert await circuits.get_state("key") is None

    @pytest.mark.parametrize("name", STATES)
    async def test_circuit_returns_the_state_unchanged(
        self, tmp_path: Path, name: CircuitState
    ) -> None:
        """get_state() returns all five fields that were set."""
        async with self.open_circuits(tmp_path) as circuits:
            state = CircuitBreakerState(
                state=name,
                failure_count=3,
                last_failure_time=1_700_000_000_123,
                last_success_time=1_700_000_000_456,
                success_count=2,
            )
            await circuits.set_state("key", state)
            assert await circuits.get_state("key") == state

    async def test_circuit_set_state_replaces_any_state(self, tmp_path: Path) -> None:
        """No field keeps its old value, whatever state the circuit was in."""
        async with self.open_circuits(tmp_path) as circuits:
            old = CircuitBreakerState(
                state="open",
                failure_count=3,
                last_failure_time=1,
                last_success_time=2,
                success_count=4,
            )
            for before in (old, replace(old, state="half-open"), replace(old, state="closed")):
                await circuits.set_state("key", before)
                await circuits.set_state("key", CircuitBreakerState())
                found = await circuits.get_state("key")
                assert found == CircuitBreakerState(), f"{before.state}: old values were kept"

    async def test_circuit_set_state_rejects_unknown_states(self, tmp_path: Path) -> None:
        """A state other than closed, open or half-open raises ValueError."""
        names: list[Any] = ["", "CLOSED", "half_open", "broken", None]
        async with self.open_circuits(tmp_path) as circuits:
            for name in names:
                with pytest.raises(ValueError, match="closed"):
                    await circuits.set_state("key", CircuitBreakerState(state=name))
            assert await circuits.get_state("key") is None, "a rejected state was stored"

    @pytest.mark.parametrize("method", METHODS_WITH_KEYS)
    async def test_circuit_rejects_invalid_keys(self, tmp_path: Path, method: str) -> None:
        """Each method rejects invalid keys."""
        async with self.open_circuits(tmp_path) as circuits:
            call = METHODS_WITH_KEYS[method]
            await rejects(f"circuit_breaker.{method}", lambda key: call(circuits, key), BAD_KEYS)

    async def test_circuit_keys_are_distinct(self, tmp_path: Path) -> None:
        """Keys that differ at all, even in case or spaces, are separate circuits."""
        async with self.open_circuits(tmp_path) as circuits:
            for number, key in enumerate(ODD_KEYS):
                await circuits.set_state(key, CircuitBreakerState(failure_count=number))
            for number, key in enumerate(ODD_KEYS):
                state = await circuits.get_state(key)
                assert state is not None, f"{key[:40]!r} was not stored"
                assert state.failure_count == number, f"{key[:40]!r} was mistaken for another"

    # --- failures ----------------------------------------------------------------------------

    async def test_circuit_record_failure_counts_from_one(self, tmp_path: Path) -> None:
        """Each failure returns the new count; below the threshold the circuit stays closed."""
        async with self.open_circuits(tmp_path) as circuits:
            assert [await circuits.record_failure("key", 5) for _ in range(4)] == [1, 2, 3, 4]
            state = await state_of(circuits, "key")
            assert (state.state, state.failure_count) == ("closed", 4)

    async def test_circuit_opens_at_the_threshold(self, tmp_path: Path) -> None:
        """The failure that reaches max_failures opens the circuit."""
        async with self.open_circuits(tmp_path) as circuits:
            for _ in range(2):
                await circuits.record_failure("key", 3)
            assert (await state_of(circuits, "key")).state == "closed", "it opened too early"
            assert await circuits.record_failure("key", 3) == 3
            assert (await state_of(circuits, "key")).state == "open", "it did not open"

    async def test_circuit_a_threshold_of_one_opens_at_once(self, tmp_path: Path) -> None:
        """The first failure opens an unknown circuit."""
        async with self.open_circuits(tmp_path) as circuits:
            assert await circuits.record_failure("key", 1) == 1
            assert (await state_of(circuits, "key")).state == "open"

    async def test_circuit_opens_at_a_lowered_threshold(self, tmp_path: Path) -> None:
        """A failure opens the circuit if its count is already above the threshold."""
        async with self.open_circuits(tmp_path) as circuits:
            for _ in range(4):
                await circuits.record_failure("key", 10)
            assert await circuits.record_failure("key", 2) == 5
            assert (await state_of(circuits, "key")).state == "open"

    async def test_circuit_a_failure_opens_a_half_open_circuit_at_once(
        self, tmp_path: Path
    ) -> None:
        """One failed probe opens it, whatever the threshold, and resets its successes."""
        async with self.open_circuits(tmp_path) as circuits:
            half_open = CircuitBreakerState(state="half-open", success_count=2)
            await circuits.set_state("key", half_open)
            assert await circuits.record_failure("key", 100) == 1
            state = await state_of(circuits, "key")
            assert state.state == "open", "a half-open circuit did not open"
            assert state.success_count == 0, "successes before the failure still count"

    async def test_circuit_an_open_circuit_counts_failures(self, tmp_path: Path) -> None:
        """Late failures of calls that started before it opened count and do not close it."""
        async with self.open_circuits(tmp_path) as circuits:
            await circuits.record_failure("key", 1)
            assert await circuits.record_failure("key", 100) == 2
            assert (await state_of(circuits, "key")).state == "open", "a failure closed it"

    async def test_circuit_a_failure_does_not_date_a_forced_open_circuit(
        self, tmp_path: Path
    ) -> None:
        """A circuit that is open without a time stays forced open: failures only count."""
        async with self.open_circuits(tmp_path) as circuits:
            await circuits.set_state("key", CircuitBreakerState(state="open"))
            assert await circuits.record_failure("key", 5) == 1
            state = await state_of(circuits, "key")
            assert state.last_failure_time is None, "a late failure started the reset timeout"
            assert (state.state, state.failure_count) == ("open", 1)

    @pytest.mark.parametrize("name", ["closed", "half-open"])
    async def test_circuit_the_failure_that_opens_a_circuit_is_dated(
        self, tmp_path: Path, name: CircuitState
    ) -> None:
        """A circuit without a time gets one from the failure that opens it."""
        async with self.open_circuits(tmp_path) as circuits:
            await circuits.set_state("key", CircuitBreakerState(state=name))
            await circuits.record_failure("key", 1)
            assert (await state_of(circuits, "key")).last_failure_time is not None

    async def test_circuit_concurrent_failures_all_count(self, tmp_path: Path) -> None:
        """n concurrent failures count n, and each caller gets a different count."""
        async with self.open_circuits(tmp_path) as circuits:
            failing = (circuits.record_failure("key", 50) for _ in range(50))
            assert sorted(await asyncio.gather(*failing)) == list(range(1, 51))
            state = await state_of(circuits, "key")
            assert state.failure_count == 50, f"50 failures counted as {state.failure_count}"
            assert state.state == "open"

    async def test_circuit_a_failure_is_dated(self, tmp_path: Path) -> None:
        """The time of the last failure is in epoch milliseconds and grows."""
        async with self.open_adapter(tmp_path) as adapter:
            circuits = circuits_of(adapter)
            await circuits.record_failure("key", 5)
            first = (await state_of(circuits, "key")).last_failure_time
            await self.advance(adapter, "500ms")
            await circuits.record_failure("key", 5)
            second = (await state_of(circuits, "key")).last_failure_time
            assert first is not None, "a failure has no time"
            assert second is not None, "a failure has no time"
            assert first > 1_500_000_000_000, "last_failure_time is not epoch milliseconds"
            assert 400 <= second - first < 60_000, "last_failure_time is not in milliseconds"

    async def test_circuit_a_failure_keeps_the_time_of_the_last_success(
        self, tmp_path: Path
    ) -> None:
        """A failure does not change ``last_success_time``."""
        async with self.open_circuits(tmp_path) as circuits:
            await circuits.set_state("key", CircuitBreakerState(last_success_time=123))
            await circuits.record_failure("key", 5)
            assert (await state_of(circuits, "key")).last_success_time == 123

    @pytest.mark.parametrize("count", [0, -1, True, 1.5, "5", None])
    async def test_circuit_max_failures_is_a_positive_integer(
        self, tmp_path: Path, count: Any
    ) -> None:
        """Any other threshold raises ValueError, and nothing is counted."""
        async with self.open_circuits(tmp_path) as circuits:
            with pytest.raises(ValueError, match="max_failures"):
                await circuits.record_failure("key", count)
            assert await circuits.get_state("key") is None, "a rejected call counted"

    # --- successes ---------------------------------------------------------------------------

    @pytest.mark.parametrize("name", STATES)
    async def test_circuit_a_success_closes_the_circuit(
        self, tmp_path: Path, name: CircuitState
    ) -> None:
        """After a success the circuit is closed and its counts are 0, in any state."""
        async with self.open_circuits(tmp_path) as circuits:
            before = CircuitBreakerState(state=name, failure_count=7, success_count=1)
            await circuits.set_state("key", before)
            await circuits.record_success("key")
            state = await state_of(circuits, "key")
            assert state.state == "closed", "a success did not close the circuit"
            assert state.failure_count == 0, "a success did not reset the failure count"
            assert state.success_count == 0, "successes count only while half-open"
            assert state.last_success_time is not None, "a success has no time"

    async def test_circuit_failures_after_a_success_count_from_one(self, tmp_path: Path) -> None:
        """A success resets the failure count."""
        async with self.open_circuits(tmp_path) as circuits:
            await circuits.record_failure("key", 5)
            await circuits.record_success("key")
            assert await circuits.record_failure("key", 5) == 1

    async def test_circuit_a_success_keeps_the_time_of_the_last_failure(
        self, tmp_path: Path
    ) -> None:
        """A success does not change ``last_failure_time``."""
        async with self.open_circuits(tmp_path) as circuits:
            await circuits.set_state("key", CircuitBreakerState(last_failure_time=123))
            await circuits.record_success("key")
            assert (await state_of(circuits, "key")).last_failure_time == 123

    async def test_circuit_a_success_of_an_unknown_circuit_closes_it(self, tmp_path: Path) -> None:
        """A success of a circuit without a record is not an error."""
        async with self.open_circuits(tmp_path) as circuits:
            await circuits.record_success("key")
            assert (await state_of(circuits, "key")).state == "closed"

    @pytest.mark.parametrize("name", STATES)
    @pytest.mark.parametrize("expected", STATES)
    async def test_circuit_expected_guards_a_success(
        self, tmp_path: Path, name: CircuitState, expected: CircuitState
    ) -> None:
        """With ``expected`` a success is applied in that state only."""
        async with self.open_circuits(tmp_path) as circuits:
            before = CircuitBreakerState(state=name, failure_count=7, last_failure_time=123)
            await circuits.set_state("key", before)
            await circuits.record_success("key", expected=expected)
            after = await state_of(circuits, "key")
            if name == expected:
                assert (after.state, after.failure_count) == ("closed", 0)
            else:
                assert after == before, f"a success that expected {expected} changed {name}"

    async def test_circuit_an_unknown_circuit_counts_as_closed(self, tmp_path: Path) -> None:
        """A success that expects another state changes nothing."""
        async with self.open_circuits(tmp_path) as circuits:
            await circuits.record_success("key", expected="half-open")
            state = await circuits.get_state("key") or CircuitBreakerState()
            assert state == CircuitBreakerState(), "a success changed an unknown circuit"
            await circuits.record_success("key", expected="closed")

    async def test_circuit_a_cancelled_failure_is_atomic(self, tmp_path: Path) -> None:
        """Wherever it is cancelled, a failure counts once or not, and the store still works."""
        async with self.open_circuits(tmp_path) as circuits:
            for count in range(10):
                task = asyncio.create_task(circuits.record_failure("key", 100))
                await run_ticks(count)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            total = await circuits.record_failure("key", 100)
            assert total in range(1, 12), f"11 failures counted {total}"
            assert (await state_of(circuits, "key")).failure_count == total

    async def test_circuit_matches_its_model(self, tmp_path: Path) -> None:
        """The provider returns what the model returns, for any history of calls."""
        from .machines.circuit_breaker import CircuitMachine  # importing hypothesis takes long

        await CircuitMachine.compare(self, tmp_path)


async def state_of(circuits: CircuitBreakerStateProvider, key: str) -> CircuitBreakerState:
    """The state of a circuit that must have one."""
    state = await circuits.get_state(key)
    assert state is not None, f"{key!r} has a record, but get_state() is None"
    assert isinstance(state, CircuitBreakerState), "get_state() must return the record"
    return state
