"""The circuits of a program: their settings, and their fallback state while the store fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, get_args

import msgspec

from ._lease_queue import LeaseQueue
from ._runtime import Runtime, error_details
from ._tools.choice import must_be
from .errors import BackendError, ConfigurationError
from .events import CircuitStoreFailed, CircuitStoreRecovered, Event
from .providers import CircuitBreakerStateProvider

FailureFilter: TypeAlias = (
    "type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]"
)
"""Which exceptions count as failures: their types, or a function that decides."""
OnStoreError: TypeAlias = Literal["raise", "local"]


class BreakerSettings(msgspec.Struct, frozen=True):
    """When a circuit opens and closes, and what it does while its store fails."""

    failure_threshold: int
    reset_timeout_ms: int
    success_threshold: int
    on: FailureFilter
    on_store_error: OnStoreError = "raise"

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be an int of at least 1, not {value!r}")
        if self.on_store_error not in get_args(OnStoreError):
            choices = get_args(OnStoreError)
            raise ValueError(f"on_store_error {must_be(self.on_store_error, choices)}")
        on: object = self.on  # untyped code may pass the name of a type
        kinds = cast("tuple[object, ...]", on) if isinstance(on, tuple) else (on,)
        if not all(map(callable, kinds)):
            raise TypeError(
                f"on must be an exception type, a tuple of types or a function, not {on!r}"
            )

    def counts(self, exc: BaseException) -> bool:
        """Whether the exception counts as a failure."""
        if callable(self.on) and not isinstance(self.on, type):
            return self.on(exc)
        return isinstance(exc, self.on)


class CircuitStore(NamedTuple):
    """Where the state of a circuit is kept, and the leases of its probes."""

    states: CircuitBreakerStateProvider
    leases: LeaseQueue


class Circuit:
    """One circuit while its scope is open.

    ``fallback`` keeps its state in this process while the store fails; it is None otherwise.
    """

    def __init__(self, runtime: Runtime, key: str, settings: BreakerSettings) -> None:
        states = runtime.require(runtime.adapter.circuit_breaker, "circuit breaker")
        self.runtime: Final = runtime
        self.key: Final = key
        self.settings: Final = settings
        self.shared: Final = CircuitStore(states, runtime.leases)
        self.fallback: CircuitStore | None = None
        self._needs_write_probe = False

    @property
    def lease(self) -> str:
        """The lease that its probe runs under."""
        return f"circuit:{self.key}"

    def enter_fallback(self, failure: BackendError, *, writing: bool) -> CircuitStore:
        """Continue in this process, with a closed circuit unless it is in fallback already."""
        if self.fallback is None:
            self.fallback, self._needs_write_probe = _in_process(self.runtime), False
            self.runtime.emit(CircuitStoreFailed, self.key, None, **error_details(failure))
        self._needs_write_probe = self._needs_write_probe or writing
        return self.fallback

    def leave_fallback(self, *, writing: bool) -> None:
        """Return to the shared state; after a failed write, only once a write succeeds.

        A store that is full, or that another process keeps locked, still answers reads.
        """
        if self.fallback is not None and (writing or not self._needs_write_probe):
            self.fallback = None
            self.emit(CircuitStoreRecovered)

    def emit(self, event: Callable[..., Event], since: float | None = None, **details: Any) -> None:
        """Emit an event of the circuit."""
        self.runtime.emit(event, self.key, since, **details)


class Circuits:
    """The circuits of one scope. Their settings stay, all else exists while the scope is open."""

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._settings: dict[str, BreakerSettings] = {}
        self._open: dict[str, Circuit] = {}

    def declare(self, key: str, settings: BreakerSettings) -> None:
        """Declare the settings of a key. Raises `ConfigurationError` if it has other settings."""
        known = self._settings.setdefault(key, settings)
        if known != settings:
            raise ConfigurationError(
                f"circuit {key!r} already has other settings in this program: {known}. "
                f"One circuit has one set of settings; use the same ones, or another key"
            )

    def get(self, key: str) -> Circuit:
        """A circuit that was declared. Raises `ScopeNotOpen`."""
        runtime = self._runtime()
        circuit = self._open.get(key)
        if circuit is None or circuit.runtime is not runtime:
            circuit = self._open[key] = Circuit(runtime, key, self._settings[key])
        return circuit


def _in_process(runtime: Runtime) -> CircuitStore:
    # Imported here since few programs need it: see tests/packaging/test_installed.py.
    from .backend import StoreContext
    from .backend.records import (
        InProcessRecords,
        RecordCircuitBreakerStateProvider,
        RecordLockProvider,
    )

    context = StoreContext(clock=runtime.clock)
    context.open("the fallback of a circuit")
    records = InProcessRecords()
    leases = RecordLockProvider(context, "lease", records)
    states = RecordCircuitBreakerStateProvider(context, records)
    return CircuitStore(states, LeaseQueue(leases, runtime.clock))
