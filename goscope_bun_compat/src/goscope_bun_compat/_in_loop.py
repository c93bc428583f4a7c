"""The `Database` that runs its SQL in the event loop, as a program under Bun does."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Final, TypeVar, cast

from goscope._tools.cancellation import finish_before_cancel
from goscope._tools.loop_budget import LoopBudget
from goscope_sqlite.engine import (
    MEMORY,
    BaseDatabase,
    Batch,
    Checkpointer,
    Reader,
    Worker,
    WriteQueue,
    new_write,
    prepare_writer,
)

T = TypeVar("T")

MAX_ROWS: Final = 16
MAX_SECONDS: Final = 0.00025
"""The most of one turn of the loop: a larger write runs in a thread."""

GATHER_SECONDS: Final = 0.008
"""Where so many seconds bring the writes of a batch, they wait for one another while others wait to
read."""

RETRY_SHORTEST: Final = 0.001
RETRY_LONGEST: Final = 0.02
"""Seconds between two attempts while another process holds the write lock."""


class InLoopDatabase(BaseDatabase):
    """A `Database` without a thread, and without a hop, for ordinary work.

    A write that none waits before is committed at once; those of one turn of the loop are
    committed together, and where reads fill the loop, those of some turns. Its connection never
    waits for a lock: when another process holds it, the writes are tried again later and the loop
    goes on. What takes long runs in a thread: writes of many rows, long reads, and the checkpoints
    of the write-ahead log. Other writes wait meanwhile.
    """

    def _reset(self) -> None:
        super()._reset()
        self._writer: sqlite3.Connection | None = None
        self._worker: Worker | None = None
        self._budget = LoopBudget()
        self._submitted = deque([0.0] * MAX_ROWS, MAX_ROWS)
        self._is_log_long = False
        self._is_log_done = False

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        rows: int = 1,
        one_statement: bool = False,
    ) -> asyncio.Future[T]:
        loop = self.check()
        now = perf_counter()
        self._submitted.append(now)
        if (
            self._draining is not None
            or self._is_log_done
            or rows > MAX_ROWS
            or self._budget.exhausted(now)
            or self._may_gather(now)
        ):
            return super().submit(work, rows=rows, one_statement=one_statement)
        write = new_write(work, rows, one_statement, loop)
        self._run(Batch([write], MAX_SECONDS, merges=False))
        if self._queue or self._is_log_long:
            self._start_draining(loop)
        return write

    # --- opening and closing -----------------------------------------------------------------

    def _new_queue(self) -> WriteQueue:
        # A statement of many rows would hold the loop up where each of them is slow to come.
        return WriteQueue(MAX_ROWS, MAX_SECONDS, merges=False)

    async def _open(self) -> str:
        self._worker = Worker("goscope-sqlite-bun")
        store_id = await self._worker.run(self._open_writer)
        if self._path != MEMORY:
            reader = Reader(self._path, "auto", self._settings.busy_timeout_s, self._budget)
            # Reads in the loop use the writer's connection: they find its pages in its cache, and
            # no transaction of it is open there, except under a checkpoint, when nothing changes.
            await self._open_reader(reader, in_loop=self._writer)
        return store_id

    def _open_writer(self) -> str:
        patience = self._settings.busy_timeout_s
        self._writer = sqlite3.connect(
            self._path, timeout=patience, isolation_level=None, check_same_thread=False
        )
        store_id = prepare_writer(self._writer, self._path, self._settings)
        # From here on it is used in the loop, where nothing waits.
        self._writer.execute("PRAGMA busy_timeout = 0").fetchall()
        return store_id

    async def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await self._in_thread(writer.close)  # the last to close moves what is left of the log
        if self._worker is not None:
            self._worker.stop()

    # --- writing -----------------------------------------------------------------------------

    def _start_draining(self, loop: asyncio.AbstractEventLoop) -> None:
        self._draining = loop.create_task(self._drain_to_end())

    async def _drain_to_end(self) -> None:
        try:
            await self._drain()
        finally:
            self._draining = None

    async def _drain(self) -> None:
        """Run what is queued, a batch a turn, also when the loop closes and cancels this."""
        longest = RETRY_SHORTEST
        while True:
            if self._is_log_long:
                await self._checkpoint(cast(Checkpointer, self._checkpointer))
            await self._gather()
            batch = self._queue.next_batch()
            if batch is None:
                return
            if batch.rows > MAX_ROWS or self._is_log_done:
                await self._run_in_thread(batch)
            else:
                self._run(batch)
            if batch.blocked is None:
                longest = RETRY_SHORTEST
                if batch.size > 1 or self._queue:  # else: a lone writer, whose next one is at once
                    await _pause(0)  # the callers go on, in a turn of their own: two short ones
                    await _pause(0)  # hold up others less than a long one does
            else:
                await _pause(longest * random.random())
                longest = min(longest * 2, RETRY_LONGEST)

    async def _gather(self) -> None:
        """Wait for more writes, since a commit costs more than what most of them write."""
        now = perf_counter()
        until = now + GATHER_SECONDS
        while self._may_gather(now) and 0 < len(self._queue) < MAX_ROWS and now < until:
            await _pause(0)
            now = perf_counter()

    def _may_gather(self, now: float) -> bool:
        """Whether others wait to read, and writes come fast enough to fill a batch meanwhile."""
        return self._budget.has_waiters and self._submitted[0] > now - GATHER_SECONDS

    def _run(self, batch: Batch) -> None:
        batch.run(cast(sqlite3.Connection, self._writer))
        if batch.blocked is not None:
            batch.give_up(self._settings.busy_timeout_s)
        self._resolve(batch)
        self._is_log_long = self._checkpointer is not None and self._checkpointer.is_due()

    async def _run_in_thread(self, batch: Batch) -> None:
        """Run what takes long where it blocks nobody; `_run` then finds it done."""
        self._is_log_done = False
        if self._reader is None:  # in memory there is one connection, and nobody to wait for
            self._run(batch)
            return
        with self._reader.only_in_thread():  # its transaction is open on the loop's connection
            await self._in_thread(partial(batch.run, cast(sqlite3.Connection, self._writer)))
        self._run(batch)

    async def _checkpoint(self, checkpointer: Checkpointer) -> None:
        """Move the log in the thread, while our connection holds the write lock."""
        self._is_log_long = False
        writer = cast(sqlite3.Connection, self._writer)
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            return  # another process writes: the log is looked at again after the next writes
        try:
            await self._in_thread(checkpointer.move)
        finally:
            writer.execute("ROLLBACK")
        self._is_log_done = True  # so the next commit begins a new one, and waits for the disk

    async def _in_thread(self, job: Callable[[], None]) -> None:
        """Run the job to its end, even if the loop is closing and cancels this task."""
        try:
            await finish_before_cancel(cast(Worker, self._worker).run(job))
        except asyncio.CancelledError:
            pass
        except RuntimeError:
            job()  # the process ends, and no thread starts any more: nobody is kept waiting


async def _pause(seconds: float) -> None:
    """Leave the loop to others, unless it is closing: what was submitted is then finished."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        pass
