"""Database files of many rows, made in seconds."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from goscope_sqlite import SQLiteAdapter

from .contender import Contender
from .value import small

DAY: Final = 86_400
EXPIRED: Final = 10
"""One row in so many is expired by `expire`."""


async def provide(folder: Path, contenders: Iterable[type[Contender]], rows: int) -> None:
    """Give each contender a file in ``folder`` that has so many rows in every table."""
    template = folder / "template.db"
    async with SQLiteAdapter(template):  # creates the tables
        pass
    _fill(template, rows)
    for contender in contenders:
        shutil.copyfile(template, contender(folder, rows).path)
    template.unlink()


def expire(path: Path, rows: int) -> None:
    """Let a tenth of the entries have expired, those that were removed since included."""
    _rewrite_tenth(path, rows, 1)


def revive(path: Path, rows: int) -> None:
    """Let all entries be there and live again."""
    _rewrite_tenth(path, rows, int(time.time()) + 30 * DAY)


def _rewrite_tenth(path: Path, rows: int, expires_at: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN IMMEDIATE")
        sql = f"INSERT OR REPLACE INTO go_goscope_cache VALUES (?, ?, {expires_at}, 1)"
        connection.executemany(sql, _values("cache:", range(0, rows, EXPIRED)))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _fill(path: Path, rows: int) -> None:
    now = int(time.time())
    later = now + 30 * DAY
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # Nobody else has the file yet, and nobody misses it if this is interrupted.
        connection.execute("PRAGMA journal_mode = OFF").fetchall()
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
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
    """Keys and values of about 1 KB, the number being all that differs."""
    start, end = msgspec.json.encode(small(-1)).decode().split("-1", 1)
    return ((f"{namespace}user:{number}", f"{start}{number}{end}") for number in numbers)
