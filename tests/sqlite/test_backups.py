"""Copies of a file in use: docs/sharing-the-file.md."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from goscope import Scope
from goscope_sqlite import SQLiteAdapter

pytestmark = pytest.mark.asyncio

RECEIPTS = 200

SUFFIXES = ("", "-wal", "-shm")


def copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def back_up(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def vacuum_into(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as live:
        live.execute("VACUUM INTO ?", (str(target),))


async def charge_all(gs: Scope) -> None:
    for number in range(RECEIPTS):
        await gs.idempotency.run(f"charge:{number}", partial(charged, number))


async def charged(number: int) -> str:
    return f"receipt for {number}"


async def receipts_in(path: Path) -> int:
    """How many charges are replayed from the file, and not repeated."""
    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        return sum([await gs.idempotency.get(f"charge:{n}") is not None for n in range(RECEIPTS)])


@pytest.mark.parametrize("copy", [back_up, vacuum_into])
async def test_a_backup_of_an_open_file_has_every_acknowledged_write(
    path: Path, tmp_path: Path, copy: Callable[[Path, Path], None]
) -> None:
    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        await charge_all(gs)
        copy(path, tmp_path / "backup.db")
    assert await receipts_in(tmp_path / "backup.db") == RECEIPTS


async def test_a_copy_of_the_file_alone_lacks_what_is_in_its_wal(
    path: Path, tmp_path: Path
) -> None:
    """Why the page says what it says: `cp` looks as if it worked."""
    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        await charge_all(gs)
        copy_file(path, tmp_path / "copy.db")
    assert await receipts_in(tmp_path / "copy.db") < RECEIPTS


async def test_a_copy_of_a_closed_file_is_complete(path: Path, tmp_path: Path) -> None:
    """The last process that closes the file moves the WAL into it."""
    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        await charge_all(gs)
    copy_file(path, tmp_path / "copy.db")
    assert await receipts_in(tmp_path / "copy.db") == RECEIPTS


def copy_all(source: Path, target: Path) -> None:
    """Copy the file as a killed process leaves it, with its WAL."""
    for suffix in SUFFIXES:
        shutil.copyfile(f"{source}{suffix}", f"{target}{suffix}")


def remove_wal(path: Path) -> None:
    for suffix in SUFFIXES[1:]:
        Path(f"{path}{suffix}").unlink()


async def test_a_backup_is_restored_without_the_wal_of_the_file_it_replaces(
    path: Path, tmp_path: Path
) -> None:
    """SQLite would apply what the WAL has to the restored file."""
    backup, killed, kept = (tmp_path / f"{name}.db" for name in ("backup", "killed", "kept"))
    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        await charge_all(gs)
        back_up(path, backup)
        await gs.idempotency.delete("charge:0")
        copy_all(path, killed)
        copy_all(path, kept)
    for restored in (killed, kept):
        if restored is killed:
            remove_wal(killed)
        shutil.copyfile(backup, restored)
    assert await receipts_in(killed) == RECEIPTS
    assert await receipts_in(kept) == RECEIPTS - 1
