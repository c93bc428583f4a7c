"""Test classes that claim what is not so. `test_conformance_kit` runs them and wants failures."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from goscope.memory import MemoryAdapter
from goscope.providers import Capability
from goscope.testing.conformance import (
    AdapterConformance,
    BackendConformance,
    CacheConformance,
    Conformance,
    InspectionConformance,
    PrivateBackendConformance,
)


class WithMemory(Conformance, abstract=True):
    capabilities = frozenset()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MemoryAdapter]:
        adapter = MemoryAdapter(key_prefix=key_prefix)
        self.spoil(adapter)
        async with adapter:
            yield adapter

    def spoil(self, adapter: Any) -> None:
        """Make the adapter another one than the class says."""


class TestAbilityMissing(WithMemory, PrivateBackendConformance):
    def spoil(self, adapter: Any) -> None:
        adapter.checkpoint = None


class TestAbilityNotClaimed(WithMemory, AdapterConformance):
    """Inherits none of the providers' contracts, though the adapter has them all."""


class TestAbilityIncomplete(WithMemory, PrivateBackendConformance):
    def spoil(self, adapter: Any) -> None:
        adapter.cache.touch = adapter.cache.context.clock.wall_ms


class TestOptionMissing(WithMemory, PrivateBackendConformance, InspectionConformance):
    """An adapter in memory cannot list its leases."""


class TestNoLease(WithMemory, PrivateBackendConformance):
    def spoil(self, adapter: Any) -> None:
        adapter.lease = None


class TestNotPersistent(WithMemory, PrivateBackendConformance):
    capabilities = frozenset({Capability.PERSISTENT})


class TestUndeclaredCapability(WithMemory, PrivateBackendConformance):
    def spoil(self, adapter: Any) -> None:
        adapter.capabilities = frozenset({Capability.DISTRIBUTED})


class TestNotShared(WithMemory, BackendConformance):
    """Each adapter has a store of its own."""


class TestProcessesForgotten(WithMemory, BackendConformance):
    """What only processes can show is promised, and no process is started."""

    capabilities = frozenset({Capability.PERSISTENT})


class TestNotPrivate(WithMemory, PrivateBackendConformance):
    """All adapters have one store."""

    stores: ClassVar[dict[Path, MemoryAdapter]] = {}

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MemoryAdapter]:
        adapter = self.stores.setdefault(tmp_path, MemoryAdapter())
        async with adapter:
            yield adapter


class TestWrongMessage(WithMemory, CacheConformance):
    def spoil(self, adapter: Any) -> None:
        async def has(key: str) -> bool:
            return False

        adapter.cache.has = has
