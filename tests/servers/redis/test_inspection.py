"""Listing a store: what the conformance tests cannot write, or cannot see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from goscope import Checkpoint
from goscope.backend import this_process
from goscope.inspection import Total
from goscope_redis import RedisAdapter

from .servers import RedisServer

pytestmark = pytest.mark.asyncio

HOUR_MS = 3_600_000


@pytest_asyncio.fixture
async def client(server: RedisServer) -> AsyncIterator[Any]:
    async with server.client() as client:
        yield client


@pytest_asyncio.fixture
async def adapter(server: RedisServer) -> AsyncIterator[RedisAdapter]:
    async with server.adapter(key_prefix="shop:") as adapter:
        yield adapter


async def test_a_waiter_is_listed_until_it_leaves(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    held = await adapter.lock.acquire("door", "1h")
    assert held is not None
    async with server.adapter(key_prefix="shop:") as other:
        waiting = asyncio.create_task(other.lock.wait_released("door"))
        while not (  # noqa: ASYNC110  # the server tells nobody
            found := [it async for it in adapter.inspection.waiters("d*")]
        ):
            await asyncio.sleep(0.005)
        assert [(it.kind, it.key, it.pid) for it in found] == [("lock", "door", this_process().pid)]
        assert found[0].waited_ms is not None
        assert 0 <= found[0].waited_ms < HOUR_MS
        assert (await adapter.inspection.totals()).waiters == Total(count=1)
        await held.release()
        assert await waiting
        taken = await other.lock.acquire("door", "1h")
        assert taken is not None
        assert [it async for it in adapter.inspection.waiters()] == []


async def test_each_adapter_that_has_the_store_open_is_a_process(server: RedisServer) -> None:
    me = this_process()
    async with (
        server.adapter() as one,
        server.adapter(key_prefix="shop:"),
        server.adapter(db=1),
        server.adapter(hash_tag="x"),
    ):
        found = [it async for it in one.inspection.processes()]
    assert [(it.host, it.pid, it.is_alive) for it in found] == [(me.host, me.pid, True)] * 2
    async with server.adapter() as one:
        assert len([it async for it in one.inspection.processes()]) == 1


async def test_a_process_that_connects_again_has_been_there_all_the_time(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    before = [it async for it in adapter.inspection.processes()]
    await server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await adapter.cache.has("key")
    assert [it async for it in adapter.inspection.processes()] == before


async def test_a_user_who_may_not_list_clients_sees_itself(server: RedisServer) -> None:
    await server.command("ACL", "SETUSER", "app", "on", ">x", "~*", "&*", "+@all", "-client")
    async with server.adapter(username="app", password="x") as adapter:
        [mine] = [it async for it in adapter.inspection.processes()]
        assert mine.pid == this_process().pid


async def test_what_go_go_scope_wrote_is_listed(client: Any, adapter: RedisAdapter) -> None:
    await client.set("shop:lock:door", "theirs", px=HOUR_MS)
    await client.set("shop:cache:user", '"Ada"')
    await client.set("shop:idempotency:paid", "[1]", px=HOUR_MS)
    await client.set("shop:circuit:api", '{"state":"open","failureCount":3}', ex=60)
    for sequence in (1, 2):
        name = f"shop:checkpoint:etl:{sequence}"
        fields = {"id": f"c{sequence}", "taskId": "etl", "sequence": sequence, "timestamp": 5}
        data = {"data": {"a": 1, "b": "é"}, "progress": 12.5, "estimatedTimeRemaining": 70}
        await client.set(name, json.dumps(fields | data, separators=(",", ":")))
        await client.zadd("shop:checkpoint:etl", {name: sequence})
    [lease] = [it async for it in adapter.inspection.leases()]
    assert (lease.kind, lease.key, lease.owner, lease.host) == ("lock", "door", "theirs", "")
    assert lease.fencing_token is None
    assert 0 < lease.expires_in_ms <= HOUR_MS
    [entry] = [it async for it in adapter.inspection.entries()]
    assert (entry.key, entry.size_bytes, entry.expires_in_ms) == ("user", 5, None)
    [result] = [it async for it in adapter.inspection.results()]
    assert (result.key, result.size_bytes, result.fingerprint) == ("paid", 3, None)
    [circuit] = [it async for it in adapter.inspection.circuits()]
    assert circuit.state is not None
    assert (circuit.state.state, circuit.state.failure_count) == ("open", 3)
    [task] = [it async for it in adapter.inspection.tasks()]
    assert (task.id, task.checkpoints, task.sequence, task.progress) == ("etl", 2, 2, 12.5)
    assert (task.estimated_time_remaining, task.saved_at) == (70, 5)
    assert task.size_bytes == 2 * len('{"a":1,"b":"\\u00e9"}')


async def test_what_cannot_be_read_is_listed_without_it(client: Any, adapter: RedisAdapter) -> None:
    assert await adapter.lock.acquire("door", "1h")
    await client.set("goscope:grant:shop:lock:door", "\n\n\n\n\ngarbage")
    await client.set("shop:lock:door", "garbage", keepttl=True)
    await client.set("shop:circuit:api", "{")
    await client.hset("shop:cache:hash", "a", "b")
    await client.hset("shop:lock:hash", "a", "b")
    await client.hset("shop:idempotency:hash", "a", "b")
    await client.set("shop:checkpoint:etl:1", "{")
    await client.zadd("shop:checkpoint:etl", {"shop:checkpoint:etl:1": 1})
    await client.zadd("shop:checkpoint:gone", {"shop:checkpoint:gone:1": 1})
    [lease] = [it async for it in adapter.inspection.leases()]
    assert (lease.key, lease.owner) == ("door", "")
    [circuit] = [it async for it in adapter.inspection.circuits()]
    assert (circuit.key, circuit.state) == ("api", None)
    assert [it async for it in adapter.inspection.entries()] == []
    assert [it async for it in adapter.inspection.results()] == []
    [task] = [it async for it in adapter.inspection.tasks()]
    assert (task.id, task.checkpoints, task.saved_at) == ("etl", 1, 0)


async def test_an_entry_that_may_be_served_stale_is_listed_once(
    client: Any, adapter: RedisAdapter
) -> None:
    await adapter.cache.set("key", "old", "1h", tags=["a"], stale_for="1h")
    [live] = [it async for it in adapter.inspection.entries()]
    assert live.expires_in_ms is not None
    assert live.expires_in_ms > 0
    await client.delete("shop:cache:key")
    assert [it async for it in adapter.inspection.entries()] == [], "go-go-scope has deleted it"
    await adapter.cache.set("key", "old", "1ms", tags=["a"], stale_for="1h")
    while await client.exists("shop:cache:key"):  # noqa: ASYNC110  # another process
        await asyncio.sleep(0.001)
    [stale] = [it async for it in adapter.inspection.entries()]
    assert (stale.key, stale.size_bytes, stale.tags) == ("key", 5, ("a",))
    assert stale.expires_in_ms == 0
    assert stale.stale_expires_in_ms is not None
    assert 0 < stale.stale_expires_in_ms <= HOUR_MS


@pytest.mark.parametrize("task_id", ["etl:1", "etl:1:", "t:0:0"])
async def test_a_task_that_is_named_as_a_checkpoint_has_its_own_id(
    client: Any, adapter: RedisAdapter, task_id: str
) -> None:
    saved = Checkpoint(id="c", task_id=task_id, sequence=7, timestamp=5, data=1)
    await adapter.checkpoint.save(saved)
    # A task of go-go-scope with such an id cannot be loaded.
    await client.zadd("shop:checkpoint:etl:2", {"shop:checkpoint:etl:2:1": 1})
    await client.set("shop:checkpoint:etl:2:1", "{}")
    assert [it.id async for it in adapter.inspection.tasks()] == [task_id]
    assert [it.id async for it in adapter.inspection.tasks(task_id)] == [task_id]


@pytest.mark.parametrize(
    "data", [5, -1.5, None, True, "x", '","data":5}', [], {"data": {"sequence": 1}}, "é" * 3000]
)
async def test_the_size_of_a_checkpoint_is_that_of_its_data(
    adapter: RedisAdapter, data: Any
) -> None:
    for sequence, remaining in ((1, None), (2, 70)):
        saved = Checkpoint(
            id=f"c{sequence}",
            task_id='a "data":1',
            sequence=sequence,
            timestamp=5,
            data=data,
            progress=3.5,
            estimated_time_remaining=remaining,
        )
        await adapter.checkpoint.save(saved)
    [task] = [it async for it in adapter.inspection.tasks()]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    assert task.size_bytes == 2 * len(text)
    assert (task.sequence, task.progress, task.estimated_time_remaining) == (2, 3.5, 70)


async def test_totals_count_a_key_once_that_a_scan_returns_twice(
    adapter: RedisAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does while the server resizes its table of keys."""
    scan_page = adapter._server.scan_page

    async def twice(pattern: str, cursor: str, **options: Any) -> Any:
        names, following = await scan_page(pattern, cursor.removeprefix("again"), **options)
        assert following is None
        return names, None if cursor else "again"

    await adapter.cache.set_many({"a": 1, "b": 22})
    monkeypatch.setattr(adapter._server, "scan_page", twice)
    assert len([it async for it in adapter.inspection.entries()]) == 4
    assert (await adapter.inspection.totals()).entries == Total(count=2, size_bytes=3)


async def test_a_listing_ends_with_many_keys_of_others(client: Any, adapter: RedisAdapter) -> None:
    await client.mset({f"other:{number}": "x" for number in range(5_000)})
    await adapter.cache.set("key", 1)
    assert [it.key async for it in adapter.inspection.entries()] == ["key"]
    assert [it.key async for it in adapter.inspection.leases()] == []
