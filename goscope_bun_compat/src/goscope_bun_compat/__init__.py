"""The backend "sqlite-bun": SQLite on the event loop, in the files of go-go-scope under Bun."""

from .adapter import BunSQLiteAdapter, BunSQLiteOptions
from .bun_sqlite import Changes, Database, Statement

__all__ = ["BunSQLiteAdapter", "BunSQLiteOptions", "Changes", "Database", "Statement"]
