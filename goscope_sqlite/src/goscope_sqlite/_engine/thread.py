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
from .exit import stop_at_exit, unregister
from .file import MEMORY
from .reader import Reader, Reads
from .starvation_guard import GilStarvationGuard

MAX_BATCH_ROWS: Final = 512
MAX_BATCH_S: Final = 0.02
"""The most rows of one batch, and the seconds of work after which it is committed."""

COMMIT_SIBLINGS: Final = 4
MAX_DELAYED_WRITES: Final = 64
COMMIT_DELAY_S: Final = 0.008
"""After a batch of at least so many writes, while readers wait, the next batch is delayed until the
queue has this length, or for this long at most."""

WriterCall: TypeAlias = Callable[[sqlite3.Connection], object]
"""A call that the writer's thread makes with its connection."""


class WriterConnection(sqlite3.Connection):
    """A connection whose ``executescript`` also accepts a call, and makes it.

    aiosqlite passes the argument through, and needs one thread round trip for either.
    """

    def executescript(self, call: str | WriterCall, /) -> sqlite3.Cursor:
        if isinstance(call, str):
            return super().executescript(call)
        call(self)
        return self.cursor()


class ThreadDatabase(BaseDatabase):
    """A `Database` whose writes run in aiosqlite's thread."""

    def __init__(self, name: str, settings: Settings, reads: Reads) -> None:
        self._reads: Reads = reads
        super().__init__(name, settings)

    def _reset(self) -> None:
        super()._reset()
        self._writer: aiosqlite.Connection | None = None
        self._budget = LoopBudget()
        self._last_batch_size = 0
        self._delay_until = 0.0

    def _new_queue(self) -> WriteQueue:
        return WriteQueue(MAX_BATCH_ROWS, MAX_BATCH_S, merges=True)

    async def _open(self) -> str:
        self._guard = GilStarvationGuard()  # a new one: its timer belongs to one event loop
        with self._guard.watch():
            store_id = await self._open_writer()
        if self._path != MEMORY:
            reader = Reader(self._path, self._reads, self._settings.busy_timeout_s, self._budget)
            await self._open_reader(reader)
        return store_id

    async def _open_writer(self) -> str:
        connecting = aiosqlite.connect(
            self._path,
            factory=WriterConnection,
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
            unregister(writer)
            with self._guard.watch():
                await writer.close()

    # --- writing -----------------------------------------------------------------------------

    def _start_draining(self, loop: asyncio.AbstractEventLoop) -> None:
        self._draining = loop.create_future()
        if self._last_batch_size > 1:  # others probably submit in this tick too: share the commit
            loop.call_soon(self._drain)
        else:
            self._drain()

    def _drain(self) -> None:
        """Run the queued writes, batch by batch, until the queue is empty.

        With callbacks and no task: each tick between a write and its caller releases the GIL once
        more, and waits to get it back.
        """
        self._delay_until = perf_counter() + COMMIT_DELAY_S
        self._delay_commit()

    def _delay_commit(self) -> None:
        """Run the next batch, but let waiting readers run first: many of them write next.

        A batch makes the loop and the thread compete for the GIL whatever its size, and each commit
        empties the page cache of the connection that reads. Beside 64 callers that read and
        sometimes write, batches without the delay had seven writes.
        """
        if (
            self._last_batch_size >= COMMIT_SIBLINGS
            and self._budget.has_waiters
            and len(self._queue) < MAX_DELAYED_WRITES
            and perf_counter() < self._delay_until
        ):
            asyncio.get_running_loop().call_soon(self._delay_commit)
        else:
            self._run_next_batch()

    def _run_next_batch(self) -> None:
        if batch := self._queue.next_batch():
            self._call_in_thread(batch.run, partial(self._after_batch, batch))
        elif self._draining is not None:
            draining, self._draining = self._draining, None
            draining.set_result(None)

    def _after_batch(self, batch: Batch, failure: Exception | None) -> None:
        if failure is not None:
            batch.fail(_stopped(self._name, failure))
        if batch.blocked is not None:
            batch.fail(batch.blocked)  # no retry: SQLite has waited for the whole busy timeout
        self._last_batch_size = batch.size
        self._resolve(batch)
        if self._checkpointer is not None and self._checkpointer.is_due():
            self._call_in_thread(self._checkpointer.run, self._after_checkpoint)
        elif batch.size > 1:
            # In the next tick, after the callers of this batch have resumed: whether they read or
            # write decides about the delay. Beside 64 callers that do both, running the next batch
            # at once left half of all commits with seven writes or fewer.
            asyncio.get_running_loop().call_soon(self._drain)
        else:
            self._drain()

    def _after_checkpoint(self, _: Exception | None) -> None:
        self._drain()  # without the thread, another process checkpoints the WAL

    def _call_in_thread(self, call: WriterCall, done: Callable[[Exception | None], None]) -> None:
        """Make the call in the thread, then call ``done`` in the loop.

        It gets the error if the call could not be made, else None.
        """

        def guarded(connection: sqlite3.Connection) -> None:
            self._guard.run(call, connection)

        def on_done(_: asyncio.Future[object]) -> None:
            self._guard.job_finished()
            done(_finish(coroutine))

        writer = cast(aiosqlite.Connection, self._writer)
        # aiosqlite's coroutine awaits one future. Driving it here saves a task, and thus a tick.
        coroutine = writer.executescript(cast(str, guarded)).__await__()
        try:
            round_trip: asyncio.Future[object] = next(coroutine)  # this queues the call
        except Exception as exc:  # the thread was stopped because the process exits
            done(exc)
            return
        self._guard.job_submitted()
        round_trip.add_done_callback(on_done)


def _finish(coroutine: Generator[Any, Any, Any]) -> Exception | None:
    """Run a coroutine whose only future is done to its end. Return its error, if any."""
    try:
        next(coroutine)
    except StopIteration:
        return None
    except Exception as exc:
        return exc
    raise AssertionError("aiosqlite awaited a second future")


def _stopped(name: str, cause: Exception) -> BackendUnavailable:
    error = BackendUnavailable(
        f"{name}: its thread was stopped because the process exits, and the write was not applied. "
        f"Disconnect the adapter before closing the event loop"
    )
    error.__cause__ = cause
    return error
