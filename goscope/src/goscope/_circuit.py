"""What a program knows of its circuits: settings, and their state here while the store fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import msgspec

from ._lease import LeaseQueue
from ._runtime import Runtime
from .backend import (
    RecordCircuitBreakerStateProvider,
    RecordLockProvider,
    Records,
    StoreContext,
)
from .errors import BackendError, ConfigurationError
from .events import CircuitStoreFailed, CircuitStoreRecovered, Event
from .providers import CircuitBreakerStateProvider

T = TypeVar("T")

Counts: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...]"
OnStoreError: TypeAlias = Literal["raise", "local"]


class BreakerSettings(msgspec.Struct, frozen=True):
    """What makes a circuit open and close again, and what becomes of it without its store."""

    max_failures: int
    reset_timeout_ms: int
    success_threshold: int
    counts: Counts
    on_store_error: OnStoreError = "raise"

    def __post_init__(self) -> None:
        for name in ("max_failures", "success_threshold"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be an int of at least 1, not {value!r}")
        if self.on_store_error not in get_args(OnStoreError):
            raise ValueError(f"on_store_error is 'raise' or 'local', not {self.on_store_error!r}")


class CircuitStore(NamedTuple):
    """Where a circuit is counted: its states, and the leases of its probes."""

    states: CircuitBreakerStateProvider
    leases: LeaseQueue


class Circuit:
    """One circuit while its scope is open.

    ``local`` is where this process counts it while the store fails, and None otherwise.
    """

    def __init__(self, runtime: Runtime, key: str, settings: BreakerSettings) -> None:
        states = runtime.require(runtime.adapter.circuit_breaker, "circuit breaker")
        self.runtime: Final = runtime
        self.key: Final = key
        self.settings: Final = settings
        self.shared: Final = CircuitStore(states, runtime.leases)
        self.local: CircuitStore | None = None
        self._refuses_writes = False

    @property
    def lease(self) -> str:
        """The lease that its probe runs under."""
        return f"circuit:{self.key}"

    def store_failed(self, failure: BackendError, *, writing: bool) -> CircuitStore:
        """Go on in this process; closed, unless the circuit is counted here already."""
        if self.local is None:
            self.local, self._refuses_writes = _in_process(self.runtime), False
            self.emit(CircuitStoreFailed, error=str(failure))
        self._refuses_writes = self._refuses_writes or writing
        return self.local

    def store_answered(self, *, writing: bool) -> None:
        """Let the shared state decide again; after a refused write, once a write is answered.

        A store that is full, or that others keep locked, goes on answering reads.
        """
        if self.local is not None and (writing or not self._refuses_writes):
            self.local = None
            self.emit(CircuitStoreRecovered)

    def emit(self, event: Callable[..., Event], **details: Any) -> None:
        """Tell the observers what happened to the circuit."""
        if self.runtime.observers.active:
            self.runtime.observers.emit(event(key=self.key, **details))


class Circuits:
    """The circuits of one scope: their settings for good, the rest while it is open."""

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._settings: dict[str, BreakerSettings] = {}
        self._open: dict[str, Circuit] = {}

    def declare(self, key: str, settings: BreakerSettings) -> None:
        """Take note of the settings of a key. Raises `ConfigurationError` if it has others."""
        known = self._settings.setdefault(key, settings)
        if known != settings:
            raise ConfigurationError(
                f"circuit {key!r} has other settings elsewhere in this program: {known}. "
                f"One circuit has one set of settings; give this one a key of its own"
            )

    def get(self, key: str) -> Circuit:
        """A circuit that was declared. Raises `ScopeNotOpen`."""
        runtime = self._runtime()
        circuit = self._open.get(key)
        if circuit is None or circuit.runtime is not runtime:
            circuit = self._open[key] = Circuit(runtime, key, self._settings[key])
        return circuit


class _ProcessRecords:
    """Records that nobody outside of this process sees; a change of them never suspends."""

    def __init__(self) -> None:
        self._records = Records()

    async def read_records(self, look: Callable[[Records], T]) -> T:
        return look(self._records)

    async def change_records(self, change: Callable[[Records], T]) -> T:
        return change(self._records)


def _in_process(runtime: Runtime) -> CircuitStore:
    context = StoreContext(clock=runtime.clock)
    records = _ProcessRecords()
    leases = RecordLockProvider(context, "lease", records)
    states = RecordCircuitBreakerStateProvider(context, records)
    return CircuitStore(states, LeaseQueue(leases, runtime.clock))
