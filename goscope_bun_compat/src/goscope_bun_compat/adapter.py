"""The adapter and the options of the backend "sqlite-bun"."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from goscope.backend import Clock, Locks, check_choice, milliseconds
from goscope.errors import ConfigurationError
from goscope.providers import Milliseconds
from goscope_sqlite.engine import MEMORY, Settings
from goscope_sqlite.file_adapter import FileAdapter

from ._format import FORMAT
from ._in_loop import InLoopDatabase
from .bun_sqlite import Database


class BunSQLiteAdapter(FileAdapter):
    """A store in a file shared with programs under Bun, whose SQL runs in the event loop.

    ``path`` may be ":memory:", or a `Database`: the adapter opens the same file and leaves it open.
    ``locks="shared"`` makes ``gs.lock`` exclude other Python processes, not only other tasks;
    programs under Bun do not see locks. ``durability="full"`` makes a completed write survive a
    power failure too, but each commit then blocks the event loop until the disk has synced: prefer
    the backend "sqlite". ``busy_timeout`` is how long a write waits for other processes before it
    raises `BackendBusy`. ``sweep_interval`` is how often an idle store removes expired entries.

    Raises `ConfigurationError` for invalid options. `connect` raises it for an unusable path, and
    `BackendError` for a file that is not an intact database.
    """

    format = FORMAT

    def __init__(
        self,
        path: str | os.PathLike[str] | Database,
        *,
        key_prefix: str | None = None,
        locks: Locks = "memory",
        durability: Literal["normal", "full"] = "normal",
        busy_timeout: Milliseconds = "5s",
        default_lock_ttl: Milliseconds = "30s",
        sweep_interval: Milliseconds = "30s",
        clock: Clock | None = None,
    ) -> None:
        check_choice("durability", durability, ("normal", "full"), type(self).__name__)
        self._file = _file_of(path) if isinstance(path, Database) else os.fspath(path)
        settings = Settings(
            durability=durability,
            busy_timeout_ms=milliseconds(busy_timeout, "busy_timeout"),
        )
        super().__init__(
            InLoopDatabase(repr(self), settings),
            in_memory=self._file == MEMORY,
            key_prefix=key_prefix,
            locks=locks,
            default_lock_ttl=default_lock_ttl,
            sweep_interval=sweep_interval,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"BunSQLiteAdapter({self._file!r})"

    async def _locate(self) -> str:
        return self._file


class BunSQLiteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "sqlite-bun"; see `BunSQLiteAdapter`."""

    path: str
    key_prefix: str | None = None
    locks: Locks = "memory"
    durability: Literal["normal", "full"] = "normal"
    busy_timeout: str = "5s"
    default_lock_ttl: str = "30s"
    sweep_interval: str = "30s"


def open_adapter(options: BunSQLiteOptions) -> BunSQLiteAdapter:
    """Return the adapter with these options, not connected yet."""
    return BunSQLiteAdapter(**msgspec.structs.asdict(options))


def _file_of(database: Database) -> str:
    if database.filename == MEMORY:
        raise ConfigurationError(
            "the Database is in memory, where no other connection can open it: pass the path of "
            "a file, or ':memory:' for a separate store"
        )
    return database.filename
