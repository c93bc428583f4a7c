"""What observers of metrics measure of each event, for every library of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from ..events import (
    CacheComputed,
    CacheComputeFailed,
    CacheHit,
    CacheMiss,
    CheckpointSaved,
    CircuitCallCompleted,
    CircuitCallFailed,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRejected,
    CircuitReset,
    Event,
    IdempotentExecuted,
    IdempotentFailed,
    IdempotentReplayed,
    LockAcquired,
    LockBodyCompleted,
    LockBodyFailed,
    LockBodyStarted,
    LockReleased,
    LockTimedOut,
    TaskCompleted,
    TaskFailed,
)

SHORT_BUCKETS_S: Final = (0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0)
"""For what a store answers, in seconds."""

LONG_BUCKETS_S: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""For what a program does or waits for, in seconds."""


class Duration(NamedTuple):
    """One histogram: what its durations are of."""

    name: str
    description: str
    buckets_s: tuple[float, ...]


LOCK_WAIT = Duration("lock.wait", "Wait for a lock", LONG_BUCKETS_S)
LOCK_HOLD = Duration("lock.hold", "Time for which a block held a lock", LONG_BUCKETS_S)
LOOKUP = Duration("cache.lookup", "Lookup of a cache entry", SHORT_BUCKETS_S)
COMPUTE = Duration("cache.compute", "Computation of a cached value", LONG_BUCKETS_S)
CALL = Duration("circuit.call", "Call through a circuit breaker", LONG_BUCKETS_S)
RUN = Duration("task.run", "Run of a resumable task", LONG_BUCKETS_S)
SAVE = Duration("checkpoint.save", "Save of a checkpoint", SHORT_BUCKETS_S)
IDEMPOTENT = Duration("idempotent.call", "Idempotent call, or the wait for it", LONG_BUCKETS_S)

DURATIONS: Final = (LOCK_WAIT, LOCK_HOLD, LOOKUP, COMPUTE, CALL, RUN, SAVE, IDEMPOTENT)

MEASURES: Final[Mapping[type[Event], tuple[Duration, str]]] = MappingProxyType(
    {
        LockAcquired: (LOCK_WAIT, "acquired"),
        LockTimedOut: (LOCK_WAIT, "timed_out"),
        LockReleased: (LOCK_HOLD, "released"),
        CacheHit: (LOOKUP, "hit"),
        CacheMiss: (LOOKUP, "miss"),
        CacheComputed: (COMPUTE, "stored"),
        CacheComputeFailed: (COMPUTE, "failed"),
        CircuitCallCompleted: (CALL, "completed"),
        CircuitCallFailed: (CALL, "failed"),
        TaskCompleted: (RUN, "completed"),
        TaskFailed: (RUN, "failed"),
        CheckpointSaved: (SAVE, "saved"),
        IdempotentExecuted: (IDEMPOTENT, "executed"),
        IdempotentFailed: (IDEMPOTENT, "failed"),
        IdempotentReplayed: (IDEMPOTENT, "replayed"),
    }
)
"""The histogram and the outcome of each event that has a duration of interest."""


def outcome_of(event: Event, usual: str) -> str:
    """The outcome of an event, which `MEASURES` names for the usual case."""
    if type(event) is CacheHit and event.stale:
        return "stale"
    if type(event) is CacheComputed and not event.stored:
        return "not_stored"
    return usual


STARTS_HOLDING: Final = LockBodyStarted
ENDS_HOLDING: Final = (LockBodyCompleted, LockBodyFailed)

_OPEN: Final = (CircuitOpened, CircuitRejected)
_NOT_OPEN: Final = (CircuitHalfOpened, CircuitClosed, CircuitReset, CircuitCallCompleted)


class HeldAndOpen:
    """How many locks the blocks of this process hold, and which circuits it last saw open.

    Another process may close a circuit: this one knows of it with its next call.
    """

    def __init__(self) -> None:
        self._open: set[tuple[str, str]] = set()

    def held_by(self, event: Event) -> int:
        """By how much the event changes the number of locks that are held."""
        if type(event) is STARTS_HOLDING:
            return 1
        if isinstance(event, ENDS_HOLDING) and event.run_id:  # 0: its start was not observed
            return -1
        return 0

    def opened_by(self, event: Event) -> int:
        """By how much the event changes the number of circuits that are open."""
        circuit = (event.scope, event.key)
        if isinstance(event, _OPEN):
            if circuit not in self._open:
                self._open.add(circuit)
                return 1
        elif self._open and circuit in self._open and isinstance(event, _NOT_OPEN):
            self._open.remove(circuit)
            return -1
        return 0
