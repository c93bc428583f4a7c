"""The `Database` over aiosqlite: one writer connection with group commit, and the readers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Generator
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeAlias, cast

import aiosqlite

from goscope._tools.loop_budget import LoopBudget
from goscope.errors import BackendUnavailable

from .base import BaseDatabase
from .batch import Batch, WriteQueue
from .connection import Settings, prepare_writer
from .exit import forget, stop_at_exit
from .file import MEMORY
from .reader import Reader, Reads
from .starvation_guard import Lender

MAX_ROWS: Final = 512
MAX_SECONDS: Final = 0.02
"""The most rows of one batch, and the seconds of work after which it is committed."""

GATHER_FROM: Final = 4
GATHER_TO: Final = 64
GATHER_SECONDS: Final = 0.008
"""After a batch of so many writes, how many the next one waits for while others wait to read, and
for how long at most."""

Job: TypeAlias = Callable[[sqlite3.Connection], object]
"""Something to do in the writer's thread."""


class JobConnection(sqlite3.Connection):
    """A connection that runs jobs where others run scripts: aiosqlite needs one hop for either."""

    def executescript(self, job: str | Job, /) -> sqlite3.Cursor:
        if isinstance(job, str):
            return super().executescript(job)
        job(self)
        return self.cursor()


class AiosqliteDatabase(BaseDatabase):
    """A `Database` whose writes run in aiosqlite's thread."""

    def __init__(self, name: str, settings: Settings, reads: Reads) -> None:
        self._reads: Reads = reads
        super().__init__(name, settings)

    def _reset(self) -> None:
        super()._reset()
        self._writer: aiosqlite.Connection | None = None
        self._budget = LoopBudget()
        self._last_size = 0
        self._gather_until = 0.0

    def _new_queue(self) -> WriteQueue:
        return WriteQueue(MAX_ROWS, MAX_SECONDS, merges=True)

    async def _open(self) -> str:
        self._lender = Lender()  # its timer may have been that of another loop
        with self._lender.watching():
            store_id = await self._open_writer()
        if self._path != MEMORY:
            reader = Reader(self._path, self._reads, self._settings.busy_timeout_s, self._budget)
            await self._open_reader(reader)
        return store_id

    async def _open_writer(self) -> str:
        connecting = aiosqlite.connect(
            self._path,
            factory=JobConnection,
            isolation_level=None,
            timeout=self._settings.busy_timeout_s,
        )
        self._writer = await connecting
        stop_at_exit(self._writer)
        store_id = ""

        def prepare(connection: sqlite3.Connection) -> None:
            nonlocal store_id
            store_id = prepare_writer(connection, self._path, self._settings)

        await self._writer.executescript(cast(str, prepare))
        return store_id

    async def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            forget(writer)
            with self._lender.watching():
                await writer.close()

    # --- writing -----------------------------------------------------------------------------

    def _start_draining(self, loop: asyncio.AbstractEventLoop) -> None:
        self._draining = loop.create_future()
        if self._last_size > 1:  # then others submit in this turn too, and share the commit
            loop.call_soon(self._drain)
        else:
            self._drain()

    def _drain(self) -> None:
        """Run what is queued, batch by batch; what is submitted meanwhile forms the next one.

        From callback to callback, without a task: each turn of the loop between a write and its
        caller gives the interpreter away once more, and waits until it comes back.
        """
        self._gather_until = perf_counter() + GATHER_SECONDS
        self._gather()

    def _gather(self) -> None:
        """Send the next batch, but not before those who wait to read: many will write after it.

        A batch makes the loop and the thread compete for the interpreter, whether it is large or
        small, and each commit empties the cache of the connection that reads.
        """
        if (
            self._last_size >= GATHER_FROM
            and self._budget.has_waiters
            and len(self._queue) < GATHER_TO
            and perf_counter() < self._gather_until
        ):
            asyncio.get_running_loop().call_soon(self._gather)
        else:
            self._send()

    def _send(self) -> None:
        if batch := self._queue.next_batch():
            self._run(batch.run, partial(self._after_batch, batch))
        elif self._draining is not None:
            draining, self._draining = self._draining, None
            draining.set_result(None)

    def _after_batch(self, batch: Batch, failure: Exception | None) -> None:
        if failure is not None:
            batch.fail(_stopped(self._name, failure))
        if batch.blocked is not None:
            batch.fail(batch.blocked)  # the connection itself has waited
        self._last_size = batch.size
        self._resolve(batch)
        if self._checkpointer is not None and self._checkpointer.is_due():
            self._run(self._checkpointer.run, self._after_checkpoint)
        elif batch.size > 1:
            # After its callers have gone on: what they want now decides how long to gather.
            asyncio.get_running_loop().call_soon(self._drain)
        else:
            self._drain()

    def _after_checkpoint(self, _: Exception | None) -> None:
        self._drain()  # if the process ends, another one will move the log

    def _run(self, job: Job, then: Callable[[Exception | None], None]) -> None:
        """Run the job in the thread, and then tell what kept it from being run, in the loop."""

        def run(connection: sqlite3.Connection) -> None:
            self._lender.run(job, connection)

        def back(_: asyncio.Future[object]) -> None:
            self._lender.returned()
            then(_outcome(steps))

        writer = cast(aiosqlite.Connection, self._writer)
        steps = writer.executescript(cast(str, run)).__await__()
        try:
            hop: asyncio.Future[object] = next(steps)  # the job is queued for the thread by now
        except Exception as exc:  # the thread was stopped because the process ends
            then(exc)
            return
        self._lender.sent()
        hop.add_done_callback(back)


def _outcome(steps: Generator[Any, Any, Any]) -> Exception | None:
    """Finish an awaitable that has nothing left to wait for; its error if it has one."""
    try:
        next(steps)
    except StopIteration:
        return None
    except Exception as exc:
        return exc
    raise AssertionError("one hop to the thread is all there is to wait for")


def _stopped(name: str, cause: Exception) -> BackendUnavailable:
    error = BackendUnavailable(
        f"{name}: its thread was stopped because the process ends, and the write did not happen. "
        f"Disconnect the adapter before the event loop is closed"
    )
    error.__cause__ = cause
    return error
