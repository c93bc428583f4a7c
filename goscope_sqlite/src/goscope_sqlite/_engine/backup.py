"""Copying an open database to another file while it is in use."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final, TypeAlias

from goscope.errors import BackendUnavailable, InvalidOption

from .connection import Settings, open_reader
from .copy_check import check_copy
from .errors import translate
from .file import MEMORY, create_file
from .worker import Worker

Progress: TypeAlias = Callable[[int, int], object]
"""Called with the number of pages that are copied, and the number of all."""

STEP_PAGES: Final = 256
"""How many pages one step copies: 1 MiB, in a few milliseconds."""


class Backup:
    """One copy of the file at ``source``, as of one moment."""

    def __init__(self, source: str, target: str, settings: Settings, name: str) -> None:
        if source == MEMORY:
            raise InvalidOption("path", name, "a store in memory has no file to copy")
        target = os.path.abspath(target)
        if os.path.lexists(target):
            raise InvalidOption("path", name, f"{target!r} exists: name a file that does not")
        self._source = source
        self._target = target
        self._unfinished = f"{target}.unfinished"
        self._settings = settings
        self._name = name
        self._stopped = False

    async def run(self, progress: Progress | None) -> None:
        """Copy in a separate thread. A cancelled caller waits for the current step."""
        loop = asyncio.get_running_loop()

        def on_step(_: int, remaining: int, total: int) -> None:
            if self._stopped:
                raise BackendUnavailable(f"{self._name}: the adapter was closed during the backup")
            if progress is not None:
                loop.call_soon_threadsafe(progress, total - remaining, total)

        worker = Worker("goscope-sqlite-backup", starvation_guard=self._settings.starvation_guard)
        copying = worker.run(self._copy, on_step)
        worker.stop()
        try:
            await asyncio.shield(copying)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait([copying])
            copying.exception()  # retrieved
            raise
        except sqlite3.Error as exc:
            raise translate(exc, self._target) from exc

    def stop(self) -> None:
        """End the copy after the current step; `run` raises."""
        self._stopped = True

    def _copy(self, on_step: Callable[[int, int, int], None]) -> None:
        create_file(self._unfinished)
        try:
            with (
                closing(open_reader(self._source, self._settings.busy_timeout_s)) as source,
                closing(sqlite3.connect(self._unfinished, isolation_level=None)) as copy,
            ):
                # In one read transaction: otherwise each write of others begins the copy again.
                source.execute("BEGIN")
                source.execute("SELECT 1 FROM sqlite_schema").fetchall()
                source.backup(copy, pages=STEP_PAGES, progress=on_step, sleep=0)
                check_copy(source, copy, self._target)
                # A single file, which a program without write access can read, too.
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            os.replace(self._unfinished, self._target)
        except BaseException:
            for part in ("", "-journal", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(self._unfinished + part)
            raise
