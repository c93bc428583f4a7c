"""The backend "sqlite" keeps the contract, as it is configured by default."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from goscope.providers import Capability, PersistenceAdapter
from goscope.testing import FakeClock
from goscope.testing.conformance import (
    BackendConformance,
    EventsConformance,
    InspectionConformance,
    WaitConformance,
)
from goscope_sqlite import SQLiteAdapter


class TestSQLite(BackendConformance, WaitConformance, EventsConformance, InspectionConformance):
    capabilities = frozenset({Capability.PERSISTENT})

    @cached_property
    def clock(self) -> FakeClock:
        return FakeClock()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        path = tmp_path / "app.db"
        async with SQLiteAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter

    async def advance(self, adapter: PersistenceAdapter, duration: timedelta | str) -> None:
        await self.clock.advance(duration)
