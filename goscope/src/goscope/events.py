"""What happened, as frozen records for observers.

``key`` is the key as the program gave it, without any prefix. ``duration_ms`` is how long the
thing took: the wait before a lock was granted, the lookup of a cache hit, the computation behind
a refreshed entry; 0 for what is a moment, such as a loss. Observers get these records on the
event loop and must not block it.
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


class LockWaited(Event, frozen=True, kw_only=True):
    """A lock was not granted within the caller's wait."""


class LockReleased(Event, frozen=True, kw_only=True):
    """A lock was given back; ``duration_ms`` is how long it was held."""


class LockLost(Event, frozen=True, kw_only=True):
    """A lock or a feature's lease was lost while its body ran."""

    reason: str


class CacheHit(Event, frozen=True, kw_only=True):
    """A lookup found a live entry, or, when ``stale``, one past its expiry."""

    stale: bool = False


class CacheMiss(Event, frozen=True, kw_only=True):
    """A lookup found nothing to serve."""


class CacheRefreshed(Event, frozen=True, kw_only=True):
    """A value was computed; ``stored`` is False when ``when`` said no or its lease was lost."""

    stored: bool = True


class CacheRefreshFailed(Event, frozen=True, kw_only=True):
    """Refreshing a stale entry in the background failed; the stale value goes on being served."""

    error: str


class CacheCorrupt(Event, frozen=True, kw_only=True):
    """An entry's text did not decode and was treated as a miss."""

    reason: str


class CircuitOpened(Event, frozen=True, kw_only=True):
    """Calls are refused from now on; when ``forced``, by ``force_open`` and not for a failure."""

    failure_count: int
    forced: bool = False


class CircuitHalfOpened(Event, frozen=True, kw_only=True):
    """One probe call is let through."""


class CircuitClosed(Event, frozen=True, kw_only=True):
    """Calls go through again; when ``forced``, by ``force_close`` and not for a success."""

    forced: bool = False


class CircuitReset(Event, frozen=True, kw_only=True):
    """Everything about a circuit was forgotten by ``reset``."""


class CircuitRejected(Event, frozen=True, kw_only=True):
    """An open circuit spared a call."""


class CircuitStoreFailed(Event, frozen=True, kw_only=True):
    """The store failed, and the circuit is counted in this process (``on_store_error="local"``)."""

    error: str


class CircuitStoreRecovered(Event, frozen=True, kw_only=True):
    """The store did again what it had failed to do, and the shared state decides."""


class CheckpointSaved(Event, frozen=True, kw_only=True):
    """A checkpoint of task ``key`` was committed."""

    sequence: int
    progress: float


class CheckpointResumed(Event, frozen=True, kw_only=True):
    """Task ``key`` starts from a checkpoint of an earlier run."""

    sequence: int
    progress: float


class TaskCompleted(Event, frozen=True, kw_only=True):
    """Task ``key`` ran to its end and its checkpoints were removed."""


class IdempotentExecuted(Event, frozen=True, kw_only=True):
    """The call behind ``key`` ran and its result was stored."""


class IdempotentReplayed(Event, frozen=True, kw_only=True):
    """The result of ``key`` was given without an execution; ``duration_ms`` is the wait for it."""


Observer: TypeAlias = Callable[[Event], object]
"""Called on the event loop with each event; its result is ignored."""
