"""The backend "sqlite" keeps the contract, as it is configured by default."""

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
