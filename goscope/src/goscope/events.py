"""Events: frozen records that observers receive.

``key`` is the key as the program gave it, without any prefix. ``duration_ms`` is how long it took:
the wait before a lock was granted, the lookup of a cache hit, the computation of a value; 0 for
what has no duration, such as a loss. Observers are called on the event loop and must not block it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every event."""

    key: str
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


class CacheHit(Event, frozen=True, kw_only=True):
    """A lookup found a live entry, or, when ``stale``, one past its expiry."""

    stale: bool = False


class CacheMiss(Event, frozen=True, kw_only=True):
    """A lookup found no entry to serve."""


class CacheComputed(Event, frozen=True, kw_only=True):
    """A value was computed; ``stored`` is False if ``when`` refused it or its lease was lost."""

    stored: bool = True


class CacheRefreshFailed(Event, frozen=True, kw_only=True):
    """Refreshing a stale entry in the background failed; the stale value is still served."""

    error: str


class CacheCorrupt(Event, frozen=True, kw_only=True):
    """The text of an entry did not decode; the lookup was a miss."""

    reason: str


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

    error: str


class CircuitStoreRecovered(Event, frozen=True, kw_only=True):
    """The store works again, and its shared state decides."""


class CheckpointSaved(Event, frozen=True, kw_only=True):
    """A checkpoint of task ``key`` was committed."""

    sequence: int
    progress: float


class TaskResumed(Event, frozen=True, kw_only=True):
    """Task ``key`` resumes from a checkpoint of an earlier run."""

    sequence: int
    progress: float


class TaskCompleted(Event, frozen=True, kw_only=True):
    """Task ``key`` succeeded and its checkpoints were deleted."""


class IdempotentExecuted(Event, frozen=True, kw_only=True):
    """The call behind ``key`` ran and its result was stored."""


class IdempotentReplayed(Event, frozen=True, kw_only=True):
    """The result of ``key`` was replayed without a call; ``duration_ms`` is the wait for it."""


Observer: TypeAlias = Callable[[Event], object]
"""Called on the event loop with each event; its result is ignored."""
