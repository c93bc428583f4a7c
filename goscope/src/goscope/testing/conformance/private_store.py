"""The contract of a store that ends with its one adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ...errors import ConfigurationError, LeaseLost
from ...providers import Capability
from ._base import Conformance, cache_of, locks_of
from .lock import granted


class PrivateStoreConformance(Conformance, abstract=True):
    """What can be shown where `SharedStoreConformance` cannot."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.processes:
            raise TypeError(
                f"{cls.__name__} says `processes = True`, but a store that ends with its adapter "
                f"has no second process: remove the line, or inherit BackendConformance"
            )

    async def test_private_another_adapter_has_another_store(self, tmp_path: Path) -> None:
        """Two adapters share nothing; where they do, `SharedStoreConformance` is the contract."""
        async with self.open_adapter(tmp_path) as one, self.open_adapter(tmp_path) as two:
            await granted(locks_of(one), "key")
            assert await locks_of(two).holder("key") is None, "inherit SharedStoreConformance"
            await cache_of(one).set("key", 1)
            assert not await cache_of(two).has("key"), "inherit SharedStoreConformance instead"

    async def test_private_locks_that_no_other_adapter_sees_are_not_shared(
        self, tmp_path: Path
    ) -> None:
        """SHARED_LOCKS cannot be promised by a store that only one adapter can open."""
        async with self.open_adapter(tmp_path) as adapter:
            assert Capability.SHARED_LOCKS not in adapter.capabilities

    async def test_private_everything_is_gone_after_disconnecting(self, tmp_path: Path) -> None:
        """An adapter that is connected again starts with an empty store."""
        async with self.open_adapter(tmp_path) as adapter:
            await cache_of(adapter).set("key", 1)
            old = await granted(locks_of(adapter), "key")
            await adapter.disconnect()
            await adapter.connect()
            assert await cache_of(adapter).keys() == []
            await granted(locks_of(adapter), "key")
            with pytest.raises((ConfigurationError, LeaseLost)):
                await cache_of(adapter).set("key", 1, fence=old)
