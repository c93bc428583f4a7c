"""The records that providers exchange; `goscope.providers` exports them."""

from __future__ import annotations

import enum
from typing import Any, Final, Literal, TypeAlias, final

import msgspec

CircuitState: TypeAlias = Literal["closed", "open", "half-open"]


@final
class _Missing(enum.Enum):
    """The type of `MISSING`: an enum, so that type checkers narrow on ``is MISSING``."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "goscope.MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing.MISSING
"""Marks absence where None is a value, as in ``await cache.get(key, goscope.MISSING)``."""


class Capability(enum.Enum):
    """What a backend promises beyond its methods."""

    PERSISTENT = "persistent"
    """An acknowledged write outlives the process."""
    SHARED_LOCKS = "shared_locks"
    """``adapter.lock`` excludes other processes on this machine."""
    DISTRIBUTED = "distributed"
    """Several machines share locks and state."""
    NOTIFICATIONS = "notifications"
    """A release notifies a waiter in another process, which does not poll."""


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """The holder of a lock when it was read; it may have changed since.

    ``since`` is epoch milliseconds. ``expires_in_ms`` is how much longer the lease runs unless it
    is renewed; zero or less once it has expired. ``fencing_token`` is None for in-memory locks.
    """

    owner: str
    host: str
    pid: int
    since: int
    expires_in_ms: int
    fencing_token: int | None = None


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A cache entry as stored: ``value`` decoded, times in epoch milliseconds, None for never.

    Past ``expires_at`` an entry is served only by ``get_entry``, and only until ``stale_until``.
    ``expires_in_ms`` is how much longer the entry was to live when it was read; zero or less for a
    stale one, None if it never expires.
    """

    value: Any
    expires_at: int | None
    stale_until: int | None = None
    is_stale: bool = False
    expires_in_ms: int | None = None


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """``entries`` counts the store; ``hits`` and ``misses`` this adapter since it connected."""

    entries: int
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float:
        """Hits over lookups, 0.0 when there were none."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0


class CircuitBreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """The stored state of one circuit; times are epoch milliseconds or None.

    An open circuit without a ``last_failure_time`` is forced open: it stays open until it is closed
    or reset.
    ``success_count`` counts the probes that succeeded in a row since the circuit went half-open.
    """

    state: CircuitState = "closed"
    failure_count: int = 0
    last_failure_time: int | None = None
    last_success_time: int | None = None
    success_count: int = 0


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One saved state of a task.

    ``sequence`` grows with each save, ``timestamp`` is epoch milliseconds, ``progress`` a
    percentage, ``estimated_time_remaining`` milliseconds or None. ``data`` is any JSON value.
    """

    id: str
    task_id: str
    sequence: int
    timestamp: int
    data: Any
    progress: float = 0.0
    estimated_time_remaining: int | None = None


class IdempotencyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The stored result of an idempotent call; ``expires_at`` is epoch ms, None for never."""

    value: Any
    expires_at: int | None
    fingerprint: str | None = None
