"""Event loops whose tasks run at once (`asyncio.eager_task_factory`), and uvloop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

Main: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Run: TypeAlias = Callable[[Main], None]

WAIT_S = 30


def run_eagerly(main: Main) -> None:
    async def with_factory() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # 3.12
        await asyncio.create_task(main())

    asyncio.run(with_factory())


def run_in_uvloop(main: Main) -> None:
    uvloop = pytest.importorskip("uvloop", reason="there is no uvloop for this system")
    uvloop.run(main())


LOOPS = [
    pytest.param(
        run_eagerly,
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12"),
    ),
    run_in_uvloop,
]


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("writes", ["auto", "loop", "thread"])
@pytest.mark.parametrize("kind", [SQLiteAdapter, BunSQLiteAdapter])
def test_concurrent_calls_return_and_the_adapter_closes(
    path: Path, run: Run, writes: Any, kind: Any
) -> None:
    async def call(adapter: SQLiteAdapter, number: int) -> None:
        for step in range(20):
            await adapter.cache.set(f"{number}", step)
            assert await adapter.cache.get(f"{number}") == step
            await adapter.cache.increment("count")
            async with asyncio.timeout(WAIT_S):
                handle = None
                while handle is None:
                    handle = await adapter.lock.acquire("key")
                await handle.release()

    async def main() -> None:
        async with asyncio.timeout(WAIT_S), kind(path, writes=writes, locks="shared") as adapter:
            await asyncio.gather(*(call(adapter, number) for number in range(5)))
            await adapter.cache.set("large", "x" * 200_000)
            await asyncio.gather(*(adapter.cache.set(f"{number}", 1) for number in range(200)))
            assert await adapter.cache.get("count") == 100

    run(main)


@pytest.mark.parametrize("run", LOOPS)
def test_writes_that_nobody_awaits_are_made_before_the_adapter_closes(path: Path, run: Run) -> None:
    async def main() -> None:
        async with SQLiteAdapter(path) as adapter:
            for number in range(100):
                adapter._database.submit(
                    partial(_insert, number=number),
                )
        async with SQLiteAdapter(path) as adapter:
            rows = await adapter._database.read_all(
                "SELECT count(*) FROM go_goscope_meta WHERE key GLOB 'w*'", ()
            )
            assert rows == [(100,)]

    run(main)


def _insert(connection: Any, number: int) -> None:
    connection.execute("INSERT INTO go_goscope_meta VALUES (?, 0)", (f"w{number}",))
