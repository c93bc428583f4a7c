"""The path names another file than the one that is open: no write is acknowledged into it."""

# ruff: noqa: ASYNC240  # changing a small local file blocks nobody here

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from goscope.errors import BackendUnavailable
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine import file

pytestmark = pytest.mark.asyncio

PARTS = ("", "-wal", "-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder that the test may rename."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder / "app.db"


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "CHECK_INTERVAL_S", 0)


def delete(path: Path) -> None:
    for part in PARTS:
        os.unlink(f"{path}{part}")


def move(path: Path) -> None:
    for part in PARTS:
        os.rename(f"{path}{part}", f"{path}.old{part}")


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def replace_directory(path: Path) -> None:
    os.rename(path.parent, f"{path.parent}.old")
    path.parent.mkdir()


@pytest.mark.parametrize("change", [delete, move, replace, replace_directory])
@pytest.mark.parametrize("writes", ["loop", "thread"])
async def test_the_next_write_says_that_the_file_is_gone(
    path: Path, writes: Any, change: Any
) -> None:
    async with SQLiteAdapter(path, locks="shared", writes=writes) as adapter:
        await adapter.cache.set("key", 1)
        change(path)
        with pytest.raises(BackendUnavailable, match="deleted, replaced or moved"):
            await adapter.cache.set("key", 2)
        with pytest.raises(BackendUnavailable, match="deleted, replaced or moved"):
            await adapter.lock.acquire("key")


async def test_two_processes_never_hold_one_lock_around_a_deleted_file(path: Path) -> None:
    async with SQLiteAdapter(path, locks="shared") as before:
        delete(path)
        async with SQLiteAdapter(path, locks="shared") as after:
            assert await after.lock.acquire("key") is not None
            with pytest.raises(BackendUnavailable):
                await before.lock.acquire("key")


async def test_nothing_is_written_to_a_moved_file_and_it_can_be_moved_back(path: Path) -> None:
    async with SQLiteAdapter(path) as adapter:
        await adapter.cache.set("key", 1)
        move(path)
        with pytest.raises(BackendUnavailable):
            await adapter.cache.set("key", 2)
        for part in PARTS:
            os.rename(f"{path}.old{part}", f"{path}{part}")
        assert await adapter.cache.get("key") == 1
        await adapter.cache.set("key", 3)


async def test_the_adapter_can_be_connected_again(path: Path) -> None:
    adapter = SQLiteAdapter(path)
    async with adapter:
        await adapter.cache.set("key", 1)
        delete(path)
        with pytest.raises(BackendUnavailable):
            await adapter.cache.set("key", 2)
    async with adapter:
        assert await adapter.cache.get("key") is None
        await adapter.cache.set("key", 3)


async def test_the_path_is_looked_at_once_in_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system call for each write would be a tenth of its time."""
    seconds = 100.0
    monkeypatch.undo()
    monkeypatch.setattr(file, "perf_counter", lambda: seconds)
    path.touch()
    opened = file.OpenFile(str(path))
    assert opened.is_at_path()
    path.unlink()
    assert opened.is_at_path()
    seconds += file.CHECK_INTERVAL_S
    assert not opened.is_at_path()
