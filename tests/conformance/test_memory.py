"""The backend "memory" keeps the contract, with locks of either kind."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from goscope.memory import MemoryAdapter
from goscope.testing.conformance import (
    EventsConformance,
    PrivateBackendConformance,
    WaitConformance,
)


class TestMemory(PrivateBackendConformance, WaitConformance, EventsConformance):
    capabilities = frozenset()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MemoryAdapter]:
        async with MemoryAdapter(key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter


class TestMemoryWithFencingLocks(TestMemory):
    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MemoryAdapter]:
        adapter = MemoryAdapter(key_prefix=key_prefix, locks="shared", clock=self.clock)
        async with adapter:
            yield adapter
