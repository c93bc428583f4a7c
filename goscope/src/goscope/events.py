"""Events: frozen records that observers receive.

``scope`` is the name of the scope. ``key`` is the key as the program gave it, without any prefix.
``template`` is what the key was made from: the template of a decorator (``"charge:{order_id}"``),
the module and qualified name of a function with a default key, None for a key that the program
spelled out. There are as many scopes and templates as the program declares, so both can label a
metric. ``duration_ms`` is how long it took: the wait before a lock was granted, the lookup of a
cache hit, the computation of a value; 0 for what has no duration, such as a loss. Observers are
called on the event loop and must not block it.

What runs a body emits an event when the body starts, and one when it has completed or failed. Both
carry the same ``run_id``, which no other run of this process has; it is 0 if the run started while
nothing observed the scope. A failure carries the name of the exception's type and its text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every event."""

    key: str
    scope: str = ""
    template: str | None = None
    duration_ms: float = 0.0


class LockAcquired(Event, frozen=True, kw_only=True):
    """A lock was granted; ``duration_ms`` is the wait before it."""

    owner: str
    fencing_token: int | None


class LockTimedOut(Event, frozen=True, kw_only=True):
    """A lock was not granted within the caller's wait."""


class LockReleased(Event, frozen=True, kw_only=True):
    """A lock was released; ``duration_ms`` is how long it was held."""


class LockLost(Event, frozen=True, kw_only=True):
    """A lock or a feature's lease was lost while its body ran."""

    reason: str


class LockBodyStarted(Event, frozen=True, kw_only=True):
    """The body of ``async with gs.lock(...)`` starts, under the lock."""

    run_id: int = 0


class LockBodyCompleted(Event, frozen=True, kw_only=True):
    """The body of a lock ended without an exception, and the lock was released."""

    run_id: int = 0


class LockBodyFailed(Event, frozen=True, kw_only=True):
    """The body of a lock raised or was cancelled, or its lease was lost."""

    error_type: str
    error: str
    run_id: int = 0


class CacheHit(Event, frozen=True, kw_only=True):
    """A lookup found a live entry, or, when ``stale``, one past its expiry."""

    stale: bool = False


class CacheMiss(Event, frozen=True, kw_only=True):
    """A lookup found no entry to serve."""


class CacheComputeStarted(Event, frozen=True, kw_only=True):
    """The computation of a value starts."""

    run_id: int = 0


class CacheComputed(Event, frozen=True, kw_only=True):
    """A value was computed.

    ``stored`` is False if ``when`` refused it, if it was invalidated or replaced in the meantime,
    or if the store failed.
    """

    stored: bool = True
    run_id: int = 0


class CacheComputeFailed(Event, frozen=True, kw_only=True):
    """The computation of a value raised or was cancelled, or its result cannot be cached."""

    error_type: str
    error: str
    run_id: int = 0


class CacheRefreshFailed(Event, frozen=True, kw_only=True):
    """Refreshing a stale entry in the background failed; the stale value is still served."""

    error_type: str
    error: str


class CacheCorrupt(Event, frozen=True, kw_only=True):
    """The text of an entry did not decode; the lookup was a miss."""

    reason: str


class CacheStoreFailed(Event, frozen=True, kw_only=True):
    """The store failed; values are computed and not stored (``on_store_error="compute"``)."""

    error_type: str
    error: str


class CacheStoreRecovered(Event, frozen=True, kw_only=True):
    """The store works again; ``key`` is that of the call that met its failure."""


class CircuitCallStarted(Event, frozen=True, kw_only=True):
    """A circuit admitted a call, which starts."""

    run_id: int = 0


class CircuitCallCompleted(Event, frozen=True, kw_only=True):
    """A call through a circuit succeeded."""

    run_id: int = 0


class CircuitCallFailed(Event, frozen=True, kw_only=True):
    """A call through a circuit raised, was cancelled or was marked as failed.

    ``failure_count`` is how many failures in a row the circuit has counted, this one included, and
    None if this one does not count. ``error_type`` is None if the call raised nothing, but was
    marked by ``call.fail()`` or ``on_result``.
    """

    error_type: str | None
    error: str
    failure_count: int | None = None
    run_id: int = 0


class CircuitOpened(Event, frozen=True, kw_only=True):
    """Calls are rejected from now on; when ``forced``, by ``force_open`` and not for a failure."""

    failure_count: int
    forced: bool = False


class CircuitHalfOpened(Event, frozen=True, kw_only=True):
    """One call is admitted as a probe."""


class CircuitClosed(Event, frozen=True, kw_only=True):
    """Calls are admitted again; when ``forced``, by ``force_close`` and not for a success."""

    forced: bool = False


class CircuitReset(Event, frozen=True, kw_only=True):
    """``reset`` cleared the state of a circuit."""


class CircuitRejected(Event, frozen=True, kw_only=True):
    """An open circuit rejected a call without running it."""


class CircuitStoreFailed(Event, frozen=True, kw_only=True):
    """The store failed; failures are counted in this process (``on_store_error="local"``)."""

    error_type: str
    error: str


class CircuitStoreRecovered(Event, frozen=True, kw_only=True):
    """The store works again, and its shared state decides."""


class CheckpointSaved(Event, frozen=True, kw_only=True):
    """A checkpoint of task ``key`` was committed."""

    sequence: int
    progress: float


class TaskStarted(Event, frozen=True, kw_only=True):
    """A run of task ``key`` starts."""

    run_id: int = 0


class TaskResumed(Event, frozen=True, kw_only=True):
    """Task ``key`` resumes from a checkpoint of an earlier run."""

    sequence: int
    progress: float


class TaskCompleted(Event, frozen=True, kw_only=True):
    """Task ``key`` succeeded and its checkpoints were deleted."""

    run_id: int = 0


class TaskFailed(Event, frozen=True, kw_only=True):
    """A run of task ``key`` raised, was cancelled or lost its lease; the checkpoints stay."""

    error_type: str
    error: str
    run_id: int = 0


class IdempotentStarted(Event, frozen=True, kw_only=True):
    """The call behind ``key`` starts."""

    run_id: int = 0


class IdempotentExecuted(Event, frozen=True, kw_only=True):
    """The call behind ``key`` ran and its result was stored."""

    run_id: int = 0


class IdempotentFailed(Event, frozen=True, kw_only=True):
    """The call behind ``key`` raised, was cancelled, or its result was not stored."""

    error_type: str
    error: str
    run_id: int = 0


class IdempotentReplayed(Event, frozen=True, kw_only=True):
    """The result of ``key`` was replayed without a call; ``duration_ms`` is the wait for it."""


class OperatorAction(Event, frozen=True, kw_only=True):
    """An operator changed the store by hand, such as with ``goscope locks release``.

    ``action`` names the command without its arguments. ``key`` is the key it was about, or the
    pattern, or "*" for the whole store.
    """

    action: str


Observer: TypeAlias = Callable[[Event], object]
"""Called on the event loop with each event; its result is ignored."""
