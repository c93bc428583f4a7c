"""The backend "sqlite" keeps the contract with its locks in the file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from goscope.providers import Capability
from goscope.testing.conformance import (
    BackendConformance,
    EventsConformance,
    InspectionConformance,
    WaitConformance,
)
from goscope_sqlite import SQLiteAdapter


class TestSQLiteSharedLocks(
    BackendConformance, WaitConformance, EventsConformance, InspectionConformance
):
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
