"""Processes that wait for a lock take turns. Two adapters on one file stand for two processes."""

from __future__ import annotations

import asyncio
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
    # Reads in the loop: what it polls for is then found at the clock's own time.
    async with SQLiteAdapter(path, locks="shared", reads="loop", clock=clock) as other:
        yield other


async def pass_until(
    clock: FakeClock, condition: Callable[[], object], *writers: SQLiteAdapter
) -> None:
    """Let time pass, in steps that the writers' threads can keep up with."""
    async with asyncio.timeout(30):
        while not condition():
            await clock.advance("5ms")
            for writer in writers:
                await writer.cache.delete("nobody's")  # behind all it has submitted
            await asyncio.sleep(0.001)


def wait_for(adapter: SQLiteAdapter, timeout: str) -> asyncio.Task[bool]:
    assert isinstance(adapter.lock, SupportsWait)
    return asyncio.ensure_future(adapter.lock.wait_released("key", timeout))


def places(query: Query) -> int:
    return len(query("SELECT 1 FROM go_goscope_lock_queue"))


@pytest_asyncio.fixture
async def waiting(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> AsyncIterator[asyncio.Task[bool]]:
    """``other`` is in the line for "key", which ``adapter`` holds as "holder"."""
    await adapter.lock.acquire("key", "1h", owner="holder")
    wait = wait_for(other, "10m")
    await pass_until(clock, lambda: places(query))
    yield wait
    wait.cancel()
    await asyncio.wait([wait])


async def test_who_releases_cannot_take_the_lock_again_while_another_process_waits(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool]
) -> None:
    await adapter.lock.force_release("key")
    assert await adapter.lock.acquire("key") is None
    await pass_until(clock, waiting.done)
    assert waiting.result()
    assert await other.lock.acquire("key") is not None


async def test_a_taken_turn_leaves_no_place_behind(
    adapter: SQLiteAdapter,
    other: SQLiteAdapter,
    clock: FakeClock,
    waiting: asyncio.Task[bool],
    query: Query,
) -> None:
    await adapter.lock.force_release("key")
    await pass_until(clock, waiting.done)
    handle = await other.lock.acquire("key")
    assert handle is not None
    assert places(query) == 0
    await handle.release()
    assert await adapter.lock.acquire("key") is not None


async def test_a_cancelled_wait_leaves_no_place_behind(
    adapter: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool], query: Query
) -> None:
    waiting.cancel()
    await pass_until(clock, lambda: not places(query))
    await adapter.lock.force_release("key")
    assert await adapter.lock.acquire("key") is not None


async def test_a_wait_that_is_over_leaves_no_place_behind(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.lock.acquire("key", "1h")
    wait = wait_for(other, "300ms")
    await pass_until(clock, lambda: places(query))
    await pass_until(clock, wait.done)
    assert wait.result() is False
    await pass_until(clock, lambda: not places(query))


async def test_a_process_that_shows_itself_no_more_is_passed_over(
    adapter: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool], query: Query
) -> None:
    """It was killed: its place stays in the file, and holds others up for a second only."""
    await adapter.lock.force_release("key")
    waiting.cancel()
    await pass_until(clock, lambda: not places(query))
    now = clock.steady_ms()
    place = ("lock:key", "killed", clock.boot_id, now - 100, now)
    query("INSERT INTO go_goscope_lock_queue VALUES (?, ?, ?, ?, ?)", *place)
    assert await adapter.lock.acquire("key") is None
    await clock.advance("1s")
    assert await adapter.lock.acquire("key") is not None


async def test_short_waits_cost_no_place(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.lock.acquire("key", "1h")
    wait = wait_for(other, "90ms")
    await pass_until(clock, wait.done)
    assert wait.result() is False
    assert places(query) == 0


# --- polls ---------------------------------------------------------------------------------------


class Reads:
    """What the polls of an adapter read, and when; the reading goes on as before."""

    def __init__(self, adapter: SQLiteAdapter, clock: FakeClock) -> None:
        self.versions: list[int] = []
        self.looks: list[int] = []
        self._clock = clock
        self._read = adapter._database.read_one
        self._version = adapter._database.version
        setattr(adapter._database, "read_one", self._noted)  # noqa: B010  # a method, to mypy
        setattr(adapter._database, "version", self._noted_version)  # noqa: B010  # likewise

    def _noted(self, sql: str, parameters: Sequence[Any]) -> Awaitable[Any]:
        self.looks.append(self._clock.steady_ms())
        return self._read(sql, parameters)

    def _noted_version(self) -> int | None:
        self.versions.append(self._clock.steady_ms())
        return self._version()


async def test_a_held_lock_is_polled_from_every_2_ms_to_every_50_ms(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock
) -> None:
    """A wait of up to 100 ms gets 3 ms longer at most, and a long one costs little."""
    await adapter.lock.acquire("key", "1h")
    began = clock.steady_ms()
    reads = Reads(other, clock)
    wait = wait_for(other, "5s")
    await pass_until(clock, wait.done, other)
    polls = sorted({began, *reads.versions})
    pauses = [later - earlier for earlier, later in pairwise(polls)]
    assert min(pauses[:15]) == max(pauses[:15]) == 2
    assert max(pause for poll, pause in zip(polls, pauses, strict=False) if poll < began + 95) <= 3
    # But for the times when it shows itself, which takes a thread as long as it takes.
    assert sum(pause > 51 for pause in pauses) <= 10
    assert 120 <= len(polls) <= 180
    assert len(reads.looks) < len(polls) / 3


async def test_a_poll_looks_again_when_another_process_has_committed(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool]
) -> None:
    """And at the latest after 250 ms, since a holder that dies commits nothing."""
    reads = Reads(other, clock)
    began = clock.steady_ms()
    await pass_until(clock, lambda: clock.steady_ms() > began + 2000, other)
    assert 8 <= len(reads.looks) <= 16
    assert max(later - earlier for earlier, later in pairwise(reads.looks)) <= 300
    await adapter.cache.set("something", "else")
    seen = len(reads.looks)
    await clock.advance("50ms")
    assert len(reads.looks) > seen
    assert not waiting.done()


async def test_a_wait_ends_exactly_at_the_expiry(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock
) -> None:
    """Although it is polled for only every 50 ms by then."""
    await adapter.lock.acquire("key", "3333ms")
    ends = clock.steady_ms() + 3333
    wait = wait_for(other, "1h")
    await pass_until(clock, lambda: clock.steady_ms() >= ends - 10)
    while not wait.done():
        await clock.advance("1ms")
        await asyncio.sleep(0.001)
    assert wait.result()
    assert clock.steady_ms() <= ends + 1


async def test_who_becomes_next_polls_often_again(
    path: Path,
    adapter: SQLiteAdapter,
    other: SQLiteAdapter,
    clock: FakeClock,
    waiting: asyncio.Task[bool],
) -> None:
    """However long it has waited: nobody else can take the lock while it does not look."""
    async with SQLiteAdapter(path, locks="shared", reads="loop", clock=clock) as third:
        wait = wait_for(third, "10m")
        began = clock.steady_ms()
        await pass_until(clock, lambda: clock.steady_ms() > began + 2000)
        await adapter.lock.force_release("key")
        await pass_until(clock, waiting.done)
        handle = await other.lock.acquire("key", "1h")
        assert handle is not None
        reads = Reads(third, clock)
        await pass_until(clock, lambda: len(reads.versions) >= 10, third)
        pauses = [later - earlier for earlier, later in pairwise(reads.versions[2:])]
        assert max(pauses) <= 5
        await handle.release()
        await pass_until(clock, wait.done)
        assert wait.result()
