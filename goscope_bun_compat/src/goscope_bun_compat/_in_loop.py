"""The `Database` that runs its SQL in the event loop, as programs under Bun do."""

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

MAX_BATCH_ROWS: Final = 16
MAX_BATCH_S: Final = 0.00025
"""The most work in one tick of the event loop: a larger write runs in a thread."""

COMMIT_DELAY_S: Final = 0.008
"""How long a batch waits for more writes, while readers wait and the last 16 writes took no longer
than this to arrive."""

FIRST_RETRY_S: Final = 0.001
MAX_RETRY_S: Final = 0.02
"""The longest pause before the first retry while another process holds the write lock, and before
any later one."""


class InLoopDatabase(BaseDatabase):
    """A `Database` that runs small writes and point reads in the event loop, without a thread.

    A lone write is committed at once. Writes of one tick share a commit, and while readers fill the
    loop, so do writes of several ticks. The connection never waits for a lock: while another
    process holds it, the writes are retried and the loop continues. A thread runs what takes long:
    writes of many rows, long reads, and WAL checkpoints. Other writes wait for these.
    """

    def _reset(self) -> None:
        super()._reset()
        self._writer: sqlite3.Connection | None = None
        self._worker: Worker | None = None
        self._budget = LoopBudget()
        self._submitted = deque([0.0] * MAX_BATCH_ROWS, MAX_BATCH_ROWS)
        self._checkpoint_due = False
        self._restart_next_commit = False

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        rows: int = 1,
        autocommit: bool = False,
    ) -> asyncio.Future[T]:
        loop = self.check()
        now = perf_counter()
        self._submitted.append(now)
        if (
            self._draining is not None
            or self._restart_next_commit
            or rows > MAX_BATCH_ROWS
            or self._budget.exhausted(now)
            or self._may_delay(now)
        ):
            return super().submit(work, rows=rows, autocommit=autocommit)
        write = new_write(work, rows, autocommit, loop)
        self._run(Batch([write], MAX_BATCH_S, merges=False))
        if self._queue or self._checkpoint_due:
            self._start_draining(loop)
        return write

    # --- opening and closing -----------------------------------------------------------------

    def _new_queue(self) -> WriteQueue:
        # No merging: a statement of many rows would block the loop where each row is slow to read.
        return WriteQueue(MAX_BATCH_ROWS, MAX_BATCH_S, merges=False)

    async def _open(self) -> str:
        self._worker = Worker("goscope-sqlite-bun")
        store_id = await self._worker.run(self._open_writer)
        if self._path != MEMORY:
            reader = Reader(self._path, "auto", self._settings.busy_timeout_s, self._budget)
            # Reads in the loop use the writer's connection, and find its pages in the cache. Its
            # only transactions there are those of checkpoints, which change nothing.
            await self._open_reader(reader, in_loop=self._writer)
        return store_id

    def _open_writer(self) -> str:
        self._writer = sqlite3.connect(
            self._path,
            timeout=self._settings.busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        store_id = prepare_writer(self._writer, self._path, self._settings)
        # From here on the event loop uses it, and must not block on a lock.
        self._writer.execute("PRAGMA busy_timeout = 0").fetchall()
        return store_id

    async def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await self._in_thread(writer.close)  # closing the last connection checkpoints the WAL
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
        """Run the queued writes, one batch a tick, even if the closing loop cancels this task."""
        max_pause_s = FIRST_RETRY_S
        while True:
            if self._checkpoint_due:
                await self._checkpoint(cast(Checkpointer, self._checkpointer))
            await self._delay_commit()
            batch = self._queue.next_batch()
            if batch is None:
                return
            if batch.rows > MAX_BATCH_ROWS or self._restart_next_commit:
                await self._run_in_thread(batch)
            else:
                self._run(batch)
            if batch.blocked is None:
                max_pause_s = FIRST_RETRY_S
                if batch.size > 1 or self._queue:  # a lone writer submits its next write at once
                    # A separate tick for the callers, who resume now: two short ticks delay timers
                    # less than a long one. Beside 64 writers, that lowered a ticker's p99 from 2.3
                    # to 1.1 ms.
                    await _pause(0)
                    await _pause(0)
            else:
                await _pause(max_pause_s * random.random())
                max_pause_s = min(max_pause_s * 2, MAX_RETRY_S)

    async def _delay_commit(self) -> None:
        """Wait for more writes: a commit costs more than what most of them write."""
        now = perf_counter()
        until = now + COMMIT_DELAY_S
        while self._may_delay(now) and 0 < len(self._queue) < MAX_BATCH_ROWS and now < until:
            await _pause(0)
            now = perf_counter()

    def _may_delay(self, now: float) -> bool:
        """Whether readers wait, and writes arrive fast enough to fill a batch during the delay."""
        return self._budget.has_waiters and self._submitted[0] > now - COMMIT_DELAY_S

    def _run(self, batch: Batch) -> None:
        batch.run(cast(sqlite3.Connection, self._writer))
        if batch.blocked is not None:
            batch.fail_timed_out(self._settings.busy_timeout_s)
        self._resolve(batch)
        self._checkpoint_due = self._checkpointer is not None and self._checkpointer.is_due()

    async def _run_in_thread(self, batch: Batch) -> None:
        """Run a batch that takes long in the thread; `_run` then only resolves it."""
        self._restart_next_commit = False
        if self._reader is None:  # a database in memory has one connection, which the loop reads
            self._run(batch)
            return
        # The batch's transaction is open on the connection that the loop reads from.
        with self._reader.force_thread_reads():
            await self._in_thread(partial(batch.run, cast(sqlite3.Connection, self._writer)))
        self._run(batch)

    async def _checkpoint(self, checkpointer: Checkpointer) -> None:
        """Checkpoint the WAL in the thread, while the writer's connection holds the write lock."""
        self._checkpoint_due = False
        writer = cast(sqlite3.Connection, self._writer)
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            return  # another process writes: the next write checks the size of the WAL again
        try:
            await self._in_thread(checkpointer.checkpoint)
        finally:
            writer.execute("ROLLBACK")
        # The next commit restarts the WAL and waits for the disk, so it runs in the thread.
        self._restart_next_commit = True

    async def _in_thread(self, job: Callable[[], None]) -> None:
        """Run the job to its end, even if the closing loop cancels this task."""
        try:
            await finish_before_cancel(cast(Worker, self._worker).run(job))
        except asyncio.CancelledError:
            pass
        except RuntimeError:
            job()  # the process exits and starts no thread: blocking the loop affects nobody


async def _pause(seconds: float) -> None:
    """Yield to the event loop, but not while it closes: the submitted writes come first."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        pass
