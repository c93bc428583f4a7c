"""goscope on a PostgreSQL server, and asyncpg on its own.

Each subject has its own schema, which it removes. The server is that of the tests.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from goscope.backend import BaseAdapter
from goscope_postgres import PostgresAdapter

from ..subject import Operation, Subject, SubjectUnavailable
from ..values import checkpoint, small
from .goscope_backends import GoscopeOnServer

URL: Final = os.environ.get(
    "GOSCOPE_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test"
)
CONNECTIONS: Final = 10

_TABLES: Final = """
    CREATE TABLE {0}.cache (key text PRIMARY KEY, value text, expires_at timestamptz);
    CREATE INDEX ON {0}.cache (expires_at);
    CREATE TABLE {0}.circuit (key text PRIMARY KEY, count bigint, failed_at timestamptz);
    CREATE TABLE {0}.lock (key text PRIMARY KEY, owner text, expires_at timestamptz);
    CREATE TABLE {0}.checkpoint (
        task text, sequence bigint, data text, PRIMARY KEY (task, sequence)
    )
"""
_GET: Final = "SELECT value FROM {0}.cache WHERE key = $1 AND expires_at > clock_timestamp()"
_SET: Final = """
    INSERT INTO {0}.cache VALUES ($1, $2, clock_timestamp() + interval '1 hour')
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
"""
_COUNT: Final = """
    INSERT INTO {0}.circuit AS c VALUES ($1, 1, clock_timestamp())
    ON CONFLICT (key) DO UPDATE SET count = c.count + 1, failed_at = excluded.failed_at
    RETURNING count
"""
_LOCK: Final = """
    INSERT INTO {0}.lock AS l VALUES ($1, 'me', clock_timestamp() + interval '30 s')
    ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
    WHERE l.expires_at <= clock_timestamp() RETURNING 1
"""
_UNLOCK: Final = "DELETE FROM {0}.lock WHERE key = $1 AND owner = 'me'"
_SAVE: Final = """
    INSERT INTO {0}.checkpoint VALUES ($1, $2, $3)
    ON CONFLICT (task, sequence) DO UPDATE SET data = excluded.data
"""
_LATEST: Final = "SELECT data FROM {0}.checkpoint WHERE task = $1 ORDER BY sequence DESC LIMIT 1"


class OnServer(Subject):
    """A subject with a schema, which each round creates anew."""

    def __init__(self, folder: Path, keys: int) -> None:
        super().__init__(folder, keys)
        digest = hashlib.sha1(str(self.folder).encode(), usedforsecurity=False).hexdigest()
        self.schema: Final = f"goscope_bench_{digest[:12]}"

    async def create(self, tables: str = "") -> None:
        await self.drop()
        await self._execute(f"CREATE SCHEMA {self.schema}; {tables.format(self.schema)}")

    async def drop(self) -> None:
        await self._execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")

    async def _execute(self, sql: str) -> None:
        try:
            connection = await asyncpg.connect(URL)
        except OSError as exc:
            raise SubjectUnavailable(f"no PostgreSQL server ({exc})") from exc
        await connection.execute(sql)
        await connection.close()


class AsyncpgPool(OnServer):
    name = "asyncpg"
    about = f"asyncpg.create_pool() with {CONNECTIONS} connections, the same round trips"
    packages = ("asyncpg",)

    async def open(self) -> None:
        await self.create(_TABLES)
        self._pool = await asyncpg.create_pool(URL, min_size=CONNECTIONS, max_size=CONNECTIONS)

    async def close(self) -> None:
        await self._pool.close()
        await self.drop()

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "count_failure": self.count_failure,
            "shared_lock": self.shared_lock,
            "checkpoint": self.checkpoint,
        }

    async def get(self, number: int) -> Any:
        text = await self._pool.fetchval(_GET.format(self.schema), self.key(number))
        return msgspec.json.decode(text)

    async def set(self, number: int) -> None:
        text = msgspec.json.encode(small(number)).decode()
        await self._pool.execute(_SET.format(self.schema), self.key(number), text)

    async def count_failure(self, number: int) -> Any:
        return await self._pool.fetchval(_COUNT.format(self.schema), self.key(number))

    async def shared_lock(self, number: int) -> None:
        key = self.lock_key(number)
        assert await self._pool.fetchval(_LOCK.format(self.schema), key)
        await self._pool.execute(_UNLOCK.format(self.schema), key)

    async def checkpoint(self, number: int) -> Any:
        saved = checkpoint(number)
        text = msgspec.json.encode(saved.data).decode()
        arguments = (saved.task_id, saved.sequence, text)
        await self._pool.execute(_SAVE.format(self.schema), *arguments)
        text = await self._pool.fetchval(_LATEST.format(self.schema), saved.task_id)
        return msgspec.json.decode(text)


class AsyncpgConnection(AsyncpgPool):
    name = "asyncpg connection"
    about = "one connection of asyncpg, which no pool resets; concurrent callers take turns"

    async def open(self) -> None:
        await self.create(_TABLES)
        # With its methods, a connection stands for a pool of one.
        self._pool: Any = await asyncpg.connect(URL)
        self._turn = asyncio.Lock()

    def operations(self) -> Mapping[str, Operation]:
        return {verb: self._in_turn(call) for verb, call in super().operations().items()}

    def _in_turn(self, call: Operation) -> Operation:
        async def in_turn(number: int) -> Any:
            async with self._turn:
                return await call(number)

        return in_turn


class GoscopePostgres(OnServer, GoscopeOnServer):
    name = "goscope postgres"
    about = f"PostgresAdapter(url, pool_size={CONNECTIONS})"
    packages = ("goscope-workspace", "asyncpg", "msgspec")

    def adapter(self) -> BaseAdapter:
        return PostgresAdapter(URL, schema=self.schema, pool_size=CONNECTIONS)
