"""The backend "sqlite-bun": one SQLite file, shared with go-go-scope under Bun."""

from .adapter import BunSQLiteAdapter, BunSQLiteOptions
from .bun_sqlite import Changes, Database, Statement

__all__ = ["BunSQLiteAdapter", "BunSQLiteOptions", "Changes", "Database", "Statement"]
