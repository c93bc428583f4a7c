"""Steps that several test files share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from goscope_postgres import PostgresAdapter

from .stores import Store, administrator


def adapter_of(store: Store, **options: Any) -> PostgresAdapter:
    """An adapter on the store, with the clock of the server."""
    return PostgresAdapter(options.pop("dsn", store.dsn), schema=store.name, **options)


@asynccontextmanager
async def locked_row(store: Store, key: str) -> AsyncGenerator[asyncpg.Connection]:
    """A transaction of somebody else that holds the row of a cache entry."""
    async with administrator() as other, other.transaction():
        await other.execute(
            f"SELECT 1 FROM {store.name}.goscope_cache WHERE key = $1 FOR UPDATE", f"cache:{key}"
        )
        yield other


async def blocked_count(store: Store) -> int:
    """How many statements of the store wait for a lock."""
    async with administrator() as other:
        count: int = await other.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'",
            store.name,
        )
        return count


async def connection_count(store: Store) -> int:
    """How many connections of the store the server has."""
    async with administrator() as other:
        count: int = await other.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", store.name
        )
        return count


async def until_blocked(store: Store, count: int = 1) -> None:
    """Return when that many statements of the store wait for a lock."""
    async with asyncio.timeout(30):
        while await blocked_count(store) < count:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.005)


async def end_connections(store: Store) -> None:
    """What an administrator does with pg_terminate_backend."""
    async with administrator() as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", store.name
        )
