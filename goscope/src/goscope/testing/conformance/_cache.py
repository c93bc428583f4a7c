"""What the tests of the cache share."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from ...providers import CacheProvider
from ._base import Conformance, cache_of


class CacheTests(Conformance, abstract=True):
    """Tests that need nothing of the adapter but its cache."""

    @asynccontextmanager
    async def open_cache(self, tmp_path: Path) -> AsyncGenerator[CacheProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield cache_of(adapter)


async def expiry(cache: CacheProvider, key: str) -> int | None:
    """When a live entry expires."""
    entry = await cache.get_entry(key)
    assert entry is not None, f"{key!r} is stored, but get_entry() is None"
    return entry.expires_at
