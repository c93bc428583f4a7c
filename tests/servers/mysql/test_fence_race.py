"""A fenced write is never applied after a takeover has returned, also when it waits for its row."""

from __future__ import annotations

import asyncio
import logging

import pytest

from goscope.errors import LeaseLost
from goscope.providers import Checkpoint, CircuitBreakerState, LockHandle
from goscope_mysql import MySQLAdapter

from .store import Store

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.asyncio


def saved(sequence: int) -> Checkpoint:
    return Checkpoint(id=f"id{sequence}", task_id="task", sequence=sequence, timestamp=1, data=1)


ENTRY = ("cache", "`key` = 'cache:key'")
CIRCUIT = ("circuits", "`key` = 'circuit:key'")
ROWS = {
    "set": ENTRY,
    "set with tags": ENTRY,
    "add": ENTRY,
    "delete": ENTRY,
    "record_failure": CIRCUIT,
    "record_success": CIRCUIT,
    "set_state": CIRCUIT,
    "save": ("tasks", "task_id = 'task'"),
    "remember": ("results", "`key` = 'key'"),
}
"""Each fenced write, with the table and the row that it has to wait for."""


async def run(name: str, adapter: MySQLAdapter, fence: LockHandle) -> None:
    match name:
        case "set":
            await adapter.cache.set("key", "A", fence=fence)
        case "set with tags":
            await adapter.cache.set("key", "A", tags=["tag"], fence=fence)
        case "add":
            await adapter.cache.add("key", "A", fence=fence)
        case "delete":
            await adapter.cache.delete("key", fence=fence)
        case "record_failure":
            await adapter.circuit_breaker.record_failure("key", 5, fence=fence)
        case "record_success":
            await adapter.circuit_breaker.record_success("key", fence=fence)
        case "set_state":
            await adapter.circuit_breaker.set_state("key", CircuitBreakerState(), fence=fence)
        case "save":
            await adapter.checkpoint.save(saved(2), fence=fence)
        case _:
            await adapter.idempotency.set("key", "A", fence=fence)


@pytest.mark.parametrize("name", ROWS)
async def test_a_takeover_waits_for_a_write_that_has_passed_its_fence(
    store: Store, name: str
) -> None:
    """A's write has found its expired lease and waits for its row, when B takes the lease."""
    log: list[str] = []
    async with store.adapter() as one, store.adapter() as two:
        await one.cache.set("key", "old")
        await one.circuit_breaker.record_failure("key", 5)
        await one.checkpoint.save(saved(1))
        await one.idempotency.set("key", "old")
        old = await one.lock.acquire("lock", "1ms")
        assert old is not None
        await two.lock.wait_released("lock")

        async def write() -> None:
            await run(name, one, old)
            log.append("A's write is applied")

        async def take_over() -> LockHandle:
            new = await two.lock.acquire("lock", "30s")
            assert new is not None
            log.append(f"B's takeover has returned, token {new.fencing_token}")
            return new

        async with store.locked_row(*ROWS[name]):
            writing = asyncio.create_task(write())
            await store.until_blocked(1)
            log.append(f"A's {name} waits for its row, token {old.fencing_token}")
            taking = asyncio.create_task(take_over())
            while not taking.done() and len(await store.running()) < 2:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.005)
            log.append("the row is released")
        new = await taking
        await asyncio.gather(writing, return_exceptions=True)
        with pytest.raises(LeaseLost):
            await run(name, one, old)
        log.append("A's next write is refused")
        assert new.fencing_token is not None
        assert old.fencing_token is not None
        assert new.fencing_token > old.fencing_token
    logger.info("\n".join(log))
    assert log.index("A's write is applied") < next(
        number for number, line in enumerate(log) if line.startswith("B's takeover has returned")
    ), log
