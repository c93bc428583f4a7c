"""goscope's write queues, measured with the statements of the baseline."""

from __future__ import annotations

import sqlite3
import time
from abc import abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite.engine import Row

from ..internals import Engine
from ..sql import CHECKPOINT, FAILURE, LATEST, RELEASE, SET
from ..subject import Operation
from .baseline import Baseline


class _QueueOnly(Baseline):
    """What every write of goscope adds to its statement.

    A future that defers cancellation, group commit, a separate error per write, the loop budget,
    and WAL checkpoints outside the event loop.
    """

    is_async = True

    @abstractmethod
    def adapter(self) -> SQLiteAdapter | BunSQLiteAdapter:
        """Return the adapter that owns the queue, not connected yet."""

    async def open(self) -> None:
        await super().open()
        self._adapter = self.adapter()
        await self._adapter.connect()
        self._engine = Engine(self._adapter)

    async def close(self) -> None:
        await self._adapter.disconnect()
        await super().close()

    def operations(self) -> Mapping[str, Operation]:
        return {
            "set": self.write,
            "count_failure": self.count_failure,
            "checkpoint": self.save_and_load,
            "shared_lock": self.lock,
        }

    def write(self, number: int) -> Awaitable[Any]:
        return self._submit(SET, self.row(number))

    def count_failure(self, number: int) -> Awaitable[Any]:
        now = time.time_ns() // 1_000_000
        return self._submit(FAILURE, (f"circuit:{self.key(number)}", now))

    async def save_and_load(self, number: int) -> Any:
        task, row = self.checkpoint_row(number)
        await self._submit(CHECKPOINT, row)
        found = await self._engine.read_one(LATEST, (task,))
        assert found is not None
        return self._decode(found[0])

    async def lock(self, number: int) -> None:
        key = f"lock:{self.lock_key(number)}"
        token = await self._engine.submit(lambda connection: self.take(connection.execute, key))
        await self._submit(RELEASE, (key, token))

    def _submit(self, sql: str, parameters: Sequence[Any]) -> Awaitable[list[Row]]:
        def work(connection: sqlite3.Connection) -> list[Row]:
            return connection.execute(sql, parameters).fetchall()

        return self._engine.submit_autocommit(work)


class QueueOnly(_QueueOnly):
    """The queue of the writer thread."""

    name = "queue only"
    about = "component of goscope sqlite: its write queue and thread, statements of sqlite3"

    def adapter(self) -> SQLiteAdapter:
        return SQLiteAdapter(self.path, writes="thread")


class InLoopQueueOnly(_QueueOnly):
    """The queue in the event loop."""

    name = "in-loop queue only"
    about = "component of goscope sqlite-bun: its write queue, statements of sqlite3"

    def adapter(self) -> BunSQLiteAdapter:
        return BunSQLiteAdapter(self.path)
