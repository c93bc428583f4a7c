"""Processes that wait for a lock are served in order. Each adapter stands for one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope import SupportsWait
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def other(path: Path, clock: FakeClock) -> AsyncIterator[SQLiteAdapter]:
    # Reads in the loop: then each poll takes place at its exact time on the clock.
    async with SQLiteAdapter(
        path, locks="shared", reads="loop", busy_timeout="60s", clock=clock
    ) as other:
        yield other


async def pass_until(
    clock: FakeClock, condition: Callable[[], object], *writers: SQLiteAdapter
) -> None:
    """Advance the clock step by step. Each step waits for what the writers have submitted."""
    async with asyncio.timeout(60):
        while not condition():
            await clock.advance("5ms")
            for writer in writers:
                await writer.cache.delete("absent")  # runs after everything submitted before
            await asyncio.sleep(0.001)


def wait_for(adapter: SQLiteAdapter, timeout: str) -> asyncio.Task[bool]:
    assert isinstance(adapter.lock, SupportsWait)
    return asyncio.ensure_future(adapter.lock.wait_released("key", timeout))


def tickets(query: Query) -> int:
    return len(query("SELECT 1 FROM go_goscope_lock_queue"))


@pytest_asyncio.fixture
async def waiting(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> AsyncIterator[asyncio.Task[bool]]:
    """``other`` is queued for "key", which ``adapter`` holds as "holder"."""
    await adapter.lock.acquire("key", "1h", owner="holder")
    wait = wait_for(other, "10m")
    await pass_until(clock, lambda: tickets(query), other)
    yield wait
    wait.cancel()
    await asyncio.wait([wait])


async def test_a_process_cannot_retake_its_lock_while_another_one_waits(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool]
) -> None:
    await adapter.lock.force_release("key")
    assert await adapter.lock.acquire("key") is None
    await pass_until(clock, waiting.done, other)
    assert waiting.result()
    assert await other.lock.acquire("key") is not None


async def test_a_grant_removes_the_ticket(
    adapter: SQLiteAdapter,
    other: SQLiteAdapter,
    clock: FakeClock,
    waiting: asyncio.Task[bool],
    query: Query,
) -> None:
    await adapter.lock.force_release("key")
    await pass_until(clock, waiting.done, other)
    handle = await other.lock.acquire("key")
    assert handle is not None
    assert tickets(query) == 0
    await handle.release()
    assert await adapter.lock.acquire("key") is not None


async def test_a_cancelled_waiter_leaves_the_queue(
    adapter: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool], query: Query
) -> None:
    waiting.cancel()
    await pass_until(clock, lambda: not tickets(query))
    await adapter.lock.force_release("key")
    assert await adapter.lock.acquire("key") is not None


async def test_a_timed_out_waiter_leaves_the_queue(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.lock.acquire("key", "1h")
    wait = wait_for(other, "300ms")
    await pass_until(clock, lambda: tickets(query), other)
    await pass_until(clock, wait.done, other)
    assert wait.result() is False
    await pass_until(clock, lambda: not tickets(query), other)


async def test_a_process_without_heartbeats_is_skipped(
    adapter: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool], query: Query
) -> None:
    """The ticket of a killed process stays in the file, and delays others by one second only."""
    await adapter.lock.force_release("key")
    waiting.cancel()
    await pass_until(clock, lambda: not tickets(query))
    now = clock.steady_ms()
    ticket = ("lock:key", "killed", clock.boot_id, now - 100, now)
    query("INSERT INTO go_goscope_lock_queue VALUES (?, ?, ?, ?, ?)", *ticket)
    assert await adapter.lock.acquire("key") is None
    await clock.advance("1s")
    assert await adapter.lock.acquire("key") is not None


async def test_a_short_wait_does_not_join_the_queue(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.lock.acquire("key", "1h")
    wait = wait_for(other, "90ms")
    await pass_until(clock, wait.done)
    assert wait.result() is False
    assert tickets(query) == 0


# --- polls ---------------------------------------------------------------------------------------


class Polls:
    """Records when an adapter polls the version of the file, and when it reads the lease."""

    def __init__(self, adapter: SQLiteAdapter, clock: FakeClock) -> None:
        self.versions: list[int] = []
        self.reads: list[int] = []
        self._clock = clock
        self._read = adapter._database.read_one
        self._version = adapter._database.version
        setattr(adapter._database, "read_one", self._record_read)  # noqa: B010  # a method, to mypy
        setattr(adapter._database, "version", self._record_version)  # noqa: B010  # likewise

    def _record_read(self, sql: str, parameters: Sequence[Any]) -> Awaitable[Any]:
        self.reads.append(self._clock.steady_ms())
        return self._read(sql, parameters)

    def _record_version(self) -> int | None:
        self.versions.append(self._clock.steady_ms())
        return self._version()


async def test_a_held_lock_is_polled_from_every_2_ms_to_every_50_ms(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock
) -> None:
    """A wait of up to 100 ms ends at most 3 ms late, and a long one costs little."""
    await adapter.lock.acquire("key", "1h")
    began = clock.steady_ms()
    polls = Polls(other, clock)
    wait = wait_for(other, "5s")
    await pass_until(clock, wait.done, other)
    times = sorted({began, *polls.versions})
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert min(pauses[:15]) == max(pauses[:15]) == 2
    assert max(pause for poll, pause in zip(times, pauses, strict=False) if poll < began + 95) <= 3
    # Except around heartbeats, for which it waits: the clock advances in the meantime.
    assert sum(pause > 51 for pause in pauses) <= 10
    assert 120 <= len(times) <= 180
    assert len(polls.reads) < len(times) / 3


async def test_a_poll_reads_the_lease_after_each_commit_of_another_process(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool]
) -> None:
    """And at least every 250 ms, since a holder that dies commits nothing."""
    polls = Polls(other, clock)
    began = clock.steady_ms()
    await pass_until(clock, lambda: clock.steady_ms() > began + 2000, other)
    assert 8 <= len(polls.reads) <= 16
    assert max(later - earlier for earlier, later in pairwise(polls.reads)) <= 300
    await adapter.cache.set("something", "else")
    seen = len(polls.reads)
    await clock.advance("50ms")
    assert len(polls.reads) > seen
    assert not waiting.done()


async def test_a_wait_ends_when_the_lease_expires(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock
) -> None:
    """By then it polls only every 50 ms."""
    await adapter.lock.acquire("key", "3333ms")
    ends = clock.steady_ms() + 3333
    wait = wait_for(other, "1h")
    await pass_until(clock, lambda: clock.steady_ms() >= ends - 10)
    while not wait.done():
        await clock.advance("1ms")
        await asyncio.sleep(0.001)
    assert wait.result()
    assert clock.steady_ms() <= ends + 1


async def test_the_head_of_the_queue_polls_often_again(
    path: Path,
    adapter: SQLiteAdapter,
    other: SQLiteAdapter,
    clock: FakeClock,
    waiting: asyncio.Task[bool],
) -> None:
    """However long it has waited: until it polls, no other process can take the lock."""
    async with SQLiteAdapter(path, locks="shared", reads="loop", clock=clock) as third:
        wait = wait_for(third, "10m")
        began = clock.steady_ms()
        await pass_until(clock, lambda: clock.steady_ms() > began + 2000, other, third)
        await adapter.lock.force_release("key")
        await pass_until(clock, waiting.done, other, third)
        handle = await other.lock.acquire("key", "1h")
        assert handle is not None
        polls = Polls(third, clock)
        await pass_until(clock, lambda: len(polls.versions) >= 10, third)
        pauses = [later - earlier for earlier, later in pairwise(polls.versions[2:])]
        assert max(pauses) <= 5
        await handle.release()
        await pass_until(clock, wait.done, third)
        assert wait.result()


async def test_a_queued_process_is_listed_until_its_heartbeats_stop(
    adapter: SQLiteAdapter, waiting: asyncio.Task[bool], query: Query
) -> None:
    inspection = adapter.inspection
    [waiter] = [it async for it in inspection.waiters("k*")]
    assert (waiter.kind, waiter.key, waiter.pid) == ("lock", "key", os.getpid())
    assert waiter.waited_ms is not None
    assert waiter.waited_ms >= 100
    assert [it async for it in inspection.waiters("other*")] == []
    assert (await inspection.totals()).waiters.count == 1
    query("UPDATE go_goscope_lock_queue SET last_heartbeat = last_heartbeat - 1001")
    assert [it async for it in inspection.waiters()] == []
