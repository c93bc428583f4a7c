"""``attach``: opening a store without changing it, as ``goscope status`` does."""

from __future__ import annotations

import asyncio
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from goscope.errors import BackendUnavailable, SchemaMismatch
from goscope.maintenance import (
    SupportsAttach,
    SupportsBackup,
    SupportsRevoke,
    SupportsStorage,
    SupportsSweep,
)
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

pytestmark = pytest.mark.asyncio


def contents(path: Path) -> dict[str, bytes]:
    """All files of the store's folder."""
    return {it.name: it.read_bytes() for it in path.parent.iterdir()}


def size(path: Path) -> int:
    return path.stat().st_size


ADAPTERS = [SQLiteAdapter, BunSQLiteAdapter]


@pytest.mark.parametrize("open_adapter", ADAPTERS)
async def test_attaching_changes_no_byte(
    path: Path, open_adapter: Callable[[Path], SQLiteAdapter]
) -> None:
    async with open_adapter(path) as adapter:
        await adapter.cache.set("key", 1, "1ms")
    before = contents(path)
    adapter = open_adapter(path)
    abilities: tuple[type, ...] = (SupportsAttach, SupportsBackup, SupportsStorage, SupportsSweep)
    assert all(isinstance(adapter, ability) for ability in abilities)
    assert isinstance(adapter.lease, SupportsRevoke)
    await adapter.attach()
    assert [it.key async for it in adapter.inspection.entries()] == ["key"]
    assert [it async for it in adapter.inspection.processes()] == []
    await adapter.disconnect()
    assert contents(path) == before


async def test_an_attached_adapter_can_write_and_sweep(path: Path, query: Query) -> None:
    clock = FakeClock()
    async with SQLiteAdapter(path, clock=clock) as first:
        await first.cache.set("old", 1, "1s")
    await clock.advance("2s")
    adapter = SQLiteAdapter(path, clock=clock)
    await adapter.attach()
    await adapter.cache.set("new", 1)
    assert query("SELECT key FROM go_goscope_cache ORDER BY key") == [
        ("cache:new",),
        ("cache:old",),
    ]
    await adapter.sweep()
    assert query("SELECT key FROM go_goscope_cache") == [("cache:new",)]
    assert (await adapter.storage()).size_bytes == size(path)
    await adapter.disconnect()


async def test_an_adapter_can_be_connected_after_it_was_attached(path: Path) -> None:
    async with SQLiteAdapter(path):
        pass
    adapter = SQLiteAdapter(path)
    for _ in range(2):
        await adapter.attach()
        assert [it async for it in adapter.inspection.processes()] == []
        await adapter.disconnect()
        await adapter.connect()
        assert len([it async for it in adapter.inspection.processes()]) == 1
        await adapter.disconnect()


async def test_an_attached_process_makes_nobody_warn(path: Path) -> None:
    async with SQLiteAdapter(path) as adapter:
        attached = SQLiteAdapter(path)
        await attached.attach()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            handle = await adapter.lock.acquire("key")
            assert handle is not None
            await asyncio.sleep(0)
        assert len([it async for it in adapter.inspection.processes()]) == 1
        await attached.disconnect()


async def test_attaching_creates_no_file(path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="there is no such file"):
        await SQLiteAdapter(path).attach()
    assert contents(path) == {}


async def test_attaching_migrates_nothing(path: Path) -> None:
    async with SQLiteAdapter(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX idx_cache_expires")
        connection.commit()
    before = contents(path)
    adapter = SQLiteAdapter(path)
    with pytest.raises(SchemaMismatch, match="lacks idx_cache_expires"):
        await adapter.attach()
    assert not adapter.is_connected
    assert contents(path) == before
    async with adapter:
        pass
    await adapter.attach()
    await adapter.disconnect()
