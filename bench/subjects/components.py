"""Single components of goscope, measured separately to show where its time is spent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, NamedTuple

from goscope.backend import StoreContext, SystemClock
from goscope_sqlite.engine import Row
from goscope_sqlite.providers import (
    SQLiteCacheProvider,
    SQLiteCheckpointProvider,
    SQLiteCircuitBreakerStateProvider,
    SQLiteLockProvider,
)

from ..internals import InlineDatabase
from ..sql import FAILURE, GET, SET
from ..subject import Operation
from ..values import checkpoint, small
from .baseline import Bare, Baseline, ReaderBaseline

WRITES_PER_TRANSACTION: Final = 64
HOUR_MS: Final = 3_600_000
NEVER: Final = 1_000_000_000


class TwoConnections(Baseline):
    """Reads on a connection whose page cache each commit of the writer invalidates."""

    name = "two connections"
    about = "component of goscope sqlite: bare sqlite3, separate read connection with 16 MiB"

    async def open(self) -> None:
        await super().open()
        self._reader = self._connect()
        self._reader.execute(f"PRAGMA cache_size = -{ReaderBaseline.cache_kib}").fetchall()
        self._read = self._reader.cursor().execute

    async def close(self) -> None:
        self._reader.close()
        await super().close()

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get, "set": self.set}

    def get(self, number: int) -> Any:
        rows = self._read(GET, (f"cache:{self.key(number)}", time.time())).fetchall()
        return self._decode(rows[0][0]) if rows else None


class SharedTransactions(Baseline):
    """Writes that share a transaction, as the writes of a batch do."""

    name = f"{WRITES_PER_TRANSACTION} per transaction"
    about = (
        f"component of goscope sqlite: bare sqlite3, {WRITES_PER_TRANSACTION} writes per "
        "transaction, no get_state"
    )

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
        elif number % WRITES_PER_TRANSACTION == 0:
            self._execute("COMMIT")
            self._execute("BEGIN IMMEDIATE")


class WriterThread(TwoConnections):
    """Two connections, the writer in a thread that commits all queued writes together."""

    name = "writer thread"
    about = "component of goscope sqlite: two connections, batched writes in a thread"
    is_async = True

    async def open(self) -> None:
        await super().open()
        self._loop = asyncio.get_running_loop()
        self._queued: list[_Statement] = []
        self._busy = False
        self._batches: SimpleQueue[list[_Statement] | None] = SimpleQueue()
        self._thread = Thread(target=self._run)
        self._thread.start()

    async def close(self) -> None:
        self._batches.put(None)
        self._thread.join()
        await super().close()

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.read, "set": self.write, "count_failure": self.count}

    async def read(self, number: int) -> Any:
        return self.get(number)

    async def write(self, number: int) -> None:
        await self._submit(SET, self.row(number))

    async def count(self, number: int) -> Any:
        now = time.time_ns() // 1_000_000
        return (await self._submit(FAILURE, (f"circuit:{self.key(number)}", now)))[0][0]

    def _submit(self, sql: str, parameters: Sequence[Any]) -> asyncio.Future[list[Row]]:
        done: asyncio.Future[list[Row]] = self._loop.create_future()
        self._queued.append(_Statement(sql, parameters, done))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._send)  # the batch includes all writes of this tick
        return done

    def _send(self) -> None:
        self._busy = bool(self._queued)
        if self._queued:
            batch, self._queued = self._queued, []
            self._batches.put(batch)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            self._execute("BEGIN IMMEDIATE")
            found = [self._execute(each.sql, each.parameters).fetchall() for each in batch]
            self._execute("COMMIT")
            self._loop.call_soon_threadsafe(self._resolve, batch, found)

    def _resolve(self, batch: list[_Statement], found: list[list[Row]]) -> None:
        for each, rows in zip(batch, found, strict=True):
            each.done.set_result(rows)
        self._send()


class _Statement(NamedTuple):
    sql: str
    parameters: Sequence[Any]
    done: asyncio.Future[list[Row]]


class ProvidersOnly(Bare):
    """goscope's checks and SQL, without its write queue, its thread and its loop budget."""

    name = "providers only"
    about = "component of goscope sqlite: its providers on one bare connection, no batches"
    is_async = True

    async def open(self) -> None:
        await super().open()
        database = InlineDatabase(self._connection)
        context = StoreContext(clock=SystemClock(), store_id="bench")
        self._locks = SQLiteLockProvider(context, database, "lock")
        self._cache = SQLiteCacheProvider(
            context, database, self._locks.notifier, on_written=lambda _: None
        )
        self._circuits = SQLiteCircuitBreakerStateProvider(context, database)
        self._checkpoints = SQLiteCheckpointProvider(context, database)

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
        handle = await self._locks.acquire(self.lock_key(number))
        assert handle is not None
        await handle.release()
