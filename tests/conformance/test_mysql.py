"""The backend "mysql" meets the contract on the server of GOSCOPE_TEST_MYSQL_URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from goscope.providers import Capability, PersistenceAdapter
from goscope.testing.conformance import (
    BackendConformance,
    EventsConformance,
    InspectionConformance,
    TransactionsConformance,
    WaitConformance,
)
from goscope.testing.processes import Program
from goscope_mysql import MySQLAdapter
from tests.servers.mysql import databases


@pytest.fixture(scope="module", autouse=True)
def _databases(mysql_url: str) -> Iterator[None]:
    yield
    asyncio.run(databases.drop_all())


@pytest.mark.long
class TestMySQL(
    BackendConformance,
    WaitConformance,
    EventsConformance,
    InspectionConformance,
    TransactionsConformance,
):
    capabilities = frozenset(
        {Capability.PERSISTENT, Capability.SHARED_LOCKS, Capability.DISTRIBUTED}
    )
    processes = True

    def work(self, *statements: str, error: BaseException | None = None) -> Callable[[Any], Any]:
        async def work(connection: Any) -> list[Any]:
            rows: list[Any] = []
            async with connection.cursor() as cursor:
                for statement in statements:
                    await cursor.execute(statement.format(account="account"))
                    rows = list(await cursor.fetchall())
            if error is not None:
                raise error
            return rows

        return work

    async def create(self, adapter: PersistenceAdapter, statement: str) -> None:
        """The server commits each of these, so that they need a connection of their own."""
        assert isinstance(adapter, MySQLAdapter)
        connection = await adapter._database.connect()
        try:
            for sql in ("DROP TABLE IF EXISTS account", statement.format(account="account")):
                await connection.run(sql)
        finally:
            await connection.close()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MySQLAdapter]:
        adapter = await databases.adapter_on(tmp_path, key_prefix=key_prefix, clock=self.clock)
        async with adapter:
            yield adapter

    @asynccontextmanager
    async def programs(self, tmp_path: Path, count: int) -> AsyncGenerator[list[Program]]:
        await databases.database_of(tmp_path)  # else each program would choose one
        async with super().programs(tmp_path, count) as programs:
            yield programs
