"""A lock in memory while other processes have the file open is not silent, unless asked for."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from goscope import MemoryLockWarning, Scope
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .workers import workers

pytestmark = pytest.mark.asyncio

ADAPTERS = pytest.mark.parametrize("adapter", [SQLiteAdapter, BunSQLiteAdapter])


@contextmanager
def recorded() -> Generator[list[warnings.WarningMessage]]:
    """The warnings of the block, whatever filters are set."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


async def use_locks(adapter: Any, times: int = 3) -> None:
    async with Scope(persistence=adapter) as gs:
        for number in range(times):
            async with gs.lock(f"key:{number}"):
                pass


@ADAPTERS
async def test_one_warning_names_the_processes_and_both_remedies(
    tmp_path: Path, adapter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with workers(tmp_path, 2) as others:
        with recorded() as found, caplog.at_level(logging.WARNING, "goscope"):
            await use_locks(adapter(tmp_path / "app.db"))
    assert [it.category for it in found] == [MemoryLockWarning]
    sentence = str(found[0].message)
    for needed in (
        "app.db",
        "locks='shared'",
        "locks='memory'",
        *(f"pid {it.pid} on" for it in others),
    ):
        assert needed in sentence
    assert [(it.name, it.getMessage()) for it in caplog.records] == [("goscope", sentence)]


@ADAPTERS
@pytest.mark.parametrize("locks", ["memory", "shared"])
async def test_locks_that_were_chosen_are_silent(tmp_path: Path, adapter: Any, locks: str) -> None:
    async with workers(tmp_path, 1):
        with recorded() as found:
            await use_locks(adapter(tmp_path / "app.db", locks=locks))
    assert found == []


@ADAPTERS
async def test_processes_that_have_closed_the_file_or_died_are_not_named(
    tmp_path: Path, adapter: Any
) -> None:
    async with workers(tmp_path, 2) as [closed, killed]:
        await closed.close()
        await killed.kill()
        with recorded() as found:
            await use_locks(adapter(tmp_path / "app.db"))
    assert found == []


async def test_another_adapter_of_this_process_is_not_named(tmp_path: Path) -> None:
    async with SQLiteAdapter(tmp_path / "app.db"):
        with recorded() as found:
            await use_locks(SQLiteAdapter(tmp_path / "app.db"))
    assert found == []


async def test_a_process_that_comes_later_is_noticed_within_seconds(tmp_path: Path) -> None:
    clock = FakeClock()
    async with Scope(persistence=SQLiteAdapter(tmp_path / "app.db", clock=clock)) as gs:
        with recorded() as found:
            async with gs.lock("key"):
                pass
            async with workers(tmp_path, 1) as [other]:
                async with gs.lock("key"):
                    pass
                assert found == [], "it reads the file at each lock"
                await clock.advance("5s")
                for _ in range(2):
                    async with gs.lock("key"):
                        pass
    assert [str(other.pid) in str(it.message) for it in found] == [True]


async def test_a_store_that_cannot_tell_does_not_prevent_a_lock(tmp_path: Path) -> None:
    adapter = SQLiteAdapter(tmp_path / "app.db")
    async with Scope(persistence=adapter) as gs:
        await adapter._database.submit(
            lambda connection: connection.execute("DROP TABLE go_goscope_processes").fetchall()
        )
        with recorded() as found:
            async with gs.lock("key"):
                pass
    assert found == []


async def test_a_warning_as_an_error_takes_no_lock(tmp_path: Path) -> None:
    async with (
        workers(tmp_path, 1),
        Scope(persistence=SQLiteAdapter(tmp_path / "app.db")) as gs,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", MemoryLockWarning)
            with pytest.raises(MemoryLockWarning):
                await gs.lock("key").acquire()
        assert await gs.lock("key").try_acquire() is not None
