"""The adapter and the options of the backend "sqlite"."""

from __future__ import annotations

import os
from typing import Literal

import aiosqlite
import msgspec

from goscope.backend import Clock, Locks, check_choice, milliseconds
from goscope.errors import ConfigurationError
from goscope.providers import Milliseconds

from ._engine.connection import Settings
from ._engine.file import MEMORY
from ._engine.reader import Reads
from ._engine.thread import ThreadDatabase
from .file_adapter import FileAdapter


class SQLiteAdapter(FileAdapter):
    """A store in one SQLite file, for all processes of one machine.

    ``path`` may be ":memory:", or an open ``aiosqlite.Connection``: the adapter opens the same
    file. ``locks="shared"`` makes ``gs.lock`` exclude other processes, not only other tasks.
    ``durability="full"`` makes a completed write survive a power failure too. ``reads`` is where
    point reads run: in the event loop, in a thread, or in the loop as long as they are fast.
    ``busy_timeout`` is how long a write waits for other processes before it raises `BackendBusy`.
    ``sweep_interval`` is how often an idle store removes expired entries.

    Raises `ConfigurationError` for invalid options. `connect` raises it for an unusable path, and
    `BackendError` for a file that is not an intact database.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | aiosqlite.Connection,
        *,
        key_prefix: str | None = None,
        locks: Locks = "memory",
        durability: Literal["normal", "full"] = "normal",
        reads: Reads = "auto",
        foreign_keys: bool = False,
        busy_timeout: Milliseconds = "5s",
        default_lock_ttl: Milliseconds = "30s",
        sweep_interval: Milliseconds = "30s",
        clock: Clock | None = None,
    ) -> None:
        check_choice("durability", durability, ("normal", "full"), type(self).__name__)
        check_choice("reads", reads, ("auto", "loop", "thread"), type(self).__name__)
        self._source = path if isinstance(path, aiosqlite.Connection) else os.fspath(path)
        settings = Settings(
            durability=durability,
            foreign_keys=foreign_keys,
            busy_timeout_ms=milliseconds(busy_timeout, "busy_timeout"),
        )
        super().__init__(
            ThreadDatabase(repr(self), settings, reads),
            in_memory=self._source == MEMORY,
            key_prefix=key_prefix,
            locks=locks,
            default_lock_ttl=default_lock_ttl,
            sweep_interval=sweep_interval,
            clock=clock,
        )

    def __repr__(self) -> str:
        source = self._source if isinstance(self._source, str) else "the file of a connection"
        return f"SQLiteAdapter({source!r})"

    async def _locate(self) -> str:
        source = self._source
        return source if isinstance(source, str) else await _file_of(source)


class SQLiteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "sqlite"; see `SQLiteAdapter`."""

    path: str
    key_prefix: str | None = None
    locks: Locks = "memory"
    durability: Literal["normal", "full"] = "normal"
    reads: Reads = "auto"
    foreign_keys: bool = False
    busy_timeout: str = "5s"
    default_lock_ttl: str = "30s"
    sweep_interval: str = "30s"


def open_adapter(options: SQLiteOptions) -> SQLiteAdapter:
    """Return the adapter with these options, not connected yet."""
    return SQLiteAdapter(**msgspec.structs.asdict(options))


async def _file_of(connection: aiosqlite.Connection) -> str:
    """The file of the host's connection, which is used for this query alone."""
    try:
        databases = await connection.execute_fetchall("PRAGMA database_list")
    except ValueError as exc:  # raised by aiosqlite for a connection that is not open
        raise ConfigurationError(
            "the aiosqlite connection is not open: await it first, or pass the path of its file"
        ) from exc
    files = [row[2] for row in databases if row[1] == "main"]
    if not files or not files[0]:
        raise ConfigurationError(
            "the aiosqlite connection is to a database in memory, which no other connection can "
            "open: pass the path of a file, or ':memory:' for a separate store"
        )
    return str(files[0])
