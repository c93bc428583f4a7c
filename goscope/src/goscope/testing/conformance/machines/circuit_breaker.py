"""Circuit states against one record per circuit."""

from __future__ import annotations

from typing import Final

import hypothesis.strategies as st
from hypothesis.stateful import invariant, rule
from msgspec.structs import replace

from ....providers import CircuitBreakerState, CircuitState
from .._base import circuits_of
from ._machine import Machine

KEYS: Final = ("a", "A")
STATES: Final[tuple[CircuitState, ...]] = ("closed", "open", "half-open")

any_key = st.sampled_from(KEYS)
any_state = st.sampled_from(STATES)


class CircuitMachine(Machine):
    """Every method. Of a time it compares only whether there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.circuits: dict[str, CircuitBreakerState] = {}

    @rule(key=any_key, state=any_state, count=st.integers(0, 5), successes=st.integers(0, 5))
    def set_state(self, key: str, state: CircuitState, count: int, successes: int) -> None:
        new = CircuitBreakerState(state=state, failure_count=count, success_count=successes)
        self.call(lambda it: circuits_of(it).set_state(key, new))
        self.circuits[key] = new

    @rule(key=any_key, max_failures=st.integers(1, 4))
    def record_failure(self, key: str, max_failures: int) -> None:
        count = self.call(lambda it: circuits_of(it).record_failure(key, max_failures))
        old = self.circuits.get(key, CircuitBreakerState())
        self.check(f"record_failure({key!r})", count, old.failure_count + 1)
        opens = old.state == "half-open" or count >= max_failures
        forced_open = old.state == "open" and old.last_failure_time is None
        self.circuits[key] = replace(
            old,
            state="open" if opens else old.state,
            failure_count=count,
            last_failure_time=None if forced_open else 1,
            success_count=0,
        )

    @rule(key=any_key, expected=st.none() | any_state)
    def record_success(self, key: str, expected: CircuitState | None) -> None:
        self.call(lambda it: circuits_of(it).record_success(key, expected=expected))
        old = self.circuits.get(key, CircuitBreakerState())
        if expected in (None, old.state):
            self.circuits[key] = CircuitBreakerState(
                last_failure_time=old.last_failure_time, last_success_time=1
            )

    @invariant()
    def all_circuits_match(self) -> None:
        for key in KEYS:
            self._check_circuit(key)

    def _check_circuit(self, key: str) -> None:
        found = self.call(lambda it: circuits_of(it).get_state(key))
        self.check(f"get_state({key!r})", found and _dated(found), self.circuits.get(key))


def _dated(state: CircuitBreakerState) -> CircuitBreakerState:
    """The state with each time replaced by 1."""
    return replace(
        state,
        last_failure_time=None if state.last_failure_time is None else 1,
        last_success_time=None if state.last_success_time is None else 1,
    )
