"""Running the writes of one database: small ones in the event loop, the others in a thread."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, Final, TypeVar

from goscope._tools.loop_budget import LoopBudget
from goscope.errors import BackendUnavailable

from .batch import Batch, Write, WriteQueue, new_write
from .connection import Settings
from .errors import is_busy
from .file import OpenFile
from .place import PlaceRule
from .reader import Reader
from .starvation_guard import GilStarvationGuard
from .wal import Checkpointer
from .writer_thread import WriterThread

T = TypeVar("T")

MAX_LOOP_ROWS: Final = 20
MAX_LOOP_BATCH_S: Final = 0.0005
"""The most work in one tick of the event loop: a larger write runs in the thread. Beside 64 callers
that set, the p99 of a ticker is 1.6 ms, with 32 rows 2.1 ms; a set takes 3 % longer."""

MAX_THREAD_ROWS: Final = 512
MAX_THREAD_BATCH_S: Final = 0.02
"""The most rows of a batch in the thread, and the seconds of work after which it is committed."""

MAX_GATHER_TICKS: Final = 8
"""The most ticks from one batch to the next, while reads wait for the loop: more writes share a
commit. With two, 64 callers that get and set take 4 % longer."""

FIRST_RETRY_S: Final = 0.001
MAX_RETRY_S: Final = 0.02
"""The longest pause before the first retry while another process holds the write lock, and before
any later one."""


class _DrainTask(asyncio.Task[None]):
    """A task that a closing event loop waits for: the submitted writes come first."""

    def cancel(self, msg: Any | None = None) -> bool:
        return False


class Writer:
    """The connection that writes, and the writes that wait for it.

    A lone small write is committed where it is submitted. Writes that have to wait share a commit.
    The connection never waits for a lock: while another process holds it, the writes stay in the
    queue and are tried again. The thread runs what takes long: large writes, commits that wait for
    the disk, the second step of a WAL checkpoint, and every write while recent ones were slow.
    Other writes wait for these; reads use another connection meanwhile.

    ``draining`` is not None until the queue is empty. ``on_commit`` is called with the number of
    committed writes.
    """

    def __init__(self, name: str, settings: Settings, budget: LoopBudget) -> None:
        self.draining: asyncio.Task[None] | None = None
        self.on_commit: Callable[[int], None] | None = None
        self.connection: sqlite3.Connection | None = None
        self._thread = WriterThread(name, GilStarvationGuard(settings.starvation_guard))
        self._settings = settings
        self._budget = budget
        self._queue = WriteQueue()
        self._place = PlaceRule(settings.place_of_writes)
        self._is_blocked = False  # another connection held the lock for the last batch
        self._copying: asyncio.Future[bool] | None = None  # the first step of a checkpoint
        self._checkpoint_due = False  # the second step is
        self._restarts_wal = False  # the next commit does, and waits for the disk
        self._reader: Reader | None = None
        self._checkpointer: Checkpointer | None = None
        self._file: OpenFile | None = None

    async def open(self, path: str, prepare: Callable[[sqlite3.Connection], T]) -> T:
        """Open the connection and prepare it in the thread. On an error, `close` is still due."""
        self._path = path
        prepared: list[T] = []

        def run(connection: sqlite3.Connection) -> None:
            self.connection = connection
            prepared.append(prepare(connection))

        await self._thread.open(path)
        await self._thread.run(run)
        return prepared[0]

    def serve(self, file: OpenFile, reader: Reader, checkpointer: Checkpointer) -> None:
        """Write to a file, whose reads may use the connection while the thread does not."""
        self._file, self._reader, self._checkpointer = file, reader, checkpointer
        self._share_connection()

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        rows: int,
        autocommit: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> asyncio.Future[T]:
        """Submit one write; see `Database.submit`."""
        now = perf_counter()
        write = new_write(work, rows, autocommit, loop, now)
        if self.draining is not None:
            self._queue.append(write)
            return write
        if (
            rows > MAX_LOOP_ROWS
            or now < self._place.thread_until
            or self._restarts_wal
            or (now > self._budget.until and self._budget.exhausted(now))
        ):
            self._queue.append(write)
        else:
            if not (autocommit and self._run_alone(write, now)):
                self._run_in_loop(Batch([write], MAX_LOOP_BATCH_S))
            if not (self._queue or self._checkpoint_due):
                return write
        # Not loop.create_task: a task factory may run the task before it is assigned.
        self.draining = _DrainTask(self._drain_to_end(), loop=loop)
        return write

    async def finish(self) -> None:
        """Wait for the submitted writes, and for a checkpoint."""
        while pending := self.draining or self._copying:
            await asyncio.wait([pending])

    async def close(self, before: Callable[[sqlite3.Connection], object]) -> None:
        """Make a last call with the connection, then close it. Does nothing if it is closed."""
        if self.connection is not None:
            self.connection = None
            try:
                await self._thread.run(before)
            except BackendUnavailable:
                pass  # the process exits
        await self._thread.close()  # closing the last connection checkpoints the WAL

    # --- helpers -----------------------------------------------------------------------------

    async def _drain_to_end(self) -> None:
        try:
            await self._drain()
        finally:
            self._is_blocked = False
            self.draining = None

    async def _drain(self) -> None:
        """Run the queued writes, one batch a tick."""
        max_pause_s = FIRST_RETRY_S
        while True:
            if self._is_blocked:
                await asyncio.sleep(max_pause_s * random.random())  # jitter: processes take turns
                max_pause_s = min(max_pause_s * 2, MAX_RETRY_S)
            else:
                max_pause_s = FIRST_RETRY_S
            if self._checkpoint_due:
                await self._checkpoint()
            if not await self._run_next_batch():
                return

    async def _run_next_batch(self) -> bool:
        """Run the first writes of the queue; False if there are none."""
        is_slow = self._restarts_wal or perf_counter() < self._place.thread_until
        if is_slow:
            batch = self._queue.next_batch(MAX_THREAD_ROWS, MAX_THREAD_BATCH_S)
        else:
            batch = self._queue.next_batch(MAX_LOOP_ROWS, MAX_LOOP_BATCH_S)
        if batch is None:
            return False
        if is_slow or batch.rows > MAX_LOOP_ROWS:
            await self._run_in_thread(batch)
        else:
            self._run_in_loop(batch)
        if batch.size > 1 or self._queue:  # a lone writer submits its next write at once
            await self._gather()
        return True

    async def _gather(self) -> None:
        """Let the callers resume and submit more, in ticks of their own.

        Two short ticks delay timers less than a long one: beside 64 writers, a ticker's p99 was
        1.1 instead of 2.3 ms.
        """
        for ticks in range(MAX_GATHER_TICKS):
            await asyncio.sleep(0)
            if ticks and not self._budget.is_contended:
                break

    def _run_alone(self, write: Write[Any], now: float) -> bool:
        """Run a lone statement, which SQLite commits itself; False if it takes a batch.

        In a batch, a set of one caller takes 10 % longer.
        """
        file, reader = self._file, self._reader
        if file is None or now >= file.checked_until or reader is None or reader.writer is None:
            return False
        if not write.attempt(reader.writer) and is_busy(write.error):
            return False
        self._record(now)
        self._count(write.resolve(self._path))
        return True

    def _run_in_loop(self, batch: Batch) -> None:
        assert self.connection is not None
        started = perf_counter()
        if self._is_file_open(batch):
            batch.run(self.connection)
            self._record(started)
            if self._reader is not None:
                self._reader.share(self.connection)
        self._resolve(batch)

    async def _run_in_thread(self, batch: Batch) -> None:
        self._restarts_wal = False
        if self._is_file_open(batch):
            if self._reader is not None:
                self._reader.share(None)  # the transaction of the batch is open on the connection
            try:
                await self._thread.run(batch.run)
            except BackendUnavailable as exc:
                reason = str(exc)
                batch.fail(lambda: BackendUnavailable(reason))
            self._share_connection()
        self._resolve(batch)

    def _is_file_open(self, batch: Batch) -> bool:
        """Whether the path still names the open file; else the writes of the batch fail."""
        if self._file is None or self._file.is_at_path():
            return True
        batch.fail(self._file.gone)
        return False

    def _resolve(self, batch: Batch) -> None:
        """Resolve the finished writes of the batch, and requeue the others."""
        self._is_blocked = batch.blocked is not None
        if self._is_blocked:
            batch.fail_timed_out(self._settings.busy_timeout_s)
        committed = batch.resolve(self._path)
        self._queue.requeue(batch.unfinished())
        self._count(committed)

    def _record(self, started: float) -> None:
        """Record how long writes took in the loop."""
        if (took_s := perf_counter() - started) > self._place.fast_s:
            self._place.record(took_s)

    def _count(self, committed: int) -> None:
        """Count committed writes, and begin a checkpoint of the WAL if one is due."""
        if not committed:
            return
        if self.on_commit is not None:
            self.on_commit(committed)
        if self._checkpointer is not None and perf_counter() >= self._checkpointer.next_check:
            self._check_wal(self._checkpointer)

    def _check_wal(self, checkpointer: Checkpointer) -> None:
        """Begin a checkpoint if one is due; one that falls behind comes before the next write."""
        if self._copying is not None:
            self._checkpoint_due = self._checkpoint_due or checkpointer.is_overdue()
        elif not self._checkpoint_due and checkpointer.is_due():
            with suppress(RuntimeError):  # the process exits: another one checkpoints the WAL
                self._copying = checkpointer.copy()
                self._copying.add_done_callback(self._on_copied)

    def _on_copied(self, copying: asyncio.Future[bool]) -> None:
        """Let the drain task do the rest of the checkpoint, before any other write."""
        self._copying = None
        self._checkpoint_due = self._checkpoint_due or copying.result()
        if self._checkpoint_due and self.draining is None:
            self.draining = _DrainTask(self._drain_to_end())

    def _share_connection(self) -> None:
        """Let the loop read with the page cache of the writer, unless the thread writes again."""
        if self._reader is not None and perf_counter() >= self._place.thread_until:
            self._reader.share(self.connection)

    async def _checkpoint(self) -> None:
        if self._copying is not None:
            await asyncio.wait([self._copying])
        self._checkpoint_due = False
        assert self._checkpointer is not None
        if self._reader is not None:
            self._reader.share(None)  # it holds the write lock
        try:
            await self._thread.run(self._checkpointer.run)
        except BackendUnavailable:
            return  # the process exits: another one checkpoints the WAL
        self._share_connection()
        self._restarts_wal = self._checkpointer.is_restart_due
