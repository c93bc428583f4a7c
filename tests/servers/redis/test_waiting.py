"""Waiting for a lock that another process holds: notified, in order, and past dead waiters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from goscope import LockHandle
from goscope_redis import RedisAdapter
from goscope_redis.providers import lock as lock_module

from .servers import RedisServer

pytestmark = pytest.mark.asyncio

SLOW_S = 30.0


@pytest.fixture
def no_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a notification ends a wait within a test."""
    monkeypatch.setattr(lock_module, "HEARTBEAT_MS", 600_000)
    monkeypatch.setattr(lock_module, "HEARTBEAT_TIMEOUT_MS", 600_000)


@pytest_asyncio.fixture
async def adapters(server: RedisServer) -> AsyncIterator[list[RedisAdapter]]:
    """Four adapters, as of four processes."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(server.adapter()) for _ in range(4)]


async def granted(adapter: RedisAdapter, ttl: str = "1h") -> LockHandle:
    handle = await adapter.lock.acquire("door", ttl)
    assert handle is not None
    return handle


async def queued(server: RedisServer, count: int) -> None:
    """Return when so many adapters are in the queue."""
    async with asyncio.timeout(SLOW_S):
        while await server.command("ZCARD", "goscope:queue:lock:door") != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def start_waiting(
    server: RedisServer, adapters: list[RedisAdapter]
) -> list[asyncio.Task[bool]]:
    """Let the adapters wait for the lock, in this order."""
    waiting: list[asyncio.Task[bool]] = []
    for adapter in adapters:
        waiting.append(asyncio.create_task(adapter.lock.wait_released("door")))
        await queued(server, len(waiting))
    return waiting


async def done(waiting: asyncio.Task[bool]) -> None:
    async with asyncio.timeout(SLOW_S):
        assert await waiting


@pytest.mark.usefixtures("no_heartbeats")
async def test_a_release_notifies_the_waiters_of_other_processes_in_order(
    server: RedisServer, adapters: list[RedisAdapter]
) -> None:
    handle = await granted(adapters[0])
    waiting = await start_waiting(server, adapters[1:])
    for adapter, task in zip(adapters[1:], waiting, strict=True):
        await handle.release()
        await done(task)
        assert [it.done() for it in waiting].count(True) == waiting.index(task) + 1
        handle = await granted(adapter)
    await handle.release()
    assert await server.command("KEYS", "goscope:queue:*") == [], "the queue was left behind"
    assert await server.command("KEYS", "goscope:alive:*") == [], "the queue was left behind"


@pytest.mark.usefixtures("no_heartbeats")
async def test_nobody_overtakes_the_queue(
    server: RedisServer, adapters: list[RedisAdapter]
) -> None:
    handle = await granted(adapters[0])
    [waiting] = await start_waiting(server, adapters[1:2])
    await handle.release()
    assert await adapters[2].lock.acquire("door") is None, "it overtook the first waiter"
    await done(waiting)
    await granted(adapters[1])


@pytest.mark.usefixtures("no_heartbeats")
async def test_a_waiter_without_a_connection_is_skipped(
    server: RedisServer, adapters: list[RedisAdapter]
) -> None:
    """As the waiters of a process that was killed."""
    handle = await granted(adapters[0])
    waiting = await start_waiting(server, adapters[1:3])
    await adapters[1]._wakeups.stop()
    await handle.release()
    await done(waiting[1])
    await granted(adapters[2])
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])


@pytest.mark.usefixtures("no_heartbeats")
async def test_a_cancelled_waiter_leaves_the_queue(
    server: RedisServer, adapters: list[RedisAdapter]
) -> None:
    handle = await granted(adapters[0])
    waiting = await start_waiting(server, adapters[1:3])
    waiting[0].cancel()
    await queued(server, 1)
    await handle.release()
    await done(waiting[1])


@pytest.mark.usefixtures("no_heartbeats")
async def test_a_waiter_that_is_cancelled_when_it_is_notified_passes_it_on(
    server: RedisServer, adapters: list[RedisAdapter]
) -> None:
    handle = await granted(adapters[0])
    waiting = await start_waiting(server, adapters[1:3])

    def cancel(key: str) -> None:
        waiting[0].cancel()

    adapters[1].lock.notifier.notify = cancel  # type: ignore[method-assign]  # at that moment
    await handle.release()
    await done(waiting[1])
    await granted(adapters[2])


@pytest.mark.usefixtures("no_heartbeats")
async def test_the_first_waiter_sees_the_expiry_at_its_time(
    server: RedisServer, adapters: list[RedisAdapter]
) -> None:
    await granted(adapters[0], "300ms")
    waiting = await start_waiting(server, adapters[1:3])
    await done(waiting[0])
    assert not waiting[1].done(), "the second waiter was served with the first"
    await (await granted(adapters[1])).release()
    await done(waiting[1])


async def test_waiters_go_on_when_the_server_closes_their_channels(
    server: RedisServer, adapters: list[RedisAdapter]
) -> None:
    """They poll, and listen again a little later."""
    handle = await granted(adapters[0])
    [waiting] = await start_waiting(server, adapters[1:2])
    await server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await handle.release()
    await done(waiting)
    handle = await granted(adapters[1])
    async with asyncio.timeout(SLOW_S):
        while not adapters[1]._wakeups.listening:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.01)


async def test_a_wait_without_a_lock_leaves_nothing(
    server: RedisServer, adapters: list[RedisAdapter]
) -> None:
    assert await adapters[0].lock.wait_released("door")
    assert await server.command("KEYS", "*") == [b"goscope:store"]
