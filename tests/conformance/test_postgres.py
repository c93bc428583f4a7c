"""The backend "postgres" meets the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from goscope.providers import Capability, PersistenceAdapter
from goscope.testing import FakeClock
from goscope.testing.conformance import (
    BackendConformance,
    EventsConformance,
    InspectionConformance,
    TransactionsConformance,
    WaitConformance,
)
from goscope_postgres import PostgresAdapter
from tests.servers.postgres.stores import Store, Stores

STORES = Stores()


@pytest.fixture(scope="module", autouse=True)
def _drop_stores(postgres_url: str) -> Iterator[None]:
    yield
    asyncio.run(STORES.drop())


@pytest.mark.long
class TestPostgres(
    BackendConformance,
    WaitConformance,
    EventsConformance,
    InspectionConformance,
    TransactionsConformance,
):
    capabilities = frozenset(
        {
            Capability.PERSISTENT,
            Capability.SHARED_LOCKS,
            Capability.DISTRIBUTED,
            Capability.NOTIFICATIONS,
        }
    )
    processes = True

    @pytest.fixture(autouse=True)
    def _release_stores(self, tmp_path: Path) -> Iterator[None]:
        asyncio.run(STORES.of(tmp_path))  # before other processes open it
        yield
        asyncio.run(STORES.release(tmp_path))

    def work(self, *statements: str, error: BaseException | None = None) -> Callable[[Any], Any]:
        async def work(connection: asyncpg.Connection) -> list[Any]:
            rows: list[Any] = []
            for statement in statements:
                rows = await connection.fetch(statement.format(account="account"))
            if error is not None:
                raise error
            return [tuple(row) for row in rows]

        return work

    async def create(self, adapter: PersistenceAdapter, statement: str) -> None:
        assert isinstance(adapter, PostgresAdapter)
        await adapter.transactions.run(self.work("DROP TABLE IF EXISTS {account}", statement))

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[PostgresAdapter]:
        store, clock = await STORES.of(tmp_path), self.clock
        await store.set_clock(clock.wall_ms() if isinstance(clock, FakeClock) else None)
        adapter = PostgresAdapter(
            store.dsn, key_prefix=key_prefix, schema=store.name, pool_size=4, clock=clock
        )
        async with adapter:
            yield adapter

    async def advance_server(self, adapter: PersistenceAdapter, milliseconds: int) -> None:
        assert isinstance(adapter, PostgresAdapter)
        await Store(adapter._tables.schema).advance(milliseconds)
