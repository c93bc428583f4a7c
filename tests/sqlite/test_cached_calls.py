"""Cached calls on a file that refuses writes or is full: the functions still run."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from goscope import Scope
from goscope.events import CacheMiss, CacheStoreFailed, Event
from goscope.testing import record_events
from goscope_sqlite import SQLiteAdapter

from .conftest import Query
from .writes import LONG, limit_to_free_pages

pytestmark = pytest.mark.asyncio


class Pages:
    """A cached function, and how often it ran. It ends once five callers wait for its result."""

    def __init__(self, gs: Scope, events: list[Event]) -> None:
        self.calls = 0

        @gs.cached("1h", key="page:{number}")
        async def get(number: int) -> str:
            self.calls += 1
            while self._misses(number) < 5:  # noqa: ASYNC110  # an observer sets no event
                await asyncio.sleep(0)
            return LONG

        self.get = get
        self._events = events

    def _misses(self, number: int) -> int:
        key = f"page:{number}"
        return sum(isinstance(it, CacheMiss) and it.key == key for it in self._events)

    async def get_together(self, number: int) -> None:
        """Get a page five times at once."""
        calls = (self.get(number) for _ in range(5))
        async with asyncio.timeout(60):
            assert await asyncio.gather(*calls) == [LONG] * 5


@asynccontextmanager
async def opened(
    adapter: SQLiteAdapter,
) -> AsyncGenerator[tuple[Scope, Pages, list[Event]]]:
    async with adapter, Scope(persistence=adapter) as gs:
        with record_events(gs) as events:
            yield gs, Pages(gs, events), events


def failures(events: list[Event]) -> list[str]:
    return [event.error for event in events if isinstance(event, CacheStoreFailed)]


async def test_a_file_that_another_connection_keeps_locked(path: Path) -> None:
    """A miss does not wait for as long as the busy timeout."""
    async with opened(SQLiteAdapter(path, busy_timeout="1h")) as (gs, pages, events):
        await pages.get_together(1)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await pages.get_together(1)
            assert pages.calls == 1
            for number in (2, 3):
                await pages.get_together(number)
        assert pages.calls == 3
        assert failures(events) == ["the store did not answer within 1 s"]
        await gs.cache.clear()


async def test_a_full_disk(path: Path, query: Query) -> None:
    adapter = SQLiteAdapter(path)
    async with opened(adapter) as (gs, pages, events):
        await limit_to_free_pages(adapter, query, 5)
        for number in (1, 2):
            await pages.get_together(number)
        assert pages.calls == 2
        (failure,) = failures(events)
        assert "Free some space" in failure
        assert not await gs.cache.keys()
