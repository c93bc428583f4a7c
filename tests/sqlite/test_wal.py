"""When the WAL is checkpointed, and how long a checkpoint waits for readers."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine import wal as engine_wal
from goscope_sqlite._engine.connection import WAL_LIMIT_BYTES
from goscope_sqlite._engine.file import file_identity, sync_file
from goscope_sqlite._engine.wal import (
    MAX_SIZE,
    POLL_INTERVAL_S,
    READER_WAIT_S,
    RESTART_WAIT_S,
    RETRY_INTERVAL_S,
    SIZE_CHECK_INTERVAL_S,
    Checkpointer,
)

pytestmark = pytest.mark.asyncio


class Reader:
    """Another program that reads; with ``ends`` it stops when a checkpoint waits for it."""

    ends = False

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def begin(self) -> None:
        """Read the latest commit, and keep the transaction open."""
        self.end()
        self.connection.execute("BEGIN")
        self.connection.execute("SELECT * FROM go_goscope_cache").fetchall()

    def end(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")


class Wal:
    """The WAL of an open adapter without automatic checkpoints, and a clock."""

    def __init__(self, adapter: SQLiteAdapter, path: Path, reader: Reader) -> None:
        self.checkpointer = Checkpointer(str(path))
        self.seconds = 100.0
        self._adapter = adapter
        self._path = path.with_name(f"{path.name}-wal")
        self._reader = reader

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self._reader.ends:
            self._reader.end()

    async def write(self, text: str, key: str = "key") -> None:
        await self._adapter.cache.set(key, text)

    async def grows(self) -> bool:
        """Whether the next commit extends the WAL instead of restarting it."""
        before = self._path.stat().st_size
        await self.write(f"{before}", "short")
        return self._path.stat().st_size > before

    async def checkpoint(self) -> float:
        """Checkpoint under the write lock. Return for how many seconds it waited for readers."""
        started = self.seconds
        await self._adapter._database._writer._thread.run(self.checkpointer.run)
        return self.seconds - started

    def is_due(self, after: float = SIZE_CHECK_INTERVAL_S) -> bool:
        """Whether a checkpoint is due so many seconds from now."""
        self.seconds += after * 1.01
        return self.checkpointer.is_due()

    def size(self) -> float:
        """The size as a multiple of the limit."""
        return self._path.stat().st_size / WAL_LIMIT_BYTES


@pytest.fixture
def reader(adapter: SQLiteAdapter, path: Path) -> Iterator[Reader]:
    reader = Reader(path)
    yield reader
    reader.connection.close()


@pytest.fixture
def wal(
    adapter: SQLiteAdapter, path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Wal]:
    wal = Wal(adapter, path, reader)
    monkeypatch.setattr("goscope_sqlite._engine.wal.perf_counter", lambda: wal.seconds)
    monkeypatch.setattr("goscope_sqlite._engine.wal.sleep", wal.sleep)
    monkeypatch.setattr(adapter._database._writer, "_checkpointer", None)
    yield wal
    wal.checkpointer.close()


async def test_a_wal_without_readers_restarts_at_once(wal: Wal) -> None:
    for text in "123":
        await wal.write(text * WAL_LIMIT_BYTES)
        assert wal.is_due()
        assert await wal.checkpoint() == 0
        assert not await wal.grows()
        assert not wal.is_due()


async def test_a_restarted_wal_that_is_long_already_is_checkpointed_without_waiting(
    wal: Wal,
) -> None:
    await wal.write("1" * 3 * WAL_LIMIT_BYTES)
    await wal.checkpoint()
    await wal.write("2" * WAL_LIMIT_BYTES, "other")
    assert wal.size() < 3
    assert wal.is_due()
    assert await wal.checkpoint() == 0


async def test_the_size_of_the_wal_is_checked_at_an_interval(wal: Wal) -> None:
    assert not wal.is_due()
    await wal.write("1" * WAL_LIMIT_BYTES)
    assert not wal.is_due(SIZE_CHECK_INTERVAL_S / 2)
    assert wal.is_due(SIZE_CHECK_INTERVAL_S)


async def test_a_checkpoint_waits_for_a_reader_that_prevents_its_completion(
    wal: Wal, reader: Reader
) -> None:
    reader.ends = True
    await wal.write("1")
    reader.begin()
    await wal.write("2")
    assert await wal.checkpoint() == pytest.approx(POLL_INTERVAL_S)
    assert not await wal.grows()


async def test_a_checkpoint_after_a_prevented_restart_waits_for_readers(
    wal: Wal, reader: Reader
) -> None:
    """A reader of the whole WAL allows a complete checkpoint but prevents the restart."""
    reader.ends = True
    await wal.write("1" * WAL_LIMIT_BYTES)
    reader.begin()
    assert wal.is_due()
    assert await wal.checkpoint() == 0, "the WAL seldom has a reader, and the wait would be useless"
    assert await wal.grows()
    reader.begin()
    assert wal.is_due()
    assert await wal.checkpoint() == pytest.approx(RESTART_WAIT_S)
    assert not await wal.grows()
    assert not wal.is_due()


async def test_a_wal_without_new_frames_is_not_checkpointed_again_and_again(
    adapter: SQLiteAdapter, wal: Wal
) -> None:
    await wal.write("1" * WAL_LIMIT_BYTES)
    checkpoints = 0
    for _ in range(10):
        await adapter.cache.touch("absent", 1000)
        if wal.is_due():
            checkpoints += 1
            await wal.checkpoint()
    assert checkpoints == 2


@pytest.mark.parametrize("length", [1, 2 * WAL_LIMIT_BYTES])
async def test_a_checkpoint_gives_up_on_a_long_read(wal: Wal, reader: Reader, length: int) -> None:
    """Nobody can write while it waits."""
    await wal.write("1")
    reader.begin()
    await wal.write("2" * length)
    assert READER_WAIT_S - POLL_INTERVAL_S < await wal.checkpoint() <= READER_WAIT_S
    assert await wal.grows()


async def test_a_checkpoint_never_waits_twice_for_the_same_reader(wal: Wal, reader: Reader) -> None:
    await wal.write("1")
    reader.begin()
    await wal.write("2")
    assert await wal.checkpoint() > READER_WAIT_S / 2
    assert await wal.checkpoint() == 0
    reader.begin()
    await wal.write("3")
    assert await wal.checkpoint() > READER_WAIT_S / 2


async def test_a_prevented_checkpoint_is_retried_after_growth_or_an_interval(
    wal: Wal, reader: Reader
) -> None:
    reader.begin()
    await wal.write("1" * WAL_LIMIT_BYTES)
    assert wal.is_due()
    for text in "234":
        await wal.checkpoint()
        assert not wal.is_due()
        await wal.write(text * WAL_LIMIT_BYTES)
        assert wal.is_due()
    await wal.checkpoint()
    assert not wal.is_due(RETRY_INTERVAL_S * 0.9)
    assert wal.is_due(RETRY_INTERVAL_S * 0.1)
    reader.end()
    await wal.checkpoint()
    assert not await wal.grows()
    assert not wal.is_due()
    await wal.write("5" * WAL_LIMIT_BYTES)
    assert wal.is_due()


async def test_no_lock_is_held_while_the_event_loop_does_something_else(
    adapter: SQLiteAdapter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that blocks the loop during a checkpoint would block every other process as long."""
    checkpointer = adapter._database._checkpointer
    assert checkpointer is not None
    run = checkpointer.run
    free: list[bool] = []

    def run_and_look(writer: sqlite3.Connection) -> None:
        run(writer)
        # In the thread: the loop may be blocked by now, and has not looked at the outcome.
        other = sqlite3.connect(path, isolation_level=None, timeout=0)
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        other.close()
        free.append(not writer.in_transaction)

    monkeypatch.setattr(checkpointer, "run", run_and_look)
    for number in range(4):
        await adapter.cache.set("key", f"{number}" * WAL_LIMIT_BYTES)
        await adapter._database._writer.finish()
    assert free
    assert all(free)


# --- the first step, without the write lock ------------------------------------------------------


class Disk:
    """A disk that takes its time to sync the file."""

    def __init__(self) -> None:
        self.is_syncing = asyncio.Event()
        self._may_end = threading.Event()
        self._loop = asyncio.get_running_loop()

    def sync(self, path: str) -> None:
        self._loop.call_soon_threadsafe(self.is_syncing.set)
        assert self._may_end.wait(60)
        sync_file(path)

    def finish(self) -> None:
        self._may_end.set()


@pytest_asyncio.fixture
async def disk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(engine_wal, "sync_file", disk.sync)
    yield disk
    disk.finish()


async def test_everybody_writes_while_frames_are_copied(
    adapter: SQLiteAdapter, path: Path, disk: Disk
) -> None:
    await adapter.cache.set("key", "1" * WAL_LIMIT_BYTES)
    await disk.is_syncing.wait()
    await adapter.cache.set("key", "2")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        other.execute("UPDATE go_goscope_cache SET value = '3'")
    assert await adapter.cache.get("key") == 3
    wal_path = path.with_name(f"{path.name}-wal")
    before = wal_path.stat().st_size
    disk.finish()
    await adapter._database._writer.finish()
    await adapter.cache.set("key", "4")
    assert wal_path.stat().st_size < before, "the WAL was not restarted"


async def test_no_commit_restarts_the_wal_while_frames_are_copied(
    wal: Wal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to SQLite 3.51.2 that can lose data."""
    sizes: list[int] = []

    def write(_: str) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
            other.execute("UPDATE go_goscope_cache SET value = '2'")
        sizes.append(path.with_name(f"{path.name}-wal").stat().st_size)

    await wal.write("1" * WAL_LIMIT_BYTES)
    monkeypatch.setattr(engine_wal, "sync_file", write)
    before = wal.size() * WAL_LIMIT_BYTES
    assert await wal.checkpointer.copy()
    assert sizes[0] > before, "the whole WAL was copied, and the commit restarted it"


async def test_frames_that_are_written_meanwhile_are_copied_too(
    wal: Wal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []

    def write(_: str) -> None:
        copied.append(wal.checkpointer._backfilled_frames)
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
            if len(copied) == 1:
                other.execute("UPDATE go_goscope_cache SET value = ?", ("2" * WAL_LIMIT_BYTES,))

    await wal.write("1" * WAL_LIMIT_BYTES)
    monkeypatch.setattr(engine_wal, "sync_file", write)
    assert await wal.checkpointer.copy()
    assert len(copied) == 3
    assert copied[0] + WAL_LIMIT_BYTES // 4096 < copied[1] == copied[2]


async def write_much(adapter: SQLiteAdapter) -> None:
    for number in range(5 * MAX_SIZE):
        await adapter.cache.set("key", f"{number % 10}" * WAL_LIMIT_BYTES)
        await asyncio.sleep(SIZE_CHECK_INTERVAL_S)


async def test_writes_wait_for_a_checkpoint_that_falls_behind(
    adapter: SQLiteAdapter, path: Path, disk: Disk
) -> None:
    await adapter.cache.set("key", "1" * WAL_LIMIT_BYTES)
    await disk.is_syncing.wait()
    wal_path = path.with_name(f"{path.name}-wal")
    writing = asyncio.ensure_future(write_much(adapter))
    async with asyncio.timeout(60):
        while wal_path.stat().st_size <= MAX_SIZE * WAL_LIMIT_BYTES:  # noqa: ASYNC110  # a file
            await asyncio.sleep(0.01)
    assert await asyncio.wait([writing], timeout=1) == (set(), {writing})
    writing.cancel()
    assert await adapter.cache.has("key"), "reads do not wait"
    disk.finish()
    await adapter.cache.set("key", "1")
    await adapter.cache.set("key", "2")
    assert wal_path.stat().st_size < 2 * WAL_LIMIT_BYTES


async def test_a_wal_that_another_process_checkpoints_is_left_to_it(
    wal: Wal, path: Path, reader: Reader
) -> None:
    await wal.write("1")
    reader.begin()
    await wal.write("2" * WAL_LIMIT_BYTES)
    assert wal.is_due()
    with (
        closing(sqlite3.connect(path, timeout=60, check_same_thread=False)) as other,
        closing(sqlite3.connect(path)) as observer,
    ):

        def restart() -> None:
            """Wait for the reader, in the middle of a checkpoint."""
            while other.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()[0][0]:
                pass  # the observer's came first

        thread = threading.Thread(target=restart)
        thread.start()
        passive = "PRAGMA wal_checkpoint(PASSIVE)"
        while not observer.execute(passive).fetchall()[0][0]:  # noqa: ASYNC110  # in SQLite
            await asyncio.sleep(0.001)
        assert not await wal.checkpointer.copy()
        assert not wal.is_due()
        reader.end()
        thread.join()
    assert wal.is_due(RETRY_INTERVAL_S)
    assert await wal.checkpointer.copy()


async def test_a_copy_that_cannot_be_synced_is_reported_and_repeated(
    wal: Wal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    await wal.write("1" * WAL_LIMIT_BYTES)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "goscope_sqlite"):
        patch.setattr(os, "fsync", fail)
        assert not await wal.checkpointer.copy()
    assert "WAL checkpoint failed, will be retried" in caplog.text
    assert not wal.is_due(RETRY_INTERVAL_S * 0.9)
    assert wal.is_due(RETRY_INTERVAL_S * 0.1)
    assert await wal.checkpointer.copy()


async def test_only_the_file_itself_is_synced(
    adapter: SQLiteAdapter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []

    def sync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_dev, found.st_ino))

    monkeypatch.setattr(os, "fsync", sync)
    sync_file(str(path))
    assert synced == [file_identity(str(path))]
    sync_file(__file__)
    assert len(synced) == 1, "a file that the process has not open"
