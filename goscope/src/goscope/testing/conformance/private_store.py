"""The contract of a store that ends with its one adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ...errors import ConfigurationError, LeaseLost
from ...providers import Capability
from ._base import Conformance, cache_of, locks_of
from ._locks import granted


class PrivateStoreConformance(Conformance, abstract=True):
    """A store that only one adapter can open; the others inherit `SharedStoreConformance`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.processes:
            raise TypeError(
                f"{cls.__name__} declares `processes = True`, but no process can share a store "
                f"that ends with its adapter: remove the line, or inherit BackendConformance"
            )

    async def test_private_another_adapter_has_another_store(self, tmp_path: Path) -> None:
        """Two adapters share nothing, and their handles name different stores."""
        async with self.open_adapter(tmp_path) as one, self.open_adapter(tmp_path) as two:
            lease = await granted(locks_of(one), "key")
            assert await locks_of(two).holder("key") is None, "inherit SharedStoreConformance"
            await cache_of(one).set("key", 1)
            assert not await cache_of(two).has("key"), "inherit SharedStoreConformance instead"
            other = await granted(locks_of(two), "key")
            assert other.store_id != lease.store_id, "two stores have the same store_id"

    async def test_private_locks_are_not_declared_as_shared(self, tmp_path: Path) -> None:
        """A store that only one adapter can open has no SHARED_LOCKS."""
        async with self.open_adapter(tmp_path) as adapter:
            assert Capability.SHARED_LOCKS not in adapter.capabilities

    async def test_private_disconnecting_removes_everything(self, tmp_path: Path) -> None:
        """A reconnected adapter starts with an empty store."""
        async with self.open_adapter(tmp_path) as adapter:
            await cache_of(adapter).set("key", 1)
            old = await granted(locks_of(adapter), "key")
            await adapter.disconnect()
            await adapter.connect()
            assert await cache_of(adapter).keys() == []
            await granted(locks_of(adapter), "key")
            with pytest.raises((ConfigurationError, LeaseLost)):
                await cache_of(adapter).set("key", 1, fence=old)
