"""Waiting for a shared lock where reads and writes use one connection of the event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from goscope import SupportsWait
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter

pytestmark = pytest.mark.asyncio


async def test_a_release_by_the_same_adapter_is_noticed_at_once(tmp_path: Path) -> None:
    """By a notification: no time passes, and its own commits do not change the data version."""
    async with BunSQLiteAdapter(tmp_path / "app.db", locks="shared", clock=FakeClock()) as adapter:
        handle = await adapter.lock.acquire("key", "1h")
        assert handle is not None
        assert isinstance(adapter.lock, SupportsWait)
        waiting = asyncio.create_task(adapter.lock.wait_released("key"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        await handle.release()
        async with asyncio.timeout(60):
            assert await waiting


async def test_the_release_of_another_connection_is_noticed_within_50_ms(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "app.db"
    async with (
        BunSQLiteAdapter(path, locks="shared", clock=clock) as adapter,
        BunSQLiteAdapter(path, locks="shared", clock=clock) as other,
    ):
        handle = await other.lock.acquire("key", "1h")
        assert handle is not None
        assert isinstance(adapter.lock, SupportsWait)
        waiting = asyncio.create_task(adapter.lock.wait_released("key"))
        await clock.advance("5s")
        assert not waiting.done()
        await handle.release()
        await clock.advance("50ms")
        assert waiting.done()
