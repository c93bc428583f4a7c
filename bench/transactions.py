"""What rows and a record in one transaction cost, beside two separate commits.

    python -m bench.transactions [--calls 2000]

Each call stores the result of an idempotent call and one row of the user. Calls of both kinds take
turns, so that the machine's load affects both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sqlite3
import statistics
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal, TypeAlias

import aiosqlite
import asyncpg
import msgspec

from goscope.providers import SupportsTransactions
from goscope_postgres import PostgresAdapter
from goscope_sqlite import SQLiteAdapter

Call: TypeAlias = Callable[[str], Awaitable[object]]

CALLS: Final = 2000
CREATE: Final = "CREATE TABLE bench_ledger (charge TEXT PRIMARY KEY, cents INTEGER NOT NULL)"
INSERT: Final = "INSERT INTO bench_ledger VALUES (?, ?)"
RESULT: Final = msgspec.Raw(b'{"receipt":"r-1","cents":1250}')


@asynccontextmanager
async def sqlite_calls(
    path: Path, durability: Literal["normal", "full"]
) -> AsyncGenerator[dict[str, Call]]:
    """The calls on a file; the user's own commits go through aiosqlite."""
    async with (
        SQLiteAdapter(path, durability=durability) as adapter,
        aiosqlite.connect(path, isolation_level=None) as own,
    ):
        await own.execute(f"PRAGMA synchronous = {durability}")
        await adapter.transactions.run(lambda connection: connection.execute(CREATE))

        async def separate(key: str) -> None:
            await own.execute(INSERT, (key, 1250))
            await adapter.idempotency.set(key, RESULT, "24h")

        def insert(key: str) -> Callable[[sqlite3.Connection], Any]:
            return lambda connection: connection.execute(INSERT, (key, 1250))

        yield {
            "in one transaction": lambda key: together(adapter, key, insert(key)),
            "in two commits": separate,
            "the record alone": lambda key: adapter.idempotency.set(key, RESULT, "24h"),
        }


@asynccontextmanager
async def postgres_calls(url: str) -> AsyncGenerator[dict[str, Call]]:
    """The calls on a server; the user's own commits go through a connection of asyncpg."""
    schema = f"bench_transactions_{os.getpid()}"
    own = await asyncpg.connect(url, server_settings={"search_path": schema})
    try:
        await own.execute(f"CREATE SCHEMA {schema}")
        await own.execute(CREATE)
        insert_sql = f"INSERT INTO {schema}.bench_ledger VALUES ($1, $2)"
        async with PostgresAdapter(url, schema=schema) as adapter:

            async def separate(key: str) -> None:
                await own.execute(insert_sql, key, 1250)
                await adapter.idempotency.set(key, RESULT, "24h")

            def insert(key: str) -> Callable[[asyncpg.Connection], Awaitable[Any]]:
                return lambda connection: connection.execute(insert_sql, key, 1250)

            yield {
                "in one transaction": lambda key: together(adapter, key, insert(key)),
                "in two commits": separate,
                "the record alone": lambda key: adapter.idempotency.set(key, RESULT, "24h"),
            }
    finally:
        await own.execute(f"DROP SCHEMA {schema} CASCADE")
        await own.close()


async def together(adapter: SupportsTransactions, key: str, work: Callable[[Any], Any]) -> None:
    """Store a result and a row in one transaction."""
    await adapter.transactions.set(key, RESULT, "24h", work)


async def measure(name: str, calls: dict[str, Call], count: int) -> None:
    """Print the median of each call, in microseconds."""
    numbers = itertools.count()
    times: dict[str, list[float]] = {kind: [] for kind in calls}
    for _ in range(count):
        for kind, call in calls.items():
            started = perf_counter()
            await call(f"charge:{next(numbers)}")
            times[kind].append((perf_counter() - started) * 1e6)
    for kind, spent in times.items():
        low, median, high = statistics.quantiles(spent, n=4)
        print(f"{name}, {kind}: {median:.0f} us (quartiles {low:.0f} to {high:.0f})")


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with sqlite_calls(Path(folder, "normal.db"), "normal") as calls:
            await measure("sqlite", calls, count)
        async with sqlite_calls(Path(folder, "full.db"), "full") as calls:
            await measure("sqlite, durability=full", calls, count)
    if url := os.environ.get("GOSCOPE_TEST_POSTGRES_URL"):
        async with postgres_calls(url) as calls:
            await measure("postgres", calls, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    asyncio.run(main(parser.parse_args().calls))
