"""Circuit states against one record a circuit."""

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
    """Every method; of the times it compares whether there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.circuits: dict[str, CircuitBreakerState] = {}

    @rule(key=any_key, state=any_state, count=st.integers(0, 5), successes=st.integers(0, 5))
    def set_state(self, key: str, state: CircuitState, count: int, successes: int) -> None:
        new = CircuitBreakerState(state=state, failure_count=count, success_count=successes)
        self.ask(lambda it: circuits_of(it).set_state(key, new))
        self.circuits[key] = new

    @rule(key=any_key, max_failures=st.integers(1, 4))
    def record_failure(self, key: str, max_failures: int) -> None:
        count = self.ask(lambda it: circuits_of(it).record_failure(key, max_failures))
        old = self.circuits.get(key, CircuitBreakerState())
        self.agree(f"record_failure({key!r})", count, old.failure_count + 1)
        opens = old.state == "half-open" or count >= max_failures
        held = old.state == "open" and old.last_failure_time is None
        self.circuits[key] = replace(
            old,
            state="open" if opens else old.state,
            failure_count=count,
            last_failure_time=None if held else 1,
            success_count=0,
        )

    @rule(key=any_key, expected=st.none() | any_state)
    def record_success(self, key: str, expected: CircuitState | None) -> None:
        self.ask(lambda it: circuits_of(it).record_success(key, expected=expected))
        old = self.circuits.get(key, CircuitBreakerState())
        if expected in (None, old.state):
            self.circuits[key] = CircuitBreakerState(
                last_failure_time=old.last_failure_time, last_success_time=1
            )

    @invariant()
    def all_circuits_agree(self) -> None:
        for key in KEYS:
            self._circuit_agrees(key)

    def _circuit_agrees(self, key: str) -> None:
        found = self.ask(lambda it: circuits_of(it).get_state(key))
        self.agree(f"get_state({key!r})", found and _dated(found), self.circuits.get(key))


def _dated(state: CircuitBreakerState) -> CircuitBreakerState:
    """The state with the number 1 for each time that there is."""
    return replace(
        state,
        last_failure_time=None if state.last_failure_time is None else 1,
        last_success_time=None if state.last_success_time is None else 1,
    )
