"""The thread of the writer's connection, which belongs to aiosqlite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeAlias

import aiosqlite

from goscope.errors import BackendUnavailable

from .exit import stop_at_exit, unregister
from .file import MEMORY
from .starvation_guard import GilStarvationGuard

Work: TypeAlias = Callable[[sqlite3.Connection], object]


class Job(str):
    """Work in the form of a script, which is what aiosqlite passes to a connection."""

    def __new__(cls, work: Work) -> Job:
        job = super().__new__(cls)
        job.work = work
        job.is_done = False
        job.error = None
        return job

    work: Work
    is_done: bool
    error: BaseException | None

    def run(self, connection: sqlite3.Connection) -> None:
        """Do the work, but not a second time. Never raises."""
        if not self.is_done:
            try:
                self.work(connection)
            except BaseException as exc:
                self.error = exc
            self.is_done = True


class WriterConnection(sqlite3.Connection):
    """A connection whose scripts are jobs: aiosqlite runs one in its thread in one round trip."""

    failure: sqlite3.Error | None = None

    def __init__(self, path: str, **options: Any) -> None:
        try:
            super().__init__(path, **options)
        except sqlite3.Error as exc:
            # After an error here, aiosqlite does not wait for its thread, which then may answer to
            # a closed event loop. So the thread gets a connection, and is stopped as always.
            self.failure = exc
            super().__init__(MEMORY, **options)

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        if not isinstance(script, Job):
            return super().executescript(script)
        script.run(self)
        return self.cursor()


class WriterThread:
    """An aiosqlite connection to one file. Its user runs one job at a time."""

    def __init__(self, name: str, guard: GilStarvationGuard) -> None:
        self._name = name
        self._guard = guard
        self._connection: aiosqlite.Connection | None = None

    async def open(self, path: str) -> None:
        """Open the connection, which waits for no lock and begins no transaction by itself.

        Raises errors of sqlite3; then `close` is still due.
        """
        with self._guard.watch():
            self._connection = await aiosqlite.connect(
                path,
                factory=WriterConnection,
                isolation_level=None,
                timeout=0,
                check_same_thread=False,  # the event loop uses it too, and the child of a fork
            )
        stop_at_exit(self._connection)
        await self.run(_raise_failure)

    async def run(self, work: Work) -> None:
        """Do the work to its end, even if the closing event loop cancels the calling task.

        Raises what the work raises. Raises `BackendUnavailable`, and may not do the work, when the
        thread was stopped because the process exits.
        """
        job = Job(lambda connection: self._guard.run(work, connection))
        with self._guard.watch():
            while not job.is_done:
                try:
                    await self._submit(job)
                except asyncio.CancelledError:
                    pass  # submitted again, it is the next job, or waits until it is done
        if job.error is not None:
            raise job.error

    async def close(self) -> None:
        """Close the connection if it is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            unregister(connection)
            with self._guard.watch():
                await connection.close()

    async def _submit(self, job: Job) -> None:
        assert self._connection is not None
        try:
            await self._connection.executescript(job)
        except Exception as exc:  # aiosqlite's own: a job never raises
            raise BackendUnavailable(
                f"{self._name}: its thread was stopped because the process exits, and the write "
                f"was not applied. Disconnect the adapter before closing the event loop"
            ) from exc
        if not job.is_done:
            raise BackendUnavailable(
                f"{self._name}: aiosqlite {aiosqlite.__version__} did not run a script on its "
                f"connection, which goscope-sqlite relies on. Install an older release of it"
            )


def _raise_failure(connection: sqlite3.Connection) -> None:
    assert isinstance(connection, WriterConnection)
    if connection.failure is not None:
        raise connection.failure
