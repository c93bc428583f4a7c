"""Moving a store to Redis and back: nothing is lost on the way."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope import LockHolder
from goscope.migration import exists, migrate
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter
from tests.moved_records import HOUR_MS, contents, fill

from .servers import RedisServer
from .stores import advance, open_store, remove_store

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def stack(redis_url: str, tmp_path: Path) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(remove_store, tmp_path)
        yield stack


async def open_file(stack: AsyncExitStack, path: Path, clock: FakeClock) -> SQLiteAdapter:
    adapter = SQLiteAdapter(path, locks="shared", clock=clock)
    return await stack.enter_async_context(adapter)


async def test_everything_moves_to_redis_and_back(stack: AsyncExitStack, tmp_path: Path) -> None:
    clock = FakeClock()
    source = await open_file(stack, tmp_path / "a", clock)
    redis = await stack.enter_async_context(open_store(tmp_path, clock=clock, key_prefix="shop:"))
    target = await open_file(stack, tmp_path / "b", clock)
    await fill(source)
    await advance(redis, clock, "5s")
    before = await contents(source)
    counts: dict[Any, Any] = {
        "entries": (5, 5),
        "collections": (3, 3),
        "results": (2, 2),
        "circuits": (2, 2),
        "tasks": (1, 1),
        "leases": (4, 4),
    }
    for here, there in ((source, redis), (redis, target)):
        migrated = await migrate(here, there)
        assert [it.differences for it in migrated] == [[]] * 6
        assert {it.kind: (it.moved, it.verified) for it in migrated} == counts
    after = await contents(target)
    assert len(after) == 17
    assert after == before
    assert await redis.cache.delete_by_tag("a") == 2
    assert [it.moved for it in await migrate(source, redis)] == [2, 0, 0, 0, 0, 0]


async def test_the_tokens_of_redis_are_far_above_those_of_a_file(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    clock = FakeClock()
    redis = await stack.enter_async_context(open_store(tmp_path, clock=clock))
    granted = await redis.lock.acquire("door", "1h", "job-7")
    assert granted is not None
    target = await open_file(stack, tmp_path / "b", clock)
    await migrate(redis, target)
    moved = await target.lock.holder("door")
    assert moved is not None
    assert moved.owner == "job-7"
    assert moved.fencing_token is not None
    assert moved.fencing_token > (granted.fencing_token or 0)


async def test_an_adopted_lock_is_refused_while_held_and_still_raises_tokens(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    clock = FakeClock()
    adapter = await stack.enter_async_context(open_store(tmp_path, clock=clock))
    held = await adapter.lease.acquire("key", 60_000, "here")
    assert held is not None
    holder = LockHolder(
        owner="there", host="far", pid=7, since=1, expires_in_ms=5_000, fencing_token=5 * 10**15
    )
    assert await adapter.lease.adopt("key", holder) is None
    assert await held.is_valid()
    await held.release()
    later = await adapter.lease.acquire("key", 1_000, "here")
    assert later is not None
    assert (later.fencing_token or 0) > 5 * 10**15
    await advance(adapter, clock, "2s")
    adopted = await adapter.lease.adopt("key", holder)
    assert adopted is not None
    assert (adopted.fencing_token or 0) > (later.fencing_token or 0)
    assert await adapter.lease.holder("key") == LockHolder(
        owner="there",
        host="far",
        pid=7,
        since=1,
        expires_in_ms=5_000,
        fencing_token=adopted.fencing_token,
    )
    assert not await later.is_valid()


async def test_an_adopted_computation_of_a_tagged_value_is_known_by_its_tag(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    source = await stack.enter_async_context(open_store(tmp_path / "a"))
    stack.push_async_callback(remove_store, tmp_path / "a")
    target = await stack.enter_async_context(open_store(tmp_path))
    assert await source.lease.acquire("cache:user:2", HOUR_MS, "worker#tag")
    await migrate(source, target)
    loads = await target._server.call("SMEMBERS", f"{target._keys.own}loads")
    assert loads == [b"lease:cache:user:2"]


async def test_a_database_without_a_store_is_left_empty(server: RedisServer) -> None:
    url = f"redis://127.0.0.1:{server.port}/0?key_prefix=shop:"
    assert await exists(url) is False
    async with server.client() as client:
        assert await client.dbsize() == 0
        await client.set("shop:settings", 1)
        await client.set("other:cache:key", 1)
        assert await exists(url) is False, "these are keys of another program"
        await client.set("shop:cache:key", 1)
        assert await exists(url) is True, "go-go-scope wrote this one"
        await client.delete("shop:cache:key")
    async with server.adapter(key_prefix="shop:"):
        pass
    assert await exists(url) is True
    assert await exists(f"redis://127.0.0.1:{server.port}/1") is False
    assert await exists("redis://127.0.0.1:1/0?connect_timeout=1s") is True, "connecting says why"


async def test_the_command_moves_a_file_to_redis_and_back(
    server: RedisServer, tmp_path: Path
) -> None:
    async with SQLiteAdapter(tmp_path / "a.db", locks="shared", key_prefix="shop:") as source:
        await fill(source)
    urls = [f"sqlite:///{tmp_path}/a.db", f"redis://127.0.0.1:{server.port}/0"]
    urls.append(f"sqlite:///{tmp_path}/b.db")
    for here, there in pairwise(urls):
        prefixed = (f"{here}?key_prefix=shop:", f"{there}?key_prefix=shop:")
        command = (sys.executable, "-m", "goscope", "migrate", *prefixed)
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        assert re.search(rb"Verified: both stores hold the same \d\d live records", output)
