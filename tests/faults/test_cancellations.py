"""A call is cancelled at the k-th await, for every k, in every place where writes can run.

The conformance tests do this for every backend while nobody else uses the store. Here another
connection keeps the file locked, and the features are cancelled too.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from goscope import CircuitBreakerState, Scope
from goscope.testing.conformance._operations import OPERATIONS
from goscope.testing.conformance.event_loop import CancelledAt
from goscope_sqlite import SQLiteAdapter

from ..scope.support import lease_watchers, leases_of
from .amounts import is_long
from .conftest import Count

pytestmark = pytest.mark.asyncio

MAX_AWAITS: Final = 400
WRITES: Final = ("auto", "loop", "thread")


async def body() -> int:
    for _ in range(3):
        await asyncio.sleep(0)
    return 7


async def probe(gs: Scope, key: str) -> int:
    circuits = gs.persistence.circuit_breaker
    assert circuits is not None
    await circuits.set_state(key, CircuitBreakerState(state="half-open"))
    return await gs.circuit_breaker(key).call(body)


async def locked(gs: Scope, key: str) -> int:
    async with gs.lock(key):
        return await body()


async def task(gs: Scope, key: str) -> int:
    async def run(context: Any) -> int:
        await context.checkpoint.save(1)
        context.checkpoint.update(2)
        return await body()

    return await gs.tasks.run(key, run)


FEATURES: Final[dict[str, Callable[[Scope, str], Awaitable[int]]]] = {
    "lock": locked,
    "cache": lambda gs, key: gs.cache.get_or_set(key, body, ttl="1h", tags=["tag"]),
    "circuit": probe,
    "task": task,
    "idempotency": lambda gs, key: gs.idempotency.run(key, body),
}


@pytest.mark.parametrize("writes", WRITES)
@pytest.mark.parametrize("feature", FEATURES)
async def test_a_feature_cancelled_at_any_await_leaves_nothing_behind(
    tmp_path: Path, feature: str, writes: Any, count: Count
) -> None:
    if not is_long() and writes == "loop":
        pytest.skip("only in make torture")
    adapter = SQLiteAdapter(tmp_path / "store.db", locks="shared", writes=writes)
    async with Scope(persistence=adapter) as gs:
        before = asyncio.all_tasks()
        for number in range(1, MAX_AWAITS):
            key = f"{number}"  # what an earlier call stored would spare this one its awaits
            call = CancelledAt(number, FEATURES[feature](gs, key))
            async with asyncio.timeout(60):
                assert await call.run() in (7, None)
            assert lease_watchers() == []
            provider = adapter.lock if feature == "lock" else leases_of(gs)
            lease = key if feature == "lock" else f"{feature}:{key}"
            assert await provider.holder(lease) is None, f"await {number}"
            assert asyncio.all_tasks() == before, f"await {number}"
            async with asyncio.timeout(60):
                assert await FEATURES[feature](gs, key) == 7
            if call.suspensions < number:
                count(f"cancellations of {feature}, writes={writes}", number - 1)
                return
        pytest.fail(f"{feature} suspends {MAX_AWAITS} times")


@pytest.mark.parametrize("writes", WRITES)
async def test_a_provider_method_cancelled_while_the_file_is_locked(
    tmp_path: Path, writes: Any, count: Count
) -> None:
    """Each table has its companion rows, and no transaction stays open."""
    if not is_long() and writes == "loop":
        pytest.skip("only in make torture")
    path, cancelled = tmp_path / "store.db", 0
    adapter = SQLiteAdapter(path, locks="shared", writes=writes, busy_timeout="60s")
    loop = asyncio.get_running_loop()
    async with adapter:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as other:
            for index, operation in enumerate(OPERATIONS):
                for number in range(1, MAX_AWAITS):
                    other.execute("BEGIN IMMEDIATE")
                    loop.call_later(0.001 * (number % 3), other.execute, "ROLLBACK")
                    call = CancelledAt(number, operation.call(adapter, 1000 * index + number))
                    async with asyncio.timeout(60):
                        await call.run()
                    while other.in_transaction:  # noqa: ASYNC110  # SQLite has no event for it
                        await asyncio.sleep(0.001)
                    _check(other, f"{operation.name}, cancelled at await {number}")
                    if call.suspensions < number:
                        break
                    cancelled += 1
            await adapter.cache.set("after", 1)
            assert await adapter.cache.get("after") == 1
    count(f"cancellations of providers in a locked file, writes={writes}", cancelled)


def _check(other: sqlite3.Connection, what: str) -> None:
    other.execute("BEGIN IMMEDIATE")  # waits while a transaction is open
    other.execute("ROLLBACK")
    for companion in ("cache_tags", "cache_companion"):
        alone = other.execute(
            f"SELECT count(*) FROM go_goscope_{companion} "
            f"WHERE key NOT IN (SELECT key FROM go_goscope_cache)"
        ).fetchone()
        assert alone == (0,), f"{what}: rows of {companion} without an entry"
    many = other.execute("SELECT count(*) FROM go_goscope_cache WHERE key GLOB 'cache:many*'")
    assert many.fetchone()[0] in (0, 20), what
