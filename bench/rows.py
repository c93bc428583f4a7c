"""Database files of many rows, created in seconds."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from goscope_sqlite import SQLiteAdapter

from .subject import Subject
from .values import small

DAY_S: Final = 86_400
EXPIRY_STRIDE: Final = 10
"""`expire` lets every tenth entry expire."""

FILL_CACHE_KIB: Final = 200_000


async def create_databases(folder: Path, subjects: Iterable[type[Subject]], rows: int) -> None:
    """Create a file for each subject in ``folder``, with this number of rows in every table."""
    template = folder / "template.db"
    async with SQLiteAdapter(template):  # creates the tables
        pass
    _fill(template, rows)
    for subject in subjects:
        shutil.copyfile(template, subject(folder, rows).path)
    template.unlink()


def expire(path: Path, rows: int) -> None:
    """Make every tenth entry expired, including entries that were deleted since."""
    _rewrite_tenth(path, rows, 1)


def revive(path: Path, rows: int) -> None:
    """Undo `expire`: make every entry live again."""
    _rewrite_tenth(path, rows, int(time.time()) + 30 * DAY_S)


def _rewrite_tenth(path: Path, rows: int, expires_at: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN IMMEDIATE")
        sql = f"INSERT OR REPLACE INTO go_goscope_cache VALUES (?, ?, {expires_at}, 1)"
        connection.executemany(sql, _values("cache:", range(0, rows, EXPIRY_STRIDE)))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _fill(path: Path, rows: int) -> None:
    now = int(time.time())
    later = now + 30 * DAY_S
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # No other process has the file open, and an interrupted run leaves nothing to recover.
        connection.execute("PRAGMA journal_mode = OFF").fetchall()
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA cache_size = -{FILL_CACHE_KIB}")
        connection.execute("BEGIN")
        sql = f"INSERT INTO go_goscope_cache VALUES (?, ?, {later}, {now})"
        connection.executemany(sql, _values("cache:", range(rows)))
        sql = f"INSERT INTO go_goscope_idempotency VALUES (?, '1', {later}, {now}, {now})"
        connection.executemany(sql, ((f"user:{number}",) for number in range(rows)))
        sql = f"INSERT INTO go_goscope_circuit VALUES (?, 'closed', 0, NULL, NULL, {now})"
        connection.executemany(sql, ((f"circuit:user:{number}",) for number in range(rows)))
        sql = f"INSERT INTO go_goscope_checkpoints VALUES (?, ?, 1, {now}, 0, '1', NULL, {now})"
        connection.executemany(sql, ((f"c:{number}", f"other:{number}") for number in range(rows)))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _values(namespace: str, numbers: Iterable[int]) -> Iterator[tuple[str, str]]:
    """Yield keys and values of about 1 KB that differ only in the number."""
    start, end = msgspec.json.encode(small(-1)).decode().split("-1", 1)
    return ((f"{namespace}user:{number}", f"{start}{number}{end}") for number in numbers)
