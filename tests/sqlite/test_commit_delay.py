"""While readers fill the event loop, a commit is delayed to collect more writes, within limits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from goscope.errors import ScopeNotOpen
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.thread import COMMIT_DELAY_S, COMMIT_SIBLINGS, MAX_DELAYED_WRITES

pytestmark = pytest.mark.asyncio

CALLERS = 2 * MAX_DELAYED_WRITES
ROUNDS = 12


class Now:
    """A clock that advances by ``step`` seconds whenever it is read."""

    def __init__(self, step: float) -> None:
        self.step = step
        self._ticks = itertools.count(1)

    def __call__(self) -> float:
        return next(self._ticks) * self.step


@pytest.fixture(autouse=True)
def reads_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tick of the loop end after a few reads, on a machine of any speed."""
    now = Now(0.00002)
    for place in (
        "goscope_sqlite._engine.reader",
        "goscope_sqlite._engine.shared_read",
        "goscope._tools.loop_budget",
    ):
        monkeypatch.setattr(f"{place}.perf_counter", now)


@pytest.fixture
def delay_clock(monkeypatch: pytest.MonkeyPatch) -> Now:
    """The clock that measures the delay of a commit. It stands still."""
    now = Now(0)
    monkeypatch.setattr("goscope_sqlite._engine.thread.perf_counter", now)
    return now


async def batches(adapter: SQLiteAdapter, callers: int, reads: int) -> list[int]:
    """The number of writes in each commit while every caller alternates reads and a write."""
    sizes: list[int] = []
    adapter._database.on_commit = sizes.append

    async def read_and_write(number: int) -> None:
        for round_number in range(ROUNDS):
            for _ in range(reads + (number + round_number) % 5):
                await adapter.cache.get("key")
            await adapter.cache.set(f"key{number}", round_number)

    await asyncio.gather(*(read_and_write(number) for number in range(callers)))
    assert sum(sizes) == callers * ROUNDS
    return sizes


async def test_a_commit_waits_for_callers_that_read_before_they_write(
    adapter: SQLiteAdapter, delay_clock: Now
) -> None:
    sizes = await batches(adapter, CALLERS, 10)
    first = next(number for number, size in enumerate(sizes) if size >= COMMIT_SIBLINGS)
    assert len(sizes) - first < 2 * CALLERS * ROUNDS / MAX_DELAYED_WRITES


async def test_the_callers_of_a_large_commit_resume_before_the_next_commit(
    adapter: SQLiteAdapter, delay_clock: Now
) -> None:
    """They read and write again, so that the few other writes need no commit to themselves."""
    sizes = await batches(adapter, MAX_DELAYED_WRITES, 10)
    after_large = [
        size for last, size in itertools.pairwise(sizes) if last > MAX_DELAYED_WRITES / 2
    ]
    assert len(after_large) >= ROUNDS / 2
    assert min(after_large[: ROUNDS // 2]) >= COMMIT_SIBLINGS


async def test_a_commit_is_delayed_for_a_limited_time(
    adapter: SQLiteAdapter, delay_clock: Now
) -> None:
    delay_clock.step = COMMIT_DELAY_S * 2
    await write_together(adapter)
    async with reads(adapter):
        await asyncio.wait_for(adapter.cache.set("key", "written"), 60)


async def test_a_lone_write_is_not_delayed(adapter: SQLiteAdapter, delay_clock: Now) -> None:
    """Callers that only read will add no write."""
    async with reads(adapter):
        for number in range(20):
            await asyncio.wait_for(adapter.cache.set("key", number), 60)


async def test_closing_the_adapter_commits_delayed_writes(path: Path, delay_clock: Now) -> None:
    async with SQLiteAdapter(path) as adapter:
        await write_together(adapter)
        async with reads(adapter):
            writing = asyncio.ensure_future(adapter.cache.set("key", "written"))
            await asyncio.sleep(0.05)
            assert not writing.done()
            await adapter.disconnect()
            assert writing.done()
    async with SQLiteAdapter(path) as adapter:
        assert await adapter.cache.get("key") == "written"


async def write_together(adapter: SQLiteAdapter) -> None:
    await asyncio.gather(*(adapter.cache.set(f"key{n}", 0) for n in range(COMMIT_SIBLINGS + 1)))


@asynccontextmanager
async def reads(adapter: SQLiteAdapter) -> AsyncGenerator[None]:
    """Read in more tasks than fit into a tick, until the adapter is closed at the latest."""

    async def keep_reading() -> None:
        with suppress(ScopeNotOpen):
            while True:
                await adapter.cache.get("key")

    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(keep_reading()) for _ in range(CALLERS)]
        await asyncio.sleep(0)
        yield
        for task in reading:
            task.cancel()
