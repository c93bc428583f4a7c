"""Many forks while the parent writes, as a server with a preloaded application does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ..sqlite.test_fork import ADAPTERS, run
from .amounts import amount
from .conftest import Count

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

PROGRAM = """
FORKS = {forks}

async def child(number):
    async with Adapter(path, locks="shared", busy_timeout="60s") as own:
        for step in range(5):
            await own.cache.set(f"child:{{number}}:{{step}}", step)
        lock = await own.lock.acquire("held by the parent", "1h")
        return "two holders" if lock is not None else "ok"

async def write(adapter, number):
    for step in range(10**9):
        await adapter.cache.set(f"parent:{{number}}", step)

async def main():
    done = 0
    while done < FORKS:
        async with Adapter(path, locks="shared", busy_timeout="60s") as adapter:
            lock = await adapter.lock.acquire("held by the parent", "1h")
            writers = [asyncio.create_task(write(adapter, it)) for it in range(3)]
            for _ in range(min(20, FORKS - done)):
                assert await answer(*in_child(child, done)) == "ok"
                done += 1
            for writer in writers:
                writer.cancel()
            await asyncio.wait(writers)
            await lock.release()
    connection = sqlite3.connect(path)
    rows = "SELECT count(*) FROM go_goscope_cache WHERE key GLOB 'cache:child:*'"
    print(connection.execute(rows).fetchone()[0] - 5 * FORKS)
    print(connection.execute("PRAGMA integrity_check").fetchone()[0])

asyncio.run(main())
"""


@ADAPTERS
def test_what_children_write_is_kept_and_the_lock_of_the_parent_too(
    tmp_path: Path, adapter: str, count: Count
) -> None:
    forks = amount(4, 500)
    program, path = PROGRAM.format(forks=forks), tmp_path / "store.db"
    assert run(program, path, adapter, timeout_s=100 + forks) == "0\nok\n"
    count(f"forks while the parent writes ({adapter})", forks)
