"""The backend "sqlite" meets the contract: in a file, with shared locks, and in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from goscope.providers import Capability
from goscope.testing.conformance import (
    BackendConformance,
    BackendLockConformance,
    CheckpointConformance,
    CircuitBreakerConformance,
    EventLoopConformance,
    EventsConformance,
    InspectionConformance,
    PrivateBackendLockConformance,
    WaitConformance,
)
from goscope_sqlite import SQLiteAdapter

from .sqlite_transactions import SQLiteTransactions


class TestSQLite(
    BackendConformance,
    WaitConformance,
    EventsConformance,
    InspectionConformance,
    SQLiteTransactions,
):
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


@pytest.mark.long
class TestSQLiteWritingInThread(
    BackendLockConformance, CheckpointConformance, CircuitBreakerConformance, EventLoopConformance
):
    """Differs from TestSQLiteWithSharedLocks only in where its writes run."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        adapter = SQLiteAdapter(
            tmp_path / "app.db",
            key_prefix=key_prefix,
            locks="shared",
            writes="thread",
            clock=self.clock,
        )
        async with adapter:
            yield adapter


@pytest.mark.long
class TestSQLiteWritingInLoop(
    CheckpointConformance, CircuitBreakerConformance, EventLoopConformance
):
    """Differs from TestSQLite only for writes that are slow."""

    capabilities = frozenset({Capability.PERSISTENT})

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        path = tmp_path / "app.db"
        adapter = SQLiteAdapter(path, key_prefix=key_prefix, writes="loop", clock=self.clock)
        async with adapter:
            yield adapter


class TestSQLiteInMemory(
    PrivateBackendLockConformance,
    EventLoopConformance,
    EventsConformance,
    WaitConformance,
    InspectionConformance,
    SQLiteTransactions,
):
    """Executes the SQL of TestSQLite on one connection: EventLoopConformance calls every method."""

    capabilities = frozenset()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        async with SQLiteAdapter(":memory:", key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter
