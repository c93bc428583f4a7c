"""The listings of an inspection provider, each with a write that adds a record to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple

from ...providers import CircuitBreakerState, InspectionProvider, PersistenceAdapter
from ._base import Conformance, cache_of, checkpoints_of, circuits_of, idempotency_of, locks_of
from ._locks import granted
from ._samples import checkpoint
from .cache import CacheConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .idempotency import IdempotencyConformance
from .lock import LockConformance


class Listing(NamedTuple):
    """A method of the provider, the part of the contract that writes what it lists, and a write."""

    name: str
    contract: type[Conformance]
    write: Callable[[PersistenceAdapter, str], Awaitable[object]]

    def iterate(
        self, adapter: PersistenceAdapter, pattern: str | None = None
    ) -> AsyncIterator[Any]:
        """The records that the method lists."""
        listed: AsyncIterator[Any] = getattr(inspection_of(adapter), self.name)(pattern)
        return listed

    async def keys(self, adapter: PersistenceAdapter, pattern: str | None = None) -> set[str]:
        """The keys, or the ids, of the records that the method lists."""
        return {key_of(record) async for record in self.iterate(adapter, pattern)}


def inspection_of(adapter: PersistenceAdapter) -> InspectionProvider:
    inspection = getattr(adapter, "inspection", None)
    assert isinstance(inspection, InspectionProvider), "adapter.inspection is not a provider"
    return inspection


def key_of(record: Any) -> str:
    """The key of a record, or the id of a task."""
    key: str = record.id if hasattr(record, "id") else record.key
    return key


async def _write_lease(adapter: PersistenceAdapter, key: str) -> None:
    await granted(locks_of(adapter), key, "1h")


async def _write_entry(adapter: PersistenceAdapter, key: str) -> None:
    await cache_of(adapter).set(key, 1)


async def _write_circuit(adapter: PersistenceAdapter, key: str) -> None:
    await circuits_of(adapter).set_state(key, CircuitBreakerState())


async def _write_task(adapter: PersistenceAdapter, key: str) -> None:
    await checkpoints_of(adapter).save(checkpoint(1, key, id=key))


async def _write_result(adapter: PersistenceAdapter, key: str) -> None:
    await idempotency_of(adapter).set(key, 1)


LISTINGS: Final = (
    Listing("leases", LockConformance, _write_lease),
    Listing("entries", CacheConformance, _write_entry),
    Listing("circuits", CircuitBreakerConformance, _write_circuit),
    Listing("tasks", CheckpointConformance, _write_task),
    Listing("results", IdempotencyConformance, _write_result),
)


def listings_of(case: Conformance) -> list[Listing]:
    """The listings of what the backend provides."""
    return [it for it in LISTINGS if case.provides(it.contract)]
