"""A process that imports and charges until all is done, to be killed at any moment."""

from __future__ import annotations

import asyncio
import random
import secrets
import sqlite3
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from goscope import Outcome, Scope, TaskAlreadyRunning, TaskContext

ROWS: Final = 3
"""The rows of one import, each of them a batch."""

TABLES: Final = (
    "CREATE TABLE imported (import INTEGER NOT NULL, row INTEGER NOT NULL)",
    "CREATE TABLE charged (charge INTEGER NOT NULL, receipt TEXT NOT NULL)",
)


class Worker:
    """Imports and charges in random order. With ``planted``, rows are committed on their own."""

    def __init__(self, gs: Scope, planted: bool) -> None:
        self._gs = gs
        self._planted = planted

    async def work(self, operations: int) -> None:
        """Do every operation; one that another process is doing, later."""
        pending = list(range(operations))
        random.shuffle(pending)
        while pending:
            number = pending.pop()
            await self._charge(number)
            if not await self._import(number):
                pending.insert(0, number)

    async def _charge(self, number: int) -> None:
        async def body() -> Outcome[str] | str:
            receipt = secrets.token_hex(4)
            insert = _insert("charged", number, receipt)
            if self._planted:
                await self._gs.transaction(insert)
                return receipt
            return Outcome(receipt, within=insert)

        await self._gs.idempotency.run(f"charge:{number}", body, type=str)

    async def _import(self, number: int) -> bool:
        async def body(task: TaskContext[int]) -> None:
            begin = task.checkpoint.data
            if begin is None and await self._gs.transaction(_count(number)) == ROWS:
                return  # it was finished, and its process died before it could know
            for row in range(begin or 0, ROWS):
                insert = _insert("imported", number, row)
                if self._planted:
                    await self._gs.transaction(insert)
                    await task.checkpoint.save(row + 1)
                else:
                    await task.checkpoint.save(row + 1, within=insert)

        try:
            await self._gs.tasks.run(f"import:{number}", body, type=int, wait=0)
        except TaskAlreadyRunning:
            return False
        return True


def work(path: str, operations: int, planted: bool, starter: Connection) -> None:
    """Open the file, wait for the start, and work until every operation is done."""

    async def main() -> None:
        async with Scope(backend="sqlite", path=path) as gs:
            starter.send(None)
            starter.recv()
            await Worker(gs, planted).work(operations)

    asyncio.run(main())


async def create_tables(path: str) -> None:
    """Create the tables of the worker, in the same file as goscope's."""

    def create(connection: sqlite3.Connection) -> None:
        for statement in TABLES:
            connection.execute(statement)

    async with Scope(backend="sqlite", path=path) as gs:
        await gs.transaction(create)


def _insert(table: str, *values: object) -> Callable[[sqlite3.Connection], Any]:
    return lambda connection: connection.execute(f"INSERT INTO {table} VALUES (?, ?)", values)


def _count(number: int) -> Callable[[sqlite3.Connection], int]:
    def count(connection: sqlite3.Connection) -> int:
        sql = "SELECT count(*) FROM imported WHERE import = ?"
        found: int = connection.execute(sql, (number,)).fetchone()[0]
        return found

    return count
