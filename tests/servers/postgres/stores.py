"""Stores on a PostgreSQL server for tests: each a schema with its own role and clock."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

URL: Final = os.environ.get(
    "GOSCOPE_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test"
)
"""The server of the tests. Its user may create roles and schemas."""

_numbers: Final = itertools.count(1)

_CREATE: Final = """
    CREATE ROLE {name} LOGIN PASSWORD '{name}';
    CREATE SCHEMA {name} AUTHORIZATION {name};
    CREATE TABLE {name}.test_clock (time timestamptz);
    INSERT INTO {name}.test_clock VALUES (NULL);
    GRANT SELECT ON {name}.test_clock TO {name};
    CREATE FUNCTION {name}.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT coalesce((SELECT time FROM {name}.test_clock), pg_catalog.clock_timestamp())';
    ALTER ROLE {name} SET search_path = '{name}', 'pg_catalog';
"""
_END_CONNECTIONS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"
)
_EMPTY: Final = """
    DO $$
    DECLARE found record;
    BEGIN
        FOR found IN SELECT tablename AS name FROM pg_tables
            WHERE schemaname = '{name}' AND tablename NOT IN ('test_clock', 'goscope_meta')
        LOOP
            EXECUTE format('DELETE FROM {name}.%I', found.name);
        END LOOP;
        IF to_regclass('{name}.goscope_meta') IS NOT NULL THEN
            UPDATE {name}.goscope_meta SET store_id = md5(random()::text);
        END IF;
    END $$
"""
_DROP: Final = "DROP SCHEMA {name} CASCADE; DROP ROLE {name}"


class Store:
    """A schema, and the role that owns it.

    The role finds ``clock_timestamp()`` in the schema first: a function that returns the time of a
    table, where there is one. So the statements of the adapter run as they are, on a clock that
    stands still.
    """

    def __init__(self, name: str) -> None:
        self.name: Final = name

    @classmethod
    async def create(cls) -> Store:
        store = cls(f"goscope_test_{os.getpid()}_{next(_numbers)}")
        await store.execute(_CREATE)
        return store

    @property
    def dsn(self) -> str:
        parts = urlsplit(URL)
        place = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{self.name}:{self.name}@{place}").geturl()

    async def set_clock(self, wall_ms: int | None) -> None:
        """Stop the clock at a time; None lets it run on the time of the server."""
        time = "NULL" if wall_ms is None else f"to_timestamp({wall_ms} / 1000::numeric)"
        await self.execute(f"UPDATE {{name}}.test_clock SET time = {time}")

    async def advance(self, milliseconds: int) -> None:
        """Advance the clock, unless it runs."""
        interval = f"interval '{milliseconds} ms'"
        await self.execute(f"UPDATE {{name}}.test_clock SET time = time + {interval}")

    async def empty(self) -> None:
        """End the connections and make it another store, without a record."""
        async with administrator() as connection:
            await connection.execute(_END_CONNECTIONS, self.name)
            await connection.execute(_EMPTY.format(name=self.name))

    async def drop(self) -> None:
        """End the connections and remove the store."""
        async with administrator() as connection:
            await connection.execute(_END_CONNECTIONS, self.name)
            await connection.execute(_DROP.format(name=self.name))

    async def execute(self, sql: str) -> None:
        """Execute a statement in which ``{name}`` is the name of the store, as administrator."""
        async with administrator() as connection:
            await connection.execute(sql.format(name=self.name))


class Stores:
    """The stores that the tests of a session share, one after the other.

    A folder stands for a store. The file that names it is for other processes.
    """

    def __init__(self) -> None:
        self._free: list[Store] = []

    async def of(self, folder: Path) -> Store:
        """The store of the folder; one without a record if the folder has none yet."""
        named = folder / "postgres"
        if named.exists():
            return Store(named.read_text())
        store = self._free.pop() if self._free else await Store.create()
        named.write_text(store.name)
        return store

    async def release(self, folder: Path) -> None:
        """Empty the stores of the folder and of those in it."""
        for named in folder.rglob("postgres"):  # noqa: ASYNC240  # after the test
            store = Store(named.read_text())
            await store.empty()
            self._free.append(store)

    async def drop(self) -> None:
        """Remove the stores that no test uses."""
        while self._free:  # a worker of pytest-xdist may return to a module that it has left
            await self._free.pop().drop()


@asynccontextmanager
async def administrator() -> AsyncGenerator[asyncpg.Connection]:
    """A connection of the user that the URL names."""
    connection = await asyncpg.connect(URL, server_settings={"synchronous_commit": "off"})
    try:
        yield connection
    finally:
        await connection.close()
