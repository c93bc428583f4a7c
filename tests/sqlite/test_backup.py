"""`SQLiteAdapter.backup`: a complete copy of a store that is in use, or none."""

# ruff: noqa: ASYNC240  # looking at small local files blocks nobody here

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from goscope import Scope, SupportsBackup
from goscope.errors import BackendError, BackendUnavailable, InvalidOption
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine import backup

pytestmark = pytest.mark.asyncio


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "backup.db"


async def filled(adapter: SQLiteAdapter, megabytes: int = 3) -> None:
    await adapter.cache.set_many({f"{n}": "x" * 100_000 for n in range(10 * megabytes)})


async def test_a_backup_is_one_complete_file(adapter: SQLiteAdapter, target: Path) -> None:
    await filled(adapter)
    await adapter.backup(target)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(f"file:{target}?mode=ro", uri=True)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    async with SQLiteAdapter(target) as opened:
        assert sorted(await opened.cache.keys()) == sorted(await adapter.cache.keys())


async def test_it_has_every_acknowledged_write_and_does_not_block_later_ones(
    adapter: SQLiteAdapter, target: Path
) -> None:
    """It is a copy as of one moment: of two values that change together it has both or none."""
    await filled(adapter)
    steps: list[tuple[int, int]] = []

    def note(copied: int, total: int) -> None:
        steps.append((copied, total))

    copying = asyncio.create_task(adapter.backup(target, progress=note))
    number = 0
    while not copying.done():
        number += 1
        await adapter.cache.set_many({"a": number, "b": number})
        await asyncio.sleep(0)
    await copying
    assert number > 1
    assert steps[-1][0] == steps[-1][1]
    assert len(steps) > 2
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    async with SQLiteAdapter(target) as opened:
        assert await opened.cache.get("a") == await opened.cache.get("b")


async def test_a_scope_offers_it(path: Path, target: Path) -> None:
    async with Scope(persistence=BunSQLiteAdapter(path)) as gs:
        await gs.cache.set("key", 1)
        assert isinstance(gs.persistence, SupportsBackup)
        await gs.persistence.backup(str(target))
    async with BunSQLiteAdapter(target) as opened:
        assert await opened.cache.get("key") == 1


async def test_a_path_that_exists_is_refused(adapter: SQLiteAdapter, target: Path) -> None:
    target.write_text("mine")
    with pytest.raises(InvalidOption, match="exists"):
        await adapter.backup(target)
    assert target.read_text() == "mine"


async def test_a_folder_that_does_not_exist_is_an_error(
    adapter: SQLiteAdapter, target: Path
) -> None:
    with pytest.raises(BackendError, match=r"cannot be opened"):
        await adapter.backup(target.parent / "absent" / "backup.db")


async def test_a_store_in_memory_is_refused(target: Path) -> None:
    async with SQLiteAdapter(":memory:") as adapter:
        with pytest.raises(InvalidOption, match="in memory"):
            await adapter.backup(target)


@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_a_backup_that_is_ended_leaves_nothing(
    adapter: SQLiteAdapter, target: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    begun, stopped = asyncio.Event(), threading.Event()
    loop, stop = asyncio.get_running_loop(), backup.Backup.stop

    def copy_until_stopped(self: backup.Backup, on_step: Callable[[int, int, int], None]) -> None:
        def step(*pages: int) -> None:
            on_step(*pages)
            loop.call_soon_threadsafe(begun.set)
            stopped.wait(60)

        copy(self, step)

    def stop_and_go_on(self: backup.Backup) -> None:
        stop(self)
        stopped.set()

    copy = backup.Backup._copy
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    monkeypatch.setattr(backup.Backup, "_copy", copy_until_stopped)
    monkeypatch.setattr(backup.Backup, "stop", stop_and_go_on)
    await filled(adapter, 1)
    copying = asyncio.create_task(adapter.backup(target))
    async with asyncio.timeout(60):
        await begun.wait()
        if how == "cancelled":
            copying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copying
        else:
            await adapter.disconnect()
            with pytest.raises(BackendUnavailable, match="was closed during the backup"):
                await copying
    assert list(target.parent.iterdir()) == []
    if how == "closed":
        assert [name for name in os.listdir(target.parent.parent) if "store" in name] == [
            "store.db"
        ]
