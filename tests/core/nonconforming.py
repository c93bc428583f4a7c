"""Conformance test classes that do not match their adapter; test_conformance_kit.py runs them."""

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
        self.break_adapter(adapter)
        async with adapter:
            yield adapter

    def break_adapter(self, adapter: Any) -> None:
        """Change the adapter so that the class no longer matches it."""


class TestAbilityMissing(WithMemory, PrivateBackendConformance):
    def break_adapter(self, adapter: Any) -> None:
        adapter.checkpoint = None


class TestAbilityNotClaimed(WithMemory, AdapterConformance):
    """Inherits no provider's contract, although the adapter has every provider."""


class TestAbilityIncomplete(WithMemory, PrivateBackendConformance):
    def break_adapter(self, adapter: Any) -> None:
        adapter.cache.touch = adapter.cache.context.clock.wall_ms


class TestOptionMissing(WithMemory, PrivateBackendConformance, InspectionConformance):
    def break_adapter(self, adapter: Any) -> None:
        del adapter.inspection


class TestNoLease(WithMemory, PrivateBackendConformance):
    def break_adapter(self, adapter: Any) -> None:
        adapter.lease = None


class TestNotPersistent(WithMemory, PrivateBackendConformance):
    capabilities = frozenset({Capability.PERSISTENT})


class TestUndeclaredCapability(WithMemory, PrivateBackendConformance):
    def break_adapter(self, adapter: Any) -> None:
        adapter.capabilities = frozenset({Capability.DISTRIBUTED})


class TestNotShared(WithMemory, BackendConformance):
    """Each adapter has its own store."""


class TestProcessesForgotten(WithMemory, BackendConformance):
    """Declares a capability that only processes can verify, and starts none."""

    capabilities = frozenset({Capability.PERSISTENT})


class TestNotPrivate(WithMemory, PrivateBackendConformance):
    """All adapters share one store."""

    stores: ClassVar[dict[Path, MemoryAdapter]] = {}

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[MemoryAdapter]:
        adapter = self.stores.setdefault(tmp_path, MemoryAdapter())
        async with adapter:
            yield adapter


class TestWrongMessage(WithMemory, CacheConformance):
    def break_adapter(self, adapter: Any) -> None:
        async def has(key: str) -> bool:
            return False

        adapter.cache.has = has
