"""Backends with one bug each in the writes of their cache.

The docstring of a test class names the bug.
"""


# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from goscope.backend import Fence, StoredEntry
from goscope.backend.records import (
    RecordCacheProvider,
)

from .correct import Broken, broken

Change = Callable[[StoredEntry | None], StoredEntry | None]


class LostUpdateCache(RecordCacheProvider):
    async def _update(self, key: str, change: Change, fence: Fence | None) -> None:
        entry = change(await self._get_entry(key))
        await asyncio.sleep(0)
        await super()._update(key, lambda _: entry, fence)


class TestLostUpdate(Broken):
    """An entry is read, changed and written in separate steps."""

    provider = "cache"
    adapter = broken("cache", LostUpdateCache)


class NonAtomicAddCache(RecordCacheProvider):
    async def _add(self, key: str, entry: StoredEntry, now: int, fence: Fence | None) -> bool:
        if await self._get(key, now) is not None:
            return False
        await self._set({key: entry}, fence)
        return True


class TestNonAtomicAdd(Broken):
    """add() reads, then writes, in separate steps."""

    provider = "cache"
    adapter = broken("cache", NonAtomicAddCache)


class SecondsCache(RecordCacheProvider):
    async def _set(self, entries: Mapping[str, StoredEntry], fence: Fence | None) -> None:
        await super()._set({key: _in_seconds(entry) for key, entry in entries.items()}, fence)


def _in_seconds(entry: StoredEntry) -> StoredEntry:
    expires_at = entry.expires_at
    return entry if expires_at is None else entry._replace(expires_at=expires_at // 1000 * 1000)


class TestCacheTtlFloor(Broken):
    """Expiry is stored in whole seconds."""

    provider = "cache"
    adapter = broken("cache", SecondsCache)


class PartialBatchCache(RecordCacheProvider):
    async def _set(self, entries: Mapping[str, StoredEntry], fence: Fence | None) -> None:
        for key, entry in entries.items():
            await super()._set({key: entry}, fence)


class TestPartialBatch(Broken):
    """set_many() writes each entry separately, and may be applied in part."""

    provider = "cache"
    adapter = broken("cache", PartialBatchCache)


class BlockingCache(RecordCacheProvider):
    async def _count(self, namespace: str, now: int) -> int:
        time.sleep(0.15)  # noqa: ASYNC251  # the bug
        return await super()._count(namespace, now)


class TestBlockingCall(Broken):
    """stats() blocks the event loop."""

    provider = "cache"
    adapter = broken("cache", BlockingCache)


class RecodingCache(RecordCacheProvider):
    async def set(self, key: str, value: Any, ttl: Any = None, **options: Any) -> None:
        await super().set(key, _recoded(value), ttl, **options)


def _recoded(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if type(value) is msgspec.Raw else value
    except (msgspec.DecodeError, UnicodeDecodeError):
        return value


class TestRawReencoded(Broken):
    """set() decodes and encodes a ``msgspec.Raw``."""

    provider = "cache"
    adapter = broken("cache", RecodingCache)
