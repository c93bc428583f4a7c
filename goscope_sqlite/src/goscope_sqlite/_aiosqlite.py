"""The `Database` over aiosqlite: one writer connection with group commit, and the readers."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Final, Protocol, cast

import aiosqlite

from goscope.errors import BackendUnavailable

from ._base_database import BaseDatabase
from ._batch import Batch, WriteQueue
from ._connection import Settings, prepare_writer
from ._exit import forget, stop_at_exit
from ._file import MEMORY
from ._reader import Reader, Reads
from ._wal import Checkpointer

MAX_ROWS: Final = 512
MAX_SECONDS: Final = 0.02
"""The most rows of one batch, and the seconds of work after which it is committed."""


class Job(Protocol):
    """Something to do in the writer's thread."""

    def run(self, connection: sqlite3.Connection, /) -> None: ...


class JobConnection(sqlite3.Connection):
    """A connection that runs jobs where others run scripts: aiosqlite needs one hop for either."""

    def executescript(self, job: str | Job, /) -> sqlite3.Cursor:
        if isinstance(job, str):
            return super().executescript(job)
        job.run(self)
        return self.cursor()


class _Preparation:
    """The job that makes the file ready; leaves the identity of the store behind."""

    store_id = ""

    def __init__(self, path: str, settings: Settings) -> None:
        self._path = path
        self._settings = settings

    def run(self, connection: sqlite3.Connection) -> None:
        self.store_id = prepare_writer(connection, self._path, self._settings)


class AiosqliteDatabase(BaseDatabase):
    """A `Database` whose writes run in aiosqlite's thread."""

    def __init__(self, name: str, settings: Settings, reads: Reads) -> None:
        self._reads: Reads = reads
        super().__init__(name, settings)

    def _reset(self) -> None:
        super()._reset()
        self._writer: aiosqlite.Connection | None = None

    def _new_queue(self) -> WriteQueue:
        return WriteQueue(MAX_ROWS, MAX_SECONDS)

    async def _open(self) -> str:
        connecting = aiosqlite.connect(
            self._path,
            factory=JobConnection,
            isolation_level=None,
            timeout=self._settings.busy_timeout,
        )
        self._writer = await connecting
        stop_at_exit(self._writer)
        preparation = _Preparation(self._path, self._settings)
        await self._run(preparation)
        if self._path != MEMORY:
            await self._open_reader(Reader(self._path, self._reads, self._settings.busy_timeout))
        return preparation.store_id

    async def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            forget(writer)
            await writer.close()

    async def _drain(self) -> None:
        """Run what is queued, batch by batch; what is submitted meanwhile forms the next one."""
        while batch := self._queue.next_batch():
            await self._run_batch(batch)
            if batch.blocked is not None:
                batch.fail(batch.blocked)  # the connection itself has waited
            self._resolve(batch)
            if self._checkpointer is not None and self._checkpointer.is_due():
                await self._run_checkpoint(self._checkpointer)

    async def _run_batch(self, batch: Batch) -> None:
        """Run the batch to its end, even if the loop is closing and cancels this task."""
        while not batch.finished:
            try:
                await self._run(batch)
            except asyncio.CancelledError:
                continue  # jobs run in order and a batch runs once: the next one waits for this
            except Exception as exc:  # the thread was stopped because the process ends
                batch.fail(_stopped(self._name, exc))

    async def _run_checkpoint(self, checkpointer: Checkpointer) -> None:
        try:
            await self._run(checkpointer)
        except (asyncio.CancelledError, ValueError):
            pass  # the loop is closing, or the thread was stopped: another process will do it

    async def _run(self, job: Job) -> None:
        writer = cast(aiosqlite.Connection, self._writer)
        await writer.executescript(cast(str, job))


def _stopped(name: str, cause: Exception) -> BackendUnavailable:
    error = BackendUnavailable(
        f"{name}: its thread was stopped because the process ends, and the write did not happen. "
        f"Disconnect the adapter before the event loop is closed"
    )
    error.__cause__ = cause
    return error
