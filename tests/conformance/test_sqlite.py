"""The backend "sqlite" meets the contract: in a file, with shared locks, and in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from goscope.providers import Capability
from goscope.testing.conformance import (
    BackendConformance,
    BackendLockConformance,
    EventLoopConformance,
    EventsConformance,
    InspectionConformance,
    PrivateBackendLockConformance,
    WaitConformance,
)
from goscope_sqlite import SQLiteAdapter


class TestSQLite(BackendConformance, WaitConformance, EventsConformance, InspectionConformance):
    capabilities = frozenset({Capability.PERSISTENT})
    processes = True

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        path = tmp_path / "app.db"
        async with SQLiteAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter


class TestSQLiteWithSharedLocks(BackendLockConformance, WaitConformance, InspectionConformance):
    """Differs from TestSQLite only in its locks, which are in the file."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        path = tmp_path / "app.db"
        adapter = SQLiteAdapter(path, key_prefix=key_prefix, locks="shared", clock=self.clock)
        async with adapter:
            yield adapter


class TestSQLiteInMemory(
    PrivateBackendLockConformance,
    EventLoopConformance,
    EventsConformance,
    WaitConformance,
    InspectionConformance,
):
    """Executes the SQL of TestSQLite on one connection: EventLoopConformance calls every method."""

    capabilities = frozenset()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        async with SQLiteAdapter(":memory:", key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter
