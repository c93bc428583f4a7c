"""The adapter of the backend "sqlite-bun"."""

from __future__ import annotations

import msgspec

from goscope_sqlite import SQLiteAdapter, SQLiteOptions

from ._format import FORMAT


class BunSQLiteAdapter(SQLiteAdapter):
    """A store in a file shared with programs under Bun.

    It differs from `SQLiteAdapter` in the format of the file. The path may also be a `Database`:
    the adapter opens the same file and leaves it open. Programs under Bun do not see locks.
    """

    format = FORMAT


class BunSQLiteOptions(SQLiteOptions, frozen=True, kw_only=True):
    """Options of the backend "sqlite-bun"; see `BunSQLiteAdapter`."""


def open_adapter(options: BunSQLiteOptions) -> BunSQLiteAdapter:
    """Return the adapter with these options, not connected yet."""
    return BunSQLiteAdapter(**msgspec.structs.asdict(options))
