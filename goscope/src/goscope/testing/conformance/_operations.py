"""One call of every method that accesses the store, for the tests that all methods must pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from ...providers import CircuitBreakerState, PersistenceAdapter
from ._base import Conformance, cache_of, checkpoints_of, circuits_of, idempotency_of, locks_of
from ._listings import inspection_of
from ._locks import granted
from ._samples import checkpoint
from .cache import CacheConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .idempotency import IdempotencyConformance
from .inspection import InspectionConformance, collected, keys
from .lock import LockConformance


class Operation(NamedTuple):
    """A call and its part of the contract; ``number`` differs in each call."""

    name: str
    contract: type[Conformance]
    call: Callable[[PersistenceAdapter, int], Awaitable[object]]


async def _release(adapter: PersistenceAdapter, number: int) -> None:
    await (await granted(locks_of(adapter), f"release{number}")).release()


async def _extend(adapter: PersistenceAdapter, number: int) -> None:
    await (await granted(locks_of(adapter), f"extend{number}")).extend("1h")


async def _write_fenced(adapter: PersistenceAdapter, number: int) -> None:
    fence = await granted(locks_of(adapter), f"fence{number}")
    await cache_of(adapter).set("fenced", number, "1h", tags=["tag"], stale_for="1h", fence=fence)


async def _complete(adapter: PersistenceAdapter, number: int) -> None:
    fence = await granted(locks_of(adapter), f"idempotency:{number}")
    await idempotency_of(adapter).set(str(number), number, fence=fence)


async def _scan(adapter: PersistenceAdapter, number: int) -> list[str]:
    return [key async for key in cache_of(adapter).scan(f"*{number}*")]


def _many(number: int) -> dict[str, Any]:
    return {f"many{item}": number for item in range(20)}


_OPERATIONS: Final[
    dict[type[Conformance], dict[str, Callable[[PersistenceAdapter, int], Awaitable[object]]]]
] = {
    LockConformance: {
        "lease.acquire": lambda it, number: locks_of(it).acquire(f"acquire{number}"),
        "lease.extend": lambda it, _: locks_of(it).extend("key", "1h", "owner"),
        "lease.holder": lambda it, _: locks_of(it).holder("key"),
        "lease.force_release": lambda it, _: locks_of(it).force_release("key"),
        "handle.release": _release,
        "handle.extend": _extend,
    },
    CacheConformance: {
        "cache.get": lambda it, _: cache_of(it).get("key"),
        "cache.get_many": lambda it, number: cache_of(it).get_many(list(_many(number))),
        "cache.get_entry": lambda it, _: cache_of(it).get_entry("key"),
        "cache.set": lambda it, number: cache_of(it).set("key", number, "1h", tags=["tag"]),
        "cache.set (fenced)": _write_fenced,
        "cache.set_many": lambda it, number: cache_of(it).set_many(_many(number)),
        "cache.add": lambda it, number: cache_of(it).add(f"add{number}", number),
        "cache.increment": lambda it, _: cache_of(it).increment("count"),
        "cache.touch": lambda it, _: cache_of(it).touch("key", "1h"),
        "cache.delete": lambda it, _: cache_of(it).delete("key"),
        "cache.delete_many": lambda it, number: cache_of(it).delete_many(list(_many(number))),
        "cache.delete_by_tag": lambda it, _: cache_of(it).delete_by_tag("tag"),
        "cache.scan": _scan,
        "cache.clear": lambda it, _: cache_of(it).clear("key*"),
        "cache.stats": lambda it, _: cache_of(it).stats(),
        "cache.prune": lambda it, _: cache_of(it).prune(),
    },
    CircuitBreakerConformance: {
        "circuit.get_state": lambda it, _: circuits_of(it).get_state("key"),
        "circuit.set_state": lambda it, _: circuits_of(it).set_state("key", CircuitBreakerState()),
        "circuit.record_failure": lambda it, _: circuits_of(it).record_failure("key", 5),
        "circuit.record_success": lambda it, _: circuits_of(it).record_success("key"),
    },
    CheckpointConformance: {
        "checkpoint.save": lambda it, number: checkpoints_of(it).save(checkpoint(number)),
        "checkpoint.load_latest": lambda it, _: checkpoints_of(it).load_latest("task"),
        "checkpoint.list": lambda it, _: checkpoints_of(it).list("task"),
        "checkpoint.cleanup": lambda it, _: checkpoints_of(it).cleanup("task", 2),
        "checkpoint.delete_all": lambda it, _: checkpoints_of(it).delete_all("other task"),
    },
    IdempotencyConformance: {
        "idempotency.get": lambda it, _: idempotency_of(it).get("key"),
        "idempotency.set": lambda it, number: idempotency_of(it).set("key", number, "1h"),
        "idempotency.set (completes)": _complete,
        "idempotency.delete": lambda it, _: idempotency_of(it).delete("key"),
    },
    InspectionConformance: {
        "inspection.leases": lambda it, _: keys(inspection_of(it).leases()),
        "inspection.waiters": lambda it, _: keys(inspection_of(it).waiters()),
        "inspection.circuits": lambda it, _: keys(inspection_of(it).circuits()),
        "inspection.tasks": lambda it, _: keys(inspection_of(it).tasks("*")),
        "inspection.results": lambda it, _: keys(inspection_of(it).results("*")),
        "inspection.entries": lambda it, _: keys(inspection_of(it).entries("key*")),
        "inspection.processes": lambda it, _: collected(inspection_of(it).processes()),
        "inspection.totals": lambda it, _: inspection_of(it).totals(),
    },
}

OPERATIONS: Final = tuple(
    Operation(name, contract, call)
    for contract, calls in _OPERATIONS.items()
    for name, call in calls.items()
)


def operations_of(case: Conformance) -> list[Operation]:
    """The calls of the providers of the backend."""
    return [it for it in OPERATIONS if case.provides(it.contract)]
