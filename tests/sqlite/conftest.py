"""Fixtures and helpers of the tests of the SQLite backend."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter

Query: TypeAlias = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def adapter(path: Path, clock: FakeClock) -> AsyncIterator[SQLiteAdapter]:
    """An open adapter on ``path`` whose clock stands still."""
    async with SQLiteAdapter(path, locks="shared", busy_timeout="60s", clock=clock) as adapter:
        yield adapter


@pytest.fixture
def query(path: Path) -> Query:
    """Run one statement as another program would, on a separate connection."""

    def run(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    return run


@pytest_asyncio.fixture
async def threaded(path: Path, clock: FakeClock) -> AsyncIterator[SQLiteAdapter]:
    """As ``adapter``, with every write in the thread."""
    async with SQLiteAdapter(
        path, locks="shared", writes="thread", busy_timeout="60s", clock=clock
    ) as adapter:
        yield adapter


@pytest.fixture
def no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch run to its end, even if the machine is slow."""
    for limit in ("MAX_LOOP_BATCH_S", "MAX_THREAD_BATCH_S"):
        monkeypatch.setattr(f"goscope_sqlite._engine.writer.{limit}", 60)


class Now:
    """A clock in seconds that only moves when it is set."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    """The clock that measures reads and ticks."""
    now = Now()
    for place in (
        "goscope_sqlite._engine.place",
        "goscope_sqlite._engine.reader",
        "goscope_sqlite._engine.shared_read",
        "goscope._tools.loop_budget",
    ):
        monkeypatch.setattr(f"{place}.perf_counter", now)
    return now
