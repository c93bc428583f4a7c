"""aiosqlite is used by its public way: a release that awaits differently changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from goscope.errors import BackendUnavailable
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

pytestmark = pytest.mark.asyncio

WAIT_S = 30


async def use(path: Path) -> None:
    async with asyncio.timeout(WAIT_S), SQLiteAdapter(path, writes="thread") as adapter:
        await asyncio.gather(*(adapter.cache.set(f"{number}", number) for number in range(10)))
        assert len(await adapter.cache.keys()) == 10


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_aiosqlite_that_awaits_once_more_is_no_problem(
    path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    execute: Any = getattr(aiosqlite.Connection, "_execute")  # noqa: B009  # untyped

    async def awaits_more(self: Any, *arguments: Any) -> Any:
        if when == "before":
            await asyncio.sleep(0)
        result = await execute(self, *arguments)
        if when == "after":
            await asyncio.sleep(0)
        return result

    monkeypatch.setattr(aiosqlite.Connection, "_execute", awaits_more)
    await use(path)


async def test_an_aiosqlite_that_does_not_run_scripts_is_an_error_and_no_hang(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: Any, script: str) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(aiosqlite.Connection, "executescript", nothing)
    with pytest.raises(BackendUnavailable, match="aiosqlite"):
        await use(path)


async def test_a_stopped_thread_fails_the_writes_and_not_the_loop(path: Path, query: Query) -> None:
    async with SQLiteAdapter(path, writes="thread") as adapter:
        await adapter.cache.set("key", 1)
        thread = adapter._database._writer._thread
        connection: Any = thread._connection  # its `stop` has no precise type
        stopped = connection.stop()
        assert stopped is not None
        await stopped
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="was not applied"):
                await asyncio.wait_for(adapter.cache.set("key", 2), WAIT_S)
    assert query("SELECT value FROM go_goscope_cache") == [("1",)]
