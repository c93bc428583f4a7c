"""When the write-ahead log is moved into the file, and for whom that waits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.connection import WAL_LIMIT_BYTES
from goscope_sqlite._engine.shared_read import MAX_HOLD_S
from goscope_sqlite._engine.wal import (
    MAX_BACKOFF_FACTOR,
    READER_WAIT_S,
    RETRY_INTERVAL_S,
    SIZE_CHECK_INTERVAL_S,
    Checkpointer,
)

pytestmark = pytest.mark.asyncio


class Reader:
    """Another program that reads; with ``ends`` it stops when somebody waits for it."""

    ends = False

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def begin(self) -> None:
        """Read the file as it is now."""
        self.end()
        self.connection.execute("BEGIN")
        self.connection.execute("SELECT * FROM go_goscope_cache").fetchall()

    def end(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")


class Log:
    """The log of an open adapter that does not move it by itself, and a clock that is set."""

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
        """Whether the next commit makes it longer instead of beginning it anew."""
        before = self._path.stat().st_size
        await self.write(f"{before}", "short")
        return self._path.stat().st_size > before

    async def move(self) -> float:
        """Move it under the write lock; how many seconds that waited for readers."""
        began = self.seconds
        await self._adapter._database.submit(lambda _: self.checkpointer.checkpoint())
        return self.seconds - began

    def is_due(self, after: float = SIZE_CHECK_INTERVAL_S) -> bool:
        """Whether it is to be moved so many seconds from now."""
        self.seconds += after * 1.01
        return self.checkpointer.is_due()

    def times(self) -> float:
        """How long it is, in times of its limit."""
        return self._path.stat().st_size / WAL_LIMIT_BYTES


@pytest.fixture
def reader(adapter: SQLiteAdapter, path: Path) -> Iterator[Reader]:
    reader = Reader(path)
    yield reader
    reader.connection.close()


@pytest.fixture
def log(
    adapter: SQLiteAdapter, path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Log]:
    log = Log(adapter, path, reader)
    monkeypatch.setattr("goscope_sqlite._engine.wal.monotonic", lambda: log.seconds)
    monkeypatch.setattr("goscope_sqlite._engine.wal.sleep", log.sleep)
    monkeypatch.setattr(adapter._database, "_checkpointer", None)
    yield log
    log.checkpointer.close()


async def test_a_log_that_nobody_reads_begins_anew_at_once(log: Log) -> None:
    for text in "123":
        await log.write(text * WAL_LIMIT_BYTES)
        assert log.is_due()
        assert await log.move() == 0
        assert not await log.grows()
        assert not log.is_due()


async def test_a_log_that_began_anew_and_is_long_already_is_moved_without_waiting(log: Log) -> None:
    await log.write("1" * 3 * WAL_LIMIT_BYTES)
    await log.move()
    await log.write("2" * WAL_LIMIT_BYTES, "other")
    assert log.times() < 3
    assert log.is_due()
    assert await log.move() == 0


async def test_the_log_is_looked_at_no_more_often_than_is_worth_it(log: Log) -> None:
    assert not log.is_due()
    await log.write("1" * WAL_LIMIT_BYTES)
    assert not log.is_due(SIZE_CHECK_INTERVAL_S / 2)
    assert log.is_due(SIZE_CHECK_INTERVAL_S)


async def test_a_checkpoint_waits_for_who_keeps_it_from_the_end_of_the_log(
    log: Log, reader: Reader
) -> None:
    reader.ends = True
    await log.write("1")
    reader.begin()
    await log.write("2")
    assert await log.move() == pytest.approx(MAX_HOLD_S)
    assert not await log.grows()


async def test_a_log_that_did_not_begin_anew_is_moved_again_and_its_readers_waited_for(
    log: Log, reader: Reader
) -> None:
    """Who reads all of it keeps nothing from being moved, but the log from its beginning."""
    reader.ends = True
    await log.write("1" * WAL_LIMIT_BYTES)
    reader.begin()
    assert log.is_due()
    assert await log.move() == 0, "mostly nobody reads, and waiting would be for nothing"
    assert await log.grows()
    reader.begin()
    assert log.is_due()
    assert await log.move() == pytest.approx(MAX_HOLD_S * log.times())
    assert not await log.grows()
    assert not log.is_due()


async def test_a_log_that_nothing_is_written_to_is_not_moved_all_the_time(
    adapter: SQLiteAdapter, log: Log
) -> None:
    await log.write("1" * WAL_LIMIT_BYTES)
    moves = 0
    for _ in range(10):
        await adapter.cache.touch("absent", 1000)
        if log.is_due():
            moves += 1
            await log.move()
    assert moves == 2


@pytest.mark.parametrize("length", [1, 2 * WAL_LIMIT_BYTES, 11 * WAL_LIMIT_BYTES])
async def test_a_checkpoint_gives_up_on_who_reads_for_long(
    log: Log, reader: Reader, length: int
) -> None:
    """It waits for twice as long when the log is twice as long as it should be, within reason."""
    await log.write("1")
    reader.begin()
    await log.write("2" * length)
    patience = READER_WAIT_S * min(max(log.times(), 1), MAX_BACKOFF_FACTOR)
    assert patience <= await log.move() <= patience + MAX_HOLD_S
    assert await log.grows()


async def test_a_checkpoint_never_waits_twice_for_the_same_reader(log: Log, reader: Reader) -> None:
    await log.write("1")
    reader.begin()
    await log.write("2")
    assert await log.move() > READER_WAIT_S / 2
    assert await log.move() == 0
    reader.begin()
    await log.write("3")
    assert await log.move() > READER_WAIT_S / 2


async def test_a_log_that_cannot_be_moved_is_tried_again_when_it_has_grown_or_later(
    log: Log, reader: Reader
) -> None:
    reader.begin()
    await log.write("1" * WAL_LIMIT_BYTES)
    assert log.is_due()
    for text in "234":
        await log.move()
        assert not log.is_due()
        await log.write(text * WAL_LIMIT_BYTES)
        assert log.is_due()
    await log.move()
    assert not log.is_due(RETRY_INTERVAL_S * 0.9)
    assert log.is_due(RETRY_INTERVAL_S * 0.1)
    reader.end()
    await log.move()
    assert not await log.grows()
    assert not log.is_due()
    await log.write("5" * WAL_LIMIT_BYTES)
    assert log.is_due()
