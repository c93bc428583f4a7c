"""What a backend provides, and the records that pass between it and the features.

Provider methods are the low level: they take durations as a ``timedelta``, a string (``"30s"``)
or a number of **milliseconds**, and keys without the adapter's prefix. All of them are coroutines
unless their docstring says otherwise. A cancelled write happened or not, whole.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import (
    Any,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    final,
    overload,
    runtime_checkable,
)

import msgspec

from .events import Event

T = TypeVar("T")
D = TypeVar("D")

Milliseconds: TypeAlias = "timedelta | str | int | float"
"""A duration as provider methods take it: a bare number counts milliseconds."""

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
    """What was acknowledged outlives the process."""
    SHARED_LOCKS = "shared locks"
    """``adapter.lock`` excludes other processes on this machine."""
    DISTRIBUTED = "distributed"
    """Locks and state are shared by several machines."""
    WAKEUPS = "wake-ups"
    """A waiter in another process is woken by a release instead of polling."""


# --- records ---------------------------------------------------------------------------------


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lock: read once, so it may have changed since.

    ``since`` is epoch milliseconds. ``expires_in_ms`` is how much longer the lease runs unless it
    is renewed; zero or less once it has run out. ``fencing_token`` is None for in-memory locks.
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
    """

    value: Any
    expires_at: int | None
    stale_until: int | None = None
    is_stale: bool = False


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

    An open circuit without a ``last_failure_time`` is held open by hand: no time ends that.
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
    percentage, ``estimated_time_remaining`` milliseconds or None. ``data`` is what JSON carries.
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


# --- the five providers ----------------------------------------------------------------------


@runtime_checkable
class LockHandle(Protocol):
    """One grant of a lock. Its methods compare the grant itself, not the owner's name."""

    @property
    def key(self) -> str: ...

    @property
    def owner(self) -> str: ...

    @property
    def fencing_token(self) -> int | None:
        """Greater than that of every earlier grant of this store; None for in-memory locks."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the grant is known to be gone, or its time ran out. Does no I/O."""
        ...

    async def release(self) -> None:
        """Give the lock back. Does nothing the second time; never frees a later grant."""
        ...

    async def extend(self, ttl: Milliseconds) -> bool:
        """Let the lease run for ``ttl`` from now. False once it expired or was lost."""
        ...

    async def is_valid(self) -> bool:
        """Ask the store whether the grant is still in force."""
        ...


@runtime_checkable
class LockProvider(Protocol):
    """Locks that are leases: they end when their time runs out unless they are extended."""

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> LockHandle | None:
        """Take the lock if it is free; never waits. None while held, by the same owner too.

        ``ttl`` None means the adapter's ``default_lock_ttl``. If the caller is cancelled, a lock
        that was granted is released before the cancellation goes on.
        """
        ...

    async def extend(self, key: str, ttl: Milliseconds, owner: str) -> bool:
        """Let the lease of ``owner`` run for ``ttl`` from now; False once it has expired."""
        ...

    async def force_release(self, key: str) -> None:
        """Take the lock away from whoever holds it."""
        ...

    async def holder(self, key: str) -> LockHolder | None:
        """Who holds the lock, None if nobody does."""
        ...


@runtime_checkable
class CacheProvider(Protocol):
    """Key-value entries with expiry. A stored None is a hit; expired entries are absent.

    In a pattern ``*`` stands for any run of characters, every other character for itself.
    """

    @overload
    async def get(self, key: str) -> Any: ...
    @overload
    async def get(self, key: str, default: D, *, type: type[T]) -> T | D: ...
    @overload
    async def get(self, key: str, default: None = None, *, type: type[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: Any = None, *, type: None = None) -> Any: ...

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        """The value, decoded to ``type`` if given; ``default`` when absent or undecodable."""
        ...

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None = None,
        *,
        tags: Sequence[str] = (),
        stale: Milliseconds | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        """Store the value, replacing value, expiry, tags and staleness. ``ttl`` None: no expiry.

        ``stale`` is how long past its expiry ``get_entry`` may still serve the entry.
        """
        ...

    async def add(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None = None,
        *,
        fence: LockHandle | None = None,
    ) -> bool:
        """Store the value only if the key is absent, atomically; whether it was stored."""
        ...

    async def delete(self, key: str, *, fence: LockHandle | None = None) -> bool:
        """Remove the entry; whether there was one."""
        ...

    async def has(self, key: str) -> bool: ...

    async def clear(self, pattern: str | None = None) -> None:
        """Remove all entries of this prefix that match."""
        ...

    async def keys(self, pattern: str | None = None) -> Sequence[str]:
        """The matching keys, sorted."""
        ...

    def scan(self, pattern: str | None = None) -> AsyncIterator[str]:
        """Iterate over the matching keys, sorted, without holding them all."""
        ...

    async def get_many(self, keys: Sequence[str], *, type: Any = None) -> Mapping[str, Any]:
        """The values of those keys that are there."""
        ...

    async def set_many(self, values: Mapping[str, Any], ttl: Milliseconds | None = None) -> None:
        """Store all values, or none of them."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> int:
        """Remove the entries; how many there were."""
        ...

    async def touch(self, key: str, ttl: Milliseconds | None) -> bool:
        """Let a live entry expire ``ttl`` from now (None: never); whether there was one.

        It may be served stale for as long after its new expiry as after the old one.
        """
        ...

    async def increment(self, key: str, by: int = 1, ttl: Milliseconds | None = None) -> int:
        """Add to an integer atomically; an absent one starts at 0 with ``ttl``. The new value.

        Raises `CorruptValue` when the stored value is no integer.
        """
        ...

    async def get_entry(self, key: str, *, type: Any = None) -> CacheEntry | None:
        """The entry with its times; past its expiry too, while it may be served stale."""
        ...

    async def delete_tag(self, tag: str) -> int:
        """Remove all entries that carry the tag; how many there were."""
        ...

    async def stats(self) -> CacheStats: ...

    async def prune(self) -> int:
        """Remove what has expired now instead of waiting for the sweeper; how many entries."""
        ...


@runtime_checkable
class CircuitBreakerStateProvider(Protocol):
    """The shared state of circuit breakers."""

    async def get_state(self, key: str) -> CircuitBreakerState | None:
        """The state, None for a circuit nothing was recorded of."""
        ...

    async def set_state(
        self, key: str, state: CircuitBreakerState, *, fence: LockHandle | None = None
    ) -> None:
        """Replace the state."""
        ...

    async def record_failure(
        self, key: str, max_failures: int, *, fence: LockHandle | None = None
    ) -> int:
        """Count a failure atomically; the new count.

        Opens the circuit when the count reaches ``max_failures``, and at once when half-open. A
        circuit held open by hand stays so: it gets no ``last_failure_time``.
        """
        ...

    async def record_success(
        self, key: str, *, expected: CircuitState | None = None, fence: LockHandle | None = None
    ) -> None:
        """Close the circuit and set its failure count to 0.

        With ``expected`` nothing changes unless the circuit is in that state: a call that began
        while it was closed must not close one that opened meanwhile.
        """
        ...


@runtime_checkable
class CheckpointProvider(Protocol):
    """The saved states of tasks, in the order of their sequence."""

    async def save(self, checkpoint: Checkpoint, *, fence: LockHandle | None = None) -> None:
        """Store a checkpoint whose sequence is above the task's highest.

        Saving the latest one's own id and sequence again replaces it. Anything else raises
        `CheckpointConflict`.
        """
        ...

    async def load(self, checkpoint_id: str) -> Checkpoint | None: ...

    async def load_latest(self, task_id: str) -> Checkpoint | None: ...

    async def list(self, task_id: str) -> Sequence[Checkpoint]:
        """All checkpoints of the task, lowest sequence first."""
        ...

    async def cleanup(
        self, task_id: str, keep_count: int, *, fence: LockHandle | None = None
    ) -> None:
        """Remove all but the ``keep_count`` latest checkpoints."""
        ...

    async def delete_all(self, task_id: str, *, fence: LockHandle | None = None) -> None: ...


@runtime_checkable
class IdempotencyProvider(Protocol):
    """The results of calls that must happen once."""

    async def get(self, key: str) -> IdempotencyRecord | None:
        """The live record, None if there is none. Raises `CorruptValue` if it does not decode."""
        ...

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None = None,
        *,
        fingerprint: str | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        """Store the result. ``ttl`` None: no expiry.

        When ``fence`` is the lease ``idempotency:{key}``, it ends in the same transaction.
        """
        ...

    async def delete(self, key: str) -> bool:
        """Forget the result; whether there was one."""
        ...


# --- the adapter and its optional abilities --------------------------------------------------


@runtime_checkable
class PersistenceAdapter(Protocol):
    """An open store and its providers. ``lease`` and one other are the minimum; None: absent."""

    @property
    def lock(self) -> LockProvider | None:
        """What ``gs.lock`` uses."""
        ...

    @property
    def lease(self) -> LockProvider | None:
        """What goscope itself holds for the features: another namespace than ``lock``."""
        ...

    @property
    def cache(self) -> CacheProvider | None: ...

    @property
    def circuit_breaker(self) -> CircuitBreakerStateProvider | None: ...

    @property
    def checkpoint(self) -> CheckpointProvider | None: ...

    @property
    def idempotency(self) -> IdempotencyProvider | None: ...

    @property
    def is_connected(self) -> bool: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    async def connect(self) -> None:
        """Open the store. Does nothing when it is open."""
        ...

    async def disconnect(self) -> None:
        """Finish what was submitted and close the store. Does nothing when it is closed."""
        ...


@runtime_checkable
class SupportsWait(Protocol):
    """A lock provider that knows better than its caller when to try again."""

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``. A hint, no grant."""
        ...


@runtime_checkable
class SupportsEvents(Protocol):
    """An adapter whose providers see things a scope cannot, such as corrupt entries."""

    def observe(self, emit: Callable[[Event], None] | None) -> None:
        """Send events to ``emit`` from now on; None: to nobody."""
        ...


@runtime_checkable
class SupportsInspection(Protocol):
    """An adapter that can list what it holds, for the command line."""

    def held_locks(self) -> AsyncIterator[tuple[str, LockHolder]]:
        """Every lock and lease of this prefix that has not been released, by stored key."""
        ...
