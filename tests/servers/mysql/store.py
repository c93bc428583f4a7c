"""A store on a server, with its own user, and what an administrator does to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from asyncmy.errors import OperationalError

from goscope_mysql import MySQLAdapter

from . import databases

NO_SUCH_THREAD: Final = 1094


class Store:
    """A database and its user."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.user: Final = name
        self._password: Final = f"secret of {name}"

    def adapter(self, **options: Any) -> MySQLAdapter:
        """An adapter of the store's user, with the clock of the server."""
        own: dict[str, Any] = {
            "database": self.name,
            "user": self.user,
            "password": self._password,
        }
        return MySQLAdapter(**{**databases.server_options(), **own, **options})

    async def create_user(self) -> None:
        """Create the user, with every privilege on the database."""
        async with databases.session() as other:
            await other.query(f"DROP USER IF EXISTS {self.user}@'%'")
            await other.query(f"CREATE USER {self.user}@'%' IDENTIFIED BY '{self._password}'")
            await other.query(f"GRANT ALL ON {self.name}.* TO {self.user}@'%'")

    async def drop_user(self) -> None:
        """End the connections of the user, and drop it."""
        await self.end_connections()
        async with databases.session() as other:
            await other.query(f"DROP USER {self.user}@'%'")

    async def administrate(self, sql: str) -> None:
        """Run SQL as the administrator; ``{user}`` and ``{name}`` stand for the store's."""
        async with databases.session(database=self.name) as other:
            await other.query(sql.format(user=f"{self.user}@'%'", name=self.name))

    async def end_connections(self, what: str = "CONNECTION") -> None:
        """End every connection of the user, or only its statement (``what="QUERY"``)."""
        async with databases.session() as other:
            for (number,) in await other.query(
                "SELECT id FROM information_schema.processlist WHERE user = %s", self.user
            ):
                try:
                    await other.query(f"KILL {what} {number}")
                except OperationalError as exc:
                    if exc.args[0] != NO_SUCH_THREAD:  # it has ended since it was listed
                        raise

    async def running(self) -> list[str]:
        """The statements that the user's connections run."""
        async with databases.session() as other:
            rows = await other.query(
                "SELECT info FROM information_schema.processlist "
                "WHERE user = %s AND command <> 'Sleep'",
                self.user,
            )
        return [row[0] or "" for row in rows]

    async def until_blocked(self, count: int = 1) -> None:
        """Return when that many connections of the user run a statement."""
        async with asyncio.timeout(30):
            while len(await self.running()) < count:  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.005)

    async def until_disconnected(self) -> None:
        """Return when the server has forgotten the closed connections of the user."""
        async with databases.session() as other, asyncio.timeout(30):
            while await other.query(  # noqa: ASYNC110  # the server tells nobody
                "SELECT 1 FROM information_schema.processlist WHERE user = %s", self.user
            ):
                await asyncio.sleep(0.005)

    async def open_transactions(self) -> int:
        """How many transactions are open in this server for longer than this statement."""
        async with databases.session() as other:
            [(count,)] = await other.query(
                "SELECT COUNT(*) FROM information_schema.innodb_trx AS t "
                "JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id "
                "WHERE p.user = %s",
                self.user,
            )
        return int(count)

    @asynccontextmanager
    async def locked_row(self, table: str, condition: str) -> AsyncGenerator[databases.Session]:
        """A transaction of somebody else that holds the row."""
        async with databases.session(database=self.name, autocommit=False) as other:
            rows = await other.query(f"SELECT 1 FROM goscope_{table} WHERE {condition} FOR UPDATE")
            assert rows, "there is no such row to lock"
            yield other
            await other.query("ROLLBACK")

    def locked_entry(self, key: str) -> Any:
        """`locked_row` of a cache entry."""
        return self.locked_row("cache", f"`key` = 'cache:{key}'")
