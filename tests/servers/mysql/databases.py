"""Databases for tests on the MySQL or MariaDB server of GOSCOPE_TEST_MYSQL_URL.

Creating tables takes as long as dozens of tests, so a process uses a few databases in turn and
empties them. A file in the folder of a store names its database: child processes read it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncmy

from goscope.backend import Clock, SystemClock
from goscope_mysql import MySQLAdapter
from goscope_mysql.adapter import options_from_url

URL: Final = os.environ.get("GOSCOPE_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/test")

COUNT: Final = 3
"""How many databases a process uses: a test may compare two stores."""

_driver: Any = asyncmy
_numbers: Final = itertools.count()
_created: Final[set[str]] = set()


def server_options() -> dict[str, Any]:
    """The options of an adapter for the server, without the database."""
    options = dict(options_from_url(urlsplit(URL)))
    del options["database"]
    return options


class Session:
    """A connection of somebody else, outside of goscope."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement, with ``%s`` for each parameter. Return its rows."""
        cursor = self._connection.cursor()
        await cursor.execute(sql, parameters or None)
        return list(await cursor.fetchall()) if cursor.description else []


@asynccontextmanager
async def session(**options: Any) -> AsyncGenerator[Session]:
    """A session in autocommit mode, of the administrator unless the options say otherwise."""
    connection = await _driver.connect(**{**server_options(), "autocommit": True, **options})
    try:
        yield Session(connection)
    finally:
        await connection.ensure_closed()


async def database_of(folder: Path) -> str:
    """The name of the database of a folder, which is empty at the first call for the folder."""
    if (noted := _read_note(folder)) is not None:
        return noted
    name = f"goscope_test_{os.getpid()}_{next(_numbers) % COUNT}"
    if name in _created:
        await _empty(name)
    else:
        async with session() as other:
            await other.query(f"CREATE DATABASE `{name}`")
        _created.add(name)
    _write_note(folder, name)
    return name


async def adapter_on(folder: Path, *, clock: Clock, **options: Any) -> MySQLAdapter:
    """An adapter on the store of the folder, not connected yet."""
    followed = None if isinstance(clock, SystemClock) else clock
    own: dict[str, Any] = {"database": await database_of(folder), "clock": followed}
    return MySQLAdapter(**{**server_options(), **own, **options})


async def drop_all() -> None:
    """Drop the databases that this process has created."""
    async with session() as other:
        for name in sorted(_created):
            await other.query(f"DROP DATABASE IF EXISTS `{name}`")
    _created.clear()


async def _empty(name: str) -> None:
    async with session(database=name) as other:
        for (table,) in await other.query("SHOW TABLES"):
            if table == "goscope_meta":
                # Another store, whose tokens grow on.
                await other.query("UPDATE goscope_meta SET value = UUID() WHERE name = 'store_id'")
            elif not table.startswith("goscope_"):  # of a test with another prefix
                await other.query(f"DROP TABLE `{table}`")
            else:
                await other.query(f"DELETE FROM `{table}`")


def _read_note(folder: Path) -> str | None:
    try:
        return (folder / "database").read_text()
    except FileNotFoundError:
        return None


def _write_note(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "database").write_text(name)
