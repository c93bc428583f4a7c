"""What a backend provides: Protocols, and the records they exchange.

Provider methods take milliseconds as bare numbers, as go-go-scope's do, or a ``timedelta`` or a
string such as ``"30s"``. Keys are non-empty strings of at most 512 characters without NUL. All
methods are coroutines unless their docstring says otherwise. A cancelled write is atomic: it was
applied fully or not at all. Only `CacheProvider.clear`, ``delete_many``, ``delete_by_tag`` and
``prune`` may stop in between, see there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload, runtime_checkable

from ._records import (
    MISSING,
    CacheEntry,
    CacheStats,
    Capability,
    Checkpoint,
    CircuitBreakerState,
    CircuitState,
    IdempotencyRecord,
    LockHolder,
)
from ._tools.clock import Clock
from ._tools.duration import Milliseconds
from .events import Event

if TYPE_CHECKING:
    import os

    from .inspection import (
        CircuitInfo,
        CollectionInfo,
        EntryInfo,
        LeaseInfo,
        LeaseKind,
        ProcessInfo,
        ResultInfo,
        TaskInfo,
        Totals,
        WaiterInfo,
    )

__all__ = [
    "MISSING",
    "CacheEntry",
    "CacheProvider",
    "CacheStats",
    "Capability",
    "Checkpoint",
    "CheckpointProvider",
    "CircuitBreakerState",
    "CircuitBreakerStateProvider",
    "CircuitState",
    "IdempotencyProvider",
    "IdempotencyRecord",
    "InspectionProvider",
    "LockHandle",
    "LockHolder",
    "LockProvider",
    "Milliseconds",
    "PersistenceAdapter",
    "SupportsAdoption",
    "SupportsBackup",
    "SupportsEvents",
    "SupportsInspection",
    "SupportsRenew",
    "SupportsTransactions",
    "SupportsWait",
    "TransactionProvider",
]

T = TypeVar("T")
D = TypeVar("D")


@runtime_checkable
class LockHandle(Protocol):
    """One grant of a lock. Its methods compare the grant itself, not the owner's name.

    A handle is a fence: a write given ``fence=handle`` is applied only while the lease
    ``stored_key`` of the store ``store_id`` carries ``fencing_token``.
    """

    @property
    def key(self) -> str:
        """The key that was locked."""
        ...

    @property
    def owner(self) -> str: ...

    @property
    def stored_key(self) -> str:
        """The key under which the store keeps the lease."""
        ...

    @property
    def store_id(self) -> str:
        """The identity of the store that granted the lease, see `PersistenceAdapter`."""
        ...

    @property
    def fencing_token(self) -> int | None:
        """Greater than that of every earlier grant of this store; None for in-memory locks."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the grant is known to be lost, or its time is over. Does no I/O."""
        ...

    async def release(self) -> bool | None:
        """Release the lock; whether this grant was still current, None if that is unknown.

        Does nothing the second time, and then returns False; never ends a later grant. Runs to the
        end when the caller is cancelled.
        """
        ...

    async def extend(self, ttl: Milliseconds) -> bool:
        """Let the lease run for ``ttl`` from now. False once it has expired or was lost."""
        ...

    async def is_valid(self) -> bool:
        """Ask the store whether the grant is still current."""
        ...


@runtime_checkable
class LockProvider(Protocol):
    """Locks that are leases: they expire unless they are extended."""

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> LockHandle | None:
        """Take the lock if it is free; never waits. None while held, by the same owner too.

        ``ttl`` None means the adapter's ``default_lock_ttl``. If the caller is cancelled, a lock
        that was granted is released before the cancellation is raised.
        """
        ...

    async def extend(self, key: str, ttl: Milliseconds, owner: str) -> bool:
        """Let the lease of ``owner`` run for ``ttl`` from now; False once it has expired."""
        ...

    async def force_release(self, key: str) -> None:
        """End the current grant, whoever holds it."""
        ...

    async def holder(self, key: str) -> LockHolder | None:
        """The holder of the lock, None if it is free."""
        ...


@runtime_checkable
class CacheProvider(Protocol):
    """Key-value entries with expiry. A stored None is a hit; expired entries are absent.

    In a pattern ``*`` stands for any run of characters, every other character for itself.

    A scope computes a value of ``key`` under the lease ``cache:{key}`` of the adapter's ``lease``.
    Each write that stores or removes the entry of the key, also an absent one, ends that lease in
    the same transaction, unless the lease is its fence. ``clear`` ends those of all matching keys,
    ``delete_by_tag`` those whose owner names the tag, see `goscope.backend.load_owner`.
    """

    def collection(self, name: str) -> CacheProvider:
        """The entries of a durable collection, which are not part of the cache.

        No call on the cache, on another collection or under another prefix lists, counts, changes
        or removes them, and the store evicts none. Text that cannot be decoded raises
        `CorruptValue` instead of counting as absent. The lease of a value of ``key`` that is being
        computed is ``collection:{name}:{key}``.

        A name has 1 to 64 letters, digits, ``_``, ``.`` or ``-``, else ``ValueError``; name, colon
        and key, or tag, have at most 512 characters together.
        """
        ...

    @overload
    async def get(self, key: str) -> Any: ...
    @overload
    async def get(self, key: str, default: D, *, type: type[T]) -> T | D: ...
    @overload
    async def get(self, key: str, default: None = None, *, type: type[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: Any = None, *, type: None = None) -> Any: ...

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        """The value, decoded to ``type`` if given; ``default`` when absent or undecodable.

        With ``type=msgspec.Raw`` the value is the stored JSON text, as a ``msgspec.Raw``.
        """
        ...

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None = None,
        *,
        tags: Sequence[str] = (),
        stale_for: Milliseconds | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        """Store the value, replacing value, expiry, tags and staleness. ``ttl`` None: no expiry.

        A ``msgspec.Raw`` is stored as the JSON text it holds. ``stale_for`` is how long past its
        expiry ``get_entry`` may still serve the entry.
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
        """Remove the entry; whether there was a live one."""
        ...

    async def has(self, key: str) -> bool:
        """Whether there is a live entry."""
        ...

    async def clear(self, pattern: str | None = None) -> None:
        """Remove all entries of this prefix that match.

        Many entries are removed in several writes, so that others can write in between. If it is
        cancelled or fails in between, it has removed some of them: call it again. What was there
        when it was called is gone when it returns.
        """
        ...

    async def keys(self, pattern: str | None = None) -> Sequence[str]:
        """The matching keys, sorted."""
        ...

    def scan(self, pattern: str | None = None) -> AsyncIterator[str]:
        """Iterate over the matching keys, sorted, without holding them all."""
        ...

    async def get_many(self, keys: Sequence[str], *, type: Any = None) -> Mapping[str, Any]:
        """The values of those keys that are present."""
        ...

    async def set_many(self, values: Mapping[str, Any], ttl: Milliseconds | None = None) -> None:
        """Store all values, or none of them."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> int:
        """Remove the entries; how many there were. In several writes, as `clear`."""
        ...

    async def touch(self, key: str, ttl: Milliseconds | None) -> bool:
        """Let a live entry expire ``ttl`` from now (None: never); whether there was one.

        It may be served stale for as long after its new expiry as after the old one.
        """
        ...

    async def increment(self, key: str, by: int = 1, ttl: Milliseconds | None = None) -> int:
        """Add to an integer atomically; an absent one starts at 0 with ``ttl``. The new value.

        Raises `CorruptValue` when the stored value is not an integer.
        """
        ...

    async def get_entry(self, key: str, *, type: Any = None) -> CacheEntry | None:
        """The entry with its times; also past its expiry, while it may be served stale.

        ``type`` as for ``get``. Not counted as a hit or a miss.
        """
        ...

    async def delete_by_tag(self, tag: str) -> int:
        """Remove all entries that carry the tag; how many there were.

        In several writes, as `clear`.
        """
        ...

    async def stats(self) -> CacheStats:
        """How many entries there are, and the hits and misses of this adapter."""
        ...

    async def prune(self) -> int:
        """Remove what has expired now instead of waiting for the sweeper; how many entries.

        In several writes, as `clear`.
        """
        ...


@runtime_checkable
class CircuitBreakerStateProvider(Protocol):
    """The shared state of circuit breakers."""

    async def get_state(self, key: str) -> CircuitBreakerState | None:
        """The state, None for a circuit without a record."""
        ...

    async def set_state(
        self, key: str, state: CircuitBreakerState, *, fence: LockHandle | None = None
    ) -> None:
        """Replace the state, whatever it was."""
        ...

    async def record_failure(
        self, key: str, max_failures: int, *, fence: LockHandle | None = None
    ) -> int:
        """Count a failure atomically; the new count.

        Opens the circuit when the count reaches ``max_failures``, and at once when half-open. A
        circuit that is forced open stays so: it gets no ``last_failure_time``.
        """
        ...

    async def record_success(
        self, key: str, *, expected: CircuitState | None = None, fence: LockHandle | None = None
    ) -> None:
        """Close the circuit and set its failure count to 0.

        With ``expected`` nothing changes unless the circuit is in that state: a call that began
        while it was closed must not close one that has opened since.
        """
        ...


@runtime_checkable
class CheckpointProvider(Protocol):
    """The saved states of tasks, in the order of their sequence."""

    async def save(self, checkpoint: Checkpoint, *, fence: LockHandle | None = None) -> None:
        """Store a checkpoint whose sequence is above the task's highest.

        Saving the id and sequence of the latest one again replaces it. Anything else raises
        `CheckpointConflict`.
        """
        ...

    async def load(self, checkpoint_id: str) -> Checkpoint | None: ...

    async def load_latest(self, task_id: str) -> Checkpoint | None: ...

    async def list(self, task_id: str, *, type: Any = None) -> Sequence[Checkpoint]:
        """All checkpoints of the task, lowest sequence first, their data decoded to ``type``.

        With ``type=msgspec.Raw`` the data is the stored JSON text, as a ``msgspec.Raw``.
        """
        ...

    async def cleanup(
        self, task_id: str, keep_count: int, *, fence: LockHandle | None = None
    ) -> None:
        """Remove all but the ``keep_count`` latest checkpoints."""
        ...

    async def delete_all(self, task_id: str, *, fence: LockHandle | None = None) -> None: ...


@runtime_checkable
class IdempotencyProvider(Protocol):
    """The results of calls that must not be repeated."""

    async def get(self, key: str, *, type: Any = None) -> IdempotencyRecord | None:
        """The live record, its value decoded to ``type`` if given; None if there is none.

        With ``type=msgspec.Raw`` the value is the stored JSON text. Raises `CorruptValue` if it
        does not decode.
        """
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
        """Store the result. ``ttl`` None: it never expires.

        A ``msgspec.Raw`` is stored as the JSON text it holds. When ``fence`` is the lease
        ``idempotency:{key}``, that lease ends in the same transaction.
        """
        ...

    async def delete(self, key: str) -> bool:
        """Forget the result; whether there was a live one."""
        ...


@runtime_checkable
class PersistenceAdapter(Protocol):
    """An open store and its providers. ``lease`` and one other are the minimum; None: absent.

    Two adapters on one store have the same ``store_id`` in their handles; other stores have
    another one.
    """

    @property
    def lock(self) -> LockProvider | None:
        """What ``gs.lock`` uses."""
        ...

    @property
    def lease(self) -> LockProvider | None:
        """What goscope itself holds for its features: a separate namespace from ``lock``."""
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
    def clock(self) -> Clock:
        """The clock that the store measures time with; the scope uses it too."""
        ...

    @property
    def default_lock_ttl_ms(self) -> int:
        """How long a lock's lease runs when the caller does not say, in milliseconds."""
        ...

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
    """A lock provider that knows when to try again, so that its caller need not poll."""

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``. A hint, not a grant."""
        ...


@runtime_checkable
class SupportsBackup(Protocol):
    """An adapter that can copy its store to a file while the store is in use."""

    async def backup(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Copy the store to a new file, as of now; a cancelled or failed call leaves nothing.

        ``progress`` is called in the event loop with how much is copied, and with how much there
        is, in the same unit.
        """
        ...


@runtime_checkable
class SupportsAdoption(Protocol):
    """A lock provider that takes over what another store has granted, see `goscope.migration`."""

    async def adopt(self, key: str, holder: LockHolder) -> LockHandle | None:
        """Grant the lock to the holder that it has in another store; None while it is held here.

        The grant has the owner, the host, the pid and the time left of ``holder``, and outlives the
        process that calls this. Its token, and that of every later grant of this store, is greater
        than ``holder.fencing_token``, also when the lock is held.
        """
        ...


@runtime_checkable
class SupportsRenew(Protocol):
    """A lock handle that can renew an expired lease which nobody took."""

    async def renew(self, ttl: Milliseconds) -> bool:
        """Let the lease run for ``ttl`` from now, also if it has expired and nobody took it.

        False when it was released, granted again or forgotten by the store.
        """
        ...


@runtime_checkable
class SupportsEvents(Protocol):
    """An adapter whose providers see what a scope cannot, such as corrupt entries."""

    def observe(self, emit: Callable[[Event], None] | None) -> None:
        """Send events to ``emit`` from now on; None stops that.

        They have their ``key``; the scope adds its name and the template of the key.
        """
        ...


@runtime_checkable
class InspectionProvider(Protocol):
    """Lists what the store holds under the prefix of the adapter, for operators.

    A listing reads pages, no values, and changes nothing. It is in no particular order. What the
    store holds from its beginning to its end is listed, what changes during it may be; a store that
    scans its keys may list one twice. What has expired is listed until the store removes it. A
    record that cannot be read ends no listing.

    In a pattern ``*`` stands for any run of characters, every other character for itself; None is
    everything. These methods return asynchronous iterators, and check their arguments at once.

    The stored key of a result, or of a task, is the prefix and the key. So an adapter without a
    prefix also lists those of every prefix: it can use them, too.
    """

    def leases(
        self, pattern: str | None = None, *, kind: LeaseKind | None = None
    ) -> AsyncIterator[LeaseInfo]:
        """The locks and leases that were not released; with ``kind`` those held for that alone.

        In-memory locks are listed in the process that holds them.
        """
        ...

    def waiters(self, pattern: str | None = None) -> AsyncIterator[WaiterInfo]:
        """The processes in the wait queues of locks and leases, if the store has queues."""
        ...

    def circuits(self, pattern: str | None = None) -> AsyncIterator[CircuitInfo]:
        """The circuits that have a record."""
        ...

    def tasks(self, pattern: str | None = None) -> AsyncIterator[TaskInfo]:
        """The tasks that have checkpoints, and those that run, with their leases."""
        ...

    def results(self, pattern: str | None = None) -> AsyncIterator[ResultInfo]:
        """The results of idempotent calls."""
        ...

    def entries(
        self, pattern: str | None = None, *, collection: str | None = None
    ) -> AsyncIterator[EntryInfo]:
        """The cache entries, or those of a collection."""
        ...

    def collections(self) -> AsyncIterator[CollectionInfo]:
        """The collections that have entries. Takes time in proportion to their number."""
        ...

    def processes(self) -> AsyncIterator[ProcessInfo]:
        """The processes that have the store open, under any prefix, as far as it knows them."""
        ...

    async def totals(self) -> Totals:
        """How many records of each kind there are. Takes time in proportion to their number."""
        ...


@runtime_checkable
class SupportsInspection(Protocol):
    """An adapter that can list what its store holds."""

    @property
    def inspection(self) -> InspectionProvider: ...


@runtime_checkable
class TransactionProvider(Protocol):
    """The user's own statements in the write transactions of the store.

    ``work`` is a function of a connection of the driver, on which goscope has begun a transaction
    that it commits when the function returns. It is a plain function or a coroutine function, as
    the driver is: a backend raises ``TypeError`` for the other kind. It may be called again after
    its transaction was rolled back in favor of another one, so it has no effects beyond its
    statements. Nothing of an attempt that did not commit can be seen.

    What it raises reaches the caller unchanged, as do violations of its deferred constraints. Work
    that ends the transaction itself raises `ConfigurationError`, work that takes too long
    `BackendError`. With a fence that is not current, `LeaseLost` is raised. After each of these
    nothing is written, except what work has committed itself on a store that cannot refuse that.
    A caller that is cancelled knows as little as one of another write: all of it was written, or
    nothing.
    """

    async def run(self, work: Callable[[Any], Any], *, fence: LockHandle | None = None) -> Any:
        """Run the work and return its result, committed."""
        ...

    async def save(
        self,
        checkpoint: Checkpoint,
        work: Callable[[Any], Any],
        *,
        fence: LockHandle | None = None,
    ) -> None:
        """As `CheckpointProvider.save`, in one transaction with the work."""
        ...

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None,
        work: Callable[[Any], Any],
        *,
        fingerprint: str | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        """As `IdempotencyProvider.set`, in one transaction with the work."""
        ...


@runtime_checkable
class SupportsTransactions(Protocol):
    """An adapter in whose write transactions the user's own statements can run."""

    @property
    def transactions(self) -> TransactionProvider: ...
