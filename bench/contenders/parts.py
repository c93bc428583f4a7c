"""Parts of what goscope does, each alone: they compete with nobody, but tell where time goes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from goscope.backend import StoreContext, SystemClock
from goscope_sqlite.database import Row
from goscope_sqlite.providers import (
    SQLiteCacheProvider,
    SQLiteCheckpointProvider,
    SQLiteCircuitBreakerStateProvider,
    SQLiteLockProvider,
)

from ..contender import Operation
from ..sql import FAILURE, GET
from ..value import checkpoint, small
from .limit import Bare, Limit, LimitOfReaders

T = TypeVar("T")

AT_ONCE: Final = 64
HOUR_MS: Final = 3_600_000
NEVER: Final = 1_000_000_000


class TwoConnections(Limit):
    """Reads on a connection that forgets its pages whenever the writing one has committed."""

    name = "two connections"
    about = "part of goscope sqlite: bare sqlite3 whose reads have a connection of 16 MiB"

    async def open(self) -> None:
        await super().open()
        self._reader = self._connect()
        self._reader.execute(f"PRAGMA cache_size = -{LimitOfReaders.cache_kib}").fetchall()
        self._read = self._reader.cursor().execute

    async def close(self) -> None:
        self._reader.close()
        await super().close()

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get, "set": self.set}

    def get(self, number: int) -> Any:
        rows = self._read(GET, (f"cache:{self.key(number)}", time.time())).fetchall()
        return self._decode(rows[0][0]) if rows else None


class SharedTransactions(Limit):
    """What the callers of one batch share."""

    name = f"{AT_ONCE} a transaction"
    about = f"part of goscope sqlite: bare sqlite3, {AT_ONCE} writes a transaction, no state read"

    async def close(self) -> None:
        if self._connection.in_transaction:
            self._execute("COMMIT")
        await super().close()

    def operations(self) -> Mapping[str, Operation]:
        return {"set": self.set, "count_failure": self.count_failure}

    def set(self, number: int) -> None:
        self._share_transaction(number)
        super().set(number)

    def count_failure(self, number: int) -> Any:
        self._share_transaction(number)
        now = time.time_ns() // 1_000_000
        return self._execute(FAILURE, (f"circuit:{self.key(number)}", now)).fetchall()[0][0]

    def _share_transaction(self, number: int) -> None:
        if not self._connection.in_transaction:
            self._execute("BEGIN IMMEDIATE")
        elif number % AT_ONCE == 0:
            self._execute("COMMIT")
            self._execute("BEGIN IMMEDIATE")


class ProvidersAlone(Bare):
    """goscope's checks and SQL, without its queue, its thread and its turns: nothing waits."""

    name = "providers alone"
    about = "part of goscope sqlite: its providers on one bare connection, a transaction a write"
    awaits = True

    async def open(self) -> None:
        await super().open()
        database = _BareDatabase(self._connection)
        context = StoreContext(clock=SystemClock(), store_id="bench")
        self._cache = SQLiteCacheProvider(context, database)
        self._circuits = SQLiteCircuitBreakerStateProvider(context, database)
        self._checkpoints = SQLiteCheckpointProvider(context, database)
        self._locks = SQLiteLockProvider(context, database, "lock")

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "count_failure": self.count_failure,
            "checkpoint": self.checkpoint,
            "shared_lock": self.shared_lock,
        }

    def get(self, number: int) -> Awaitable[Any]:
        return self._cache.get(self.key(number))

    def set(self, number: int) -> Awaitable[None]:
        return self._cache.set(self.key(number), small(number), HOUR_MS)

    def count_failure(self, number: int) -> Awaitable[int]:
        return self._circuits.record_failure(self.key(number), NEVER)

    async def checkpoint(self, number: int) -> Any:
        saved = checkpoint(number)
        await self._checkpoints.save(saved)
        return await self._checkpoints.load_latest(saved.task_id)

    async def shared_lock(self, number: int) -> None:
        handle = await self._locks.acquire(self.key(number))
        assert handle is not None
        await handle.release()


class _BareDatabase:
    """The `Database` that runs everything at once, and has done it when it returns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute

    def submit(
        self, work: Callable[[sqlite3.Connection], T], *, rows: int = 1
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._execute("BEGIN IMMEDIATE")
        done.set_result(work(self._connection))
        self._execute("COMMIT")
        return done

    async def read_one(self, sql: str, parameters: Sequence[Any]) -> Row | None:
        rows = self._execute(sql, parameters).fetchall()
        return rows[0] if rows else None

    async def read_all(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        return self._execute(sql, parameters).fetchall()

    def version(self) -> int | None:
        return None
