"""The backend "redis" meets the contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from goscope.providers import Capability, PersistenceAdapter
from goscope.testing.conformance import (
    BackendConformance,
    EventsConformance,
    InspectionConformance,
    WaitConformance,
)
from goscope_redis import RedisAdapter

from ..servers.redis.stores import advance, open_store, remove_store


@pytest.mark.long
class TestRedis(BackendConformance, WaitConformance, EventsConformance, InspectionConformance):
    capabilities = frozenset(
        {
            Capability.PERSISTENT,
            Capability.SHARED_LOCKS,
            Capability.DISTRIBUTED,
            Capability.NOTIFICATIONS,
        }
    )
    processes = True
    opened: set[Path]

    @pytest_asyncio.fixture(autouse=True)
    async def _remove_stores(self, redis_url: str, tmp_path: Path) -> AsyncGenerator[None]:
        self.opened = {tmp_path}  # programs open it too
        yield
        for folder in self.opened:
            await remove_store(folder)

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[RedisAdapter]:
        vars(self).setdefault("opened", set()).add(tmp_path)  # a program has no fixtures
        async with open_store(tmp_path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter

    async def advance(self, adapter: PersistenceAdapter, duration: timedelta | str) -> None:
        clock = self._fake_clock()
        if clock is None:
            await super().advance(adapter, duration)
        else:
            assert isinstance(adapter, RedisAdapter)
            await advance(adapter, clock, duration)
