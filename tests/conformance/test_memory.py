"""The backend "memory" meets the contract, with either kind of lock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from goscope.memory import MemoryAdapter
from goscope.testing.conformance import (
    EventsConformance,
    InspectionConformance,
    PrivateBackendConformance,
    PrivateBackendLockConformance,
    WaitConformance,
)


class TestMemory(
    PrivateBackendConformance, WaitConformance, InspectionConformance, EventsConformance
):
    capabilities = frozenset()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MemoryAdapter]:
        async with MemoryAdapter(key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter


class TestMemoryWithSharedLocks(
    PrivateBackendLockConformance, WaitConformance, InspectionConformance
):
    """Differs from TestMemory only in its locks, whose handles have fencing tokens."""

    capabilities = frozenset()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MemoryAdapter]:
        adapter = MemoryAdapter(key_prefix=key_prefix, locks="shared", clock=self.clock)
        async with adapter:
            yield adapter
