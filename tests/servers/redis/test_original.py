"""Sharing keys with go-go-scope, whose commands `Original` sends as its Redis adapter does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from goscope import MISSING, Checkpoint, CircuitBreakerState, CorruptValue, LeaseLost
from goscope_redis import RedisAdapter

from .servers import RedisServer

pytestmark = pytest.mark.asyncio

HOUR_MS = 3_600_000


class Original:
    """go-go-scope 2.9.1 with the key prefix ``shop:``."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def acquire(self, key: str, owner: str, ttl_ms: int) -> bool:
        taken = await self.client.set(f"shop:lock:{key}", owner, px=ttl_ms, nx=True)
        return taken is not None

    async def release(self, key: str, owner: str) -> bool:
        if await self.client.get(f"shop:lock:{key}") != owner.encode():
            return False
        await self.client.delete(f"shop:lock:{key}")
        return True

    async def set(self, kind: str, key: str, value: object, ttl_s: int | None = None) -> None:
        await self.client.set(f"shop:{kind}:{key}", json.dumps(value), ex=ttl_s)

    async def get(self, kind: str, key: str) -> Any:
        text = await self.client.get(f"shop:{kind}:{key}")
        return MISSING if text is None else json.loads(text)

    async def save(self, checkpoint: dict[str, Any]) -> None:
        task = f"shop:checkpoint:{checkpoint['taskId']}"
        name = f"{task}:{checkpoint['sequence']}"
        await self.client.set(name, json.dumps(checkpoint))
        await self.client.zadd(task, {name: checkpoint["sequence"]})

    async def list(self, task_id: str) -> list[Any]:
        names = await self.client.zrange(f"shop:checkpoint:{task_id}", 0, -1)
        return [json.loads(await self.client.get(name)) for name in names]


@pytest_asyncio.fixture
async def original(server: RedisServer) -> AsyncIterator[Original]:
    async with server.client() as client:
        yield Original(client)


@pytest_asyncio.fixture
async def adapter(server: RedisServer) -> AsyncIterator[RedisAdapter]:
    async with server.adapter(key_prefix="shop:") as adapter:
        yield adapter


# --- locks ------------------------------------------------------------------------------------


async def test_locks_exclude_one_another(original: Original, adapter: RedisAdapter) -> None:
    assert await original.acquire("door", "theirs", HOUR_MS)
    assert await adapter.lock.acquire("door") is None
    holder = await adapter.lock.holder("door")
    assert holder is not None
    assert (holder.owner, holder.fencing_token) == ("theirs", None)
    assert not await adapter.lock.extend("door", "1h", "theirs")
    assert await original.release("door", "theirs")
    handle = await adapter.lock.acquire("door", "1h", owner="ours")
    assert handle is not None
    assert not await original.acquire("door", "theirs", HOUR_MS)
    assert await handle.release()
    assert await original.acquire("door", "theirs", HOUR_MS)


async def test_a_wait_ends_when_the_original_releases(
    original: Original, adapter: RedisAdapter
) -> None:
    await original.acquire("door", "theirs", HOUR_MS)
    waiting = asyncio.create_task(adapter.lock.wait_released("door"))
    await asyncio.wait({waiting}, timeout=0.05)
    assert not waiting.done()
    await original.release("door", "theirs")
    async with asyncio.timeout(30):
        assert await waiting


async def test_a_takeover_by_the_original_refuses_our_write(
    original: Original, adapter: RedisAdapter
) -> None:
    handle = await adapter.lock.acquire("door", "50ms")
    assert handle is not None
    async with asyncio.timeout(30):
        while not await original.acquire("door", "theirs", HOUR_MS):  # noqa: ASYNC110  # expires
            await asyncio.sleep(0.01)
    with pytest.raises(LeaseLost):
        await adapter.cache.set("key", 1, fence=handle)
    assert await handle.release() is False
    assert await original.release("door", "theirs"), "we released their lock"


async def test_a_forced_release_by_the_original_is_seen(
    original: Original, adapter: RedisAdapter
) -> None:
    handle = await adapter.lock.acquire("door", "1h")
    assert handle is not None
    await original.client.delete("shop:lock:door")
    assert not await handle.is_valid()
    assert not await handle.extend("1h")


# --- cache ------------------------------------------------------------------------------------


async def test_cache_entries_are_shared(original: Original, adapter: RedisAdapter) -> None:
    await original.set("cache", "theirs", {"a": [1, None]}, 60)
    assert await adapter.cache.get("theirs") == {"a": [1, None]}
    assert await adapter.cache.keys() == ["theirs"]
    entry = await adapter.cache.get_entry("theirs")
    assert entry is not None
    assert entry.expires_at is not None
    await adapter.cache.set("ours", "é", "15s", tags=["tag"], stale_for="1h")
    assert await original.get("cache", "ours") == "é"
    assert 0 < await original.client.pttl("shop:cache:ours") <= 15_000
    await adapter.cache.clear()
    assert await original.get("cache", "theirs") is MISSING


async def test_a_value_that_the_original_replaced_has_no_tags(
    original: Original, adapter: RedisAdapter
) -> None:
    await adapter.cache.set("key", "ours", "1h", tags=["tag"], stale_for="1h")
    await original.set("cache", "key", "theirs", 60)
    entry = await adapter.cache.get_entry("key")
    assert entry is not None
    assert (entry.value, entry.stale_until) == ("theirs", None)
    assert await adapter.cache.delete_by_tag("tag") == 0
    assert await adapter.cache.get("key") == "theirs"


async def test_a_value_that_the_original_deleted_is_not_served_stale(
    original: Original, adapter: RedisAdapter
) -> None:
    await adapter.cache.set("key", "ours", "1h", stale_for="1h")
    await original.client.delete("shop:cache:key")
    assert await adapter.cache.get_entry("key") is None


# --- circuits, results, checkpoints -----------------------------------------------------------


async def test_circuits_are_shared(original: Original, adapter: RedisAdapter) -> None:
    theirs = {"state": "open", "failureCount": 5, "lastFailureTime": 1_700_000_000_123}
    await original.set("circuit", "key", theirs, 3600)
    assert await adapter.circuit_breaker.get_state("key") == CircuitBreakerState(
        state="open", failure_count=5, last_failure_time=1_700_000_000_123
    )
    assert await adapter.circuit_breaker.record_failure("key", 5) == 6
    ours = await original.get("circuit", "key")
    assert (ours["state"], ours["failureCount"]) == ("open", 6)
    assert ours["lastFailureTime"] > 1_700_000_000_123
    assert await original.client.ttl("shop:circuit:key") == -1, "it would be forgotten"


async def test_results_are_shared(original: Original, adapter: RedisAdapter) -> None:
    await original.set("idempotency", "theirs", {"id": 1}, 60)
    record = await adapter.idempotency.get("theirs")
    assert record is not None
    assert (record.value, record.fingerprint) == ({"id": 1}, None)
    await adapter.idempotency.set("ours", [1], "1h", fingerprint="print")
    assert await original.get("idempotency", "ours") == [1]
    await original.set("idempotency", "ours", [2], 60)
    record = await adapter.idempotency.get("ours")
    assert record is not None
    assert (record.value, record.fingerprint) == ([2], None), "the fingerprint is of another value"


async def test_checkpoints_are_shared(original: Original, adapter: RedisAdapter) -> None:
    theirs = {
        "id": "one",
        "taskId": "task",
        "sequence": 9,
        "timestamp": 1_700_000_000_000,
        "progress": 12.5,
        "data": {"line": 7},
    }
    await original.save(theirs)
    assert await adapter.checkpoint.load_latest("task") == Checkpoint(
        id="one",
        task_id="task",
        sequence=9,
        timestamp=1_700_000_000_000,
        progress=12.5,
        data={"line": 7},
    )
    ours = Checkpoint(id="two", task_id="task", sequence=10, timestamp=1, data=[1], progress=20.0)
    await adapter.checkpoint.save(ours)
    assert await original.list("task") == [
        theirs,
        {
            "id": "two",
            "taskId": "task",
            "sequence": 10,
            "timestamp": 1,
            "progress": 20.0,
            "data": [1],
        },
    ]
    assert await adapter.checkpoint.load("two") == ours
    await adapter.checkpoint.delete_all("task")
    assert await original.list("task") == []


async def test_a_task_named_as_a_checkpoint_is_separate(adapter: RedisAdapter) -> None:
    """With go-go-scope it fails: the set of task ``t:1`` has the name of a checkpoint of ``t``."""
    tasks = ("t", "t:1", "t:1:", "t:1::", "t:", "t::1", "1", ":1")
    for sequence in (1, 2):
        for task in tasks:
            saved = Checkpoint(
                id=f"{task}#{sequence}",
                task_id=task,
                sequence=sequence,
                timestamp=1,
                data=[task, sequence],
            )
            await adapter.checkpoint.save(saved)
    for task in tasks:
        listed = await adapter.checkpoint.list(task)
        assert [it.data for it in listed] == [[task, 1], [task, 2]]


async def test_a_corrupt_circuit_is_reported_and_kept(
    original: Original, adapter: RedisAdapter
) -> None:
    for text in ("not JSON", "7", '{"state": "ajar", "failureCount": "x"}'):
        await original.client.set("shop:circuit:key", text)
        with pytest.raises(CorruptValue):
            await adapter.circuit_breaker.record_failure("key", 1)
        assert await original.client.get("shop:circuit:key") == text.encode()
