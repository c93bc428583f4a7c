"""Writes for the tests of the database in the event loop, and another process's write lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Work: TypeAlias = Callable[[sqlite3.Connection], str]


@contextmanager
def write_lock(path: Path) -> Generator[None]:
    """Hold the write lock as another process would."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


def insert(key: str) -> Work:
    """A write of one row."""

    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO go_goscope_meta VALUES (?, 0)", (key,))
        return key

    return work


def inserted(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT key FROM go_goscope_meta WHERE key GLOB 'w[0-9]*'").fetchall()
    connection.close()
    return sorted(key for (key,) in rows)
