"""What a store holds, kind by kind: listed, read, compared and written for `goscope.migration`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from ._tools.clock import Clock
from .errors import CapabilityMissing, CorruptValue
from .providers import (
    CacheProvider,
    Checkpoint,
    CheckpointProvider,
    CircuitBreakerState,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    InspectionProvider,
    LockHandle,
    LockHolder,
    LockProvider,
    PersistenceAdapter,
    SupportsAdoption,
    SupportsInspection,
)

KindName: TypeAlias = Literal["entries", "collections", "results", "circuits", "tasks", "leases"]

R = TypeVar("R")

TOLERANCE_MS: Final = 10_000
"""How much two expiries may differ: by the time that a write waits, and between two clocks."""


class Store:
    """The providers of an adapter, none of which is missing.

    ``tags`` are those of the entries that have any, by collection, None for the cache, and key, as
    they were last listed. ``unreadable_circuits`` are the circuits that were listed without a
    state.
    """

    def __init__(self, adapter: PersistenceAdapter) -> None:
        self._name = type(adapter).__name__
        self.clock: Final[Clock] = adapter.clock
        self.cache: Final[CacheProvider] = self._require("cache", adapter.cache)
        self.circuit_breaker: Final[CircuitBreakerStateProvider] = self._require(
            "circuit_breaker", adapter.circuit_breaker
        )
        self.checkpoint: Final[CheckpointProvider] = self._require("checkpoint", adapter.checkpoint)
        self.idempotency: Final[IdempotencyProvider] = self._require(
            "idempotency", adapter.idempotency
        )
        self.lock: Final[LockProvider] = self._require("lock", adapter.lock)
        self.lease: Final[LockProvider] = self._require("lease", adapter.lease)
        inspection = adapter.inspection if isinstance(adapter, SupportsInspection) else None
        self.inspection: Final[InspectionProvider] = self._require("inspection", inspection)
        self.tags: Final[dict[tuple[str | None, str], tuple[str, ...]]] = {}
        self.unreadable_circuits: Final[set[str]] = set()

    def _require(self, provider: str, found: R | None) -> R:
        if found is None:
            raise CapabilityMissing(self._name, provider, "a migration needs all providers")
        return found

    def left_ms(self, time: int | None) -> int | None:
        """How much later a time of this store comes; 0 if it has passed, None for never."""
        return None if time is None else max(time - self.clock.wall_ms(), 0)


class Kind(ABC, Generic[R]):
    """Records of one kind. Its methods raise ``ValueError`` for a record that is not valid."""

    name: ClassVar[KindName]

    async def prepare(self, store: Store) -> None:
        """Read what `read` needs for all records of the destination."""
        return

    @abstractmethod
    def keys(self, store: Store) -> AsyncIterator[str]:
        """The keys of the records, also of some that have expired."""

    @abstractmethod
    async def read(self, store: Store, key: str) -> R | None:
        """The live record; None if there is none."""

    @abstractmethod
    async def write(self, store: Store, key: str, record: R, old: R | None) -> None:
        """Store the record in place of the ``old`` one."""

    def are_equal(self, record: R, other: R) -> bool:
        """Whether the destination holds the record if it holds the ``other`` one."""
        return record == other

    def ends_soon(self, record: R) -> bool:
        """Whether the record may have ended in the other store already."""
        return False

    def may_replace(self, record: R, old: R, *, overwrite: bool) -> bool:
        """Whether the record may take the place of another one in the destination."""
        return overwrite


class TimedText(NamedTuple):
    """A cache entry, with ``details`` its tags, or a result, with its fingerprint."""

    text: bytes
    left_ms: int | None
    stale_left_ms: int | None
    details: tuple[str, ...]


class TimedTextKind(Kind[TimedText]):
    """Records that are equal if they expire at about the same time."""

    def are_equal(self, record: TimedText, other: TimedText) -> bool:
        return (
            record.text == other.text
            and record.details == other.details
            and _are_close(record.left_ms, other.left_ms)
            and _are_close(record.stale_left_ms, other.stale_left_ms)
        )

    def ends_soon(self, record: TimedText) -> bool:
        left_ms = record.left_ms if record.stale_left_ms is None else record.stale_left_ms
        return left_ms is not None and left_ms <= TOLERANCE_MS


class Entries(TimedTextKind):
    """Cache entries, also those that may only be served stale."""

    name: ClassVar[KindName] = "entries"

    async def prepare(self, store: Store) -> None:
        store.tags.clear()
        async for _ in self.keys(store):
            pass  # it collects the tags

    async def keys(self, store: Store) -> AsyncIterator[str]:
        async for key in self._list(store, None):
            yield key

    async def read(self, store: Store, key: str) -> TimedText | None:
        collection, key = self._split(key)
        provider = self._provider(store, collection)
        entry = await provider.get_entry(key, type=msgspec.Raw)
        if entry is None:
            if await provider.has(key):
                raise CorruptValue(key, "it is not JSON")
            return None
        left_ms, stale_left_ms = store.left_ms(entry.expires_at), store.left_ms(entry.stale_until)
        tags = store.tags.get((collection, key), ())
        return TimedText(bytes(entry.value), left_ms, stale_left_ms, tags)

    async def write(self, store: Store, key: str, record: TimedText, old: TimedText | None) -> None:
        collection, key = self._split(key)
        ttl_ms, stale_for_ms = record.left_ms, None
        if ttl_ms is not None:
            ttl_ms = max(ttl_ms, 1)  # one that is stale already expires at once
            if record.stale_left_ms is not None:
                stale_for_ms = max(record.stale_left_ms - ttl_ms, 1)
        await self._provider(store, collection).set(
            key, msgspec.Raw(record.text), ttl_ms, tags=record.details, stale_for=stale_for_ms
        )

    def _split(self, key: str) -> tuple[str | None, str]:
        """The collection of an entry, None for the cache, and its key there."""
        return None, key

    async def _list(self, store: Store, collection: str | None) -> AsyncIterator[str]:
        """The keys of the cache or of a collection."""
        async for entry in store.inspection.entries(collection=collection):
            if entry.tags:
                store.tags[collection, entry.key] = tuple(sorted(entry.tags))
            yield entry.key

    def _provider(self, store: Store, collection: str | None) -> CacheProvider:
        return store.cache if collection is None else store.cache.collection(collection)


class CollectionEntries(Entries):
    """Entries of collections. Their keys are the name of the collection, a colon and the key."""

    name = "collections"

    async def keys(self, store: Store) -> AsyncIterator[str]:
        collections = [it.name async for it in store.inspection.collections()]
        for collection in collections:
            async for key in self._list(store, collection):
                yield f"{collection}:{key}"

    def _split(self, key: str) -> tuple[str | None, str]:
        collection, _, key = key.partition(":")
        return collection, key


class Results(TimedTextKind):
    """Results of idempotent calls."""

    name = "results"

    async def keys(self, store: Store) -> AsyncIterator[str]:
        async for result in store.inspection.results():
            yield result.key

    async def read(self, store: Store, key: str) -> TimedText | None:
        result = await store.idempotency.get(key, type=msgspec.Raw)
        if result is None:
            return None
        details = () if result.fingerprint is None else (result.fingerprint,)
        return TimedText(bytes(result.value), store.left_ms(result.expires_at), None, details)

    async def write(self, store: Store, key: str, record: TimedText, old: TimedText | None) -> None:
        ttl_ms = None if record.left_ms is None else max(record.left_ms, 1)
        fingerprint = record.details[0] if record.details else None
        await store.idempotency.set(key, msgspec.Raw(record.text), ttl_ms, fingerprint=fingerprint)


class CircuitStates(Kind[CircuitBreakerState]):
    """Circuits. Their times are moved unchanged."""

    name = "circuits"

    async def keys(self, store: Store) -> AsyncIterator[str]:
        async for circuit in store.inspection.circuits():
            if circuit.state is None:
                store.unreadable_circuits.add(circuit.key)
            yield circuit.key

    async def read(self, store: Store, key: str) -> CircuitBreakerState | None:
        state = await store.circuit_breaker.get_state(key)
        if state is None and key in store.unreadable_circuits:
            raise CorruptValue(key, "it is not the state of a circuit")
        return state

    async def write(
        self,
        store: Store,
        key: str,
        record: CircuitBreakerState,
        old: CircuitBreakerState | None,
    ) -> None:
        await store.circuit_breaker.set_state(key, record)


class Checkpoints(Kind[Sequence[Checkpoint]]):
    """The checkpoints of tasks, lowest sequence first; their data is the stored text in bytes."""

    name = "tasks"

    async def keys(self, store: Store) -> AsyncIterator[str]:
        async for task in store.inspection.tasks():
            if task.checkpoints:
                yield task.id

    async def read(self, store: Store, key: str) -> Sequence[Checkpoint] | None:
        found = await store.checkpoint.list(key, type=msgspec.Raw)
        return [msgspec.structs.replace(it, data=bytes(it.data)) for it in found] or None

    async def write(
        self,
        store: Store,
        key: str,
        record: Sequence[Checkpoint],
        old: Sequence[Checkpoint] | None,
    ) -> None:
        highest = -1
        if old is not None and self._continues(record, old):
            highest = old[-1].sequence
        elif old is not None:
            await store.checkpoint.delete_all(key)
        for checkpoint in record:
            if checkpoint.sequence > highest:
                data = msgspec.Raw(checkpoint.data)
                await store.checkpoint.save(msgspec.structs.replace(checkpoint, data=data))

    def are_equal(self, record: Sequence[Checkpoint], other: Sequence[Checkpoint]) -> bool:
        # The destination may have older ones, which the source had when they were moved.
        return other[-len(record) :] == record

    def may_replace(
        self, record: Sequence[Checkpoint], old: Sequence[Checkpoint], *, overwrite: bool
    ) -> bool:
        return overwrite or self._continues(record, old)

    def _continues(self, record: Sequence[Checkpoint], old: Sequence[Checkpoint]) -> bool:
        """Whether the task has gone on in the source since ``old`` was copied from it."""
        shared = [it for it in old if it.sequence >= record[0].sequence]
        return old[-1].sequence < record[-1].sequence and shared == record[: len(shared)]


class Leases(Kind[LockHolder]):
    """Locks and leases that are held: not by a process that has ended.

    Their keys are ``lock:`` and the key of the lock, or ``lease:`` and the name of the lease.
    """

    name = "leases"

    async def keys(self, store: Store) -> AsyncIterator[str]:
        async for lease in store.inspection.leases():
            if lease.is_alive is not False:
                namespace = "" if lease.kind == "lock" else "lease:"
                name = lease.key if lease.kind == "other" else f"{lease.kind}:{lease.key}"
                yield namespace + name

    async def read(self, store: Store, key: str) -> LockHolder | None:
        provider, name = self._find(store, key)
        return await provider.holder(name)

    async def write(
        self, store: Store, key: str, record: LockHolder, old: LockHolder | None
    ) -> None:
        provider, name = self._find(store, key)
        if old is None:
            await adopt(provider, name, record)
        else:
            await provider.extend(name, record.expires_in_ms, record.owner)

    def are_equal(self, record: LockHolder, other: LockHolder) -> bool:
        return record.owner == other.owner and _are_close(record.expires_in_ms, other.expires_in_ms)

    def ends_soon(self, record: LockHolder) -> bool:
        return record.expires_in_ms <= TOLERANCE_MS

    def may_replace(self, record: LockHolder, old: LockHolder, *, overwrite: bool) -> bool:
        # Another owner holds it in the destination: ending that grant would let two in.
        return record.owner == old.owner

    def _find(self, store: Store, key: str) -> tuple[LockProvider, str]:
        namespace, _, name = key.partition(":")
        return (store.lock if namespace == "lock" else store.lease), name


KINDS: Final[tuple[Kind[Any], ...]] = (
    Entries(),
    CollectionEntries(),
    Results(),
    CircuitStates(),
    Checkpoints(),
    Leases(),
)
"""In the order in which they move. Writing an entry ends its computation, so leases are last."""


async def adopt(provider: LockProvider, name: str, holder: LockHolder) -> LockHandle | None:
    """Grant a lock to its holder in another store."""
    if isinstance(provider, SupportsAdoption):
        return await provider.adopt(name, holder)
    return await provider.acquire(name, holder.expires_in_ms, holder.owner)


def _are_close(left_ms: int | None, other_ms: int | None) -> bool:
    if left_ms is None or other_ms is None:
        return left_ms is other_ms
    return abs(left_ms - other_ms) <= TOLERANCE_MS
