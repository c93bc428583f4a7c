"""goscope and its driver on the MySQL or MariaDB server at GOSCOPE_TEST_MYSQL_URL."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import asyncmy
import msgspec
from asyncmy.errors import OperationalError

from goscope.backend import BaseAdapter
from goscope_mysql import MySQLAdapter
from goscope_mysql.adapter import options_from_url

from ..subject import Operation, Subject, SubjectUnavailable
from ..values import checkpoint, large, small
from .goscope_backends import GoscopeOnServer

URL: Final = os.environ.get("GOSCOPE_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/test")
CONNECTIONS: Final = 10

_NOW: Final = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
_GET: Final = f"""
    SELECT value FROM goscope_cache
    WHERE `key` = %s AND (expires_at IS NULL OR expires_at > {_NOW})
"""
_SET: Final = f"""
    REPLACE INTO goscope_cache (`key`, value, expires_at, kept_until, tagging, created_at)
    VALUES (%s, %s, {_NOW} + 3600000000, {_NOW} + 3600000000, NULL, {_NOW})
"""
_FAILURE: Final = f"""
    INSERT INTO goscope_circuits VALUES (%s, 'closed', LAST_INSERT_ID(1), {_NOW}, NULL, 0, {_NOW})
    ON DUPLICATE KEY UPDATE failure_count = LAST_INSERT_ID(failure_count + 1),
        last_failure_time = {_NOW}, updated_at = {_NOW}
"""
_TAKE: Final = f"""
    INSERT INTO goscope_leases
    VALUES (%s, LAST_INSERT_ID({_NOW}), {_NOW}, 'me', 'here', 1, 1, {_NOW}, {_NOW} + 30000000)
    ON DUPLICATE KEY UPDATE
        token = IF(expires_at <= {_NOW}, LAST_INSERT_ID({_NOW}), token + LAST_INSERT_ID(0)),
        expires_at = IF(expires_at <= {_NOW}, {_NOW} + 30000000, expires_at)
"""
_RELEASE: Final = (
    "UPDATE goscope_leases SET token = 0, expires_at = 0 WHERE `key` = %s AND token = %s"
)
_SAVE: Final = f"""
    INSERT INTO goscope_checkpoints
    VALUES (%s, %s, %s, 1, 50, %s, NULL, {_NOW})
"""
_LATEST: Final = """
    SELECT data FROM goscope_checkpoints WHERE task_id = %s ORDER BY sequence DESC LIMIT 1
"""

# The driver's annotations are partial.
_driver: Any = asyncmy


class _OnMySQL(Subject):
    """A subject with its own database, which is dropped when it closes."""

    def __init__(self, folder: Path, keys: int) -> None:
        super().__init__(folder, keys)
        digest = hashlib.sha1(str(self.folder).encode(), usedforsecurity=False).hexdigest()
        self.options: Final[dict[str, Any]] = {
            **options_from_url(urlsplit(URL)),
            "database": f"goscope_bench_{digest[:12]}",
        }

    def new_adapter(self) -> MySQLAdapter:
        return MySQLAdapter(**self.options, max_connections=CONNECTIONS, sweep_interval="1h")

    async def create(self) -> None:
        """Create the database."""
        await self._administrate("CREATE DATABASE IF NOT EXISTS `{}`")

    async def drop(self) -> None:
        """Drop the database."""
        await self._administrate("DROP DATABASE `{}`")

    async def _administrate(self, sql: str) -> None:
        options = {**self.options, "database": None}
        try:
            connection = await _driver.connect(**options, autocommit=True)
        except OperationalError as exc:
            raise SubjectUnavailable(f"no server: {exc}") from exc
        await connection.query(sql.format(self.options["database"]))
        await connection.ensure_closed()


class Asyncmy(_OnMySQL):
    """asyncmy with as many statements as goscope's calls take round trips."""

    packages: ClassVar[tuple[str, ...]] = ("asyncmy",)
    name = "asyncmy"
    about = f"asyncmy with a pool of {CONNECTIONS} connections, autocommit, msgspec"

    async def open(self) -> None:
        await self.create()
        async with self.new_adapter():
            pass  # it creates the tables
        self._pool: Any = await _driver.create_pool(
            **self.options,
            autocommit=True,
            minsize=1,
            maxsize=CONNECTIONS,
            init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        )
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    async def close(self) -> None:
        self._pool.close()
        await self._pool.wait_closed()
        await self.drop()

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "count_failure": self.count_failure,
            "checkpoint": self.checkpoint,
            "shared_lock": self.shared_lock,
        }

    async def get(self, number: int) -> Any:
        rows = await self._rows(_GET, f"cache:{self.key(number)}")
        return self._decode(rows[0][0]) if rows else None

    async def set(self, number: int) -> None:
        text = self._encode(small(number)).decode()
        await self._run(_SET, f"cache:{self.key(number)}", text)

    async def count_failure(self, number: int) -> Any:
        return await self._run(_FAILURE, f"circuit:{self.key(number)}")

    async def checkpoint(self, number: int) -> Any:
        saved = checkpoint(number)
        text = self._encode(large(number)).decode()
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await connection.begin()
            await cursor.execute(_SAVE, (saved.id, saved.task_id, saved.sequence, text))
            await connection.commit()
        return self._decode((await self._rows(_LATEST, saved.task_id))[0][0])

    async def shared_lock(self, number: int) -> None:
        key = f"lock:{self.lock_key(number)}"
        token = await self._run(_TAKE, key)
        await self._run(_RELEASE, key, token)

    async def _rows(self, sql: str, *parameters: object) -> Any:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(sql, parameters)
            return await cursor.fetchall()

    async def _run(self, sql: str, *parameters: object) -> int:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(sql, parameters)
            found: int = cursor.lastrowid
            return found


class GoscopeMySQL(_OnMySQL, GoscopeOnServer):
    name = "goscope mysql"
    about = f"MySQLAdapter(..., max_connections={CONNECTIONS})"
    packages = ("goscope-workspace", "asyncmy", "msgspec")

    def adapter(self) -> BaseAdapter:
        return self.new_adapter()
