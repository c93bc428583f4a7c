"""The backend "sqlite-bun" meets the contract: in a file, with memory locks and with shared ones.

In memory it differs from "sqlite", which test_sqlite.py tests there, as it does in a file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from goscope.providers import Capability
from goscope.testing.conformance import (
    BackendConformance,
    BackendLockConformance,
    EventsConformance,
    InspectionConformance,
    WaitConformance,
)
from goscope_bun_compat import BunSQLiteAdapter

from .sqlite_transactions import SQLiteTransactions


class TestSQLiteBun(
    BackendConformance,
    WaitConformance,
    EventsConformance,
    InspectionConformance,
    SQLiteTransactions,
):
    capabilities = frozenset({Capability.PERSISTENT})
    processes = True
    prefixed_tasks = False

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[BunSQLiteAdapter]:
        path = tmp_path / "app.db"
        async with BunSQLiteAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter


@pytest.mark.long
class TestSQLiteBunWithSharedLocks(BackendLockConformance, WaitConformance, InspectionConformance):
    """Differs from TestSQLiteBun only in its locks, which are in the file."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True
    prefixed_tasks = False

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[BunSQLiteAdapter]:
        path = tmp_path / "app.db"
        adapter = BunSQLiteAdapter(path, key_prefix=key_prefix, locks="shared", clock=self.clock)
        async with adapter:
            yield adapter
