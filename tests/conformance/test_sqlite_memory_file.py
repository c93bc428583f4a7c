"""The backend "sqlite" keeps the contract with its store in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from goscope.providers import PersistenceAdapter
from goscope.testing import FakeClock
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

    @cached_property
    def clock(self) -> FakeClock:
        return FakeClock()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[SQLiteAdapter]:
        async with SQLiteAdapter(":memory:", key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter

    async def advance(self, adapter: PersistenceAdapter, duration: timedelta | str) -> None:
        await self.clock.advance(duration)
