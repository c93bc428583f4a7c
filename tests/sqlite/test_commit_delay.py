"""Writes wait for more of their kind while the loop is full of reads, but not for long."""

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
    """A clock that goes on by ``step`` seconds whenever it is read."""

    def __init__(self, step: float) -> None:
        self.step = step
        self._ticks = itertools.count(1)

    def __call__(self) -> float:
        return next(self._ticks) * self.step


@pytest.fixture(autouse=True)
def reads_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a turn of the loop ends after a few reads, on a machine of any speed."""
    now = Now(0.00002)
    for place in (
        "goscope_sqlite._engine.reader",
        "goscope_sqlite._engine.shared_read",
        "goscope._tools.loop_budget",
    ):
        monkeypatch.setattr(f"{place}.perf_counter", now)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Now:
    """The clock that tells how long writes have waited. It stands still."""
    now = Now(0)
    monkeypatch.setattr("goscope_sqlite._engine.thread.perf_counter", now)
    return now


async def batches(adapter: SQLiteAdapter, callers: int, reads: int) -> list[int]:
    """The writes of each commit while each caller writes once after so many reads, and again."""
    sizes: list[int] = []
    adapter._database.on_commit = sizes.append

    async def read_and_write(number: int) -> None:
        for turn in range(ROUNDS):
            for _ in range(reads + (number + turn) % 5):
                await adapter.cache.get("key")
            await adapter.cache.set(f"key{number}", turn)

    await asyncio.gather(*(read_and_write(number) for number in range(callers)))
    assert sum(sizes) == callers * ROUNDS
    return sizes


async def test_writes_wait_for_those_who_read_and_then_write(
    adapter: SQLiteAdapter, sent: Now
) -> None:
    sizes = await batches(adapter, CALLERS, 10)
    begun = next(number for number, size in enumerate(sizes) if size >= COMMIT_SIBLINGS)
    assert len(sizes) - begun < 2 * CALLERS * ROUNDS / MAX_DELAYED_WRITES


async def test_after_a_large_commit_its_callers_go_on_before_the_next(
    adapter: SQLiteAdapter, sent: Now
) -> None:
    """They read and will write again: what the few others have to write need not go alone."""
    sizes = await batches(adapter, MAX_DELAYED_WRITES, 10)
    after_large = [
        size for last, size in itertools.pairwise(sizes) if last > MAX_DELAYED_WRITES / 2
    ]
    assert len(after_large) >= ROUNDS / 2
    assert min(after_large[: ROUNDS // 2]) >= COMMIT_SIBLINGS


async def test_writes_wait_no_longer_than_they_may(adapter: SQLiteAdapter, sent: Now) -> None:
    sent.step = COMMIT_DELAY_S * 2
    await write_together(adapter)
    async with reads(adapter):
        await asyncio.wait_for(adapter.cache.set("key", "written"), 10)


async def test_few_writes_wait_for_nobody(adapter: SQLiteAdapter, sent: Now) -> None:
    """Beside many that only read there are no more to come."""
    async with reads(adapter):
        for number in range(20):
            await asyncio.wait_for(adapter.cache.set("key", number), 10)


async def test_writes_that_wait_for_more_happen_when_the_adapter_is_closed(
    path: Path, sent: Now
) -> None:
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
    """More of them than fit into a turn of the loop, until the adapter is closed at the latest."""

    async def read_on() -> None:
        with suppress(ScopeNotOpen):
            while True:
                await adapter.cache.get("key")

    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(read_on()) for _ in range(CALLERS)]
        await asyncio.sleep(0)
        yield
        for task in reading:
            task.cancel()
