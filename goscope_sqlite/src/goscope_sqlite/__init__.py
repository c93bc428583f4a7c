"""The embedded backend of goscope: one SQLite file, through aiosqlite."""

from .adapter import SQLiteAdapter, SQLiteOptions

__all__ = ["SQLiteAdapter", "SQLiteOptions"]
