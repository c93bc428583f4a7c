"""The backend "sqlite" keeps the contract with its store in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from goscope.testing.conformance import (
    EventsConformance,
    InspectionConformance,
    PrivateBackendConformance,
    WaitConformance,
)
from goscope_sqlite import SQLiteAdapter


class TestSQLiteMemoryFile(
    PrivateBackendConformance, WaitConformance, EventsConformance, InspectionConformance
):
    capabilities = frozenset()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        async with SQLiteAdapter(":memory:", key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter
