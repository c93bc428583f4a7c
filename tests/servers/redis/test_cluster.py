"""A cluster of three nodes: all keys of a store in one hash slot, also while the slot moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

import goscope
from goscope.errors import BackendUnavailable, ConfigurationError
from goscope.providers import Checkpoint
from goscope_redis import RedisAdapter
from goscope_redis._server.slot import SLOTS, hash_slot

from .servers import RedisServer, free_port, running_server

pytestmark = pytest.mark.asyncio

SLOW_S = 30.0
SLOT = hash_slot("shop")


@pytest_asyncio.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[RedisServer]]:
    """Three primaries, each with a third of the slots."""
    async with AsyncExitStack() as stack:
        found: list[RedisServer] = []
        for number in range(3):
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            folder = tmp_path / f"node{number}"
            found.append(await stack.enter_async_context(running_server(folder, *options)))
        await form_cluster(found)
        yield found


async def form_cluster(nodes: list[RedisServer]) -> None:
    share = SLOTS // len(nodes) + 1
    for number, node in enumerate(nodes):
        last = min((number + 1) * share, SLOTS) - 1
        await node.command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
        bus = int((await node.command("CONFIG", "GET", "cluster-port"))[1])
        await nodes[0].command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
    async with asyncio.timeout(SLOW_S):
        for node in nodes:
            while not await is_complete(node, len(nodes)):  # noqa: ASYNC110  # other processes
                await asyncio.sleep(0.02)


async def is_complete(node: RedisServer, count: int) -> bool:
    info: bytes = await node.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and f"cluster_known_nodes:{count}".encode() in info


def owner_of(nodes: list[RedisServer]) -> RedisServer:
    """The node that has the slot of the store at first."""
    return nodes[SLOT // (SLOTS // len(nodes) + 1)]


async def test_every_ability_works_through_any_node(nodes: list[RedisServer]) -> None:
    for number, node in enumerate(nodes):
        adapter = node.adapter(hash_tag="shop", key_prefix=f"app{number}:")
        async with goscope.Scope(persistence=adapter) as gs:
            async with gs.lock("key") as handle:
                await gs.cache.set("key", 1, ttl="1h", tags=["tag"], stale_for="1h", fence=handle)
            assert await gs.cache.keys("k*") == ["key"]
            assert await gs.cache.delete_by_tag("tag") == 1
            assert await adapter.circuit_breaker.record_failure("key", 5) == 1
            assert await gs.idempotency.run("key", seven, ttl="1h") == 7
            saved = Checkpoint(id="one", task_id="task:1", sequence=1, timestamp=0, data=[1])
            await adapter.checkpoint.save(saved)
            assert await adapter.checkpoint.load("one") == saved
            held = await adapter.lock.acquire("held", "1h")
            assert held is not None
            waiting = asyncio.create_task(adapter.lock.wait_released("held"))
            await asyncio.sleep(0.05)
            await held.release()
            assert await waiting
            assert [it.id async for it in gs.inspect.tasks()] == ["task:1"]
            assert (await gs.inspect.totals()).results.count == 1
            assert await adapter.has_store()
    sizes = [await node.command("DBSIZE") for node in nodes]
    assert sorted(sizes)[:2] == [0, 0], "the keys of the store are on several nodes"


async def seven() -> int:
    return 7


async def test_a_cluster_needs_a_hash_tag_and_has_one_database(nodes: list[RedisServer]) -> None:
    with pytest.raises(ConfigurationError, match="choose a hash_tag"):
        await nodes[0].adapter().connect()
    with pytest.raises(ConfigurationError):
        await nodes[0].adapter(hash_tag="shop", db=1).connect()


async def test_no_write_is_lost_while_the_slot_moves(nodes: list[RedisServer]) -> None:
    source = owner_of(nodes)
    target = next(it for it in nodes if it is not source)
    async with source.adapter(hash_tag="shop") as adapter:
        counted = 0
        moved = asyncio.Event()

        async def count() -> None:
            nonlocal counted
            while not moved.is_set():
                await adapter.cache.increment("count")
                counted += 1

        counting = [asyncio.create_task(count()) for _ in range(4)]
        lease = await adapter.lease.acquire("key", "1h")
        await move_slot(source, target)
        done = counted
        async with asyncio.timeout(SLOW_S):
            while counted < done + 20:  # noqa: ASYNC110  # the tasks above count
                await asyncio.sleep(0.001)
        moved.set()
        await asyncio.gather(*counting)
        assert await adapter.cache.get("count") == counted
        assert await source.command("DBSIZE") == 0
        await adapter.cache.set("key", 1, fence=lease)
        assert adapter._server.connector.node.port == target.port


async def move_slot(source: RedisServer, target: RedisServer) -> None:
    """Move the slot of the store as redis-cli does, a key at a time."""
    source_id, target_id = [
        (await node.command("CLUSTER", "MYID")).decode() for node in (source, target)
    ]
    await target.command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", source_id)
    await source.command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", target_id)
    while keys := await source.command("CLUSTER", "GETKEYSINSLOT", SLOT, 1):
        await asyncio.sleep(0.02)  # calls meet a slot whose keys are on both nodes
        await source.command("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000)
    await asyncio.sleep(0.1)
    for node in (target, source):
        await node.command("CLUSTER", "SETSLOT", SLOT, "NODE", target_id)


async def test_a_lost_node_is_reported(nodes: list[RedisServer]) -> None:
    owner = owner_of(nodes)
    async with RedisAdapter(port=owner.port, hash_tag="shop") as adapter:
        await adapter.cache.set("key", 1)
        await owner.kill()
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                await adapter.cache.set("key", 2)
        await owner.start()
        async with asyncio.timeout(SLOW_S):
            while not await works(adapter):  # noqa: ASYNC110  # other processes
                await asyncio.sleep(0.05)


async def works(adapter: RedisAdapter) -> bool:
    try:
        await adapter.cache.set("key", 3)
    except BackendUnavailable:
        return False
    return True
