"""Stores with a record of every sort, for tests that move them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from goscope import Checkpoint, CircuitBreakerState, LockHandle
from goscope.backend import BaseAdapter
from goscope.memory import MemoryAdapter
from goscope.migration import Migrated
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

THIRD_PARTY: Final = Path(__file__).parent / "thirdparty" / "goscope_json" / "src"
"""Where the package of the backend "json" is; it must be in ``sys.path``."""

HOUR_MS: Final = 3_600_000
NUMBER: Final = b"[1.50, 1e2]"
"""A text that decoding and encoding would change."""


class Stores:
    """Opens stores, which measure time on one clock."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.clock = FakeClock()
        self._folder = folder
        self._stack = stack

    async def open(self, backend: str, name: str) -> Any:
        path, clock = self._folder / name, self.clock
        adapter: BaseAdapter
        match backend:
            case "memory":
                adapter = MemoryAdapter(locks="shared", clock=clock)
            case "json":
                adapter = importlib.import_module("goscope_json").JSONAdapter(path, clock=clock)
            case "sqlite":
                adapter = SQLiteAdapter(path, locks="shared", clock=clock)
            case _:
                adapter = BunSQLiteAdapter(path, locks="shared", clock=clock)
        return await self._stack.enter_async_context(adapter)


async def granted(adapter: Any, name: str, ttl_ms: int, owner: str) -> LockHandle:
    handle: LockHandle | None = await adapter.lease.acquire(name, ttl_ms, owner)
    assert handle is not None
    return handle


def checkpoint(sequence: int, data: Any = None) -> Checkpoint:
    return Checkpoint(
        id=f"etl-{sequence}",
        task_id="etl",
        sequence=sequence,
        timestamp=1_700_000_000_123 + sequence,
        data=data if data is not None else {"row": sequence},
        progress=sequence * 1.5,
        estimated_time_remaining=None if sequence % 2 else 77,
    )


async def fill(adapter: Any) -> None:
    """One record of every sort."""
    await adapter.cache.set("user:1", msgspec.Raw(NUMBER), HOUR_MS, tags=["b", "a"])
    await adapter.cache.set("stale", "old", 1000, stale_for=HOUR_MS)
    await adapter.cache.set("until", "soon", 60_000, stale_for=30_000, tags=["a"])
    await adapter.cache.set("forever", None, None)
    await adapter.cache.set("gone", 1, 1000)
    await adapter.cache.set("k*y ключ", 1, None)
    box = adapter.cache.collection("box")
    await box.set("a:b", msgspec.Raw(NUMBER), HOUR_MS, tags=["b", "a"])
    await box.set("stale", "old", 1000, stale_for=HOUR_MS)
    await adapter.cache.collection("settings").set("user:1", None, None)
    await adapter.idempotency.set("paid", msgspec.Raw(NUMBER), HOUR_MS, fingerprint="f-1")
    await adapter.idempotency.set("once", {"ok": True}, None)
    await adapter.idempotency.set("expired", 1, 1000)
    await adapter.circuit_breaker.set_state(
        "api", CircuitBreakerState(state="open", failure_count=5, last_failure_time=1_700_000)
    )
    await adapter.circuit_breaker.set_state(
        "slow", CircuitBreakerState(state="half-open", success_count=2)
    )
    for sequence in (3, 4, 9):
        data = msgspec.Raw(NUMBER) if sequence == 4 else None
        await adapter.checkpoint.save(checkpoint(sequence, data))
    await adapter.lock.acquire("door", HOUR_MS, "job-7")
    await adapter.lock.acquire("brief", 1000, "job-8")
    await granted(adapter, "task:etl", 90_000, "worker-1")
    await granted(adapter, "cache:user:2", 90_000, "worker-1")
    await granted(adapter, "by:hand", 90_000, "worker-2")


async def contents(adapter: Any) -> dict[str, Any]:
    """Everything that the providers of a store return."""
    found: dict[str, Any] = {}
    collections = [it.name async for it in adapter.inspection.collections()]
    for name in (None, *collections):
        provider = adapter.cache if name is None else adapter.cache.collection(name)
        async for entry in adapter.inspection.entries(collection=name):
            value = await provider.get_entry(entry.key, type=msgspec.Raw)
            if value is not None:
                found[f"entry {name} {entry.key}"] = (
                    bytes(value.value),
                    # What has expired is written to expire a millisecond later.
                    value.expires_at and max(value.expires_at, adapter.clock.wall_ms() + 1),
                    value.stale_until,
                    sorted(entry.tags),
                )
    async for result in adapter.inspection.results():
        record = await adapter.idempotency.get(result.key, type=msgspec.Raw)
        if record is not None:
            text = bytes(record.value)
            found[f"result {result.key}"] = text, record.expires_at, record.fingerprint
    async for circuit in adapter.inspection.circuits():
        found[f"circuit {circuit.key}"] = circuit.state
    async for task in adapter.inspection.tasks():
        rows = await adapter.checkpoint.list(task.id, type=msgspec.Raw)
        found[f"task {task.id}"] = [msgspec.structs.replace(it, data=bytes(it.data)) for it in rows]
    async for lease in adapter.inspection.leases():
        if lease.expires_in_ms > 0:
            left = lease.expires_in_ms
            found[f"lease {lease.kind}:{lease.key}"] = lease.owner, lease.host, lease.pid, left
    return found


def differing(migrated: Sequence[Migrated]) -> list[str]:
    """The keys of all records that differ."""
    return [it.key for result in migrated for it in result.differences]
